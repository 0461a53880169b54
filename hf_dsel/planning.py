# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a call would compute, how much memory its largest array takes, and how long it would run: before it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from datasets import Dataset, List

from hf_dsel.budget import Budget, rows_asked
from hf_dsel.columns import read_column
from hf_dsel.endpoint import Forecast
from hf_dsel.learning_forecast import Learning, embedding_seconds, learning_of
from hf_dsel.ops.facility_location import facility_location
from hf_dsel.ops.greedy_cover import free_bytes
from hf_dsel.ops.uncovered_pairs import estimate
from hf_dsel.ops.unit_rows import unit_rows
from hf_dsel.progress import count, say
from hf_dsel.reporting import brief
from hf_dsel.rows import detect, text_columns
from hf_dsel.scoring import check_scorers, joined_scorers, written
from hf_dsel.selection import is_terms
from hf_dsel.strategies import Strategy, make_strategy
from hf_dsel.strategies.pibe import Pibe
from hf_dsel.strategies.qdit import Qdit

ENOUGH_SECONDS = 2.0  # a sample that takes this long is large enough
MOST_SAMPLED = 512
TRIAL_ROWS = 4000  # the strategy is tried on so many rows


@dataclass(frozen=True)
class Work:
    """One pass over the rows: the scorer, the columns it writes, and the time it would take (None: not timed).

    `sends` is what a scorer that asks a server would send. Such a scorer is not timed, for a plan costs no money.
    `learns` is what a scorer such as a gate would learn first. Of such a one only the embedding is timed.
    """

    scorer: str
    columns: tuple[str, ...]
    rows: int
    seconds: float | None = None
    sampled: int = 0
    sends: Forecast | None = None
    learns: Learning | None = None


@dataclass(frozen=True)
class Array:
    """An array that will be held in memory."""

    name: str
    shape: tuple[int, ...]
    bytes: int

    def __str__(self) -> str:
        """Its shape and size."""
        return f"{self.name}: {' x '.join(f'{n:,}' for n in self.shape)}, {size(self.bytes)}"


@dataclass(frozen=True)
class Plan:
    """What would be done. `str()` gives it to a reader."""

    rows: int
    format: str
    text: tuple[str, ...]
    work: tuple[Work, ...]
    used: tuple[str, ...]
    strategy: str | None
    picks: int | None
    picking_seconds: float | None
    largest: Array | None

    @property
    def seconds(self) -> float | None:
        """All of it that was timed, without loading the models; None when nothing was."""
        known = [s for s in (*(w.seconds for w in self.work), self.picking_seconds) if s is not None]
        return sum(known) if known else None

    def __str__(self) -> str:
        """One line each."""
        lines = [("rows", f"{self.rows:,}, read as {self.format} ({', '.join(self.text)})")]
        for work in self.work:
            part = " of embedding" if work.learns else ""
            timed = f": {duration(work.seconds or 0)}{part}, timed on {count(work.sampled, 'row')}"
            took = "" if work.seconds is None else timed
            lines.append(("compute", f"{', '.join(work.columns) or 'columns'} of {work.rows:,} rows{took}"))
            lines.append(("", work.scorer))
            if work.sends is not None:
                lines.append(("send", f"{work.sends}; stored answers are not asked again"))
            if work.learns is not None:
                lines.append(("learn", str(work.learns)))
        if not self.work:
            lines.append(("compute", "nothing; every column is there"))
        if self.used:
            lines.append(("use as it is", ", ".join(self.used)))
        if self.strategy is not None:
            picks = "all that pass" if self.picks is None else count(self.picks, "row")
            took = "" if self.picking_seconds is None else f": {duration(self.picking_seconds)}, extrapolated"
            lines.append(("pick", f"{picks} with {self.strategy}{took}"))
        lines.append(("largest array", "none" if self.largest is None else str(self.largest)))
        if self.seconds is not None:
            lines.append(
                ("time", f"{duration(self.seconds)} on this machine, without loading models{self._not_timed()}")
            )
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)

    def _not_timed(self) -> str:
        """What is missing in the time."""
        parts = [w.columns[0] if w.seconds is None else f"learning {w.columns[0]}" for w in self.work if w.learns]
        return f" and without {', '.join(parts)}" if parts else ""


def plan(
    dataset: Dataset,
    strategy: str | Strategy | None = None,
    *,
    scorers: Sequence[Any] = (),
    k: int | None = None,
    fraction: float | None = None,
    max_tokens: int | None = None,
    timed: bool = True,
    seed: int = 0,
    **params: Any,
) -> Plan:
    """What scoring and selecting would compute. Nothing is written.

    A scorer that asks a server is not timed: what it would send is counted instead, and nothing is sent. Of one that
    learns from the pool first, such as a gate, the embedding is timed, and nothing is learned.

    Timing loads the models and scores a random sample, doubled until it takes two seconds or is 512 rows; the strategy
    is tried on at most 4,000 rows (columns that are not there yet are replaced by clustered random vectors and random
    numbers) and extrapolated by the growth between half and all of them. So the times are rough.

    Args:
        dataset: the pool.
        strategy: as `select_by` takes it, or None when only scores are wanted.
        scorers: what is computed besides the defaults of the columns that the strategy misses.
        k, fraction, max_tokens: the budget.
        timed: False gives the plan without any time, and loads nothing.
        seed: of the sample.
        **params: the strategy's options.

    Raises:
        ValueError, TypeError: what `select_by` would raise for these options.

    >>> pool = Dataset.from_dict({"text": ["a", "b", "c"], "quality": [1.0, 3.0, 2.0]})
    >>> print(plan(pool, "top_k", k=2, timed=False))
    rows           3, read as text (text)
    compute        nothing; every column is there
    use as it is   quality
    pick           2 rows with TopK()
    largest array  quality: 3, 24 B
    """
    rule = None if strategy is None else make_strategy(strategy, params)
    needs = {} if rule is None else rule.needs()
    budget: dict[str, Any] = {"k": k, "fraction": fraction, "max_tokens": max_tokens}
    picks = None
    if rule is not None:
        picks = rows_asked(**budget, pool=len(dataset), open_ended=bool(getattr(rule, "open_ended", False)))
    there = {*dataset.column_names, *(n for s in scorers for n in written(s))}
    todo = joined_scorers([*scorers, *(s for n, s in needs.items() if n not in there and s is not None)])
    check_scorers(todo, dataset)
    sampled: dict[str, npt.NDArray[Any]] = {}
    work = []
    for scorer in todo:
        columns = tuple(n for n in written(scorer) if not n.endswith("_status"))
        sends = _sent(scorer, dataset) if hasattr(scorer, "forecast") else None
        learns = learning_of(scorer, len(dataset))
        seconds: float | None = None
        rows = 0
        if timed and learns is not None:
            seconds, rows = embedding_seconds(scorer, dataset, seed)
        elif timed and sends is None:
            seconds, rows = _timed(scorer, dataset, seed, sampled)
        work.append(Work(brief(scorer), columns, len(dataset), seconds, rows, sends, learns))
    used = tuple(n for n in needs if n in dataset.column_names)
    arrays = [_array(n, dataset, todo) for n in (needs or there - set(dataset.column_names))]
    picking = None
    if timed and rule is not None:
        picking, pairs = _tried(rule, dataset, picks, sampled, seed)
        arrays.append(pairs)
    return Plan(
        rows=len(dataset),
        format=detect(dataset.column_names),
        text=tuple(text_columns(dataset.column_names)),
        work=tuple(work),
        used=used,
        strategy=None if rule is None else brief(rule),
        picks=picks,
        picking_seconds=picking,
        largest=max((a for a in arrays if a is not None), key=lambda a: a.bytes, default=None),
    )


def _sent(scorer: Any, dataset: Dataset) -> Forecast:
    """What a scorer that asks a server would send."""
    text = dataset.select_columns(text_columns(dataset.column_names)).with_format(None)
    parts = [scorer.forecast(batch) for batch in text.iter(batch_size=10_000)]
    return sum(parts[1:], parts[0]) if parts else Forecast(0, 0, 0, None)


def _timed(scorer: Any, dataset: Dataset, seed: int, sampled: dict[str, npt.NDArray[Any]]) -> tuple[float, int]:
    """Seconds for the whole dataset, and the rows it was measured on. The values go to `sampled`."""
    text = dataset.select_columns(text_columns(dataset.column_names)).with_format(None)
    order = np.random.default_rng(seed).permutation(len(dataset))[:MOST_SAMPLED]
    say(f"timing {brief(scorer)} on a few rows")
    scorer(text.select(order[:1])[:])  # loads the model
    n = min(16, len(order))
    while True:
        batch = text.select(order[:n])[:]
        start = time.perf_counter()
        columns = scorer(batch)
        seconds = time.perf_counter() - start
        if seconds >= ENOUGH_SECONDS or n == len(order):
            break
        n = min(2 * n, len(order))
    kinds = dict(scorer.features()) if hasattr(scorer, "features") else {}
    for name, values in columns.items():
        known = [v for v in values if v is not None]
        if known and is_terms(kinds.get(name)):
            sampled[name] = np.fromiter(known, object, len(known))
        elif known and not isinstance(known[0], str) and not _of_any_length(kinds.get(name)):
            sampled[name] = np.asarray(known, np.float32)
    return seconds * len(dataset) / n, n


def _array(name: str, dataset: Dataset, scorers: Sequence[Any]) -> Array | None:
    """The column as the strategy will hold it: float32 vectors, float64 numbers."""
    features = dict(dataset.features)
    for scorer in scorers:
        features |= dict(scorer.features()) if hasattr(scorer, "features") else {}
    feature = features.get(name)
    if _of_any_length(feature) and name not in dataset.column_names:  # one value a turn: its size is not known yet
        return None
    if is_terms(feature):
        total = pc.sum(pc.list_value_length(dataset.data.column(name))).as_py() or 0
        return Array(f"{name} (uint64)", (total,), total * 8)
    width = feature.length if isinstance(feature, List) else 0
    if width < 0:  # a list of any length: the first row tells
        width = read_column(dataset.select_columns([name]).select([0]), name).values.shape[1]
    if width:
        return Array(f"{name} (float32)", (len(dataset), width), len(dataset) * width * 4)
    if feature is None or name.endswith("_status") or getattr(feature, "dtype", "") == "string":
        return None
    return Array(name, (len(dataset),), len(dataset) * 8)


def _of_any_length(feature: Any) -> bool:
    """Whether a column holds lists whose length changes from row to row."""
    return isinstance(feature, List) and feature.length < 0


def _tried(
    rule: Strategy, dataset: Dataset, picks: int | None, sampled: dict[str, npt.NDArray[Any]], seed: int
) -> tuple[float, Array | None]:
    """Seconds that the strategy would take on all rows, from two trials, and what it would store of pairs of rows."""
    most = min(TRIAL_ROWS, len(dataset))
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(dataset))[:most]
    columns = {n: _stand_in(n, dataset, rows, sampled, rng) for n in rule.needs()}

    def seconds(n: int) -> float:
        share = None if picks is None else max(1, round(picks * n / len(dataset)))
        start = time.perf_counter()
        rule.pick({k: v[:n] for k, v in columns.items()}, Budget(pool=n, rows=share), np.random.default_rng(seed))
        return time.perf_counter() - start

    pairs = None
    if isinstance(rule, Qdit) and rule.alpha < 1:
        pairs = _pairs(columns[rule.embedding], len(dataset))
    elif isinstance(rule, Pibe) and rule.neighbours is None and (rule.preference == "median" or rule.preference < 0):
        pairs = Array("responsibilities (float32)", (len(dataset), len(dataset)), 4 * len(dataset) ** 2)
    half, whole = seconds(max(1, most // 2)), seconds(most)
    if most == len(dataset):
        return whole, pairs
    growth = min(max(math.log2(whole / half), 1.0), 2.0) if half > 0.01 else 1.0
    return whole * (len(dataset) / most) ** growth, pairs


def _pairs(vectors: npt.NDArray[Any], n: int) -> Array:
    """The pairs whose cosine is above the cover of the first picks: what an exact greedy keeps, 8 bytes each."""
    first = [row for row, _ in islice(facility_location(vectors), 4)]
    unit = unit_rows(vectors)
    cover = (unit @ unit[first].T).amax(dim=1)
    above = round(estimate(unit, cover) * (n / len(unit)) ** 2)
    room = free_bytes(unit.device) // 2
    name = "pairs of similar rows (number and cosine)"
    if above * 8 <= room:
        return Array(name, (above,), above * 8)
    return Array(f"{name}, not all at once for lack of memory", (room // 8,), room)


def _stand_in(
    name: str,
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    sampled: dict[str, npt.NDArray[Any]],
    rng: np.random.Generator,
) -> npt.NDArray[Any]:
    """The column on the trial rows; where it is not there yet, something of its kind."""
    if name in dataset.column_names:
        column = read_column(dataset.select_columns([name]).select(rows), name)
        return column.values
    known = sampled.get(name)
    if known is not None and known.ndim == 2:
        centres = known[rng.integers(len(known), size=len(rows))]
        noise = rng.standard_normal(centres.shape, np.float32) * centres.std()
        return np.asarray(centres + noise, np.float32)
    return rng.standard_normal(len(rows)) if known is None else known[rng.integers(len(known), size=len(rows))]


def size(n: float) -> str:
    """Bytes as a person reads them.

    >>> size(24), size(79_875_072)
    ('24 B', '76 MiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    step = min(int(math.log(n, 1024)), len(units) - 1) if n >= 1 else 0
    amount = n / 1024**step
    return f"{amount:.1f} {units[step]}" if step and amount < 10 else f"{amount:.0f} {units[step]}"


def duration(seconds: float) -> str:
    """A time as a person reads it.

    >>> duration(0.2), duration(75), duration(7260)
    ('under a second', 'about 1 min 15 s', 'about 2 h 1 min')
    """
    if seconds < 1:
        return "under a second"
    if seconds < 60:
        return f"about {seconds:.0f} s"
    if seconds < 3600:
        return f"about {seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"about {seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a selection changed: its numbers beside those of random subsets of the same size and of the whole pool."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.card_markdown import visible
from hf_dsel.columns import Column, read_column
from hf_dsel.metrics.coverage import coverage
from hf_dsel.metrics.nearest_neighbour_distance import nearest_neighbour_distance
from hf_dsel.rows import UnknownFormat, detect, read, text_columns
from hf_dsel.selection import Selection, is_vector

TEXTS = 200_000  # rows of the pool whose text is read
PAIRS = 200_000_000  # cosines computed for one number
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One number for the subset, for random subsets (mean and standard deviation over the draws), and for the pool.

    None where the number is not defined. `decimals` is how many digits are printed.
    """

    name: str
    subset: float | None
    random: float | None
    spread: float | None
    pool: float | None
    decimals: int = 3


@dataclass(frozen=True)
class Comparison:
    """The lines of the table, and what a reader has to know about them. `str()` gives the table."""

    lines: tuple[Line, ...]
    draws: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Line:
        """The line of that name.

        Raises:
            KeyError: no such line; the text lists them.
        """
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no line {name!r}; there are {[line.name for line in self.lines]}")

    def __str__(self) -> str:
        """An aligned table in plain text."""
        random = "random" if self.draws == 1 else f"random (mean of {self.draws})"
        head = ("", "subset", random, "whole pool")
        body = [(n.name, _shown(n.subset, n), _shown(n.random, n, n.spread), _shown(n.pool, n)) for n in self.lines]
        widths = [max(len(row[i]) for row in (head, *body)) for i in range(4)]
        table = ["  ".join([r[0].ljust(widths[0]), *(r[i].rjust(widths[i]) for i in (1, 2, 3))]) for r in (head, *body)]
        return "\n".join([table[0], "-" * len(table[0]), *table[1:], *(f"  {note}" for note in self.notes)])


def first_picks(pool: Dataset, selection: Selection, n: int = 5, *, width: int = 60) -> str:
    """The first picks as a table: row, gain, the strategy's reasons, the columns that it read, the start of the prompt.

    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"prompt": ["a", "b"], "completion": ["one", "two"], "quality": [1.0, 3.0]})
    >>> print(first_picks(pool, hf_dsel.select(pool, "top_k", k=1)))
    rank  row   gain  quality  text
       0    1  3.000    3.000  b
    """
    rows = selection.indices[:n]
    scores = [name for name in _scores(pool, selection) if name not in selection.why]
    columns: list[tuple[str, list[str]]] = [("rank", [str(i) for i in range(len(rows))])]
    columns += [("row", [f"{i:,}" for i in rows])]
    for name, values in {"gain": selection.gains, **selection.why}.items():
        columns.append((name, ["-" if v != v else f"{v:,.3f}" for v in values[:n]]))
    for name in scores:
        values = read_column(pool.select_columns([name]).select(rows), name).values
        columns.append((name, [f"{v:,.3f}" for v in values]))
    widths = [max(len(c) for c in (name, *cells)) for name, cells in columns]
    lines = ["  ".join(name.rjust(w) for (name, _), w in zip(columns, widths, strict=True)) + "  text"]
    for i, text in enumerate(starts_of_prompts(pool, rows, width)):
        lines.append("  ".join(cells[i].rjust(w) for (_, cells), w in zip(columns, widths, strict=True)) + f"  {text}")
    return "\n".join(lines)


def starts_of_prompts(pool: Dataset, rows: IntArray, width: int = 60) -> list[str]:
    """How the prompts of some rows begin, on one line each; nothing in them acts on a terminal."""
    try:
        turns = [r.turns[0] if r.turns else None for r in read(_texts(pool).select(rows)[:])]
    except UnknownFormat:
        return [""] * len(rows)
    texts = [" ".join(visible(t.instruction or t.response or "").split()) if t else "" for t in turns]
    return [t if len(t) <= width else t[: width - 1] + "…" for t in texts]


def _texts(pool: Dataset) -> Dataset:
    return pool.select_columns(text_columns(pool.column_names)).with_format(None)


def _shown(value: float | None, line: Line, spread: float | None = None) -> str:
    if value is None:
        return "-"
    if spread is None:
        return f"{value:,.{line.decimals}f}"
    decimals = max(line.decimals, 1)  # a mean of counts is no count
    return f"{value:,.{decimals}f} ± {spread:,.{decimals}f}"


def compare(
    pool: Dataset,
    selection: Selection | IntArray,
    *,
    columns: Sequence[str] = (),
    embedding: str = "embedding",
    seed: int = 0,
    random_draws: int | Sequence[IntArray] = 5,
) -> Comparison:
    """Numbers of a subset beside random subsets of the same size and the whole pool.

    The lines: rows; the mean of each score column; response words; the share of repeated instructions (rows whose
    prompt an earlier row of the same set has, word for word); and, when there are embeddings, `coverage` and
    `nearest_neighbour_distance`.

    Args:
        pool: what was selected from, with its score columns.
        selection: the record, or the rows.
        columns: score columns to average; those that the strategy read when left out. Nulls are left out and counted.
        embedding: the column of vectors; without it the two distances are left out.
        seed: of the random subsets and of the samples that stand for large pools.
        random_draws: how many random subsets, or the rows of each.

    Raises:
        ValueError: an empty selection, or a column that holds no numbers.
        MissingColumn: a column in `columns` that the pool lacks.

    >>> pool = Dataset.from_dict({"prompt": ["a", "b"], "completion": ["one", "one two"], "quality": [1.0, 3.0]})
    >>> print(compare(pool, np.array([1]), columns=["quality"], random_draws=[np.array([0])]))
                           subset  random  whole pool
    -------------------------------------------------
    rows                        1       1           2
    quality, mean           3.000   1.000       2.000
    response words, mean      2.0     1.0         1.5
    repeated instructions       0       0           0
    """
    chosen = selection.indices if isinstance(selection, Selection) else np.asarray(selection, np.int64)
    if len(chosen) == 0:
        raise ValueError("the selection is empty; there is nothing to compare")
    rng = np.random.default_rng(seed)
    if isinstance(random_draws, int):
        draws = [rng.choice(len(pool), len(chosen), replace=False) for _ in range(random_draws)]
    else:
        draws = [np.asarray(d, np.int64) for d in random_draws]
    sets = _Sets(chosen, draws, len(pool))
    notes: list[str] = []
    lines = [Line("rows", len(chosen), float(np.mean([len(d) for d in draws])) if draws else None, None, len(pool), 0)]
    for name in columns or _scores(pool, selection):
        lines.append(_mean(sets, read_column(pool, name), notes))
    there = {line.name for line in lines}
    lines += [
        line for line in _text(sets, pool, rng, notes) if line.name.replace("response ", "response_") not in there
    ]
    if embedding in pool.column_names:
        lines += _distances(sets, read_column(pool, embedding), rng, notes)
    return Comparison(tuple(lines), len(draws), tuple(notes))


@dataclass(frozen=True)
class _Sets:
    chosen: IntArray
    draws: list[IntArray]
    pool: int

    def line(self, name: str, number: Any, pool: float | None, decimals: int = 3) -> Line:
        """`number(rows)` for the subset and each draw."""
        subset, drawn = number(self.chosen), [number(d) for d in self.draws]
        known = [d for d in drawn if d is not None]
        spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
        return Line(name, subset, float(np.mean(known)) if known else None, spread, pool, decimals)


def _scores(pool: Dataset, selection: Selection | IntArray) -> list[str]:
    names = selection.columns if isinstance(selection, Selection) else ()
    return [n for n in names if n in pool.column_names and not is_vector(pool.features[n]) and _numeric(pool, n)]


def _numeric(pool: Dataset, name: str) -> bool:
    dtype = str(getattr(pool.features[name], "dtype", ""))
    return dtype.startswith(("int", "uint", "float"))


def _mean(sets: _Sets, column: Column, notes: list[str]) -> Line:
    if column.values.ndim != 1 or column.values.dtype == object:
        raise ValueError(f"column {column.name!r} holds no numbers; compare averages numbers")

    def mean(rows: IntArray) -> float | None:
        kept = rows[column.valid[rows]]
        return float(column.values[kept].mean()) if len(kept) else None

    known = int(column.valid.sum())
    if known < sets.pool:
        notes.append(f"{column.name}: the mean of the rows that have one, {known:,} of {sets.pool:,} in the pool")
    pool = mean(np.arange(sets.pool)) if known * 2 > sets.pool else None
    return sets.line(f"{column.name}, mean", mean, pool)


def _text(sets: _Sets, pool: Dataset, rng: np.random.Generator, notes: list[str]) -> list[Line]:
    try:
        detect(pool.column_names)
    except UnknownFormat:
        notes.append("the text is in no known format, so nothing is said about it")
        return []
    sample = np.arange(sets.pool)
    if sets.pool > TEXTS:
        sample = np.sort(rng.choice(sets.pool, TEXTS, replace=False))
        notes.append(f"words and repeats of the whole pool: of {TEXTS:,} rows drawn from it")
    wanted = np.unique(np.concatenate([sample, sets.chosen, *sets.draws]))
    words, prompts = _read_text(pool, wanted)

    def mean_words(rows: IntArray) -> float | None:
        known = words[np.searchsorted(wanted, rows)]
        return float(np.nanmean(known)) if not np.isnan(known).all() else None

    def repeats(rows: IntArray) -> float:
        return len(rows) - len(np.unique(prompts[np.searchsorted(wanted, rows)]))

    found = [sets.line("response words, mean", mean_words, mean_words(sample), 1)]
    return [*found, sets.line("repeated instructions", repeats, repeats(sample), 0)]


def _read_text(pool: Dataset, wanted: IntArray) -> tuple[npt.NDArray[np.float64], IntArray]:
    """For each row the words of its responses (NaN without one), and a number that equal prompts share."""
    rows = _texts(pool).select(wanted)
    words, numbers, known = np.full(len(wanted), np.nan), np.empty(len(wanted), np.int64), dict[str, int]()
    at = 0
    for batch in rows.iter(batch_size=1000):
        for row in read(batch):
            responses = [t.response for t in row.turns if t.response is not None]
            if responses:
                words[at] = sum(len(r.split()) for r in responses)
            last = row.turns[-1] if row.turns else None
            prompt = f"unreadable {at}" if last is None else last.plain_prompt or last.response or ""
            numbers[at] = known.setdefault(prompt, len(known))
            at += 1
    return words, numbers


def _distances(sets: _Sets, column: Column, rng: np.random.Generator, notes: list[str]) -> list[Line]:
    usable = np.flatnonzero(column.valid)
    vectors = column.values

    def sampled(n: int, against: int) -> IntArray | None:
        """Enough of n rows, or None for all."""
        enough = max(1000, PAIRS // max(against, 1))
        return np.sort(rng.choice(n, enough, replace=False)) if enough < n else None

    points = sampled(len(usable), len(sets.chosen))
    if points is not None:
        notes.append(f"coverage: of {len(points):,} rows drawn from the pool")

    def covered(rows: IntArray) -> float | None:
        kept = rows[column.valid[rows]]
        return coverage(vectors, kept, seen_from=usable if points is None else usable[points]) if len(kept) else None

    def apart(rows: IntArray) -> float | None:
        kept = rows[column.valid[rows]]
        if len(kept) < 2:
            return None
        return nearest_neighbour_distance(vectors, kept, seen_from=sampled(len(kept), len(kept)))

    of_all = sampled(len(usable), len(usable))
    if of_all is not None:
        notes.append(f"distance in the whole pool: of {len(of_all):,} rows drawn from it")
    whole = nearest_neighbour_distance(vectors, usable, seen_from=of_all) if len(usable) > 1 else None
    return [
        sets.line("coverage of the pool", covered, 1.0 if len(usable) else None),
        sets.line("distance to nearest neighbour", apart, whole),
    ]


def brief(made: Any) -> str:
    """A scorer or strategy as code, with the options that are not the default.

    >>> from hf_dsel.scorers import Length
    >>> brief(Length(of="response", unit="words"))
    "Length(of='response', unit='words')"
    """
    if not dataclasses.is_dataclass(made) or isinstance(made, type):
        return repr(made)
    shown = []
    for field in dataclasses.fields(made):
        value = getattr(made, field.name, dataclasses.MISSING)
        if field.repr and field.init and value != field.default:
            shown.append(f"{field.name}={value!r}")
    return f"{type(made).__name__}({', '.join(shown)})"


def show(text: object) -> None:
    """Write a result to standard output, at once."""
    print(text, flush=True)  # noqa: T201

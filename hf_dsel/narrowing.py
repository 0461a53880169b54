# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rules that leave rows out before a strategy sees the pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from hf_dsel.columns import MissingColumn, read_column
from hf_dsel.copies import check_similarity, find_copies
from hf_dsel.few_digits import in_few_digits
from hf_dsel.flipped_pairs import Pairs
from hf_dsel.gate_rows import TooLittle
from hf_dsel.junk_share import cut_for
from hf_dsel.progress import say
from hf_dsel.rows import detect, text_columns
from hf_dsel.scorer_marks import described, made_by, scorers_of
from hf_dsel.scorers.flipped_labels import COLUMN as FLIPPED
from hf_dsel.scorers.flipped_labels import FEWEST as FEWEST_PAIRS
from hf_dsel.scorers.flipped_labels import FlippedLabels
from hf_dsel.scorers.gate import Gate
from hf_dsel.scoring import check_scorers, score
from hf_dsel.shortage import BELOW

# the rows still considered → which of them stay (bool), and how many go, by what they have
Rule = Callable[[Dataset], tuple[npt.NDArray[np.bool_], dict[str, int]]]
Read = tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64], dict[str, int]]
OPTIONS = ("similarity", "embedding", "quality")
MOST_JUNK = 0.02
MOST_FLIPPED = 0.5


def narrowed(dataset: Dataset, read: Read, rules: Sequence[Rule]) -> tuple[Read, list[int]]:
    """What was read of the rows that are left by all rules, one after the other, and how many rows each rule took.

    Args:
        dataset: all rows.
        read: columns of the usable rows, the usable rows' numbers, and why the others are out.
        rules: each sees what the ones before it left.
    """
    arrays, usable, left_out = read
    taken = []
    for rule in rules:
        before = len(usable)
        if before:
            stays, why = rule(dataset if before == len(dataset) else dataset.select(usable))
            if not stays.all():
                arrays = {name: values[stays] for name, values in arrays.items()}
                usable, left_out = usable[stays], {**left_out, **why}
        taken.append(before - len(usable))
    return (arrays, usable, left_out), taken


def check_gate(gate: Any) -> None:
    """Raise for what `gate` cannot be: None, True, False, a probability, or a `Gate`."""
    if gate is None or isinstance(gate, bool | Gate):
        return
    if not isinstance(gate, float | np.floating):
        raise TypeError(
            f"gate is {gate!r}; it must be True, a probability such as 0.5, or a gate such as hf_dsel.Gate()"
            f"{_whole(gate)}"
        )
    if not 0 < gate <= 1:
        raise ValueError(
            f"gate={gate:g} must be above 0 and at most 1: the lowest probability of being sound that stays, say 0.5"
        )


def gate_columns(gate: Any, column_names: Sequence[str]) -> dict[str, Gate]:
    """The columns that a gate reads, one for each answer of a pair, and what makes them where they are missing.

    A pair whose rejected answer is junk is not wrong, but it teaches to tell junk from text, no preference.
    """
    check_gate(gate)
    if gate is None or gate is False:
        return {}
    judge = gate if isinstance(gate, Gate) else Gate()
    sides: tuple[Any, ...] = ("chosen", "rejected") if detect(column_names) == "preference" else (judge.side,)
    return {"rejected_gate" if side == "rejected" else "gate": judge.of_side(side) for side in sides}


def flip_columns(gate: Any, column_names: Sequence[str]) -> dict[str, FlippedLabels]:
    """The column of flipped labels that a gate reads of preference pairs, and what makes it."""
    check_gate(gate)
    if gate is None or gate is False or detect(column_names) != "preference":
        return {}
    judge = gate if isinstance(gate, Gate) else Gate()
    return {FLIPPED: FlippedLabels(judge.embedder, learn_from=judge.learn_from, seed=judge.seed)}


def score_by_gates(dataset: Dataset, scorers: Sequence[Any], *, cache_dir: Any = None) -> Dataset:
    """The dataset with the columns of scorers, gates among them.

    Both answers of preference pairs are judged by one gate, which learns from the chosen ones. Pairs too few to look
    for flipped labels get nulls with the reason, and it is said.
    """
    gates = [scorer for scorer in scorers if isinstance(scorer, Gate)]
    if len(gates) > 1:
        one = gates[0].of_side("chosen").fitted(dataset)
        scorers = [one.of_side(scorer.side) if isinstance(scorer, Gate) else scorer for scorer in scorers]
    flips = [scorer for scorer in scorers if isinstance(scorer, FlippedLabels)]
    others = [scorer for scorer in scorers if not isinstance(scorer, FlippedLabels)]
    dataset = score(dataset, others, cache_dir=cache_dir) if others else dataset
    try:
        return score(dataset, flips, cache_dir=cache_dir) if flips else dataset
    except TooLittle as error:
        say(f"{FLIPPED} is null: {error}")
        return _with_nulls(dataset, flips[0])


def _with_nulls(dataset: Dataset, flips: FlippedLabels) -> Dataset:
    """What pairs get that are too few to look for flipped labels."""
    for name, kind in flips.features().items():
        value = "too few pairs" if kind.dtype == "string" else None
        dataset = dataset.add_column(name, pa.array([value] * len(dataset), kind.pa_type))
    return dataset


def foreseen_flips(dataset: Dataset, scorers: Sequence[Any]) -> tuple[Dataset, list[Any], str | None]:
    """What `score_by_gates` will do about flipped labels, for a plan, which computes nothing.

    Returns:
        where the pairs are too few: the dataset with their nulls, the other scorers, and a line for a reader. Elsewhere
        the dataset and the scorers as they are, and None.
    """
    flips = next((scorer for scorer in scorers if isinstance(scorer, FlippedLabels) and scorer.learned is None), None)
    if flips is None or detect(dataset.column_names) != "preference":
        return dataset, list(scorers), None
    check_scorers([flips], dataset)
    at = np.arange(len(dataset))
    if len(at) > flips.learn_from:
        at = np.sort(np.random.default_rng(flips.seed).choice(len(at), flips.learn_from, replace=False))
    text = dataset.with_format(None).select_columns(text_columns(dataset.column_names))
    different = Pairs.of(text.select(at)[:]).different()
    if different >= FEWEST_PAIRS:
        return dataset, list(scorers), None
    others = [scorer for scorer in scorers if not isinstance(scorer, FlippedLabels)]
    line = (
        f"{FLIPPED}: null, since flipped labels are looked for in at least {FEWEST_PAIRS} different pairs, and here "
        f"are {different:,}"
    )
    return _with_nulls(dataset, flips), others, line


def say_what_is_read(gate: Any, dataset: Dataset) -> None:
    """Say so where columns are there that another gate, or nobody knows which, wrote: they are read as they are."""
    if not isinstance(gate, Gate):
        return
    marks = scorers_of(dataset)
    for name, maker in gate_columns(gate, dataset.column_names).items():
        if name not in dataset.column_names:
            continue
        own, there = made_by([maker])[name], marks.get(name, {})
        if own[(key := "learned" if gate.learned is not None else "scorer")] != there.get(key):
            say(
                f"the column {name!r} is there and read as it is, and {described(maker)}, which did not write it, "
                f"judges nothing; to have it judge, remove {name}, {name}_reason and {name}_status"
            )


def gate_rule(gate: Any, names: Sequence[str]) -> Rule | None:
    """The rule that leaves rows which are probably sound, or None.

    A number is the lowest probability that stays. True and a `Gate` leave the rows of highest probability, as long as
    the expected share of junk among them is at most 2 %. A row without a probability goes.

    Of preference pairs those go first whose labels are right by less than the number, or, with True and a `Gate`, that
    are more likely flipped than not: from there on a pair costs more than it brings. Of the others the less sound
    answer counts.
    """
    if not names:
        return None

    def rule(dataset: Dataset) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        check_probabilities(dataset, [name for name in names if name in dataset.column_names])
        by_share = isinstance(gate, bool | Gate)
        read = {name: read_column(dataset, name) for name in names if name != FLIPPED}
        valid = np.logical_and.reduce([column.valid for column in read.values()])
        most = MOST_FLIPPED if by_share else 1 - float(gate)
        flipped = np.zeros(len(valid), np.bool_)
        if FLIPPED in names:  # null where too few pairs were there to learn from: they stay
            labels = read_column(dataset, FLIPPED)
            flipped = valid & labels.valid & (np.where(labels.valid, labels.values, 0.0) > most)
        rest = valid & ~flipped
        answers = list(read.values())
        sound = np.min([np.where(column.valid, column.values, 0.0) for column in answers], axis=0)
        lowest = cut_for(sound[rest], MOST_JUNK) if by_share and rest.any() else 0.0 if by_share else float(gate)
        if not np.isfinite(lowest):
            best = float(f"{np.quantile(sound[rest], 0.7):.6g}")  # 0.84, where float32 is a little less
            some = f", such as gate={in_few_digits(best, bool, fewest=2)} for the best 30 %," if best else ""
            given = described(gate) if isinstance(gate, Gate) else gate
            raise ValueError(
                f"gate={given} leaves the rows among which at most {MOST_JUNK:.0%} are expected to be junk, and here "
                f"even the soundest are sound by {sound[rest].max():.1%} alone. Give the lowest probability that "
                f"stays{some} or another Gate."
            )
        stays = rest & (sound >= lowest)
        below = sound[rest & ~stays]
        highest = below.max(initial=-1.0)
        gone = {
            f"{BELOW}{in_few_digits(lowest, lambda x: x > highest)}": len(below),
            "no gate": int((~valid).sum()),
        }
        most_written = f"{most:g}" if by_share else f"{1 - Decimal(repr(float(gate))):f}"
        gone[f"labels that look flipped ({FLIPPED} above {most_written})"] = int(flipped.sum())
        return stays, {why: n for why, n in gone.items() if n}

    return rule


def check_probabilities(dataset: Dataset, names: Sequence[str]) -> None:
    """Raise for columns that no gate wrote.

    Raises:
        TypeError: a column of text or vectors.
        ValueError: numbers that are no probabilities.
    """
    for name in names:
        values = read_column(dataset, name).values
        step = f"rename it (dataset.rename_column({name!r}, 'my_{name}')), and the gate makes its own"
        if values.ndim != 1 or values.dtype == object:
            raise TypeError(f"gate reads the column {name!r}, which holds no numbers; {step}")
        if len(values) and not -1e-6 <= values.min() <= values.max() <= 1 + 1e-6:
            raise ValueError(
                f"gate reads the column {name!r}, whose values from {values.min():g} to {values.max():g} are no "
                f"probabilities; {step}"
            )


def recorded_gate(gate: Any) -> bool | float | None:
    """`gate` as a record holds it: True for what is left by the expected share of junk, a number, None for nothing."""
    return True if isinstance(gate, Gate) else float(gate) if isinstance(gate, np.number) else gate or None


def check_dedup(dedup: Any) -> None:
    """Raise for what `dedup` cannot be: None, True, False, a cosine as a float, or a mapping of options."""
    if dedup is None or isinstance(dedup, bool):
        return
    if isinstance(dedup, Mapping):
        unknown = [name for name in dedup if name not in OPTIONS]
        if unknown:
            raise ValueError(f"dedup has no option {unknown[0]!r}; it has {', '.join(OPTIONS)}")
        for name in ("embedding", "quality"):
            if not isinstance(dedup.get(name), str | None):
                raise TypeError(f"dedup: {name} must name a column, got {dedup[name]!r}")
        if dedup.get("similarity") is not None:
            check_similarity(dedup["similarity"])
    elif isinstance(dedup, float | np.floating):
        check_similarity(dedup)
    else:
        raise TypeError(
            f"dedup is {dedup!r}; it must be True (same text), a cosine such as 0.95 (near embeddings too), or a "
            f"mapping of {', '.join(OPTIONS)}{_whole(dedup)}"
        )


def recorded(dedup: Any) -> Any:
    """`dedup` as a record holds it: plain values, None where nothing was left out.

    >>> recorded(np.float32(0.5)), recorded(False), recorded({"similarity": 0.9, "quality": None})
    (0.5, None, {'similarity': 0.9})
    """
    if isinstance(dedup, Mapping):
        return {name: recorded(found) for name, found in dedup.items() if found is not None} or True
    return float(dedup) if isinstance(dedup, np.number) else dedup or None


def dedup_options(dedup: Any, strategy: Any) -> dict[str, Any] | None:
    """What `find_copies` is asked for, or None for nothing.

    True compares text alone. A cosine, alone or as `similarity`, compares the embeddings that the strategy reads as
    well, or those of the column `embedding`. `quality` is the one that the strategy reads as its quality, where no
    other column is named.

    Raises:
        ValueError: there is no embedding to compare: the strategy reads none, and none is named.
        TypeError: `dedup` is something else.
    """
    check_dedup(dedup)
    if dedup is None or dedup is False:
        return None
    given = {} if dedup is True else dict(dedup) if isinstance(dedup, Mapping) else {"similarity": float(dedup)}
    options: dict[str, Any] = {name: found for name, found in given.items() if found is not None}
    needs = strategy.needs()
    if "similarity" in options and "embedding" not in options:
        name = getattr(strategy, "embedding", None)
        if name not in needs:
            raise ValueError(
                f"dedup={dedup!r} compares the embeddings that the strategy reads, and {strategy} reads none; use "
                "dedup=True to compare text, or dedup={'similarity': 0.95, 'embedding': 'column'}"
            )
        options["embedding"] = name
    if "quality" not in options and (name := _quality(strategy)) in needs:
        options["quality"] = name
    return options


def dedup_rule(dedup: Any, strategy: Any, column_names: Sequence[str]) -> Rule | None:
    """The rule that leaves one row of each group of copies, or None.

    Raises:
        MissingColumn: a column that is named is not there, and the strategy does not have it made.
        ValueError, TypeError: as for `dedup_options`.
    """
    options = dedup_options(dedup, strategy)
    if options is None:
        return None
    for option in ("embedding", "quality"):
        name = options.get(option)
        if name is not None and name not in column_names and name not in strategy.needs():
            raise MissingColumn(f"dedup: {option} names the column {name!r}; the dataset has {list(column_names)}")

    def rule(dataset: Dataset) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        copies = find_copies(dataset, **options)
        return copies.stays, copies.left_out()

    return rule


def _whole(given: Any) -> str:
    """What to write for 1, which may mean True or a number."""
    return "; for 1 write True or 1.0" if isinstance(given, int) and given == 1 else ""


def _quality(strategy: Any) -> Any:
    """The column of which the strategy wants large values: `quality`, or the one score that `top_k` ranks by."""
    if getattr(strategy, "largest", False) and isinstance(strategy.column, str) and strategy.ceiling is None:
        return strategy.column
    return getattr(strategy, "quality", None)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The columns of a gate as numbers: each row's probability and reason, each kind of junk, each threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from hf_dsel.columns import BadColumn, read_column
from hf_dsel.corruptions import CORRUPTIONS
from hf_dsel.gate_examples import Doubles, Ints
from hf_dsel.narrowing import check_probabilities
from hf_dsel.scorers.gate import Gate

FEWEST_COPIES = 10  # of a kind, for its AUC
MOST_REASONS = 1000
UNKNOWN = "no reason given"


@dataclass(frozen=True)
class Cut:
    """What it does to keep the rows from a probability on.

    `junk`: the share of junk expected among the kept rows, None where none is kept. `lost`: the sound rows expected
    among the dropped ones.
    """

    lowest: float
    kept: int
    dropped: int
    junk: float | None
    lost: float


@dataclass(frozen=True)
class Kind:
    """A kind of junk: what fault it imitates, how well it is told from the pool's rows, how much of it there is.

    `auc`: the chance that a row of the pool scores above a copy that was broken so; None where few rows can be.
    `share`: of the answers that the gate learned from. Both are None where the gate itself was not given. `expected`:
    junk rows among those that resemble this kind most. `below`: rows of this kind below the line.
    """

    name: str
    imitates: str
    auc: float | None
    share: float | None
    expected: float
    below: int


@dataclass(frozen=True, eq=False)
class Judged:
    """`sound` as in the report; `side`: which side it is of; `reason`: the number of the reason in `reasons`."""

    sound: Doubles
    side: Ints
    reason: Ints
    reasons: list[str]
    problems: dict[str, int]

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str]) -> Judged:
        """The columns of a gate, one for each side."""
        values = np.stack([probabilities(dataset, name) for name in names])
        side = np.argmin(values, axis=0)  # NaN counts as the smallest
        sound = values.min(axis=0)
        words = {UNKNOWN: 0}
        codes = np.stack([_words(dataset, f"{name}_reason", words) for name in names])
        if len(words) > MOST_REASONS:
            raise BadColumn(
                f"column '{names[0]}_reason' holds {len(words) - 1:,} different reasons; a gate names kinds of junk. "
                "Remove or rename it."
            )
        why = {UNKNOWN: 0}
        status = np.stack([_words(dataset, f"{name}_status", why) for name in names])
        rows, bad = np.arange(len(dataset)), np.flatnonzero(np.isnan(sound))
        counted = Counter(zip(side[bad].tolist(), status[side[bad], bad].tolist(), strict=True))
        said = list(why)
        named = {f"{'rejected: ' if len(names) > 1 and s else ''}{said[c]}": n for (s, c), n in counted.most_common()}
        return cls(sound, side, codes[side, rows], list(words), named)


def probabilities(dataset: Dataset, name: str) -> Doubles:
    """A column of probabilities, NaN where there is none.

    Raises:
        TypeError, ValueError: a column that no gate wrote.
    """
    check_probabilities(dataset, [name])
    column = read_column(dataset, name)
    return np.where(column.valid, column.values, np.nan)


def _words(dataset: Dataset, name: str, known: dict[str, int]) -> Ints:
    """The column as numbers of words; new words join the known ones. 0 where there is none."""
    if name not in dataset.column_names:
        return np.zeros(len(dataset), np.int64)
    encoded = dataset.select_columns([name]).with_format("arrow")[:][name].combine_chunks().dictionary_encode()
    numbers = [known.setdefault(str(word), len(known)) for word in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    return np.asarray([*numbers, 0], np.int64)[codes]


def kinds_of(judged: Judged, known: Ints, gate: Gate | None, line: float) -> tuple[Kind, ...]:
    """The kinds of junk, the one with most rows below the line first."""
    learned = None if gate is None else gate.learned
    docs = {c.__name__: c.__doc__ for c in (*CORRUPTIONS, *(gate.corruptions if gate else ()))}
    sound, reason = judged.sound[known], judged.reason[known]
    size = len(judged.reasons)
    expected = np.bincount(reason, weights=1 - sound, minlength=size)
    below = np.bincount(reason[sound < line], minlength=size)
    rows = np.bincount(reason, minlength=size)
    seen = {name: i for i, name in enumerate(judged.reasons) if rows[i]}
    found = []
    for name in dict.fromkeys([*(learned.names if learned else ()), *seen]):
        auc = share = None
        if learned is not None and name in learned.names:
            number = learned.names.index(name)
            auc = _auc(learned.scores, learned.broken_scores[learned.broken_kinds == number])
            share = float(learned.junk.share * learned.junk.weights[number])
        i = seen.get(name)
        numbers = (0.0, 0) if i is None else (float(expected[i]), int(below[i]))
        found.append(Kind(name, (docs.get(name) or "").strip().partition("\n")[0], auc, share, *numbers))
    return tuple(sorted(found, key=lambda kind: (-kind.below, -kind.expected)))


def _auc(pool: Doubles, broken: Doubles) -> float | None:
    """The chance that a row of the pool scores above a broken copy, ties half; None for few copies."""
    if len(broken) < FEWEST_COPIES:
        return None
    order = np.sort(broken)
    return float((np.searchsorted(order, pool, "left") + np.searchsorted(order, pool, "right")).mean() / 2 / len(order))


def cut_at(sound: Doubles, lowest: float) -> Cut:
    """What keeping the rows from a probability on does to these."""
    kept = sound[sound >= lowest]
    junk = float((1 - kept).mean()) if len(kept) else None
    return Cut(float(lowest), len(kept), len(sound) - len(kept), junk, float(sound[sound < lowest].sum()))

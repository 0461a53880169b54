# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The columns of a gate as numbers: each row's probability and reason, each kind of junk, each threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from hf_dsel.columns import BadColumn, read_column
from hf_dsel.corruptions import CORRUPTIONS
from hf_dsel.few_digits import in_few_digits
from hf_dsel.gate_examples import Doubles, Ints
from hf_dsel.narrowing import MOST_FLIPPED, check_probabilities, gate_rule
from hf_dsel.scorers.flipped_labels import COLUMN as FLIPPED
from hf_dsel.scorers.gate import Gate

Bools = npt.NDArray[np.bool_]
FEWEST_COPIES = 10  # of a kind, for its AUC
MOST_REASONS = 1000
UNKNOWN = "no reason given"


@dataclass(frozen=True)
class Cut:
    """What it does to keep the rows from a probability on.

    `by_share`: whether this is what `gate=True` does. `written`: the probability in as few digits as keep the same
    rows. `dropped`: of the rows with a probability; `flipped` of these are pairs that look flipped. `junk`: the share
    of junk expected among the kept rows, None where none is kept. `lost`: the sound rows expected among the dropped
    ones that are not such pairs.
    """

    lowest: float
    by_share: bool
    written: str
    kept: int
    dropped: int
    flipped: int
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


def kinds_of(judged: Judged, known: Ints, gate: Gate | None, below_line: Bools) -> tuple[Kind, ...]:
    """The kinds of junk, the one with most rows below the line first; `below_line` says of all rows which are."""
    learned = None if gate is None else gate.learned
    docs = {c.__name__: c.__doc__ for c in (*CORRUPTIONS, *(gate.corruptions if gate else ()))}
    sound, reason = judged.sound[known], judged.reason[known]
    size = len(judged.reasons)
    expected = np.bincount(reason, weights=1 - sound, minlength=size)
    below = np.bincount(reason[below_line[known]], minlength=size)
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


@dataclass(frozen=True, eq=False)
class Thresholds:
    """What thresholds do to a pool, by the rule of `hf_dsel.select_by(..., gate=...)`.

    `flip`: the probability that a pair is flipped, NaN where nothing says so. `columns`: what that rule reads.
    """

    sound: Doubles
    flip: Doubles
    columns: Dataset

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str], sound: Doubles) -> Thresholds:
        """For the columns of a gate, one for each side."""
        flip = np.full(len(dataset), np.nan)
        if FLIPPED in dataset.column_names:
            flip, names = probabilities(dataset, FLIPPED), [*names, FLIPPED]
        read = {name: read_column(dataset, name) for name in names}  # once, in the order of a shuffled pool
        columns = {name: pa.array(column.values, mask=~column.valid) for name, column in read.items()}
        return cls(sound, flip, Dataset(pa.table(columns)))

    def stays(self, gate: bool | float) -> Bools:
        """Which rows stay; none where `gate=True` would refuse the pool."""
        rule = gate_rule(gate, self.columns.column_names)
        none = np.zeros(len(self.sound), np.bool_)
        if rule is None or not len(none):
            return none
        try:
            return rule(self.columns)[0]
        except ValueError:  # even the soundest rows are too likely junk
            if gate is True:
                return none
            raise

    def flips(self, gate: bool | float) -> Bools:
        """Which rows with a probability go as flipped."""
        most = MOST_FLIPPED if gate is True else 1 - float(gate)
        return np.isfinite(self.sound) & (self.flip > most)

    def default(self) -> float | None:
        """The lowest probability that `gate=True` keeps."""
        kept = self.sound[self.stays(True)]
        return float(kept.min()) if len(kept) else None

    def cut(self, gate: bool | float) -> Cut:
        """What `gate=True`, which must keep a row, or a number does."""
        stays, flipped = self.stays(gate), self.flips(gate)
        kept, known = self.sound[stays], np.isfinite(self.sound)
        lowest = float(kept.min()) if gate is True else float(gate)
        open_to = known & ~flipped

        def same(x: float) -> bool:
            found = open_to & (self.sound >= x) if gate is True else self.stays(x)
            return int(found.sum()) == len(kept)

        return Cut(
            lowest, gate is True, in_few_digits(lowest, same), len(kept), int(known.sum()) - len(kept),
            int(flipped.sum()), float((1 - kept).mean()) if len(kept) else None,
            float(self.sound[open_to & ~stays].sum()),
        )  # fmt: skip

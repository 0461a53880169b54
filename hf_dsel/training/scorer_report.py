# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How well a trained scorer orders samples that it has not seen, beside two baselines that read no text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_dsel.progress import count
from hf_dsel.scorers.score_templates import Scores

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How a prediction agrees with the scores of the ranking model.

    `spearman` is over all rows, `within` the mean of Spearman's over the variants of each sample; None where a side is
    constant. `exact` and `within_one` are the parts of the rows whose rounded prediction is the score, or next to it.
    """

    name: str
    spearman: float | None
    within: float | None
    exact: float
    within_one: float

    @classmethod
    def of(cls, name: str, predicted: FloatArray, scores: FloatArray, groups: Sequence[Hashable]) -> Agreement:
        """The agreement of a prediction with integer scores; `groups` tells which rows are of one sample."""
        of_group: dict[Hashable, list[int]] = {}
        for i, group in enumerate(groups):
            of_group.setdefault(group, []).append(i)
        inside = [r for r in (spearman(predicted[rows], scores[rows]) for rows in of_group.values()) if r is not None]
        off = np.abs(np.floor(predicted + 0.5) - scores)
        return cls(
            name,
            spearman(predicted, scores),
            float(np.mean(inside)) if inside else None,
            float(np.mean(off == 0)),
            float(np.mean(off <= 1)),
        )


@dataclass(frozen=True)
class ScorerReport:
    """What a scorer was trained on, and its agreement on the held-out samples. `str()` gives the table."""

    scores: Scores
    trained_rows: int
    trained_samples: int
    held_out_rows: int
    held_out_samples: int
    lines: tuple[Agreement, ...]

    def __getitem__(self, name: str) -> Agreement:
        """The line of that name.

        Raises:
            KeyError: no such line; the text lists them.
        """
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no line {name!r}; there are {[line.name for line in self.lines]}")

    @property
    def what(self) -> str:
        """One sentence on the two sets."""
        held = f"{count(self.held_out_rows, 'variant')} of {count(self.held_out_samples, 'sample')}"
        return (
            f"trained on {count(self.trained_rows, 'variant')} of {count(self.trained_samples, 'sample')}; held out: "
            + (held if self.held_out_rows else "none")
        )

    def cells(self) -> list[tuple[str, ...]]:
        """The table: a head and a row for each line."""
        head = ("held out", "Spearman", "within a sample", "exact", "within one")
        shown = lambda value, form: "–" if value is None else format(value, form)  # noqa: E731
        return [
            head,
            *(
                (a.name, shown(a.spearman, ".3f"), shown(a.within, ".3f"), f"{a.exact:.1%}", f"{a.within_one:.1%}")
                for a in self.lines
            ),
        ]

    def __str__(self) -> str:
        """The sentence and the table, aligned."""
        if not self.lines:
            return self.what
        cells = self.cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join([r[0].ljust(widths[0]), *(r[i].rjust(w) for i, w in enumerate(widths) if i)]) for r in cells]
        return "\n".join([self.what, lines[0], "-" * len(lines[0]), *lines[1:]])


def agreements(
    predicted: FloatArray,
    scores: FloatArray,
    lengths: FloatArray,
    groups: Sequence[Hashable],
    *,
    trained_scores: FloatArray,
    trained_lengths: FloatArray,
) -> tuple[Agreement, ...]:
    """The scorer's line and the two baselines', all on the held-out rows.

    Args:
        predicted, scores, lengths, groups: of the held-out rows: the scorer's number, the ranking model's, the
            characters of the text, and the sample.
        trained_scores, trained_lengths: of the training rows, from which the baselines learn. "most frequent score"
            says that score for every row; "length" is a straight line on the logarithm of the length.
    """
    values, counts = np.unique(trained_scores, return_counts=True)
    most_frequent = np.full(len(scores), values[counts.argmax()])
    x = np.log1p(trained_lengths)
    slope, level = (0.0, trained_scores.mean()) if np.ptp(x) == 0 else np.polyfit(x, trained_scores, 1)
    by_length = np.clip(slope * np.log1p(lengths) + level, values.min(), values.max())
    return (
        Agreement.of("scorer", predicted, scores, groups),
        Agreement.of("length", by_length, scores, groups),
        Agreement.of("most frequent score", most_frequent, scores, groups),
    )


def spearman(a: FloatArray, b: FloatArray) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None when a side is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return round(float(np.corrcoef(mean_ranks(a), mean_ranks(b))[0, 1]), 12)


def mean_ranks(values: FloatArray) -> FloatArray:
    """The rank of each value from 1, equal values at the mean of their ranks.

    >>> mean_ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]

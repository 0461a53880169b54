# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Percentile: the rows whose score lies between two percentiles of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, Picks
from hf_dsel.strategies import Columns, numbers
from hf_dsel.strategies.threshold import Threshold


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Keeps the rows with low ≤ 100·F(score) ≤ high, in the order of the dataset; with a budget, the first that fit.

    F(s) is the fraction of rows with a score ≤ s, so ties share a percentile and are kept or left together.
    `fit` turns it into a `Threshold` with the pool's values, for `Dataset.filter` or another dataset.

    Args:
        column: the score.
        low, high: percentiles, 0 ≤ low < high ≤ 100.

    Raises:
        ValueError: percentiles out of range or not in order.

    Source: survey, Eq. 5.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"nll": [4.0, 1.0, 2.0, 3.0]})
    >>> hf_dsel.select_by(pool, "percentile", column="nll", low=50, high=75)["nll"][:]
    [2.0, 3.0]
    >>> pool.filter(Percentile(column="nll", low=50, high=75).fit(pool["nll"][:]))["nll"][:]
    [2.0, 3.0]
    """

    column: str = "quality"
    low: float = 0.0
    high: float = 100.0
    open_ended: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"percentiles must satisfy 0 <= low < high <= 100, got low={self.low} and high={self.high}"
            )

    def needs(self) -> dict[str, Any]:
        """The score column."""
        return {self.column: None}

    def inside(self, score: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which rows lie between the percentiles (Eq. 5)."""
        at_or_below = np.searchsorted(np.sort(score), score, side="right")  # n·F(score)
        return (at_or_below >= self.low / 100 * len(score)) & (at_or_below <= self.high / 100 * len(score))

    def fit(self, scores: Any) -> Threshold:
        """The same rule with the values of these scores; None among them is left out.

        Raises:
            ValueError: no score lies between the percentiles.
        """
        values = np.asarray([s for s in scores if s is not None], np.float64)
        kept = values[self.inside(values)]
        if not len(kept):
            raise ValueError(f"none of the {len(values):,} scores lies between percentiles {self.low} and {self.high}")
        return Threshold(column=self.column, low=float(kept.min()), high=float(kept.max()), inclusive=True)

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The rows inside, in order."""
        score = numbers(columns, self.column)
        order = budget.fitting(np.flatnonzero(self.inside(score)))
        return Picks(order, score[order])

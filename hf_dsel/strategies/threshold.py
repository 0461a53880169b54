# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Threshold: the rows whose score lies between two values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, Picks
from hf_dsel.strategies import Columns, numbers


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Keeps the rows with low < score < high, in the order of the dataset; with a budget, the first that fit.

    An instance is also a predicate: `dataset.filter(Threshold(column="ifd", high=1))`, for one row or batched. There a
    row without a score is not kept.

    Args:
        column: the score.
        low, high: the bounds; leave one out for none. At least one is needed.
        inclusive: keep scores equal to a bound too.
        near_mean: instead of bounds: scores at most this far from the mean of the pool. It makes pools whose rows are
            equally good, on which ways to diversity are compared. For `Dataset.filter`, `fit` it first.

    Raises:
        ValueError: no bound, low not below high, or bounds beside `near_mean`.

    Source: survey, Eq. 4; `near_mean`: DEITA, App. A (2, on complexity × quality).

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"ifd": [0.2, 1.3, 0.9, 0.5]})
    >>> hf_dsel.select_by(pool, "threshold", column="ifd", low=0.3, high=1)["ifd"][:]
    [0.9, 0.5]
    >>> pool.filter(Threshold(column="ifd", high=0.3))["ifd"][:]
    [0.2]
    >>> pool.filter(Threshold(column="ifd", near_mean=0.3).fit(pool["ifd"][:]))["ifd"][:]
    [0.9, 0.5]
    """

    column: str = "quality"
    low: float | None = None
    high: float | None = None
    inclusive: bool = False
    near_mean: float | None = None
    open_ended: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.near_mean is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("threshold takes near_mean=, or low= and high=, not both")
            if not self.near_mean >= 0:
                raise ValueError(f"near_mean is a distance of at least 0, got {self.near_mean}")
            return
        if self.low is None and self.high is None:
            raise ValueError("threshold needs low=, high= or both, or near_mean=")
        if self.low is not None and self.high is not None and not self.low < self.high:
            if not (self.inclusive and self.low == self.high):
                raise ValueError(f"low must be below high, got low={self.low} and high={self.high}")

    def needs(self) -> dict[str, Any]:
        """The score column."""
        return {self.column: None}

    def fit(self, scores: Any) -> Threshold:
        """The same rule with bounds in place of `near_mean`, from the mean of these scores; None is left out.

        Raises:
            ValueError: no score at all.
        """
        if self.near_mean is None:
            return self
        values = np.asarray([s for s in scores if s is not None and s == s], np.float64)  # null, NaN in numpy
        if not len(values):
            raise ValueError("there are no scores to take the mean of")
        mean = float(values.mean())
        return Threshold(column=self.column, low=mean - self.near_mean, high=mean + self.near_mean, inclusive=True)

    def inside(self, score: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which scores lie between the bounds (Eq. 4)."""
        if self.near_mean is not None:
            raise ValueError("near_mean needs the pool: use .fit(dataset[column][:]), or select_by")
        kept = np.ones(len(score), np.bool_)
        if self.low is not None:
            kept &= score >= self.low if self.inclusive else score > self.low
        if self.high is not None:
            kept &= score <= self.high if self.inclusive else score < self.high
        return kept

    def __call__(self, rows: Mapping[str, Any]) -> bool | list[bool]:
        """For `Dataset.filter`: whether to keep a row, or each row of a batch."""
        value = rows[self.column]
        if isinstance(value, Sequence | np.ndarray):
            score = np.asarray([np.nan if v is None else v for v in value], np.float64)
            return [bool(b) for b in self.inside(score) & ~np.isnan(score)]
        return value is not None and bool(self.inside(np.asarray([value], np.float64))[0])

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The rows inside, in order."""
        score = numbers(columns, self.column)
        order = budget.fitting(np.flatnonzero(self.fit(score).inside(score)))
        return Picks(order, score[order])

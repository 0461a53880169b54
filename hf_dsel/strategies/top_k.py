# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Top k: the rows with the best score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.strategies import Columns, numbers


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Keeps the rows with the largest (or smallest) score, best first, ties to the lower row.

    The score is one column, the product of several, or their weighted sum. Rows outside [floor, ceiling) are not
    considered, and when fewer than the budget remain, fewer are kept, with a warning.

    Args:
        column: one column, or several.
        weights: one for each column: the score is the weighted sum. Without them several columns are multiplied.
        largest: keep the largest; False keeps the smallest.
        floor: smallest score considered, itself included (Alpagasus: 4.5).
        ceiling: scores from here up are not considered (IFD: 1).

    Raises:
        ValueError: no column, as many weights as columns not given, or a floor that is not below the ceiling.

    Source: Cherry LLM (Li et al. 2023): `column="ifd", ceiling=1`. Alpagasus (Chen et al. 2023): `floor=4.5`. Survey,
    Section 3. DEITA's score is `column=["complexity", "quality"]`.
    Differs: Cherry's code keeps IFD = 1, the papers' text says below 1, as here.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"ifd": [0.2, 1.3, 0.9, 0.5]})
    >>> hf_dsel.select_by(pool, "top_k", k=2, column="ifd", ceiling=1)["ifd"][:]
    [0.9, 0.5]
    """

    column: str | Sequence[str] = "quality"
    weights: Sequence[float] | None = None
    largest: bool = True
    floor: float | None = None
    ceiling: float | None = None
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.column:
            raise ValueError("column names the score to rank by; got none")
        if self.weights is not None and len(self.weights) != len(self._names()):
            raise ValueError(f"weights needs one number for each of {list(self._names())}, got {list(self.weights)}")
        if self.floor is not None and self.ceiling is not None and self.floor >= self.ceiling:
            raise ValueError(f"floor must be below ceiling, got floor={self.floor} and ceiling={self.ceiling}")

    def _names(self) -> tuple[str, ...]:
        return (self.column,) if isinstance(self.column, str) else tuple(self.column)

    def needs(self) -> dict[str, Any]:
        """The score columns."""
        return dict.fromkeys(self._names())

    def score(self, columns: Columns) -> FloatArray:
        """The score of each row; NaN outside [floor, ceiling)."""
        values = np.stack([numbers(columns, n) for n in self._names()])
        score = values.prod(axis=0) if self.weights is None else np.asarray(self.weights, np.float64) @ values
        inside = np.ones(len(score), np.bool_)
        if self.floor is not None:
            inside &= score >= self.floor
        if self.ceiling is not None:
            inside &= score < self.ceiling
        return np.where(inside, score, np.nan)

    def keys(self, columns: Columns, rows: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """What the next rows of a stream are ranked by, the largest kept and NaN never, and their gains."""
        score = self.score(columns)
        return (score if self.largest else -score), score

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The best rows."""
        score = self.score(columns)
        inside = np.flatnonzero(~np.isnan(score))
        keys = -score[inside] if self.largest else score[inside]
        order = budget.fitting(inside[np.argsort(keys, kind="stable")])
        return Picks(order, score[order])

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Random: every row with the same chance. The baseline that any other choice must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.strategies import Columns


@dataclass(frozen=True, kw_only=True)
class Random:
    """Keeps a uniform random subset, without replacement.

    Each row draws a number in [0, 1) and the k smallest are kept, smallest first. So the first m picks are the choice
    for budget m, and a stream, seen once, gives the same rows as the whole dataset.

    Source: Xia et al. 2024 (random selection is hard to beat at large scale); survey, baselines of Tables 2 to 4.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"text": list("abcdef")})
    >>> len(hf_dsel.select_by(pool, "random", k=3))
    3
    """

    open_ended: ClassVar[bool] = False

    def needs(self) -> dict[str, Any]:
        """No columns."""
        return {}

    def keys(self, columns: Columns, rows: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """What the next `rows` rows of a stream are ranked by, the largest kept, and their gains (none)."""
        return -rng.random(rows), np.full(rows, np.nan)

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The rows with the smallest draws."""
        draws = rng.random(budget.pool)  # the same numbers as a stream draws, batch by batch
        k = budget.at_most
        first = np.argpartition(draws, k - 1)[:k] if 0 < k < budget.pool else np.arange(budget.pool)
        order = budget.fitting(first[np.argsort(draws[first], kind="stable")])
        return Picks(order, np.full(len(order), np.nan))

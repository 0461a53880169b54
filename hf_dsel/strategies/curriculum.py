# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Curriculum: random among the easiest rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.strategies import Columns, numbers


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Keeps a uniform random subset of the easiest part of the pool.

    The rows are sorted by their difficulty, ties by the lower row; the first ⌈part · n⌉ are open, or as many as the
    budget may take if that is more; among them each row has the same chance. With part = 1 it is `random`. In training,
    `hf_dsel.training.pacing.Pacing` opens more of the pool from round to round.

    Args:
        column: the difficulty.
        part: of the pool that is open, in (0, 1].
        hardest: "high" or "low" values are the hard ones.

    Raises:
        ValueError: an option outside its range.

    Source: the fixed-data step of Hacohen and Weinshall 2019 (arXiv 1904.03626, Algorithm 1): a uniform sample of the
        easiest g(t) rows.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"ifd": [0.9, 0.2, 0.5, 0.3]})
    >>> sorted(hf_dsel.select_by(pool, "curriculum", k=2, column="ifd", part=0.5)["ifd"][:])
    [0.2, 0.3]
    """

    column: str
    part: float
    hardest: str = "high"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.part <= 1:
            raise ValueError(f"part={self.part}; it is above 0 and at most 1")
        if self.hardest not in ("high", "low"):
            raise ValueError(f"hardest={self.hardest!r}; it is 'high' or 'low'")

    def needs(self) -> dict[str, Any]:
        """The difficulty."""
        return {self.column: None}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """A sample of the rows that are open; the gain of a row is its difficulty."""
        difficulty = numbers(columns, self.column)
        easiest = np.argsort(difficulty if self.hardest == "high" else -difficulty, kind="stable")
        opened = max(math.ceil(self.part * budget.pool), budget.at_most)
        order = budget.fitting(rng.permutation(easiest[:opened]))
        return Picks(order, difficulty[order])

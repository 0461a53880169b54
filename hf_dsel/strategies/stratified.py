# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Stratified: random within the groups of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.ops.quotas import equal_order, proportional_order
from hf_dsel.strategies import Columns


@dataclass(frozen=True, kw_only=True)
class Stratified:
    """Keeps a random sample of each group of a column, in proportion to the groups or the same number of each.

    The rows of each group are shuffled, then the groups take turns. Proportional: the r-th row of a group of n (from 0)
    comes in the order of (r + 1/2) / n, which is Webster's rule for sharing out k places, so each group's share of the
    first k is its share of the pool to within a row or so. Equal: the first row of every group, then the second of
    every group, ...; a group that runs out leaves its turns to the others.

    Args:
        column: numbers, text or labels; rows of one value form a group.
        quotas: "proportional" or "equal".

    Raises:
        ValueError: another value of `quotas`.

    Source: survey, Section 4 (diversity by known categories); Balinski and Young 1982 for Webster's rule.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"task": ["code"] * 8 + ["chat"] * 4})
    >>> sorted(hf_dsel.select_by(pool, "stratified", k=3, column="task")["task"][:])
    ['chat', 'code', 'code']
    """

    column: str
    quotas: Literal["proportional", "equal"] = "proportional"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.quotas not in ("proportional", "equal"):
            raise ValueError(f"quotas must be 'proportional' or 'equal', got {self.quotas!r}")

    def needs(self) -> dict[str, Any]:
        """The column of the groups."""
        return {self.column: None}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The groups' rows, shuffled and dealt out in turns."""
        _, groups = np.unique(columns[self.column], return_inverse=True)
        share_out = proportional_order if self.quotas == "proportional" else equal_order
        order = budget.fitting(share_out(groups, rng.permutation(budget.pool)))
        return Picks(order, np.full(len(order), np.nan))

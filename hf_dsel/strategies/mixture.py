# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Mixture: random within the groups of a column, in the shares that you name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.ops.quotas import rank_within
from hf_dsel.strategies import Columns


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Keeps a random sample of each group of a column, in given shares.

    The rows of each group are shuffled; the r-th row of group g (from 0) comes in the order of (r + 1/2) / w_g, which
    is Webster's rule for sharing out k places by the weights w, so each group's share of the first k is its weight to
    within a row or so. A group that runs out leaves its places to the others, in their proportions. A group of weight
    0, or without a weight, gets no place while others have rows left.

    Args:
        column: numbers, text or labels; rows of one value form a group.
        weights: value → weight, at least 0; they need not sum to 1. The keys are compared as text, as YAML has them.

    Raises:
        ValueError: no weight above 0, a negative one, or one for a value that no row has.

    Source: survey, Section 4 (mixtures of sources); Balinski and Young 1982 for Webster's rule.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"task": ["code"] * 8 + ["chat"] * 4})
    >>> chosen = hf_dsel.select_by(pool, "mixture", k=4, column="task", weights={"chat": 3, "code": 1})
    >>> sorted(chosen["task"][:])
    ['chat', 'chat', 'chat', 'code']
    """

    column: str
    weights: Mapping[str, float]
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        values = list(self.weights.values())
        if not values or any(not 0 <= w < float("inf") for w in values) or not sum(values) > 0:
            raise ValueError(f"weights are numbers of at least 0, one of them above 0; got {dict(self.weights)}")

    def needs(self) -> dict[str, Any]:
        """The column of the groups."""
        return {self.column: None}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The groups' rows, shuffled and dealt out by weight."""
        values, groups = np.unique(columns[self.column], return_inverse=True)
        names = [as_text(value) for value in values]
        given = {str(name): weight for name, weight in self.weights.items()}
        foreign = sorted(set(given) - set(names))
        if foreign:
            raise ValueError(f"weights: no row has {foreign[0]!r} in the column {self.column!r}; there are {names}")
        weight = np.array([given.get(name, 0.0) for name in names])
        order = rng.permutation(budget.pool)
        with np.errstate(divide="ignore"):
            turn = (rank_within(groups, order) + 0.5) / weight[groups[order]]  # Webster's rule; infinite for weight 0
        order = budget.fitting(order[np.argsort(turn, kind="stable")])
        return Picks(order, np.full(len(order), np.nan))


def as_text(value: Any) -> str:
    """A group's value; whole numbers, which columns hold as floats, without their point.

    >>> as_text(3.0), as_text("code")
    ('3', 'code')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

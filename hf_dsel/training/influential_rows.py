# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rows drawn by their predicted effect, without replacement: exact Gumbel-top-k."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.strategies import Columns, vectors
from hf_dsel.training.influence_model import InfluenceModel


@dataclass(frozen=True)
class InfluentialRows:
    """Draws rows by their predicted effect, without replacement: P(next) ∝ exp(effect / scale) among those left.

    Args:
        embedding: the column that the model reads.
        model: vectors → effects.
        scale: in nats a token; 0 takes the largest effects, ties in random order.

    Source: Gumbel-top-k, Kool et al. 2019 (arXiv 1903.06059), Section 3: the k largest of effect/scale + Gumbel noise.
    """

    embedding: str
    model: InfluenceModel = field(repr=False)
    scale: float

    def needs(self) -> dict[str, Any]:
        """The embedding."""
        return {self.embedding: None}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The rows in the order in which they are drawn; gains are the predicted effects, nats a token."""
        effect = self.model(vectors(columns, self.embedding))
        order = budget.fitting(gumbel_order(effect, self.scale, rng))
        return Picks(order, effect[order])


def gumbel_order(scores: FloatArray, scale: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """All rows in the order of draws without replacement, each time with P ∝ exp(score / scale) among those left.

    Args:
        scores: (rows,).
        scale: 0 sorts them, largest first, ties in random order.
        rng: of the draws.

    >>> gumbel_order(np.array([0.0, 2.0, 1.0]), 0, np.random.default_rng(0))
    array([1, 2, 0])
    """
    noise = rng.gumbel(size=len(scores))
    if scale == 0:
        return np.lexsort((noise, -scores))
    return np.argsort(-(scores / scale + noise), kind="stable")  # s_i / scale + G_i, the largest first

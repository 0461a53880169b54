# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""kNN: the rows far from their nearest neighbour, times quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.ops.nearest_neighbours import neighbour_distances
from hf_dsel.scorers.deita import DeitaQuality
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Keeps the good rows that are unlike their nearest neighbour in the pool.

    s_i = (1 + d'_i) · (1 + q'_i)^γ, largest first, ties to the lower row, where d_i is the Euclidean distance of row i
    to its j-th nearest other row, q_i its quality, and d' and q' are scaled to [0, 1] over the rows (min-max; all 0
    where constant). Gains are the scores s; `selection_distance` is d. The first m rows are the choice for budget m.

    Each row is judged by the whole pool, not by what was kept. So of two copies both go last, and two rows that are
    near each other and far from the rest do too.

    Args:
        gamma: weight γ of the quality, at least 0. 0 is diversity alone (no quality column needed).
        neighbour: j. Larger values do not fall for small groups of copies.
        quality, embedding: the columns to read. Vectors are used as they are: of length 1 for cosine.

    Raises:
        ValueError: γ below 0, j below 1 or not below the number of rows.

    Source: InsBank (PIBE), Eq. 2 and the baseline kNN₁ of Section 4.1; γ = 1 and DEITA's quality, averaged over turns.
    Differs: the default embedder is all-mpnet-base-v2; the paper's is an instruction embedding (Li et al. 2024).

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "quality": [1.0, 2.0, 2.0], "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]})
    >>> hf_dsel.select_by(pool, "knn", k=2)["embedding"][:]
    [[0.0, 1.0], [1.0, 0.1]]
    """

    gamma: float = 1.0
    neighbour: int = 1
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        if self.neighbour < 1:
            raise ValueError(f"neighbour counts from 1, the nearest; got {self.neighbour}")

    def needs(self) -> dict[str, Any]:
        """An embedding, and a score unless γ is 0; the default score is the paper's."""
        return {self.embedding: Embed()} | quality_needed(self.quality, self.gamma)

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The largest scores."""
        distance = neighbour_distances(vectors(columns, self.embedding), neighbour=self.neighbour)  # Eq. 2
        score = 1 + min_max(distance)  # s_i = (1 + kNN_i) · (1 + s'_q,i)^γ
        if self.gamma > 0:
            score = score * (1 + min_max(numbers(columns, self.quality))) ** self.gamma
        order = budget.fitting(np.argsort(-score, kind="stable"))
        return Picks(order, score[order], {"distance": distance[order]})


def quality_needed(quality: str, gamma: float) -> dict[str, Any]:
    """The quality column and the scorer that can make it; nothing where γ is 0.

    Turns are averaged: over whole conversations InsBank's Table 1 has means of 2.3 to 4.2 on DEITA's scale from 1 to 6,
    ShareGPT's included. A sum would let the longest conversation set the scale of Eq. 8.
    """
    if gamma == 0:
        return {}
    return {quality: DeitaQuality(combine="mean") if quality == "quality" else None}


def min_max(values: FloatArray) -> FloatArray:
    """(v − min) / (max − min), in [0, 1]; 0 where all are equal.

    >>> min_max(np.array([1.0, 3.0, 2.0]))
    array([0. , 1. , 0.5])
    """
    low, high = values.min(), values.max()
    spread = high / 2 - low / 2  # halves do not overflow
    return (values / 2 - low / 2) / spread if spread > 0 else np.zeros(len(values))


def check_gamma(gamma: float) -> None:
    """Refuse what is no weight."""
    if not 0 <= gamma <= 1000:
        raise ValueError(
            f"gamma is the weight of the quality, at least 0; got {gamma} (at most 1000). PIBE "
            "uses 1; 0 is no quality, and from about 100 on nothing but quality counts"
        )

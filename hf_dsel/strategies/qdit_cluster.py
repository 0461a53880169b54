# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""QDIT:Cluster: the best rows of each cluster, the same number from each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.ops.k_means import k_means
from hf_dsel.ops.quotas import equal_order
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors


@dataclass(frozen=True, kw_only=True)
class QditCluster:
    """Keeps the same number of rows from each k-means cluster, the best by quality.

    The clusters take turns: first the best row of every cluster, then the second best of every cluster, and so on, and
    within a turn the better row comes first. So with k rows from c clusters each gives k // c, the remaining k mod c
    places go to the clusters whose next row is best, and a cluster that runs out leaves its turns to the others. Gains
    are the qualities; `selection_cluster` is the cluster's number.

    Args:
        clusters: number of clusters, at most the number of rows.
        quality, embedding: the columns to read. Embeddings are scaled to length 1 before clustering.

    Raises:
        ValueError: fewer than one cluster, or more clusters than distinct rows.

    Source: QDIT (Bukharin et al. 2024), Appendix H, QDIT:Cluster; 100 clusters there.
    Differs: the paper does not say what happens to remainders and small clusters.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "quality": [3.0, 2.0, 1.0], "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]})
    >>> hf_dsel.select_by(pool, "qdit_cluster", k=2, clusters=2)["quality"][:]
    [3.0, 1.0]
    """

    clusters: int = 100
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, got {self.clusters}; QDIT uses 100")

    def needs(self) -> dict[str, Any]:
        """A score and an embedding; the default embedder is the paper's."""
        return {self.quality: None, self.embedding: Embed()}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Cluster, then deal out by quality."""
        quality = numbers(columns, self.quality)
        rows = np.asarray(vectors(columns, self.embedding), np.float32)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        labels, _ = k_means(rows, self.clusters, rng=rng)
        order = budget.fitting(equal_order(labels, np.argsort(-quality, kind="stable")))
        return Picks(order, quality[order], {"cluster": labels[order].astype(np.float64)})

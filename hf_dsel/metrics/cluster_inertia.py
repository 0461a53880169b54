# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Cluster inertia: how far rows lie from the middle of their cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 8192  # rows in float64 at a time


def cluster_inertia(
    embeddings: npt.NDArray[Any], labels: npt.NDArray[np.int64], rows: npt.NDArray[np.int64] | None = None
) -> float:
    """The summed squared Euclidean distance of the rows of a set to the mean of their cluster.

    D(S) = Σ_j Σ_{x∈C_j} ‖x − μ_j‖², μ_j = 1/|C_j| · Σ_{x∈C_j} x. It grows with the number of rows: divide by it to
    compare sets of different size.

    Args:
        embeddings: rows x dim, float16, float32 or float64, used as they are.
        labels: whole numbers from 0, the cluster of each row of the set, in the order of the set.
        rows: int64, the set S; all rows when left out.

    Raises:
        ValueError: no rows, another number of labels than rows, or labels below 0.

    Source: survey, Eq. 29 (Du & Black 2019). `hf_dsel.ops.k_means` makes the clusters.

    >>> cluster_inertia(np.array([[0.0], [2.0], [9.0]]), np.array([0, 0, 1]))
    2.0
    """
    n = len(embeddings) if rows is None else len(rows)
    groups = np.asarray(labels)
    if len(groups) != n or n == 0:
        raise ValueError(f"there are {n} rows and {len(groups)} labels; each row needs one, and one row at least")
    if groups.min() < 0:
        raise ValueError(f"labels must be at least 0; the smallest is {groups.min()}")
    first = np.asarray(embeddings[0 if rows is None else rows[0]], np.float64)  # distances lose fewer digits from here
    _, place = np.unique(groups, return_inverse=True)
    sums, squares = np.zeros((int(place.max()) + 1, len(first))), 0.0
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        away = np.asarray(embeddings[part if rows is None else rows[part]], np.float64) - first
        order = np.argsort(place[part], kind="stable")
        there, starts = np.unique(place[part][order], return_index=True)
        sums[there] += np.add.reduceat(away[order], starts, axis=0)
        squares += float(np.einsum("ij,ij->", away, away))
    # Eq. 29: Σ_{x∈C_j} ‖x − μ_j‖² = Σ_{x∈C_j} ‖x‖² − ‖Σ_{x∈C_j} x‖² / |C_j|
    between = float((np.einsum("ij,ij->i", sums, sums) / np.bincount(place)).sum())
    return max(squares - between, 0.0)

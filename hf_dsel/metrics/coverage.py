# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Coverage: how well a subset stands for the whole pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.metrics.nearest import largest_cosine


def coverage(
    embeddings: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    seen_from: npt.NDArray[np.int64] | None = None,
) -> float:
    """How similar the rows of the pool are, on average, to the nearest row of the subset.

    C(A) = 1/N · Σ_v max_{a∈A} cos(a, v), in [-1, 1]; 1 when every row of the pool has a twin in the subset. It is
    QDIT's d(A) divided by the number of rows, so `qdit` with `alpha=0` maximises it greedily.

    Args:
        embeddings: rows x dim, the pool.
        rows: int64, the subset A, at least one row.
        seen_from: int64, the rows v to average over; all of them when left out. A random sample gives an estimate.

    Raises:
        ValueError: no row in the subset, or a vector that has no cosine.

    Source: QDIT (Bukharin et al. 2024), Eq. 1, divided by N.

    >>> pool = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    >>> coverage(pool, np.array([0]))
    0.5
    """
    if len(rows) == 0:
        raise ValueError("coverage of an empty subset is undefined; select at least one row")
    points = embeddings if seen_from is None else embeddings[seen_from]
    return float(largest_cosine(points, embeddings[rows]).mean())

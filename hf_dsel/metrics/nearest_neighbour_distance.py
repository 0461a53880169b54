# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Nearest-neighbour distance: how far apart the rows of a set lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.metrics.nearest import largest_cosine


def nearest_neighbour_distance(
    embeddings: npt.NDArray[Any],
    rows: npt.NDArray[np.int64] | None = None,
    *,
    seen_from: npt.NDArray[np.int64] | None = None,
) -> float:
    """The mean cosine distance of each row of a set to its nearest other row.

    D(A) = 1/|A| · Σ_{a∈A} min_{b∈A, b≠a} (1 − cos(a, b)), in [0, 2]; 0 when every row has a duplicate.

    Args:
        embeddings: rows x dim.
        rows: int64, the set A; all rows when left out.
        seen_from: int64, positions in A to average over; all when left out. A random sample gives an estimate.

    Raises:
        ValueError: fewer than two rows, where no neighbour exists, or a vector that has no cosine.

    Source: survey, Eq. 28, with the cosine distance.

    >>> nearest_neighbour_distance(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], np.float32))
    0.3333333333333333
    """
    return float(distances_to_nearest(embeddings, rows, seen_from=seen_from).mean())


def distances_to_nearest(
    embeddings: npt.NDArray[Any],
    rows: npt.NDArray[np.int64] | None = None,
    *,
    seen_from: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """The cosine distance of each row of a set to its nearest other row; arguments as above."""
    vectors = embeddings if rows is None else embeddings[rows]
    if len(vectors) < 2:
        raise ValueError(f"nearest-neighbour distance needs at least 2 rows, got {len(vectors)}")
    own = np.arange(len(vectors)) if seen_from is None else np.asarray(seen_from, np.int64)
    return np.asarray(1 - largest_cosine(vectors[own], vectors, skip=own), np.float64)

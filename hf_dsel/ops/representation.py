# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How well each row would represent the others: Eq. 7 of PIBE, by the cheapest exact way there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.nearest_neighbours import neighbour_distances
from hf_dsel.ops.sparse_affinity_propagation import sparse_affinity_propagation

Preference = float | Literal["median"]


def representation(
    embeddings: np.ndarray,
    *,
    preference: Preference = 0.0,
    neighbours: int | None = None,
    iterations: int = 200,
    damping: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The representation score of every row, from the messages of affinity propagation.

        s_k = Σ_i (A + R)[i, k] − Σ_i (A + R)[k, i] + (A + R)[k, k]                      Eq. 7

    **With a preference of 0 or more there is nothing to iterate.** No similarity is above 0, so no row prefers another
    to itself: no R[i, k] off the diagonal rises above 0, every A stays 0, R[i, k] → S[i, k] − p off the diagonal and
    R[k, k] → p + ‖x_k − x_{N_1(k)}‖. S is symmetric, the sums cancel, and what is left is s_k = p + the distance to the
    nearest neighbour. That is computed without any `n x n` array. The published setting is p = 0.

    Below 0 rows compete, and the messages are passed: over all pairs, or over the graph of nearest neighbours.

    Args:
        embeddings: `rows x dim`, at least two rows.
        preference: p, the diagonal of S: a number, or "median" for the median similarity.
        neighbours: pass messages along so many nearest neighbours alone (all others where there are fewer). None: among
            all pairs.
        iterations, damping: of the messages; not read where nothing is iterated.
        progress: called after each iteration with its number and the number of exemplars.

    Returns:
        float64, one a row.

    Raises:
        ValueError: an argument out of range, one row, or NaN or infinite embeddings.
        MemoryError: the messages of all pairs do not fit; the text says what does.

    Source: InsBank (PIBE), Eqs. 3 and 7, App. A.

    >>> representation(np.array([[0.0], [1.0], [4.0]]))
    array([1., 1., 3.])
    """
    check_preference(preference)
    if len(embeddings) < 2:
        raise ValueError("one row has no other to represent; give at least 2 rows")
    if preference != "median" and float(preference) >= 0:
        return neighbour_distances(embeddings) + float(preference)
    options: dict[str, Any] = {"iterations": iterations, "damping": damping, "progress": progress}
    options["preference"] = preference
    if neighbours is not None:
        most = len(embeddings) - 1
        return sparse_affinity_propagation(embeddings, neighbours=min(neighbours, most), **options).representation
    try:
        return affinity_propagation(embeddings, similarity="kept", **options).representation
    except MemoryError:
        pass
    try:
        return affinity_propagation(embeddings, similarity="recomputed", **options).representation
    except MemoryError as error:
        raise MemoryError(f"{error}. Or pass messages along the nearest neighbours alone: neighbours=64") from None


def check_preference(preference: Preference) -> None:
    """Refuse what cannot stand on the diagonal."""
    number = isinstance(preference, int | float) and not isinstance(preference, bool) and np.isfinite(preference)
    if not number and preference != "median":
        raise ValueError(f'preference is {preference!r}; expected a finite number, such as 0 as published, or "median"')

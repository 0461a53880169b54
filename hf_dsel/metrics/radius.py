# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Radius: how wide a set spreads along the axes of its embedding space."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 8192  # rows in float64 at a time
FLAT = 1e-6  # an axis whose deviation is below this share of the largest has none: what float16 and float32 leave over


class Radius(NamedTuple):
    """The radius, over how many axes it is taken, and how many axes were left out because nothing varies there."""

    radius: float
    axes: int
    flat_axes: int


def radius(embeddings: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None) -> Radius:
    """The geometric mean of the standard deviations of a set along the axes.

    D(S) = (Π_j σ_j)^(1/H), σ_j the sample standard deviation of coordinate j and H the number of axes that vary.

    Args:
        embeddings: rows x dim, float16, float32 or float64, used as they are: Euclidean.
        rows: int64, the set S; all rows when left out.

    Raises:
        ValueError: fewer than two rows, values that are NaN or infinite, or rows that are all alike.

    Source: survey, Eq. 30 (Lai et al. 2020).

    Differs: axes along which nothing varies (σ_j at most 1e-6 of the largest) are left out and counted; one of them
        would make the product 0 whatever the others say.

    >>> radius(np.array([[0.0, 0.0, 1.0], [4.0, 1.0, 1.0]]))
    Radius(radius=1.4142135623730951, axes=2, flat_axes=1)
    """
    n = len(embeddings) if rows is None else len(rows)
    if n < 2:
        raise ValueError(f"radius needs at least 2 rows, got {n}")
    first = np.asarray(embeddings[0 if rows is None else rows[0]], np.float64)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        away = np.asarray(embeddings[part if rows is None else rows[part]], np.float64) - first
        total += away.sum(0)
        squares += np.einsum("ij,ij->j", away, away)
    variance = (squares - total**2 / n) / (n - 1)
    if not np.isfinite(variance).all():
        raise ValueError("embeddings are NaN or infinite; embed these rows again or drop them")
    sigma = np.sqrt(variance.clip(0))
    varies = sigma > FLAT * sigma.max()
    if not varies.any():
        raise ValueError(f"all {n} rows are alike, so no axis varies; radius needs at least 2 different rows")
    wide = sigma[varies]
    return Radius(float(np.exp(np.log(wide).mean())), len(wide), len(sigma) - len(wide))  # Eq. 30

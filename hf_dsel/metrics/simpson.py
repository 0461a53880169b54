# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Simpson's index: how likely two rows of a set are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def simpson_index(counts: npt.NDArray[Any]) -> float:
    """The share of pairs of rows, a row with itself included, that fall into one group. Lower is more diverse.

    D(S) = 2 · Σ_{i≤j} 1(x_i = x_j) / (|S|·(|S| + 1)) = Σ_g n_g·(n_g + 1) / (|S|·(|S| + 1)), in [2 / (|S| + 1), 1].

    Args:
        counts: n_g, rows in each group; whole numbers.

    Raises:
        ValueError: counts below 0 or not whole, or no rows.

    Source: survey, Eq. 34, whose sum has the pairs i = j.

    >>> simpson_index(np.array([2, 1]))  # of 6 pairs, 3 of a row with itself and 1 of the first two
    0.6666666666666666
    """
    rows = np.asarray(counts)
    whole = np.asarray(np.nan_to_num(np.round(rows)), np.int64)
    if not (np.equal(whole, rows) & (whole >= 0)).all():
        raise ValueError("counts must be whole numbers of rows, at least 0; Simpson's index counts pairs")
    n = int(whole.sum())
    if n == 0:
        raise ValueError("all counts are 0; a set needs at least one row in a group")
    return sum(int(g) * (int(g) + 1) for g in whole) / (n * (n + 1))  # Eq. 34

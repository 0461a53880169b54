# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Shannon entropy of the groups that rows fall into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def entropy(counts: npt.NDArray[Any]) -> float:
    """How evenly a set is spread over groups, in bits.

    D(S) = −Σ_i p_i · log₂ p_i with p_i = counts_i / Σ counts, in [0, log₂ of the number of groups]; 0 when all rows are
    in one group.

    Args:
        counts: rows in each group, or any weights ≥ 0; empty groups add nothing.

    Raises:
        ValueError: see `shares`.

    Source: survey, Eq. 32.

    >>> entropy(np.array([5, 5, 5, 5]))
    2.0
    """
    p = shares(counts)
    return float(-(p * np.log2(p)).sum()) + 0.0  # Eq. 32; no −0


def shares(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The counts above 0, divided by their sum.

    Raises:
        ValueError: counts that are negative, NaN or infinite, or nothing but zeros.
    """
    weights = np.asarray(counts, np.float64).ravel()
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"counts must be finite and at least 0; got values from {weights.min()} to {weights.max()}")
    if not weights.any():
        raise ValueError("all counts are 0; a set needs at least one row in a group")
    weights = weights[weights > 0]
    return np.asarray(weights / weights.sum(), np.float64)

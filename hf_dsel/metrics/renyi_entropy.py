# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rényi entropy of the groups that rows fall into."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.metrics.entropy import entropy, shares


def renyi_entropy(counts: npt.NDArray[Any], *, order: float) -> float:
    """How evenly a set is spread over groups, in bits, with small groups counting more the lower the order.

    D_α(S) = 1/(1 − α) · log₂ Σ_i p_i^α with p_i = counts_i / Σ counts, in [0, log₂ of the number of groups]. It does
    not grow with α. The limits are entropy at α = 1 and −log₂ max p at α = ∞; α = 0 counts the groups in use.

    Args:
        counts: rows in each group, or any weights ≥ 0.
        order: α, at least 0, `math.inf` too.

    Raises:
        ValueError: an order below 0, or counts that `shares` refuses.

    Source: survey, Eq. 33 (there α > 0 and α ≠ 1).

    >>> round(renyi_entropy(np.array([3, 1]), order=2), 4)
    0.6781
    """
    if not order >= 0:
        raise ValueError(f"order is {order}; it must be at least 0 (1 is entropy, inf looks at the largest group)")
    p = shares(counts)
    if order == 1:
        return entropy(counts)
    if math.isinf(order):
        return float(-np.log2(p.max())) + 0.0
    peak = p.max()  # taken out of the sum, so that high orders do not underflow
    return float((np.log2(((p / peak) ** order).sum()) + order * np.log2(peak)) / (1 - order)) + 0.0  # Eq. 33

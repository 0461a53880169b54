# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The largest cosine of each vector to a set of others, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.unit_rows import true_float32, unit_rows

BLOCK_ELEMENTS = 1 << 24  # similarities held at a time: 64 MiB of float32

FloatArray = npt.NDArray[np.float64]


def largest_cosine(
    queries: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    *,
    skip: npt.NDArray[np.int64] | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> FloatArray:
    """For each query, the largest cosine to a key: max_j cos(q_i, k_j).

    Args:
        queries: rows x dim, float16 or float32; need not be normalised.
        keys: rows x dim, at least one row.
        skip: for each query the key that does not count (the query itself), or None.
        block_elements: similarities held at a time. The result does not depend on it.

    Returns:
        float64 (rows of `queries`), in [-1, 1].

    Raises:
        ValueError: a vector of zeros or with NaN, of which no cosine exists, or no key.

    >>> largest_cosine(np.eye(2, dtype=np.float32), np.array([[3.0, 0.0]], np.float32))
    array([1., 0.])
    """
    if len(keys) == 0:
        raise ValueError("no vectors to compare with; a cosine needs at least one on each side")
    unit_keys = unit_rows(keys)
    best = np.empty(len(queries), np.float64)
    step = max(1, block_elements // len(keys))
    with true_float32():
        for start in range(0, len(queries), step):
            similarity = unit_rows(queries[start : start + step]) @ unit_keys.T
            if skip is not None:
                own = torch.from_numpy(np.asarray(skip[start : start + step], np.int64)).to(similarity.device)
                similarity[torch.arange(len(own), device=own.device), own] = -torch.inf
            best[start : start + step] = similarity.max(dim=1).values.clamp_(-1, 1).cpu().numpy()
    return best

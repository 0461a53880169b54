# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The largest cosine of each vector to a set of others, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.unit_rows import true_float32, unit_rows

BLOCK_ELEMENTS = 1 << 24  # similarities held at a time: 64 MiB of float32
KEYS = 1 << 16  # keys normalised at a time, so that no second copy of a large pool is made

FloatArray = npt.NDArray[np.float64]


def largest_cosine(
    queries: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    *,
    skip: npt.NDArray[np.int64] | None = None,
    block_elements: int = BLOCK_ELEMENTS,
    key_block: int = KEYS,
) -> FloatArray:
    """For each query, the largest cosine to a key: max_j cos(q_i, k_j).

    Args:
        queries: rows x dim, float16 or float32; need not be normalised.
        keys: rows x dim, at least one row.
        skip: for each query the key that does not count (the query itself), or None.
        block_elements: similarities held at a time.
        key_block: keys normalised at a time. The result depends on neither.

    Returns:
        float64 (rows of `queries`), in [-1, 1].

    Raises:
        ValueError: a vector of zeros or with NaN, of which no cosine exists, or no key.

    >>> largest_cosine(np.eye(2, dtype=np.float32), np.array([[3.0, 0.0]], np.float32))
    array([1., 0.])
    """
    if len(keys) == 0:
        raise ValueError("no vectors to compare with; a cosine needs at least one on each side")
    own = None if skip is None else torch.from_numpy(np.asarray(skip, np.int64))
    best = torch.full((len(queries),), -torch.inf)
    with true_float32():
        for first in range(0, len(keys), key_block):
            try:
                unit_keys = unit_rows(keys[first : first + key_block])
            except ValueError as error:
                raise ValueError(f"of the rows from {first:,}: {error}" if first else str(error)) from error
            step = max(1, block_elements // len(unit_keys))
            for start in range(0, len(queries), step):
                part = slice(start, start + step)
                similarity = unit_rows(queries[part]) @ unit_keys.T
                if own is not None:
                    mine = own[part] - first
                    here = torch.nonzero((mine >= 0) & (mine < len(unit_keys))).view(-1)
                    similarity[here.to(similarity.device), mine[here].to(similarity.device)] = -torch.inf
                best[part] = torch.maximum(best[part], similarity.max(dim=1).values.cpu())
    return best.clamp(-1, 1).double().numpy()

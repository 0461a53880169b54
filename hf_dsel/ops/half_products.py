# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Where a row's largest cosine may lie, found with bfloat16 products: a few pairs are then worth computing exactly.

CPUs with AMX multiply bfloat16 matrices several times faster than float32 ones. Each product is off by a bounded amount
alone, so nothing is missed: what is left out could not have been the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

_ROUNDING = 2.0**-8  # bfloat16 has 8 significant bits: a number is off by at most this share of itself
_KEPT = 2048  # kept rows multiplied at a time
_DEAR = 256  # a pair computed alone costs about as much as this many pairs of a float32 product
_NONE = np.zeros(0, dtype=np.intp)

Likely = tuple[np.ndarray, npt.NDArray[np.intp], npt.NDArray[np.intp]]


def half_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware tiles (AMX) there. False where torch cannot tell."""
    amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and bool(amx())


def likely_largest(
    rows: torch.Tensor, kept: torch.Tensor, *, threshold: float, margin: float, space: torch.Tensor
) -> Likely | None:
    """Rows surely above the threshold, and for the others the pairs that may have their largest cosine.

    With u = 2⁻⁸, unit rows a, b and their roundings a', b':  |a'·b' − a·b| ≤ ‖a' − a‖‖b'‖ + ‖a‖‖b' − b‖ ≤ 2u + u²,
    and adding d products in float32 is off by less than d·2⁻²³. So with top = the largest rounded product of a row,
    s ≥ top·(1 − u) before rounding, and

        low = top·(1 − u) − 2u − u² − d·2⁻²³   ≤   max cos   ⇒   the pair of it has a product ≥ low − 2u − u² − d·2⁻²³

    Args:
        rows: `m x d`, unit rows in bfloat16.
        kept: `n x d`, the same; at least one.
        threshold: rows with `low > threshold + margin` are above it.
        margin: pairs this close below the largest cosine are found as well.
        space: bfloat16 memory of at least `m x 2048`, overwritten.

    Returns:
        (which rows are above, row numbers, kept numbers), or None where so many pairs are left, or the products are so
        small, that a float32 product costs less.
    """
    off = 2 * _ROUNDING + _ROUNDING**2 + rows.shape[1] * 2.0**-23 + 1e-6  # float32 rows are of unit length to 1e-7
    above = np.zeros(len(rows), dtype=bool)
    at = np.arange(len(rows))  # the rows still compared
    top = np.zeros(len(rows), dtype=np.int16)
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    cost = 0
    for start in range(0, len(kept), _KEPT):
        part = kept[start : start + _KEPT]
        product = torch.mm(part, rows.T, out=space[: len(part) * len(rows)].view(len(part), len(rows)))
        bits = product.view(torch.int16).numpy()  # positive numbers are in the order of their bits
        top[at] = np.maximum(top[at], bits.max(0))
        low = _floats(top[at]) * (1 - _ROUNDING) - off
        stays = low <= threshold + margin
        above[at[~stays]] = True
        if not stays.any():
            break
        least = np.where(stays, low - off - margin, math.inf)
        if least.min() <= 0:
            return None
        hit = np.flatnonzero(bits >= _bits(least))
        cost += len(hit) * _DEAR
        if cost > len(above) * len(kept):
            return None
        j, i = np.divmod(hit, len(rows))
        pairs.append((at[i], j + start, bits[j, i]))
        if stays.mean() < 0.9:  # else the copy costs more than it saves
            at, rows = at[stays], rows[torch.from_numpy(np.flatnonzero(stays))]
    if not pairs:
        return above, _NONE, _NONE
    i, j, value = (np.concatenate(side) for side in zip(*pairs, strict=True))
    still = ~above[i] & (value >= _bits(_floats(top) * (1 - _ROUNDING) - 2 * off - margin)[i])
    return above, i[still], j[still]


def _floats(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers from their bits."""
    return torch.from_numpy(bits).view(torch.bfloat16).float().numpy()


def _bits(numbers: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16 numbers: rounding keeps the order, so `a ≥ b` stays so."""
    return torch.from_numpy(numbers.astype(np.float32)).bfloat16().view(torch.int16).numpy()

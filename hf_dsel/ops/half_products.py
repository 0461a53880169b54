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
_KEPT = 2048  # kept rows multiplied at a time, or half as many: each new size costs a compilation
_CHUNKS = 8  # of them looked at together
_GROUP = 16  # kept rows of which only the largest product is compared at first
_DEAR = 256  # a pair computed alone costs about as much as this many pairs of a float32 product
_NONE = np.zeros(0, dtype=np.intp)

Likely = tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp], npt.NDArray[np.intp]]


def half_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware tiles (AMX) there. False where torch cannot tell."""
    amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and bool(amx())


class HalfRows:
    """The rows kept so far, in bfloat16. Of unit length; zeros fill the last product."""

    def __init__(self, dim: int) -> None:
        self._rows = torch.empty(_KEPT * _CHUNKS, dim, dtype=torch.bfloat16)  # pages are taken when they are written
        self._count = self._filled = 0
        self._space = torch.empty(0, dtype=torch.bfloat16)  # used again and again: fresh pages cost more than products

    def append(self, rows: torch.Tensor) -> None:
        """Add rows, `n x dim`."""
        first, self._count = self._count, self._count + len(rows)
        if self._count > len(self._rows):
            more = self._rows.new_empty(max(len(self._rows), -(-len(rows) // _KEPT) * _KEPT), self._rows.shape[1])
            self._rows = torch.cat([self._rows, more])
        self._rows[first : self._count] = rows
        if self._count > self._filled:
            self._filled = -(-self._count // (_KEPT // 2)) * (_KEPT // 2)
            self._rows[self._count : self._filled] = 0

    def likely_largest(self, rows: torch.Tensor, *, threshold: float, margin: float) -> Likely | None:
        """Rows surely above the threshold, and for the others the pairs that may have their largest cosine.

        With u = 2⁻⁸, unit rows a, b and their roundings a', b':  |a'·b' − a·b| ≤ ‖a' − a‖‖b'‖ + ‖a‖‖b' − b‖ ≤ 2u + u²,
        and adding d products in float32 is off by less than d·2⁻²³. So with top = the largest rounded product of a row,
        s ≥ top·(1 − u) before rounding, and

            low = top·(1 − u) − 2u − u² − d·2⁻²³   ≤   max cos   ⇒   its pair has a product ≥ low − 2u − u² − d·2⁻²³

        Args:
            rows: `m x dim`, unit rows; at least one row has been kept.
            threshold: rows with `low > threshold + margin` are above it.
            margin: pairs this close below the largest cosine are found as well.

        Returns:
            (which rows are above, row numbers, kept numbers), or None where so many pairs are left, or the products are
            so small, that a float32 product costs less.
        """
        m, off = len(rows), _off(rows.shape[1])
        half = rows.bfloat16().T
        above = torch.zeros(m, dtype=torch.bool)
        top = torch.zeros(m, dtype=torch.int16)
        pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        cost = 0
        for start in range(0, self._filled, _KEPT * _CHUNKS):
            bits = self._products(half, start).view(torch.int16)  # positive numbers are in the order of their bits
            groups = bits.view(-1, _GROUP, m)
            tops = groups.amax(1)
            top = torch.maximum(top, tops.amax(0))
            low = _floats(top) * (1 - _ROUNDING) - off
            above |= low > threshold + margin
            if above.all():
                break
            least = (low - off - margin).masked_fill_(above, math.inf)
            if float(least.min()) <= 0:
                return None
            floor = _bits(least)
            g, i = np.divmod(np.flatnonzero((tops >= floor).numpy()), m)
            cost += len(i) * _DEAR
            if cost > m * self._count:
                return None
            near = groups[torch.from_numpy(g), :, torch.from_numpy(i)].numpy()
            hit, j = np.nonzero(near >= floor.numpy()[i][:, None])
            pairs.append((i[hit], start + g[hit] * _GROUP + j, near[hit, j]))
        if not pairs:
            return above.numpy(), _NONE, _NONE
        i, j, value = (np.concatenate(side) for side in zip(*pairs, strict=True))
        floor = _bits((_floats(top) * (1 - _ROUNDING) - 2 * off - margin).masked_fill_(above, math.inf))
        still = value >= floor.numpy()[i]
        return above.numpy(), i[still], j[still]

    def _products(self, half: torch.Tensor, start: int) -> torch.Tensor:
        """`kept x rows` from a kept row on, some chunks of them."""
        stop, m = min(start + _KEPT * _CHUNKS, self._filled), half.shape[1]
        if len(self._space) < (stop - start) * m:
            self._space = torch.empty(_KEPT * _CHUNKS * m, dtype=torch.bfloat16)
        space = self._space[: (stop - start) * m].view(stop - start, m)
        for at in range(0, stop - start, _KEPT):
            torch.mm(self._rows[start + at : min(start + at + _KEPT, stop)], half, out=space[at : at + _KEPT])
        return space


def _off(dim: int) -> float:
    """How far a product of rounded unit rows may be off, before it is rounded itself: 2u + u² + d·2⁻²³."""
    return 2 * _ROUNDING + _ROUNDING**2 + dim * 2.0**-23 + 1e-6  # of unit length to 1e-7


def _floats(bits: torch.Tensor) -> torch.Tensor:
    """bfloat16 numbers from their bits."""
    return bits.view(torch.bfloat16).float()


def _bits(numbers: torch.Tensor) -> torch.Tensor:
    """The bits of the nearest bfloat16 numbers: rounding keeps the order, so `a ≥ b` stays so."""
    return numbers.bfloat16().view(torch.int16)

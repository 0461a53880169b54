# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Negative Euclidean distances of all pairs of rows: one half of the matrix kept, or all made again by blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

from hf_dsel.ops.unit_rows import rows_of

_CLOSE = 1e-4  # squared distances up to this share of the squared norms are computed again, from the difference


def block_rows(n: int, block: int | None, device: torch.device, *, kept: bool = True) -> int:
    """Rows handled at a time: as asked, else what fits caches; more where each block is a product."""
    if block is not None:
        return min(block, n)
    return min(
        n, 2048 if device.type == "cuda" else max(16, min(256, n // 64)) if kept else max(64, min(1024, n // 12))
    )


def kept_numbers(n: int, block: int) -> int:
    """How many numbers of S are kept: n²/2 and the rest of the tiles on the diagonal."""
    return sum(min(block, n - start) * (n - start) for start in range(0, n, block))


class NegativeDistances:
    """Rows of S from embeddings, or from `store`: the half right of the diagonal, of type `kept` (None: not stored).

    The store has a strip a block of rows, from number `strips[b]` on, and in it the strip's tiles from the diagonal to
    the right, each with its rows one after the other. In float16 it holds distances times `scale`, a power of two.
    While it is made, embeddings lie in `room` if they fit: what is freed to the allocator may stay with it.
    """

    def __init__(
        self, embeddings: np.ndarray | torch.Tensor, *, kept: torch.dtype | None, dtype: torch.dtype,
        device: torch.device, block: int | None, room: torch.Tensor,
    ) -> None:  # fmt: skip
        n = len(embeddings)
        self.n, self.block, self.preference = n, block_rows(n, block, device, kept=kept is not None), 0.0
        size, b = embeddings.shape[1] * n, self.block
        room = room.view(-1)[: room.numel() * room.itemsize // 8 * 8 // room.itemsize].view(dtype)
        if kept is None or len(room) < size + b * n:
            room = torch.empty(size + (0 if kept is None else b * n), dtype=dtype, device=device)
        self.points = room[:size].view(n, -1)
        for start in range(0, n, 512):
            rows = slice(start, start + 512)
            self.points[rows] = rows_of(embeddings, rows).to(device=device, dtype=dtype)
        parts = self.points.split(512)  # squares and float64 make copies
        mean = torch.stack([part.sum(0, dtype=torch.float64) for part in parts]).sum(0) / n
        self.points -= mean.to(dtype)  # distances lose fewer digits around 0
        self.squared = torch.cat([part.square().sum(1) for part in parts])
        self.store: torch.Tensor | None = None
        if kept is not None:
            self.scale = -1.0
            if kept == torch.float16:  # no two rows are farther apart than twice the longest is long
                self.scale = -(2.0 ** math.floor(math.log2(2**14 / max(float(self.squared.max()) ** 0.5, 1e-30))))
            starts = range(0, n, b)
            self.strips = np.cumsum([0, *(min(b, n - start) * (n - start) for start in starts[:-1])])
            self.store = self.points.new_empty(kept_numbers(n, b), dtype=kept)
            space = room[size : size + b * n]
            for here, start in enumerate(starts):
                height, width = min(b, n - start), n - start
                strip = self._distances(start, start, space[: height * width].view(height, width))
                if kept == torch.float16:
                    strip *= self.scale
                for j, part in enumerate(strip.split(b, 1)):
                    self._tile(here, here + j).copy_(part)
            room[: size + b * n] = 0
            self.points = self.points.new_empty(0, self.points.shape[1])

    def _tile(self, i: int, j: int) -> torch.Tensor:
        """Tile j ≥ i of strip i, as stored."""
        assert self.store is not None
        height, width = (min(self.block, self.n - at * self.block) for at in (i, j))
        start = int(self.strips[i]) + height * self.block * (j - i)
        return self.store[start : start + height * width].view(height, width)

    def _distances(self, first: int, column: int, out: torch.Tensor) -> torch.Tensor:
        """−‖x_i − x_k‖ for i from `first`, k from `column` ≤ `first` on, as many as `out` has place for."""
        left, right = self.points[first : first + len(out)], self.points[column:]
        left_squared, right_squared = self.squared[first : first + len(out)], self.squared[column:]
        torch.addmm(right_squared, left, right.T, alpha=-2, out=out)
        out += left_squared[:, None]
        itself = torch.arange(len(out), device=out.device)
        out[itself, itself + first - column] = torch.inf
        lowest = _CLOSE * (left_squared + right_squared.amax())
        for rows in (out.amin(1) <= lowest).nonzero().view(-1).split(32):
            i, k = (out[rows] <= _CLOSE * (left_squared[rows, None] + right_squared)).nonzero(as_tuple=True)
            for at in range(0, len(i), 1024):  # from the difference itself, where the product loses its digits
                a, b = rows[i[at : at + 1024]], k[at : at + 1024]
                out[a, b] = (left[a] - right[b]).square_().sum(1)
        out.sqrt_().neg_()
        out[itself, itself + first - column] = 0.0
        return out

    def rows(self, first: int, out: torch.Tensor) -> torch.Tensor:
        """Rows of S from `first` (the start of a block) on, in `out`."""
        if self.store is None:
            self._distances(first, 0, out)
        else:
            here = first // self.block
            for j, to in enumerate(out.split(self.block, 1)):
                to.copy_(self._tile(here, j) if j >= here else self._tile(j, here).T)
            if self.store.dtype == torch.float16:
                out /= self.scale
        itself = torch.arange(len(out), device=out.device)
        out[itself, first + itself] = self.preference
        return out

    def filler(self, loops: ModuleType, first: int, out: torch.Tensor) -> Callable[[int, int], None]:
        """The same on a CPU, some rows of `out` at a time: a function that several threads may call."""
        into = out.numpy()
        if self.store is None:
            torch.mm(self.points[first : first + len(out)], self.points.T, out=out)
            close = into.dtype.type(_CLOSE)
            made = self.points.numpy(), self.squared.numpy(), close

            def fill(low: int, high: int) -> None:
                loops.made_rows(into, first, low, high, *made)
        else:
            half = self.store.dtype == torch.float16
            stored = self.store.view(torch.int16).numpy() if half else self.store.numpy()
            target = into.view(np.int32) if half else into
            scale = into.dtype.type(2.0**112 / self.scale) if half else 1.0

            def fill(low: int, high: int) -> None:
                loops.kept_rows(stored, self.strips, self.block, first, low, high, target)
                if half:
                    loops.from_half(target[low:high], into[low:high], scale)

        def filled(low: int, high: int) -> None:
            fill(low, high)
            itself = np.arange(low, high)
            into[itself, first + itself] = self.preference

        return filled

    def median(self) -> float:
        """The median of S over all pairs of two rows, exactly: digit by digit of the numbers' bits."""
        pairs = self.n * (self.n - 1) // 2
        low = self._ranked((pairs - 1) // 2)
        return -(low if pairs % 2 else (low + self._ranked(pairs // 2)) / 2)

    def _ranked(self, rank: int) -> float:
        """The distance with so many smaller ones, by four or two counts of 16 bits each."""
        wide = self.points.dtype == torch.float64
        whole = torch.int64 if wide else torch.int32
        known = 0  # the leading digits found
        space = self.points.new_empty(self.block, self.n)
        for shift in range(48 if wide else 16, -1, -16):
            counts = torch.zeros(1 << 16, dtype=torch.int64, device=self.points.device)
            for start in range(0, self.n, self.block):
                tile = self.rows(start, space[: min(self.block, self.n - start)])[:, start:]
                for top in range(0, len(tile), 64):
                    part = tile[top : top + 64]
                    inside = torch.ones(part.shape, dtype=torch.bool, device=part.device).triu_(top + 1)
                    bits = part.abs()[inside].view(whole)
                    digits = (bits >> shift)[(bits >> shift >> 16) == known] & 0xFFFF
                    counts += torch.bincount(digits, minlength=1 << 16)
            total = counts.cumsum(0)
            digit = int(torch.searchsorted(total, rank, right=True))
            rank -= int(total[digit - 1]) if digit else 0
            known = (known << 16) | digit
        return float(torch.tensor(known, dtype=whole).view(self.points.dtype))

    def forget(self) -> None:
        """Give the memory back."""
        self.store, self.points = None, self.points.new_empty(0, 0)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Negative Euclidean distances of all pairs of rows, half of them kept or all made again block by block."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from hf_dsel.ops.unit_rows import rows_of

_CLOSE = 1e-4  # squared distances up to this share of the squared norms are computed again, from the difference


def block_rows(n: int, block: int | None, device: torch.device) -> int:
    """Rows handled at a time: as asked, else what fits caches."""
    if block is not None:
        return min(block, n)
    return min(n, 2048 if device.type == "cuda" else max(16, min(256, n // 64)))


class NegativeDistances:
    """Rows of S, from embeddings; where kept, the half right of the diagonal, one tensor a block of rows."""

    def __init__(
        self, embeddings: np.ndarray | torch.Tensor, *, kept: bool, dtype: torch.dtype, device: torch.device,
        block: int | None,
    ) -> None:  # fmt: skip
        n = len(embeddings)
        self.n, self.block, self.preference = n, block_rows(n, block, device), 0.0
        self.points = torch.empty(tuple(embeddings.shape), dtype=dtype, device=device)
        for start in range(0, n, 8192):
            rows = slice(start, start + 8192)
            self.points[rows] = rows_of(embeddings, rows).to(device=device, dtype=dtype)
        self.points -= self.points.mean(0, dtype=torch.float64).to(dtype)  # distances lose fewer digits around 0
        self.squared = self.points.square().sum(1)
        self.upper: list[tuple[torch.Tensor, ...]] = []  # by block of rows: its tiles, from the diagonal to the right
        if kept:
            space = self.points.new_empty(self.block * n)
            for start in range(0, n, self.block):
                height, width = min(self.block, n - start), n - start
                strip = self._distances(start, start, space[: height * width].view(height, width))
                parts, store = strip.split(self.block, 1), torch.empty_like(strip).view(-1)
                tiles = store.split([part.numel() for part in parts])
                self.upper.append(tuple(to.view(part.shape).copy_(part) for to, part in zip(tiles, parts, strict=True)))
            self.points = self.points.new_empty(0, self.points.shape[1])

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
            for at in range(0, len(i), 8192):  # from the difference itself, where the product loses its digits
                a, b = rows[i[at : at + 8192]], k[at : at + 8192]
                out[a, b] = (left[a] - right[b]).square_().sum(1)
        out.sqrt_().neg_()
        out[itself, itself + first - column] = 0.0
        return out

    def rows(
        self,
        first: int,
        out: torch.Tensor,
        *,
        turn: Callable[[np.ndarray, np.ndarray], None] | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> torch.Tensor:
        """Rows of S from `first` (the start of a block) on, in `out`. `turn` transposes on a CPU, by the pool."""
        if self.upper:
            here = first // self.block

            def some(job: int) -> None:
                for j in range(job, len(self.upper), jobs):
                    to = out[:, j * self.block : (j + 1) * self.block]
                    if j >= here:
                        to.copy_(self.upper[here][j - here])
                    elif turn is None:
                        to.copy_(self.upper[j][here - j].T)
                    else:
                        turn(self.upper[j][here - j].numpy(), to.numpy())

            jobs = 1 if pool is None else torch.get_num_threads()
            for _ in map(some, [0]) if pool is None else pool.map(some, range(jobs)):
                pass
        else:
            self._distances(first, 0, out)
        itself = torch.arange(len(out), device=out.device)
        out[itself, first + itself] = self.preference
        return out

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
        space = None if self.upper else self.points.new_empty(self.block, self.n)
        for shift in range(48 if wide else 16, -1, -16):
            counts = torch.zeros(1 << 16, dtype=torch.int64, device=self.points.device)
            for start in range(0, self.n, self.block):
                if space is None:
                    tile = torch.cat(self.upper[start // self.block], 1)
                else:
                    tile = self._distances(start, 0, space[: min(self.block, self.n - start)])[:, start:]
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
        self.upper, self.points = [], self.points.new_empty(0, 0)

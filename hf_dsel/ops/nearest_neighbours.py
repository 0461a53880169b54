# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The distance of every row to its j-th nearest other row, exact, at about the cost of one N×N×d product."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import blake2b

import numpy as np
import torch

from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of, true_float32

_ROWS = 8192  # rows converted at a time
_PAIRS = 1 << 21  # candidate pairs kept before they are decided


def neighbour_distances(
    embeddings: np.ndarray | torch.Tensor,
    *,
    neighbour: int = 1,
    device: str | torch.device | None = None,
    block: int | None = None,
) -> np.ndarray:
    """How far every row is from its j-th nearest other row.

        d_i = ‖x_i − x_{N_j(i)}‖

    Distances are Euclidean on the vectors as given: normalise them first for cosine. A row does not count as its own
    neighbour; its copies do. Each pair of rows is compared once, in float32, and whatever float32 cannot tell apart is
    decided in float64. It needs one float32 copy of the pool and no room for pairs of rows beyond blocks.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64.
        neighbour: j, from 1 to the number of rows − 1.
        device: default `cuda` if there is one, else the CPU.
        block: edge of the tiles, in rows. It changes the time alone. Default: 1024 on a CPU, 8192 on a GPU.

    Returns:
        float64, one distance a row.

    Raises:
        ValueError: an argument out of range, or embeddings that are NaN or infinite.

    Source: InsBank (PIBE), Eq. 2.

    >>> neighbour_distances(np.array([[0.0], [1.0], [4.0]]), device="cpu")
    array([1., 1., 3.])
    """
    check_floats(embeddings)
    n = len(embeddings)
    if not 1 <= neighbour < n:
        raise ValueError(f"neighbour is {neighbour}, and {n} rows have neighbours 1 to {n - 1}; lower it or add rows")
    if block is not None and block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 row")
    where = pick_device(device)
    points = rows_of(embeddings, slice(None)).to(where)
    copies, keys = _copies(points, neighbour)
    found = torch.zeros(n, dtype=torch.float64, device=where)
    found[keys] = _Search(points, keys, neighbour, block or (8192 if where.type == "cuda" else 1024)).distances()
    found[copies] = 0.0  # j copies of these rows are at distance 0
    return found.cpu().numpy()


def _copies(points: torch.Tensor, neighbour: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows with at least j exact copies, and the rows without those that no j nearest neighbours can need."""
    names = [
        blake2b(row, digest_size=16).digest()
        for part in points.split(_ROWS)
        for row in (part.double() + 0.0).cpu().numpy()  # −0 becomes 0
    ]
    many, met = Counter(names), Counter[bytes]()
    keys = []
    for row, name in enumerate(names):
        met[name] += 1
        if many[name] <= neighbour or met[name] <= neighbour:
            keys.append(row)
    copies = [row for row, name in enumerate(names) if many[name] > neighbour]
    return torch.tensor(copies, device=points.device).long(), torch.tensor(keys, device=points.device)


class _Search:
    """The j nearest of some rows among these rows."""

    def __init__(self, points: torch.Tensor, rows: torch.Tensor, neighbour: int, block: int) -> None:
        self.points, self.rows, self.block = points, rows, block
        self.j = min(neighbour, len(rows) - 1)
        mean = torch.stack([points[part].double().sum(0) for part in rows.split(_ROWS)]).sum(0) / len(rows)
        x = torch.empty(len(rows), points.shape[1], dtype=torch.float32, device=points.device)
        self.scale = max(float((points[part].double() - mean).abs().max()) for part in rows.split(_ROWS)) or 1.0
        for at, part in enumerate(rows.split(_ROWS)):
            x[at * _ROWS : at * _ROWS + len(part)] = ((points[part].double() - mean) / self.scale).float()
        self.x, self.size = x, x.square().sum(1)
        self.error = 8 * torch.finfo(torch.float32).eps * math.sqrt(x.shape[1])  # of a product, in squared lengths
        self.bound = torch.full((len(rows), self.j), torch.inf, device=points.device)  # the j smallest so far, float32
        self.best = torch.full((len(rows), self.j), torch.inf, dtype=torch.float64, device=points.device)
        self.pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []  # row, other, squared in float32

    def distances(self) -> torch.Tensor:
        """float64, one a row."""
        if self.j < 1:  # all rows are copies of one
            return torch.zeros(len(self.rows), dtype=torch.float64, device=self.points.device)
        step = self.block
        with true_float32():
            for i in range(0, len(self.x), step):
                for j in range(i, len(self.x), step):
                    left, right = slice(i, i + step), slice(j, j + step)
                    sizes = self.size[left, None] + self.size[right]
                    tile = torch.addmm(sizes, self.x[left], self.x[right].T, alpha=-2)  # ‖x − y‖²
                    if i == j:
                        tile.fill_diagonal_(torch.inf)
                    self._collect(tile, i, j)
                    if i != j:
                        self._collect(tile.T, j, i)
                if sum(len(pair[0]) for pair in self.pairs) > _PAIRS:
                    self._decide()
        self._decide()
        return self.best[:, -1].sqrt()

    def _collect(self, tile: torch.Tensor, i: int, j: int) -> None:
        """Keep the pairs that may be among the j nearest of the tile's rows."""
        part = slice(i, i + len(tile))
        if self.j == 1:
            bound = torch.minimum(self.bound[part], tile.amin(1, keepdim=True))
        else:
            least = tile.topk(min(self.j, tile.shape[1]), dim=1, largest=False).values
            bound = torch.cat([self.bound[part], least], 1).topk(self.j, dim=1, largest=False).values.sort(1).values
        self.bound[part] = bound
        row, other = (tile <= self._limit(part)[:, None]).nonzero(as_tuple=True)
        self.pairs.append((row + i, other + j, tile[row, other]))

    def _limit(self, part: slice | torch.Tensor) -> torch.Tensor:
        """A pair above this is farther than j others, whatever float32 has lost."""
        last = self.bound[part, -1]
        # of two rows this near, the squared lengths are at most s and 2 s + 2 d²
        return last + 2 * self.error * (3 * self.size[part] + 2 * last.clamp_min(0)) + 1e-36

    def _decide(self) -> None:
        """Compute the pairs kept in float64, by subtraction, and merge them into the best."""
        row, other, squared = (torch.cat(side) for side in zip(*self.pairs, strict=True))
        self.pairs = []
        kept = squared <= self._limit(row)
        row, other = row[kept], other[kept]
        exact = torch.empty(len(row), dtype=torch.float64, device=row.device)
        for some in torch.arange(len(row), device=row.device).split(max(1, (1 << 22) // self.x.shape[1])):
            left, right = self.points[self.rows[row[some]]].double(), self.points[self.rows[other[some]]].double()
            exact[some] = left.sub_(right).square_().sum(1)
        # rows in order, each with its distances in order: the place in the row is the place in `best`
        row = torch.cat([row, torch.arange(len(self.best), device=row.device).repeat_interleave(self.j)])
        exact = torch.cat([exact, self.best.view(-1)])
        order = exact.argsort(stable=True)
        order = order[row[order].argsort(stable=True)]
        row, exact = row[order], exact[order]
        starts = torch.searchsorted(row, torch.arange(len(self.best), device=row.device))
        place = torch.arange(len(row), device=row.device) - starts[row]
        kept = place < self.j
        self.best[row[kept], place[kept]] = exact[kept]

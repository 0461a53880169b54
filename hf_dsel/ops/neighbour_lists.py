# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The k nearest other rows of every row, with their distances, in tiles: no room for pairs of rows beyond the lists."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch

from hf_dsel.ops.compiled_loops import compiled_loops
from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of, true_float32

_ROWS = 8192  # rows converted at a time
_SPARE = 16  # without compiled loops: candidates beyond k that are put in order by subtraction


def neighbour_lists(
    embeddings: np.ndarray | torch.Tensor,
    *,
    neighbours: int,
    device: str | torch.device | None = None,
    block: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k other rows nearest to every row, nearest first.

        index[i, :k] = argsort_{j ≠ i} ‖x_i − x_j‖,  distance[i, :k] = those distances

    Embeddings are read as float32. Products in float32 find the candidates; their distances are computed from the
    difference, in float64. With numba on a CPU the lists are exact and each pair of rows is multiplied once. Elsewhere
    k + 16 candidates are kept by the float32 product, so only rows with more near ties than that may get another tie.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64, at least two rows.
        neighbours: k, at least 1; more than rows − 1 is taken as rows − 1.
        device: default `cuda` if there is one, else the CPU.
        block: edge of the tiles, in rows. It changes the time alone. Default: 1024 on a CPU, 8192 on a GPU.

    Returns:
        index, int32, and distance, float64, `rows x k`, on the device. Equal distances: the lower index first.

    Raises:
        ValueError: an argument out of range, or embeddings that are NaN or infinite.

    Source: the neighbours of InsBank (PIBE), Eq. 2.

    >>> index, distance = neighbour_lists(np.array([[0.0], [1.0], [4.0]]), neighbours=1, device="cpu")
    >>> index.view(-1).tolist(), distance.view(-1).tolist()
    ([1, 0, 1], [1.0, 1.0, 3.0])
    """
    check_floats(embeddings)
    n, where = len(embeddings), pick_device(device)
    if n < 2:
        raise ValueError("embeddings have 1 row, which has no neighbours; give at least 2")
    for name, value in (("neighbours", neighbours), ("block", block)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    k = min(neighbours, n - 1)
    step = list_block(n, block, where)
    points = rows_of(embeddings, slice(None)).to(device=where, dtype=torch.float32).contiguous()
    mean = torch.stack([part.double().sum(0) for part in points.split(_ROWS)]).sum(0) / n
    x = torch.empty_like(points)  # around 0 the products lose fewer digits
    for start in range(0, n, _ROWS):
        x[start : start + _ROWS] = (points[start : start + _ROWS].double() - mean).float()
    loops = _kernels(where)
    with true_float32():
        index, squared = _by_products(points, x, k, step) if loops is None else _compiled(loops, points, x, k, step)
    for start in range(0, n, _ROWS):  # nearest first, of equals the lower index
        rows = slice(start, start + _ROWS)
        by_index = index[rows].argsort(1)
        some = squared[rows].gather(1, by_index)
        order = some.argsort(dim=1, stable=True)
        squared[rows] = some.gather(1, order)
        index[rows] = index[rows].gather(1, by_index).gather(1, order)
    return index, squared.sqrt_()


def list_block(n: int, block: int | None, device: torch.device) -> int:
    """The edge of the tiles."""
    return min(n, block or (8192 if device.type == "cuda" else 1024))


def list_bytes(n: int, dim: int, *, neighbours: int, block: int | None, device: torch.device) -> int:
    """About how many bytes `neighbour_lists` allocates, the lists included."""
    k, b = min(neighbours, n - 1), list_block(n, block, device)
    spare = 0 if device.type == "cpu" else 12 * b * (k + _SPARE) * dim // 8
    return 2 * 4 * n * dim + 12 * n * k + 8 * n + 4 * b * b + 40 * min(n, _ROWS) * k + spare


def _compiled(
    loops: ModuleType, points: torch.Tensor, x: torch.Tensor, k: int, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index and squared distance, in no order: one half of the tiles, each for its rows and for its columns."""
    n, error = len(x), 16 * torch.finfo(torch.float32).eps * math.sqrt(x.shape[1])
    squared = x.square().sum(1)
    index = torch.full((n, k), n, dtype=torch.int32)
    nearest = torch.full((n, k), torch.inf, dtype=torch.float64)
    limit = torch.full((n,), torch.inf)
    space, threads = torch.empty(block * block), torch.get_num_threads()
    state = [points.numpy(), squared.numpy(), error, limit.numpy(), nearest.numpy(), index.numpy()]
    with ThreadPoolExecutor(threads) as pool:
        for i in range(0, n, block):
            for j in range(i, n, block):
                left, right = x[i : i + block], x[j : j + block]
                tile = space[: len(left) * len(right)].view(len(left), len(right))
                torch.addmm(squared[j : j + block], left, right.T, alpha=-2, out=tile)  # ‖x − y‖² − ‖x‖²
                for collect, size in ((loops.collect_rows, len(left)), (loops.collect_columns, len(right))):
                    if collect is loops.collect_columns and i == j:
                        continue
                    cuts = sorted({size * t // threads for t in range(threads + 1)})
                    jobs = [pool.submit(collect, tile.numpy(), i, j, low, high, *state) for low, high in pairwise(cuts)]
                    for job in jobs:
                        job.result()
    return index, nearest


def _by_products(points: torch.Tensor, x: torch.Tensor, k: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from all tiles, some candidates beyond k kept and put in order by subtraction."""
    n, kept = len(x), min(len(x) - 1, k + _SPARE)
    squared = x.square().sum(1)
    index = torch.empty(n, k, dtype=torch.int32, device=x.device)
    nearest = torch.empty(n, k, dtype=torch.float64, device=x.device)
    for i in range(0, n, block):
        left = x[i : i + block]
        best = left.new_full((len(left), kept), torch.inf)
        names = torch.full((len(left), kept), n, device=x.device)
        for j in range(0, n, block):
            tile = torch.addmm(squared[j : j + block], left, x[j : j + block].T, alpha=-2)
            if i == j:
                tile.fill_diagonal_(torch.inf)
            least, at = tile.topk(min(kept, tile.shape[1]), dim=1, largest=False)
            best, where = torch.cat([best, least], 1).topk(kept, dim=1, largest=False)
            names = torch.cat([names, at + j], 1).gather(1, where)
        names = names.sort(1).values
        exact = torch.empty(names.shape, dtype=torch.float64, device=x.device)
        step = max(1, (1 << 22) // (kept * x.shape[1]))
        for top in range(0, len(left), step):
            some = slice(i + top, min(i + top + step, i + len(left)))
            apart = points[some].double()[:, None] - points[names[top : top + step]].double()
            exact[top : top + step] = apart.square_().sum(2)
        order = exact.argsort(dim=1, stable=True)[:, :k]
        index[i : i + block] = names.gather(1, order).int()
        nearest[i : i + block] = exact.gather(1, order)
    return index, nearest


def _kernels(device: torch.device) -> ModuleType | None:
    """The compiled loops over tiles, or None."""
    return compiled_loops("neighbour_kernels", device)

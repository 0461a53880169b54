# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Greedy k-center: the row farthest from what was picked, again and again, at about the cost of one product."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of

Start = int | Literal["mean", "random"]

_EQUAL = 1e-10  # keys this close to the largest, relative, are equal
_CLOSE = 1e-4  # squared distances below this share of the squared lengths lose digits in a product: subtract first
_CELLS = 1 << 22  # numbers held at a time: 32 MiB of float64


def k_center(
    embeddings: np.ndarray | torch.Tensor,
    *,
    start: Start = 0,
    factor: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    device: str | torch.device | None = None,
    block: int | None = None,
    window: int = 512,
) -> Iterator[tuple[int, float | None]]:
    """Picks that keep the largest distance of a row to its nearest pick small.

        r_v = min_{a in A} ‖x_v − x_a‖,   next pick = argmax_{v not in A} r_v

    With `factor` the next pick is argmax (1 + r_v / R) · factor_v, where R = max_v r_v at this step. Distances are
    Euclidean on the vectors as given: normalise them first for cosine. Ties go to the lower row. It is an iterator:
    stop when the budget is spent. It needs no room for pairs of rows beyond blocks.

    Distances only fall as picks are added. So the largest ones, the window, are followed pick by pick, and the others
    are compared with many picks at a time, when one of them may be the next.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64. Distances are computed in float64.
        start: the first pick: a row number, `mean` (the row nearest to the mean of all) or `random`.
        factor: one number a row, above 0; default: none.
        rng: numpy generator; needed with `start="random"`, else unused.
        device: default `cuda` if there is one, else the CPU.
        block: rows compared with the picks at a time. It changes the time alone, as does `window`. Default: 512 on a
            CPU, 8192 on a GPU.
        window: rows followed pick by pick.

    Yields:
        (row, its distance r to the nearest earlier pick; None for the first). N of them at most. Without `factor`
        the distances do not grow.

    Raises:
        ValueError: an argument out of range, or embeddings that are NaN or infinite.

    Source: InsBank (PIBE), Appendix B, Algorithm 1; Sener & Savarese 2018.

    Differs: keys within 1e-10, relative, tie.

    >>> list(k_center(np.array([[0.0], [1.0], [4.0]]), device="cpu"))
    [(0, None), (2, 4.0), (1, 1.0)]
    """
    check_floats(embeddings)
    n = len(embeddings)
    for name, value in (("block", block), ("window", window)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1 row")
    worth = None if factor is None else np.array(factor, np.float64)
    if worth is not None and (worth.shape != (n,) or not (np.isfinite(worth) & (worth > 0)).all()):
        raise ValueError(f"factor has shape {worth.shape}; it must be a finite number above 0 for each of {n} rows")
    points = rows_of(embeddings, slice(None)).to(pick_device(device))
    block = block or (8192 if points.is_cuda else 512)
    mean = torch.stack([part.double().sum(0) for part in points.split(block)]).sum(0) / n
    first = _first(points, mean, start, rng, block)
    centre = mean.bfloat16().double()  # near the mean, and so short a number that no digit of a row is lost
    return _Greedy(points, centre, worth, block, window).picks(first)


def _first(points: torch.Tensor, mean: torch.Tensor, start: Start, rng: np.random.Generator | None, block: int) -> int:
    """The row that `start` names."""
    n = len(points)
    if start == "mean":
        away = torch.cat([(part.double() - mean).square_().sum(1) for part in points.split(block)])
        return int((away <= away.min() * (1 + _EQUAL)).nonzero()[0])
    if start == "random":
        if rng is None:
            raise ValueError("start='random' needs rng, a numpy Generator, e.g. rng=np.random.default_rng(42)")
        return int(rng.integers(n))
    if isinstance(start, bool) or not isinstance(start, int | np.integer) or not 0 <= start < n:
        raise ValueError(f"start is {start!r}; it is a row from 0 to {n - 1}, 'mean' or 'random'")
    return int(start)


class _Greedy:
    """The picks so far, and every row's squared distance to the nearest of those that it was compared with."""

    def __init__(
        self, points: torch.Tensor, centre: torch.Tensor, worth: np.ndarray | None, block: int, window: int
    ) -> None:
        n, where = len(points), points.device
        self.points, self.centre, self.block, self.window = points, centre, block, window
        self.worth = None if worth is None else torch.from_numpy(worth).to(where)
        self.nearest = torch.full((n,), torch.inf, dtype=torch.float64, device=where)
        self.open = torch.ones(n, dtype=torch.bool, device=where)  # not picked

    def picks(self, first: int) -> Iterator[tuple[int, float | None]]:
        """Algorithm 1."""
        yield first, None  # line 1: S = {x_0}
        new, done = [first], 1
        while done < len(self.points):
            self._compare(new)
            if self.nearest.max() == 0:
                yield from ((row, 0.0) for row in self._copies())
                return
            new = []
            for row, squared in self._run():
                new.append(row)
                yield row, math.sqrt(squared)
            done += len(new)

    def _centred(self, rows: list[int] | torch.Tensor | slice) -> torch.Tensor:
        return self.points[rows].double() - self.centre

    def _compare(self, picks: list[int]) -> None:
        """Compare every row with the new picks: min_{x_j in S} d(x_i, x_j) of line 3 is exact after it."""
        picked = self._centred(picks)
        squares = picked.square().sum(1)
        step = max(1, min(self.block, _CELLS // max(picked.shape)))
        for start in range(0, len(self.points), step):
            part = slice(start, start + step)
            x = self._centred(part)
            size = x.square().sum(1)
            least, which = torch.addmm(squares, x, picked.T, alpha=-2).min(1)  # ‖a‖² − 2 x·a
            least += size
            close = (least < _CLOSE * size).nonzero().view(-1)
            least[close] = (x[close] - picked[which[close]]).square_().sum(1)
            self.nearest[part] = torch.minimum(self.nearest[part], least)
        self.nearest[picks] = 0.0
        self.open[picks] = False

    def _copies(self) -> list[int]:
        """The rows left when all of them equal a pick."""
        rows = self.open.nonzero().view(-1)
        if self.worth is not None:  # the key is (1 + 0) · factor
            rows = rows[self.worth[rows].argsort(descending=True, stable=True)]
        return rows.tolist()

    def _run(self) -> Iterator[tuple[int, float]]:
        """The next picks and their squared distances, for as long as no row outside the window can come first."""
        far = self.nearest.masked_fill(~self.open, -torch.inf)
        radius = float(far.max())
        key = far if self.worth is None else (1 + (far / radius).sqrt()) * self.worth
        key = key.masked_fill(~self.open, -torch.inf)
        leader = (key >= key.max() * (1 - _EQUAL)).nonzero()[0]
        most = min(self.window, len(key))
        rows = torch.cat([leader, far.topk(most).indices, key.topk(most).indices]).unique()
        rows = rows[self.open[rows]]
        far, key = far.index_fill(0, rows, -torch.inf), key.index_fill(0, rows, -torch.inf)
        far_outside, key_outside = float(far.max()), float(key.max())
        pairs = _squared(self._centred(rows)).cpu().numpy()
        nearest = self.nearest[rows].cpu().numpy()
        worth = None if self.worth is None else self.worth[rows].cpu().numpy()
        names = rows.tolist()
        at = names.index(int(leader))
        while True:
            yield names[at], float(nearest[at])
            nearest = np.minimum(nearest, pairs[at])
            nearest[at] = -np.inf  # line 4: S = S ∪ {u}
            largest = nearest.max()
            if largest <= 0 or largest < far_outside:  # R itself may be outside
                return
            inside, outside = nearest, key_outside
            if worth is not None:
                inside = np.where(nearest >= 0, (1 + np.sqrt(np.maximum(nearest, 0) / largest)) * worth, -np.inf)
                outside = key_outside * math.sqrt(radius / largest)  # 1 + r / R ≤ (1 + r / R₀) · R₀ / R
            best = inside.max() * (1 - _EQUAL)
            if best <= outside * (1 + _EQUAL):
                return
            at = int(np.flatnonzero(inside >= best)[0])


def _squared(x: torch.Tensor) -> torch.Tensor:
    """‖x_i − x_j‖² of all pairs of these few rows."""
    size = x.square().sum(1)
    sizes = size[:, None] + size
    squared = torch.addmm(sizes, x, x.T, alpha=-2)
    i, j = (squared < _CLOSE * sizes).nonzero(as_tuple=True)
    for some in torch.arange(len(i), device=x.device).split(max(1, _CELLS // x.shape[1])):
        squared[i[some], j[some]] = (x[i[some]] - x[j[some]]).square_().sum(1)
    return squared

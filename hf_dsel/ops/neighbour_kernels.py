# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Tiles of products → lists of nearest rows, compiled for CPUs by numba; the loops of `neighbour_lists.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any
CHUNK = 64  # entries of a tile that are passed over together where none is near enough


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract", "reassoc"})
def collect_rows(
    tile: Array, first: int, column: int, low: int, high: int, points: Array, squared: Array, error: float,
    limit: Array, nearest: Array, index: Array,
) -> None:  # fmt: skip
    """Put the tile's columns into the lists of its rows `low` to `high`; rows are from `first`, columns from `column`.

    `tile[r, c] = squared[column + c] − 2 x·y` in float32; a pair that may be near enough is computed by subtraction.
    """
    width = tile.shape[1]
    for r in range(low, high):
        i = first + r
        line = tile[r]
        for start in range(0, width, CHUNK):
            part = line[start : start + CHUNK]
            bound = limit[i] - squared[i]
            least = part[0]
            for c in range(1, len(part)):
                least = min(least, part[c])
            if least > bound:
                continue
            for c in range(len(part)):
                j = column + start + c
                if part[c] <= limit[i] - squared[i] and j != i:
                    _offer(i, j, points, squared, error, limit, nearest, index)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract", "reassoc"})
def collect_columns(
    tile: Array, first: int, column: int, low: int, high: int, points: Array, squared: Array, error: float,
    limit: Array, nearest: Array, index: Array,
) -> None:  # fmt: skip
    """The same for the lists of the tile's columns `low` to `high`."""
    for r in range(tile.shape[0]):
        i, size = first + r, squared[first + r]
        for start in range(low, high, CHUNK):
            stop = min(start + CHUNK, high)
            part, bounds = tile[r, start:stop], limit[column + start : column + stop]
            least = part[0] - bounds[0]
            for c in range(1, len(part)):
                least = min(least, part[c] - bounds[c])
            if least > -size:
                continue
            for c in range(len(part)):
                if part[c] + size <= bounds[c]:
                    _offer(column + start + c, i, points, squared, error, limit, nearest, index)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract", "reassoc"})
def _offer(
    i: int, j: int, points: Array, squared: Array, error: float, limit: Array, nearest: Array, index: Array
) -> None:  # fmt: skip
    """Take row j into the list of row i where it is nearer than the farthest there; equally near, the lower index."""
    x, y = points[i], points[j]
    exact = 0.0
    for t in range(len(x)):
        apart = np.float64(x[t]) - np.float64(y[t])
        exact += apart * apart
    heap, names = nearest[i], index[i]
    if exact > heap[0] or (exact == heap[0] and j > names[0]):
        return
    size, at = len(heap), 0
    while True:  # down the heap, whose first is the farthest
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and (
            heap[child + 1] > heap[child] or (heap[child + 1] == heap[child] and names[child + 1] > names[child])
        ):
            child += 1
        if heap[child] < exact or (heap[child] == exact and names[child] < j):
            break
        heap[at], names[at] = heap[child], names[child]
        at = child
    heap[at], names[at] = exact, j
    last = heap[0]
    if last < np.inf:  # of two rows this near, the squared lengths are at most s and 2 s + 2 d²
        limit[i] = np.float32(last + error * (3 * squared[i] + 2 * last) + 1e-36)

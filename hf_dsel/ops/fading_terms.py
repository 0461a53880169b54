# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Exact greedy for rows whose terms count for less the more picks have them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hf_dsel.ops.tf_idf import Weighted

FloatArray = npt.NDArray[np.float64]


def fading_terms(rows: Weighted, worth: FloatArray, decay: float) -> Iterator[tuple[int, float]]:
    """Picks, each the row with the largest worth · Σ_t w_it · decay^(picks so far that have t).

    Ties go to the lower row. Gains never grow while rows are picked, so a row's last one is a bound: only the rows at
    the top of the bounds are computed again (Minoux 1978). The sum over a row's terms is always taken in the same order
    and rounding keeps order, so the picks are those of the loop that computes all gains at every step, bit for bit.
    A term that only one row has never fades before that row is picked: these are summed once.

    Args:
        rows: terms and their weights, at least 0.
        worth: one number a row, at least 0.
        decay: in [0, 1].

    Yields:
        (row, gain), every row once; stop when there are enough.

    Raises:
        ValueError: negative, infinite or missing worth, or a decay out of range.

    >>> from hf_dsel.ops.tf_idf import tf_idf
    >>> terms = tf_idf([np.array([1, 2], np.uint64), np.array([1, 2], np.uint64), np.array([3], np.uint64)])
    >>> [(row, round(gain, 3)) for row, gain in fading_terms(terms, np.ones(3), 0.1)]
    [(0, 1.414), (2, 1.0), (1, 0.141)]
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay={decay}; it is in [0, 1]: 1 lets no term fade")
    bad = np.flatnonzero(~(np.isfinite(worth) & (worth >= 0)))
    if len(bad):
        raise ValueError(f"worth is a number of at least 0; row {bad[0]} of {len(worth)} has {worth[bad[0]]}")
    n = len(worth)
    row = np.repeat(np.arange(n), np.diff(rows.starts))
    shared = rows.rows_with[rows.terms] > 1
    own = np.bincount(row[~shared], rows.weights[~shared], minlength=n)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[shared], minlength=n))]).tolist()
    terms, weights = rows.terms[shared], rows.weights[shared]
    left = np.ones(len(rows.rows_with))

    def gain(i: int) -> float:
        at = slice(starts[i], starts[i + 1])
        return float(worth[i] * (own[i] + (weights[at] * left[terms[at]]).sum()))

    bounds = [(-gain(i), i) for i in range(n)]
    heapq.heapify(bounds)
    computed = np.zeros(n, np.int64)  # how many picks a row's bound knows of
    for picked in range(n):
        while computed[bounds[0][1]] < picked:
            i = bounds[0][1]
            computed[i] = picked
            heapq.heapreplace(bounds, (-gain(i), i))
        best, i = heapq.heappop(bounds)
        left[terms[starts[i] : starts[i + 1]]] *= decay
        yield i, -best

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The row pass of `affinity_propagation.py`, compiled for CPUs by numba. Without numba torch does the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any
LANES = 256  # columns compared side by side: the two largest are kept for each lane, which a compiler vectorises


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract"})
def update_rows(
    r: Array,
    s: Array,
    h: Array,
    first: int,
    ceiling: Array,
    floor: Array,
    own: Array,
    keep: float,
    fresh: float,
    alpha: float,
    column: Array,
    diagonal: Array,
    bits: Array,
) -> None:
    """One iteration for some rows of R, in place; adds their max(0, R) to `column`, without the diagonal.

    `r`, `s`, `h` are those rows of R, S and H (`h` is not read where alpha is 0); `first` is the first one's number.
    `bits` are those of `r` where it is to be rounded to bfloat16, else it has no rows.
    A[i, k] = min(floor[k], ceiling[k] − R[i, k]), and own[i] on the diagonal. `ceiling` and `floor` are changed for a
    moment: each thread brings its own.
    """
    n = r.shape[1]
    evidence = np.empty(n, r.dtype)
    top, second = np.empty(LANES, r.dtype), np.empty(LANES, r.dtype)
    zero = fresh - fresh
    for row in range(len(r)):
        i, x, near, past = first + row, r[row], s[row], h[row]
        ceiling_i, floor_i, column_i = ceiling[i], floor[i], column[i]
        ceiling[i], floor[i] = np.inf, own[i]
        for k in range(n):
            evidence[k] = min(ceiling[k] - x[k], floor[k]) + near[k]
        ceiling[i], floor[i] = ceiling_i, floor_i
        top[:], second[:] = -np.inf, -np.inf
        whole = n - n % LANES
        for start in range(0, whole, LANES):
            part = evidence[start : start + LANES]
            for lane in range(LANES):
                second[lane] = max(second[lane], min(top[lane], part[lane]))
                top[lane] = max(top[lane], part[lane])
        for lane in range(n - whole):
            value = evidence[whole + lane]
            second[lane] = max(second[lane], min(top[lane], value))
            top[lane] = max(top[lane], value)
        most, next_most = top[0], second[0]
        for lane in range(1, LANES):
            next_most = max(next_most, second[lane], min(most, top[lane]))
            most = max(most, top[lane])
        for k in range(n):  # Eq. 3: the largest of the others is the second where k itself is the largest
            other = next_most if evidence[k] == most else most
            x[k] = keep * x[k] + fresh * (near[k] - other)
        if alpha > 0:
            for k in range(n):  # Eq. 6
                x[k] += alpha * (past[k] - x[k])
        if len(bits):
            word = bits[row]
            for k in range(n):  # to the nearest bfloat16, of two to the even one
                word[k] = (word[k] + 0x7FFF + ((word[k] >> 16) & 1)) & ~0xFFFF
        diagonal[i] = x[i]
        for k in range(n):
            column[k] += max(x[k], zero)
        column[i] = column_i


@njit(nogil=True, cache=True)
def kept_rows(store: Array, strips: Array, block: int, first: int, low: int, high: int, out: Array) -> None:
    """out = rows `low` to `high` of S, counted from `first`, out of the tiles kept (`NegativeDistances.tiles`)."""
    n, here = out.shape[1], first // block
    height = min(block, n - first)
    for j in range(here, len(strips)):  # right of the diagonal
        left, width = j * block, min(block, n - j * block)
        at = strips[here] + height * block * (j - here)
        for i in range(low, high):
            out[i, left : left + width] = store[at + i * width : at + (i + 1) * width]
    for j in range(here):  # left of it: a tile turned, in squares of 16 that stay in the nearest cache
        left, at = j * block, strips[j] + block * block * (here - j)
        for top in range(0, block, 16):
            for start in range(low, high, 16):
                for i in range(start, min(high, start + 16)):
                    for k in range(top, min(block, top + 16)):
                        out[i, left + k] = store[at + k * height + i]


@njit(nogil=True, cache=True)
def from_half(bits: Array, out: Array, scale: float) -> None:
    """`out`, whose bits are the integers of half precision numbers → those numbers times scale / 2^112."""
    for i in range(len(out)):
        for k in range(out.shape[1]):
            bits[i, k] <<= 13
        for k in range(out.shape[1]):
            out[i, k] *= scale


@njit(nogil=True, cache=True)
def widen(short: Array, bits: Array) -> None:
    """bfloat16 → float32."""
    for i in range(len(short)):
        for k in range(short.shape[1]):
            bits[i, k] = np.int32(short[i, k]) << 16


@njit(nogil=True, cache=True)
def narrow(bits: Array, short: Array) -> None:
    """float32 that are bfloat16 → bfloat16."""
    for i in range(len(short)):
        for k in range(short.shape[1]):
            short[i, k] = np.int16(bits[i, k] >> 16)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract", "reassoc"})
def made_rows(out: Array, first: int, low: int, high: int, points: Array, squared: Array, close: float) -> None:
    """`out`, rows x·y from `first` on → −‖x − y‖ in its rows `low` to `high`; close pairs from the difference."""
    n, zero = out.shape[1], close - close
    lowest = np.empty(LANES, out.dtype)
    for i in range(low, high):
        line, mine, size = out[i], points[first + i], squared[first + i]
        line[first + i] = -np.inf
        lowest[:] = np.inf
        for start in range(0, n, LANES):
            part, sizes = line[start : start + LANES], squared[start : start + LANES]
            for k in range(len(part)):
                part[k] = max(size + sizes[k] - (part[k] + part[k]), zero)
            for k in range(len(part)):
                lowest[k] = min(lowest[k], part[k] - close * sizes[k])
            for k in range(len(part)):
                part[k] = -np.sqrt(part[k])
        if lowest.min() <= close * size:
            for k in range(n):
                if line[k] * line[k] <= (close + close) * (size + squared[k]):
                    theirs, total = points[k], zero
                    for d in range(len(mine)):
                        total += (mine[d] - theirs[d]) ** 2
                    line[k] = -np.sqrt(total)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "contract"})
def update_edges(
    starts: Array,
    others: Array,
    r: Array,
    s: Array,
    low: int,
    high: int,
    ceiling: Array,
    floor: Array,
    own: Array,
    preference: float,
    keep: float,
    fresh: float,
    column: Array,
    diagonal: Array,
    most: Array,
) -> None:
    """The same for rows `low` to `high` where R and S are known on edges: row i's are `starts[i]` to `starts[i + 1]`.

    `others` are the columns of the edges, `diagonal` holds R[k, k], `most` gets max_k (A + S)[i, k].
    """
    zero = fresh - fresh
    for i in range(low, high):
        begin, end = starts[i], starts[i + 1]
        itself = own[i] + preference
        top, second, at = itself, fresh - np.inf, -1
        for e in range(begin, end):
            k = others[e]
            value = min(ceiling[k] - r[e], floor[k]) + s[e]
            if value > top:
                top, second, at = value, top, e
            elif value > second:
                second = value
        most[i] = top
        for e in range(begin, end):  # Eq. 3
            r[e] = keep * r[e] + fresh * (s[e] - top)
            column[others[e]] += max(r[e], zero)
        if at < 0:
            diagonal[i] = keep * diagonal[i] + fresh * (preference - second)
        else:
            diagonal[i] = keep * diagonal[i] + fresh * (preference - top)
            k, old = others[at], r[at]
            r[at] = old + fresh * (top - second)
            column[k] += max(r[at], zero) - max(old, zero)

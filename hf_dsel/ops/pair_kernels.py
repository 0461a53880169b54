# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The loops of `uncovered_pairs.py`, compiled for CPUs by numba. Without numba torch does the same in more passes.

All arrays are contiguous numpy arrays. A tile holds the similarities of rows i (its rows) with rows j (its columns),
where m_i ≤ m_j. Its pairs go to lists of v = i with a = j, and, off the diagonal, to lists of v = j with a = i.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any


@njit(nogil=True, cache=True)
def count(tile: Array, limit_i: Array, limit_j: Array, off_diagonal: bool, count_i: Array, count_j: Array) -> None:
    """How long each list gets: count_i[i] = #{j: tile > limit_i}, count_j[j] = #{i: tile > limit_j}."""
    height, width = tile.shape
    for i in range(height):
        row, least, n = tile[i], limit_i[i], 0
        for j in range(width):
            n += row[j] > least
        count_i[i] = n
        if off_diagonal and n:
            for j in range(width):
                count_j[j] += row[j] > limit_j[j]


@njit(nogil=True, cache=True)
def store(
    tile: Array,
    limit_i: Array,
    limit_j: Array,
    cover_i: Array,
    cover_j: Array,
    off_diagonal: bool,
    at_i: Array,
    at_j: Array,
    i0: int,
    j0: int,
    partner: Array,
    similarity: Array,
    gain_i: Array,
    gain_j: Array,
) -> None:
    """Write the pairs to their places (`at_i`, `at_j`: where each list begins) and add their excess to the gains."""
    height, width = tile.shape
    hits = np.empty(width + 1, np.int32)
    for i in range(height):
        row, least, m_i = tile[i], limit_i[i], np.float64(cover_i[i])
        n = 0
        for j in range(width):  # no branch: a hit is as hard to foresee as it is rare
            hits[n] = j
            n += row[j] > least
        at, total = at_i[i], 0.0
        for h in range(n):
            j = hits[h]
            s = row[j]
            partner[at + h] = j0 + j
            similarity[at + h] = s
            gain_j[j] += np.float64(s) - m_i
            if off_diagonal and s > limit_j[j]:
                to = at_j[j]
                at_j[j] = to + 1
                partner[to] = i0 + i
                similarity[to] = s
                total += np.float64(s) - np.float64(cover_j[j])
        gain_i[i] += total


@njit(nogil=True, cache=True)
def lower(
    its_v: Array,
    its_similarity: Array,
    cover: Array,
    slack: float,
    start: Array,
    length: Array,
    partner: Array,
    similarity: Array,
    gains: Array,
) -> int:
    """m_v ← max(m_v, cos(pick, v)); gains lose min(cos, new m_v) − old m_v on each pair. How many were looked at."""
    walked = 0
    for k in range(len(its_v)):
        v, high = its_v[k], its_similarity[k]
        low = cover[v]
        if not high > low + slack:
            continue
        cover[v] = high
        walked += length[v]
        for at in range(start[v], start[v] + length[v]):
            s = similarity[at]
            if s > low + slack:  # the others were covered before
                still = high if s > high + slack else s
                gains[partner[at]] -= np.float64(still) - np.float64(low)
    return walked


@njit(nogil=True, cache=True)
def turn(
    start: Array, length: Array, partner: Array, similarity: Array, begin: Array, v_of: Array, similarity_of: Array
) -> None:
    """The same pairs listed by a: those of a lie from begin[a] to begin[a + 1]. `begin` is given as zeros."""
    for v in range(len(start)):
        for block in range(start.shape[1]):
            for at in range(start[v, block], start[v, block] + length[v, block]):
                begin[partner[at] + 1] += 1
    for a in range(len(begin) - 1):
        begin[a + 1] += begin[a]
    to = begin[:-1].copy()
    for block in range(start.shape[1]):  # the a of one block at a time: the ends of their lists fit the cache
        for v in range(len(start)):
            for at in range(start[v, block], start[v, block] + length[v, block]):
                a = partner[at]
                v_of[to[a]], similarity_of[to[a]] = v, similarity[at]
                to[a] += 1


@njit(nogil=True, cache=True)
def choose(gain: Array, modular: Array, weight: float, row: Array, tie: float) -> tuple[int, float]:
    """Where weight · gain + modular is largest, and its value; values within the tie go to the lowest row."""
    top, most = 0, -np.inf
    for p in range(len(gain)):
        score = modular[p] + weight * gain[p]
        if score > most:
            top, most = p, score
    floor = most - tie * weight * max(1.0, abs(gain[top]))
    best = top
    for p in range(len(gain)):
        if modular[p] + weight * gain[p] >= floor and row[p] < row[best]:
            best = p
    return best, modular[best] + weight * gain[best]


@njit(nogil=True, cache=True)
def join(
    start: Array, length: Array, partner: Array, similarity: Array, new_partner: Array, new_similarity: Array
) -> None:
    """Copy the lists so that all parts of a list lie side by side; they become its one part."""
    write = 0
    for v in range(len(start)):
        begin = write
        for block in range(start.shape[1]):
            for at in range(start[v, block], start[v, block] + length[v, block]):
                new_partner[write], new_similarity[write] = partner[at], similarity[at]
                write += 1
        start[v, 0], length[v, 0] = begin, write - begin


@njit(nogil=True, cache=True)
def pack(
    read: int,
    write: int,
    cover: Array,
    slack: float,
    start: Array,
    length: Array,
    partner: Array,
    similarity: Array,
    gains: Array,
) -> int:
    """Move one run of lists from `read` to `write`, without the pairs that are covered. Where the run ends now."""
    for v in range(len(cover)):
        m = np.float64(cover[v])
        limit, begin = np.float32(cover[v] + slack), write
        for at in range(read, read + length[v]):
            s, a = similarity[at], partner[at]
            alive = s > limit
            similarity[write], partner[write] = s, a  # write ≤ at
            gains[a] += np.float64(s) - m if alive else 0.0
            write += alive
        read += length[v]
        start[v], length[v] = begin, write - begin
    return write

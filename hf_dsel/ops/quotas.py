# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Sharing out picks among groups, so that every prefix of the order is a fair share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def rank_within(groups: IntArray, order: IntArray) -> IntArray:
    """For each element of `order`, how many earlier elements belong to its group.

    >>> rank_within(np.array([0, 1, 0]), np.array([2, 1, 0]))
    array([0, 0, 1])
    """
    of_each = groups[order]
    by_group = np.argsort(of_each, kind="stable")
    ordered = of_each[by_group]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, len(ordered)])
    ranks = np.empty(len(order), np.int64)
    ranks[by_group] = np.arange(len(order)) - np.repeat(starts, lengths)
    return ranks


def equal_order(groups: IntArray, order: IntArray) -> IntArray:
    """Rearrange `order` so that the groups take turns; within a turn the earlier element of `order` comes first.

    >>> equal_order(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3]))
    array([0, 3, 1, 2])
    """
    return order[np.argsort(rank_within(groups, order), kind="stable")]


def proportional_order(groups: IntArray, order: IntArray) -> IntArray:
    """Rearrange `order` so that every prefix shares its places among the groups by Webster's rule.

    >>> proportional_order(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 4, 5]))
    array([0, 4, 1, 2, 5, 3])
    """
    sizes = np.bincount(groups[order]) if len(order) else np.empty(0, np.int64)
    return order[np.argsort((rank_within(groups, order) + 0.5) / sizes[groups[order]], kind="stable")]

"""Stratified: shares by Webster's rule or equal turns."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import select, select_by


def dataset_of(groups):
    return Dataset.from_dict({"g": groups})


def webster(sizes, k):
    """Seats one at a time to the group with the largest size / (2·seats + 1)."""
    seats = [0] * len(sizes)
    for _ in range(k):
        quotients = [(s / (2 * x + 1) if x < s else -1) for s, x in zip(sizes, seats, strict=True)]
        seats[int(np.argmax(quotients))] += 1
    return seats


def equal(sizes, k):
    """One each in turns; within a turn nobody is fixed, so only the counts are compared."""
    seats = [0] * len(sizes)
    while k:
        for i in range(len(sizes)):
            if k and seats[i] < sizes[i]:
                seats[i] += 1
                k -= 1
    return seats


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.data())
def test_shares(sizes, data):
    groups = [f"g{i}" for i, s in enumerate(sizes) for _ in range(s)]
    k = data.draw(st.integers(1, len(groups)))
    proportional = Counter(select_by(dataset_of(groups), "stratified", k=k, column="g")["g"][:])
    by_webster = webster(sizes, k)
    # ties between groups go either way, so compare what is decided: no group differs by more than one, same total
    assert sum(proportional.values()) == k
    assert all(abs(proportional[f"g{i}"] - s) <= 1 for i, s in enumerate(by_webster))
    if len(set(sizes)) == len(sizes) == 1:
        assert proportional["g0"] == k
    turns = Counter(select_by(dataset_of(groups), "stratified", k=k, column="g", quotas="equal")["g"][:])
    assert sorted(turns[f"g{i}"] for i in range(len(sizes))) == sorted(equal(sizes, k))


def test_prefixes_seeds_and_nulls():
    pool = dataset_of(["a"] * 90 + ["b"] * 10 + [None] * 5)
    long, short = select(pool, "stratified", k=50, column="g"), select(pool, "stratified", k=20, column="g")
    assert long.indices[:20].tolist() == short.indices.tolist()
    assert Counter(pool.select(short.indices)["g"][:]) == {"a": 18, "b": 2}
    assert short.left_out == {"no g": 5}
    assert select(pool, "stratified", k=20, column="g", seed=1).indices.tolist() != short.indices.tolist()


def test_rows_of_a_group_are_random():
    counts = np.zeros(10)
    for seed in range(600):
        counts[select(dataset_of(["a"] * 10), "stratified", k=2, column="g", seed=seed).indices] += 1
    assert np.abs(counts / 600 - 0.2).max() < 0.08


def test_numbers_are_groups_too():
    chosen = select_by(dataset_of([1, 1, 2, 2, 3, 3]), "stratified", k=3, column="g", quotas="equal")
    assert sorted(chosen["g"][:]) == [1, 2, 3]


def test_unknown_quotas():
    with pytest.raises(ValueError, match="'proportional' or 'equal', got 'fair'"):
        select(dataset_of(["a"]), "stratified", k=1, column="g", quotas="fair")

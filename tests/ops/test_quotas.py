"""Sharing out picks among groups, against counting by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.ops.quotas import equal_order, proportional_order, rank_within

GROUPS = st.lists(st.integers(0, 4), min_size=0, max_size=30).map(lambda g: np.asarray(g, np.int64))


@given(GROUPS, st.randoms())
def test_ranks_count_earlier_members(groups, random):
    order = list(range(len(groups)))
    random.shuffle(order)
    found = rank_within(groups, np.asarray(order, np.int64))
    expected = [sum(groups[j] == groups[i] for j in order[:at]) for at, i in enumerate(order)]
    assert found.tolist() == expected


@given(GROUPS)
def test_orders_are_permutations_that_keep_each_groups_order(groups):
    order = np.arange(len(groups))
    for arranged in (equal_order(groups, order), proportional_order(groups, order)):
        assert sorted(arranged) == list(order)
        for g in set(groups.tolist()):
            assert sorted(arranged[groups[arranged] == g]) == list(arranged[groups[arranged] == g])


@given(GROUPS)
def test_every_prefix_is_a_fair_share(groups):
    order = np.arange(len(groups))
    sizes = np.bincount(groups, minlength=5)
    for m in range(len(groups) + 1):
        in_turns = np.bincount(groups[equal_order(groups, order)[:m]], minlength=5)
        open_groups = in_turns < sizes
        assert not open_groups.any() or in_turns.max() - in_turns[open_groups].min() <= 1
        share = np.bincount(groups[proportional_order(groups, order)[:m]], minlength=5)
        quotient = (sizes + 0.0) / (
            2 * share + 1
        )  # Webster: nobody outside has a larger claim than the last one inside
        last = sizes / np.maximum(2 * share - 1, 1)
        inside = share > 0
        assert m == 0 or not (share < sizes).any() or quotient[share < sizes].max() <= last[inside].min() + 1e-12

"""Entropy, Rényi entropy and Simpson's index of groups, beside loops and scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.entropy import entropy
from hf_dsel.metrics.renyi_entropy import renyi_entropy
from hf_dsel.metrics.simpson import simpson_index

counts = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


@given(counts=counts, dtype=st.sampled_from([np.int32, np.int64, np.float32, np.float64]))
@settings(max_examples=50, deadline=None)
def test_entropy_is_the_sum_over_rows(counts, dtype):
    n = sum(counts)
    slow = -sum(c / n * math.log2(c / n) for c in counts if c)
    assert entropy(np.array(counts, dtype)) == pytest.approx(slow, abs=1e-9)


def test_entropy_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    weights = np.random.default_rng(0).random(1000)
    assert entropy(weights) == pytest.approx(stats.entropy(weights, base=2), rel=1e-12)


@given(counts=counts, order=st.sampled_from([0.0, 0.1, 0.5, 0.999, 1.5, 2.0, 7.0]))
@settings(max_examples=60, deadline=None)
def test_renyi_is_the_formula(counts, order):
    n = sum(counts)
    slow = math.log2(sum((c / n) ** order for c in counts if c)) / (1 - order)
    assert renyi_entropy(np.array(counts), order=order) == pytest.approx(slow, abs=1e-6)


@given(counts=counts)
@settings(max_examples=40, deadline=None)
def test_renyi_falls_with_the_order_between_its_limits(counts):
    orders = [0, 0.3, 1 - 1e-6, 1, 1 + 1e-6, 2, 30, 1000, math.inf]
    values = [renyi_entropy(np.array(counts), order=q) for q in orders]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(values))
    assert values[0] == pytest.approx(math.log2(sum(c > 0 for c in counts)))
    assert values[3] == entropy(np.array(counts)) == pytest.approx(values[2], abs=1e-4)
    assert values[-1] == pytest.approx(-math.log2(max(counts) / sum(counts))) and values[-1] >= 0
    assert values[-2] == pytest.approx(values[-1], abs=0.02)


@given(groups=st.lists(st.integers(0, 4), min_size=1, max_size=25))
@settings(max_examples=50, deadline=None)
def test_simpson_counts_the_pairs(groups):
    n = len(groups)
    same = sum(groups[i] == groups[j] for i in range(n) for j in range(i, n))
    value = simpson_index(np.bincount(groups))
    assert value == pytest.approx(2 * same / (n * (n + 1)))
    assert 2 / (n + 1) - 1e-12 <= value <= 1


def test_simpson_of_very_many_rows():
    assert simpson_index(np.array([5_000_000_000, 5_000_000_000])) == pytest.approx(0.5)


def test_copies_of_one_row_lower_the_diversity():
    before, after = np.array([4, 4, 4]), np.array([40, 4, 4])
    assert entropy(after) < entropy(before) and renyi_entropy(after, order=2) < renyi_entropy(before, order=2)
    assert simpson_index(after) > simpson_index(before)


def test_even_groups_and_one_group():
    assert entropy(np.full(8, 3)) == 3 and renyi_entropy(np.full(8, 3), order=2) == pytest.approx(3)
    assert str(entropy(np.array([7]))) == str(renyi_entropy(np.array([7]), order=2)) == "0.0"


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2], [np.nan, 1.0]])
def test_what_is_refused(bad):
    for metric in (entropy, lambda c: renyi_entropy(c, order=2), simpson_index):
        with pytest.raises(ValueError, match="counts"):
            metric(np.array(bad))


def test_wrong_orders_and_counts_that_are_no_rows():
    for order in (-1, math.nan):
        with pytest.raises(ValueError, match="order is"):
            renyi_entropy(np.array([1, 2]), order=order)
    with pytest.raises(ValueError, match="whole numbers"):
        simpson_index(np.array([0.5, 1.0]))

"""The lazy greedy beside the loop that computes every row's gain at every step."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.ops.fading_terms import fading_terms
from hf_dsel.ops.tf_idf import tf_idf
from tests.ops.test_tf_idf import by_loop


def weighted(rows):
    return tf_idf([np.array(row, np.uint64) for row in rows])


def every_gain_at_every_step(rows, worth, decay):
    """(row, gain) pairs, ties within rounding to the lower row."""
    weights, times, found = by_loop(rows), {}, []
    left = list(range(len(rows)))
    while left:
        gains = [worth[i] * sum(w * decay ** times.get(t, 0) for t, w in weights[i].items()) for i in left]
        best = next(i for i, gain in zip(left, gains, strict=True) if gain >= max(gains) - 1e-9)
        found.append((best, gains[left.index(best)]))
        left.remove(best)
        for t in weights[best]:
            times[t] = times.get(t, 0) + 1
    return found


def zipf(n, seed, longest=40, terms=200):
    """Rows of terms of which some are in nearly every row, and exact duplicates."""
    rng = np.random.default_rng(seed)
    rows = [(terms * rng.random(rng.integers(0, longest)) ** 3).astype(int).tolist() for _ in range(n)]
    return [rows[i - 1] if i % 9 == 8 else row for i, row in enumerate(rows)]


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize(("n", "seed"), [(1, 0), (30, 1), (120, 2)])
def test_picks_of_the_plain_loop(n, seed, decay):
    rows = zipf(n, seed)
    worth = np.random.default_rng(seed).random(n).round(2)
    expected = every_gain_at_every_step(rows, worth, decay)
    found = list(fading_terms(weighted(rows), worth, decay))
    assert [gain for _, gain in found] == pytest.approx([gain for _, gain in expected], abs=1e-9)
    distinct = [abs(a - b) > 1e-7 for (_, a), (_, b) in pairwise(expected)]
    for i, (row, _) in enumerate(expected):  # where no other gain is near
        if (i == 0 or distinct[i - 1]) and (i == n - 1 or distinct[i]):
            assert found[i][0] == row


@given(
    st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_every_row_once_and_gains_never_grow(rows, decay, seed):
    worth = np.random.default_rng(seed).random(len(rows))
    found = list(fading_terms(weighted(rows), worth, decay))
    assert sorted(row for row, _ in found) == list(range(len(rows)))
    gains = [gain for _, gain in found]
    assert all(a >= b for a, b in pairwise(gains)) and min(gains) >= 0


def test_bit_for_bit_the_loop_with_the_same_sum():
    """Lazily or not: the same picks with the same bits, ties to the lower row, over rows of up to 300 terms."""
    rows = zipf(150, 3, longest=300, terms=900)
    found, worth = weighted(rows), np.random.default_rng(3).random(150).round(1)
    left, shared = np.ones(len(found.rows_with)), found.rows_with[found.terms] > 1
    expected, rest = [], list(range(150))
    for _ in range(150):
        gains = {}
        for i in rest:
            at = np.arange(found.starts[i], found.starts[i + 1])
            own = np.bincount(np.zeros(len(at), int), np.where(shared[at], 0, found.weights[at]), minlength=1)[0]
            some = at[shared[at]]
            gains[i] = worth[i] * (own + (found.weights[some] * left[found.terms[some]]).sum())
        best = max(rest, key=lambda i: (gains[i], -i))
        expected.append((best, gains[best]))
        rest.remove(best)
        left[found.terms[found.starts[best] : found.starts[best + 1]]] *= 0.1
    assert list(fading_terms(found, worth, 0.1)) == expected


def test_duplicates_and_empty_rows_come_last():
    rows = [[1, 2, 3], [1, 2, 3], [], [4, 5], [6]]
    order = [row for row, _ in fading_terms(weighted(rows), np.ones(5), 0.1)]
    assert order == [0, 3, 4, 1, 2]


@pytest.mark.parametrize(
    ("worth", "decay", "message"),
    [([1, -1], 0.1, "row 1 of 2 has -1"), ([np.nan, 1], 0.1, "row 0 of 2 has nan"), ([1, 1], 1.5, "decay=1.5")],
)
def test_what_it_cannot_do(worth, decay, message):
    with pytest.raises(ValueError, match=message):
        next(fading_terms(weighted([[1], [2]]), np.array(worth, float), decay))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.nearest_neighbour_distance import nearest_neighbour_distance
from tests.metrics.test_nearest import slow, vectors


@given(n=st.integers(2, 40), k=st.integers(2, 20), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_equals_the_loop(n, k, seed):
    x = vectors(n, 4, seed)
    rows = np.random.default_rng(seed).permutation(n)[: min(k, n)]
    expected = 1 - slow(x[rows], x[rows], np.arange(len(rows))).mean()
    assert nearest_neighbour_distance(x, rows) == pytest.approx(expected, abs=2e-6)


def test_all_rows_when_none_are_named():
    x = vectors(12, 3, 0)
    assert nearest_neighbour_distance(x) == nearest_neighbour_distance(x, np.arange(12))


def test_is_zero_when_every_row_has_a_twin_and_two_for_opposites():
    x = vectors(4, 3, 0)
    assert nearest_neighbour_distance(np.concatenate([x, x])) == pytest.approx(0, abs=1e-6)
    assert nearest_neighbour_distance(np.array([[1.0, 0], [-1, 0]], np.float32)) == pytest.approx(2)


def test_from_a_sample_of_the_set():
    x, rows = vectors(30, 5, 1), np.arange(5, 25)
    expected = 1 - slow(x[rows[[2, 9]]], x[rows], np.array([2, 9])).mean()
    found = nearest_neighbour_distance(x, rows, seen_from=np.array([2, 9]))
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("rows", [[], [3]])
def test_fewer_than_two_rows(rows):
    with pytest.raises(ValueError, match=f"at least 2 rows, got {len(rows)}"):
        nearest_neighbour_distance(vectors(5, 2, 0), np.array(rows, np.int64))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.coverage import coverage
from hf_dsel.ops import facility_location
from tests.metrics.test_nearest import slow, vectors


@given(n=st.integers(1, 40), k=st.integers(1, 10), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_is_the_mean_of_the_largest_cosines(n, k, seed):
    x = vectors(n, 4, seed)
    rows = np.random.default_rng(seed).permutation(n)[: min(k, n)]
    assert coverage(x, rows) == pytest.approx(slow(x, x[rows]).mean(), abs=2e-6)


def test_equals_the_objective_that_qdit_maximises():
    x = vectors(200, 8, 0)
    picks, gains = zip(
        *[pair for pair, _ in zip(facility_location.facility_location(x), range(5), strict=False)], strict=True
    )
    assert coverage(x, np.array(picks)) == pytest.approx(sum(gains) / len(x), abs=1e-5)


def test_grows_with_the_subset_and_ends_at_one():
    x = vectors(50, 6, 1)
    order = np.random.default_rng(0).permutation(50)
    values = [coverage(x, order[:k]) for k in (1, 5, 20, 50)]
    assert values == sorted(values) and values[-1] == pytest.approx(1, abs=1e-6)


def test_from_a_sample():
    x = vectors(50, 6, 2)
    seen_from = np.array([4, 9, 30])
    assert coverage(x, np.array([7]), seen_from=seen_from) == pytest.approx(slow(x[seen_from], x[[7]]).mean(), abs=2e-6)


def test_an_empty_subset_has_none():
    with pytest.raises(ValueError, match="empty subset"):
        coverage(vectors(3, 2, 0), np.array([], np.int64))

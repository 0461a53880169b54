"""Percentile: Eq. 5 against the definition, counted row by row."""

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import select
from hf_dsel.strategies.percentile import Percentile


@given(
    st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30),
    st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda p: p[0] < p[1]),
)
def test_equals_counting(scores, bounds):
    low, high = bounds
    n = len(scores)
    expected = [i for i, s in enumerate(scores) if low * n <= 100 * sum(t <= s for t in scores) <= high * n]
    rule = Percentile(column="s", low=low, high=high)
    pool = Dataset.from_dict({"s": scores})
    if not expected:
        with pytest.raises(ValueError, match="none of the"):
            rule.fit(scores)
        return
    assert select(pool, rule).indices.tolist() == expected
    fitted = rule.fit([*scores, None])
    assert [i for i, s in enumerate(scores) if fitted({"s": s})] == expected


@pytest.mark.parametrize("bounds", [(-1, 50), (50, 101), (50, 50), (80, 20)])
def test_bad_percentiles(bounds):
    with pytest.raises(ValueError, match="0 <= low < high <= 100, got"):
        Percentile(low=bounds[0], high=bounds[1])

"""Threshold: Eq. 4, as a strategy and as a filter."""

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import select, select_by
from hf_dsel.strategies.threshold import Threshold

POOL = Dataset.from_dict({"s": [1.0, 2.0, 3.0, 4.0]})


def test_bounds_are_strict_unless_inclusive():
    assert select(POOL, "threshold", column="s", low=1, high=4).indices.tolist() == [1, 2]
    assert select(POOL, "threshold", column="s", low=1, high=4, inclusive=True).indices.tolist() == [0, 1, 2, 3]
    assert select(POOL, "threshold", column="s", low=2).gains.tolist() == [3, 4]
    assert select(POOL, "threshold", k=1, column="s", low=1).indices.tolist() == [1]


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3).map(float)), min_size=1), st.booleans())
def test_filter_batched_or_not_and_stream_agree(scores, inclusive):
    rule = Threshold(column="s", low=-1, high=2, inclusive=inclusive)
    rows = [{"s": s} for s in scores]
    expected = [s for s in scores if s is not None and (-1 <= s <= 2 if inclusive else -1 < s < 2)]
    assert [r["s"] for r in rows if rule(r)] == expected
    assert [s for s, keep in zip(scores, rule({"s": scores}), strict=True) if keep] == expected


def test_dataset_filter_and_stream():
    rule = Threshold(column="s", high=3)
    assert POOL.filter(rule)["s"][:] == POOL.filter(rule, batched=True)["s"][:] == [1.0, 2.0]
    assert [r["s"] for r in select_by(POOL.to_iterable_dataset(), rule)] == [1.0, 2.0]


def test_bad_bounds():
    with pytest.raises(ValueError, match="low=, high= or both"):
        Threshold(column="s")
    with pytest.raises(ValueError, match="low=3 and high=2"):
        Threshold(column="s", low=3, high=2)
    with pytest.raises(ValueError, match="take"):
        select_by(POOL.to_iterable_dataset(), "threshold", k=1, column="s", low=0)


def test_nothing_passes_is_said():
    with pytest.warns(UserWarning, match="kept no row"):
        assert len(select_by(POOL, "threshold", column="s", low=9)) == 0

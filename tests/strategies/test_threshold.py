"""Threshold: Eq. 4, as a strategy and as a filter."""

import warnings

import pytest
from datasets import Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import Shortfall, select, select_by
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


@given(st.lists(st.one_of(st.none(), st.integers(-9, 9).map(float)), min_size=1), st.integers(0, 9))
def test_near_the_mean(scores, distance):
    known = [s for s in scores if s is not None]
    if not known:
        return
    mean = sum(known) / len(known)
    expected = [i for i, s in enumerate(scores) if s is not None and mean - distance <= s <= mean + distance]
    pool = Dataset.from_dict({"s": scores}, Features({"s": Value("float64")}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Shortfall)  # between two values, perhaps none
        assert select(pool, "threshold", column="s", near_mean=distance).indices.tolist() == expected
    rule = Threshold(column="s", near_mean=distance).fit(scores)
    assert [i for i, s in enumerate(scores) if rule({"s": s})] == expected


def test_a_row_without_a_score_does_not_count_in_the_mean():
    pool = Dataset.from_dict({"quality": [1.0, None, 3.0, 9.0]})
    for values in (pool["quality"][:], pool.with_format("numpy")["quality"][:]):
        fitted = Threshold(near_mean=2).fit(values)
        assert (fitted.low, fitted.high) == pytest.approx((13 / 3 - 2, 13 / 3 + 2))


def test_the_mean_needs_the_pool():
    rule = Threshold(column="s", near_mean=1)
    with pytest.raises(ValueError, match=r"\.fit\("):
        rule({"s": 1.0})
    with pytest.raises(TypeError, match="mean of the whole pool"):
        select_by(POOL.to_iterable_dataset(), rule)
    with pytest.raises(ValueError, match="not both"):
        Threshold(column="s", near_mean=1, low=2)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Threshold(column="s", near_mean=-1)
    with pytest.raises(ValueError, match="no scores"):
        rule.fit([None])


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

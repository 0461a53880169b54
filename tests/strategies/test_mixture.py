import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

import hf_dsel


def pool(sizes):
    return Dataset.from_dict({"source": [name for name, n in sizes.items() for _ in range(n)]})


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    k=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_shares_are_those_of_websters_rule(weights, k, seed):
    """No place could go from one group to another with a larger claim w / (2 n + 1)."""
    rows = pool({f"s{i}": 40 for i in range(len(weights))})
    shares = {f"s{i}": w for i, w in enumerate(weights)}
    picked = hf_dsel.select_by(rows, "mixture", k=k, column="source", weights=shares, seed=seed)["source"][:]
    found = [picked.count(name) for name in shares]
    assert sum(found) == k
    last_served = min(w / (2 * n - 1) for w, n in zip(weights, found, strict=True) if n)
    next_in_line = max(w / (2 * n + 1) for w, n in zip(weights, found, strict=True))
    assert next_in_line <= last_served * (1 + 1e-12)


def test_a_group_that_runs_out_and_groups_without_weight():
    rows = pool({"a": 2, "b": 10, "c": 10})
    picked = hf_dsel.select_by(rows, "mixture", k=12, column="source", weights={"a": 3, "b": 1})["source"][:]
    assert picked.count("a") == 2 and picked.count("b") == 10
    more = hf_dsel.select_by(rows, "mixture", k=13, column="source", weights={"a": 3, "b": 1, "c": 0})["source"][:]
    assert more[12] == "c"


def test_numbers_are_groups_too():
    rows = Dataset.from_dict({"cluster": [0, 0, 0, 0, 1, 1, 1, 1]})
    picked = hf_dsel.select_by(rows, "mixture", k=4, column="cluster", weights={0: 1, "1": 3})["cluster"][:]
    assert sorted(picked) == [0, 1, 1, 1]


def test_the_rows_of_a_group_are_random():
    rows = pool({"a": 50})
    found = {tuple(hf_dsel.select(rows, "mixture", k=3, column="source", weights={"a": 1}, seed=s).indices) for s in
             range(5)}  # fmt: skip
    assert len(found) == 5


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("inf")}, {"a": float("nan")}])
def test_weights_out_of_range(weights):
    with pytest.raises(ValueError, match="at least 0, one of them above 0"):
        hf_dsel.select(pool({"a": 5, "b": 5}), "mixture", k=2, column="source", weights=weights)


def test_a_weight_for_nobody_is_named():
    with pytest.raises(ValueError, match=r"no row has 'x' in the column 'source'; there are \['a'\]"):
        hf_dsel.select(pool({"a": 5}), "mixture", k=2, column="source", weights={"a": 1, "x": 1})

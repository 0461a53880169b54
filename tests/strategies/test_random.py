"""Random: uniform, seeded, the same from a stream."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import select, select_by
from hf_dsel.budget import Budget
from hf_dsel.strategies.random import Random


def pool(n=200):
    return Dataset.from_dict({"text": [f"row {i}" for i in range(n)]})


@given(st.integers(1, 60), st.integers(0, 5), st.data())
def test_exact_budget_no_duplicates_prefix_and_seed(n, seed, data):
    k = data.draw(st.integers(1, n))

    def pick(rows):
        return Random().pick({}, Budget(pool=n, rows=rows), np.random.default_rng(seed)).indices.tolist()

    assert len(set(pick(k))) == k
    assert pick(n)[:k] == pick(k) == pick(k)


def test_every_row_is_as_likely():
    counts = np.zeros(10)
    for seed in range(3000):
        counts[Random().pick({}, Budget(pool=10, rows=3), np.random.default_rng(seed)).indices] += 1
    assert np.abs(counts / 3000 - 0.3).max() < 0.04  # 4.8 standard errors


def test_a_stream_gives_the_same_rows():
    expected = select_by(pool(2500), "random", k=40, seed=3)
    found = pool(2500).to_iterable_dataset().select_by("random", k=40, seed=3)
    assert found["text"][:] == expected["text"][:]
    assert found["selection_gain"][:] == [None] * 40


def test_seeds_differ():
    assert (
        select(pool(), "random", k=20, seed=1).indices.tolist()
        != select(pool(), "random", k=20, seed=2).indices.tolist()
    )


def test_a_million_rows_are_not_copied():
    big = Dataset.from_dict({"text": ["x"] * 1_000_000})
    subset = select_by(big, "random", k=6000)
    assert len(subset) == 6000 and subset._indices is None
    assert subset.data.nbytes < big.data.nbytes / 20


def test_no_options():
    with pytest.raises(TypeError, match="no option 'column'; It has no options"):
        select_by(pool(), "random", k=1, column="x")

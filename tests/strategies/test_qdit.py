"""QDIT against the naive greedy algorithm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import MissingColumn, select
from hf_dsel.strategies.qdit import Qdit
from tests.strategies.reference import clustered, greedy_qdit, pool_of, unit


def random_pool(n, d, seed, dtype="float32"):
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
    return x, np.random.default_rng(seed + 1).uniform(1, 6, n)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.7, 0.99]), st.data())
def test_same_picks_and_gains(n, seed, alpha, data):
    k = data.draw(st.integers(1, n))
    x, quality = random_pool(n, 5, seed)
    expected, gains = greedy_qdit(x, quality, k, alpha)
    record = select(pool_of(x, quality=quality), "qdit", k=k, alpha=alpha)
    assert record.indices.tolist() == expected
    np.testing.assert_allclose(record.gains, gains, rtol=1e-4, atol=1e-4)
    diversity = (np.asarray(gains) - alpha * quality[expected]) / (1 - alpha)
    np.testing.assert_allclose(record.why["diversity"], diversity, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_clustered_pools_with_duplicates(dtype):
    x, quality = clustered(300, 12, 2, dtype), np.random.default_rng(0).uniform(1, 6, 300)
    record = select(pool_of(x, quality=quality), "qdit", k=60, alpha=0.5)
    expected, gains = greedy_qdit(x, quality, 60, 0.5)
    assert record.indices.tolist() == expected
    np.testing.assert_allclose(record.gains, gains, rtol=1e-4, atol=1e-4)


def test_the_first_pick_has_no_floor_at_zero():
    x = np.array([[1, 0], [-1, 0.01], [-1, 0], [-1, -0.01]], np.float32)  # row 0 is far from everything
    sums = (unit(x) @ unit(x).T).sum(1)
    record = select(pool_of(x), "qdit", k=2, alpha=0)
    assert record.indices[0] == sums.argmax()
    assert record.gains[0] == pytest.approx(sums.max(), abs=1e-5)


def test_alpha_one_is_top_k_and_needs_no_embedding():
    quality = np.random.default_rng(0).integers(0, 5, 50).astype(float)
    pool = pool_of(clustered(50, 4, 0), quality=quality)
    expected = select(pool, "top_k", k=20)
    for found in (select(pool, "qdit", k=20, alpha=1), select(pool.remove_columns("embedding"), "qdit", k=20, alpha=1)):
        assert found.indices.tolist() == expected.indices.tolist()
        assert found.gains.tolist() == expected.gains.tolist()


def test_alpha_zero_needs_no_quality():
    assert len(select(pool_of(clustered(50, 4, 0)), "qdit", k=5, alpha=0)) == 5
    with pytest.raises(MissingColumn, match=r"missing: \['quality'\]"):
        select(pool_of(clustered(50, 4, 0)), "qdit", k=5)


def test_prefixes_and_permutations():
    x, quality = random_pool(60, 6, 9)
    longer = select(pool_of(x, quality=quality), "qdit", k=30, alpha=0.5).indices
    assert select(pool_of(x, quality=quality), "qdit", k=11, alpha=0.5).indices.tolist() == longer[:11].tolist()
    order = np.random.default_rng(0).permutation(60)
    moved = select(pool_of(x[order], quality=quality[order]), "qdit", k=30, alpha=0.5).indices
    assert order[moved].tolist() == longer.tolist()


def test_scalings():
    quality = np.array([1.0, 3.0, 3.0, 5.0])
    assert Qdit(scale="raw").scaled(quality).tolist() == [1, 3, 3, 5]
    assert Qdit(scale="minmax").scaled(quality).tolist() == [0, 0.5, 0.5, 1]
    assert Qdit(scale="rank").scaled(quality).tolist() == pytest.approx([0, 0.5, 0.5, 1])
    assert (
        Qdit(scale="rank").scaled(np.full(3, 2.0)).tolist()
        == Qdit(scale="minmax").scaled(np.full(3, 2.0)).tolist()
        == [0] * 3
    )
    x, quality = random_pool(30, 4, 1)
    mean = select(pool_of(x, quality=quality), "qdit", k=10, alpha=0.5, diversity="mean")
    assert mean.indices.tolist() == greedy_qdit(x, quality, 10, 0.5, weight=1 / 30)[0]
    minmax = select(pool_of(x, quality=quality), "qdit", k=10, alpha=0.5, scale="minmax")
    assert minmax.indices.tolist() == greedy_qdit(x, Qdit(scale="minmax").scaled(quality), 10, 0.5)[0]


def test_stochastic_is_seeded_and_nearly_as_good():
    x, quality = clustered(400, 8, 3), np.zeros(400)
    pool = pool_of(x, quality=quality)
    exact = select(pool, "qdit", k=40, alpha=0).gains.sum()
    runs = [select(pool, "qdit", k=40, alpha=0, epsilon=0.1, seed=s) for s in (1, 1, 2)]
    assert runs[0].indices.tolist() == runs[1].indices.tolist() != runs[2].indices.tolist()
    for run in runs:
        assert len(set(run.indices.tolist())) == 40
        assert (1 - 1 / np.e - 0.1) * exact <= run.gains.sum() <= exact * (1 + 1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": -0.1}, r"\[0, 1\].*got -0.1"),
        ({"alpha": float("nan")}, "got nan"),
        ({"epsilon": 1}, r"\(0, 1\).*got 1"),
        ({"scale": "z"}, "'raw', 'minmax' or 'rank', got 'z'"),
        ({"diversity": "max"}, "'sum' or 'mean', got 'max'"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ValueError, match=text):
        Qdit(**options)


def test_token_budgets():
    x, quality = random_pool(50, 5, 4)
    costs = np.random.default_rng(0).integers(1, 9, 50)
    pool = pool_of(x, quality=quality).add_column("example_tokens", costs)
    record = select(pool, "qdit", max_tokens=60, alpha=0.5)
    order = greedy_qdit(x, quality, 50, 0.5)[0]
    n = int(np.searchsorted(np.cumsum(costs[order]), 60, side="right"))
    assert record.indices.tolist() == order[:n]
    with pytest.raises(ValueError, match="epsilon needs a budget in rows"):
        select(pool, "qdit", max_tokens=60, alpha=0.5, epsilon=0.1)

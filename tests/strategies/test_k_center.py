"""k-center against Algorithm 1, all distances computed at every step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import select
from hf_dsel.scorers.deita import DeitaQuality
from hf_dsel.strategies.k_center import KCenter
from tests.strategies.reference import clustered, pool_of


def greedy(x, k, first=0, quality=None, gamma=0.0):
    """Line by line; ties, to the last digits of float64, go to the lower row."""
    x = np.asarray(x, np.float64)
    worth = np.ones(len(x))
    if quality is not None and max(quality) > min(quality):
        worth = np.array([(1 + (q - min(quality)) / (max(quality) - min(quality))) ** gamma for q in quality])
    picked, gains = [first], [np.nan]
    while len(picked) < k:
        r = np.array([min(np.linalg.norm(v - x[a]) for a in picked) for v in x])
        key = r if gamma == 0 else (1 + (r / r.max() if r.max() > 0 else r)) * worth
        key = np.array([-1.0 if v in picked else key[v] for v in range(len(x))])
        best = int(np.flatnonzero(key >= key.max() - 1e-10 * abs(key.max()))[0])
        picked.append(best)
        gains.append(r[best])
    return picked, gains


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 25), st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.data(),
    st.sampled_from(["float16", "float32"]),
)  # fmt: skip
def test_algorithm_one(n, seed, gamma, data, dtype):
    k, first = data.draw(st.integers(1, n)), data.draw(st.integers(0, n - 1))
    x = np.random.default_rng(seed).standard_normal((n, 4)).astype(dtype)
    quality = np.random.default_rng(seed + 1).uniform(1, 6, n)
    picked, gains = greedy(x, k, first, quality, gamma)
    record = select(pool_of(x, quality=quality), "k_center", k=k, start=first, gamma=gamma)
    assert record.indices.tolist() == picked and len(set(picked)) == k
    np.testing.assert_allclose(record.gains, gains, rtol=1e-5)  # none for the first, and so NaN


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_clustered_pools_with_duplicates(gamma):
    x, quality = clustered(300, 12, 2), np.random.default_rng(0).integers(1, 4, 300).astype(float)
    picked, gains = greedy(x, 80, 0, quality, gamma)
    record = select(pool_of(x, quality=quality), "k_center", k=80, gamma=gamma)
    assert record.indices.tolist() == picked
    np.testing.assert_allclose(record.gains, gains, rtol=1e-5)


def test_without_gamma_no_quality_is_read():
    x = clustered(50, 4, 0)
    assert select(pool_of(x), "k_center", k=10).indices.tolist() == greedy(x, 10)[0]
    assert list(KCenter().needs()) == ["embedding"]
    assert isinstance(KCenter(gamma=1).needs()["quality"], DeitaQuality)
    constant = select(pool_of(x, quality=np.ones(50)), "k_center", k=10, gamma=2)
    assert constant.indices.tolist() == greedy(x, 10)[0]


def test_starts():
    x = clustered(60, 4, 1)
    mean = x.astype(np.float64).mean(0)
    nearest = int(np.linalg.norm(x - mean, axis=1).argmin())
    assert select(pool_of(x), "k_center", k=5, start="mean").indices.tolist() == greedy(x, 5, nearest)[0]
    runs = [select(pool_of(x), "k_center", k=5, start="random", seed=s).indices.tolist() for s in (1, 1, 2, 3, 4)]
    assert runs[0] == runs[1] and len({run[0] for run in runs}) > 1
    for run in runs:
        assert run == greedy(x, 5, run[0])[0]
    seeds = [select(pool_of(x), "k_center", k=5, seed=s).indices.tolist() for s in (1, 2)]
    assert seeds[0] == seeds[1]
    with pytest.raises(ValueError, match="start is 60; it is a row from 0 to 59"):
        select(pool_of(x), "k_center", k=5, start=60)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0]))
def test_prefixes_and_permutations(seed, gamma):
    x = np.random.default_rng(seed).standard_normal((40, 5)).astype(np.float32)
    quality = np.random.default_rng(seed + 1).uniform(0, 1, 40)
    whole = select(pool_of(x, quality=quality), "k_center", k=40, gamma=gamma, start=3).indices.tolist()
    shorter = select(pool_of(x, quality=quality), "k_center", k=9, gamma=gamma, start=3, seed=seed)
    assert shorter.indices.tolist() == whole[:9]
    order = np.random.default_rng(seed).permutation(40)
    moved = select(
        pool_of(x[order], quality=quality[order]), "k_center", k=40, gamma=gamma, start=order.tolist().index(3)
    )
    assert order[moved.indices].tolist() == whole


def test_the_radius_is_smaller_than_that_of_random_rows():
    x = clustered(400, 8, 3, clusters=30)

    def radius(rows):
        return max(min(np.linalg.norm(v - x[a]) for a in rows) for v in x)

    chosen = select(pool_of(x), "k_center", k=31)
    assert radius(chosen.indices[:30]) == pytest.approx(chosen.gains[30], rel=1e-5)
    for seed in range(3):
        assert radius(chosen.indices[:30]) < radius(select(pool_of(x), "random", k=30, seed=seed).indices)


def test_token_budgets():
    x = clustered(50, 5, 4)
    costs = np.random.default_rng(0).integers(1, 9, 50)
    pool = pool_of(x).add_column("example_tokens", costs)
    order = greedy(x, 50)[0]
    n = int(np.searchsorted(np.cumsum(costs[order]), 60, side="right"))
    assert select(pool, "k_center", max_tokens=60).indices.tolist() == order[:n]


def test_rows_without_a_quality_are_not_counted_by_start():
    x = np.array([[1.0], [2.0], [4.0], [9.0]], np.float32)
    record = select(pool_of(x, quality=[None, 1.0, 1.0, 2.0]), "k_center", k=3, gamma=1, start=1)
    assert record.indices.tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gamma": -0.1}, "at least 0; got -0.1"),
        ({"gamma": float("nan")}, "got nan"),
        ({"start": -1}, "'mean' or 'random'; got -1"),
        ({"start": "middle"}, "got 'middle'"),
        ({"start": True}, "got True"),
        ({"start": 1.5}, "got 1.5"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ValueError, match=text):
        KCenter(**options)

"""PIBE against Eqs. 3 and 7-10 written out in loops, and against kNN where they are the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import MissingColumn, select
from hf_dsel.scorers.deita import DeitaQuality
from hf_dsel.strategies.pibe import Pibe, combined
from tests.strategies.reference import clustered, pool_of


def representation(x, preference, iterations, damping=0.5):
    """Eq. 3 message by message, damping on R alone (Eq. 6 without history), then Eq. 7."""
    n = len(x)
    s = np.array([[-np.linalg.norm(a - b) for b in x] for a in np.asarray(x, np.float64)])
    if preference == "median":
        preference = np.median(s[~np.eye(n, dtype=bool)])
    s[np.diag_indices(n)] = preference
    r, a = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(iterations):
        fresh = np.empty((n, n))
        for i in range(n):
            for k in range(n):
                fresh[i, k] = s[i, k] - max(a[i, j] + s[i, j] for j in range(n) if j != k)
        r = damping * r + (1 - damping) * fresh
        for k in range(n):
            positive = [max(0.0, r[i, k]) for i in range(n)]
            for i in range(n):
                if i == k:
                    a[k, k] = sum(positive) - positive[k]
                else:
                    a[i, k] = min(0.0, r[k, k] + sum(positive) - positive[i] - positive[k])
    f = a + r
    return f.sum(0) - f.sum(1) + np.diag(f)


def score_of(r, q, gamma, combine):
    """Eq. 8, then Eq. 9 or 10."""
    r, q = ((v - v.min()) / (v.max() - v.min()) for v in (r, q))
    return [a + gamma * b if combine == "add" else (1 + a) * (1 + b) ** gamma for a, b in zip(r, q, strict=True)]


@pytest.mark.parametrize("preference", [0.0, "median", -1.0, -4.0])
@pytest.mark.parametrize("combine", ["multiply", "add"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_formulas(preference, combine, gamma):
    x = np.random.default_rng(3).standard_normal((24, 3)).astype(np.float32)
    quality = np.random.default_rng(4).uniform(1, 6, 24)
    r = representation(x, preference, 12)
    expected = np.array(score_of(r, quality, gamma, combine))
    found = select(pool_of(x, quality=quality), "pibe", k=24, preference=preference, combine=combine, gamma=gamma,
                   iterations=12)  # fmt: skip
    scale = 1.0 if preference != 0 else 1 - 0.5**12  # the closed form is the limit of the iterations
    np.testing.assert_allclose(found.why["representation"] * scale, r[found.indices], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.gains, expected[found.indices], rtol=1e-4)
    np.testing.assert_allclose(expected[found.indices], np.sort(expected)[::-1], rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 2.0]))
def test_as_published_it_is_knn(n, seed, gamma):
    x = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    pool = pool_of(x, quality=np.random.default_rng(seed).permutation(n).astype(float))
    k = n - 1
    assert (
        select(pool, "pibe", k=k, gamma=gamma).indices.tolist()
        == select(pool, "knn", k=k, gamma=gamma).indices.tolist()
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 30), st.integers(0, 1000), st.sampled_from([0.0, -1.5]), st.data())
def test_rows_in_another_order_and_smaller_budgets(n, seed, preference, data):
    rng = np.random.default_rng(seed)
    x, quality = rng.standard_normal((n, 4)).astype(np.float32), rng.permutation(n).astype(float)
    turned = rng.permutation(n)
    first = select(pool_of(x, quality=quality), "pibe", k=n, preference=preference)
    second = select(pool_of(x[turned], quality=quality[turned]), "pibe", k=n, preference=preference)
    np.testing.assert_allclose(first.gains, second.gains, rtol=1e-4)
    k = data.draw(st.integers(1, n))
    some = select(pool_of(x, quality=quality), "pibe", k=k, preference=preference)
    assert some.indices.tolist() == first.indices[:k].tolist() and len(set(some.indices)) == k


def test_neighbours_of_all_rows_are_all_pairs():
    x = np.random.default_rng(5).standard_normal((80, 4)).astype(np.float32)
    quality = np.random.default_rng(0).permutation(80).astype(float)
    options = {"k": 20, "preference": "median", "gamma": 0.5, "iterations": 15}  # later, rounding is magnified
    whole = select(pool_of(x, quality=quality), "pibe", **options)
    near = select(pool_of(x, quality=quality), "pibe", neighbours=100, **options)
    assert near.indices.tolist() == whole.indices.tolist()


def test_without_quality():
    x = clustered(30, 4, 0)
    assert list(Pibe(gamma=0).needs()) == ["embedding"]
    found = select(pool_of(x), "pibe", k=30, gamma=0, combine="add")
    assert (np.diff(found.why["representation"]) <= 0).all()
    with pytest.raises(MissingColumn, match=r"missing: \['mine'\]"):
        select(pool_of(x), "pibe", k=20, quality="mine")
    assert isinstance(Pibe().needs()["quality"], DeitaQuality) and Pibe(quality="mine").needs()["mine"] is None


def test_a_constant_representation_counts_nothing():
    assert combined(np.ones(3), np.array([1.0, 2.0, 3.0]), gamma=1.0, combine="multiply").tolist() == [1.0, 1.5, 2.0]


def test_bad_input():
    x = clustered(10, 4, 0)
    with pytest.raises(ValueError, match=r"'quality' is 3 in all 10 rows.*gamma=0"):
        select(pool_of(x, quality=np.full(10, 3.0)), "pibe", k=3)
    with pytest.raises(ValueError, match="at least 2 rows"):
        select(pool_of(x[:1]), "pibe", k=1, gamma=0)
    for name, value in (
        ("gamma", -1), ("combine", "mean"), ("preference", "mean"), ("preference", float("inf")), ("neighbours", 0),
        ("iterations", 0), ("damping", 1.0), ("damping", -0.1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            Pibe(**{name: value})

"""Clusters on data where the answer is plain, and inertia beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops.k_means import k_means


def inertia(x, labels, centroids):
    return float(((np.asarray(x, dtype=np.float64) - centroids[labels]) ** 2).sum())


def groups(n, k, d, seed=0, spread=0.05):
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    return (5 * rng.standard_normal((k, d)))[truth] + spread * rng.standard_normal((n, d)), truth


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 50, 8192])
def test_finds_separate_groups(dtype, block):
    x, truth = groups(200, 6, 8)
    labels, centroids = k_means(x.astype(dtype), 6, rng=np.random.default_rng(0), device="cpu", block=block)
    assert labels.dtype == np.int64 and centroids.dtype == np.float32 and centroids.shape == (6, 8)
    assert len(set(zip(labels, truth, strict=True))) == 6
    for cluster in range(6):
        np.testing.assert_allclose(centroids[cluster], x[labels == cluster].mean(0), atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.data(), st.integers(0, 10**6))
def test_properties(n, data, seed):
    k = data.draw(st.integers(1, n))
    x = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    runs = [k_means(x, k, rng=np.random.default_rng(seed), device="cpu", block=b) for b in (8192, 8192, 7)]
    labels, centroids = runs[0]
    assert sorted(set(labels.tolist())) == list(range(k))  # no empty cluster
    np.testing.assert_array_equal(labels, runs[1][0])  # the seed decides
    assert inertia(x, *runs[2]) == pytest.approx(inertia(x, labels, centroids), rel=1e-3, abs=1e-6)
    distance = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2)
    assert (distance[np.arange(n), labels] <= distance.min(1) + 1e-4).all()


def test_more_clusters_than_distinct_rows():
    x = np.repeat(np.eye(4), 5, axis=0)
    assert len(set(k_means(x, 4, rng=np.random.default_rng(0), device="cpu")[0].tolist())) == 4
    with pytest.raises(ValueError, match="k is 5, but only 4 of 20 rows are distinct"):
        k_means(x, 5, rng=np.random.default_rng(0), device="cpu")


def test_ties_go_to_the_lower_cluster():
    labels, centroids = k_means(
        np.array([[-1.0], [0.0], [1.0]]), 2, rng=np.random.default_rng(0), device="cpu", iterations=1
    )
    distance = (np.array([[-1.0], [0.0], [1.0]]) - centroids.T) ** 2
    assert labels.tolist() == distance.argmin(1).tolist()


def test_more_starts_are_no_worse():
    x, _ = groups(400, 30, 5, seed=3, spread=1.0)
    one = inertia(x, *k_means(x, 30, rng=np.random.default_rng(5), device="cpu"))
    many = inertia(x, *k_means(x, 30, rng=np.random.default_rng(5), n_init=5, device="cpu"))
    assert many <= one * (1 + 1e-6)


def test_inertia_beside_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = groups(1500, 40, 12, seed=4, spread=1.5)
    ours = inertia(x, *k_means(torch.from_numpy(x), 25, rng=np.random.default_rng(0), n_init=3, device="cpu"))
    theirs = cluster.KMeans(25, n_init=3, random_state=0).fit(x).inertia_
    assert ours <= 1.05 * theirs


@pytest.mark.parametrize(
    ("x", "k", "message"),
    [
        (np.eye(3), 0, "k is 0"),
        (np.eye(3), 4, "k is 4.*number of rows, 3"),
        (np.array([[1.0], [np.inf]]), 1, r"1 of 2.*NaN or infinite.*\[1\]"),
        (np.zeros((0, 2)), 1, "expected rows x dim"),
    ],
)
def test_bad_input_is_named(x, k, message):
    with pytest.raises(ValueError, match=message):
        k_means(x, k, rng=np.random.default_rng(0), device="cpu")


def test_zero_vectors_are_fine():
    labels, _ = k_means(np.array([[0.0, 0.0], [3.0, 4.0]]), 2, rng=np.random.default_rng(0), device="cpu")
    assert labels[0] != labels[1]

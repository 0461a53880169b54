import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics import cluster_inertia as module
from hf_dsel.metrics.cluster_inertia import cluster_inertia
from hf_dsel.ops.k_means import k_means
from hf_dsel.ops.nearest_centroids import nearest_centroids
from tests.metrics.test_nearest import vectors


def slow(x, labels):
    x = x.astype(np.float64)
    return sum(((x[labels == j] - x[labels == j].mean(0)) ** 2).sum() for j in np.unique(labels))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 7, 8192])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (20, 3), (60, 9)])
def test_equals_the_loop(dtype, block, n, k, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    x, labels = vectors(n, 5, n, dtype) + dtype(2), np.random.default_rng(k).integers(0, k, n)
    assert cluster_inertia(x, labels) == pytest.approx(slow(x, labels), rel=1e-9, abs=1e-9)


@given(n=st.integers(2, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_properties(n, seed):
    rng = np.random.default_rng(seed)
    x, labels, order = vectors(n, 3, seed), rng.integers(0, 4, n), rng.permutation(n)
    value = cluster_inertia(x, labels)
    assert value >= 0
    assert cluster_inertia(x, labels[order], order) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert cluster_inertia(x, labels * 1000) == pytest.approx(value, rel=1e-9, abs=1e-9)
    twice = np.concatenate([x, x])
    assert cluster_inertia(twice, np.tile(labels, 2)) == pytest.approx(2 * value, rel=1e-9, abs=1e-9)
    assert cluster_inertia(x, np.zeros(n, np.int64)) >= value - 1e-9  # one cluster is the widest


def test_equals_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x = vectors(300, 6, 0, np.float64)
    theirs = cluster.KMeans(7, n_init=1, random_state=0).fit(x)
    assert cluster_inertia(x, theirs.labels_) == pytest.approx(theirs.inertia_, rel=1e-6)


def test_copies_of_one_row_add_nothing():
    x = np.repeat(vectors(1, 4, 0), 9, 0)
    assert cluster_inertia(x, np.zeros(9, np.int64)) == 0


def test_the_clusters_of_k_means_are_found_again():
    x = vectors(500, 8, 3)
    labels, centroids = k_means(x, 6, rng=np.random.default_rng(0), device="cpu")
    assert (nearest_centroids(x, centroids, device="cpu", block=77) == labels).mean() > 0.99
    slowly = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(nearest_centroids(x, centroids, device="cpu"), slowly)
    rows = np.array([400, 3, 3, 77])
    np.testing.assert_array_equal(nearest_centroids(x, centroids, rows, device="cpu"), slowly[rows])


def test_a_row_at_equal_distance_goes_to_the_lower_cluster():
    assert nearest_centroids(np.array([[0.0]]), np.array([[3.0], [-1.0], [1.0]]), device="cpu").tolist() == [1]


def test_what_is_refused():
    x = vectors(4, 2, 0)
    with pytest.raises(ValueError, match="4 rows and 3 labels"):
        cluster_inertia(x, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="0 rows and 0 labels"):
        cluster_inertia(x[:0], np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="at least 0; the smallest is -1"):
        cluster_inertia(x, np.array([0, -1, 0, 0]))
    with pytest.raises(ValueError, match="widths must agree"):
        nearest_centroids(x, np.zeros((2, 3)), device="cpu")
    x[1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        nearest_centroids(x, np.zeros((2, 2)), device="cpu")

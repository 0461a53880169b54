"""Sparse messages beside the dense engine, a plain loop with all matrices, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops import sparse_affinity_propagation as engine
from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.nearest_neighbours import neighbour_distances
from hf_dsel.ops.sparse_affinity_propagation import (
    median_similarity,
    sparse_affinity_propagation,
    sparse_message_bytes,
)


def rows(n, d=8, seed=0, topics=6, spread=0.4):
    """Unit rows around some topics."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, d))
    x = centres[rng.integers(topics, size=n)] + spread * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def distances(x):
    x = np.asarray(x, dtype=np.float64)
    return np.sqrt(((x[:, None] - x) ** 2).sum(2))


def plain(x, k, preference, iterations, damping, damp_both):
    """All matrices in float64; the row's maximum is over edges and itself, and A of the others is min(0, c_k)."""
    d, n = distances(x), len(x)
    near = np.zeros((n, n), dtype=bool)
    for i in range(n):
        order = [j for j in np.argsort(d[i], kind="stable") if j != i]
        near[i, order[:k]] = True
    edge = near | near.T
    s = -d
    np.fill_diagonal(s, preference)
    itself = np.eye(n, dtype=bool)
    r, a = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(iterations):
        evidence = np.where(edge | itself, a + s, -np.inf)
        new = np.empty((n, n))
        for column in range(n):
            new[:, column] = s[:, column] - np.delete(evidence, column, axis=1).max(1)
        r = damping * r + (1 - damping) * new
        positive = np.where(edge, np.maximum(r, 0), 0)
        new = np.minimum(0, r.diagonal() + positive.sum(0) - positive)
        new[itself] = positive.sum(0)
        a = damping * a + (1 - damping) * new if damp_both else new
    f = a + r
    return f.sum(0) - f.sum(1) + f.diagonal(), f.diagonal(), int(edge.sum()) // 2


def same_exemplars(found, own):
    """But for rows whose A[k, k] + R[k, k] is 0 up to rounding, as it is for pairs that have only each other."""
    sure = np.abs(own) > 1e-9
    return (np.isin(np.arange(len(own)), found) == (own > 0))[sure].all()


def no_numba(monkeypatch):
    monkeypatch.setattr(engine, "_kernels", lambda device: None)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("damp_both", [True, False])
@pytest.mark.parametrize("preference", [0.0, -0.7, -2.0])
@pytest.mark.parametrize("k", [1, 6, 60])
def test_equals_all_matrices(monkeypatch, compiled, damp_both, preference, k):
    if not compiled:
        no_numba(monkeypatch)
    x = rows(120, seed=1)
    score, own, edges = plain(x, k, preference, 25, 0.6, damp_both)
    options = {"neighbours": k, "preference": preference, "damping": 0.6, "damp_both": damp_both, "stop_after": None}
    found = sparse_affinity_propagation(x, iterations=25, dtype=torch.float64, device="cpu", **options)
    np.testing.assert_allclose(found.representation, score, atol=1e-9)
    assert same_exemplars(found.exemplars, own) and found.edges == edges and found.iterations == 25
    single = sparse_affinity_propagation(x, iterations=25, device="cpu", block=17, **options)
    np.testing.assert_allclose(single.representation, score, atol=2e-3)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("damp_both", [True, False])
@pytest.mark.parametrize("preference", [0.0, "median", -0.4])
def test_with_all_neighbours_it_is_the_dense_engine(monkeypatch, compiled, damp_both, preference):
    if not compiled:
        no_numba(monkeypatch)
    x = rows(200, 32, topics=20)
    options = {"preference": preference, "iterations": 30, "stop_after": None, "damp_both": damp_both, "device": "cpu"}
    found = sparse_affinity_propagation(x, neighbours=199, dtype=torch.float64, **options)
    dense = affinity_propagation(x, dtype=torch.float64, **options)
    assert found.preference == pytest.approx(dense.preference, abs=1e-12)
    np.testing.assert_allclose(found.representation, dense.representation, atol=1e-4)
    assert same_exemplars(found.exemplars, (dense.availability() + dense.responsibility).diagonal().numpy())


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("copies", [False, True])
def test_the_diagonal_at_zero_orders_by_nearest_neighbours(monkeypatch, compiled, k, copies):
    if not compiled:
        no_numba(monkeypatch)
    x = rows(150, seed=5)
    if copies:
        x[100:130] = x[:30]
    found = sparse_affinity_propagation(x, neighbours=k, device="cpu")
    nearest = neighbour_distances(x, device="cpu")
    order = np.argsort(-nearest, kind="stable")
    np.testing.assert_array_equal(np.argsort(-found.representation, kind="stable"), order)
    np.testing.assert_allclose(found.representation, nearest * (1 - 0.5**found.iterations), atol=1e-6)
    if not copies:
        assert found.converged and found.exemplars.tolist() == list(range(150))


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(1, 70), st.integers(0, 10**6), st.sampled_from([0.0, "median", -0.7]))
def test_row_order_and_loops_do_not_matter(n, k, seed, preference):
    rng, x = np.random.default_rng(seed), rows(n, 4, seed)
    options = {"neighbours": k, "preference": preference, "iterations": 15, "stop_after": None, "device": "cpu"}
    found = sparse_affinity_propagation(x, dtype=torch.float64, **options)
    order = rng.permutation(n)
    turned = sparse_affinity_propagation(x[order], dtype=torch.float64, block=int(rng.integers(1, n + 1)), **options)
    np.testing.assert_allclose(turned.representation, found.representation[order], atol=1e-9)
    assert turned.edges == found.edges and np.isfinite(found.representation).all()
    with pytest.MonkeyPatch.context() as patch:
        no_numba(patch)
        slow = sparse_affinity_propagation(x, dtype=torch.float64, **options)
    np.testing.assert_allclose(slow.representation, found.representation, atol=1e-9)


def test_agrees_with_the_dense_engine_where_neighbours_are_few():
    x = rows(1000, 24, topics=60)
    dense, found = (
        run(x, preference="median", device="cpu", **options).representation
        for run, options in ((affinity_propagation, {}), (sparse_affinity_propagation, {"neighbours": 64}))
    )
    places = [np.argsort(np.argsort(score)) for score in (dense, found)]
    assert np.corrcoef(*places)[0, 1] > 0.95


def test_the_median():
    x = rows(300, seed=3)
    apart = distances(x)[~np.eye(300, dtype=bool)]
    assert median_similarity(x, device="cpu") == pytest.approx(-np.median(apart), abs=1e-7)
    many = rows(2500, seed=3)
    sampled, exact = median_similarity(many, device="cpu"), -np.median(distances(many)[np.triu_indices(2500, 1)])
    assert sampled != exact and sampled == pytest.approx(exact, abs=3e-3)


def test_stops_when_exemplars_stay():
    seen = []
    found = sparse_affinity_propagation(rows(50), device="cpu", stop_after=4, progress=lambda *now: seen.append(now))
    assert found.converged and found.iterations == 4 and seen == [(t, 50) for t in (1, 2, 3, 4)]


def test_the_size_is_stated_before_it_is_taken():
    n = 50_000
    small, large = (sparse_message_bytes(n, 8, neighbours=k, device="cpu") for k in (16, 64))
    assert large < 4.1 * small < 0.05 * 4 * n**2 * 4
    assert sparse_message_bytes(n, 8, damp_both=True, device="cpu") >= large
    with pytest.raises(MemoryError, match=r"500 rows need 0\.00 GiB .* is the limit; lower neighbours"):
        sparse_affinity_propagation(rows(500), max_bytes=1000, device="cpu")
    needed = sparse_message_bytes(500, 8, device="cpu")
    assert sparse_affinity_propagation(rows(500), max_bytes=needed, device="cpu", iterations=1).iterations == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours is 0"),
        ({"damping": 1.0}, "damping is 1.0"),
        ({"preference": np.nan}, "preference is nan"),
        ({"preference": "mean"}, "preference is 'mean'"),
        ({"iterations": 0}, "iterations is 0"),
        ({"stop_after": 0}, "stop_after is 0"),
        ({"block": 0}, "block is 0"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        sparse_affinity_propagation(rows(10), device="cpu", **options)


def test_bad_embeddings():
    with pytest.raises(ValueError, match="at least 2"):
        sparse_affinity_propagation(rows(1), device="cpu")
    with pytest.raises(ValueError, match="NaN or infinite"):
        sparse_affinity_propagation(np.full((4, 2), np.nan), device="cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("damp_both", [True, False])
def test_a_gpu_gives_the_same(damp_both):
    x = rows(700, seed=9)
    one, two = (
        sparse_affinity_propagation(
            x, neighbours=20, preference=-1.0, iterations=30, stop_after=None, damp_both=damp_both, device=device,
            dtype=torch.float64,
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    np.testing.assert_allclose(two.representation, one.representation, atol=1e-6)

"""Distances to the j-th nearest other row, against every pair computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops import nearest_neighbours
from hf_dsel.ops.nearest_neighbours import neighbour_distances


def loop(x, j):
    """Every pair, one by one."""
    x = np.asarray(x, np.float64)
    return np.array([sorted(np.linalg.norm(a - b) for k, b in enumerate(x) if k != i)[j - 1] for i, a in enumerate(x)])


def close_rows(n, d, seed=0, copies=True):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 10), d))
    x = centres[rng.integers(len(centres), size=n)] + 0.3 * rng.standard_normal((n, d))
    if copies:
        x[rng.integers(n, size=n // 3)] = x[rng.integers(n, size=n // 3)]
    return x


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("neighbour", [1, 2, 7])
@pytest.mark.parametrize("block", [None, 7, 33])
def test_equals_the_loop(dtype, neighbour, block):
    x = close_rows(150, 12).astype(dtype)
    x.setflags(write=False)
    found = neighbour_distances(x, neighbour=neighbour, block=block, device="cpu")
    assert found.dtype == np.float64 and found.shape == (150,)
    np.testing.assert_allclose(found, loop(x, neighbour), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.data(), st.integers(0, 10**6), st.sampled_from([1, 4, 1024]), st.booleans())
def test_properties(n, data, seed, block, grid):
    """On a grid most rows are copies of others and most distances tie."""
    j = data.draw(st.integers(1, n - 1))
    x = np.random.default_rng(seed).integers(-1, 2, (n, 2)) if grid else close_rows(n, 3, seed)
    x = x.astype(np.float32)
    found = neighbour_distances(x, neighbour=j, block=block, device="cpu")
    np.testing.assert_allclose(found, loop(x, j), rtol=1e-12)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(neighbour_distances(x[order], neighbour=j, device="cpu"), found[order], rtol=1e-12)
    if j > 1:
        assert (neighbour_distances(x, neighbour=j - 1, device="cpu") <= found).all()


@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
def test_neighbours_that_float32_cannot_tell_apart(shift, scale):
    rng = np.random.default_rng(0)
    x = shift + np.repeat(rng.standard_normal((10, 6)), 30, axis=0) + 1e-6 * rng.standard_normal((300, 6))
    for j in (1, 3):
        np.testing.assert_allclose(neighbour_distances(x * scale, neighbour=j, device="cpu"), loop(x * scale, j), 1e-9)


def test_one_row_far_away_does_not_blur_the_others():
    x = close_rows(80, 4, copies=False)
    x[5] = 1e6
    np.testing.assert_allclose(neighbour_distances(x, device="cpu"), loop(x, 1), rtol=1e-9)


def test_pairs_are_decided_when_there_are_many(monkeypatch):
    monkeypatch.setattr(nearest_neighbours, "_PAIRS", 50)
    x = close_rows(200, 5)
    for j in (1, 4):
        np.testing.assert_allclose(neighbour_distances(x, neighbour=j, block=16, device="cpu"), loop(x, j), rtol=1e-12)


def test_many_copies_cost_nothing():
    x = np.concatenate([np.zeros((30_000, 8)), np.ones((30_000, 8)), [[0.0] * 7 + [-3.0]], [[-0.0] * 8]])
    found = neighbour_distances(x, neighbour=3, device="cpu")
    assert (found[:60_000] == 0).all() and found[60_000:].tolist() == [3.0, 0.0]
    assert neighbour_distances(np.ones((5, 2)), device="cpu").tolist() == [0.0] * 5


def test_tensors_of_brain_floats():
    x = torch.from_numpy(close_rows(40, 5)).bfloat16()
    np.testing.assert_allclose(neighbour_distances(x, device="cpu"), loop(x.double().numpy(), 1), rtol=1e-12)


def test_beside_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    x = close_rows(700, 20)
    for j in (1, 5):
        theirs = neighbors.NearestNeighbors(n_neighbors=j, algorithm="brute").fit(x).kneighbors()[0][:, -1]
        np.testing.assert_allclose(neighbour_distances(x, neighbour=j, device="cpu"), theirs, atol=1e-6)


def test_beside_faiss():
    faiss = pytest.importorskip("faiss")
    x = close_rows(700, 20, copies=False).astype(np.float32)
    index = faiss.IndexFlatL2(20)
    index.add(x)
    theirs = np.sqrt(np.maximum(index.search(x, 2)[0][:, 1], 0))
    np.testing.assert_allclose(neighbour_distances(x, device="cpu"), theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("x", "change", "message"),
    [
        (np.eye(3), {"neighbour": 0}, "neighbour is 0, and 3 rows have neighbours 1 to 2"),
        (np.eye(3), {"neighbour": 3}, "neighbour is 3"),
        (np.ones((1, 2)), {}, "neighbour is 1, and 1 rows"),
        (np.eye(3), {"block": 0}, "block is 0"),
        (np.array([[1.0], [np.nan]]), {}, r"1 of 2.*NaN or infinite.*\[1\]"),
        (np.ones((3, 2), np.int64), {}, "type int64"),
    ],
)
def test_bad_input_is_named(x, change, message):
    with pytest.raises(ValueError, match=message):
        neighbour_distances(x, device="cpu", **change)


@pytest.mark.gpu
def test_the_same_on_a_gpu():
    x = close_rows(3000, 32).astype(np.float32)
    for j in (1, 4):
        ours = neighbour_distances(x, neighbour=j, device="cuda", block=700)
        np.testing.assert_allclose(ours, neighbour_distances(x, neighbour=j, device="cpu"), rtol=1e-12)

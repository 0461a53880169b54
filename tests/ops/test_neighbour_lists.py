"""Lists of nearest rows beside a full sort of all distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops import neighbour_lists as engine
from hf_dsel.ops.nearest_neighbours import neighbour_distances
from hf_dsel.ops.neighbour_lists import neighbour_lists


def plain(x, k):
    x = np.asarray(x, dtype=np.float64)
    squared = np.stack([((row - x) ** 2).sum(1) for row in x])
    np.fill_diagonal(squared, np.inf)
    index = np.argsort(squared, axis=1, kind="stable")[:, : min(k, len(x) - 1)]
    return index, np.sqrt(np.take_along_axis(squared, index, 1))


def no_numba(monkeypatch):
    monkeypatch.setattr(engine, "_kernels", lambda device: None)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [7, 100, None])
@pytest.mark.parametrize("k", [1, 5, 64, 1000])
def test_equals_a_full_sort(monkeypatch, compiled, kind, block, k):
    if not compiled:
        no_numba(monkeypatch)
    x = np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32).astype(kind)
    index, distance = neighbour_lists(x, neighbours=k, block=block, device="cpu")
    expected, apart = plain(x, k)
    assert index.dtype == torch.int32 and distance.dtype == torch.float64
    np.testing.assert_array_equal(index.numpy(), expected)
    np.testing.assert_allclose(distance.numpy(), apart, rtol=1e-6 if kind == np.float64 else 1e-12)


@settings(max_examples=40)
@given(st.integers(2, 80), st.integers(1, 90), st.integers(0, 10**6))
def test_ties_go_to_the_lower_index_whatever_the_block(n, k, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, 3)).astype(np.float32) + 100  # copies and ties
    index, distance = neighbour_lists(x, neighbours=k, block=int(rng.integers(1, n + 1)), device="cpu")
    expected, apart = plain(x, k)
    np.testing.assert_allclose(distance.numpy(), apart, rtol=1e-15)
    if engine._kernels(torch.device("cpu")) is not None:
        np.testing.assert_array_equal(index.numpy(), expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_close_rows_far_from_zero(monkeypatch, compiled):
    """Rows 1e-4 apart and 20 from 0, where a float32 product is off by more than they are apart."""
    if not compiled:
        no_numba(monkeypatch)
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((30, 16)), 8, axis=0)
    x = (x + 1e-4 * rng.standard_normal(x.shape) + 5).astype(np.float32)
    _, distance = neighbour_lists(x, neighbours=5, block=50, device="cpu")
    np.testing.assert_allclose(distance.numpy(), plain(x, 5)[1], rtol=1e-12)
    np.testing.assert_allclose(distance[:, 0].numpy(), neighbour_distances(x, device="cpu"), rtol=1e-12)


def test_more_copies_than_neighbours():
    x = np.ones((50, 4), dtype=np.float32)
    x[25:] = 2
    _, distance = neighbour_lists(x, neighbours=30, device="cpu")
    np.testing.assert_array_equal(distance.numpy(), np.repeat([[0.0, 2.0]], [24, 6], axis=1).repeat(50, axis=0))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((1, 2)), {"neighbours": 1}, "1 row"),
        (np.ones((3, 2)), {"neighbours": 0}, "neighbours is 0"),
        (np.ones((3, 2)), {"neighbours": 1, "block": 0}, "block is 0"),
        (np.full((3, 2), np.inf), {"neighbours": 1}, "NaN or infinite"),
    ],
)
def test_bad_input(x, options, message):
    with pytest.raises(ValueError, match=message):
        neighbour_lists(x, device="cpu", **options)


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    x = np.random.default_rng(0).standard_normal((3000, 24)).astype(np.float32)
    for mine, theirs in zip(
        neighbour_lists(x, neighbours=20, device="cuda", block=1000),
        neighbour_lists(x, neighbours=20, device="cpu"),
        strict=True,
    ):
        torch.testing.assert_close(mine.cpu(), theirs)

"""The windowed greedy choice against the loop that looks at every row at every step."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops.k_center import k_center


def loop(x, first, k, factor=None):
    """Algorithm 1, all distances at every step."""
    x = np.asarray(x, np.float64)
    picked, gains = [first], [None]
    while len(picked) < k:
        r = np.array([min(np.linalg.norm(x[v] - x[a]) for a in picked) for v in range(len(x))])
        key = r if factor is None else (1 + (r / r.max() if r.max() > 0 else r)) * factor
        key = [-1.0 if v in picked else key[v] for v in range(len(x))]
        best = next(v for v in range(len(x)) if key[v] >= max(key) * (1 - 1e-10))
        picked.append(best)
        gains.append(r[best])
    return picked, gains


def fast_loop(x, first, k, factor=None):
    """The same with the distances kept."""
    x = np.asarray(x, np.float64)
    picked, gains = [first], [None]
    r = np.linalg.norm(x - x[first], axis=1)
    while len(picked) < k:
        key = r.copy() if factor is None else (1 + (r / r.max() if r.max() > 0 else r)) * factor
        key[picked] = -1
        best = int(np.flatnonzero(key >= key.max() * (1 - 1e-10))[0])
        picked.append(best)
        gains.append(r[best])
        r = np.minimum(r, np.linalg.norm(x - x[best], axis=1))
    return picked, gains


def same(found, expected, atol=1e-12):
    assert [row for row, _ in found] == expected[0]
    assert found[0][1] is None
    np.testing.assert_allclose([r for _, r in found[1:]], expected[1][1:], rtol=1e-9, atol=atol)


def close_rows(n, d, seed=0, copies=True):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 10), d))
    x = centres[rng.integers(len(centres), size=n)] + 0.3 * rng.standard_normal((n, d))
    if copies:
        x[rng.integers(n, size=n // 5)] = x[rng.integers(n, size=n // 5)]
    return x


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 24), seed=st.integers(0, 10**6), data=st.data(), weighted=st.booleans(),
    window=st.sampled_from([1, 2, 5, 512]), block=st.sampled_from([1, 3, None]), grid=st.booleans(),
)  # fmt: skip
def test_equals_the_loop(n, seed, data, weighted, window, block, grid):
    """On a grid most distances tie, and many rows are copies."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (n, 2)).astype(np.float32) if grid else close_rows(n, 4, seed).astype(np.float32)
    factor = rng.integers(1, 4, n) / 2 if weighted else None
    first = data.draw(st.integers(0, n - 1))
    found = list(k_center(x, start=first, factor=factor, window=window, block=block, device="cpu"))
    same(found, loop(x, first, n, factor))
    assert sorted(row for row, _ in found) == list(range(n))  # each row once
    if factor is None:
        assert all(a >= b - 1e-9 for (_, a), (_, b) in pairwise(found[1:]))
    k = data.draw(st.integers(1, n))
    again = k_center(x, start=first, factor=factor, window=7, device="cpu")
    assert [row for row, _ in islice(again, k)] == [row for row, _ in found[:k]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("window", "block"), [(512, None), (512, 100), (16, 4096), (64, 33)])
def test_larger_pools(dtype, weighted, window, block):
    x = close_rows(900, 24).astype(dtype)
    x.setflags(write=False)
    factor = np.random.default_rng(1).uniform(1, 2, 900) if weighted else None
    found = list(k_center(x, factor=factor, window=window, block=block, device="cpu"))
    same(found, fast_loop(x, 0, 900, factor))


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_rows_very_near_to_each_other_and_far_from_the_origin(shift):
    """Where a product of float64 rows has lost most digits."""
    rng = np.random.default_rng(0)
    x = shift + np.repeat(rng.standard_normal((20, 6)), 20, axis=0) + 1e-6 * rng.standard_normal((400, 6))
    same(list(k_center(x, device="cpu", window=50)), fast_loop(x, 0, 400), atol=1e-9)


def test_tensors_of_brain_floats():
    x = torch.from_numpy(close_rows(60, 5)).bfloat16()
    same(list(k_center(x, device="cpu")), loop(x.double().numpy(), 0, 60))


def test_copies_come_last_in_order_and_by_factor():
    x = np.array([[0.0], [0.0], [2.0], [0.0], [2.0]])
    assert list(k_center(x, device="cpu")) == [(0, None), (2, 2.0), (1, 0.0), (3, 0.0), (4, 0.0)]
    factor = np.array([1, 1, 1.25, 2, 1.5])
    assert [row for row, _ in k_center(x, factor=factor, device="cpu")] == [0, 4, 3, 2, 1]


def test_all_distances_equal():
    assert [row for row, _ in k_center(np.eye(40), start=7, window=4, device="cpu")] == [
        7, *[i for i in range(40) if i != 7]
    ]  # fmt: skip


def test_starts():
    x = np.array([[0.0], [10.0], [4.0], [4.0], [2.0]])  # the mean is 4
    assert next(k_center(x, start="mean", device="cpu")) == (2, None)
    assert next(k_center(x, start=np.int64(4), device="cpu")) == (4, None)
    rows = {s: next(k_center(x, start="random", rng=np.random.default_rng(s), device="cpu"))[0] for s in range(30)}
    assert set(rows.values()) == set(range(5))
    assert rows == {s: int(np.random.default_rng(s).integers(5)) for s in range(30)}


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6))
def test_order_of_the_rows_changes_nothing_but_the_start(n, seed):
    x = close_rows(n, 5, seed, copies=False)
    order = np.random.default_rng(seed).permutation(n)
    rows, gains = zip(*k_center(x, start=0, device="cpu"), strict=True)
    moved, moved_gains = zip(*k_center(x[order], start=int(np.argsort(order)[0]), device="cpu"), strict=True)
    assert [int(order[row]) for row in moved] == list(rows)
    np.testing.assert_allclose(moved_gains[1:], gains[1:], rtol=1e-9)
    from_mean = [row for row, _ in k_center(x, start="mean", device="cpu")]
    assert [int(order[row]) for row, _ in k_center(x[order], start="mean", device="cpu")] == from_mean


def test_at_most_twice_the_best_radius():
    """The theorem: on a small pool, with every set of 3 rows tried."""
    from itertools import combinations

    x = close_rows(14, 2, 3)
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    best = min(distance[:, list(rows)].min(1).max() for rows in combinations(range(14), 3))
    for start in range(14):
        rows = [row for row, _ in islice(k_center(x, start=start, device="cpu"), 3)]
        assert best <= distance[:, rows].min(1).max() + 1e-9 <= 2 * best + 2e-9


def test_beside_scikit_learns_distances():
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    x = close_rows(500, 16)
    found = list(islice(k_center(x, device="cpu"), 100))
    rows = [row for row, _ in found]
    distance = pairwise.euclidean_distances(x, x[rows])
    for m in (1, 10, 99):
        assert found[m][1] == pytest.approx(distance[:, :m].min(1).max(), abs=1e-6)


@pytest.mark.parametrize(
    ("x", "change", "message"),
    [
        (np.eye(3), {"start": 3}, "start is 3; it is a row from 0 to 2"),
        (np.eye(3), {"start": -1}, "start is -1"),
        (np.eye(3), {"start": True}, "start is True"),
        (np.eye(3), {"start": "middle"}, "start is 'middle'"),
        (np.eye(3), {"start": "random"}, "needs rng"),
        (np.eye(3), {"window": 0}, "window is 0"),
        (np.eye(3), {"block": 0}, "block is 0"),
        (np.eye(3), {"factor": np.ones(2)}, r"shape \(2,\)"),
        (np.eye(3), {"factor": np.array([1.0, 0.0, 1.0])}, "above 0 for each of 3 rows"),
        (np.eye(3), {"factor": np.array([1.0, np.nan, 1.0])}, "finite"),
        (np.array([[1.0], [np.inf]]), {}, r"1 of 2.*NaN or infinite.*\[1\]"),
        (np.zeros((0, 2)), {}, "expected rows x dim"),
    ],
)
def test_bad_input_is_named_at_once(x, change, message):
    with pytest.raises(ValueError, match=message):
        k_center(x, device="cpu", **change)


@pytest.mark.gpu
def test_the_same_on_a_gpu():
    x = close_rows(2000, 32).astype(np.float32)
    factor = np.random.default_rng(1).uniform(1, 2, 2000)
    for f in (None, factor):
        found, expected = (list(islice(k_center(x, factor=f, device=d), 300)) for d in ("cuda", "cpu"))
        same(found, tuple(map(list, zip(*expected, strict=True))))

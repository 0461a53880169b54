"""The blocked rule against the loop it stands for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops import half_products, near_duplicates
from hf_dsel.ops.half_products import HalfRows
from hf_dsel.ops.near_duplicates import first_come


def loop(x, order, threshold):
    x = np.asarray(x, dtype=np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    kept = []
    for row in order:
        top = max((float(np.clip(x[row] @ x[r], -1, 1)) for r, _ in kept), default=None)
        if top is None or top <= threshold + 1e-12:
            kept.append((int(row), top))
    return kept


def same(found, expected):
    assert [row for row, _ in found] == [row for row, _ in expected]
    assert [top is None for _, top in found] == [top is None for _, top in expected]
    np.testing.assert_allclose([t for _, t in found[1:]], [t for _, t in expected[1:]], atol=1e-5)


def close_rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 10), d))
    return centres[rng.integers(len(centres), size=n)] + 0.3 * rng.standard_normal((n, d))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("block", [None, 1, 5, 64])
def test_equals_the_loop(dtype, threshold, block):
    x = close_rows(300, 16).astype(dtype)
    x.setflags(write=False)
    order = np.random.default_rng(1).permutation(300)[:280]
    same(list(first_come(x, order=order, threshold=threshold, block=block, device="cpu")), loop(x, order, threshold))


@pytest.mark.parametrize("block", [None, 1, 4])
def test_equal_to_the_threshold_is_kept(block):
    x = np.array([[1.0, 0.0], [3.0, 4.0], [0.6, 0.8 + 1e-7], [0.61, 0.79], [0.0, 1.0]])
    rows = [row for row, _ in first_come(x, order=range(5), threshold=0.6, block=block, device="cpu")]
    assert rows == [0, 1]  # cos 0.6 stays; 2 and 3 are close to 1, and 4 has cos 0.8 with it
    assert [row for row, _ in first_come(x[:2], order=[0, 1], threshold=0.5999999, block=block, device="cpu")] == [0]


@pytest.mark.parametrize("block", [1, 3, 100])
def test_many_similarities_on_the_threshold(block):
    """Cosines of rows of small integers: 1/2 comes up all the time, and must always be kept."""
    x = np.random.default_rng(3).integers(0, 2, (200, 6)).astype(np.float16)
    x = x[x.any(1)]
    order = np.arange(len(x))
    same(list(first_come(x, order=order, threshold=0.5, block=block, device="cpu")), loop(x, order, 0.5))


def test_copies_are_kept_only_at_threshold_one():
    x = np.repeat(close_rows(30, 24), 3, axis=0).astype(np.float32)
    assert len(list(first_come(x, order=range(90), threshold=1.0, device="cpu"))) == 90
    rows = [row for row, _ in first_come(x, order=range(90), threshold=0.9999999, device="cpu")]
    assert rows == list(range(0, 90, 3))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 150), st.floats(-1, 1), st.integers(0, 10**6), st.sampled_from([1, 2, 17, 64]))
def test_properties(n, threshold, seed, block):
    x = close_rows(n, 8, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    found = list(first_come(x, order=order, threshold=threshold, block=block, device="cpu"))
    same(found, loop(x, order, threshold))
    assert list(islice(first_come(x, order=order, threshold=threshold, block=block, device="cpu"), 3)) == found[:3]


def test_stopping_early_reads_little():
    class Counting(np.ndarray):
        seen = 0

        def __getitem__(self, key):
            if isinstance(key, np.ndarray):
                Counting.seen += len(key)
            return super().__getitem__(key)

    x = np.random.default_rng(0).standard_normal((20_000, 32)).view(Counting)
    assert len(list(islice(first_come(x, order=range(20_000), threshold=0.9, device="cpu"), 10))) == 10
    assert 0 < Counting.seen <= 64


def test_no_rows_asked_for():
    assert list(first_come(np.eye(3), order=[], threshold=0.5, device="cpu")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"order": [0, 3]}, "0 to 3; there are rows 0 to 2"),
        ({"order": [-1]}, "-1 to -1"),
        ({"order": [0, 0, 1]}, "1 rows more than once"),
        ({"order": [0.5]}, "row numbers"),
        ({"block": 0}, "block is 0"),
    ],
)
def test_bad_options_are_named_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        first_come(np.eye(3), **{"order": [0, 1], "threshold": 0.5, "device": "cpu", **change})


def test_bad_rows_are_counted():
    x = np.eye(3)
    x[1] = 0
    with pytest.raises(ValueError, match=r"1 of 3.*zero.*\[1\]"):
        first_come(torch.from_numpy(x), order=[0], threshold=0.5, device="cpu")


# --- bfloat16 products first ---


def both_ways(monkeypatch, x, **options):
    """With and without the bfloat16 products, which are used from the first kept row on, wherever the test runs."""
    found = []
    monkeypatch.setattr(near_duplicates, "_HALF_FROM", 1)
    for half in (False, True):
        monkeypatch.setattr(near_duplicates, "half_is_fast", lambda device, half=half: half)
        found.append(list(first_come(x, device="cpu", **options)))
    return found


POOLS = {
    "clusters": lambda n, d: close_rows(n, d),
    "spread": lambda n, d: np.random.default_rng(1).standard_normal((n, d)),
    "one side": lambda n, d: 1 + np.random.default_rng(2).random((n, d)),  # all similarities large
    "within 1e-3": lambda n, d: 1 + 0.02 * np.random.default_rng(3).standard_normal((n, d)),
    "near-ties": lambda n, d: 1 + np.random.default_rng(4).integers(0, 2, (n, d)),
    "copies": lambda n, d: np.repeat(1 + close_rows(n // 3 + 1, d), 3, axis=0)[:n],
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("n", "d"), [(40, 1), (300, 3), (300, 64), (400, 384)])
def test_half_products_change_nothing(monkeypatch, pool, n, d):
    monkeypatch.setattr(half_products, "_DEAR", 1)  # so that the pairs are looked at however many there are
    monkeypatch.setattr(half_products, "_KEPT", 64)
    monkeypatch.setattr(half_products, "_CHUNKS", 2)
    x = POOLS[pool](n, d).astype(np.float32)
    order = np.random.default_rng(1).permutation(n)
    for threshold in (-1.0, 0.3, 0.9, 0.9995, 1.0):
        full, half = both_ways(monkeypatch, x, order=order, threshold=threshold)
        same(full, loop(x, order, threshold))
        same(half, full)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_half_products_over_types_and_blocks(monkeypatch, dtype):
    x = (0.3 + close_rows(500, 48)).astype(dtype)
    for block in (None, 1, 7, 200):
        full, half = both_ways(monkeypatch, x, order=np.arange(500), threshold=0.8, block=block)
        same(half, full)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 400),
    st.integers(1, 80),
    st.floats(-1, 1),
    st.floats(0, 3),
    st.floats(1e-4, 1),
    st.integers(0, 10**6),
)
def test_the_largest_cosine_is_among_the_likely_pairs(n, d, threshold, shift, spread, seed):
    x = shift + spread * np.random.default_rng(seed).standard_normal((n, d))
    unit = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    kept, rows = unit[: n // 2], unit[n // 2 :]
    half = HalfRows(d)
    for part in kept.split(37):
        half.append(part.float())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_products, "_DEAR", 1)
        found = half.likely_largest(rows.float(), threshold=threshold, margin=2e-5)
    if found is None:  # some row has no clearly positive cosine
        assert float((rows @ kept.T).amax(1).min()) < 0.05
        return
    above, i, j = found
    cosine = (rows @ kept.T).numpy()
    assert (cosine.max(1)[above] > threshold).all()
    pairs = set(zip(i.tolist(), j.tolist(), strict=True))
    assert len(pairs) == len(i)
    wanted = (cosine >= cosine.max(1, keepdims=True) - 1e-5) & ~above[:, None]
    assert set(zip(*(side.tolist() for side in wanted.nonzero()), strict=True)) <= pairs
    assert not above[i].any()


def test_likely_pairs_are_few_on_spread_rows_and_left_alone_on_near_copies():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 128)) + 0.5
    spread = torch.from_numpy(centres[rng.integers(200, size=2000)] + 0.7 * rng.standard_normal((2000, 128)))
    near = 1 + 0.01 * torch.from_numpy(rng.standard_normal((2000, 128)))
    results = []
    for x in (spread, near):
        unit = torch.nn.functional.normalize(x).float()
        half = HalfRows(128)
        half.append(unit[200:])
        results.append(half.likely_largest(unit[:200], threshold=1.0, margin=2e-5))
    assert results[0] is not None and 200 <= len(results[0][1]) <= 1000
    assert results[1] is None

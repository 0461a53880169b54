"""The fast greedy against a plain one in float64, over every path it can take."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.coverage import coverage
from hf_dsel.ops import greedy_cover, uncovered_pairs
from hf_dsel.ops.facility_location import facility_location


@pytest.fixture(scope="module", params=["compiled", "torch"], autouse=True)
def loops(request):
    """Everything below runs with numba's loops and with torch's."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "compiled":
            pytest.importorskip("numba")
        else:
            for module in (greedy_cover, uncovered_pairs):
                patch.setattr(module, "kernels", lambda device: None)
        yield request.param


def clustered(n, d, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 20), d))
    return centres[rng.integers(len(centres), size=n)] + spread * rng.standard_normal((n, d))


def plain(x, k, weight=1.0, modular=None, shifted=False):
    """The definition, step by step, all similarities stored, float64."""
    x = np.asarray(x, dtype=np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = x @ x.T
    s = (1 + s) / 2 if shifted else s
    q = np.zeros(len(x)) if modular is None else np.asarray(modular, dtype=np.float64)
    picks, cover = [], None
    for _ in range(k):
        gain = s.sum(1) if cover is None else np.maximum(s - cover, 0).sum(1)
        score = weight * gain + q
        score[[row for row, _ in picks]] = -np.inf
        unit = 0.5 if shifted else 1.0  # what a cosine of 1 is worth
        tie = 1e-6 * weight * max(unit, abs(gain[score.argmax()]))
        best = int(np.flatnonzero(score >= score.max() - tie)[0])
        picks.append((best, score[best]))
        cover = s[best] if cover is None else np.maximum(cover, s[best])
    return picks


def same(found, expected):
    found = list(found)
    assert [row for row, _ in found] == [row for row, _ in expected]
    np.testing.assert_allclose([g for _, g in found], [g for _, g in expected], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 65, 400])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("similarity", ["cosine", "shifted"])
def test_equals_the_plain_greedy_to_the_last_row(n, dtype, similarity):
    x = clustered(n, 16, seed=n).astype(dtype)
    x.setflags(write=False)
    found = facility_location(x, similarity=similarity, device="cpu")
    same(found, plain(x, n, shifted=similarity == "shifted"))


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("max_bytes", [1, 20_000, 200_000, None])
@pytest.mark.parametrize("d", [4, 40])
def test_block_and_memory_change_nothing(block, max_bytes, d):
    if block == 1 and max_bytes == 1:
        pytest.skip("a tile a pair and a pass a step: slow, and covered by its neighbours")
    n = 250 if block > 1 else 60
    x = clustered(n, d, seed=3, spread=0.8)
    modular = np.random.default_rng(1).random(n) * 5
    found = islice(facility_location(x, modular=modular, block=block, max_bytes=max_bytes, device="cpu"), 60)
    same(found, plain(x, 60, modular=modular))


@pytest.mark.parametrize("allowance", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("max_bytes", [1, None])
@pytest.mark.parametrize("short", [512, 10])
def test_every_path_gives_the_same_picks(monkeypatch, allowance, max_bytes, short):
    """Row by row (1.0), all pairs at once (0.0), refreshed bounds (no room), pairs stored but not walked yet (10)."""
    monkeypatch.setattr(greedy_cover, "ALLOWANCE", allowance)
    monkeypatch.setattr(greedy_cover, "SHORT", short)
    x = clustered(600, 8, seed=5)
    same(islice(facility_location(x, max_bytes=max_bytes, block=100, device="cpu"), 150), plain(x, 150))


def test_pruning_of_the_stored_pairs(monkeypatch):
    calls = []
    rebuild = uncovered_pairs.UncoveredPairs.rebuild
    monkeypatch.setattr(uncovered_pairs.UncoveredPairs, "rebuild", lambda self: calls.append(1) or rebuild(self))
    monkeypatch.setattr(uncovered_pairs, "_STEP", 100)
    monkeypatch.setattr(uncovered_pairs, "PRUNE_FROM", 1)
    x = clustered(500, 16, seed=6)
    same(facility_location(x, block=64, device="cpu"), plain(x, 500))
    assert calls


def test_equal_rows_go_to_the_lower_number():
    base = clustered(40, 12, seed=7)
    x = np.concatenate([base, base, base[:20]])
    rows = [row for row, _ in facility_location(x, device="cpu", block=16)]
    expected = [row for row, _ in plain(x, len(x))]
    assert rows[:40] == expected[:40]
    assert all(row < 40 for row in rows[:40])
    assert rows[40:] == list(range(40, 100))  # nothing left to gain


def test_all_rows_equal():
    found = list(facility_location(np.ones((50, 5)), device="cpu"))
    assert [row for row, _ in found] == list(range(50))
    assert found[0][1] == pytest.approx(50)
    assert all(gain == 0 for _, gain in found[1:])


def test_first_gain_has_no_floor():
    x = np.array([[1.0, 0.0], [-1.0, 0.01], [-1.0, -0.01], [0.0, 1.0]])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    first, gain = next(facility_location(x, device="cpu"))
    sums = (unit @ unit.T).sum(1)
    assert first == sums.argmax()
    assert gain == pytest.approx(sums.max(), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.001, 1 / 300, 0.5])
def test_modular_term(weight):
    x = clustered(300, 10, seed=9)
    modular = np.random.default_rng(2).random(300)
    found = islice(facility_location(x, diversity_weight=weight, modular=modular, device="cpu"), 100)
    same(found, plain(x, 100, weight=weight, modular=modular))


def test_modular_alone_is_a_stable_sort():
    modular = np.array([1.0, 3.0, 3.0, 2.0])
    found = list(facility_location(np.eye(4), diversity_weight=0.0, modular=modular, device="cpu"))
    assert found == [(1, 3.0), (2, 3.0), (3, 2.0), (0, 1.0)]


def test_tensors_and_mixed_norms():
    x = clustered(120, 6, seed=11)
    scaled = x * np.logspace(-18, 18, 120)[:, None]
    same(facility_location(torch.from_numpy(scaled), device="cpu"), plain(x, 120))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 90), st.integers(2, 20), st.integers(0, 10**6))
def test_properties(n, d, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    found = list(facility_location(x, device="cpu", block=32))
    rows = [row for row, _ in found]
    gains = np.array([gain for _, gain in found])
    assert sorted(rows) == list(range(n))  # no row twice
    assert list(islice(facility_location(x, device="cpu", block=32), n // 2)) == found[: n // 2]  # a prefix is a budget
    assert (np.diff(gains[1:]) <= 1e-5).all()
    assert gains.sum() == pytest.approx(n, rel=1e-4)  # d(all rows) = Σ cos(v, v)
    assert gains[: n // 2].sum() == pytest.approx(n * coverage(x, np.array(rows[: n // 2])), rel=1e-4, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_renaming_rows_renames_picks(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((80, 12))
    q = rng.random(80)  # without it two rows that stand only for each other tie
    names = rng.permutation(80)
    original = [row for row, _ in islice(facility_location(x, modular=q, device="cpu"), 30)]
    renamed = [int(names[row]) for row, _ in islice(facility_location(x[names], modular=q[names], device="cpu"), 30)]
    assert renamed == original


def sampled(x, size, rng):
    """Stochastic greedy, plainly, with the same draws."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = x @ x.T
    remaining, picks, cover = np.arange(len(x)), [], None
    while len(remaining):
        at = rng.choice(len(remaining), size=min(size, len(remaining)), replace=False, shuffle=False)
        drawn = np.sort(remaining[at])
        gain = s[drawn].sum(1) if cover is None else np.maximum(s[drawn] - cover, 0).sum(1)
        best = int(drawn[gain.argmax()])
        picks.append((best, gain.max()))
        cover = s[best] if cover is None else np.maximum(cover, s[best])
        remaining = remaining[remaining != best]
    return picks


def test_stochastic_equals_the_plain_one_and_its_seed():
    x = clustered(200, 16, seed=13)
    size = int(np.ceil(200 / 20 * np.log(1 / 0.1)))
    runs = [
        list(islice(facility_location(x, epsilon=0.1, k=20, rng=np.random.default_rng(s), device="cpu"), 60))
        for s in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]
    same(runs[0], sampled(x, size, np.random.default_rng(0))[:60])
    exact = sum(gain for _, gain in islice(facility_location(x, device="cpu"), 20))
    assert sum(gain for _, gain in runs[0][:20]) > 0.85 * exact


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diversity_weight": -1.0}, "diversity_weight is -1.0"),
        ({"diversity_weight": float("nan")}, "diversity_weight is nan"),
        ({"similarity": "dot"}, "'dot'.*'cosine' or 'shifted'"),
        ({"modular": np.ones(3)}, r"shape \(3,\).*10 rows"),
        ({"modular": np.array([np.nan] * 2 + [1.0] * 8)}, r"2 of 10 modular.*\[0, 1\]"),
        ({"epsilon": 0.1}, "epsilon needs k"),
        ({"epsilon": 0.1, "k": 2}, "epsilon needs rng"),
        ({"epsilon": 1.5, "k": 2}, "epsilon is 1.5"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"block": 0}, "block is 0"),
    ],
)
def test_bad_options_are_named_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        facility_location(clustered(10, 4), device="cpu", **change)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "1 of 10 .*NaN or infinite.*[4]"), (0.0, "1 of 10.*zero.*[4]")]
)
def test_bad_rows_are_counted(value, message):
    x = clustered(10, 4)
    x[4] = value
    with pytest.raises(ValueError, match=message):
        facility_location(x, device="cpu")


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(4), np.ones((3, 2), dtype=np.int64)])
def test_bad_shapes_and_types(bad):
    with pytest.raises(ValueError, match="expected"):
        facility_location(bad, device="cpu")


def test_same_picks_as_submodlib():
    submodlib = pytest.importorskip("submodlib")
    # 25 picks: later, two rows that stand only for each other tie, and submodlib does not take the lower one
    x = clustered(300, 12, seed=15, spread=0.8).astype(np.float32)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    kernel = ((1 + unit @ unit.T) / 2).astype(np.float32)
    peer = submodlib.FacilityLocationFunction(n=300, mode="dense", sijs=kernel, separate_rep=False)
    expected = [row for row, _ in peer.maximize(budget=25, optimizer="LazyGreedy", show_progress=False)]
    found = [row for row, _ in islice(facility_location(x, similarity="shifted", device="cpu"), 25)]
    assert found == expected


@pytest.mark.gpu
def test_same_picks_on_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = clustered(3000, 64, seed=16, spread=0.8)
    same(islice(facility_location(x, device="cuda"), 200), plain(x, 200))

"""Messages beside a plain loop, exemplars beside scikit-learn's, and what must not change them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops import affinity_propagation as engine
from hf_dsel.ops.affinity_propagation import affinity_propagation, message_bytes


def rows(n, d=8, seed=0, topics=6, spread=0.4):
    """Unit rows around some topics."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((topics, d))
    x = centres[rng.integers(topics, size=n)] + spread * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def similarities(x, preference):
    x = np.asarray(x, dtype=np.float64)
    s = -np.sqrt(((x[:, None] - x) ** 2).sum(2))
    off = s[~np.eye(len(x), dtype=bool)]
    np.fill_diagonal(s, np.median(off) if preference == "median" else preference)
    return s


def plain(s, iterations, damping=0.5, damp_both=False, history=None, momentum=0.5, decay=0.99):
    """Eq. 3 in float64, one column at a time, with all matrices. `history` is a matrix."""
    n = len(s)
    r, a = np.zeros((n, n)), np.zeros((n, n))
    for t in range(iterations):
        alpha = 0.0 if history is None else momentum * decay**t
        both = a + s
        new = np.empty((n, n))
        for k in range(n):
            new[:, k] = s[:, k] - np.delete(both, k, axis=1).max(1)
        new = damping * r + (1 - damping) * new
        r = new if history is None else alpha * history + (1 - alpha) * new
        new = np.empty((n, n))
        for k in range(n):
            positive = np.maximum(r[:, k], 0)
            positive[k] = 0
            new[:, k] = np.minimum(0, r[k, k] + positive.sum() - positive)
            new[k, k] = positive.sum()
        a = damping * a + (1 - damping) * new if damp_both else new
    f = a + r
    return r, a, f.sum(0) - f.sum(1) + f.diagonal()


@pytest.fixture(scope="module")
def reference():
    """(embeddings, R, A, score) at N = 200 after 30 iterations, by preference."""
    x = rows(200, 32, topics=20)
    return {p: (x, *plain(similarities(x, p), 30)) for p in (0.0, "median", -0.4)}


def no_numba(monkeypatch):
    monkeypatch.setattr(engine, "_kernels", lambda device: None)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("similarity", ["kept", "recomputed"])
@pytest.mark.parametrize("block", [7, 64, 200, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_double_loop(reference, monkeypatch, compiled, similarity, block, dtype):
    if not compiled:
        no_numba(monkeypatch)
    for preference, (x, r, a, score) in reference.items():
        found = affinity_propagation(
            x, preference=preference, iterations=30, stop_after=None, similarity=similarity, block=block, dtype=dtype,
            device="cpu",
        )  # fmt: skip
        assert found.iterations == 30 and not found.converged and found.responsibility.dtype == dtype
        tight = 1e-4 if dtype == torch.float32 else 1e-9
        np.testing.assert_allclose(found.responsibility.numpy(), r, atol=tight)
        np.testing.assert_allclose(found.availability().numpy(), a, atol=tight)
        np.testing.assert_allclose(found.availability(slice(40, 60)).numpy(), a[40:60], atol=tight)
        np.testing.assert_allclose(found.representation, score, atol=200 * tight)
        sure = np.abs((a + r).diagonal()) > tight
        mine = np.isin(np.arange(200), found.exemplars)
        assert (mine == ((a + r).diagonal() > 0))[sure].all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.bfloat16])
def test_types_of_embeddings(kind):
    x = torch.from_numpy(rows(60)).to(kind) if isinstance(kind, torch.dtype) else rows(60).astype(kind)
    wide = x.float().numpy() if isinstance(x, torch.Tensor) else x
    r, a, _ = plain(similarities(wide, -1.0), 12)
    found = affinity_propagation(x, preference=-1.0, iterations=12, stop_after=None, device="cpu")
    np.testing.assert_allclose(found.responsibility.numpy(), r, atol=1e-4)
    np.testing.assert_allclose(found.availability().numpy(), a, atol=1e-4)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("damp_both", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])  # beyond what half precision can hold, but for a common factor
@pytest.mark.parametrize(
    ("kept", "share"),
    [
        ({"similarity": "half"}, 2e-3),
        ({"dtype": torch.bfloat16}, 2e-2),
        ({"dtype": torch.bfloat16, "similarity": "half"}, 2e-2),
        ({"dtype": torch.bfloat16, "similarity": "recomputed"}, 2e-2),
    ],
)
def test_half_precision(monkeypatch, compiled, damp_both, scale, kept, share):
    """R and A off by no more than a share of the largest message after a few iterations."""
    if not compiled:
        no_numba(monkeypatch)
    x = rows(150, 16, seed=3)
    r, a, score = plain(similarities(x, -0.9), 8, damp_both=damp_both)
    options = {"preference": -0.9 * scale, "iterations": 8, "stop_after": None, "damp_both": damp_both, "device": "cpu"}
    found = affinity_propagation(x * np.float32(scale), block=40, **options, **kept)
    assert found.responsibility.dtype == kept.get("dtype", torch.float32)
    assert found.availability().dtype == torch.float32
    np.testing.assert_allclose(found.responsibility.float().numpy() / scale, r, atol=share * np.abs(r).max())
    np.testing.assert_allclose(found.availability().numpy() / scale, a, atol=4 * share * np.abs(a).max())
    assert np.corrcoef(found.representation, score)[0, 1] > 0.999


def test_a_bfloat16_r_is_the_rounded_one_with_and_without_compiled_loops(monkeypatch):
    x, options = rows(90, seed=8), {"dtype": torch.bfloat16, "preference": -0.8, "iterations": 1, "device": "cpu"}
    fast = affinity_propagation(x, **options)
    no_numba(monkeypatch)
    slow = affinity_propagation(x, **options)
    exact = affinity_propagation(x, **{**options, "dtype": torch.float32}).responsibility
    assert (fast.responsibility != slow.responsibility).sum() <= 5  # last digits of float32 at the edge of two
    assert (fast.responsibility != exact.bfloat16()).sum() <= 5
    np.testing.assert_allclose(fast.representation, slow.representation, atol=0.05)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("block", [13, None])
def test_history(monkeypatch, compiled, block):
    if not compiled:
        no_numba(monkeypatch)
    x, h = rows(70, seed=2), np.random.default_rng(3).standard_normal((70, 70)).astype(np.float32)
    r, a, score = plain(similarities(x, 0.0), 20, damping=0.3, history=h, momentum=0.6, decay=0.9)
    options = {"iterations": 20, "stop_after": None, "damping": 0.3, "momentum": 0.6, "decay": 0.9, "device": "cpu"}
    given_whole = affinity_propagation(x, history=torch.from_numpy(h), block=block, **options)
    given_rows = affinity_propagation(x, history=lambda part: torch.from_numpy(h[part]), block=block, **options)
    for found in (given_whole, given_rows):
        np.testing.assert_allclose(found.responsibility.numpy(), r, atol=1e-4)
        np.testing.assert_allclose(found.availability().numpy(), a, atol=1e-4)
        np.testing.assert_allclose(found.representation, score, atol=1e-2)


@pytest.mark.parametrize("block", [11, None])
def test_damping_of_both(block):
    x = rows(80, seed=4)
    r, a, score = plain(similarities(x, "median"), 30, damping=0.7, damp_both=True)
    found = affinity_propagation(
        x, preference="median", iterations=30, stop_after=None, damping=0.7, damp_both=True, block=block, device="cpu"
    )
    np.testing.assert_allclose(found.responsibility.numpy(), r, atol=1e-4)
    np.testing.assert_allclose(found.availability().numpy(), a, atol=1e-4)
    np.testing.assert_allclose(found.representation, score, atol=1e-2)


def moved(s, exemplars):
    """scikit-learn's last step: each exemplar gives way to the row of its cluster most similar to all of it."""
    cluster = s[:, exemplars].argmax(1)
    cluster[exemplars] = np.arange(len(exemplars))
    members = [np.flatnonzero(cluster == k) for k in range(len(exemplars))]
    return sorted(int(rows[s[np.ix_(rows, rows)].sum(0).argmax()]) for rows in members)


@pytest.mark.parametrize(
    ("damp_both", "spread"), [(True, 0.2), (True, 0.4), (False, 0.2)]
)  # R alone may settle elsewhere where groups overlap
@pytest.mark.parametrize("preference", ["median", -4.0, -1.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exemplars_are_scikit_learns(damp_both, spread, preference, seed):
    cluster = pytest.importorskip("sklearn.cluster")
    x = rows(300, seed=seed, topics=12, spread=spread)
    found = affinity_propagation(
        x, preference=preference, iterations=1000, stop_after=100, damping=0.8, damp_both=damp_both, device="cpu"
    )
    s = similarities(x, preference)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns where it does not converge
        theirs, _, iterations = cluster.affinity_propagation(
            s.copy(), preference=s[0, 0], max_iter=1000, convergence_iter=100, damping=0.8, random_state=0,
            return_n_iter=True,
        )  # fmt: skip
    assert found.converged and moved(s, found.exemplars) == list(theirs)
    if damp_both:
        assert abs(found.iterations - iterations) <= 1


def test_the_diagonal_at_zero_gives_distances_to_nearest_neighbours():
    x = rows(120, seed=5)
    found = affinity_propagation(x, device="cpu", iterations=60, stop_after=None)
    s = similarities(x, -np.inf)
    np.testing.assert_allclose(found.responsibility.diagonal().numpy(), -s.max(1), atol=1e-4)
    a = found.availability()
    assert not a[~torch.eye(120, dtype=torch.bool)].any() and found.exemplars.tolist() == list(range(120))


def test_stops_when_exemplars_stay():
    seen = []
    found = affinity_propagation(rows(50), device="cpu", stop_after=4, progress=lambda *now: seen.append(now))
    assert found.converged and found.iterations == 4 and seen == [(t, 50) for t in (1, 2, 3, 4)]
    assert affinity_propagation(rows(50), device="cpu", stop_after=4, iterations=3).converged is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 3, 4, 101, 200])
@pytest.mark.parametrize("similarity", ["kept", "recomputed"])
def test_the_median_is_exact(n, dtype, similarity):
    x = rows(n, seed=n)
    found = affinity_propagation(
        x, preference="median", iterations=1, dtype=dtype, similarity=similarity, block=17, device="cpu"
    )
    assert found.preference == pytest.approx(similarities(x, "median")[0, 0], rel=1e-6)


def test_close_and_equal_rows_have_their_distance():
    """Far from 0 and close together, the product of float32 rows alone would be off by more than the distance."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 16)), 3, axis=0)
    x[1::3] += 1e-4 * rng.standard_normal((20, 16))  # rows 0, 2 of each three are equal
    x = (x + 5).astype(np.float32)
    s = similarities(x, -1.0)
    r, a, _ = plain(s, 10)
    for similarity in ("kept", "recomputed"):
        found = affinity_propagation(
            x, preference=-1.0, iterations=10, stop_after=None, device="cpu", similarity=similarity, block=16
        )
        np.testing.assert_allclose(found.responsibility.numpy(), r, atol=2e-5)
        np.testing.assert_allclose(found.availability().numpy(), a, atol=2e-5)


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 10**6), st.sampled_from([0.0, "median", -0.7]), st.booleans())
def test_row_order_block_and_loops_do_not_matter(n, seed, preference, whole_numbers):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, 3)).astype(np.float32) if whole_numbers else rows(n, 4, seed)  # many ties, or none
    options = {"preference": preference, "iterations": 15, "stop_after": None, "device": "cpu"}
    found = affinity_propagation(x, **options)
    order = rng.permutation(n)
    turned = affinity_propagation(x[order], block=int(rng.integers(1, n + 1)), similarity="recomputed", **options)
    expected = found.responsibility.numpy()[np.ix_(order, order)]
    np.testing.assert_allclose(turned.responsibility.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(
        turned.availability().numpy(), found.availability().numpy()[np.ix_(order, order)], atol=1e-4
    )
    np.testing.assert_allclose(turned.representation, found.representation[order], atol=1e-2)
    a = found.availability().numpy()
    assert (
        (a[~np.eye(n, dtype=bool)] <= 0).all() and (a.diagonal() >= 0).all() and np.isfinite(found.representation).all()
    )


def test_the_size_is_stated_before_it_is_taken():
    n, square = 4000, 4 * 4000**2
    needed = message_bytes(n, 8, device="cpu")
    assert 1.5 * square < needed <= 1.6 * square
    assert message_bytes(n, 8, device="cpu", similarity="recomputed") < 1.1 * square
    assert square <= message_bytes(n, 8, device="cpu", damp_both=True) - needed < 1.1 * square  # and a block
    assert 0.24 * square < needed - message_bytes(n, 8, device="cpu", similarity="half") < 0.26 * square
    assert 0.45 * square < needed - message_bytes(n, 8, device="cpu", dtype=torch.bfloat16) <= 0.5 * square
    with pytest.raises(
        MemoryError, match=r'4000 rows need 0\.09 GiB .* 0\.00 GiB is the limit; similarity="recomputed"'
    ):
        affinity_propagation(rows(n), max_bytes=1000, device="cpu")
    with pytest.raises(MemoryError, match="fewer rows"):
        affinity_propagation(rows(50), max_bytes=1000, device="cpu", similarity="recomputed")
    kept = affinity_propagation(rows(50), max_bytes=message_bytes(50, 8, device="cpu"), device="cpu", iterations=1)
    assert kept.iterations == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 1.0}, "damping is 1.0"),
        ({"preference": np.nan}, "preference is nan"),
        ({"preference": "mean"}, "preference is 'mean'"),
        ({"iterations": 0}, "iterations is 0"),
        ({"stop_after": 0}, "stop_after is 0"),
        ({"block": 0}, "block is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"decay": -0.1}, "decay is -0.1"),
        ({"similarity": "quarter"}, "similarity is 'quarter'"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
        ({"history": torch.zeros(3, 3)}, r"history has shape \(3, 3\); expected \(10, 10\)"),
        ({"history": lambda part: torch.zeros(1, 3)}, r"history has shape \(1, 3\) for rows 0 to"),
        ({"history": torch.full((10, 10), torch.nan)}, "history is NaN or infinite in rows 0 to"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        affinity_propagation(rows(10), device="cpu", **options)


def test_bad_embeddings():
    with pytest.raises(ValueError, match="at least 2"):
        affinity_propagation(rows(1), device="cpu")
    x = rows(10)
    x[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"first rows: \[3\]"):
        affinity_propagation(x, device="cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("similarity", ["kept", "half", "recomputed"])
def test_a_gpu_gives_the_same(similarity):
    x = rows(700, seed=9)
    for options in ({}, {"preference": "median"}, {"preference": -1.0, "damp_both": True}):
        one, two = (
            affinity_propagation(
                x, iterations=30, stop_after=None, similarity=similarity, device=device, block=300, **options
            )
            for device in ("cpu", "cuda")
        )
        torch.testing.assert_close(two.responsibility.cpu(), one.responsibility, atol=1e-4, rtol=0)
        torch.testing.assert_close(two.availability().cpu(), one.availability(), atol=1e-4, rtol=0)

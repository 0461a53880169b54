"""H of the paper and of its code against loops over Eqs. 4 and 5."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.carried_messages import Carried, history_rows, median_of


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def loops(r, members, old, new, estimate):
    """Every sum written out."""
    n, m, f = len(old), len(members), len(new)
    sim = unit(old.astype(np.float64)) @ unit(new.astype(np.float64)).T
    h = np.zeros((m + f, m + f))
    w = np.zeros((n, f))
    for k in range(f):
        for j in range(n):
            if estimate == "paper":
                w[j, k] = sim[j, k] * sim[j, k] / sum(sim[item, k] for item in range(n))
            else:
                w[j, k] = (1 - sim[j, k]) / sum(1 - sim[item, k] for item in range(n))
    for a, i in enumerate(members):
        for b, k in enumerate(members):
            h[a, b] = r[i, k]
        for k in range(f):
            h[a, m + k] = sum(w[j, k] * r[i, j] for j in range(n))  # Eq. 4
            h[m + k, a] = sum(w[j, k] * r[j, i] for j in range(n))  # Eq. 5
    if estimate == "paper":
        h[:, m:] += min(np.median(r), 0)
    else:
        h[m:, m:] = np.median(np.concatenate([h[:m].ravel(), h[m:, :m].ravel()]))
    return h


@pytest.mark.parametrize("estimate", ["paper", "repository"])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_equals_the_loops(estimate, shift):
    rng = np.random.default_rng(0)
    old, new = rng.random((12, 5)).astype(np.float32), rng.random((7, 5)).astype(np.float32)
    r = rng.standard_normal((12, 12)) + shift  # with a positive median nothing is added
    members = np.array([3, 0, 11, 7])
    carried = Carried.of(torch.from_numpy(r.astype(np.float32)), members, old)
    rows = history_rows(carried, new, estimate=estimate, device="cpu")
    expected = loops(r, members, old, new, estimate)
    for part in (slice(0, 11), slice(0, 4), slice(2, 6), slice(4, 11), slice(5, 9), slice(3, 4)):
        np.testing.assert_allclose(rows(part).numpy(), expected[part], atol=1e-5)
    assert carried.nbytes == (4 * 12 * 2 + 12 * 5) * 4 + 4 * 8 + 8


@pytest.mark.parametrize("estimate", ["paper", "repository"])
def test_the_engine_takes_it(estimate):
    rng = np.random.default_rng(1)
    x = unit(rng.random((30, 6)).astype(np.float32))
    first = affinity_propagation(x[:20], iterations=20, stop_after=None, device="cpu")
    members = np.argsort(-first.representation)[:8]
    rows = history_rows(Carried.of(first.responsibility, members, x[:20]), x[20:], estimate=estimate, device="cpu")
    both = np.concatenate([x[members], x[20:]])
    options = {"iterations": 20, "stop_after": None, "momentum": 0.5, "decay": 0.9, "device": "cpu"}
    by_rows = affinity_propagation(both, history=rows, block=5, **options)
    whole = affinity_propagation(both, history=rows(slice(0, 18)), **options)
    np.testing.assert_allclose(by_rows.representation, whole.representation, atol=1e-4)
    plain = affinity_propagation(both, iterations=20, stop_after=None, device="cpu")
    assert np.abs(whole.representation - plain.representation).max() > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1),
    st.booleans(),
)
def test_median_of(rows, parts):
    x = torch.tensor(rows, dtype=torch.float32)
    found = median_of(x[:1], x[1:]) if parts and len(x) > 1 else median_of(x)
    assert found == pytest.approx(float(np.median(x.double().numpy())), rel=1e-6, abs=1e-44)


def test_errors():
    rng = np.random.default_rng(0)
    old = rng.standard_normal((6, 4)).astype(np.float32)
    old[:, 0] = 0
    carried = Carried.of(torch.zeros(6, 6), np.arange(3), old)
    with pytest.raises(ValueError, match="5 dimensions, the old ones 4"):
        history_rows(carried, np.ones((2, 5), np.float32), estimate="paper")
    with pytest.raises(ValueError, match="Eq. 4 divides"), pytest.warns(UserWarning, match="1 new rows"):
        history_rows(carried, np.array([[1e-30, 0, 0, 0]], np.float32), estimate="paper", device="cpu")


def test_a_sum_below_0_is_taken_as_it_is_and_told():
    rng = np.random.default_rng(0)
    old = rng.random((6, 4)).astype(np.float32)
    r = rng.standard_normal((6, 6)).astype(np.float32)
    members, new = np.arange(3), -old[:2]
    carried = Carried.of(torch.from_numpy(r), members, old)
    with pytest.warns(UserWarning, match="2 new rows"):
        rows = history_rows(carried, new, estimate="paper", device="cpu")
    np.testing.assert_allclose(rows(slice(0, 5)).numpy(), loops(r, members, old, new, "paper"), atol=1e-5)

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics import vendi_score as module
from hf_dsel.metrics.vendi_score import quality_weighted_vendi_score, vendi_score
from tests.metrics.test_nearest import vectors

ORDERS = [0.5, 1, 1.5, 2, 5, math.inf]


def slow(x, order):
    """The n x n kernel, all its eigenvalues, the formula."""
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(x @ x.T / len(x))
    values = values[values > 1e-9]
    if order == 1:
        return math.exp(-sum(v * math.log(v) for v in values))
    if order == math.inf:
        return 1 / values.max()
    return sum(v**order for v in values) ** (1 / (1 - order))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "dim"), [(1, 4), (6, 9), (9, 9), (40, 9), (100, 3)])
@pytest.mark.parametrize("order", ORDERS)
def test_equals_the_kernel_matrix_on_both_sides_of_the_dual(dtype, n, dim, order):
    x = vectors(n, dim, n, dtype)
    assert vendi_score(x, order=order) == pytest.approx(slow(x, order), rel=1e-5)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_block_size_changes_nothing(block, monkeypatch):
    x = vectors(50, 6, 0)
    expected = vendi_score(x)
    monkeypatch.setattr(module, "BLOCK", block)
    assert vendi_score(x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("n", "dim"), [(7, 20), (60, 5)])
def test_equals_the_authors_package(n, dim, order):
    vendi = pytest.importorskip("vendi_score.vendi")
    x = vectors(n, dim, 1, np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    # of version 0.0.3, score_K and score_dual; its score_X takes no notice of q
    assert vendi_score(x, order=order) == pytest.approx(vendi.score_dual(x, q=order), rel=1e-5)
    assert vendi_score(x, order=order) == pytest.approx(vendi.score_K(unit @ unit.T, q=order), rel=1e-5)


@given(n=st.integers(1, 30), dim=st.integers(1, 8), seed=st.integers(0, 99), order=st.sampled_from([0, *ORDERS]))
@settings(max_examples=60, deadline=None)
def test_properties(n, dim, seed, order):
    x = vectors(n, dim, seed)
    rng = np.random.default_rng(seed)
    value = vendi_score(x, order=order)
    assert 1 - 1e-6 <= value <= min(n, dim) + 1e-6
    assert vendi_score(x, rng.permutation(n), order=order) == pytest.approx(value, rel=1e-5)
    assert vendi_score(np.concatenate([x, x, x]), order=order) == pytest.approx(value, rel=1e-5)
    assert vendi_score(x * rng.uniform(0.1, 9, (n, 1)).astype(np.float32), order=order) == pytest.approx(
        value, rel=1e-4
    )


def test_copies_of_one_row_lower_it():
    x = vectors(20, 30, 0)
    more = np.concatenate([x, np.repeat(x[:1], 40, 0)])
    assert all(vendi_score(more, order=q) < vendi_score(x, order=q) for q in ORDERS)


def test_orthogonal_rows_and_one_direction():
    assert vendi_score(np.eye(5) * 3) == pytest.approx(5)
    assert all(vendi_score(np.ones((9, 4)), order=q) == pytest.approx(1) for q in (0, *ORDERS))


def test_order_0_is_the_rank():
    x = vectors(3, 8, 0)
    assert vendi_score(np.concatenate([x, x[:1] + x[1:2], 5 * x]), order=0) == pytest.approx(3)


def test_it_falls_with_the_order():
    values = [vendi_score(vectors(30, 12, 0), order=q) for q in [0, *ORDERS, 1e6, math.inf]]
    assert all(a >= b - 1e-3 for a, b in itertools.pairwise(values))
    assert values[-2] == pytest.approx(values[-1], rel=1e-3)


def test_weighted_by_quality():
    x, quality = vectors(30, 5, 0), np.random.default_rng(0).random(30)
    rows = np.array([4, 9, 11])
    assert quality_weighted_vendi_score(x, quality, order=2) == pytest.approx(quality.mean() * vendi_score(x, order=2))
    assert quality_weighted_vendi_score(x, quality, rows) == pytest.approx(
        quality[rows].mean() * slow(x[rows], 1), 1e-5
    )


def test_what_is_refused():
    x = vectors(4, 3, 0)
    with pytest.raises(ValueError, match="order is -1"):
        vendi_score(x, order=-1)
    with pytest.raises(ValueError, match="no rows"):
        vendi_score(x, np.array([], np.int64))
    with pytest.raises(ValueError, match="3 values of quality for 4 rows"):
        quality_weighted_vendi_score(x, np.ones(3))
    for bad in (-1, np.nan):
        with pytest.raises(ValueError, match="quality must be finite and at least 0"):
            quality_weighted_vendi_score(x, np.array([1, 1, bad, 1]))
    x[2] = 0
    with pytest.raises(ValueError, match="zero vectors"):
        vendi_score(x)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics import radius as module
from hf_dsel.metrics.radius import radius
from tests.metrics.test_nearest import vectors


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 7, 8192])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_equals_numpy(dtype, block, n, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    x = vectors(n, 5, n, dtype) + dtype(3)
    sigma = x.astype(np.float64).std(0, ddof=1)
    found = radius(x)
    assert found.radius == pytest.approx(np.prod(sigma) ** (1 / 5), rel=1e-6) and found.axes == 5
    assert found.flat_axes == 0


@given(n=st.integers(2, 30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_order_and_place_do_not_matter_and_it_scales(n, seed):
    x = vectors(n, 4, seed, np.float64)
    rng = np.random.default_rng(seed)
    value = radius(x).radius
    assert radius(x, rng.permutation(n)).radius == pytest.approx(value, rel=1e-9)
    assert radius(x + 5).radius == pytest.approx(value, rel=1e-6)
    assert radius(3 * x).radius == pytest.approx(3 * value, rel=1e-9)


def test_copies_of_the_middle_row_make_it_smaller():
    x = vectors(20, 4, 0, np.float64)
    assert radius(np.concatenate([x, np.repeat(x.mean(0, keepdims=True), 50, 0)])).radius < radius(x).radius


def test_axes_without_variance_are_left_out_and_counted():
    x = vectors(40, 6, 0)
    alone = radius(x[:, :3])
    x[:, 3], x[:, 4] = 0, -7.25
    x[:, 5] = np.where(np.arange(40) % 9, 0, -6e-8)  # the smallest number that float16 holds
    found = radius(x.astype(np.float16))
    assert found.axes == 3 and found.flat_axes == 3 and found.radius == pytest.approx(alone.radius, rel=1e-3)


def test_rows_name_the_set():
    x, rows = vectors(30, 3, 1), np.array([2, 9, 17])
    assert radius(x, rows) == radius(x[rows])


def test_many_axes_do_not_underflow():
    assert radius(vectors(10, 4096, 0) * np.float32(1e-3)).radius == pytest.approx(1e-3, rel=0.1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        radius(vectors(1, 3, 0))
    with pytest.raises(ValueError, match="all 4 rows are alike"):
        radius(np.ones((4, 3), np.float32))
    x = vectors(4, 3, 0)
    x[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        radius(x)

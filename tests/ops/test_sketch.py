"""The sketch against a slow one that codes number by number, and against the exact distances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops.sketch import Sketch, _lloyd_max, _shares, normal_levels


def vectors(rows, dim, seed=0):
    """Vectors whose axes differ in variance, as those of text do."""
    rng = np.random.default_rng(seed)
    spread = rng.permutation(np.geomspace(0.05, 2, dim))
    return (rng.standard_normal((rows, dim)) * spread + 0.3).astype(np.float32)


def slowly_restored(sketch, x):
    """One number at a time: along each axis the nearest level, back along the axis."""
    b = sketch.axes.astype(np.float64) * sketch.scales
    out = np.empty(x.shape)
    for i, row in enumerate(x.astype(np.float64)):
        out[i] = sketch.mean
        for j in range(b.shape[1]):
            along = float((row - sketch.mean) @ b[:, j]) / sketch.deviations[j]
            levels = normal_levels(int(sketch.bits[j]))
            out[i] += levels[np.abs(levels - along).argmin()] * sketch.deviations[j] * b[:, j]
    return out


@pytest.mark.parametrize("bits", [0.5, 1, 2.5, 3, 8])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equals_the_slow_coder(bits, dtype):
    x = vectors(40, 12).astype(dtype)
    sketch = Sketch.of(x, bits=bits).extended(x)
    slow = slowly_restored(sketch, x)
    [(restored, lost)] = list(sketch.blocks())
    same = np.abs(restored - slow).max(1) < 1e-4  # a number half-way between two levels may fall on either side
    assert same.mean() > 0.9
    np.testing.assert_allclose(lost[same], np.linalg.norm(x - slow, axis=1)[same], rtol=2e-3, atol=1e-3)
    assert int(sketch.bits.sum()) == round(bits * 12) and sketch.codes.shape[1] == -(-round(bits * 12) // 8)


@pytest.mark.parametrize("rows", [1, 5, 4097])
def test_nearest_is_the_smallest_distance_to_a_restored_vector(rows):
    x, c = vectors(rows, 16), vectors(50, 16, seed=1)
    sketch = Sketch.of(x).extended(x)
    restored, lost = (np.concatenate(part) for part in zip(*sketch.blocks(), strict=True))
    wide = c.astype(np.float64)[:, None] - restored
    slow = np.sqrt(((wide**2).sum(2) + lost.astype(np.float64) ** 2).min(1))
    np.testing.assert_allclose(sketch.nearest(c, device="cpu"), slow, rtol=1e-4)


def test_near_the_exact_distances_and_nearer_with_more_bits():
    x, c = vectors(2000, 64), vectors(200, 64, seed=1)
    exact = np.sqrt(((c.astype(np.float64)[:, None] - x) ** 2).sum(2).min(1))
    errors = []
    for bits in (1, 2, 3, 4):
        found = Sketch.of(x[:500], bits=bits).extended(x).nearest(c, device="cpu")
        errors.append(float(np.abs(found / exact - 1).mean()))
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.02


def test_begins_empty():
    sketch = Sketch.of(vectors(10, 4))
    assert (
        len(sketch) == 0 and np.isinf(sketch.nearest(vectors(3, 4), device="cpu")).all() and not list(sketch.blocks())
    )


def test_a_vector_in_it_is_at_0_and_near_ones_are_not_far():
    x = vectors(300, 24)
    sketch = Sketch.of(x).extended(x)
    turned = np.random.default_rng(0).permutation(300)
    assert np.abs(sketch.nearest(x[turned], device="cpu")).max() == 0
    lost = np.concatenate([part for _, part in sketch.blocks()])
    beside = x + 0.05 * lost[:, None] * np.random.default_rng(1).standard_normal(x.shape)  # about e/4 away
    assert (sketch.nearest(beside.astype(np.float32), device="cpu") <= 1.6 * lost + 1e-3).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 5))
def test_in_parts_or_at_once(first, second, seed):
    x = vectors(first + second + 1, 8, seed)
    start = Sketch.of(x)
    parts = start.extended(x[:first]).extended(x[first:])
    whole = start.extended(x)
    np.testing.assert_array_equal(parts.codes, whole.codes)
    np.testing.assert_array_equal(parts.lost, whole.lost)
    assert len(start) == 0 and whole.nbytes == start.nbytes + len(x) * whole.bytes_a_row


def test_levels_are_those_of_max_1960():
    np.testing.assert_allclose(normal_levels(2)[2:], [0.4528, 1.510], atol=5e-4)
    np.testing.assert_allclose(normal_levels(3)[4:], [0.2451, 0.7560, 1.344, 2.152], atol=5e-4)
    for bits, error in ((1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497), (5, 0.002505)):
        assert _lloyd_max(bits)[1] == pytest.approx(error, rel=1e-3)


def test_bits_go_where_they_take_the_most_error():
    variances = np.array([4.0, 1.0, 0.2])
    left = [1.0] + [_lloyd_max(b)[1] for b in range(1, 9)]

    def error(shares):
        return sum(v * left[b] for v, b in zip(variances, shares, strict=True))

    for total in range(1, 10):
        best = min(error(s) for s in itertools.product(range(9), repeat=3) if sum(s) == total)
        assert error(_shares(variances, total)) == pytest.approx(best)
    assert _shares(variances, 99).tolist() == [8, 8, 8]


def test_constant_vectors():
    x = np.ones((5, 4), np.float32)
    sketch = Sketch.of(x, bits=8).extended(x)
    np.testing.assert_allclose(sketch.nearest(x + 1, device="cpu"), 2.0, rtol=1e-2)


def test_errors():
    x = vectors(10, 6)
    for bits in (0, -1, 9, float("nan")):
        with pytest.raises(ValueError, match="bits"):
            Sketch.of(x, bits=bits)
    sketch = Sketch.of(x)
    with pytest.raises(ValueError, match="5 dimensions, the memory 6"):
        sketch.extended(x[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        sketch.nearest(x * np.nan)
    with pytest.raises(ValueError, match="row 3 .* length 1"):
        sketch.extended(np.where(np.arange(10)[:, None] == 3, 1e6, x))

"""Memorisation and influence against a slow version: one row and one test row at a time, no arrays."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.training.memorization import influence, memorization, most_influential


def slow(inside, values):
    """The difference of the means and its standard error for one row, from a list a model."""
    pairs = [(i, v) for i, v in zip(inside, values, strict=True) if not math.isnan(v)]
    one, other = [v for i, v in pairs if i], [v for i, v in pairs if not i]
    if not one or not other:
        return math.nan, math.nan
    value = sum(one) / len(one) - sum(other) / len(other)
    if min(len(one), len(other)) < 2:
        return value, math.nan
    return value, math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))


def made(models, rows, tests, missing, seed):
    rng = np.random.default_rng(seed)
    value = rng.random((models, tests)) + 100 * rng.random(tests)
    value[rng.random(value.shape) < missing] = np.nan
    return rng.random((models, rows)) < 0.6, value


SIZES = {
    "models": st.integers(1, 7),
    "rows": st.integers(1, 6),
    "tests": st.integers(1, 5),
    "missing": st.sampled_from([0, 0.3]),
    "seed": st.integers(0, 999),
}


@given(**SIZES)
def test_row_by_row(models, rows, tests, missing, seed):
    member, value = made(models, rows, tests, missing, seed)
    found = influence(member, value)
    assert found.values.shape == (rows, tests)
    for i in range(rows):
        for k in range(tests):
            expected = slow(member[:, i], value[:, k])
            ours = found.values[i, k], found.errors[i, k]
            assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)
            assert (found.reasons[i, k] == "") == (not math.isnan(expected[0]))
            assert (found.error_reasons[i, k] == "") == (not math.isnan(expected[1]))


@given(**SIZES)
def test_memorization_is_the_influence_on_itself(models, rows, tests, missing, seed):
    member, value = made(models, rows, rows, missing, seed)
    own, whole = memorization(member, value), influence(member, value)
    for ours, theirs in ((own.values, whole.values), (own.errors, whole.errors)):
        np.testing.assert_allclose(ours, np.diag(theirs), atol=1e-9)
    assert own.reasons.tolist() == np.diag(whole.reasons).tolist()


@given(**SIZES, top=st.integers(1, 8), block=st.sampled_from([1, 7, 2**20]))
def test_the_most_influential_whatever_the_block(models, rows, tests, missing, seed, top, block):
    member, value = made(models, rows, tests, missing, seed)
    found = most_influential(member, value, top=top, block=block)
    assert len(found) == tests
    for k, (order, values, _) in enumerate(found):
        expected = [(slow(member[:, i], value[:, k])[0], i) for i in range(rows)]
        best = sorted((-v, i) for v, i in expected if not math.isnan(v))[:top]
        assert values == pytest.approx([-v for v, _ in best], abs=1e-9)
        assert len(set(order.tolist())) == len(order)
        assert [expected[i][0] for i in order] == pytest.approx(values, abs=1e-9)


def test_ties_go_to_the_lower_row():
    member = [[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]
    order, values, errors = most_influential(member, [[1.0], [1.0], [0.0], [0.0]], top=3)[0]
    assert order.tolist() == [0, 1, 2] and values.tolist() == [1, 1, -1] and errors.tolist() == [0, 0, 0]


def test_always_or_never_in_is_null_with_a_reason():
    found = memorization([[1, 0, 1], [1, 0, 0]], [[0.5, 0.5, np.nan], [0.6, 0.4, np.nan]])
    assert np.isnan(found.values).all() and np.isnan(found.errors).all()
    assert found.reasons.tolist() == [
        "measured by no model trained without it",
        "measured by no model trained with it",
        "measured by no model",
    ]


def test_an_effect_is_found_within_its_error():
    rng = np.random.default_rng(0)
    member = rng.random((400, 50)) < 0.7
    effect = np.linspace(-0.5, 0.5, 50)
    found = memorization(member, effect * member + 0.1 * rng.standard_normal((400, 50)))
    z = (found.values - effect) / found.errors
    assert np.abs(z).max() < 4 and 0.7 < z.std() < 1.3


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ([[1, 0]], [[0.5]], "both are models x rows"),
        ([[1, 0]], [[0.5, 0.5], [0.5, 0.5]], "one row a model"),
        ([[2, 0]], [[0.5, 0.5]], "something else than true and false"),
    ],
)
def test_other_arrays_are_refused(member, value, message):
    with pytest.raises(ValueError, match=message):
        memorization(member, value)


def test_no_rows_to_name_is_refused():
    with pytest.raises(ValueError, match="top=0"):
        most_influential([[1]], [[0.5]], top=0)

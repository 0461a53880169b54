"""Budgets in rows, fractions and tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.budget import Budget, BudgetError, rows_asked


def asked(k=None, fraction=None, max_tokens=None, pool=100, open_ended=False):
    return rows_asked(k, fraction, max_tokens, pool=pool, open_ended=open_ended)


def test_each_kind():
    assert asked(k=100) == 100
    assert asked(k=np.int64(3)) == 3
    assert asked(fraction=0.05) == 5
    assert asked(fraction=0.125) == 13  # 12.5 rounds up
    assert asked(fraction=1) == 100
    assert asked(max_tokens=10) is None
    assert asked(open_ended=True) is None


@pytest.mark.parametrize(
    ("given_", "error", "text"),
    [
        ({}, BudgetError, "one of k"),
        ({"k": 1, "fraction": 0.1}, BudgetError, "got k=1, fraction=0.1"),
        ({"k": 0}, BudgetError, "k must be at least 1, got 0"),
        ({"k": -3}, BudgetError, "got -3"),
        ({"k": 101}, BudgetError, "k=101 is more than the 100 rows"),
        ({"fraction": 0.0}, BudgetError, r"\(0, 1\], got 0.0"),
        ({"fraction": 1.5}, BudgetError, "got 1.5; for a number of rows use k"),
        ({"fraction": float("nan")}, BudgetError, "got nan"),
        ({"fraction": 0.001}, BudgetError, "less than one row"),
        ({"max_tokens": 0}, BudgetError, "max_tokens must be at least 1"),
        ({"k": 1.5}, TypeError, "whole number, got 1.5"),
        ({"k": True}, TypeError, "whole number, got True"),
        ({"fraction": "0.1"}, TypeError, "must be a number, got '0.1'"),
    ],
)
def test_what_is_refused(given_, error, text):
    with pytest.raises(error, match=text):
        asked(**given_)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 200), st.randoms())
def test_token_budgets_take_the_longest_prefix_that_fits(costs, tokens, random):
    order = list(range(len(costs)))
    random.shuffle(order)
    expected, spent = [], 0
    for row in order:  # the obvious loop
        if spent + costs[row] > tokens:
            break
        spent += costs[row]
        expected.append(row)
    budget = Budget(pool=len(costs), tokens=tokens, costs=np.asarray(costs))
    assert budget.fitting(np.asarray(order)).tolist() == expected
    drawn, gains = budget.take((row, float(row)) for row in order)
    assert drawn.tolist() == expected == gains.tolist()
    assert len(expected) <= budget.at_most


def test_take_draws_no_more_than_it_needs():
    drawn = []

    def picks():
        for row in range(10):
            drawn.append(row)
            yield row, 0.0

    rows, _ = Budget(pool=10, rows=3).take(picks())
    assert rows.tolist() == drawn == [0, 1, 2]

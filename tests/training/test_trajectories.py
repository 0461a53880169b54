"""The courses of rows against a slow version: one row at a time, one pass after the other, no arrays."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.training.trajectories import learning_events, of_answers, of_pairs

PASS = st.one_of(st.none(), st.tuples(st.floats(0, 9), st.floats(0, 1), st.floats(-5, 5)))
TABLE = st.integers(1, 5).flatmap(lambda e: st.lists(st.lists(PASS, min_size=e, max_size=e), min_size=1, max_size=6))


def arrays(table):
    columns = [[[math.nan if p is None else p[i] for p in row] for row in table] for i in range(3)]
    return (np.array(c, dtype=np.float64) for c in columns)


def value(found, name, row):
    return found[name].values[row] if found[name].valid[row] else None


def near(ours, slow):
    return ours is None if slow is None else ours == pytest.approx(slow, abs=1e-9)


def moments(numbers):
    if not numbers:
        return None, None
    mean = sum(numbers) / len(numbers)
    spread = math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers))
    return mean, spread if len(numbers) > 1 else None


def events(states):
    """Rises and falls of one row, counted by hand; `states` are (epoch, s), before the first one s = 0."""
    falls, first, before = 0, None, 0
    for epoch, s in states:
        falls += s < before
        if s > before and first is None:
            first = epoch + 1
        before = s
    return falls, first


@given(TABLE, st.sampled_from([0.2, 0.5, 1.0]))
def test_answers_row_by_row(table, tau):
    loss, accuracy, margin = arrays(table)
    found = of_answers({"loss": loss, "accuracy": accuracy, "el2n": loss, "entropy": margin}, tau)
    for i, row in enumerate(table):
        seen = [(e, p) for e, p in enumerate(row) if p is not None]
        losses = [p[0] for _, p in seen]
        mean, spread = moments([math.exp(-x) for x in losses])
        falls, first = events([(e, int(p[1] >= tau)) for e, p in seen])
        assert near(value(found, "loss_mean", i), moments(losses)[0])
        assert near(value(found, "loss_last", i), losses[-1] if losses else None)
        assert near(value(found, "loss_drop", i), losses[0] - losses[-1] if len(losses) > 1 else None)
        assert near(value(found, "confidence", i), mean) and near(value(found, "variability", i), spread)
        assert near(value(found, "correctness", i), moments([p[1] for _, p in seen])[0])
        assert value(found, "first_learned", i) == first
        assert value(found, "forgetting", i) == (falls if len(seen) > 1 else None)
        assert value(found, "unforgettable", i) == ((first is not None and falls == 0) if len(seen) > 1 else None)


@given(TABLE)
def test_pairs_row_by_row(table):
    one, other, margin = arrays(table)
    found = of_pairs({"chosen_logp": -one, "rejected_logp": -other, "margin": margin})
    for i, row in enumerate(table):
        seen = [(e, p) for e, p in enumerate(row) if p is not None]
        right = [(e, int(p[2] > 0)) for e, p in seen]
        mean, spread = moments([1 / (1 + math.exp(-p[2])) for _, p in seen])
        assert near(value(found, "confidence", i), mean) and near(value(found, "variability", i), spread)
        assert near(value(found, "reward_accuracy", i), moments([s for _, s in right])[0])
        assert near(value(found, "chosen_logp_last", i), -seen[-1][1][0] if seen else None)
        assert value(found, "first_learned", i) == events(right)[1]
        assert value(found, "forgetting", i) == (events(right)[0] if len(seen) > 1 else None)


@given(TABLE)
def test_without_a_threshold_any_fall_counts(table):
    _, accuracy, _ = arrays(table)
    found = learning_events(accuracy, None)
    for i, row in enumerate(table):
        a = [(e, p[1]) for e, p in enumerate(row) if p is not None]
        steps = list(pairwise(a))
        rises = [y[0] + 1 for x, y in steps if y[1] > x[1]]
        falls = sum(y[1] < x[1] for x, y in steps)
        assert value(found, "forgetting", i) == (falls if steps else None)
        assert value(found, "first_learned", i) == (rises[0] if rises else None)


def test_no_pass_at_all():
    empty = np.zeros((3, 0))
    found = of_answers(dict.fromkeys(("loss", "accuracy", "el2n", "entropy"), empty), 0.5)
    assert not any(course.valid.any() for course in found.values())

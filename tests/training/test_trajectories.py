"""The courses of rows against a slow version: one row at a time, one pass after the other, no arrays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.training.records import Records
from hf_dsel.training.trajectories import learned, learning_events, of_answers, of_pairs, threshold

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


def same_events(found, i, states):
    """The four columns of a row; never learned sorts before any number of falls."""
    falls, first = events(states)
    twice, never = len(states) > 1, first is None
    assert value(found, "first_learned", i) == first
    assert value(found, "forgetting", i) == (falls if twice and not never else None)
    assert value(found, "unforgettable", i) == ((not never and falls == 0) if twice else None)
    reason = found["forgetting"].reason[i]
    assert found["forgetting"].valid[i] or reason == ("never learned" if twice else "seen once; this compares two")
    return (math.inf if never else falls) if twice else None


def in_order(found, keys):
    """Sorted by the score as by the keys, equal where they are equal."""
    assert [value(found, "forgetting_score", i) is None for i in range(len(keys))] == [key is None for key in keys]
    rows = [i for i, key in enumerate(keys) if key is not None]
    for i in rows:
        assert math.isinf(keys[i]) or value(found, "forgetting_score", i) == keys[i]
        for j in rows:
            a, b = (value(found, "forgetting_score", row) for row in (i, j))
            assert (a < b, a == b) == (keys[i] < keys[j], keys[i] == keys[j])


@given(TABLE, st.sampled_from([0.2, 0.5, 1.0]))
def test_answers_row_by_row(table, tau):
    loss, accuracy, margin = arrays(table)
    found = of_answers({"loss": loss, "accuracy": accuracy, "el2n": loss, "entropy": margin}, tau)
    keys = []
    for i, row in enumerate(table):
        seen = [(e, p) for e, p in enumerate(row) if p is not None]
        losses = [p[0] for _, p in seen]
        mean, spread = moments([math.exp(-x) for x in losses])
        assert near(value(found, "loss_mean", i), moments(losses)[0])
        assert near(value(found, "loss_last", i), losses[-1] if losses else None)
        assert near(value(found, "loss_drop", i), losses[0] - losses[-1] if len(losses) > 1 else None)
        assert near(value(found, "confidence", i), mean) and near(value(found, "variability", i), spread)
        assert near(value(found, "correctness", i), moments([p[1] for _, p in seen])[0])
        keys.append(same_events(found, i, [(e, int(p[1] >= tau)) for e, p in seen]))
    in_order(found, keys)


@given(TABLE)
def test_pairs_row_by_row(table):
    one, other, margin = arrays(table)
    found = of_pairs({"chosen_logp": -one, "rejected_logp": -other, "margin": margin})
    keys = []
    for i, row in enumerate(table):
        seen = [(e, p) for e, p in enumerate(row) if p is not None]
        right = [(e, int(p[2] > 0)) for e, p in seen]
        mean, spread = moments([1 / (1 + math.exp(-p[2])) for _, p in seen])
        assert near(value(found, "confidence", i), mean) and near(value(found, "variability", i), spread)
        assert near(value(found, "reward_accuracy", i), moments([s for _, s in right])[0])
        assert near(value(found, "chosen_logp_last", i), -seen[-1][1][0] if seen else None)
        keys.append(same_events(found, i, right))
    in_order(found, keys)


@given(TABLE)
def test_without_a_threshold_any_fall_counts(table):
    _, accuracy, _ = arrays(table)
    found = learning_events(accuracy, None)
    in_order(found, [same_events(found, i, [(e, p[1]) for e, p in enumerate(r) if p is not None])
                     for i, r in enumerate(table)])  # fmt: skip


def test_a_share_of_tokens_in_float32_reaches_its_own_threshold():
    for n in range(1, 60):
        shares = torch.arange(n + 1).float() / n
        for k in range(1, n + 1):
            states = learned(shares.numpy().astype(np.float64), k / n)
            assert states.tolist() == [0.0] * k + [1.0] * (n + 1 - k)


def test_the_paper_keeps_the_most_forgotten_and_drops_the_unforgettable():
    """One row each: never learned, forgotten twice, once, learned late, right from the first."""
    accuracy = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], float)
    found = learning_events(accuracy, 1.0)
    assert found["forgetting_score"].values.tolist() == [4, 2, 1, 0, 0]
    assert found["forgetting"].valid.tolist() == [False, True, True, True, True]
    assert found["unforgettable"].values.tolist() == [False, False, False, True, True]


def test_the_median_is_over_the_last_pass_of_each_row():
    rows, passes = np.arange(3), {0: [0.1, 0.2, 0.3], 2: [0.5, 0.7]}
    tables = {at: (rows[: len(a)], np.array([a], np.float32).T) for at, a in passes.items()}
    records = Records(("accuracy",), tables)  # row 2 was seen in the first pass alone
    assert threshold(records, "median") == np.float32(0.5)
    assert threshold(records, 0.9) == 0.9 and threshold(records, None) is None
    assert threshold(Records(("accuracy",)), "median") is None


def test_no_pass_at_all():
    empty = np.zeros((3, 0))
    found = of_answers(dict.fromkeys(("loss", "accuracy", "el2n", "entropy"), empty), 0.5)
    assert not any(course.valid.any() for course in found.values())

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.inter_cluster_divergence import inter_cluster_divergence
from hf_dsel.metrics.words import word_numbers

rows = st.lists(
    st.tuples(st.lists(st.sampled_from("abcdef"), max_size=5).map(" ".join), st.integers(0, 3)), min_size=2, max_size=12
).filter(lambda rows: len({label for text, label in rows if text}) > 1)


def idf(texts):
    """Word → share, from the definition."""
    words = {w for t in texts for w in t.split()}
    weight = {w: math.log(1 + len(texts) / sum(w in t.split() for t in texts)) for w in words}
    return {w: v / sum(weight.values()) for w, v in weight.items()}


def slow(rows):
    rows = [(text, label) for text, label in rows if text]
    clusters = {label for _, label in rows}
    total = 0.0
    for j in clusters:
        p, q = idf([t for t, label in rows if label == j]), idf([t for t, label in rows if label != j])
        for side in (p, q):
            total += sum(v * math.log2(v / ((p.get(w, 0) + q.get(w, 0)) / 2)) for w, v in side.items()) / 2
    return total / len(clusters)


def value(rows):
    return inter_cluster_divergence(*word_numbers([t for t, _ in rows]), np.array([label for _, label in rows]))


@given(rows=rows)
@settings(max_examples=80, deadline=None)
def test_equals_the_loop_and_lies_between_0_and_1(rows):
    found = value(rows)
    assert found == pytest.approx(slow(rows), abs=1e-9) and 0 <= found <= 1


@given(rows=rows, seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_order_and_repeating_every_row_change_nothing(rows, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    assert value([rows[i] for i in order]) == pytest.approx(value(rows), abs=1e-9)
    assert value(rows * 3) == pytest.approx(value(rows), abs=1e-9)
    assert value([(t, 90 - label) for t, label in rows]) == pytest.approx(value(rows), abs=1e-9)


def test_the_divergence_equals_scipy():
    distance = pytest.importorskip("scipy.spatial.distance")
    rows = [("a b c", 0), ("a d", 0), ("b b e", 1), ("f", 1)]
    p, q = idf(["a b c", "a d"]), idf(["b b e", "f"])
    theirs = distance.jensenshannon([p.get(w, 0) for w in "abcdef"], [q.get(w, 0) for w in "abcdef"], base=2) ** 2
    assert value(rows) == pytest.approx(theirs)  # two clusters: the same divergence twice


def test_alike_and_apart():
    assert value([("a b", 0), ("a b", 1), ("b a", 2)]) == pytest.approx(0, abs=1e-12)
    assert value([("a b", 0), ("c", 1), ("d e", 2)]) == 1


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least 2 clusters with words, got 1"):
        value([("a", 0), ("", 1)])
    with pytest.raises(ValueError, match="at least 2 clusters with words, got 0"):
        value([("", 0), ("", 1)])
    with pytest.raises(ValueError, match="do not fit"):
        inter_cluster_divergence(np.array([0, 1]), np.array([1]), np.array([0]))

"""kNN against every distance and the formula, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import MissingColumn, select
from hf_dsel.scorers.deita import DeitaQuality
from hf_dsel.strategies.knn import Knn, min_max
from tests.strategies.reference import clustered, pool_of


def scaled(values):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.0 for v in values]


def ranked(x, quality, gamma, j):
    """Eq. 2 and the score of Section 4.1, one row at a time; scores equal to the last digits tie."""
    x = np.asarray(x, np.float64)
    distance = [sorted(np.linalg.norm(a - b) for k, b in enumerate(x) if k != i)[j - 1] for i, a in enumerate(x)]
    score = [(1 + d) * (1 + q) ** gamma for d, q in zip(scaled(distance), scaled(quality), strict=True)]
    order = sorted(range(len(x)), key=lambda i: (-round(score[i], 9), i))
    return order, [score[i] for i in order], [distance[i] for i in order]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 30), st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.data(),
    st.sampled_from(["float16", "float32"]),
)  # fmt: skip
def test_the_formula(n, seed, gamma, data, dtype):
    k, j = data.draw(st.integers(1, n)), data.draw(st.integers(1, n - 1))
    x = np.random.default_rng(seed).standard_normal((n, 4)).astype(dtype)
    quality = np.random.default_rng(seed + 1).uniform(1, 6, n)
    order, score, distance = ranked(x, quality, gamma, j)
    record = select(pool_of(x, quality=quality), "knn", k=k, gamma=gamma, neighbour=j)
    found = record.indices.tolist()
    assert len(set(found)) == k
    np.testing.assert_allclose(record.gains, score[:k], rtol=1e-5)
    place = {row: at for at, row in enumerate(order)}
    np.testing.assert_allclose([score[place[row]] for row in found], score[:k], rtol=1e-9)
    np.testing.assert_allclose(record.why["distance"], [distance[place[row]] for row in found], rtol=1e-5)


def test_gamma_zero_is_the_distance_alone_and_reads_no_quality():
    x = clustered(60, 4, 0)
    found = select(pool_of(x), "knn", k=20, gamma=0)
    assert found.indices.tolist() == ranked(x, np.zeros(60), 0, 1)[0][:20]
    assert list(Knn(gamma=0).needs()) == ["embedding"]
    with pytest.raises(MissingColumn, match=r"missing: \['mine'\]"):
        select(pool_of(x), "knn", k=20, quality="mine")
    assert Knn().needs()["quality"] == DeitaQuality(combine="mean") and Knn(quality="mine").needs()["mine"] is None


def test_a_large_gamma_is_the_quality_alone():
    quality = np.random.default_rng(0).permutation(50).astype(float)
    found = select(pool_of(clustered(50, 4, 0), quality=quality), "knn", k=50, gamma=100)
    assert found.indices.tolist() == np.argsort(-quality).tolist()


def test_pairs_of_copies_go_last_and_in_order():
    x = np.array([[0, 0], [5, 0], [0, 0], [0, 9], [9, 9]], np.float32) + 1
    record = select(pool_of(x), "knn", k=5, gamma=0)
    assert record.indices.tolist() == [3, 4, 1, 0, 2]
    assert record.gains.tolist() == [2, 2, pytest.approx(1 + 5 / 9), 1, 1]
    assert select(pool_of(x), "knn", k=5, gamma=0, neighbour=2).indices.tolist()[0] == 4


def test_constant_columns_decide_nothing():
    x = clustered(30, 3, 1)
    constant = select(pool_of(x, quality=np.full(30, 7.0)), "knn", k=30)
    assert constant.indices.tolist() == select(pool_of(x), "knn", k=30, gamma=0).indices.tolist()
    alike = select(pool_of(np.eye(30, dtype=np.float32), quality=np.arange(30.0)), "knn", k=30)
    assert alike.indices.tolist() == list(range(29, -1, -1))
    assert min_max(np.array([-1e308, 1e308, 0.0])).tolist() == [0, 1, 0.5]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_prefixes_permutations_and_seeds(seed):
    x = np.random.default_rng(seed).standard_normal((40, 5)).astype(np.float32)
    quality = np.random.default_rng(seed + 1).uniform(0, 1, 40)
    # the quality tells rows apart that are each other's nearest
    whole = select(pool_of(x, quality=quality), "knn", k=40).indices.tolist()
    assert select(pool_of(x, quality=quality), "knn", k=9, seed=seed).indices.tolist() == whole[:9]
    order = np.random.default_rng(seed).permutation(40)
    moved = select(pool_of(x[order], quality=quality[order]), "knn", k=40).indices
    assert order[moved].tolist() == whole


def test_token_budgets():
    x = clustered(50, 5, 4)
    costs = np.random.default_rng(0).integers(1, 9, 50)
    pool = pool_of(x).add_column("example_tokens", costs)
    whole = select(pool, "knn", k=50, gamma=0).indices
    n = int(np.searchsorted(np.cumsum(costs[whole]), 60, side="right"))
    assert select(pool, "knn", max_tokens=60, gamma=0).indices.tolist() == whole[:n].tolist()


def test_rows_without_a_quality_are_not_considered():
    x = np.array([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0], [9.0, 9.0]], np.float32)
    record = select(pool_of(x, quality=[1.0, None, 1.0, 2.0]), "knn", k=3)
    assert record.indices.tolist() == [3, 0, 2]  # row 0's copy is out, so 0 and 2 are each other's nearest


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gamma": -0.1}, "at least 0; got -0.1"),
        ({"gamma": float("nan")}, "got nan"),
        ({"gamma": float("inf")}, "got inf"),
        ({"neighbour": 0}, "counts from 1, the nearest; got 0"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ValueError, match=text):
        Knn(**options)


def test_a_neighbour_that_does_not_exist():
    with pytest.raises(ValueError, match="neighbour is 3, and 3 rows have neighbours 1 to 2"):
        select(pool_of(np.eye(3, dtype=np.float32)), "knn", k=1, gamma=0, neighbour=3)

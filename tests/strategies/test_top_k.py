"""Top k against sorted()."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel import Shortfall, select, select_by

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=25)


@given(SCORES, st.booleans(), st.data())
def test_equals_sorting(scores, largest, data):
    k = data.draw(st.integers(1, len(scores)))
    pool = Dataset.from_dict({"q": scores})
    expected = sorted(range(len(scores)), key=lambda i: ((-scores[i] if largest else scores[i]), i))[:k]
    found = select(pool, "top_k", k=k, column="q", largest=largest)
    assert found.indices.tolist() == expected
    assert found.gains.tolist() == [scores[i] for i in expected]
    streamed = select_by(pool.to_iterable_dataset(), "top_k", k=k, column="q", largest=largest)
    assert streamed["q"][:] == [scores[i] for i in expected]
    assert streamed["selection_gain"][:] == [scores[i] for i in expected]


def test_permutation_equivariance():
    scores = np.random.default_rng(0).permutation(40).astype(float)
    order = np.random.default_rng(1).permutation(40)
    a = select(Dataset.from_dict({"q": scores}), "top_k", k=10, column="q").indices
    b = select(Dataset.from_dict({"q": scores[order]}), "top_k", k=10, column="q").indices
    assert order[b].tolist() == a.tolist()


def test_products_and_weighted_sums():
    pool = Dataset.from_dict({"a": [1.0, 2.0, 3.0], "b": [9.0, 4.0, 1.0]})
    assert select(pool, "top_k", k=3, column=["a", "b"]).gains.tolist() == [9, 8, 3]
    weighted = select(pool, "top_k", k=3, column=["a", "b"], weights=[1, -1])
    assert weighted.indices.tolist() == [2, 1, 0] and weighted.gains.tolist() == [2, -2, -8]


def test_floor_is_inside_and_ceiling_outside():
    pool = Dataset.from_dict({"ifd": [0.9, 1.0, 0.5, 1.2]})
    with pytest.warns(Shortfall, match="2 of the 3 rows"):
        below = select(pool, "top_k", k=3, column="ifd", ceiling=1)
    assert below.indices.tolist() == [0, 2] and below.shortfall == 1
    ratings = Dataset.from_dict({"r": [4.5, 4.0, 5.0]})
    assert select(ratings, "top_k", k=2, column="r", floor=4.5).indices.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"column": "q", "floor": 2, "ceiling": 2}, ValueError, "floor=2 and ceiling=2"),
        ({"column": ["q", "q"], "weights": [1]}, ValueError, r"one number for each of \['q', 'q'\], got \[1\]"),
        ({"column": []}, ValueError, "got none"),
        ({"column": "t"}, TypeError, "'t' holds text"),
        ({"column": "v"}, TypeError, "'v' holds vectors"),
    ],
)
def test_bad_options(options, error, text):
    pool = Dataset.from_dict({"q": [1.0], "t": ["x"], "v": [[1.0]]})
    with pytest.raises(error, match=text):
        select(pool, "top_k", k=1, **options)

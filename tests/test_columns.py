"""Columns read as arrays: equal to the rows, checked, in the dataset's own order."""

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets

from hf_dsel.columns import BadColumn, MissingColumn, read_column

RNG = np.random.default_rng(0)


def vectors(n, d, dtype):
    return RNG.standard_normal((n, d)).astype(dtype)


def dataset_of(x, feature):
    return Dataset.from_dict({"e": list(x)}, features=Features({"e": feature}))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("fixed", [True, False])
def test_vectors_equal_the_rows_through_every_view(dtype, fixed):
    x = vectors(50, 4, dtype)
    pool = dataset_of(x, List(Value(dtype), length=4 if fixed else -1))
    views = {
        "as it is": (pool, x),
        "slice": (pool.select(range(10, 30)), x[10:30]),
        "picked": (pool.select([7, 3, 3, 40]), x[[7, 3, 3, 40]]),
        "shuffled": (pool.shuffle(seed=1), None),
        "chunks": (concatenate_datasets([pool, pool]), np.concatenate([x, x])),
    }
    for name, (view, expected) in views.items():
        column = read_column(view, "e")
        if expected is None:
            expected = np.asarray(view["e"][:], dtype)
        assert column.values.dtype == dtype, name
        np.testing.assert_array_equal(column.values, expected, err_msg=name)
        assert column.valid.all()


def test_reading_one_chunk_copies_nothing():
    pool = dataset_of(vectors(50, 4, "float32"), List(Value("float32"), length=4))
    values = read_column(pool, "e").values
    assert not values.flags.owndata and not values.flags.writeable


def test_vectors_with_nulls_keep_their_places():
    x = [[1.0, 2.0], None, [3.0, 4.0]]
    for length in (2, -1):
        column = read_column(dataset_of(x, List(Value("float32"), length=length)), "e")
        assert column.valid.tolist() == [True, False, True]
        np.testing.assert_array_equal(column.values[[0, 2]], [[1, 2], [3, 4]])


def test_numbers_booleans_and_text():
    pool = Dataset.from_dict(
        {"i": [1, 2, None], "f": [0.5, None, 2.0], "b": [True, False, None], "s": ["x", None, "y"]}
    )
    assert read_column(pool, "i").values[:2].tolist() == [1.0, 2.0]
    assert read_column(pool, "f").valid.tolist() == [True, False, True]
    assert read_column(pool, "b").values[:2].tolist() == [1.0, 0.0]
    assert read_column(pool, "s").values.tolist() == ["x", None, "y"]
    assert read_column(pool.select([2, 0]), "f").values.tolist() == [2.0, 0.5]


@pytest.mark.parametrize(
    ("values", "feature", "text"),
    [
        ([1.0, float("nan"), 2.0, float("inf")], Value("float32"), "2 of 4 rows, first 1, 3"),
        (
            [[1.0], [float("nan")], [0.0]],
            List(Value("float32"), length=1),
            "NaN or infinite values in 1 of 3 rows, first 1",
        ),
        ([[1.0], [0.0]], List(Value("float32"), length=1), "only zeros in 1 of 2 rows, first 1"),
        ([[1.0], [1.0, 2.0], [1.0]], List(Value("float32")), "several widths.*1 in 2 rows, 2 in 1 rows"),
        ([[1], [2]], List(Value("int64")), "list of int64"),
    ],
)
def test_values_nobody_can_use_are_named(values, feature, text):
    with pytest.raises(BadColumn, match=text):
        read_column(dataset_of(values, feature), "e")


def test_missing_column_lists_what_there_is():
    with pytest.raises(MissingColumn, match=r"no column 'x'; the dataset has \['e'\]"):
        read_column(Dataset.from_dict({"e": [1]}), "x")


def test_a_column_of_dicts_is_refused():
    with pytest.raises(BadColumn, match="struct"):
        read_column(Dataset.from_dict({"e": [{"a": 1}]}), "e")

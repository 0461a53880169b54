import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.conditions import BadCondition, Condition, rows_where

POOL = Dataset.from_dict(
    {"ifd": [0.5, 1.2, None, 1.0], "source": ["flan", "cot", None, "flan"], "vector": [[1.0], [2.0], [3.0], [4.0]]}
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("ifd < 1", [0]), ("ifd<=1", [0, 3]), ("ifd > 0.5", [1, 3]), ("ifd>=0.5", [0, 1, 3]), ("ifd == 1e0", [3]),
     ("ifd != 1", [0, 1]), ("source == flan", [0, 3]), ("source != flan", [1])],
)  # fmt: skip
def test_rows_that_fulfil_it_and_never_a_null(text, rows):
    kept, failed = rows_where(POOL, [Condition.of(text)])
    assert kept.tolist() == rows and sum(failed.values()) == 4 - len(rows)


def test_several_are_counted_where_they_fail_first():
    kept, failed = rows_where(POOL, [Condition.of("ifd < 1.1"), Condition.of("source == cot")])
    assert kept.tolist() == [] and failed == {"not ifd < 1.1": 2, "not source == cot": 2}
    assert rows_where(POOL, [])[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [("ifd", "'ifd' is no condition"), ("< 1", "is no condition"), (3, "3 is no condition"),
     ("ifd < high", "'high' is no number")],
)  # fmt: skip
def test_what_is_no_condition(text, message):
    with pytest.raises(BadCondition, match=message):
        Condition.of(text)


def test_columns_of_another_kind():
    for text, kind in (("ifd == high", "numbers"), ("source == 3", "text"), ("vector < 1", "vectors")):
        with pytest.raises(BadCondition, match=f"holds {kind}"):
            rows_where(POOL, [Condition.of(text)])
    with pytest.raises(hf_dsel.MissingColumn, match="'nosuch'"):
        rows_where(POOL, [Condition.of("nosuch < 1")])


def test_an_indices_view_is_read_in_its_own_order():
    assert rows_where(POOL.select([3, 1, 0]), [Condition.of("ifd < 1.1")])[0].tolist() == [0, 2]
    assert rows_where(POOL, [Condition.of("ifd < 1")])[0].dtype == np.int64

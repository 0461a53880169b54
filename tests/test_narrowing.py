"""What a user reads who gives `gate` or `dedup` something else."""

import re

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel import Gate, select, select_by

POOL = Dataset.from_dict(
    {"text": list("abcdef"), "quality": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "gate": [0.9, 0.8, 0.7, 0.6, 0.5, None]}
)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [({"gate": 1.5}, ValueError, "gate=1.5 must be above 0 and at most 1: the lowest probability of being sound"),
     ({"gate": 0.0}, ValueError, "gate=0 must be above 0"),
     ({"gate": float("nan")}, ValueError, "gate=nan must be above 0"),
     ({"gate": "0.5"}, TypeError, "gate is '0.5'; it must be True, a probability such as 0.5, or a gate such as"),
     ({"gate": 1}, TypeError, "gate is 1; it must be True, a probability such as 0.5, or a gate such as "
      "hf_dsel.Gate(); for 1 write True or 1.0"),
     ({"gate": Gate}, TypeError, "or a gate such as hf_dsel.Gate()"),
     ({"dedup": "x"}, TypeError, "dedup is 'x'; it must be True (same text), a cosine such as 0.95"),
     ({"dedup": 1}, TypeError, "similarity, embedding, quality; for 1 write True or 1.0"),
     ({"dedup": 1.5}, ValueError, "similarity is 1.5; a cosine from which on rows are copies is in (0, 1]")],
)  # fmt: skip
def test_values_that_cannot_be(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        select(POOL, "random", k=2, **options)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [(list("abcdef"), TypeError, "gate reads the column 'gate', which holds no numbers; rename it"),
     ([[0.5]] * 6, TypeError, "which holds no numbers"),
     ([1.0, 90.0, 3.0, 4.0, None, 0.5], ValueError, "whose values from 0 to 90 are no probabilities; rename it"),
     ([-0.5] * 6, ValueError, "from -0.5 to -0.5 are no probabilities; rename it (dataset.rename_column('gate', ")],
)  # fmt: skip
def test_a_column_that_no_gate_wrote(values, error, text):
    pool = POOL.remove_columns("gate").add_column("gate", values)
    for gate in (0.5, True):
        with pytest.raises(error, match=re.escape(text)):
            select(pool, "random", k=2, gate=gate)


@pytest.mark.parametrize(
    ("values", "gate", "reason"),
    [([0.9996, 0.9993, 0.9999, 0.2, 1.0, 0.1], 0.9996, "a gate below 0.9996"),
     ([0.9996, 0.9993, 0.9999, 0.2, 1.0, 0.1], 0.99955, "a gate below 0.9995"),
     ([0.9996, 0.9993, 0.9999, 0.2, 1.0, 0.1], 1.0, "a gate below 1"),
     ([0.99962, 0.99961, 0.99958, 0.2, 0.1, 0.1], 0.9996, "a gate below 0.9996"),
     ([0.999] * 3 + [0.1, 0.05, None], True, "a gate below 0.999"),
     ([0.97, 0.9899, 0.9901, 0.99, 0.9, 0.1], 0.99, "a gate below 0.99")],
)  # fmt: skip
def test_the_reason_names_a_threshold_that_keeps_the_same_rows(values, gate, reason):
    pool = POOL.remove_columns("gate").add_column("gate", values)
    record = select(pool, "random", fraction=1.0, gate=gate)
    assert next(iter(record.left_out)) == reason and record.left_out[reason] == sum(
        v is not None for v in values
    ) - len(record)
    again = select(pool, "random", fraction=1.0, gate=float(reason.split()[-1]))
    assert sorted(again.indices) == sorted(record.indices)


def test_the_advice_where_no_row_is_sound_enough_can_be_followed():
    for values in ([0.979] * 6, [0.004, 0.003, 0.002, 0.001, 0.001, 0.0], [0.9791, 0.9792, 0.2, 0.1, 0.1, 0.0]):
        pool = POOL.remove_columns("gate").add_column("gate", values)
        with pytest.raises(ValueError, match="even the soundest") as error:
            select(pool, "random", k=1, gate=True)
        lowest = float(str(error.value).partition("such as gate=")[2].split()[0])
        assert len(select(pool, "random", k=1, gate=lowest)) == 1
    nothing = POOL.remove_columns("gate").add_column("gate", [0.5] + [0.0] * 5)
    with pytest.raises(ValueError, match=r"Give the lowest probability that stays or another Gate\.$"):
        select(nothing, "random", k=1, gate=True)


def test_a_gate_that_has_no_say_is_named(capsys):
    pool = Dataset.from_dict({"instruction": ["Sing!"] * 4, "output": ["La."] * 4, "gate": [0.99] * 4})
    select(pool, "random", k=2, gate=Gate(embedder=None))
    printed = capsys.readouterr().err
    assert "the column 'gate' is there and read as it is, and Gate(embedder=None), which did not write it, " in printed
    select(pool, "random", k=2, gate=True)
    assert "read as it is" not in capsys.readouterr().err
    own = hf_dsel.scorer_marks.with_marks(pool, hf_dsel.scorer_marks.made_by([Gate(embedder=None)]))
    select(own, "random", k=2, gate=Gate(embedder=None))
    assert "read as it is" not in capsys.readouterr().err
    select(own, "random", k=2, gate=Gate(embedder=None, learn_from=500))
    assert "Gate(embedder=None, learn_from=500), which did not write it" in capsys.readouterr().err


def test_what_is_allowed():
    for gate, rows in ((0.7, 3), (np.float32(0.65), 3), (False, 6), (None, 6)):
        assert len(select(POOL, "random", fraction=1.0, gate=gate)) == rows
    with pytest.raises(TypeError, match="without streaming=True, or leave gate out"):
        select_by(POOL.to_iterable_dataset(), "random", k=2, gate=0.5)

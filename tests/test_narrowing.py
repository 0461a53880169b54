"""What a user reads who gives `gate` or `dedup` something else."""

import re

import numpy as np
import pytest
from datasets import Dataset

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


def test_what_is_allowed():
    for gate, rows in ((0.7, 3), (np.float32(0.65), 3), (False, 6), (None, 6)):
        assert len(select(POOL, "random", fraction=1.0, gate=gate)) == rows
    with pytest.raises(TypeError, match="without streaming=True, or leave gate out"):
        select_by(POOL.to_iterable_dataset(), "random", k=2, gate=0.5)

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

import hf_dsel

VALUES = np.random.default_rng(3).permutation(60).astype(float)
POOL = Dataset.from_dict({"hard": VALUES})


@given(part=st.floats(0.01, 1), k=st.integers(1, 60), hardest=st.sampled_from(["high", "low"]))
def test_rows_come_from_the_easiest_part(part, k, hardest):
    chosen = hf_dsel.select(POOL, "curriculum", k=k, column="hard", part=part, hardest=hardest)
    opened = max(k, int(np.ceil(part * 60)))
    easiest = sorted(range(60), key=lambda i: VALUES[i] if hardest == "high" else -VALUES[i])[:opened]
    assert len(set(chosen.indices)) == k and set(chosen.indices) <= set(easiest)
    assert chosen.gains.tolist() == VALUES[chosen.indices].tolist()


def test_every_open_row_is_drawn_as_often():
    times = np.zeros(60)
    for seed in range(600):
        times[hf_dsel.select(POOL, "curriculum", k=6, column="hard", part=0.25, seed=seed).indices] += 1
    drawn = times[VALUES < 15]
    assert times.sum() == drawn.sum() == 3600
    assert ((drawn - 240) ** 2 / 240).sum() < 36  # chi-squared, 14 degrees of freedom, one in a thousand


@pytest.mark.parametrize(("options", "message"), [({"part": 0}, "part=0"), ({"part": 1, "hardest": "up"}, "'up'")])
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        hf_dsel.select(POOL, "curriculum", k=2, column="hard", **options)

"""The planted pool holds the faults that it says it does, and nothing of the held-out rows."""

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.planted_pool import areas, in_places_of, planted, signs

ROWS = pd.DataFrame({"prompt": [f"q{i}" for i in range(200)], "completion": [f"a{i}" for i in range(200)]})


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_planted(seed):
    pool, apart = planted(ROWS, 100, 30, np.random.default_rng(seed))
    assert pool["kind"].value_counts().to_dict() == {"untouched": 60, "shuffled": 20, "twice": 20}
    own = pool["prompt"].str[1:] == pool["completion"].str[1:]
    assert (own == (pool["kind"] != "shuffled")).all()
    shuffled, twice = (pool[pool["kind"] == kind] for kind in ("shuffled", "twice"))
    assert set(shuffled["prompt"].str[1:]) == set(shuffled["completion"].str[1:])
    assert (twice.groupby(["prompt", "completion"]).size() == 2).all()
    assert pool.drop_duplicates(["prompt", "completion"]).shape[0] == 90
    assert len(apart) == 30 and not set(apart["prompt"]) & set(pool["prompt"])


def test_too_few_rows():
    with pytest.raises(SystemExit, match="--rows 200 needs 210"):
        planted(ROWS, 200, 30, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_two_arms_come_up_at_the_same_places(seed):
    rng = np.random.default_rng(seed)
    order, kept = (np.sort(rng.permutation(60)[:48]) for _ in range(2))
    found = in_places_of(order, kept)
    assert sorted(found) == kept.tolist()
    assert all(found[at] == row for at, row in enumerate(order) if row in kept)


def test_signs_with_rows_that_have_no_value():
    pytest.importorskip("sklearn", reason="pip install -e '.[bench]'")
    kinds = ["untouched", "shuffled", "twice", "untouched"]
    found = pd.DataFrame({"kind": kinds} | {name: [1.0, 2.0, np.nan, 3.0] for name in signs()})
    line = areas(found)["confidence"]
    assert line["shuffled"][0] == 0.5 and "twice" not in line  # above one untouched row, below the other
    assert line["mean, untouched"] == 2 and np.isnan(line["mean, twice"])

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="pip install -e '.[bench]'")
from tests.benchmarks.labels import auc, drawn, measured


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    score, label = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[label] for b in score[~label]]
    area, error = auc(score, label)
    assert area == pytest.approx(np.mean(pairs)) and 0.05 < error < 0.1
    assert auc(label.astype(float), label)[0] == 1 and auc(-score, label)[0] == pytest.approx(1 - area)


def test_rows_are_drawn_in_halves_and_the_unlabelled_never():
    label = pd.Series([True] * 30 + [False] * 200 + [np.nan] * 50)
    rows = drawn(label, 40, seed=1)
    assert len(set(rows)) == 40 and (rows < 30).sum() == 20 and rows.max() < 230
    assert len(drawn(label, 100, seed=1)) == 60 and rows.tolist() == drawn(label, 40, seed=1).tolist()


def test_a_row_without_one_value_counts_for_no_score():
    scored = pd.DataFrame({"a": [1.0, 2, 3, None], "b": [3.0, 2, 1, 9]})
    label = np.array([False, False, True, True])
    assert {name: area for name, (area, _) in measured(scored, label, ["a", "b"]).items()} == {"a": 1, "b": 0}

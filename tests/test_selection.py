"""The record: round trip, replay, refusals, and the tie to the subset."""

import json

import numpy as np
import pytest
from datasets import Dataset, List, Value, load_from_disk

from hf_dsel import Selection, WrongSource, select, select_by, selection_of

POOL = Dataset.from_dict({"text": [f"row {i}" for i in range(30)], "quality": [float(i % 7) for i in range(30)]})


def test_json_round_trip_and_replay(tmp_path):
    record = select(POOL, "top_k", k=8)
    record.save(tmp_path / "deep" / "selection.json")
    loaded = Selection.load(tmp_path / "deep" / "selection.json")
    assert loaded.to_json() == record.to_json()
    assert loaded.indices.dtype == np.int64 and loaded.gains.dtype == np.float32
    assert loaded.apply(POOL)[:] == select_by(POOL, "top_k", k=8)[:]
    assert (
        eval(loaded.strategy, {"TopK": __import__("hf_dsel.strategies.top_k", fromlist=["TopK"]).TopK}).column
        == "quality"
    )
    assert not list(tmp_path.rglob("*.tmp")) and len(list(tmp_path.rglob("*"))) == 2


def test_the_json_is_plain_json(tmp_path):
    record = json.loads(select(POOL, "random", k=3).to_json())
    assert record["gains"] == [None, None, None]
    assert record["source"]["rows"] == 30 and record["budget"] == {"k": 3}
    assert {"hf-dsel", "datasets", "torch"} <= set(record["versions"])


def test_replay_refuses_another_source():
    record = select(POOL, "top_k", k=3)
    with pytest.raises(WrongSource, match="30 rows, this dataset has 29"):
        record.apply(POOL.select(range(29)))
    with pytest.raises(WrongSource, match="text of this dataset differs"):
        record.apply(POOL.shuffle(seed=0))
    with pytest.raises(WrongSource, match="lacks"):
        record.apply(POOL.rename_column("text", "story"))
    assert len(record.apply(POOL.shuffle(seed=0), strict=False)) == 3


def test_replay_does_not_mind_further_columns():
    record = select(POOL, "top_k", k=3)
    more = POOL.add_column("ifd", [0.5] * 30)
    assert record.apply(more)["text"][:] == record.apply(POOL)["text"][:]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"hf_dsel_selection": 1, "indices": [1, 2', r"not complete JSON .* line 1, column"),
        ("[]", "not a selection of format 1"),
        ('{"hf_dsel_selection": 99}', "not a selection of format 1"),
        ('{"hf_dsel_selection": 1}', "no selection record"),
    ],
)
def test_files_that_are_no_selection(tmp_path, content, text):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(ValueError, match=text):
        Selection.load(tmp_path / "s.json")


def test_a_subset_remembers_its_record(tmp_path):
    subset = select_by(POOL, "top_k", k=8)
    record = selection_of(subset)
    assert record is not None and record.strategy.startswith("TopK(")
    for later in (subset.map(lambda r: {"n": 1}), subset.select(range(2)), subset.filter(lambda r: True)):
        assert selection_of(later) is record
    assert selection_of(POOL) is None
    again = select_by(subset, "random", k=2)
    assert selection_of(again).strategy == "Random()"
    assert again.column_names.count("selection_rank") == 1
    subset.save_to_disk(str(tmp_path / "d"))
    assert load_from_disk(str(tmp_path / "d"))["selection_rank"][:] == list(range(8))


def test_vectors_that_were_read_are_dropped_unless_asked_for():
    vectors = [[float(i), 1.0] for i in range(30)]
    pool = POOL.add_column("embedding", vectors, feature=List(Value("float32"), length=2))
    pool = pool.add_column("mine", vectors, feature=List(Value("float32"), length=2))
    subset = select_by(pool, "qdit", k=4, alpha=0.5)
    assert "embedding" not in subset.column_names and "mine" in subset.column_names
    assert {"selection_rank", "selection_gain", "selection_diversity", "quality", "text"} <= set(subset.column_names)
    assert "embedding" in select_by(pool, "qdit", k=4, alpha=0.5, keep_vectors=True).column_names

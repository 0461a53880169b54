"""Where a dataset came from on the Hub is read from what `load_dataset` left in its caches, or it is not known."""

import io

import datasets
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset

import hf_dsel
from hf_dsel.origin import Origin


def parquet(rows):
    file = io.BytesIO()
    Dataset.from_dict(
        {"text": [f"row {i}" for i in range(rows)], "quality": [float(i) for i in range(rows)]}
    ).to_parquet(file)
    return file.getvalue()


CARD = b"""---
configs:
- config_name: big
  data_files: data/train*
- config_name: small
  data_files: data/test*
---
"""


@pytest.fixture
def revision(hub):
    files = {"data/train-00000-of-00001.parquet": parquet(9), "data/test-00000-of-00001.parquet": parquet(4)}
    return hub.make("user/Pool_OfRows-2", files)


def test_repository_commit_and_split(hub, revision):
    pool = load_dataset("user/Pool_OfRows-2", split="train")
    assert Origin.of(pool) == Origin("user/Pool_OfRows-2", revision, None, "train")
    assert Origin.of(load_dataset("user/Pool_OfRows-2", split="train[:3]")).split == "train[:3]"
    for made in (
        pool.map(lambda row: {"length": len(row["text"])}),
        pool.select([3, 1]),
        pool.shuffle(seed=0),
        pool.filter(lambda row: row["quality"] > 2),
        hf_dsel.score(pool, hf_dsel.Length(of="example")),
    ):
        assert Origin.of(made) == Origin.of(pool)


def test_configuration_and_an_older_commit(hub, revision):
    later = hub.make("user/Pool_OfRows-2", {"README.md": CARD})
    assert Origin.of(load_dataset("user/Pool_OfRows-2", "small", split="train")) == Origin(
        "user/Pool_OfRows-2", later, "small", "train"
    )
    old = load_dataset("user/Pool_OfRows-2", split="test", revision=revision)
    assert Origin.of(old) == Origin("user/Pool_OfRows-2", revision, None, "test")


def test_what_is_not_on_the_hub_has_none(hub, revision, tmp_path):
    (tmp_path / "train.parquet").write_bytes(parquet(5))
    local = load_dataset(str(tmp_path), split="train")
    assert Origin.of(local) is None and Origin.of(Dataset.from_dict({"text": ["a"]})) is None
    hub.make("user/other", {"train.parquet": parquet(3)})
    both = [load_dataset("user/Pool_OfRows-2", split="train"), load_dataset("user/other", split="train")]
    assert Origin.of(concatenate_datasets(both)) is None


def test_the_record_has_it_and_files_keep_it(hub, revision, tmp_path):
    pool = load_dataset("user/Pool_OfRows-2", split="train")
    subset = pool.select_by("top_k", k=2, column="quality")
    record = hf_dsel.selection_of(subset)
    assert record.origin == {"repo": "user/Pool_OfRows-2", "revision": revision, "config": None, "split": "train"}
    record.save(tmp_path / "selection.json")
    assert hf_dsel.Selection.load(tmp_path / "selection.json").origin == record.origin


def test_what_a_person_writes():
    assert Origin.parse("squad") == Origin("squad")
    for wrong in ("./pool", "a/b/c", "a/b@", "", "tests"):
        with pytest.raises(ValueError, match="no dataset on the Hub"):
            Origin.parse(wrong)


def test_scorers_are_recorded_and_stay_through_map_select_and_disk(tmp_path):
    rows = {"instruction": ["Say hi", "Add 1 and 2", "Go"], "output": ["Hi", "It is 3", "Gone"]}
    scored = hf_dsel.score(Dataset.from_dict(rows), [hf_dsel.Length(of="response", unit="words")])
    moved = scored.map(lambda row: {"more": 1}).select([2, 1, 0])
    moved.save_to_disk(tmp_path / "moved")
    for pool in (scored, moved, datasets.load_from_disk(tmp_path / "moved")):
        record = hf_dsel.select(pool, "top_k", k=1, column="response_words")
        how = record.scorers["response_words"]
        assert how["scorer"] == "Length(of='response', unit='words')" and how["model"] is None
        assert how["algorithm"] >= 1 and how["turns"] == "all"
    assert hf_dsel.Selection.from_json(record.to_json()).scorers == record.scorers
    renamed = moved.rename_column("response_words", "mine")
    assert hf_dsel.select(renamed, "top_k", k=1, column="mine").scorers == {}


def test_scorers_that_select_by_runs_are_recorded():
    pool = Dataset.from_dict({"instruction": ["Say hi", "Add 1 and 2"], "output": ["Hi", "It is 3"]})
    strategy = hf_dsel.strategies.top_k.TopK(column="response_chars")
    assert strategy.needs()["response_chars"] is None
    scored = hf_dsel.score(pool, hf_dsel.Length(of="response"))
    assert list(hf_dsel.select(scored, strategy, k=1).scorers) == ["response_chars"]


def test_model_and_its_commit(tiny_qwen2, tmp_path, monkeypatch):
    from hf_dsel.scorer_marks import made_by

    commit = "0123456789" * 4
    kept = tmp_path / "models--me--tiny" / "snapshots" / commit
    kept.mkdir(parents=True)
    (kept / "config.json").write_text("{}")
    (kept.parent.parent / "refs").mkdir()
    (kept.parent.parent / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    how = made_by([hf_dsel.IFD("me/tiny", max_length=64)])["ifd"]
    assert how["model"] == "me/tiny" and how["revision"] == commit and how["max_length"] == 64
    assert made_by([hf_dsel.IFD(tiny_qwen2)])["ifd"]["revision"] is None
    judge = hf_dsel.Judge("accuracy", model="gpt", base_url="http://secret-host/v1", key_variable="MY_KEY")
    assert made_by([judge]).keys() == {"accuracy"} and "secret" not in str(made_by([judge]))
    assert "MY_KEY" not in str(made_by([judge])) and made_by([judge])["accuracy"]["model"] == "gpt"


def test_a_record_of_before_still_loads():
    text = hf_dsel.select(Dataset.from_dict({"text": ["a", "b"]}), "random", k=1).to_json()
    old = text.replace('"scorers": {}, "origin": null, "where": [], ', "")
    assert old != text and hf_dsel.Selection.from_json(old).scorers == {}

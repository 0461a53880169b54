import gzip
import json

import pytest
from datasets import Dataset, DatasetDict

from hf_dsel.opening import CannotOpen, open_dataset

ROWS = [{"instruction": f"Say {i}", "output": "word " * 10} for i in range(50)]
LINES = "\n".join(map(json.dumps, ROWS))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.from_list(ROWS)
    data.to_parquet("a.parquet")
    data.to_parquet("folder/train.parquet")
    data.select(range(5)).to_parquet("folder/test.parquet")
    data.to_csv("a.csv")
    data.save_to_disk("disk")
    DatasetDict({"train": data, "test": data.select(range(5))}).save_to_disk("splits")
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with gzip.open("a.jsonl.gz", "wt") as file:
        file.write(LINES)
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "a.parquet",
        "./a.csv",
        "a.jsonl",
        "a.json",
        "a.jsonl.gz",
        "folder",
        "disk",
        "splits",
        "disk/data-00000-of-00001.arrow",
    ],
)
def test_files_and_folders(place, path):
    assert [dict(row) for row in open_dataset(path)] == ROWS


def test_splits_and_slices(place):
    assert len(open_dataset("folder", split="test")) == len(open_dataset("splits", split="test")) == 5
    assert len(open_dataset("a.jsonl", split="train[:10%]")) == len(open_dataset("folder", split="test")) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("cut.jsonl", LINES[:-30], "cut.jsonl cannot be read as json: .*row 49.* cut off"),
     ("cut.json", json.dumps(ROWS)[:-100], "cut.json cannot be read as json: .*cut off"),
     ("cut.parquet", "PAR1abc", "cannot be read as parquet: .*footer.*cut off"),
     ("cut.csv", 'a,b\n1,2\n"x', "cannot be read as csv"),
     ("none.json", "", "no rows"), ("none.jsonl", "\n", "no rows"), ("list.json", "[]", "no rows"),
     ("no.csv", "", "no rows"),
     ("pool.txt", "a", "pool.txt is no dataset file; known endings: .parquet"), ("bare", "a", "is no dataset file")],
)  # fmt: skip
def test_damaged_and_empty_files(place, name, text, message, capfd):
    (place / name).write_text(text)
    with pytest.raises(CannotOpen, match=message):
        open_dataset(name)
    assert "Failed to" not in capfd.readouterr().err  # the reason is told once


@pytest.mark.parametrize(
    ("path", "split", "message"),
    [("b.json", "train", "no file or folder 'b.json'; did you mean 'a.json'"),
     ("~/nosuch/a.json", "train", "no file or folder"), ("two words", "train", "no file or folder"),
     ("folder", "dev", 'folder: Unknown split "dev". .*train'), ("splits", "dev", "no split 'dev'; it has train, test"),
     ("disk", "test", "saved without splits"), ("empty", "train", "doesn't contain any data files"),
     ("folder", "train[:x]", "train")],
)  # fmt: skip
def test_what_is_not_there(place, path, split, message):
    with pytest.raises(CannotOpen, match=message):
        open_dataset(path, split=split)


def test_a_configuration_that_does_not_exist(place):
    with pytest.raises(CannotOpen, match=r"'nosuch' not found\. Available: \['default'\]"):
        open_dataset("folder", name="nosuch")


def test_the_hub_out_of_reach(place, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(CannotOpen, match=r"no/such.*Check the id on https://huggingface.co/datasets"):
        open_dataset("no/such")
    with pytest.raises(CannotOpen, match=r"did you mean 'a\.json"):
        open_dataset("a.jsonn")

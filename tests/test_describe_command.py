"""`hf-dsel describe`, as a user types it."""

import json
import sys

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.cli import main
from tests.test_describing import made


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a pool in parquet."""
    monkeypatch.chdir(tmp_path)
    made(60).to_parquet("pool.parquet")
    return tmp_path


def run(command):
    return main(command.split())


def error_of(command, capsys):
    capsys.readouterr()
    assert run(command) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_pool_alone(place, capsys):
    assert run("describe pool.parquet") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["whole", "pool"]
    assert printed == f"{hf_dsel.describe(Dataset.from_parquet('pool.parquet'))}\n"


def test_a_subset_that_select_wrote(place, capsys):
    assert run("select pool.parquet --strategy k_center --k 9 --out sub") == 0
    capsys.readouterr()
    pool = Dataset.from_parquet("pool.parquet")
    record = hf_dsel.Selection.load("sub/selection.json")
    expected = hf_dsel.describe(pool, record, random=2, seed=3)
    for path in ("sub", "sub/selection.json"):
        assert run(f"describe pool.parquet --subset {path} --random 2 --seed 3 --json out/table.json") == 0
        assert capsys.readouterr().out == f"{expected}\nwrote out/table.json\n"
        written = json.loads((place / "out/table.json").read_text(encoding="utf-8"))
        assert written == json.loads(json.dumps(expected.to_dict()))
    assert expected["Vendi score"].subset is not None  # the vectors, which sub/train.parquet lacks


def test_rows_of_ones_own(place, capsys):
    made(60).select(range(5, 17)).to_parquet("mine.parquet")
    assert run("describe pool.parquet --subset mine.parquet --random 0") == 0
    expected = hf_dsel.describe(made(60), np.arange(5, 17), random=0)
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_record_of_another_pool(place, capsys):
    assert run("select pool.parquet --strategy k_center --k 9 --out sub") == 0
    made(60, seed=1).to_parquet("other.parquet")
    capsys.readouterr()
    assert run("describe other.parquet --subset sub") == 0
    printed = capsys.readouterr()
    assert "records a selection from another dataset, so the rows in sub are described as they are" in printed.err
    assert "which rows of the pool it consists of is unknown" in printed.out
    assert "give the pool that it was made on" in error_of("describe other.parquet --subset sub/selection.json", capsys)


def test_options_from_flags_and_from_a_file(place, capsys):
    flags = "--embedding embedding --quality quality --column quality --clusters 3 --random 1 --seed 2"
    assert run(f"describe pool.parquet {flags}") == 0
    printed = capsys.readouterr().out
    (place / "d.yaml").write_text(
        "dataset: pool.parquet\nembedding: embedding\ncolumns: quality\nclusters: 3\nseed: 2\n"
    )
    assert run("describe --config d.yaml --random 1") == 0
    assert capsys.readouterr().out == printed and "clusters: 3, by k-means" in printed


def test_text_of_no_known_format_is_no_error(place, capsys):
    made(20).select_columns(["embedding"]).to_parquet("vectors.parquet")
    assert run("describe vectors.parquet") == 0
    assert "what reads text: no known format" in capsys.readouterr().out


def test_what_is_refused(place, capsys):
    for command, words in (
        ("describe", "which dataset?"),
        ("describe pool.parquet --subset nowhere.parquet", "no file or folder 'nowhere.parquet'"),
        ("describe pool.parquet --embedding vector", "no column 'vector'"),
        ("describe pool.parquet --clusters 1", "clusters is 1"),
        ("describe pool.parquet --clusterz 4", "did you mean '--clusters'?"),
        ("describe pool.parquet --json .", "--json . is a folder"),
    ):
        assert words in error_of(command, capsys), command
    (place / "d.yaml").write_text("dataset: pool.parquet\nrandom: many\n")
    assert "--random 'many' must be a whole number" in error_of("describe --config d.yaml", capsys)


def test_a_parser_without_spacy(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)  # as if it were not installed
    assert "--parser en_core_web_sm needs spacy: pip install" in error_of(
        "describe pool.parquet --parser en_core_web_sm", capsys
    )


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("describe --help")
    assert stopped.value.code == 0 and "--subset PATH" in capsys.readouterr().out
    assert main([]) == 0 and "describe  every metric" in capsys.readouterr().out

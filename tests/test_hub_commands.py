"""`hf-dsel push` and `verify` on a Hub on loopback; and once a program of its own, as a person would run it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

import hf_dsel
from hf_dsel.cli import main

from .hub_stand_in import READ, WRITE
from .test_publication import FEATURES, parquet, rows


@pytest.fixture
def source(hub):
    data = parquet(Dataset.from_dict(rows(), FEATURES))
    return hub.make("user/pool", {"README.md": b"---\nlicense: odc-by\n---\n", "data/train-0.parquet": data})


@pytest.fixture
def folder(hub, source, tmp_path, monkeypatch):
    """What `hf-dsel select` writes, from a pool on the Hub."""
    monkeypatch.chdir(tmp_path)
    command = "select user/pool --strategy top_k --k 8 --param column=quality --out best --no-compare"
    assert main(command.split()) == 0
    return tmp_path / "best"


def test_select_push_load_verify(hub, folder, source, capsys):
    assert main(["push", "best", "user/best"]) == 0
    assert "hf-dsel verify user/best" in capsys.readouterr().out
    assert main(["verify", "user/best"]) == 0
    said = capsys.readouterr().out
    assert "the rows are what the record produces" in said and f"user/pool@{source[:8]}" in said
    subset = hf_dsel.load("user/best")
    assert subset.to_dict() == load_dataset(str(folder), split="train").to_dict()
    assert hf_dsel.selection_of(hf_dsel.load(folder)).to_json() == hf_dsel.selection_of(subset).to_json()
    card = hub.files("user/best")["README.md"].decode()
    assert "license: odc-by" in card and "random (mean of 5)" in card and "hf_dsel/map.png" in card


def test_dry_run_uploads_nothing_and_shows_the_card(hub, folder, capsys):
    asked = len(hub.requests)
    assert main(["push", "best", "user/best", "--dry-run", "--no-pictures"]) == 0
    said = capsys.readouterr().out
    assert ("dataset", "user/best") not in hub.repos
    assert {method for method, _ in hub.requests[asked:]} <= {"GET", "HEAD", "POST"}
    assert not any(re.search("create|commit|preupload|batch", path) for _, path in hub.requests[asked:])
    assert "data/train-00000-of-00001.parquet" in said and "hf_dsel.json" in said and "as a new repository" in said
    card = Path(re.search(r"the card is in (\S+)", said)[1])
    assert "user/best" in card.read_text() and "license: odc-by" in card.read_text()
    hub.sign_in(None)
    assert main(["push", "best", "user/best", "--dry-run", "--no-pool", "--license", "mit"]) == 0


def test_scores_stay_known_through_files(hub, source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main("score user/pool --scorer Length:of=response,unit=words --out scored".split()) == 0
    assert json.loads(Path("scored/provenance.json").read_text())["origin"]["revision"] == source
    assert (
        main("select scored --strategy top_k --k 5 --param column=response_words --out long --no-compare".split()) == 0
    )
    assert main("push long user/long --pool scored --no-pictures".split()) == 0
    record = json.loads(hub.files("user/long")["hf_dsel.json"])
    assert record["origin"] == {"repo": "user/pool", "revision": source, "config": None, "split": "train"}
    assert record["scorers"]["response_words"]["scorer"] == "Length(of='response', unit='words')"
    assert r"response\_words, mean" in hub.files("user/long")["README.md"].decode()
    capsys.readouterr()
    assert main(["verify", "user/long"]) == 0
    assert "after computing response_words by Length(" in capsys.readouterr().out
    other = hf_dsel.opening.open_dataset("scored").map(lambda row: {"output": "other"})
    other.to_parquet("scored/train.parquet")  # another dataset in the same folder
    assert hf_dsel.select(hf_dsel.opening.open_dataset("scored"), "random", k=2).origin is None
    assert main("score user/pool --scorer Length:of=example --out scored --overwrite".split()) == 0


def test_a_slice_of_a_split(hub, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main("score user/pool --split train[10:40] --scorer Length:of=response --out scored".split()) == 0
    assert (
        main("select scored --strategy top_k --k 5 --param column=response_chars --out long --no-compare".split()) == 0
    )
    assert main("push long user/long --pool scored --no-pictures".split()) == 0
    assert json.loads(hub.files("user/long")["hf_dsel.json"])["origin"]["split"] == "train[10:40]"
    assert main("verify user/long".split()) == main("verify user/long --source scored".split()) == 0
    load_dataset("user/pool", split="train").to_parquet("all.parquet")
    assert main("verify user/long --source all.parquet".split()) == 0
    load_dataset("user/pool", split="train[:30]").to_parquet("other.parquet")
    assert main("verify user/long --source other.parquet".split()) == 1


def test_tampering_makes_the_exit_status_1(hub, folder, capsys):
    spam = [{"role": "assistant", "content": "spam"}]
    rows = load_dataset(str(folder), split="train")
    rows = rows.map(lambda row, i: {"completion": spam if i == 2 else row["completion"]}, with_indices=True)
    rows.to_parquet(str(folder / "train.parquet"))
    assert main(["verify", "best"]) == 1
    said = capsys.readouterr().out
    assert "NOT what the record produces" in said and "row 2 differs in 'completion'" in said and "spam" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("push", "folder is missing"),
        ("push best", "repo is missing"),
        ("push nowhere user/best", "is no folder"),
        ("push best user/best --pool x --no-pool", "contradict"),
        ("push best user/best/x", "no name of a repository"),
        ("push best user/best --licence mit", "did you mean '--license'"),
        ("push best user/best --source ./here", "no dataset on the Hub"),
        ("push best elsewhere/best", "needs write access to elsewhere"),
        ("verify", "which repository or folder"),
        ("verify user/gone", "no dataset 'user/gone' on the Hub"),
        ("verify user/pool", "holds no hf_dsel.json"),
        ("verify best --source nowhere.parquet", "no file or folder 'nowhere.parquet'"),
    ],
)
def test_errors_in_one_line(hub, folder, capsys, command, said):
    capsys.readouterr()
    assert main(command.split()) == 2
    shown = capsys.readouterr().err
    assert said in shown.splitlines()[-1] and WRITE not in shown and "Traceback" not in shown
    assert ("dataset", "user/best") not in hub.repos


def test_pool_that_is_not_on_the_hub(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Dataset.from_dict(rows(), FEATURES).to_parquet("pool.parquet")
    assert main("select pool.parquet --strategy random --k 4 --out best --no-compare".split()) == 0
    assert main("push best user/best".split()) == 2
    assert "give --pool, or --no-pool" in capsys.readouterr().err
    assert main("push best user/best --pool pool.parquet".split()) == 2
    assert "under which licence?" in capsys.readouterr().err and hub.repos == {}
    assert main("push best user/best --pool pool.parquet --license mit --public --no-pictures".split()) == 0
    assert not hub.repos["dataset", "user/best"].private
    assert main("verify user/best".split()) == 2
    assert "--source" in capsys.readouterr().err
    assert main("verify user/best --source pool.parquet".split()) == 0


def test_options_in_a_file(hub, folder, tmp_path):
    (tmp_path / "push.yaml").write_text("folder: best\nrepo: user/best\nlicense: mit\npictures: false\npublic: true\n")
    assert main(["push", "--config", "push.yaml", "--license", "apache-2.0"]) == 0
    assert "license: apache-2.0" in hub.files("user/best")["README.md"].decode()


def test_text_in_quotes_stays_text(hub, folder, tmp_path):
    lines = ["folder: best", "repo: user/best", 'license: "1e1"', "pictures: false", "no_pool: true", 'message: "1.10"']
    (tmp_path / "push.yaml").write_text("\n".join(lines))
    assert main(["push", "--config", "push.yaml"]) == 0
    assert "license_name: 1e1" in hub.files("user/best")["README.md"].decode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("license: 5", "license must be text such as cc-by-4.0, got 5"),
        ("license: [mit]", "license must be text such as cc-by-4.0, got ['mit']"),
        ("source: 5", "source must be text"),
        ("message: 5", "message must be text"),
        ("message: 2026-01-01", "message must be text"),
        ("pool: 5", "pool must be text"),
        ("repo: 0", "repo must be text such as me/alpaca-3k, got 0"),
        ("folder: {a: b}", "folder must be text"),
        ("columns: 5", "columns must be names of columns such as [ifd, quality], got 5"),
        ("columns: 0", "columns must be names of columns"),
        ("columns: {ifd: 1}", "columns must be names of columns"),
        ("columns: [ifd, 5]", "columns must be names of columns"),
        ("columns: ifd", "--column is for --scores-only"),
    ],
)
@pytest.mark.parametrize("more", ["", "dry_run: true\n"])
def test_options_of_another_type_in_a_file(hub, folder, tmp_path, capsys, line, said, more):
    others = [given for given in ("folder: best", "repo: user/best") if given.split(":")[0] != line.split(":")[0]]
    (tmp_path / "push.yaml").write_text("\n".join([*others, line, more]))
    capsys.readouterr()
    assert main(["push", "--config", "push.yaml"]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.startswith("hf-dsel push: error: ") and len(shown.splitlines()) == 1


@pytest.mark.parametrize("options", [[], ["--scores-only"]])
@pytest.mark.parametrize("name", ["me/x y", "a/b/c", "me/x--y", "me/x.git", "x-", "me/" + "x" * 99])
def test_a_dry_run_refuses_names_that_the_hub_refuses(hub, folder, capsys, options, name):
    hub.sign_in(None)
    capsys.readouterr()
    assert main(["push", "best", name, "--dry-run", *options]) == 2
    assert f"error: {name!r} is no name of a repository, such as me/alpaca-3k" in capsys.readouterr().err


PROGRAM = """
import sys
import hf_dsel
from datasets import load_dataset
pool = load_dataset("user/pool", split="train")
subset = pool.select_by("top_k", k=6, column="quality")
print(hf_dsel.push_to_hub(subset, "user/best", pictures=False).oid)
assert hf_dsel.verify("user/best")
assert [r["output"] for r in load_dataset("user/best", split="train", streaming=True)] == subset["output"][:]
try:
    hf_dsel.push_to_hub(subset, "user/best", token=sys.argv[1])
except hf_dsel.NotPublished as error:
    print(error)
hf_dsel.push_to_hub(subset, "elsewhere/best", license="mit")
"""


def test_program_of_its_own(hub, source, tmp_path):
    """With the address from the environment, as it is read at import; ends with an error that is shown whole."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | hub.environment(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, READ], env=environment, capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 1 and hub.repos["dataset", "user/best"].head.oid in done.stdout, done.stderr
    assert "has the role read" in done.stdout and "needs write access to elsewhere" in done.stderr
    assert WRITE not in done.stdout + done.stderr and READ not in done.stdout + done.stderr
    kept = [file for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert kept and not any(WRITE.encode() in file.read_bytes() for file in kept)

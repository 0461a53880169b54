"""`hf-dsel evolve` and `hf-dsel train-scorer`, as a user types them."""

import json
import re
import shlex

import pytest
import yaml
from datasets import Dataset, load_dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.commands import DATA
from hf_dsel.scorers.score_templates import SETTINGS_FILE

from .scripted_server import Raw, ScriptedServer
from .strong_model import strong_model


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a pool in parquet and a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THE_KEY", "sk-secret-123")
    rows = {"instruction": [f"Name {i} rivers." for i in range(12)], "output": [f"River {i}." for i in range(12)]}
    Dataset.from_dict(rows).to_parquet("pool.parquet")
    return tmp_path


@pytest.fixture
def server():
    with ScriptedServer(strong_model) as found:
        yield found


def evolve_line(server, more=""):
    return f"evolve pool.parquet --model strong --base-url {server.url} --store answers --scores complexity {more}"


def run(line):
    return main(shlex.split(line))


def error_of(line, capsys):
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert run(line) == 2
    printed = capsys.readouterr()
    lines = [text for text in printed.err.splitlines() if text.startswith("hf-dsel ")]
    assert len(lines) == 1 and "Traceback" not in printed.err
    assert lines[0].startswith(f"hf-dsel {line.split()[0]}: error: ")
    return lines[0]


# --- evolve ---


def test_evolve_writes_what_evolve_returns(place, server, capsys):
    assert run(evolve_line(server, "--k 5 --rounds 2 --key-variable THE_KEY --out made")) == 0
    assert [p.name for p in (place / "made").iterdir()] == [DATA]
    found = load_dataset("made", split="train")
    client = hf_dsel.Endpoint(model="strong", base_url=server.url, store="answers")
    sent = len(server.received)
    again = hf_dsel.evolve(Dataset.from_parquet("pool.parquet"), client, scores="complexity", k=5, rounds=2)
    assert found[:] == again[:] and len(server.received) == sent == 15
    printed = capsys.readouterr()
    assert f"wrote made/{DATA}: 15 variants, 15 of them with a score" in printed.out
    assert "hf-dsel train-scorer made --model MODEL --out DIR" in printed.out
    sent_headers = {name.lower(): value for name, value in server.received[0].headers.items()}
    assert sent_headers["authorization"] == "Bearer sk-secret-123"
    assert "sk-secret" not in printed.out + printed.err
    assert not [p for p in place.rglob("*") if p.is_file() and b"sk-secret" in p.read_bytes()]


def test_a_file_says_the_same_and_flags_win(place, server):
    file = {"dataset": "pool.parquet", "model": "strong", "base_url": server.url, "store": "answers", "k": 9, "seed": 7,
            "scores": "quality", "rounds": 3, "max_tokens": 77, "out": "by-file",
            "extra_body": {"reasoning_effort": "low"}}  # fmt: skip
    (place / "e.yaml").write_text(yaml.safe_dump(file))
    assert run("evolve --config e.yaml --k 2 --rounds 1") == 0
    found = load_dataset("by-file", split="train")
    assert len(found) == 4 and set(found["scores"][:]) == {"quality"}
    assert {r.body.get("reasoning_effort") for r in server.received} == {"low"}
    assert {r.body["max_tokens"] for r in server.received} == {77}


def test_a_dry_run_sends_and_writes_nothing(place, server, capsys):
    assert run(evolve_line(server, "--rounds 3 --price-in 1 --price-out 2 --dry-run")) == 0
    printed = capsys.readouterr().out
    for text in ("48: 3 x 12 rewritings and 12 rankings of 4 variants", "12 of 12 rows", "concretising, constraint",
                 "cost", "about 0.0"):  # fmt: skip
        assert text in printed
    assert server.received == [] and [p.name for p in place.iterdir() if p.name != "answers"] == ["pool.parquet"]


def test_a_spent_budget_is_one_line_and_the_same_command_goes_on(place, server, capsys):
    message = error_of(evolve_line(server, "--rounds 1 --max-requests 5 --out made"), capsys)
    assert "max_requests" in message and len(server.received) == 5 and not (place / "made").exists()
    assert run(evolve_line(server, "--rounds 1 --out made")) == 0
    assert len(server.received) == 24


def test_no_score_at_all_is_said_with_the_reasons(place, capsys):
    with ScriptedServer(lambda seen, n: "I would rather not.") as server:
        assert run(evolve_line(server, "--rounds 1 --k 3 --asks 2 --out made")) == 0
    printed = capsys.readouterr().out
    assert "6 variants, 0 of them with a score" in printed and "train-scorer" not in printed
    assert "3 x no readable answer in 2 asked; the last: the reply holds no <rewritten>" in printed
    assert "3 x no other variant to rank it with" in printed


def test_a_server_that_is_not_there(place, capsys):
    line = "evolve pool.parquet --model m --base-url http://127.0.0.1:9/v1 --scores complexity --tries 1 --out made"
    message = error_of(f"{line} --store answers", capsys)
    assert "127.0.0.1:9" in message and not (place / "made").exists()
    with ScriptedServer(lambda seen, n: Raw(401, "{}")) as server:
        assert "401" in error_of(evolve_line(server, "--out made"), capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--out made", "which model writes and ranks? Add --model"),
        ("--model m --out made", "which score is it for? Add --scores complexity"),
        ("--model m --scores complexity", "where to? Add --out DIR"),
        ("--model m --scores depth --out made", "scores='depth'; it is one of"),
        ("--model m --scores complexity --rounds 0 --out made", "rounds=0"),
        ("--model m --scores complexity --prompts nosuch --out made", "prompts='nosuch' is no folder"),
        ("--model m --scores complexity --k 13 --base-url http://127.0.0.1:9 --dry-run", "k=13; the seed set"),
        ("--model m --scores complexity --out made --key-variable NO_SUCH_KEY", "NO_SUCH_KEY"),
        ("--model m --scores complexity --out made --concurrency 0", "concurrency=0"),
        ("--model m --scores complexity --out made --roundz 3", "unknown argument '--roundz'; did you mean '--rounds'"),
        ("--model m --scores complexity --out made --price-in 1", "price_in and price_out"),
        ("--model m --scores complexity --out pool.parquet", "is a file"),
        ("--model m --scores complexity --out made --extra-body low", "extra_body must be a mapping"),
        ("--model m --scores complexity --out made --temperature -1", "temperature=-1.0; it is a number, at least 0"),
        ("--model m --scores complexity --seed -1 --dry-run", "seed=-1; it is a whole number, at least 0"),
    ],
)  # fmt: skip
def test_evolve_refuses_in_one_line(place, capsys, more, message):
    assert message in error_of(f"evolve pool.parquet {more}", capsys)
    assert not (place / "made").exists()


# --- train-scorer ---


@pytest.fixture
def made(place, server):
    """What evolve wrote."""
    assert run(evolve_line(server, "--rounds 2 --out made")) == 0
    return "made"


def test_train_scorer_writes_a_scorer_that_score_loads(made, place, tiny_qwen2, capsys):
    line = f"train-scorer {made} --model {tiny_qwen2} --out scorer --epochs 1 --batch-size 4 --held-out 0.25"
    assert run(f"{line} --training weight_decay=0.1 --training logging_steps=2") == 0
    printed = capsys.readouterr().out
    for text in ("trained on 27 variants of 9 samples; held out: 9 variants of 3 samples", "Spearman", "within one",
                 "most frequent score", "--scorer DeitaComplexity:model=scorer"):  # fmt: skip
        assert text in printed
    assert json.loads((place / "scorer" / SETTINGS_FILE).read_text())["scores"] == "complexity"
    assert "weight_decay = 0.1" in (place / "scorer/README.md").read_text()
    command = re.search(r"score: hf-dsel (.*)", printed)[1].replace("DATASET", "pool.parquet").replace("DIR", "scored")
    assert run(command) == 0
    scored = load_dataset("scored", split="train")
    assert all(1 <= value <= 6 for value in scored["complexity"][:])
    assert "holds a scorer already" in error_of(line, capsys)
    assert run(f"{line} --overwrite") == 0


def test_a_dry_run_of_the_training(made, place, tiny_qwen2, capsys):
    assert run(f"train-scorer {made} --model {tiny_qwen2} --dry-run --held-out 0.25") == 0
    printed = capsys.readouterr().out
    for text in (
        "27 variants of 9 samples",
        "9 x 1, 9 x 2, 9 x 3",
        "9 variants of 3 samples, held out",
        "##Complexity: ",
    ):
        assert text in printed
    assert sorted(p.name for p in place.iterdir()) == ["answers", "made", "pool.parquet"]


def test_train_scorer_from_a_file(made, place, tiny_qwen2):
    file = {"dataset": made, "model": tiny_qwen2, "out": "s", "epochs": 0.1, "training": {"weight_decay": 0.2}}
    (place / "t.yaml").write_text(yaml.safe_dump(file) + "learning_rate: 1e-4\n")
    assert run("train-scorer --config t.yaml --training max_grad_norm=0.5") == 0
    text = (place / "s/README.md").read_text()
    assert all(part in text for part in ("max_grad_norm = 0.5", "weight_decay = 0.2", "learning_rate = 0.0001,"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("pool.parquet --out s", "--model is missing: the model to train"),
        ("pool.parquet --model {m}", "--out is missing: the folder of the scorer"),
        ("--model {m} --out s", "which dataset? Give what hf-dsel evolve wrote"),
        ("pool.parquet --model {m} --out s", "no column text and score; train on what hf-dsel evolve wrote"),
        ("nosuch.parquet --model {m} --out s", "no file or folder 'nosuch.parquet'"),
        ("pool.parquet --model {m} --out s --training wd", "--training 'wd' must be NAME=VALUE"),
        ("pool.parquet --model {m} --out s --training wd=1", "trl.SFTConfig has no option 'wd'"),
        ("pool.parquet --model {m} --out .", "is not empty and holds no scorer"),
        ("pool.parquet --model {m} --out s --held_out 0.1", "unknown argument '--held_out'; did you mean '--held-out'"),
    ],
)
def test_train_scorer_refuses_in_one_line(place, capsys, tiny_qwen2, more, message):
    assert message in error_of(f"train-scorer {more.replace('{m}', tiny_qwen2)}", capsys)
    assert not (place / "s").exists()


# --- help ---


@pytest.mark.parametrize("command", ["evolve", "train-scorer"])
def test_help_teaches_by_an_example(command, capsys):
    with pytest.raises(SystemExit):
        run(f"{command} --help")
    printed = capsys.readouterr().out
    assert "Example" in printed and f"hf-dsel {command}" in printed and "{prompts}" not in printed
    assert max(len(line) for line in printed.splitlines()) <= 120
    assert main([]) == 0 and re.search(rf"^  {command}\s+\w", capsys.readouterr().out, re.MULTILINE)


def test_the_examples_in_the_help_parse(place, monkeypatch):
    from hf_dsel import commands, help_texts

    seen = []
    for name in ("evolve", "train_scorer", "score"):
        monkeypatch.setattr(commands, name, lambda options: seen.append(options) or 0)
    for text in (help_texts.EVOLVE, help_texts.TRAIN_SCORER):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("  hf-dsel "):
                assert main(shlex.split(line)[1:]) == 0
    assert len(seen) == 4 and seen[0]["dry_run"] and seen[0]["price_out"] == 1.6
    assert seen[3]["scorers"] == ["DeitaComplexity:model=complexity-scorer"]

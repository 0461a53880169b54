"""`hf-dsel bank init | update | show | export`, as a user types them. Errors are one line and exit code 2."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from uuid import uuid4

import numpy as np
import pytest
import yaml
from datasets import Dataset, Features, List, Value, load_dataset

import hf_dsel
from hf_dsel.bank_folder import INDEX
from hf_dsel.cli import main
from hf_dsel.commands import DATA


def pool(n, seed=0, dim=6, **more):
    """Rows in Alpaca's form, with scores and vectors."""
    rng = np.random.default_rng(seed)
    columns = {
        "instruction": [f"Say number {seed}.{i}." for i in range(n)],
        "output": ["word " * (1 + i % 7) for i in range(n)],
        "quality": rng.random(n).tolist(),
        "embedding": rng.standard_normal((n, dim)).astype(np.float32).tolist(),
    }
    kinds = {"instruction": Value("string"), "output": Value("string"), "quality": Value("float64"),
             "embedding": List(Value("float32"), length=dim)}  # fmt: skip
    return Dataset.from_dict(columns | more, Features(kinds) if not more else None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with two pools."""
    monkeypatch.chdir(tmp_path)
    pool(40).to_parquet("first.parquet")
    pool(30, seed=1).to_parquet("later.parquet")
    return tmp_path


def run(line):
    return main(shlex.split(line))


def error_of(line, capsys):
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert run(line) == 2
    printed = capsys.readouterr()
    lines = [text for text in printed.err.splitlines() if text.startswith("hf-dsel ")]
    assert len(lines) == 1 and "Traceback" not in printed.err
    return lines[0]


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- what each verb does ---


def test_from_an_empty_bank_to_rows_to_train_on(place, capsys):
    assert run("bank init mine --size 25 --gamma 2 --combine add") == 0
    printed = capsys.readouterr().out
    assert "mine: an empty bank for 25 rows, that reads quality and embedding; history sketch" in printed
    assert "next: hf-dsel bank update mine DATASET" in printed
    assert run("bank update mine first.parquet") == 0
    assert run("bank update mine --source second later.parquet") == 0
    printed = capsys.readouterr()
    assert "saved mine: 25 of 25 rows after 2 rounds" in printed.out and "bank show mine" in printed.out
    assert "hf_dsel: round 2, second: " in printed.err
    by_code = hf_dsel.Bank(size=25, gamma=2, combine="add")
    by_code.update(Dataset.from_parquet("first.parquet"), source="first")
    by_code.update(Dataset.from_parquet("later.parquet"), source="second")
    bank = hf_dsel.Bank.load("mine", size=25, gamma=2, combine="add", history="sketch")
    assert bank.dataset[:] == by_code.dataset[:]
    assert run("bank export mine --out rows") == 0 and run("bank export mine --out few --top 5") == 0
    rows, few = load_dataset("rows", split="train"), load_dataset("few", split="train")
    assert rows[:] == by_code.dataset[:] and few[:] == by_code.top(5)[:]
    assert set(rows.column_names) == {"messages", "score", "representation", "quality", "source", "source_row", "round"}
    printed = capsys.readouterr().out
    assert "wrote few/train.parquet: 5 rows of 25, best first" in printed
    assert "train: trl sft --model_name_or_path MODEL --dataset_name few --output_dir DIR" in printed


def test_an_update_is_repeated_without_harm(place, capsys):
    run("bank init mine --size 25")
    run("bank update mine first.parquet")
    before = files(place / "mine")
    capsys.readouterr()
    assert run("bank update mine first.parquet") == 0
    assert files(place / "mine") == before
    printed = capsys.readouterr()
    assert "mine is as it was: 25 of 25 rows after 1 round" in printed.out and "40 seen before" in printed.err


def test_scorers_are_computed_first_and_remembered(place, tiny_bert, capsys):
    Dataset.from_parquet("first.parquet").select_columns(["instruction", "output"]).to_parquet("raw.parquet")
    Dataset.from_parquet("later.parquet").select_columns(["instruction", "output"]).to_parquet("more.parquet")
    run("bank init mine --size 25 --quality response_words")
    words, vectors = "--scorer Length:of=response,unit=words", f"--scorer Embed:model={tiny_bert}"
    assert run(f"bank update mine raw.parquet {words} {vectors} --cache-dir scores") == 0
    assert sorted(p.name for p in (place / "scores").iterdir()) == ["embedding", "response_words"]
    other = error_of(f"bank update mine more.parquet {words} {vectors},of=response", capsys)
    assert "'embedding' of the bank's rows was made by Embed(" in other and "begin a new bank" in other
    assert run(f"bank update mine more.parquet {words} {vectors}") == 0
    bank = hf_dsel.Bank.load("mine")
    assert len(bank.history) == 2 and set(bank.dataset["quality"][:]) <= set(range(1, 8))


def test_a_dry_run_changes_nothing(place, capsys):
    run("bank init mine --size 25 --preference median")
    run("bank update mine first.parquet")
    before = files(place)
    capsys.readouterr()
    assert run("bank update mine later.parquet --dry-run") == 0
    printed = capsys.readouterr().out
    for text in ("30, read as alpaca", "use as it is", "a round        30 new rows at most and 25 of the bank; 1 round",
                 "messages       R (float32): 70 x 70, 19 KiB"):  # fmt: skip
        assert text in printed
    assert files(place) == before


def test_show_tells_what_is_in_it(place, capsys):
    run("bank init mine --size 25 --chunk 20")
    assert run("bank show mine") == 0
    printed = capsys.readouterr().out
    assert "mine: 0 of 25 rows" in printed and "next: hf-dsel bank update mine DATASET" in printed
    assert "history     sketch" in printed and "momentum" not in printed and "rows by source" not in printed
    run("bank update mine first.parquet")
    run("bank update mine later.parquet")
    bank = hf_dsel.Bank.load("mine")
    capsys.readouterr()
    assert run("bank show mine --rounds --top 3 --picture pictures/mine.png") == 0
    lines = capsys.readouterr().out.splitlines()
    blocks = {lines[i - 1].strip(): lines[i:] for i in range(1, len(lines)) if lines[i].startswith("  ")}
    table = [line.split() for line in blocks["rounds"][1:5]]
    assert [row[:2] for row in table] == [["1", "first"], ["2", "first"], ["3", "later"], ["4", "later"]]
    for row, r in zip(table, bank.history, strict=True):
        assert [int(n) for n in row[2:]] == [
            r.given, r.seen, 0, r.candidates, r.entered, r.left, r.kept, r.kept + r.entered
        ]  # fmt: skip
    sources = [line.split() for line in blocks["rows by source"][1:3]]
    assert {row[0]: int(row[1]) for row in sources} == bank.history[-1].by_source
    after = {
        row[0]: [int(n) for n in row[1:]] for row in map(str.split, blocks["rows in the bank after each round"][1:3])
    }
    assert after == {name: [r.by_source.get(name, 0) for r in bank.history] for name in ("first", "later")}
    means = {row[0]: [float(x) for x in row[1:]] for row in map(str.split, blocks["means"][1:4])}
    for name in ("score", "representation", "quality"):
        values = np.array(bank.dataset[name][:])
        assert means[name] == pytest.approx([values[:2].mean(), values[-2:].mean(), values.mean()], abs=6e-4)
    first = [line.split() for line in blocks["the first rows"][1:4]]
    assert [row[0] for row in first] == ["0", "1", "2"]
    said = [messages[0]["content"] for messages in bank.dataset["messages"][:3]]
    assert [" ".join(row[-3:]) for row in first] == said
    assert "45 rows that are not in the bank" in " ".join(lines)
    assert (place / "pictures/mine.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_last_rounds_unless_asked(place, capsys):
    run("bank init mine --size 10 --chunk 2")
    run("bank update mine later.parquet")
    capsys.readouterr()
    run("bank show mine --top 0")
    printed = capsys.readouterr().out
    assert "rounds  (the last 12 of 15; --rounds for all)" in printed and "the first rows" not in printed
    run("bank show mine --rounds")
    printed = capsys.readouterr().out
    assert "(the last" not in printed and "round 12\n" in printed and "round 15\n" in printed


def test_pairs_go_to_dpo_and_do_not_mix_with_conversations(place, capsys):
    asked = [{"role": "user", "content": "Q"}]
    side = lambda text, n: [[*asked, {"role": "assistant", "content": f"{text} {i}"}] for i in range(n)]  # noqa: E731
    rows = pool(8, chosen=side("yes", 8), rejected=side("no", 8)).remove_columns(["instruction", "output"])
    rows.to_parquet("pairs.parquet")
    run("bank init mine --size 4")
    assert run("bank update mine pairs.parquet") == 0 and run("bank export mine --out rows") == 0
    assert "trl dpo --model_name_or_path" in capsys.readouterr().out
    found = load_dataset("rows", split="train")
    assert {"prompt", "chosen", "rejected"} <= set(found.column_names) and found["prompt"][0] == asked
    assert "the bank holds preference pairs, and first conversations" in error_of(
        "bank update mine first.parquet", capsys
    )


@pytest.mark.parametrize("history", ["paper", "repository", "none"])
def test_other_histories(place, history, capsys):
    assert run(f"bank init mine --size 12 --history {history} --preference median --iterations 20") == 0
    run("bank update mine first.parquet")
    assert run(f"bank update mine later.parquet --history {history}") == 0
    run("bank show mine")
    printed = capsys.readouterr().out
    assert ("momentum" in printed) == (history != "none") == ("messages of the last round" in printed)
    assert hf_dsel.Bank.load("mine").settings.history == (None if history == "none" else history)


def test_one_file_serves_all_verbs(place, capsys):
    text = {
        "folder": "mine",
        "size": 20,
        "history": None,
        "preference": -1,
        "decay": 1,
        "source": "pool",
        "dataset": "first.parquet",
        "scorers": [{"name": "Length", "of": "response"}],
        "out": "rows",
        "top": 2,
    }
    (place / "bank.yaml").write_text(yaml.safe_dump(text))
    assert all(run(f"bank {verb} --config bank.yaml") == 0 for verb in ("init", "update", "show", "export"))
    bank = hf_dsel.Bank.load("mine", size=20, history=None, preference=-1, decay=1)
    assert bank.history[0].source == "pool" and len(load_dataset("rows", split="train")) == 2
    assert run("bank update mine later.parquet --config bank.yaml --source mine") == 0
    assert hf_dsel.Bank.load("mine").history[1].source == "mine"
    (place / "bank.yaml").write_text("sise: 20\n")
    assert "bank.yaml: unknown key 'sise'; did you mean 'size'" in error_of("bank init b --config bank.yaml", capsys)
    (place / "bank.yaml").write_text("rounds: 3\n")
    assert "rounds must be true or false" in error_of("bank show mine --config bank.yaml", capsys)


# --- what bad input gets ---


@pytest.mark.parametrize(
    ("line", "message"),
    [("bank inti mine", "hf-dsel bank: error: no verb 'inti'; did you mean 'init'? Verbs: init, update, show, export"),
     ("bank init", "hf-dsel bank init: error: which bank? Give its folder"),
     ("bank init new --size 0", "size is 0; it must be a whole number of at least 1 row"),
     ("bank init new --size many", "invalid int value: 'many'"),
     ("bank init new --sise 9", "unknown argument '--sise'; did you mean '--size'"),
     ("bank init new --preference high", "preference is 'high'; expected a finite number"),
     ("bank init new --history all", "history is 'all'; expected 'sketch', 'paper', 'repository' or None"),
     ("bank init new --combine max", "combine is 'max'; expected 'multiply'"),
     ("bank init new --gamma -1", "gamma is the weight of the quality, at least 0; got -1"),
     ("bank init new --bits 9", "bits is 9.0; it must be above 0 and at most 8"),
     ("bank init new --neighbours few", "neighbours is 'few'; it must be a whole number"),
     ("bank init new --history paper --neighbours 5", "leave neighbours out, or use 'sketch'"),
     ("bank init new --config bad.yaml", "gamma is 'x'; it must be a number"),
     ("bank init mine", "mine holds a bank already, 20 of 20 rows after 1 round; add to it with hf-dsel bank update"),
     ("bank init other", "other is not empty (notes.txt) and holds no complete bank"),
     ("bank init half", "half is not empty (state-0001-abc) and holds no complete bank"),
     ("bank init first.parquet", "first.parquet is a file; a bank is a folder"),
     ("bank update mine", "which dataset? Give a Hub id, a file or a folder"),
     ("bank update nosuch first.parquet", "no bank in nosuch (no bank.json). Begin one: hf-dsel bank init nosuch"),
     ("bank update half first.parquet", "no bank in half (no bank.json); an interrupted first save leaves such"),
     ("bank update mine later.parquet --size 30", "was made with size=20, not 30. A bank keeps its settings"),
     ("bank update mine later.parquet --history none", "was made with history='sketch', not None"),
     ("bank update mine nosuch.parquet", "no file or folder 'nosuch.parquet'"),
     ("bank update mine wide.parquet", "the embeddings of wide have 9 dimensions, those of the bank 6"),
     ("bank update mine nan.parquet", "'quality' has NaN or infinite values in 1 of 3 rows"),
     ("bank update mine first.parquet --scorer Lenght", "unknown scorer 'Lenght'; did you mean 'Length'"),
     ("bank update ifd first.parquet", "the bank reads ['ifd'], which the dataset lacks and no scorer writes"),
     ("bank update same equal.parquet", "'quality' is 1 in all 4 rows, so it cannot rank them"),
     ("bank update broken later.parquet", "rows.parquet is damaged ("),
     ("bank update old later.parquet", "was made by hf-dsel 0.0.1 (format 0, this one reads 1)"),
     ("bank update torn later.parquet", "bank.json is damaged ("),
     ("bank show nosuch", "no bank in nosuch"),
     ("bank show mine --top -1", "--top -1 must be a whole number of rows"),
     ("bank show mine --picture mine.txt", "--picture mine.txt must end in .png, .svg, .pdf"),
     ("bank show same --picture mine.png", "the bank has had no round yet"),
     ("bank export mine", "where to? Add --out DIR"),
     ("bank export mine --out rows --top 21", "b is 21; the bank has 20 rows, so ask for 1 to 20"),
     ("bank export mine --out rows --top 0", "b is 0; the bank has 20 rows"),
     ("bank export same --out rows", "the bank in same is empty; first hf-dsel bank update same DATASET"),
     ("bank export mine --out mine", "holds bank.json already; give another folder"),
     ("bank export mine --out done", "done holds train.parquet already; give another folder, or --overwrite")],
)  # fmt: skip
def test_bad_input_is_one_line(place, line, message, capsys):
    run("bank init mine --size 20")
    run("bank update mine first.parquet")
    run("bank init ifd --size 20 --quality ifd")
    run("bank init same --size 2")
    (place / "other").mkdir()
    (place / "other/notes.txt").write_text("mine")
    (place / "half/state-0001-abc").mkdir(parents=True)
    (place / "bad.yaml").write_text("gamma: x\n")
    pool(5, dim=9).to_parquet("wide.parquet")
    pool(3, quality=[1.0, float("nan"), 2.0]).to_parquet("nan.parquet")
    pool(4, quality=[1.0] * 4).to_parquet("equal.parquet")
    (place / "done").mkdir()
    (place / "done" / DATA).write_bytes(b"")
    for name in ("broken", "old", "torn"):
        subprocess.run(["cp", "-r", "mine", name], check=True)
    state = next((place / "broken").glob("state-*/rows.parquet"))
    state.write_bytes(state.read_bytes()[:-9])
    record = json.loads((place / "old" / INDEX).read_text()) | {"hf_dsel_bank": 0, "versions": {"hf-dsel": "0.0.1"}}
    (place / "old" / INDEX).write_text(json.dumps(record))
    (place / "torn" / INDEX).write_text((place / "torn" / INDEX).read_text()[:99])
    before = files(place)
    assert message in error_of(line, capsys)
    assert files(place) == before


def test_export_overwrites_its_own_file_when_asked(place):
    run("bank init mine --size 20")
    run("bank update mine first.parquet")
    run("bank export mine --out rows")
    assert run("bank export mine --out rows --top 3 --overwrite") == 0 and len(load_dataset("rows", split="train")) == 3


def test_a_bank_changed_by_another_process_is_not_overwritten(place, capsys):
    """The other update comes from the scorer, which runs while this one is under way."""
    run("bank init mine --size 20")
    run("bank update mine first.parquet")
    (place / "meanwhile.py").write_text(
        "from hf_dsel.cli import main\n"
        "def scorer(batch):\n"
        "    main(['bank', 'update', 'mine', 'later.parquet'])\n"
        "    return {'extra': [0] * len(batch['output'])}\n"
        "def make():\n    return scorer\n"
    )
    pool(10, seed=uuid4().int).to_parquet("third.parquet")  # never seen, so no cache has its scores
    sys.path.insert(0, str(place))
    try:
        message = error_of("bank update mine third.parquet --scorer meanwhile.make", capsys)
    finally:
        sys.path.remove(str(place))
    assert "another process or another Bank saved there" in message and "takes both" in message
    assert [r.source for r in hf_dsel.Bank.load("mine").history] == ["first", "later"]
    assert run("bank update mine third.parquet") == 0
    assert [r.source for r in hf_dsel.Bank.load("mine").history] == ["first", "later", "third"]


# --- killed ---


def killed_while_saving(folder, line):
    """Start the update, and kill -9 it as soon as it writes; whether that was before the new bank was in place."""
    before, environment = (folder / INDEX).read_bytes(), dict(os.environ)
    here = os.path.dirname(os.path.dirname(hf_dsel.__file__))
    states = set(folder.glob("state-*"))
    update = subprocess.Popen([sys.executable, "-m", "hf_dsel", *shlex.split(line)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=environment | {"PYTHONPATH": here})  # fmt: skip
    end = time.monotonic() + 120
    while update.poll() is None and time.monotonic() < end and set(folder.glob("state-*")) == states:
        time.sleep(0.0002)
    update.send_signal(signal.SIGKILL)
    update.wait()
    return update.returncode == -signal.SIGKILL and (folder / INDEX).read_bytes() == before


def test_kill_9_while_it_saves_leaves_the_old_bank(place):
    pool(3000, seed=3, dim=256).to_parquet("old.parquet")
    pool(3000, seed=4, dim=256).to_parquet("new.parquet")
    run("bank init mine --size 3000")
    run("bank update mine old.parquet")
    old = hf_dsel.Bank.load("mine").dataset[:]
    assert killed_while_saving(place / "mine", "bank update mine new.parquet")
    assert len(list((place / "mine").glob("state-*"))) == 2  # one of them is half written
    assert hf_dsel.Bank.load("mine").dataset[:] == old
    assert run("bank update mine new.parquet") == 0
    assert len(list((place / "mine").glob("state-*"))) == 1
    again = hf_dsel.Bank(size=3000)
    for name in ("old", "new"):
        again.update(Dataset.from_parquet(f"{name}.parquet"), source=name)
    assert hf_dsel.Bank.load("mine").dataset[:] == again.dataset[:]


# --- help ---


@pytest.mark.parametrize("verb", ["", "init", "update", "show", "export"])
def test_help_teaches_by_an_example(verb, capsys):
    try:
        code = run(f"bank {verb} --help")
    except SystemExit as leave:  # argparse prints and leaves
        code = leave.code
    printed = capsys.readouterr().out
    assert code == 0 and "Example" in printed and f"hf-dsel bank {verb}".strip() in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


def test_the_examples_of_the_help_parse(monkeypatch):
    from hf_dsel import bank_commands, help_texts

    seen = []
    for verb in help_texts.BANK_VERBS:
        monkeypatch.setattr(bank_commands, verb, lambda options, verb=verb: seen.append((verb, options)) or 0)
    for text in (help_texts.BANK, *help_texts.BANK_VERBS.values()):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("  hf-dsel bank "):
                assert main(shlex.split(line)[1:]) == 0
    assert [verb for verb, _ in seen].count("update") == 6 and seen[0] == ("init", {"folder": "my-bank", "size": 6000})
    assert ("show", {"folder": "my-bank", "rounds": True, "top": 20, "picture": "my-bank.png"}) in seen


def test_bank_alone_lists_its_verbs(capsys):
    assert main(["bank"]) == 2 and "hf-dsel bank export my-bank" in capsys.readouterr().out
    assert main(["--help"]) == 0 and "  bank     " in capsys.readouterr().out

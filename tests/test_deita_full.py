"""DEITA as published, end to end: evolve, rank, train both scorers, score, select, fine-tune."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.scorers.score_templates import SETTINGS_FILE

from .scripted_server import ScriptedServer
from .strong_model import strong_model

RECIPE = Path(__file__).parent.parent / "recipes/deita_full"
BOTH = ("complexity", "quality")
PAIRS = [
    ("Name the capital of France.", "Paris."), ("Write a short poem.", "The sea is blue."), ("What is rain?", "Water."),
    ("Who was Einstein?", "A man."), ("Why is the sky blue?", "Light."), ("What is a river?", "Water that flows."),
    ("Sing a song.", "La la."), ("How old is the earth?", "Very old."), ("What is bread?", "Food."),
    ("Name a planet.", "Mars."), ("Write a letter.", "Dear John."), ("Say hello in German.", "Hallo."),
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with twelve rows of Alpaca's form and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"instruction": question, "input": "", "output": answer} for question, answer in PAIRS]
    Dataset.from_list(rows).to_parquet("pool/train.parquet")
    return tmp_path


def recipe(place, *arguments):
    """Run the script; what it prints."""
    environment = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    line = [sys.executable, str(RECIPE / "run.py"), "--dataset", "pool", *map(str, arguments)]
    found = subprocess.run(line, capture_output=True, text=True, cwd=place, env=environment)
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    return found.stdout


def test_the_script_and_the_commands_select_the_same_rows(place, tiny_qwen2, tiny_bert):
    with ScriptedServer(strong_model) as server:
        asked = ["--strong", "strong", "--base_url", server.url, "--seeds", 5, "--rounds", 2]
        assert "requests" in recipe(place, *asked, "--plan") and server.received == []
        printed = recipe(place, *asked, "--scorer", tiny_qwen2, "--model", tiny_qwen2, "--embedder", tiny_bert,
                         "--k", 4, "--max_steps", 1, "--out", "by-script")  # fmt: skip
        assert len(server.received) == 30
        for scores in BOTH:
            line = f"evolve pool --config {RECIPE}/evolve.yaml --scores {scores} --model strong --base-url {server.url}"
            assert main([*line.split(), "--k", "5", "--rounds", "2", "--out", f"evolved-{scores}"]) == 0
            line = f"train-scorer evolved-{scores} --model {tiny_qwen2} --training max_steps=1 --out {scores}-scorer"
            assert main(line.split()) == 0
        assert len(server.received) == 30  # what the script paid for is stored
    flags = f"""--config {RECIPE}/sft.yaml --model_name_or_path {tiny_qwen2} --dataset_name pool --selection.k 4
                --output_dir by-file --use_cpu --bf16 false --dtype float32 --max_steps 1"""
    scorers = [{"name": "DeitaComplexity", "model": "complexity-scorer"},
               {"name": "DeitaQuality", "model": "quality-scorer"},
               {"name": "Embed", "model": tiny_bert, "of": "example"}]  # fmt: skip
    assert main(["sft", *flags.split(), "--selection.scorers", json.dumps(scorers)]) == 0
    by_file, by_script = (hf_dsel.Selection.load(f"{way}/selection.json") for way in ("by-file", "by-script"))
    assert by_file.indices.tolist() == by_script.indices.tolist()
    assert by_file.gains.tolist() == pytest.approx(by_script.gains.tolist(), rel=1e-4)
    for part in ("5 of 12 rows", "15: 2 x 5 rewritings", "Spearman", "whole pool", "train_loss"):
        assert part in printed
    assert all((place / way / "model.safetensors").exists() for way in ("by-file", "by-script"))


@pytest.mark.slow
def test_the_whole_chain_with_a_real_server(place, smollm2_server, smollm2_folder, tiny_qwen2, minilm):
    """SmolLM2-135M rewrites and ranks, and becomes both scorers. Its rankings mean nothing; every step is real."""
    how = ["--seeds", 6, "--rounds", 1, "--max_tokens", 24, "--prompts", RECIPE / "small_model", "--max_requests", 60]
    how += ["--strong", smollm2_folder, "--base_url", smollm2_server, "--scorer", smollm2_folder]
    how += ["--model", tiny_qwen2, "--embedder", minilm, "--k", 5, "--max_steps", 1, "--out", "out"]
    printed = recipe(place, *how)
    assert printed.count("most frequent score") == 2 and "train_loss" in printed
    rows = Dataset.from_parquet("pool/train.parquet")
    for scores, make in zip(BOTH, (hf_dsel.DeitaComplexity, hf_dsel.DeitaQuality), strict=True):
        evolved = load_dataset(f"out/evolved-{scores}", split="train")
        assert len(evolved) == 12 and sum(s is not None for s in evolved["score"][:]) >= 4
        for row in evolved:
            assert (row["score"] in range(1, 7)) == (row["score_status"] == "ok")
            assert (row["text"] is None) == (row["variant_status"] != "ok")
        down = hf_dsel.Endpoint(model=smollm2_folder, base_url="http://127.0.0.1:9/v1", tries=1)
        again = hf_dsel.evolve(rows, down, scores=scores, k=6, rounds=1, max_tokens=24,
                               prompts=RECIPE / "small_model" / scores)  # fmt: skip
        assert again[:] == evolved[:] and down.requests_sent == 0  # every answer is there
        folder = place / "out" / f"{scores}-scorer"
        assert json.loads((folder / SETTINGS_FILE).read_text())["scores"] == scores
        found = make(str(folder), dtype="float32")({name: rows[name][:] for name in rows.column_names})
        assert all(1 <= value <= 6 for value in found[scores]) and len(set(found[scores])) > 6
        if scores == "complexity":
            complexity = found[scores]
        else:
            product = [c * q for c, q in zip(complexity, found[scores], strict=True)]
    record = hf_dsel.Selection.load("out/selection.json")
    assert len(record) == 5 and record.indices[0] == product.index(max(product))
    assert record.gains.tolist() == pytest.approx([product[i] for i in record.indices], rel=0.05)

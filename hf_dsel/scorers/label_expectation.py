# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The expected label after a sequence: one forward of the model's body, its head at the last position only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hf_dsel.scorers.batching import in_halves, micro_batches, padded
from hf_dsel.scorers.token_stats import head, positions_at_once, splits_in_two

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def expected_labels(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    label_ids: Sequence[int],
    *,
    batch_tokens: int,
    on_done: Callable[[list[int]], None] | None = None,
) -> list[float]:
    """Σ_i i·softmax(z)_i for each sequence, with z the logits of the labels 1 … n at the next position.

    Args:
        model: a causal language model in inference mode.
        sequences: token ids, at least one each.
        label_ids: the token of each label, in order.
        batch_tokens: padded tokens in a micro-batch.
        on_done: called after each micro-batch with the positions of the sequences in it.

    Returns:
        one number in [1, n] a sequence, computed in float32 from the model's logits.
    """
    import torch

    results = [float("nan")] * len(sequences)

    def run(group: list[int]) -> list[float]:
        logits = last_logits(model, [sequences[i] for i in group], label_ids)
        p = torch.softmax(logits, -1)  # over the labels alone
        labels = torch.arange(1, len(label_ids) + 1, device=p.device, dtype=p.dtype)
        return (p @ labels).tolist()  # DEITA Section 2.2: the expectation over the labels

    with torch.inference_mode():
        for group in micro_batches([len(s) for s in sequences], batch_tokens):
            what = f"{len(sequences[group[0]]):,} tokens"
            for i, value in zip(group, in_halves(run, group, what), strict=True):
                results[i] = value
            if on_done is not None:
                on_done(group)
    return results


def last_logits(model: PreTrainedModel, sequences: Sequence[Sequence[int]], token_ids: Sequence[int]) -> torch.Tensor:
    """The logits of some tokens at the position after each sequence: float32 (sequences x tokens)."""
    import torch

    ids, mask = padded(sequences, model.device)
    last = mask.sum(1) - 1  # padding is on the right
    each = torch.arange(len(ids), device=ids.device)
    if not splits_in_two(model):
        return model(ids, attention_mask=mask, use_cache=False).logits[each, last][:, token_ids].float()
    body = model.base_model(ids, attention_mask=mask, use_cache=False)
    hidden = body[0][each, last]  # sequences x width
    parts = hidden.split(positions_at_once(model))
    return torch.cat([head(model, body, part)[:, token_ids] for part in parts]).float()

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The logits of a sequence classifier over micro-batches of like length, equal to those of single sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_dsel.scorers.batching import in_halves, micro_batches, padded
from hf_dsel.scorers.classifier_inputs import Encoded, columns_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def classifier_logits(
    model: PreTrainedModel,
    sequences: Sequence[Encoded],
    *,
    batch_tokens: int,
    on_done: Callable[[list[int]], None] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """The logits of each sequence, as the model's own forward gives them for it alone.

    Args:
        model: a sequence classifier in inference mode.
        sequences: ids, at least one each, and segments where the tokenizer has them.
        batch_tokens: padded tokens in a micro-batch.
        on_done: called after each micro-batch with the positions of the sequences in it.

    Returns:
        for each sequence an array (labels,) in float32.
    """
    import torch

    results: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(sequences)

    def run(group: list[int]) -> list[npt.NDArray[np.float32]]:
        return list(_run(model, [sequences[i] for i in group]))

    with torch.inference_mode():
        for group in micro_batches([len(s.ids) for s in sequences], batch_tokens):
            what = f"{len(sequences[group[0]].ids):,} tokens"
            for i, logits in zip(group, in_halves(run, group, what), strict=True):
                results[i] = logits
            if on_done is not None:
                on_done(group)
    return results


def _run(model: PreTrainedModel, group: Sequence[Encoded]) -> npt.NDArray[np.float32]:
    columns = columns_of(group)
    with _pad_id(model, [one.ids[-1] for one in group]) as pad:
        ids, mask = padded(columns["input_ids"], model.device, pad=pad)
        more = {"token_type_ids": padded(columns["token_type_ids"], model.device)[0]} if len(columns) > 1 else {}
        logits = model(input_ids=ids, attention_mask=mask, **more).logits
    return logits.float().reshape(len(group), -1).cpu().numpy()


@contextmanager
def _pad_id(model: PreTrainedModel, last_ids: Sequence[int]) -> Iterator[int]:
    """The id to pad with.

    A decoder's classification head reads the last token that is not `config.pad_token_id`, and refuses a batch when
    there is none. Then one is set for the moment that ends none of the sequences, so that the last token is read, as
    for a sequence alone.
    """
    config = model.config.get_text_config()
    own = getattr(config, "pad_token_id", None)
    if own is not None and own >= 0:
        yield own
        return
    free = next(i for i in range(len(last_ids) + 1) if i not in last_ids)
    config.pad_token_id = free
    try:
        yield free
    finally:
        config.pad_token_id = own

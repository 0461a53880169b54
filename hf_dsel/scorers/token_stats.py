# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a causal language model says about the last tokens of a sequence, token by token.

The body of the model runs once over a micro-batch. Its head then runs on the scored positions only, a few hundred at a
time, so that no array of (sequences x tokens x vocabulary) ever exists.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from hf_dsel.scorers.batching import in_halves, micro_batches, padded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOSS = ("nll",)
DISTRIBUTION = ("nll", "entropy", "margin", "least_confidence", "el2n")
HEAD_BYTES = {"cpu": 2**25, "cuda": 2**29}  # float32 logits held at a time
_splits: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def token_stats(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    n_scored: Sequence[int],
    *,
    distribution: bool,
    batch_tokens: int,
    on_done: Callable[[list[int]], None] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Loss, and on request the shape of the distribution, at the last tokens of each sequence.

    Args:
        model: a causal language model in inference mode.
        sequences: token ids. Each has at least one token more than are scored.
        n_scored: how many of the last tokens of each sequence are scored, at least 1.
        distribution: whether to compute the columns of `DISTRIBUTION`; otherwise those of `LOSS`.
        batch_tokens: padded tokens in a micro-batch.
        on_done: called after each micro-batch with the positions of the sequences in it.

    Returns:
        for each sequence an array (n_scored x 1) of `LOSS` or (n_scored x 5) of `DISTRIBUTION`.
    """
    import torch

    results: list[Any] = [None] * len(sequences)

    def run(group: list[int]) -> list[npt.NDArray[np.float32]]:
        return _run(model, [sequences[i] for i in group], [n_scored[i] for i in group], distribution)

    with torch.inference_mode():
        for group in micro_batches([len(s) for s in sequences], batch_tokens):
            what = f"{len(sequences[group[0]]):,} tokens"
            for i, stats in zip(group, in_halves(run, group, what), strict=True):
                results[i] = stats
            if on_done is not None:
                on_done(group)
    return results


def _run(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], n_scored: Sequence[int], distribution: bool
) -> list[npt.NDArray[np.float32]]:
    import torch

    ids, mask = padded(sequences, model.device)
    scored = (
        torch.arange(ids.shape[1], device=ids.device) >= (mask.sum(1) - _on(n_scored, ids))[:, None]
    ) & mask.bool()
    targets = ids[scored]  # (N,) in the order of the sequences
    before = scored.roll(-1, dims=1)  # the position that predicts a token is the one before it
    if splits_in_two(model):
        body = model.base_model(ids, attention_mask=mask, use_cache=False)
        hidden = body[0][before]  # N x width
        step = positions_at_once(model)
        pieces = []
        for i in range(0, len(targets), step):
            logits = head(model, body, hidden[i : i + step])
            pieces.append(stats_of(logits, targets[i : i + step], distribution))
        stats = torch.cat(pieces)
    else:
        stats = stats_of(model(ids, attention_mask=mask, use_cache=False).logits[before], targets, distribution)
    return np.split(stats.cpu().numpy(), np.cumsum(n_scored)[:-1])


def _on(values: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.tensor(values, device=like.device)


def stats_of(logits: torch.Tensor, targets: torch.Tensor, distribution: bool) -> torch.Tensor:
    """The statistics of each token in float32.

    Args:
        logits: (N x vocabulary), any float type.
        targets: (N,) the token that came.
        distribution: see `token_stats`.

    Returns:
        (N x 1) or (N x 5), the columns of `LOSS` or `DISTRIBUTION`. All are at least 0; `nll` and `entropy` in nats.
    """
    import torch

    log_p = torch.log_softmax(logits, -1, dtype=torch.float32)  # one fused pass; logsumexp takes six times as long
    log_p_y = log_p.gather(-1, targets[:, None])[:, 0]
    if not distribution:
        return -log_p_y[:, None]
    p = torch.softmax(logits, -1, dtype=torch.float32)
    top = p.topk(2, -1).values
    return torch.stack(
        [
            -log_p_y,
            -(p * log_p.clamp_min_(-1e4)).sum(-1),  # entropy; the clamp makes 0 of 0 * -inf
            top[:, 0] - top[:, 1],  # margin p1 - p2
            1 - top[:, 0],  # least confidence
            ((p * p).sum(-1) - 2 * log_p_y.exp() + 1).clamp_min(0).sqrt(),  # ||p - onehot(y)||, survey Eq. 10
        ],
        dim=-1,
    )


def head(model: PreTrainedModel, body: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The logits (N x vocabulary) of hidden states (N x width), by the model's own `forward`.

    Its body is replaced for the moment by one that returns `hidden`, so that whatever the model does around its output
    layer (logit scaling, soft capping) is done here too.
    """
    import torch

    output = copy.copy(body)
    output["last_hidden_state"] = hidden[None]
    with _body_replaced(model, output):
        dummy = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        return model(input_ids=dummy, use_cache=False).logits[0]


@contextmanager
def _body_replaced(model: PreTrainedModel, output: Any) -> Iterator[None]:
    import torch

    class Replay(torch.nn.Module):
        def forward(self, *_: Any, **__: Any) -> Any:
            return output

    name = model.base_model_prefix
    body = model._modules[name]
    model._modules[name] = Replay()
    try:
        yield
    finally:
        model._modules[name] = body


def splits_in_two(model: PreTrainedModel) -> bool:
    """Whether body, then `head`, gives what the whole model gives. Tried once a model, on eight tokens."""
    import torch

    if model not in _splits:
        ids = torch.arange(1, 9, device=model.device)[None]
        try:
            body = model.base_model(ids, use_cache=False)
            apart = head(model, body, body["last_hidden_state"][0])
            whole = model(ids, use_cache=False).logits[0]
            _splits[model] = torch.allclose(apart.float(), whole.float(), rtol=1e-2, atol=1e-2)
        except (AttributeError, KeyError, TypeError, IndexError):
            _splits[model] = False
    return _splits[model]


def positions_at_once(model: PreTrainedModel) -> int:
    """How many positions the head runs on at a time."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    return max(1, HEAD_BYTES.get(model.device.type, 2**27) // (4 * vocabulary))

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""GraNd: how far one row alone would pull the weights, the norm of the gradient of its mean loss (survey Eq. 54)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_dsel.training.recordable import CannotRecord
from hf_dsel.training.sequence_stats import language_model

if TYPE_CHECKING:
    import torch

LOGITS = 2**26  # floats of logits held at a time


def trainable_norms(model: Any, inputs: Mapping[str, Any]) -> tuple[Any, torch.Tensor]:
    """‖∇_θ 1/N Σ_t −ln p_t(y_t)‖₂ over all trainable weights, of a batch that holds one sequence.

    Args:
        model: in evaluation mode.
        inputs: the batch.

    Returns:
        what the model returned, and the norm (1 x 1) in float32; NaN where no token is scored.
    """
    import torch

    weights = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        output = model(**inputs, use_cache=False, fused_lm_head=True)
        n = output.label_mask.sum()
        gradients = torch.autograd.grad(-output.log_probs.sum() / n.clamp(min=1), weights, allow_unused=True)
    squares = torch.stack([g.float().square().sum() for g in gradients if g is not None])
    norm = squares.sum().sqrt()
    return output, torch.where(n > 0, norm, torch.nan)[None, None]


def last_layer_norms(model: Any, inputs: Mapping[str, Any], output: Any) -> torch.Tensor:
    """The same over the weights W (and bias) of the output layer alone, without a backward pass.

    With h_t the last hidden state and a_t = p_t − onehot(y_t), the gradient is 1/N Σ_t a_t h_tᵀ, and its squared norm
    1/N² Σ_st (a_s·a_t)(h_s·h_t), which needs (N x N) products instead of a gradient as large as W. Where the input
    embedding shares W, its own part of the gradient is not in it.

    Args:
        model: in evaluation mode; called under no_grad.
        inputs: a batch of sequences, padded or end to end.
        output: what the model returned for it.

    Returns:
        (sequences x 1) float32; NaN where no token is scored.

    Raises:
        CannotRecord: the logits are not W h + b (soft capping, scaling).
    """
    import torch

    causal = language_model(model)
    body = causal.base_model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False)
    layer = causal.get_output_embeddings()
    hidden, labels, mask = body.last_hidden_state[:, :-1], inputs["labels"][:, 1:], output.label_mask
    owner = inputs.get("seq_idx")
    groups = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask) if owner is None else owner[:, 1:]
    n_groups = len(mask) if owner is None else int(owner[0, -1]) + 1
    norms = []
    for group in range(n_groups):
        tokens = mask & (groups == group)
        n = int(tokens.sum())
        if n == 0:
            norms.append(torch.full((), torch.nan, device=mask.device))
            continue
        h, y = hidden[tokens].float(), labels[tokens]
        inner, log_p = _error_products(h, y, layer)
        _check(log_p, output.log_probs[tokens])
        among = h @ h.T + (0 if layer.bias is None else 1)  # (h_s·h_t), and 1·1 for the bias
        norms.append(((inner * among).sum().clamp_min(0).sqrt() / n).float())
    return torch.stack(norms)[:, None]


def _error_products(h: torch.Tensor, y: torch.Tensor, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N x N) products a_s·a_t, and (N,) ln p_t(y_t), going twice over the vocabulary in tiles."""
    import torch

    n, vocabulary = len(h), len(layer.weight)
    width = max(1, LOGITS // n)
    tiles = range(0, vocabulary, width)

    def logits(start: int) -> torch.Tensor:
        found = h @ layer.weight[start : start + width].float().T
        return found if layer.bias is None else found + layer.bias[start : start + width].float()

    log_z = torch.logsumexp(torch.stack([logits(start).logsumexp(1) for start in tiles]), 0)
    inner, log_p = h.new_zeros(n, n), h.new_zeros(n)
    for start in tiles:
        log_a = logits(start) - log_z[:, None]
        here = (y >= start) & (y < start + log_a.shape[1])
        at = (y - start).clamp(0, log_a.shape[1] - 1)[:, None]
        log_p += torch.where(here, log_a.gather(1, at)[:, 0], 0)
        a = log_a.exp().scatter_add_(1, at, -here[:, None].float())  # p_t − onehot(y_t)
        inner += a @ a.T
    return inner, log_p


def _check(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Under bfloat16 they differ by rounding alone; by more when the model does something to its logits."""
    import torch

    if not torch.allclose(ours, theirs.float(), rtol=5e-2, atol=5e-2):
        raise CannotRecord(
            "the logits of this model are more than its output layer times the hidden state (soft capping or scaling), "
            "so the gradient of that layer is not the product taken here; use gradients='trainable'"
        )

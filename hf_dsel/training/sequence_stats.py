# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Numbers of each sequence from the per-token output that TRL's trainers make for their loss.

TRL runs the output layer in tiles and returns log-probabilities instead of logits. What it returns a token is all that
is needed here, so no logits are held and nothing runs twice. Whatever depends on that part of TRL is in this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ANSWER = ("loss", "accuracy", "el2n", "entropy", "tokens")
PAIR = ("chosen_logp", "rejected_logp", "margin")
PER_TOKEN = ("log_probs", "entropy", "is_top1", "log_sum_sq_probs")


class NoTokenOutput(RuntimeError):
    """The forward pass did not return what TRL 1.16 returns."""


def language_model(model: Any) -> Any:
    """The causal language model itself, inside adapters or not."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def of_answers(output: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The numbers of `ANSWER` for each sequence of a batch.

    With the N scored tokens y_t of a sequence and the model's distributions p_t:
    loss = −1/N Σ ln p_t(y_t), nats a token; accuracy = share of tokens where y_t is the most likely one;
    el2n = 1/N Σ ‖p_t − onehot(y_t)‖₂ (survey Eq. 10); entropy = −1/N Σ_t Σ_v p_t(v) ln p_t(v); tokens = N.

    Args:
        output: what the model returned: per token, (batch x length − 1), zero where a token is not scored.
        inputs: the batch. `seq_idx` (1 x length) says which sequence a token belongs to where they lie end to end.

    Returns:
        (sequences x 5) float32, on the device of the output; NaN where a sequence has no scored token, infinity where
        one of its numbers is not finite.

    Raises:
        NoTokenOutput: the model returned something else.
    """
    import torch

    _check(output, PER_TOKEN)
    mask = output.label_mask.float()
    # ‖p − onehot(y)‖² = Σ_v p_v² − 2 p_y + 1
    el2n = (output.log_sum_sq_probs.float().exp() - 2 * output.log_probs.float().exp() + 1).clamp_min(0).sqrt()
    tokens = torch.stack([-output.log_probs.float(), output.is_top1.float(), el2n, output.entropy.float(), mask])
    sums = _sums(tokens * mask, inputs)
    n = sums[-1:]
    return _marked(torch.cat([sums[:-1] / n, n]).T.detach(), n[0] > 0)


def of_tokens(output: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The mean probability of each sequence's scored tokens, and the share of them that are the most likely.

    1/N Σ p_t(y_t), as in the survey's Eqs. 49 and 50, and 1/N Σ [y_t is the most likely].

    Args:
        output, inputs: as in `of_answers`.

    Returns:
        (sequences x 2) float32; NaN where a sequence has no scored token.

    Raises:
        NoTokenOutput: the model returned something else.
    """
    import torch

    _check(output, ("log_probs", "is_top1"))
    mask = output.label_mask.float()
    sums = _sums(torch.stack([output.log_probs.float().exp(), output.is_top1.float(), mask]) * mask, inputs)
    return (sums[:-1] / sums[-1:]).T.detach()


def losses(output: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """−1/N Σ ln p_t(y_t) of each sequence of a batch that has a scored token, nats a token.

    Args:
        output, inputs: as in `of_answers`.

    Returns:
        (sequences with a scored token,) float32.

    Raises:
        NoTokenOutput: the model returned something else.
    """
    import torch

    _check(output, ("log_probs",))
    mask = output.label_mask.float()
    sums = _sums(torch.stack([-output.log_probs.float() * mask, mask]), inputs)
    return (sums[0] / sums[1])[sums[1] > 0].detach()


def _sums(tokens: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Over the tokens of each sequence: (numbers x batch x length − 1) → (numbers x sequences)."""
    owner = inputs.get("seq_idx")
    if owner is None:
        return tokens.sum(-1)
    sums = tokens.new_zeros(len(tokens), int(owner[0, -1]) + 1)
    return sums.index_add_(1, owner[0, 1:].long(), tokens[:, 0, -(owner.shape[1] - 1) :])  # the owner of the next token


def of_pairs(output: Any, reference: Any, inputs: Mapping[str, Any], beta: float) -> torch.Tensor:
    """The numbers of `PAIR` for each pair of a batch, whose first half is chosen and second half rejected.

    log π(y) = Σ_t ln p_t(y_t) in nats; margin = β ((log π − log π_ref)(chosen) − (log π − log π_ref)(rejected)), the
    difference of the implicit rewards (DPO, arXiv 2305.18290, Eq. 5 and 6).

    Args:
        output: what the policy returned, per token.
        reference: the same of the reference model; None where the batch carries its sums.
        inputs: the batch.
        beta: the trainer's.

    Returns:
        (pairs x 3) float32; NaN where neither side has a scored token, infinity where a number is not finite.

    Raises:
        NoTokenOutput: a model returned something else.
    """
    import torch

    _check(output, ("log_probs",))
    chosen, rejected = output.log_probs.float().sum(1).chunk(2)
    if reference is None:
        kept = inputs["ref_chosen_logps"].float(), inputs["ref_rejected_logps"].float()
    else:
        _check(reference, ("log_probs",))
        one, other = reference.log_probs.float().sum(1).chunk(2)
        kept = one, other
    margin = beta * ((chosen - kept[0]) - (rejected - kept[1]))
    found = torch.stack([chosen, rejected, margin], 1).detach()
    scored = output.label_mask.any(1).view(2, -1).any(0)
    return _marked(found, scored)


def _marked(found: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Rows of numbers, all infinite where one is not finite, and all NaN where nothing was scored."""
    import torch

    finite = found.isfinite().all(1, keepdim=True)
    return torch.where(scored[:, None], torch.where(finite, found, torch.inf), torch.nan)


def _check(output: Any, names: tuple[str, ...]) -> None:
    missing = [name for name in (*names, "label_mask") if getattr(output, name, None) is None]
    if missing:
        raise NoTokenOutput(
            f"the forward pass returned {type(output).__name__} without {', '.join(missing)}: this trainer does not "
            "compute its loss as the trainers of TRL 1.16 do. Use trl.SFTTrainer or trl.DPOTrainer as they are"
        )

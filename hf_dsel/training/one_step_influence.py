# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What one optimiser step on a single row does to the loss on a reference set; afterwards nothing has changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.progress import bar
from hf_dsel.training import sequence_stats
from hf_dsel.training.recordable import SHARDED, kind_of
from hf_dsel.training.reselectable import CannotReselect
from hf_dsel.training.row_numbers import ROW
from hf_dsel.trl_format import to_trl

OWN_STEPS = ("lomo", "layerwise", "schedule_free")  # of the names of transformers' optimisers


def check(trainer: Any) -> None:
    """Refuse trainers whose step cannot be made for one row by one rank, or not be taken back.

    Raises:
        CannotReselect: with the reason and the next step.
    """
    args, how = trainer.args, str(trainer.accelerator.distributed_type).rpartition(".")[2]
    optim = str(getattr(args.optim, "value", args.optim))
    if kind_of(trainer) != "sft":
        raise CannotReselect("one-step effects are changes of the loss on answers; use an SFTTrainer, or another plan")
    if how in SHARDED or any(hasattr(p, "device_mesh") for p in trainer.model.parameters()):
        raise CannotReselect(
            f"a rank measures its rows with its own copy of the weights, which sharded ones ({how}) are not; train "
            "without FSDP, DeepSpeed and tensor parallelism, or use another plan"
        )
    if args.fp16:
        raise CannotReselect("fp16=True scales the loss by what the last steps allowed; use bf16=True or float32")
    if any(name in optim for name in OWN_STEPS):
        raise CannotReselect(
            f"optim={optim!r} steps in the backward pass or keeps two sets of weights, which cannot be taken "
            "back; use one like adamw_torch"
        )
    from trl import SFTTrainer

    own = type(trainer).compute_loss is not SFTTrainer.compute_loss
    if own or args.label_smoothing_factor or trainer.compute_loss_func is not None:
        raise CannotReselect(
            "one-step effects are measured with TRL's own loss; leave label_smoothing_factor, compute_loss_func and a "
            "compute_loss of your own out"
        )


def reference_batches(trainer: Any, reference: Dataset) -> list[dict[str, Any]]:
    """The reference rows as the trainer reads rows: tokenised, in batches of `per_device_eval_batch_size`, on the CPU.

    Raises:
        ValueError: no row is left, or none with a token to learn from.
    """
    rows = reference if "input_ids" in reference.column_names else to_trl(reference)
    if ROW in rows.column_names:
        rows = rows.remove_columns(ROW)
    with trainer.args.main_process_first(desc="reference"):
        rows = trainer._prepare_dataset(
            rows, trainer.processing_class, trainer.args, False, trainer._formatting_func, "reference"
        )
    size = trainer.args.per_device_eval_batch_size
    batches = [_collated(trainer, rows, range(i, min(i + size, len(rows)))) for i in range(0, len(rows), size)]
    if not any((batch["labels"] != -100).any() for batch in batches):
        raise ValueError("reference has no row with a token to learn from; its answers are empty, or beyond max_length")
    return batches


def reference_loss(trainer: Any, batches: list[dict[str, Any]]) -> float:
    """The mean over the reference rows of each row's mean loss, nats a token, by the model as it is now."""
    import torch

    torch.clear_autocast_cache()  # it holds the weights as they were before a step, in bfloat16
    losses = []
    with torch.no_grad():
        for batch in batches:
            inputs = trainer._prepare_inputs(batch)
            output = trainer.model(**inputs, use_cache=False, fused_lm_head=True)
            losses.append(sequence_stats.losses(output, inputs))
    return float(torch.cat(losses).double().mean())


def one_step_effects(trainer: Any, places: npt.NDArray[np.int64], batches: list[dict[str, Any]]) -> dict[str, Any]:
    """The fall of the reference loss L by one optimiser step A on each row x: L(M) − L(A(M, x)).

    The step is the trainer's next one, taken on this row alone: its optimiser with its moments, its learning rate of
    the time, its gradient clipping. So momentum and weight decay are in every effect, the same in all. Weights and the
    optimiser's state are put back, to the bit, before this returns.

    Args:
        trainer: in training, its model in evaluation mode.
        places: rows of its training set.
        batches: from `reference_batches`.

    Returns:
        effect: nats a token, above 0 where the row helps; reference_loss: L(M), the same for each row.
    """
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    before = reference_loss(trainer, batches)
    effects = []
    with bar(total=len(places), what="effects of one step") as progress:
        for place in places:
            with taken_back(optimizer):
                step_on(trainer, optimizer, _collated(trainer, trainer.train_dataset, [int(place)]))
                effects.append(before - reference_loss(trainer, batches))  # L(M) − L(A(M, x))
            progress.update()
    return {"effect": effects, "reference_loss": [before] * len(places)}


def step_on(trainer: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    """One step on the loss of a batch that holds one row, without a trace in the trainer's metrics."""
    import torch

    model, inputs = trainer.model, trainer._prepare_inputs(batch)
    if trainer.aux_loss_enabled:
        inputs["output_router_logits"] = True
    weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    torch.clear_autocast_cache()
    with torch.enable_grad():
        output = model(**inputs, use_cache=False, fused_lm_head=True)
        per_token = -output.log_probs
        if trainer.args.loss_type == "dft":
            per_token = per_token * output.log_probs.exp().detach()
        loss = per_token.sum() / output.label_mask.sum().clamp(min=1)
        if trainer.aux_loss_enabled:
            loss = loss + trainer.router_aux_loss_coef * output.aux_loss
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)  # touches no hook and no .grad
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    if trainer.args.max_grad_norm > 0:
        torch.nn.utils.clip_grad_norm_(weights, trainer.args.max_grad_norm)
    optimizer.step()


@contextmanager
def taken_back(optimizer: Any) -> Iterator[None]:
    """Whatever the optimiser does within is undone: weights, gradients, its state, its groups.

    Takes memory for a second copy of the trainable weights and of the optimiser's state.
    """
    import torch

    weights = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [(p, p.detach().clone(), p.grad) for p in weights]
    state = {p: {name: (value, _copied(value)) for name, value in of_p.items()} for p, of_p in optimizer.state.items()}
    groups = [{name: (v, _copied(v)) for name, v in g.items() if name != "params"} for g in optimizer.param_groups]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value, gradient in kept:
                weight.copy_(value)
                weight.grad = gradient
            for weight in [p for p in optimizer.state if p not in state]:
                del optimizer.state[weight]
            for weight, found in state.items():
                _put_back(optimizer.state[weight], found)
            for group, found in zip(optimizer.param_groups, groups, strict=True):
                _put_back(group, found | {"params": (group["params"], group["params"])})


def _copied(value: Any) -> Any:
    return value.detach().clone() if hasattr(value, "detach") else copy.deepcopy(value)


def _put_back(now: dict[str, Any], found: dict[str, tuple[Any, Any]]) -> None:
    """The same objects with the values that they had; what has come since is gone."""
    for name in [name for name in now if name not in found]:
        del now[name]
    for name, (value, copied) in found.items():
        if hasattr(value, "detach"):
            value.copy_(copied)
        now[name] = value if hasattr(value, "detach") else copied


def _collated(trainer: Any, rows: Dataset, at: Any) -> dict[str, Any]:
    """Some rows as the trainer's dataloader would give them."""
    chosen = trainer._remove_unused_columns(rows.select(list(at)), description="measured")
    batch = dict(trainer.data_collator(list(chosen.with_format(None))))
    batch.pop(ROW, None)
    return batch

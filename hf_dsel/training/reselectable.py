# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Which trainers can be given other rows in mid-run; the others are refused before they train."""

from __future__ import annotations

import math
from typing import Any

from datasets import Dataset

from hf_dsel.training.recordable import SHARDED, kind_of, refuse_view


class CannotReselect(ValueError):
    """What a trainer does rules out choosing again; the text says why and what to do."""


def check(trainer: Any, *, every: str | int, k: int, scores: bool) -> None:
    """Refuse what would train on other rows than those chosen, or never come to an end.

    Args:
        trainer: to be bound.
        every: when rows are chosen, as in `Reselect`.
        k: rows of a selection.
        scores: whether the model in training scores rows.

    Raises:
        CannotReselect: with the reason and the next step.
        TypeError: neither an SFTTrainer nor a DPOTrainer.
    """
    kind_of(trainer)
    args = trainer.args
    if not isinstance(trainer.train_dataset, Dataset):
        raise CannotReselect("train_dataset is a stream, of which no row can be chosen; load it without streaming=True")
    if getattr(trainer, "_is_vision_dataset", False):
        raise CannotReselect("train_dataset holds images; only text was tried")
    if getattr(args, "packing", False):
        raise CannotReselect(
            "packing=True merges rows into examples before the training, so single rows cannot be chosen any more. Use "
            "SFTConfig(packing=False, padding_free=True), which wastes no padding either"
        )
    if "seq_lengths" in trainer.train_dataset.column_names:
        raise CannotReselect(
            "train_dataset holds packed examples, of which no row can be chosen; leave pack_to out of TrainingDynamics"
        )
    refuse_view(trainer)
    _check_sampling(trainer)
    if args.auto_find_batch_size:
        raise CannotReselect("auto_find_batch_size=True changes the steps of a round in mid-run; set the batch size")
    if args.ignore_data_skip:
        raise CannotReselect("ignore_data_skip=True draws the first rows of a round again after a resume; leave it out")
    parallel = trainer.accelerator.parallelism_config
    if parallel is not None and (parallel.cp_enabled or parallel.sp_enabled or parallel.tp_enabled):
        raise CannotReselect("context, sequence and tensor parallelism were not tried; set cp_size, sp_size, tp_size=1")
    how = str(trainer.accelerator.distributed_type).rpartition(".")[2]
    if scores and how in SHARDED:
        raise CannotReselect(
            f"score runs the model on each rank by itself, which {how} cannot do; select by columns that are there "
            "(score=None), or train without it"
        )
    if isinstance(every, int) and args.max_steps <= 0:
        steps = math.ceil(args.num_train_epochs * math.ceil(k / trainer.get_total_train_batch_size(args)))
        raise CannotReselect(
            f"every={every} makes each {every} steps an epoch of the trainer, so say how many steps there are: "
            f"max_steps={steps} is {args.num_train_epochs:g} times k={k:,} rows"
        )


def check_scored_model(model: Any) -> None:
    """Refuse adapters that a forward pass of the model beneath them leaves out.

    Raises:
        CannotReselect: with the reason and the next step.
    """
    for name, config in getattr(model, "peft_config", {}).items():
        if getattr(config, "is_prompt_learning", False):
            raise CannotReselect(
                f"the adapter {name!r} ({config.peft_type}) puts tokens before the prompt, which the scores would not "
                "see; use LoRA, or a score of your own: a callable"
            )


def _check_sampling(trainer: Any) -> None:
    from transformers import Trainer

    args = trainer.args
    if args.train_sampling_strategy != "random":
        raise CannotReselect(
            f"train_sampling_strategy={args.train_sampling_strategy!r} orders the rows itself; leave it out"
            + (", and pass order='picks'" if args.train_sampling_strategy == "sequential" else "")
        )
    for name in ("_get_train_sampler", "get_train_dataloader"):
        if getattr(type(trainer), name) is not getattr(Trainer, name) or name in vars(trainer):
            raise CannotReselect(f"{type(trainer).__name__} has a {name} of its own, which draws its own rows; drop it")

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Which trainers can be recorded exactly; the others are refused before they train."""

from __future__ import annotations

from typing import Any, Literal

from datasets import Dataset

from hf_dsel.training.row_numbers import NUMBER, ROW

Kind = Literal["sft", "dpo"]
SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


class CannotRecord(ValueError):
    """What a trainer does rules out exact records; the text says why and what to do."""


def kind_of(trainer: Any) -> Kind:
    """Whether this is TRL's SFT or DPO trainer, or a subclass.

    Raises:
        TypeError: it is neither.
    """
    from trl import DPOTrainer, SFTTrainer

    if isinstance(trainer, SFTTrainer):
        return "sft"
    if isinstance(trainer, DPOTrainer):
        return "dpo"
    raise TypeError(f"bind takes a trl.SFTTrainer or trl.DPOTrainer, got {type(trainer).__name__}")


def check(trainer: Any, *, pack_to: int | None) -> None:
    """Refuse what would make the records wrong or leave them empty.

    Raises:
        CannotRecord: with the reason and the next step.
    """
    args, kind = trainer.args, kind_of(trainer)
    if not isinstance(trainer.train_dataset, Dataset):
        raise CannotRecord("train_dataset is a stream, whose rows have no number; load it without streaming=True")
    if getattr(trainer, "_is_vision_dataset", False):
        raise CannotRecord("train_dataset holds images, which another collator reads; only text is recorded")
    if getattr(args, "packing", False):
        raise CannotRecord(
            "packing=True drops every column, and with it which row a token comes from. "
            f"Use SFTConfig(packing=False, padding_free=True, max_length=None) and "
            f"TrainingDynamics(pack_to={args.max_length}): it packs the same way and keeps the row numbers"
        )
    if pack_to is not None and (kind == "dpo" or not trainer.padding_free):
        raise CannotRecord(
            f"pack_to={pack_to} needs an SFTTrainer with SFTConfig(padding_free=True, max_length=None), whose collator "
            "keeps packed sequences apart"
        )
    if pack_to is not None and getattr(trainer, "_hf_dsel_reselect", None) is not None:
        raise CannotRecord("pack_to merges the rows that Reselect chooses from; leave one of them out")
    if getattr(trainer, "padding_free", False) and getattr(args, "pad_to_multiple_of", None):
        raise CannotRecord(
            f"pad_to_multiple_of={args.pad_to_multiple_of} adds padding that padding_free=True takes for sequences of "
            "its own; leave it out"
        )
    if args.label_smoothing_factor or getattr(trainer, "compute_loss_func", None) is not None:
        raise CannotRecord(
            "label_smoothing_factor and compute_loss_func make TRL run a second forward pass for its metrics, and the "
            "records would be of that one; leave them out"
        )
    refuse_view(trainer)
    if args.torch_compile:
        raise CannotRecord("torch_compile=True may leave out the hook that reads the loss; set it to False")
    parallel = trainer.accelerator.parallelism_config
    if parallel is not None and (parallel.cp_enabled or parallel.sp_enabled):
        raise CannotRecord("context and sequence parallelism split a row over ranks; set cp_size and sp_size to 1")
    if getattr(args, "ld_alpha", None) is not None:
        raise CannotRecord(
            f"ld_alpha={args.ld_alpha} weighs the tokens of an answer by its length, so its log-probability has two "
            "meanings; leave it out"
        )


def refuse_view(trainer: Any) -> None:
    """Refuse a shuffled or selected view that TRL takes as it is: its rows cannot be told from TRL's own choice.

    Raises:
        CannotRecord: with the next step.
    """
    prepared, args = trainer.train_dataset, trainer.args
    skipped = (getattr(args, "dataset_kwargs", None) or {}).get("skip_prepare_dataset")
    if prepared._indices is not None and ROW not in prepared.column_names and (skipped or args.max_length is None):
        if not getattr(args, "shuffle_dataset", False):
            raise CannotRecord(
                "the trainer was given a shuffled, split or selected view of tokenised rows, and which row is which "
                f"cannot be told any more; give it dataset.flatten_indices(), or number the rows before: {NUMBER}"
            )


def check_probe(trainer: Any, *, gradients: str | None, held_out: bool) -> None:
    """Refuse probes that would hang or measure something else.

    Raises:
        CannotRecord: with the reason and the next step.
    """
    how = str(trainer.accelerator.distributed_type).rpartition(".")[2]
    if how in SHARDED:
        raise CannotRecord(f"a probe runs the model on one rank at a time, which {how} cannot do; leave probe out")
    if gradients and kind_of(trainer) == "dpo":
        raise CannotRecord("GraNd is the gradient of the loss of a response; leave gradients out with a DPOTrainer")
    for name, config in getattr(trainer.model, "peft_config", {}).items():
        if gradients == "last_layer" and getattr(config, "is_prompt_learning", False):
            raise CannotRecord(
                f"the adapter {name!r} ({str(config.peft_type).rpartition('.')[2]}) puts tokens of its own before the "
                "row, and gradients='last_layer' runs the model beneath it, without them; use gradients='trainable', "
                "the norm over the adapter's weights"
            )
    if held_out and getattr(trainer, "precompute_ref_logps", False):
        raise CannotRecord(
            "precompute_ref_log_probs=True leaves no reference model for the rows of probe_on; set it to False, or "
            "probe rows of the training set"
        )

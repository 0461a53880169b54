# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""An extra pass over chosen rows during training: all of them measured with the same weights."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from hf_dsel.columns import first
from hf_dsel.training import recordable, sequence_stats
from hf_dsel.training.gradient_norms import last_layer_norms, trainable_norms
from hf_dsel.training.records import Records
from hf_dsel.training.row_numbers import ROW, Numbering, RowCollator, fingerprint

Gradients = Literal["last_layer", "trainable"]


@dataclass
class Probe:
    """Passes in evaluation mode over some rows in their order, shared out over the ranks.

    Pass 0 is before the first step; pass e after epoch e, or after the e-th multiple of `every` steps. Training goes on
    as it would have without: no random number is drawn, no gradient kept, no metric of the trainer's touched.

    Args:
        every: steps between two passes; None is after each epoch.
        on: row numbers of the training set, or another dataset in TRL's format, or None for the training set.
        gradients: whose norms to take (survey Eq. 54), if any.
    """

    every: int | None
    on: Dataset | Sequence[int] | None
    gradients: Gradients | None
    records: Records = field(init=False)
    source_rows: int = 0
    _bound: weakref.ref[Any] | None = field(default=None, repr=False)
    _rows: Dataset | None = field(default=None, repr=False)
    _collate: Any = field(default=None, repr=False)

    @property
    def _trainer(self) -> Any:
        assert self._bound is not None
        return self._bound()

    @property
    def held_out(self) -> bool:
        """Whether it runs on rows that are not trained on."""
        return isinstance(self.on, Dataset)

    def prepare(self, trainer: Any, numbering: Numbering) -> None:
        """Tokenise the rows as the trainer does, or find them in its training set.

        Raises:
            recordable.CannotRecord: such a probe would hang, or measure something else.
            ValueError: a row number that is not in the training set.
        """
        recordable.check_probe(trainer, gradients=self.gradients, held_out=self.held_out)
        kind = recordable.kind_of(trainer)
        numbers = sequence_stats.ANSWER if kind == "sft" else sequence_stats.PAIR
        self.records = Records((*numbers, "grand") if self.gradients else numbers)
        self._bound, self._collate = weakref.ref(trainer), RowCollator(trainer.data_collator)
        if isinstance(self.on, Dataset):
            self.source_rows = len(self.on)
            fresh = self.on.remove_columns(ROW) if ROW in self.on.column_names else self.on
            raw = fresh.add_column(ROW, np.arange(len(fresh)))
            more = (False, trainer._formatting_func) if kind == "sft" else ()
            self._rows = trainer._prepare_dataset(raw, trainer.processing_class, trainer.args, *more, "probe")
        elif self.on is None:
            self._rows = numbering.dataset
        else:
            place = {int(n): i for i, n in enumerate(numbering.dataset.with_format(None)[ROW][:])}
            missing = [n for n in self.on if n not in place]
            if missing:
                raise ValueError(f"probe_on names rows {first(missing)}, which are not in the training set")
            self._rows = numbering.dataset.select([place[n] for n in self.on])

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint's passes to be of this probe."""
        assert self._rows is not None
        of = "other rows" if self.held_out else "rows of the training set"
        return {
            "probe": "each epoch" if self.every is None else f"every {self.every} steps",
            "probe_on": f"{len(self._rows):,} {of} ({fingerprint(self._rows)})",
            "gradients": self.gradients,
        }

    def at_epoch(self, epochs: int) -> bool:
        """Run after so many epochs, unless it did, and say whether it ran now."""
        due = (epochs == 0 or self.every is None) and epochs not in self.records.passes
        if due:
            self._run(epochs)
        return due

    def at_step(self, step: int) -> bool:
        """Run after so many steps, where it is time, and say whether."""
        due = self.every is not None and step % self.every == 0
        if due and self.every is not None:
            self._run(step // self.every)
        return due

    def summary(self) -> dict[str, float]:
        """The means of the last pass, for the logs."""
        if not self.records.passes:
            return {}
        values = self.records.passes[max(self.records.passes)][1]
        names = enumerate(self.records.numbers)
        return {f"probe/{name}": float(values[:, i].mean()) for i, name in names if name != "tokens" and len(values)}

    def _run(self, at: int) -> None:
        import torch

        trainer, args = self._trainer, self._trainer.args
        assert self._rows is not None
        rows = self._rows.with_format(None)
        mine = np.arange(args.process_index, len(rows), args.world_size)
        size = 1 if self.gradients == "trainable" else args.per_device_eval_batch_size
        with _evaluating(trainer.model), trainer.accelerator.autocast():
            for start in range(0, len(mine), size):
                inputs = trainer._prepare_inputs(self._collate([rows[int(i)] for i in mine[start : start + size]]))
                numbers = inputs.pop(ROW)
                inputs = {k: v for k, v in inputs.items() if k in _READ}
                values = self._values(inputs)
                self.records.add(numbers, values.to(torch.float32), at=at, step=start)
        self.records.settle(args.world_size)

    def _values(self, inputs: dict[str, Any]) -> Any:
        import torch

        trainer = self._trainer
        if recordable.kind_of(trainer) == "dpo":
            with torch.no_grad():
                return self._of_pairs(inputs)
        model = trainer.model
        if self.gradients == "trainable":
            output, norms = trainable_norms(model, inputs)
            return torch.cat([sequence_stats.of_answers(output, inputs), norms], 1)
        with torch.no_grad():
            output = model(**inputs, use_cache=False, fused_lm_head=True)
            values = sequence_stats.of_answers(output, inputs)
            if self.gradients == "last_layer":
                values = torch.cat([values, last_layer_norms(model, inputs, output)], 1)
        return values

    def _of_pairs(self, inputs: dict[str, Any]) -> Any:
        trainer = self._trainer
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        given = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}
        output = trainer.model(**given, labels=labels, use_cache=False, fused_lm_head=True)
        if "ref_chosen_logps" not in inputs:
            reference = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, inputs)
            inputs = inputs | dict(zip(("ref_chosen_logps", "ref_rejected_logps"), reference, strict=True))
        return sequence_stats.of_pairs(output, None, inputs, trainer.beta)


_READ = (
    "input_ids", "labels", "attention_mask", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q",
    "max_length_k", "seq_idx", "completion_mask", "ref_chosen_logps", "ref_rejected_logps",
)  # fmt: skip


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Without dropout, and back to what it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)

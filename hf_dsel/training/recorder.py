# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Reading along with a trainer: the rows and per-token output of each training batch, checkpoints, logs."""

from __future__ import annotations

import functools
import json
import os
import warnings
import weakref
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_dsel.training import recordable, sequence_stats
from hf_dsel.training.fuller_head import FullerHead
from hf_dsel.training.packing import packed
from hf_dsel.training.probing import Probe
from hf_dsel.training.records import Records
from hf_dsel.training.row_numbers import ROW, Numbering, RowCollator, fingerprint
from hf_dsel.training.summaries import of_pass
from hf_dsel.training.trajectories import LearnedAt

FILE = "hf_dsel_dynamics.npz"
WHOLE = 1e-6  # how near to a whole number an epoch's fraction is one


class ForeignRecords(ValueError):
    """A checkpoint holds records of other rows, of another probe or kind of trainer, or of an earlier hf_dsel."""


@dataclass
class Recorder:
    """What a `TrainingDynamics` does inside one trainer.

    The trainer's `compute_loss` takes the row numbers out of the batch, lets the trainer's own one run, and reads what
    the model returned in it. Nothing runs twice. The trainer holds this and not the other way round: its model is freed
    with it, while the records stay.
    """

    bound: InitVar[Any]
    learned_at: LearnedAt
    pack_to: int | None
    probe: Probe | None
    kind: recordable.Kind = field(init=False)
    numbering: Numbering = field(init=False)
    records: Records = field(init=False)
    identity: dict[str, Any] = field(init=False)
    _bound: weakref.ref[Any] = field(init=False, repr=False)
    epoch: int = 0
    _outputs: list[Any] | None = field(default=None, repr=False)
    _hooks: list[Any] = field(default_factory=list, repr=False)
    _resume_from: Path | None = None

    def __post_init__(self, bound: Any) -> None:
        self.kind = recordable.kind_of(bound)
        recordable.check(bound, pack_to=self.pack_to)
        trainer, self._bound = bound, weakref.ref(bound)
        with trainer.args.main_process_first(desc="row numbers"):
            self.numbering = Numbering.of(trainer.train_dataset)
        self.records = Records(sequence_stats.ANSWER if self.kind == "sft" else sequence_stats.PAIR)
        if self.probe is not None:
            self.probe.prepare(trainer, self.numbering)
        prepared = self.numbering.dataset
        self.identity = {
            "trainer": self.kind,
            "rows": f"{len(prepared):,} of {self.numbering.source_rows:,} ({fingerprint(prepared)})",
            "pack_to": self.pack_to,
            "probe": None,
        } | (self.probe.identity if self.probe is not None else {})

    @property
    def trainer(self) -> Any:
        """The bound one, or None when it is gone."""
        return self._bound()

    def attach(self) -> None:
        """Change the trainer: its training set, its collator, and what `train` and `compute_loss` do around theirs."""
        trainer = self.trainer
        trainer.train_dataset = self.numbering.dataset
        if self.pack_to is not None:
            with trainer.args.main_process_first(desc="packing"):
                trainer.train_dataset = packed(self.numbering.dataset, self.pack_to)
        trainer._set_signature_columns_if_needed()  # the columns that remove_unused_columns leaves
        if ROW not in trainer._signature_columns:
            trainer._signature_columns.append(ROW)
        trainer.data_collator = RowCollator(trainer.data_collator)
        trainer.compute_loss = self._reading(trainer.compute_loss)
        trainer.train = self._remembering(trainer.train, FullerHead(trainer.model) if self.kind == "sft" else None)
        trainer.add_callback(callback_of(self))

    def _reading(self, plain: Any) -> Any:
        @functools.wraps(plain)
        def compute_loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            rows = inputs.pop(ROW, None)
            if rows is None or not self.trainer.model.training:
                return plain(model, inputs, *args, **kwargs)
            with self._caught() as outputs:
                result = plain(model, inputs, *args, **kwargs)
            self.records.add(rows, self._numbers(outputs, inputs), at=self.epoch, step=self.trainer.state.global_step)
            return result

        return compute_loss

    def _remembering(self, plain: Any, head: FullerHead | None) -> Any:
        @functools.wraps(plain)
        def train(resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
            from transformers.trainer_utils import get_last_checkpoint

            found = resume_from_checkpoint or None
            if found is True:
                found = get_last_checkpoint(self.trainer.args.output_dir)
            self._resume_from = None if found is None else Path(found)
            if head is not None:
                head.on()  # before accelerate wraps the model
            try:
                return plain(resume_from_checkpoint, *args, **kwargs)
            finally:
                self._release()  # also when training was broken off
                if head is not None:
                    head.off()

        return train

    @contextmanager
    def _caught(self) -> Iterator[list[Any]]:
        """What the models return meanwhile, the policy first."""
        self._outputs = []
        try:
            yield self._outputs
        finally:
            self._outputs = None

    def _catch(self, module: Any, args: Any, output: Any) -> None:
        if self._outputs is not None and getattr(output, "log_probs", None) is not None:
            self._outputs.append(output)

    def _numbers(self, outputs: Sequence[Any], inputs: Mapping[str, Any]) -> Any:
        import torch

        if not outputs:
            raise sequence_stats.NoTokenOutput(
                "the loss was computed without the per-token output of TRL 1.16's trainers, so nothing can be recorded"
            )
        with torch.no_grad():
            if self.kind == "sft":
                return sequence_stats.of_answers(outputs[-1], inputs)
            reference = outputs[1] if len(outputs) > 1 else None
            return sequence_stats.of_pairs(outputs[0], reference, inputs, self.trainer.beta)

    # --- what the trainer says ---

    def train_begins(self, model: Any) -> None:
        """Records start anew, or from the checkpoint that training goes on from."""
        names = self.trainer.train_dataset.column_names
        if ROW not in names:
            raise recordable.CannotRecord(
                "train_dataset was replaced after bind; its rows have no number. Bind after you set it"
            )
        self.records.restore({}, "train")
        if self.probe is not None:
            self.probe.records.restore({}, "probe")
        if self._resume_from is not None:
            self._load(self._resume_from / FILE)
        watched = [model, getattr(self.trainer, "ref_model", None)]
        self._release()
        self._hooks = [m.register_forward_hook(self._catch) for m in watched if m is not None]

    def epoch_begins(self, epoch: float) -> None:
        """Know the number of the epoch; before its first step, measure what a checkpoint came too early for."""
        self.epoch = int(epoch + WHOLE)
        if self.probe is not None and abs(epoch - self.epoch) < WHOLE:
            self._probed(self.probe.at_epoch(self.epoch))

    def step_ends(self, step: int) -> None:
        """Probe, where it is time."""
        if self.probe is not None:
            self._probed(self.probe.at_step(step))

    def epoch_ends(self, epoch: float) -> None:
        """Share the records of the epoch and put its numbers into the trainer's logs."""
        self.records.settle(self.trainer.args.world_size)
        numbers = of_pass(self.records, self.epoch, self.learned_at)
        if self.probe is not None and abs(epoch - self.epoch - 1) < WHOLE:
            self._probed(self.probe.at_epoch(self.epoch + 1))
        self._log({f"dynamics/{name}": value for name, value in numbers.items()})

    def saved(self, step: int) -> None:
        """Put the records beside the checkpoint that was just written."""
        self.records.settle(self.trainer.args.world_size)
        folder = Path(self.trainer.args.output_dir) / f"checkpoint-{step}"
        if not self.trainer.is_world_process_zero() or not folder.is_dir():
            return
        arrays = self.records.arrays("train") | (self.probe.records.arrays("probe") if self.probe else {})
        identity = np.array(json.dumps(self.identity))
        temporary = folder / f"{FILE}.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, identity=identity, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / FILE)

    def train_ends(self) -> None:
        """Share what is left and let go of the model."""
        self.records.settle(self.trainer.args.world_size)
        self._release()

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _load(self, path: Path) -> None:
        if not path.is_file():
            warnings.warn(
                f"{path.parent} holds no {FILE}: it was written without TrainingDynamics, or the run ended while "
                "writing it. What was seen before it is not in the records; resume from an earlier one to have it",
                stacklevel=2,
            )
            return
        without = "delete that file to resume without what was recorded before it"
        try:
            with np.load(path) as found:
                arrays = dict(found)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise ForeignRecords(
                f"{path} is not complete ({error}). Resume from an earlier checkpoint, or {without}"
            ) from None
        identity = arrays.pop("identity", np.array([]))
        if identity.ndim != 0:
            raise ForeignRecords(
                f"{path} was written by an earlier hf_dsel, which did not note the rows and the probe, so whether they "
                f"are the same cannot be told. Start anew, or {without}"
            )
        there = json.loads(str(identity))
        names = [name for name in there | self.identity if there.get(name) != self.identity.get(name)]
        if names:
            other = "; ".join(f"{name}: {there.get(name)} there, {self.identity.get(name)} now" for name in names)
            raise ForeignRecords(
                f"{path} is of another run ({other}). Resume with the same rows and options, start anew, or {without}"
            )
        self.records.restore(arrays, "train")
        if self.probe is not None:
            self.probe.records.restore(arrays, "probe")

    def _probed(self, now: bool) -> None:
        if now and self.probe is not None:
            self._log(self.probe.summary())

    def _log(self, numbers: dict[str, float]) -> None:
        """A record of its own in the trainer's logs; TRL's running means stay for the next one."""
        if not numbers:
            return
        trainer = self.trainer
        means, due = trainer._metrics["train"], trainer.control.should_log
        trainer._metrics["train"] = defaultdict(list)
        try:
            trainer.log(numbers)
        finally:
            trainer._metrics["train"] = means
            trainer.control.should_log = due  # logging says that it was done; the trainer's own log is still due


def callback_of(recorder: Recorder) -> Any:
    """The recorder as transformers calls it."""
    from transformers import TrainerCallback

    class TrainingDynamicsCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.train_begins(given["model"])

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.epoch_begins(state.epoch or 0.0)

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.step_ends(state.global_step)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.epoch_ends(state.epoch)

        def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.saved(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.train_ends()

    return TrainingDynamicsCallback()

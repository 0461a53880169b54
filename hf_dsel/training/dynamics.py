# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What each row did while a model was trained on it: a callback for TRL's SFTTrainer and DPOTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Self

import numpy as np
from datasets import Dataset

from hf_dsel.scorers.options import check_choice
from hf_dsel.training import trajectories
from hf_dsel.training.course_columns import DROPPED, add_columns, reasons_unseen, with_losses
from hf_dsel.training.probing import Gradients, Probe
from hf_dsel.training.recorder import Recorder
from hf_dsel.training.records import Records
from hf_dsel.training.trajectories import Course, LearnedAt, threshold

EITHER = "bind(trainer) and trainer.train() come first"


class NothingRecorded(RuntimeError):
    """The records are asked for before there are any."""


@dataclass
class TrainingDynamics:
    """What each row did in each epoch, read from the forward passes that training makes anyway.

        dynamics = hf_dsel.TrainingDynamics().bind(trainer)
        trainer.train()
        pool = dynamics.add_to(pool)

    For each row and epoch of an `SFTTrainer`: mean loss of the response in nats a token, token accuracy, EL2N (survey
    Eq. 10), entropy (`sequence_stats.of_answers`). Of a `DPOTrainer`: log-probability of the chosen and the rejected
    answer and the reward margin (`sequence_stats.of_pairs`). The loss of a row is the one of the batch in which it was
    trained on, before that step, with dropout where the model has it. `add_to` turns them into columns, whose formulas
    are in `trajectories.of_answers` and `of_pairs`:

    | column `dynamics_...` | of answers | of pairs |
    |---|---|---|
    | `epochs` | epochs in which the row was seen | the same |
    | `loss_mean`, `loss_last`, `loss_drop` | nats a token | |
    | `confidence`, `variability` | of exp(-loss) | of the probability that the chosen answer is preferred |
    | `correctness`, `el2n`, `entropy` | means over the epochs | |
    | `chosen_logp_`, `rejected_logp_`, `margin_` + `mean`, `last` | | nats; `reward_accuracy`: share of margins > 0 |
    | `forgetting`, `forgetting_score`, | token accuracy | |
    | `first_learned`, `unforgettable` | at least `learned_at` | margin > 0 |

    `forgetting` counts events and is null, "never learned", where there was nothing to forget. `forgetting_score` is
    what Toneva et al. sort by: rows that were never learned first, then those forgotten most often, the unforgettable
    ones (learned once and never forgotten) at 0.

    Each has a `<column>_status`; a row that was not seen, was cut away or has no finite loss has null and the reason
    there. The numbers are the same with padding, padding-free batches and `pack_to`, on one rank or several, and after
    a checkpoint was resumed: the records lie in its folder, and those of other rows or another probe are refused. What
    cannot be recorded exactly is refused by `bind`. Each epoch's means go to the trainer's logs as
    `dynamics/...`. FSDP and DeepSpeed are not tested.

    Args:
        learned_at: the token accuracy, in (0, 1], from which a row counts as learned in an epoch. "median" is the
            one that half of the rows reach in the end, whatever the length of the answers and the model; it goes to
            the logs. 1 is nearest to Toneva et al., where a prediction is right or wrong: each token of the response
            is the most likely one, which long answers never reach. None compares the accuracies themselves, so that
            any fall is a forgetting event (survey Eq. 48 as printed).
        probe: an extra pass without gradients over `probe_on`, before the training and after each "epoch", or each
            `probe_every` "steps"; it measures all rows with the same weights. Columns `probe_...`.
        probe_every: steps between two probes, with probe="steps".
        probe_on: row numbers of the training set, or another dataset in TRL's format, whose columns `add_probe_to`
            adds; None is the whole training set.
        gradients: with a probe, the norm of each row's gradient (GraNd, survey Eq. 54) as `probe_grand`, a mean over
            the probes: of the weights of the "last_layer" (the output layer; no backward pass), or of all "trainable"
            ones (one backward pass a row).
        pack_to: pack the rows into examples of so many tokens, since TRL's own packing forgets the rows.

    Raises:
        ValueError: an option outside its range.

    Source: Dataset Cartography (arXiv 2009.10795), Toneva et al. (1812.05159), the data selection survey (2402.05123)
        Eqs. 10, 48, 54.
    Differs: Toneva et al. classify; a response is learned by its token accuracy, from the median of the rows
        on unless `learned_at` says otherwise.

    >>> TrainingDynamics(learned_at=2)
    Traceback (most recent call last):
    ValueError: learned_at=2; it is 'median', a number above 0 and at most 1, or None
    """

    _: KW_ONLY
    learned_at: LearnedAt = "median"
    probe: Literal["epoch", "steps"] | None = None
    probe_every: int | None = None
    probe_on: Dataset | Sequence[int] | None = None
    gradients: Gradients | None = None
    pack_to: int | None = None
    _recorder: Recorder | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tau = self.learned_at
        if tau not in (None, "median") and not (isinstance(tau, int | float) and 0 < tau <= 1):
            raise ValueError(f"learned_at={tau!r}; it is 'median', a number above 0 and at most 1, or None")
        check_choice("probe", self.probe, ("epoch", "steps", None))
        check_choice("gradients", self.gradients, ("last_layer", "trainable", None))
        for name, least, needed in (("probe_every", 1, self.probe == "steps"), ("pack_to", 2, False)):
            value = getattr(self, name)
            if (value is None and needed) or (value is not None and (not isinstance(value, int) or value < least)):
                raise ValueError(f"{name}={value!r}; it is a whole number from {least} on")
        for name in ("probe_on", "gradients"):
            if getattr(self, name) is not None and self.probe is None:
                raise ValueError(f"{name} is for a probe; add probe='epoch', or probe='steps' and probe_every")
        if self.probe_every is not None and self.probe != "steps":
            raise ValueError(f"probe_every={self.probe_every} goes with probe='steps', and probe is {self.probe!r}")

    def bind(self, trainer: Any) -> Self:
        """Read along when this trainer trains.

        Args:
            trainer: a `trl.SFTTrainer` or `trl.DPOTrainer` with its training set.

        Raises:
            hf_dsel.training.recordable.CannotRecord: what the trainer does rules out exact records; with the next step.
            TypeError: another kind of trainer.
            ValueError: this object or the trainer is bound already, or `probe_on` names rows that are not there.
        """
        if self._recorder is not None:
            raise ValueError("bound already; make a TrainingDynamics for each trainer")
        if getattr(trainer, "_hf_dsel_dynamics", None) is not None:
            raise ValueError("this trainer has a TrainingDynamics already; make a new trainer, or use that one")
        probe = None
        if self.probe is not None:
            probe = Probe(every=self.probe_every, on=self.probe_on, gradients=self.gradients)
        recorder = Recorder(trainer, self.learned_at, self.pack_to, probe)
        recorder.attach()
        trainer._hf_dsel_dynamics = self
        self._recorder = recorder
        return self

    def add_to(self, pool: Dataset) -> Dataset:
        """The pool with the columns of the table, and those of the probe where it ran on rows of the training set.

        Args:
            pool: the dataset that the trainer was given. With a column `hf_dsel_row` of row numbers, made before rows
                were chosen and the trainer was made, any dataset that kept it, larger or in another order.

        Raises:
            NothingRecorded: before the training.
            hf_dsel.training.row_numbers.OtherRows: another dataset.
            ValueError: a column is there already.
        """
        recorder = self._bound()
        numbers = recorder.numbering.rows_of(pool)
        unseen = reasons_unseen(recorder.numbering, numbers, recorder.records, self.pack_to)
        found = _added(pool, self._courses(recorder.records, numbers), "dynamics", "epochs", unseen)
        if recorder.probe is not None and not recorder.probe.held_out:
            courses = self._courses(recorder.probe.records, numbers)
            unseen = with_losses(np.full(len(pool), "not probed"), numbers, recorder.probe.records)
            found = _added(found, courses, "probe", "passes", unseen)
        return found

    def add_probe_to(self, dataset: Dataset) -> Dataset:
        """The dataset of `probe_on` with the columns of the probe.

        Raises:
            NothingRecorded: before the training.
            ValueError: the probe ran on rows of the training set, or this dataset has another number of rows.
        """
        recorder = self._bound()
        probe = recorder.probe
        if probe is None or not probe.held_out:
            raise ValueError("the probe did not run on another dataset; add_to adds the columns of the training set")
        if len(dataset) != probe.source_rows:
            raise ValueError(f"probe_on has {probe.source_rows:,} rows, this dataset {len(dataset):,}; pass that one")
        numbers = np.arange(len(dataset))
        courses = self._courses(probe.records, numbers)
        unseen = with_losses(np.full(len(dataset), DROPPED), numbers, probe.records)
        return _added(dataset, courses, "probe", "passes", unseen)

    def map_figure(self, *, dark: bool = False) -> Any:
        """The data map: each row at its variability and confidence, coloured by its correctness.

        Args:
            dark: for a dark page.

        Returns:
            a matplotlib Figure; `savefig("map.png")` writes it.

        Raises:
            NothingRecorded: before the training, or after a single epoch.
            ModuleNotFoundError: no matplotlib; the text says how to install it.
        """
        from hf_dsel.training.data_map import draw

        recorder = self._bound()
        courses, _ = self._courses(recorder.records, recorder.numbering.trained)
        if not courses["variability"].valid.any():
            raise NothingRecorded("no row was seen in two epochs, so nothing varied; train for two epochs or more")
        return draw(courses, pairs=recorder.kind == "dpo", dark=dark)

    def _bound(self) -> Recorder:
        if self._recorder is None or not self._recorder.records.passes:
            raise NothingRecorded(f"nothing is recorded yet: {EITHER}")
        return self._recorder

    def _courses(self, records: Records, numbers: Any) -> tuple[dict[str, Course], Any]:
        seen = records.trajectories(numbers)
        times_seen = (~np.isnan(next(iter(seen.values())))).sum(1)
        if "loss" in seen:
            return trajectories.of_answers(seen, threshold(records, self.learned_at)), times_seen
        return trajectories.of_pairs(seen), times_seen


def _added(dataset: Dataset, found: tuple[dict[str, Course], Any], prefix: str, times: str, unseen: Any) -> Dataset:
    courses, times_seen = found
    return add_columns(dataset, courses, prefix=prefix, times=times, times_seen=times_seen, unseen=unseen)

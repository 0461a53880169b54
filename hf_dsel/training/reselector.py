# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a `Reselect` does inside one trainer: rounds, their selections, checkpoints and logs."""

from __future__ import annotations

import functools
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, concatenate_datasets

from hf_dsel.budget import rows_asked
from hf_dsel.columns import MissingColumn, read_column
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.rows import text_columns
from hf_dsel.scorers.models import release
from hf_dsel.scoring import described
from hf_dsel.scoring import score as compute
from hf_dsel.selecting import select
from hf_dsel.selection import Selection, Source
from hf_dsel.selection_block import from_main_process
from hf_dsel.strategies import Strategy, make_strategy
from hf_dsel.training import reselectable
from hf_dsel.training.live_scores import Score, live_scorer, measured, same_random_numbers, tokenizer_of
from hf_dsel.training.reselect_state import RoundState, as_json
from hf_dsel.training.round_sampler import RoundSampler
from hf_dsel.training.row_numbers import ROW, Numbering
from hf_dsel.training.trainer_log import log

SELECTIONS = "selections"
IntArray = npt.NDArray[np.int64]
Plan = Callable[["Round"], str | Strategy]


@dataclass(frozen=True)
class Round:
    """What a plan knows when it says which strategy the next round gets. Every rank calls the plan.

    A plan may have three methods that are called at `bind`: `needs()`, the columns that it reads, as a strategy's;
    `check(pool)` and `check_trainer(trainer, pool, k=, rounds=)`, with the rows to choose from, to refuse them.

    Args:
        number: from 0 on.
        progress: the part of all steps that is done, in [0, 1).
        measure: (columns of `CausalLM` or a callable, a dataset) → these columns, by the model as it is now.
        earlier: what was noted in the rounds before, also before a resume.
        note: a dict to fill with JSON values for later rounds, which get tuples as lists; numbers in it are logged as
            `reselect/<name>`.
        trainer: the bound one.
        pool: all rows, and
        places: for each its row in the trainer's training set, -1 where the trainer left it out.
        seed: of `Reselect`.
    """

    number: int
    progress: float
    measure: Callable[[Score, Dataset], Dataset]
    earlier: tuple[dict[str, Any], ...] = ()
    note: dict[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    trainer: Any
    pool: Dataset
    places: IntArray
    seed: int


def is_plan(strategy: Any) -> bool:
    """Whether it is a callable that gives strategies, and none itself."""
    return callable(strategy) and not isinstance(strategy, str | type) and not hasattr(strategy, "pick")


@dataclass
class Reselector:
    """The trainer keeps its dataset and its dataloader; what changes is the rows that its sampler draws.

    The trainer holds this and not the other way round: its model is freed with it, while the selections stay.
    """

    bound: InitVar[Any]
    given: Dataset | None
    strategy: Any
    k: int
    every: str | int
    score: Score | None
    narrow: float | None
    order: str
    seed: int
    selections: dict[int, Selection] = field(default_factory=dict)
    pool: Dataset = field(init=False)
    places: IntArray = field(init=False)  # pool row → row of the training set, -1 where TRL left it out
    sampler: RoundSampler = field(init=False)
    state: RoundState = field(init=False)
    _bound: weakref.ref[Any] = field(init=False, repr=False)
    _next: int | None = None
    _steps: int = 0
    _resume_from: Path | None = None

    def __post_init__(self, bound: Any) -> None:
        reselectable.check(bound, every=self.every, k=self.k, scores=self.score is not None)
        trainer, self._bound = bound, weakref.ref(bound)
        if self.score is not None and not callable(self.score):
            reselectable.check_scored_model(trainer.model)
        self.pool, self.places = self._pool_and_places()
        self.usable = np.flatnonzero(self.places >= 0)
        rows_asked(self.k, None, None, pool=len(self.usable), open_ended=False)
        if self.score is not None and not callable(self.score):
            live_scorer(self.score).check(text_columns(self.pool.column_names))
        self.source = Source.of(trainer.train_dataset if self.given is None else self.given)
        if not callable(self.score) and hasattr(self.strategy, "needs"):
            self._complete(self.strategy, set() if self.score is None else set(live_scorer(self.score).features()))
        if is_plan(self.strategy) and hasattr(self.strategy, "check"):
            self.strategy.check(self.pool.select(self.usable))
        if is_plan(self.strategy) and hasattr(self.strategy, "check_trainer"):
            self.strategy.check_trainer(trainer, self.pool.select(self.usable), k=self.k, rounds=self._rounds())
        draws = self.every * trainer.get_total_train_batch_size(trainer.args) if isinstance(self.every, int) else self.k
        self.sampler = RoundSampler(draws, self.order == "random", self.seed)
        self.state = RoundState.new(self._identity())

    def _rounds(self) -> int:
        """How many there will be."""
        args = self.trainer.args
        if self.every == "once":
            return 1
        a_round = (
            self.every if isinstance(self.every, int) else -(-self.k // self.trainer.get_total_train_batch_size(args))
        )
        return math.ceil(args.max_steps / int(a_round)) if args.max_steps > 0 else math.ceil(args.num_train_epochs)

    def _pool_and_places(self) -> tuple[Dataset, IntArray]:
        prepared = self.trainer.train_dataset
        if self.given is None:
            return _without_eos(prepared, self.trainer), np.arange(len(prepared))
        numbering = Numbering.of(prepared)
        numbers = numbering.rows_of(self.given)
        own = np.asarray(numbering.dataset.with_format(None)[ROW][:], np.int64)
        by_number = np.argsort(own, kind="stable")
        at = np.searchsorted(own[by_number], numbers).clip(max=len(own) - 1)
        found = by_number[at]
        return self.given, np.where(own[found] == numbers, found, -1)

    def _complete(self, strategy: Strategy, made: set[str]) -> None:
        """Compute, once, what the strategy reads and neither the pool nor the score has."""
        needs = {name: scorer for name, scorer in strategy.needs().items() if name not in made}
        missing = [name for name in needs if name not in self.pool.column_names]
        if not missing:
            return
        if any(needs[name] is None for name in missing):
            raise MissingColumn(
                f"{type(strategy).__name__} reads {list(strategy.needs())}; {missing} is in neither the pool nor the "
                "score. Name a column that is there (an option of the strategy), add it, or let score= make it. The "
                f"pool has {self.pool.column_names}, the score makes {sorted(made)}"
            )
        for name in missing:
            say(f"computing {name!r} for {count(len(self.pool), 'row')} with {described(needs[name])}")
        self.pool = compute(self.pool, [needs[name] for name in missing])
        release()  # the scorers' models make room for the one that is trained

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be of this run."""
        how = repr(self.strategy)
        if not is_dataclass(self.strategy):
            how = getattr(self.strategy, "__qualname__", type(self.strategy).__qualname__)
        score = self.score if not callable(self.score) else "a callable"
        return {
            "strategy": how, "k": self.k, "every": self.every, "score": repr(score), "narrow": self.narrow,
            "order": self.order, "seed": self.seed, "steps a round": self._steps,
            "pool": [self.source.rows, self.source.sha256],
        }  # fmt: skip

    @property
    def trainer(self) -> Any:
        """The bound one, or None when it is gone."""
        return self._bound()

    def attach(self) -> None:
        """Give the trainer the sampler, and listen to it."""
        trainer = self.trainer
        trainer._get_train_sampler = self._sampler_of
        trainer.num_examples = self._counting(trainer.num_examples)
        trainer.train = self._remembering(trainer.train)
        trainer.add_callback(callback_of(self))

    def _sampler_of(self, dataset: Any = None) -> RoundSampler:
        now = self.trainer.train_dataset
        if not isinstance(now, Dataset) or len(now) <= self.places.max() or "seq_lengths" in now.column_names:
            raise reselectable.CannotReselect(
                "train_dataset was replaced, or packed, after bind; its rows are not those of the pool any more. Bind "
                "after you set it, and leave pack_to out of TrainingDynamics"
            )
        return self.sampler

    def _counting(self, plain: Any) -> Any:
        @functools.wraps(plain)
        def num_examples(dataloader: Any) -> int:
            batches = getattr(dataloader, "batch_sampler", None)
            batches = getattr(batches, "batch_sampler", batches)
            ours = getattr(batches, "sampler", None) is self.sampler
            return len(self.sampler) if ours else int(plain(dataloader))

        return num_examples

    def _remembering(self, plain: Any) -> Any:
        @functools.wraps(plain)
        def train(resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
            from transformers.trainer_utils import get_last_checkpoint

            found = resume_from_checkpoint or None
            if found is True:
                found = get_last_checkpoint(self.trainer.args.output_dir)
            self._resume_from = None if found is None else Path(found)
            self.state = RoundState.new(self._identity())
            return plain(resume_from_checkpoint, *args, **kwargs)

        return train

    # --- what the trainer says ---

    def train_begins(self, batches: int, step: int) -> None:
        """Know how many steps a round has; go on where the checkpoint was written, or anew."""
        self._steps = math.ceil(batches / self.trainer.args.gradient_accumulation_steps)
        if self._steps == 0:
            raise reselectable.CannotReselect(f"k={self.k} rows make no batch with dataloader_drop_last=True; raise k")
        if isinstance(self.every, int) and self._steps != self.every:
            raise reselectable.CannotReselect(
                f"the dataloader makes {self._steps} steps of what every={self.every} steps draw; leave split_batches "
                "and dispatch_batches of accelerator_config out"
            )
        self.selections.clear()
        self.state = RoundState.new(self._identity())
        self._next = step // self._steps
        if self._resume_from is None:
            return
        self.state = RoundState.read(self._resume_from, self._identity())
        self.selections[self.state.number] = self.state.chosen
        within = step % self._steps > 0
        if self.every != "once" and self.state.number != self._next - (not within):
            raise reselectable.CannotReselect(
                f"{self._resume_from} was written in round {self.state.number}, and with {self._steps} steps a round "
                f"its step {step} is in round {self._next}: one was cut short. Resume from an earlier checkpoint"
            )

    def round_begins(self, done: float) -> None:
        """Choose, unless a checkpoint within this round says what was chosen."""
        assert self._next is not None
        number, self._next = self._next, self._next + 1
        if number > self.state.number and (number == 0 or self.every != "once"):
            begun = time.perf_counter()
            with same_random_numbers(self.trainer.args.device):
                chosen, numbers = self._choose(number, done)
            before = self.selections.get(number - 1)
            new = 1.0 if before is None else float(np.isin(chosen.indices, before.indices, invert=True).mean())
            self.selections[number] = chosen
            if is_main_process():
                chosen.save(Path(self.trainer.args.output_dir) / SELECTIONS / f"round-{number:04d}.json")
            about = {"round": number, "rows": len(chosen), "new": new, "seconds": time.perf_counter() - begun}
            log(self.trainer, {f"reselect/{name}": value for name, value in (about | numbers).items()})
        self.sampler.go_on(number, self.places[self.state.chosen.indices])

    def save_into(self, step: int) -> None:
        """Put the round's state into the checkpoint, which the trainer is about to make complete."""
        if self.state.selection is not None:
            self.state.write(Path(self.trainer.args.output_dir) / f"checkpoint-{step}")

    def _choose(self, number: int, done: float) -> tuple[Selection, dict[str, float]]:
        strategy, note = self._strategy_for(number, done)
        rows = self.usable if self.state.candidates is None else self.state.candidates
        view = self._scored(strategy, rows)
        candidates = self.state.candidates
        if self.narrow is not None and candidates is None:
            wide = max(self.k, min(len(rows), round(self.narrow * self.k)))
            kept = np.sort(self._picked(view, strategy, wide, number).indices)
            candidates, rows, view = rows[kept], rows[kept], view.select(kept)
        found = self._picked(view, strategy, min(self.k, len(rows)), number)
        if len(found) == 0:
            raise ValueError(
                f"round {number}: {strategy} kept no row, so there is nothing to train on; loosen its rule"
            )
        means = {}
        for name in found.columns:
            column = read_column(view, name)
            if column.values.ndim == 1 and column.values.dtype != object:
                means[name] = float(column.values[found.indices].mean())
                means[f"{name}_pool"] = float(column.values[column.valid].mean())
        left_out = dict(found.left_out)
        if len(self.usable) < len(self.pool):
            left_out["left out by the trainer: no token to learn from"] = len(self.pool) - len(self.usable)
        chosen = replace(found, indices=rows[found.indices], source=self.source, left_out=left_out)
        notes = [*self.state.notes, note]
        self.state = RoundState(number, chosen, candidates, notes, self.state.identity)
        return chosen, means | _numbers(note)

    def _strategy_for(self, number: int, done: float) -> tuple[Strategy, dict[str, Any]]:
        if not is_plan(self.strategy):
            return self.strategy, {}
        now = Round(
            number, done, functools.partial(measured, self.trainer), tuple(self.state.notes), trainer=self.trainer,
            pool=self.pool, places=self.places, seed=self.seed,
        )  # fmt: skip
        strategy = make_strategy(self.strategy(now), {})
        return strategy, as_json(now.note)

    def _scored(self, strategy: Strategy, rows: IntArray) -> Dataset:
        """The rows with what the strategy reads: columns of the pool, and those that the model says now."""
        live = None
        if self.score is not None:
            live = measured(
                self.trainer, self.score, self.pool if len(rows) == len(self.pool) else self.pool.select(rows)
            )
        made = set() if live is None else set(live.column_names)
        self._complete(strategy, made)
        turns = list(getattr(strategy, "turn_columns", lambda: ())())
        wanted = {*strategy.needs(), *turns, *(f"{n}_status" for n in strategy.needs())} - made
        names = [n for n in self.pool.column_names if n in wanted]
        parts = [] if live is None else [live]
        if names or live is None:
            own = self.pool.select_columns(names or text_columns(self.pool.column_names)[:1])
            parts.insert(0, own if len(rows) == len(self.pool) else own.select(rows))
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts, axis=1)

    def _picked(self, view: Dataset, strategy: Strategy, k: int, number: int) -> Selection:
        """The selection of the main process, on every rank."""

        def pick() -> str:
            return select(view, strategy, k=k, seed=self.seed + number, compute=False).to_json()

        return Selection.from_json(from_main_process(pick))


def _numbers(note: dict[str, Any]) -> dict[str, float]:
    """What can be logged of a plan's note: numbers, and those in a dict of it.

    >>> _numbers({"part": 0.5, "weights": {"add": 0.9}, "why": "so"})
    {'part': 0.5, 'weights/add': 0.9}
    """
    nested = {f"{n}/{key}": value for n, v in note.items() if isinstance(v, dict) for key, value in v.items()}
    return {n: v for n, v in (note | nested).items() if isinstance(v, int | float)}


def _without_eos(prepared: Dataset, trainer: Any) -> Dataset:
    """TRL's copy of the rows without the EOS token that it wrote behind every plain text."""
    eos = tokenizer_of(trainer).eos_token
    plain = prepared.with_format(None)
    texts = ("text", "completion", "chosen", "rejected")
    names = [n for n in texts if n in plain.column_names and getattr(plain.features[n], "dtype", "") == "string"]
    if eos is None:
        return prepared
    if not names or not all(str(text).endswith(eos) for n in names for text in plain[n][:]):
        return prepared
    return plain.map(lambda row: {n: row[n].removesuffix(eos) for n in names}, desc="text without EOS")


def callback_of(reselector: Reselector) -> Any:
    """The reselector as transformers calls it."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    class ReselectCallback(TrainerCallback, ExportableState):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            reselector.train_begins(len(given["train_dataloader"]), state.global_step)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            reselector.round_begins(state.global_step / state.max_steps)

        def state(self) -> dict[str, Any]:
            # Called on the main process while a checkpoint is written, after the weights and before the file that
            # makes it one that can be resumed. So a checkpoint without a selection is never resumable.
            reselector.save_into(reselector.trainer.state.global_step)
            return {"args": {}, "attributes": {}}

    return ReselectCallback()

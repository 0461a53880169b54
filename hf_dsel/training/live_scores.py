# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Columns by the model that is in training, as it is now: nothing is written to disk, and training notices nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from hf_dsel.progress import bar
from hf_dsel.rows import text_columns
from hf_dsel.scorers.causal_lm import CausalLM
from hf_dsel.scorers.models import Checkpoint, Kind
from hf_dsel.training.reselectable import check_scored_model

ROWS_AT_ONCE = 2048
Score = str | Sequence[str] | Callable[[Any, Any, Dataset], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class InMemory(Checkpoint):
    """A checkpoint that is loaded already: a model and its tokenizer."""

    live: Any = None
    words: Any = None

    def check(self, *, needs: str | None = "config.json") -> None:
        """There is nothing on disk to look at."""

    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.words

    def config(self) -> Any:
        """The model's config."""
        return self.live.config

    def load(self, kind: Kind, *, dtype: str | None = None, device: str | None = None) -> Any:
        """The model, in its own precision and where it is."""
        return self.live


class LiveCausalLM(CausalLM):
    """`CausalLM` over a model in memory; its columns and options are the same."""

    in_memory: InMemory

    @property
    def _checkpoint(self) -> Checkpoint:
        return self.in_memory


def live_scorer(columns: str | Sequence[str], model: Any = None, tokenizer: Any = None) -> LiveCausalLM:
    """The scorer for some columns of `CausalLM`; without a model it can only check and say its features.

    Raises:
        ValueError: a column that `CausalLM` does not have.
    """
    scorer = LiveCausalLM("the model in training", columns=columns)
    scorer.in_memory = InMemory("the model in training", live=model, words=tokenizer)
    return scorer


def measured(trainer: Any, score: Score, rows: Dataset) -> Dataset:
    """New columns for some rows by the trainer's model as it is now. Every rank calls it and has all of them after it.

    Args:
        trainer: a bound trainer.
        score: columns of `CausalLM`, or a callable that gets the model, the tokenizer and this rank's share of the
            rows, in evaluation mode without gradients, and returns a value a row by column.
        rows: what to score.

    Raises:
        ValueError: a callable that returned another number of values.
    """
    args = trainer.args
    mine = np.arange(args.process_index, len(rows), args.world_size)
    share = rows if args.world_size == 1 else rows.select(mine)
    parcel: dict[str, Any] = {}
    try:
        with undisturbed(trainer):
            parcel["columns"] = _columns(trainer, score, share)
    except Exception as error:  # the other ranks wait for this one
        parcel["error"] = error
    parcels = [parcel]
    if args.world_size > 1:
        from accelerate.utils import gather_object

        parcels = gather_object([parcel])
    for found in parcels:
        if "error" in found:
            raise found["error"]
    columns = {}
    for name in parcels[0]["columns"]:
        values: list[Any] = [None] * len(rows)
        for rank, found in enumerate(parcels):
            values[rank :: args.world_size] = found["columns"].get(name, [])
        columns[name] = values
    return Dataset.from_dict(columns, _features(score, columns))


def _columns(trainer: Any, score: Score, rows: Dataset) -> dict[str, Any]:
    model, tokenizer = trainer.model, tokenizer_of(trainer)
    if not len(rows):  # more ranks than rows
        return {}
    if callable(score):
        found = {name: _listed(values) for name, values in score(model, tokenizer, rows).items()}
        wrong = {name: len(values) for name, values in found.items() if len(values) != len(rows)}
        if wrong or not found:
            raise ValueError(f"score returned {wrong or 'no column'} for {len(rows):,} rows; it returns a value a row")
        return found
    check_scored_model(model)
    scorer = live_scorer(score, model.get_base_model() if hasattr(model, "get_base_model") else model, tokenizer)
    texts = rows.with_format(None).select_columns(text_columns(rows.column_names))
    columns: dict[str, list[Any]] = {name: [] for name in scorer.features()}
    with bar(total=len(texts), what=f"{' '.join(scorer.columns)} of the model in training") as progress:
        scorer.on_rows = progress.update
        for start in range(0, len(texts), ROWS_AT_ONCE):
            for name, values in scorer(texts[start : start + ROWS_AT_ONCE]).items():
                columns[name] += values
    return columns


def tokenizer_of(trainer: Any) -> Any:
    """The trainer's tokenizer, also where it has a processor, which holds one."""
    return getattr(trainer.processing_class, "tokenizer", trainer.processing_class)


def _listed(values: Any) -> list[Any]:
    values = values.detach().float().cpu().numpy() if hasattr(values, "detach") else values
    return list(values)


def _features(score: Score, columns: Mapping[str, Sequence[Any]]) -> Features | None:
    """Types that do not depend on the values of a round."""
    if not callable(score):
        return Features(live_scorer(score).features())
    found: dict[str, Any] = {}
    for name, values in columns.items():
        known = next((v for v in values if v is not None), None)
        if isinstance(known, np.ndarray) and known.ndim == 1:
            found[name] = List(Value("float32"), length=len(known))
        elif isinstance(known, str):
            found[name] = Value("string")
        else:
            found[name] = Value("float64")
    return Features(found)


@contextmanager
def undisturbed(trainer: Any) -> Iterator[None]:
    """Evaluation mode, no gradients, the precision of the training; then modes and random numbers as they were."""
    import torch

    modes = {module: module.training for module in trainer.model.modules()}
    trainer.model.eval()
    try:
        with same_random_numbers(trainer.args.device), torch.no_grad(), trainer.accelerator.autocast():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def same_random_numbers(device: Any) -> Iterator[None]:
    """What is drawn within leaves the generators of Python, numpy and torch as they were."""
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (the trainer's own)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""One round of a bank's evolution: the candidates are scored, the best stay, the others are remembered."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, concatenate_datasets

from hf_dsel.bank_rows import stored_rows
from hf_dsel.bank_state import New, Round, Settings, State
from hf_dsel.budget import FloatArray, IntArray
from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.carried_messages import Carried, history_rows
from hf_dsel.ops.representation import representation
from hf_dsel.ops.sketch import Sketch
from hf_dsel.progress import bar
from hf_dsel.strategies.pibe import combined

_DITHER = 64  # further dimensions in which restored vectors get back the length that coding took


def one_round(
    settings: Settings, dataset: Dataset, state: State, new: New, source: str, *, given: int, seen: int,
    left_out: dict[str, int],
) -> State:  # fmt: skip
    """The state after the bank's rows and the new ones competed, Eqs. 7-10.

    Raises:
        ValueError: fewer than two candidates.
        MemoryError: the messages do not fit.
    """
    began, m = time.monotonic(), len(state.keys)
    n = m + len(new.keys)
    embeddings = np.concatenate([state.embeddings, new.embeddings])
    if n < 2:
        raise ValueError("a bank begins with at least 2 rows that can be scored; give it a larger first dataset")
    numbers: dict[str, npt.NDArray[Any]] = {}
    quality = None
    if settings.gamma > 0:
        quality = numbers["quality"] = np.concatenate([state.numbers["quality"], new.quality])
        if quality.min() == quality.max():
            warnings.warn(
                f"{settings.quality!r} is {quality[0]:g} in all {n:,} candidates of this round, so representation "
                "alone decides it",
                stacklevel=3,
            )
    carried = None
    if settings.history in ("paper", "repository"):
        numbers["representation"], r = _by_messages(settings, state, new, embeddings)
    elif settings.by_neighbour:
        near = representation(embeddings, preference=0.0)
        if settings.history == "sketch":
            past = np.full(n, np.inf) if m == 0 else np.concatenate([state.numbers["nearest"], np.full(n - m, np.inf)])
            if state.memory is not None:
                past[m:] = state.memory.nearest(new.embeddings)
            near = numbers["nearest"] = np.minimum(near, past)
        numbers["representation"] = near + float(settings.preference)
    else:
        numbers["representation"] = _elected(settings, state, embeddings)
    keys = np.concatenate([state.keys, new.keys])
    numbers["score"] = combined(numbers["representation"], quality, gamma=settings.gamma, combine=settings.combine)
    order = np.lexsort((keys, -numbers["score"]))
    best, rest = order[: settings.size], order[settings.size :]
    if settings.history in ("paper", "repository"):
        carried = Carried.of(r, best, embeddings)
    number = len(state.rounds) + 1
    sources = state.sources if source in state.sources else (*state.sources, source)
    origin = {"source": sources.index(source), "round": number}
    for name in ("source", "source_row", "round"):
        added = new.at if name == "source_row" else np.full(len(new.at), origin[name], np.int64)
        numbers[name] = np.concatenate([state.numbers[name], added])
    numbers = {name: values[best] for name, values in numbers.items()}
    memory, forgotten = _remembered(settings, state, embeddings[rest], keys[rest], new)
    entered = int((best >= m).sum())
    record = Round(
        number=number, source=source, given=given, seen=seen, left_out=left_out, candidates=len(new.keys),
        entered=entered, left=m - (len(best) - entered), kept=len(best) - entered,
        by_source={sources[i]: int(c) for i, c in sorted(Counter(numbers["source"].tolist()).items())},
        seconds=round(time.monotonic() - began, 3), keys=blake2b(keys[best].tobytes(), digest_size=8).hexdigest(),
    )  # fmt: skip
    return State(
        state.kind, _rows(dataset, state, new, best), embeddings[best], keys[best], numbers, sources, memory,
        forgotten, carried, (*state.rounds, record), state.made_by,
    )  # fmt: skip


def _by_messages(
    settings: Settings, state: State, new: New, embeddings: npt.NDArray[np.float32]
) -> tuple[FloatArray, Any]:
    """Eqs. 3 and 6 over all pairs of candidates, with H from the round before."""
    past = None
    if state.carried is not None and settings.history in ("paper", "repository"):
        past = history_rows(state.carried, new.embeddings, estimate=settings.history)
    with _Iterations(settings, len(embeddings)) as shown:
        try:
            messages = affinity_propagation(
                embeddings, preference=settings.preference, iterations=settings.iterations,
                damping=settings.damping, history=past, momentum=settings.momentum, decay=settings.decay,
                progress=shown.step,
            )  # fmt: skip
        except MemoryError as error:
            raise MemoryError(f"{error}. Or take the dataset in parts: Bank(chunk=10_000)") from None
    return messages.representation, messages.responsibility


def _elected(settings: Settings, state: State, embeddings: npt.NDArray[np.float32]) -> FloatArray:
    """The election among the candidates, in which the memory's rows vote and stand too."""
    n = len(embeddings)
    if state.memory is not None and len(state.memory):
        signs = np.random.default_rng(0)
        parts = [np.pad(embeddings, ((0, 0), (0, _DITHER)))]
        for restored, lost in state.memory.blocks():
            side = signs.choice(np.array([-1, 1], np.float32), (len(restored), _DITHER)) * (
                lost[:, None] / _DITHER**0.5
            )
            parts.append(np.concatenate([restored, side], 1).astype(np.float32))
        embeddings = np.concatenate(parts)
    with _Iterations(settings, len(embeddings)) as shown:
        try:
            return representation(
                embeddings, preference=settings.preference, neighbours=settings.neighbours,
                iterations=settings.iterations, damping=settings.damping, progress=shown.step,
            )[:n]  # fmt: skip
        except MemoryError as error:
            raise MemoryError(
                f"{error}. A bank keeps its settings, so this takes a new one: Bank(neighbours=64), or preference=0, "
                "which passes no messages"
            ) from None


def _remembered(
    settings: Settings, state: State, embeddings: npt.NDArray[np.float32], keys: npt.NDArray[np.uint64], new: New
) -> tuple[Sketch | None, npt.NDArray[np.uint64]]:
    """The memory with the rows that are not in the bank any more, or never were."""
    if settings.history != "sketch":
        return None, state.forgotten
    memory = state.memory
    if memory is None:
        memory = Sketch.of(np.concatenate([state.embeddings, new.embeddings]), bits=settings.bits)
    if len(keys):
        memory = memory.extended(embeddings)
    return memory, np.concatenate([state.forgotten, keys])


def _rows(dataset: Dataset, state: State, new: New, best: IntArray) -> Dataset:
    m = len(state.keys)
    entered = np.flatnonzero(best >= m)
    fresh = stored_rows(dataset, new.at[best[entered] - m], state.kind)
    place = np.where(best < m, best, 0)
    place[entered] = m + np.arange(len(entered))
    both = concatenate_datasets([state.rows, fresh]) if m else fresh
    table = both.with_format("arrow").select(place)[:]
    return Dataset.from_dict({n: table.column(n) for n in table.column_names}, features=both.features)


class _Iterations:
    """A bar that names the number of exemplars."""

    def __init__(self, settings: Settings, n: int) -> None:
        self.bar = bar(total=settings.iterations, what=f"messages of {n:,} rows", unit="iterations")

    def __enter__(self) -> _Iterations:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def step(self, iteration: int, exemplars: int) -> None:
        """Called by the engine."""
        self.bar.set_postfix_str(f"{exemplars:,} exemplars", refresh=False)
        self.bar.update(iteration - self.bar.n)

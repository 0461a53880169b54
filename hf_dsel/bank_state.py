# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a bank is made with, what it holds between two rounds, and what a round did."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Features

from hf_dsel.bank_rows import FEATURES, Kind
from hf_dsel.budget import FloatArray, IntArray
from hf_dsel.ops.carried_messages import Carried
from hf_dsel.ops.representation import Preference
from hf_dsel.ops.sketch import Sketch, check_bits
from hf_dsel.progress import count
from hf_dsel.shortage import reasons_to_read
from hf_dsel.strategies.pibe import Combine, Pibe

History = Literal["sketch", "paper", "repository"]
HISTORIES = ("sketch", "paper", "repository", None)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a bank is made with, once and for all."""

    size: int
    quality: str
    embedding: str
    gamma: float
    combine: Combine
    preference: Preference
    neighbours: int | None
    iterations: int
    damping: float
    history: History | None
    momentum: float
    decay: float
    bits: float
    chunk: int | None

    def __post_init__(self) -> None:
        for name, unit in (("size", " row"), ("chunk", " row"), ("neighbours", ""), ("iterations", "")):
            number, least = getattr(self, name), 2 if name == "chunk" else 1
            if number is None and name in ("chunk", "neighbours"):
                continue
            if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
                raise ValueError(f"{name} is {number!r}; it must be a whole number of at least {least}{unit}")
            object.__setattr__(self, name, int(number))
        for name in ("gamma", "damping", "momentum", "decay", "bits"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, Real):
                raise ValueError(f"{name} is {number!r}; it must be a number")
            object.__setattr__(self, name, float(number))
        if isinstance(self.preference, Real) and not isinstance(self.preference, bool):
            object.__setattr__(self, "preference", float(self.preference))
        for name in ("quality", "embedding"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be the name of a column")
        if self.history not in HISTORIES:
            raise ValueError(f"history is {self.history!r}; expected 'sketch', 'paper', 'repository' or None")
        for name in ("momentum", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        if self.history in ("paper", "repository") and self.neighbours is not None:
            raise ValueError(
                f"history={self.history!r} is a matrix over all pairs; leave neighbours out, or use 'sketch'"
            )
        check_bits(self.bits)
        self.rule()

    def rule(self) -> Pibe:
        """The strategy of one round."""
        names = ("gamma", "combine", "preference", "neighbours", "iterations", "damping", "quality", "embedding")
        return Pibe(**{name: getattr(self, name) for name in names})

    @property
    def by_neighbour(self) -> bool:
        """Whether the representation is a distance to the nearest neighbour, so that nothing is iterated."""
        return self.preference != "median" and float(self.preference) >= 0

    def measured(self) -> tuple[str, ...]:
        """The names of the numbers that are kept for each row of the bank, besides where it came from."""
        quality = ("quality",) if self.gamma > 0 else ()
        nearest = ("nearest",) if self.history == "sketch" and self.by_neighbour else ()
        return ("score", "representation", *quality, *nearest)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round did.

    `candidates` new rows competed with the bank's; `entered` of them are in it now, `left` of the bank's went, `kept`
    stayed. `seen` rows were in the bank or in its memory already, or were copies; `left_out` says how many rows could
    not take part, by reason. `by_source` is the bank's composition afterwards.
    """

    number: int
    source: str
    given: int
    seen: int
    left_out: dict[str, int]
    candidates: int
    entered: int
    left: int
    kept: int
    by_source: dict[str, int]
    seconds: float
    keys: str = ""  # a hash of the bank's rows after it, by which a later state of the same bank is known

    def __str__(self) -> str:
        """One line."""
        size = self.kept + self.entered
        parts = [f"{self.entered:,} of {count(self.candidates, 'new row')} entered", f"{self.left:,} left"]
        parts.append(f"{self.kept:,} stayed; {count(size, 'row')} in the bank")
        text = f"round {self.number}, {self.source}: {', '.join(parts)} ({self.seconds:.1f} s)"
        if self.seen:
            text += f"; {self.seen:,} seen before"
        return text + "".join(f"; {n:,} left out: {why}" for why, n in reasons_to_read(self.left_out).items())


@dataclass(frozen=True, eq=False)
class State:
    """The bank's rows in rank order, and what the next round needs to know of the past. Never changed, only replaced.

    Args:
        rows: the rows as kept (see `bank_rows`), `b`.
        embeddings: `b x dim`, float32.
        keys: uint64 `b`.
        numbers: by name, float64 or int64 `b`: quality, score, representation, source (a number), source_row, round.
            `nearest` is there where it is read: the distance to the nearest row ever seen.
        sources: the names behind `source`.
        memory: the sketch of the rows that are not in the bank.
        forgotten: uint64, the keys of these rows, in the same order.
        carried: the messages of the last round, for the other histories.
    """

    kind: Kind
    rows: Dataset
    embeddings: npt.NDArray[np.float32]
    keys: npt.NDArray[np.uint64]
    numbers: dict[str, npt.NDArray[Any]]
    sources: tuple[str, ...]
    memory: Sketch | None = None
    forgotten: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    carried: Carried | None = None
    rounds: tuple[Round, ...] = ()
    made_by: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class New:
    """New rows: distinct, never seen, ordered by key."""

    at: IntArray
    keys: npt.NDArray[np.uint64]
    embeddings: npt.NDArray[np.float32]
    quality: FloatArray


def empty_state(settings: Settings, kind: Kind, dim: int) -> State:
    """A bank of this kind before its first round."""
    numbers: dict[str, npt.NDArray[Any]] = {n: np.zeros(0, np.int64) for n in ("source", "source_row", "round")}
    numbers |= {name: np.zeros(0) for name in settings.measured()}
    rows = Dataset.from_dict({name: [] for name in FEATURES[kind]}, features=Features(FEATURES[kind]))
    return State(kind, rows, np.zeros((0, dim), np.float32), np.zeros(0, np.uint64), numbers, ())

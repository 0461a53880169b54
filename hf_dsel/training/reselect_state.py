# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a checkpoint keeps of the rounds, so that a resumed run draws what it would have drawn."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hf_dsel.selection import Selection
from hf_dsel.selection_block import from_main_process

STATE, SELECTION = "hf_dsel_reselect.json", "hf_dsel_selection.json"


class ForeignRounds(ValueError):
    """A checkpoint was written without Reselect, or with another pool or other options."""


def as_json(note: dict[str, Any]) -> dict[str, Any]:
    """What a plan noted, as a later round reads it out of a checkpoint.

    Raises:
        TypeError: a value that JSON does not hold, or a key that is no text; the text names it.

    >>> as_json({"part": 0.5, "rows": (1, 2)})
    {'part': 0.5, 'rows': [1, 2]}
    """
    _check_json(note, "note")
    return dict(json.loads(json.dumps(note)))


def _check_json(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, a {_type(key)}; a checkpoint keeps keys as text")
            _check_json(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_json(inner, f"{where}[{i}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(
            f"{where} is a {_type(value)}, which a checkpoint cannot keep as JSON; note numbers, text, and lists and "
            "dicts of them (of an array .tolist(), of a numpy number .item())"
        )


def _type(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class RoundState:
    """The round, what was chosen for it, and what later rounds need to know.

    Args:
        number: the round; -1 before the first.
        selection: of this round.
        candidates: the pool's rows that are still scored (with `narrow`), ascending; None is all.
        notes: what a plan noted, one dict a round.
        identity: pool and options.
    """

    number: int
    selection: Selection | None
    candidates: npt.NDArray[np.int64] | None
    notes: list[dict[str, Any]]
    identity: dict[str, Any]

    @classmethod
    def new(cls, identity: dict[str, Any]) -> Self:
        """Before the first round."""
        return cls(-1, None, None, [], identity)

    @property
    def chosen(self) -> Selection:
        """The selection of the round that is on."""
        if self.selection is None:
            raise RuntimeError("no round has begun")
        return self.selection

    def write(self, folder: Path) -> None:
        """Into a checkpoint's folder, each file in one step."""
        self.chosen.save(folder / SELECTION)
        candidates = None if self.candidates is None else self.candidates.tolist()
        record = {"round": self.number, "candidates": candidates, "notes": self.notes, "identity": self.identity}
        temporary = folder / f"{STATE}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STATE)

    @classmethod
    def read(cls, folder: Path, identity: dict[str, Any]) -> Self:
        """From a checkpoint's folder, read by the main process for all.

        Raises:
            ForeignRounds: it holds no state, or one of another run.
        """

        def both() -> str:
            if not (folder / STATE).is_file():
                raise ForeignRounds(
                    f"{folder} holds no {STATE}: it was written without Reselect. Resume from one that was written "
                    "with it, or start anew from its weights"
                )
            return json.dumps([(folder / name).read_text(encoding="utf-8") for name in (STATE, SELECTION)])

        state, selection = json.loads(from_main_process(both))
        found = json.loads(state)
        now = json.loads(json.dumps(identity))
        there = found["identity"]
        other = [f"{n}: {there.get(n)} there, {v} now" for n, v in now.items() if there.get(n) != v]
        if other:
            raise ForeignRounds(
                f"{folder} is of another run ({'; '.join(other)}). Resume with the same pool and options, "
                "batch size, accumulation and ranks"
            )
        candidates = None if found["candidates"] is None else np.asarray(found["candidates"], np.int64)
        return cls(found["round"], Selection.from_json(selection), candidates, found["notes"], identity)

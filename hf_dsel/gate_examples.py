# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rows that a person looks at before a gate's threshold is trusted, and texts of any origin on a line of a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.card_markdown import visible

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Said = tuple[str, str]  # who says it, and the text
SIDES = ("chosen", "rejected")
ANSWERS = ("assistant", "response", "text", *SIDES)


@dataclass(frozen=True)
class Example:
    """One row: its number, its probability of being sound, the kind of junk it resembles, and what is said in it.

    `side`: of a pair the less sound one, and `sound` is that side's; None for other rows.
    """

    row: int
    sound: float
    reason: str
    said: tuple[Said, ...]
    side: str | None = None


@dataclass(frozen=True)
class Group:
    """Rows that resemble one kind of junk: the least sound ones, and those next to the threshold on both sides."""

    reason: str
    worst: tuple[Example, ...]
    below: tuple[Example, ...]
    above: tuple[Example, ...]


def around(mine: Ints, sound: Doubles, line: float, n: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Of some rows the n least sound ones below a line, the n others just below it, the n just above it; ties by lot.

    >>> around(np.arange(5), np.array([0.1, 0.4, 0.2, 0.7, 0.9]), 0.5, 1, np.random.default_rng(0))
    (array([0]), array([1]), array([3]))
    """
    order = mine[np.lexsort((rng.random(len(mine)), sound[mine]))]
    first_above = int(np.searchsorted(sound[order], line, "left"))
    below, above = order[:first_above], order[first_above:]
    return below[:n], below[n:][::-1][:n], above[:n]


def said_in(dataset: Dataset, wanted: Ints) -> dict[int, tuple[Said, ...]]:
    """What is said in some rows; of a pair the prompt once and both answers. A row that cannot be read says why."""
    names = rows.text_columns(dataset.column_names)
    batch = dataset.select_columns(names).with_format(None).select(wanted)[:]
    if rows.detect(dataset.column_names) != "preference":
        return dict(zip(wanted.tolist(), map(_said, rows.read(batch)), strict=True))
    both = zip(rows.read(batch), rows.read(batch, side="rejected"), strict=True)
    return dict(zip(wanted.tolist(), (_pair(*sides) for sides in both), strict=True))


def _said(row: rows.Row) -> tuple[Said, ...]:
    messages = _messages(row)
    if len(messages) > 2 or [m.role for m in messages] not in (["user", "assistant"], ["assistant"]):
        return tuple((m.role, m.content) for m in messages) or (("problem", row.problem or "nothing is said"),)
    names = {"user": "instruction", "assistant": "response" if len(messages) == 2 else "text"}
    return tuple((names[m.role], m.content) for m in messages)


def _pair(chosen: rows.Row, rejected: rows.Row) -> tuple[Said, ...]:
    one, two = _messages(chosen), _messages(rejected)
    if not one or not two:
        return (("problem", chosen.problem or rejected.problem or "nothing is said"),)
    asked = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one[:-1], two[:-1], strict=False)))
    said = [("prompt" if m.role == "user" else m.role, m.content) for m in one[:asked]]
    for side, answer in (("chosen", one[asked:]), ("rejected", two[asked:])):
        said += [(side if m.role == "assistant" else f"{side}, {m.role}", m.content) for m in answer]
    return tuple(said)


def _messages(row: rows.Row) -> list[rows.Message]:
    if not row.turns:
        return []
    last = row.turns[-1]
    return [*last.prompt, *([] if last.response is None else [rows.Message("assistant", last.response)])]


def in_lines(example: Example, width: int) -> list[str]:
    """An example as two lines of a terminal: the number, the probability and what was asked; and the answer.

    >>> for line in in_lines(Example(7, 0.031, "repeated", (("instruction", "Sing!"), ("response", "la " * 90))), 40):
    ...     print(line)
        row 7  0.031  Sing!
                   →  la la la la l…la la la
    """
    head = f"    row {example.row:,}  {example.sound:.3f}  "
    answers = [(who, text) for who, text in example.said if who in ANSWERS and example.side in (None, who)]
    asked = [text for who, text in example.said if who in ("user", "instruction", "prompt")]
    room = max(20, width - len(head))
    lines = [f"{head}{on_a_line(asked[-1], room)}" if asked else head.rstrip()]
    last = dict(answers)  # of a pair one a side
    for who, text in last.items():
        more = len(answers) > len(last)
        note = f"({who}) " if who in SIDES else f"(the last of {len(answers)}) " if more else ""
        lines.append(f"{'→  '.rjust(len(head))}{note}{on_a_line(text, max(20, room - len(note)))}")
    return lines


def on_a_line(text: str, width: int) -> str:
    """The text on one line of so many columns, its middle left out where it is longer; nothing in it acts.

    >>> on_a_line("one\\ntwo \\x1b[31m three four five six", 24)
    'one two \\\\x1b[3… five six'
    """
    line = " ".join(visible(text).split()) or "(nothing)"
    if len(line) <= 2 * width and _columns(line) <= width:
        return line
    tail = _first(line[::-1], (width - 1) * 2 // 5)[::-1]
    return f"{_first(line, width - 1 - _columns(tail))}…{tail}"


def _columns(text: str) -> int:
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _first(text: str, columns: int) -> str:
    """The letters from the start that fit; of those without a width not too many either."""
    used = 0
    for i, letter in enumerate(text[: 2 * columns]):
        used += _width(letter)
        if used > columns:
            return text[:i]
    return text[: 2 * columns]


def picked(
    dataset: Dataset,
    groups: Sequence[tuple[str, tuple[Ints, Ints, Ints]]],
    control: Ints,
    about: Callable[[int, tuple[Said, ...]], Example],
) -> tuple[tuple[Group, ...], tuple[Example, ...]]:
    """The rows of each group and the control rows, with their texts, which are read at once."""
    every = [control, *(part for _, parts in groups for part in parts)]
    said = said_in(dataset, np.unique(np.concatenate(every)).astype(np.int64))

    def shown(wanted: Ints) -> tuple[Example, ...]:
        return tuple(about(int(i), said[int(i)]) for i in wanted)

    return tuple(Group(reason, *map(shown, parts)) for reason, parts in groups), shown(control)

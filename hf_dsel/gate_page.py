# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A gate's report as one HTML page. Whatever a pool holds is shown as text and does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_dsel.card_markdown import visible
from hf_dsel.extras import MissingExtra
from hf_dsel.gate_examples import Example, Said, on_a_line
from hf_dsel.narrowing import MOST_JUNK
from hf_dsel.shortage import reasons_to_read

if TYPE_CHECKING:
    from jinja2 import Template

    from hf_dsel.gate_reporting import GateReport

START, END = 500, 250  # characters of a text that are always shown
FOLDED, OF_A_ROW = 10_000, 40_000  # characters that can be unfolded, of a text and of all texts of a row
AT_ENDS, BETWEEN = 3, 60  # messages of a conversation that are always shown at each end; that can be unfolded
BINS = 10
NAME = 120  # characters of a name
REASONS = 20


@dataclass(frozen=True)
class Text:
    """A text in parts: how it starts and ends, what is folded between, and how many characters are not there."""

    who: str
    start: str
    folded: str = ""
    missing: int = 0
    end: str = ""

    @property
    def size(self) -> int:
        """All its characters."""
        return len(self.start) + len(self.folded) + self.missing + len(self.end)


def page(report: GateReport, title: str) -> str:
    """The page. Its text has no lone surrogate, so that it can be encoded."""
    cuts, kinds = report.cells()
    few, sentence = report.headline()
    found = _template().render(
        report=report,
        title=name_of(title),
        few=few,
        sentence=sentence,
        bins=_bins(report),
        cuts=cuts,
        kinds=kinds,
        shown={group.reason: i for i, group in enumerate(report.groups)},
        weak=", ".join(report.weak()),
        rare=report.rare(),
        problems=reasons_to_read(report.problems, REASONS),
        most_junk=MOST_JUNK,
        texts=texts_of,
        name=name_of,
        talks=any(sum(who == "assistant" for who, _ in example.said) > 1 for example in _examples(report)),
    )
    return visible(found)


def check_jinja2() -> None:
    """Raise unless a page can be made.

    Raises:
        MissingExtra: no Jinja2.
    """
    try:
        import_module("jinja2")
    except ModuleNotFoundError as error:
        if error.name != "jinja2":  # a package that this one needs
            raise
        raise MissingExtra("the page needs jinja2: pip install jinja2", name="jinja2") from None


def name_of(text: str) -> str:
    """A name or a reason, on a line."""
    return on_a_line(text, NAME)


def texts_of(example: Example) -> tuple[list[Text], list[Text], list[Text], int, int]:
    """A row's texts: those at the start, those that can be unfolded, those at the end; messages and characters left."""
    said = example.said
    room = OF_A_ROW

    def shown(part: tuple[Said, ...]) -> list[Text]:
        nonlocal room
        found = []
        for who, text in part:
            found.append(_text(who, text, min(FOLDED, room)))
            room -= len(found[-1].folded)
        return found

    if len(said) <= 2 * AT_ENDS + 1:
        return shown(said), [], [], 0, 0
    start, end, middle = shown(said[:AT_ENDS]), shown(said[-AT_ENDS:]), said[AT_ENDS:-AT_ENDS]
    left = middle[BETWEEN:]
    return start, shown(middle[:BETWEEN]), end, len(left), sum(len(text) for _, text in left)


def _text(who: str, text: str, room: int) -> Text:
    if len(text) <= START + END + 100:
        return Text(who, text)
    middle = text[START:-END]
    return Text(who, text[:START], middle[:room], len(middle[room:]), text[-END:])


def _examples(report: GateReport) -> list[Example]:
    of_kinds = [e for group in report.groups for part in (group.worst, group.below, group.above) for e in part]
    return [*of_kinds, *report.control]


def _bins(report: GateReport) -> list[dict[str, Any]]:
    """How many rows have which probability, below the line and from it on, with widths in percent of the longest."""
    sound = report.sound[np.isfinite(report.sound)]
    number = np.minimum((sound * BINS).astype(np.int64), BINS - 1)
    parts = [np.bincount(number[where], minlength=BINS) for where in (sound < report.line, sound >= report.line)]
    longest = max(1, int((parts[0] + parts[1]).max()))
    return [
        {"of": f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}", "rows": int(low + high), "low": 100 * low / longest,
         "high": 100 * high / longest}
        for i, (low, high) in enumerate(zip(*parts, strict=True))
    ]  # fmt: skip


@cache
def _template() -> Template:
    check_jinja2()
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.from_string(files("hf_dsel").joinpath("pages/gate.html").read_text(encoding="utf-8"))

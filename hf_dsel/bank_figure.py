# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Where a bank's rows come from, round by round, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hf_dsel.bank_state import Round
from hf_dsel.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#737b85"  # 4.3 : 1 on white, 4.4 : 1 on #0d1117
FAINT = "#8b949e55"
COLOURS = (
    "#4c8ed9", "#e8833a", "#3fa66b", "#c65bb5", "#d9b035", "#2fb3b5",
    "#d9534f", "#8a74d6", "#93a83c", "#b07a52", "#e58bab", "#6d8fa3",
)  # fmt: skip
OTHERS, OTHERS_COLOUR = "others", "#9aa0a6"
NUMBERED = 14  # rounds that have room for numbers and names of their own
LETTERS = 30  # of a source's name


def composition(rounds: Sequence[Round], *, size: int) -> Figure:
    """Above, the rows in the bank after each round, stacked by source; below, how many entered and how many left.

    Sources have a colour of their own in the order in which they came; beyond twelve, the smallest ones share one. The
    background is transparent and the text mid-grey, for light and dark pages.

    Args:
        rounds: `bank.history`.
        size: rows that the bank holds at most, drawn as a line.

    Raises:
        ValueError: no rounds.
        MissingExtra: no matplotlib.
    """
    if not rounds:
        raise ValueError(
            "the bank has had no round yet; give it a dataset first: bank.update(dataset, source='alpaca')"
        )
    need("matplotlib", "a bank's picture", extra="reporting")
    from matplotlib.figure import Figure

    colours = _colours(rounds)
    wide = min(max(7.0, 3.4 + 0.95 * len(rounds)), 13.0)
    figure = Figure(figsize=(wide, 5.2), dpi=120, layout="constrained")
    figure.patch.set_alpha(0)
    stack, change = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    _stack(stack, rounds, colours, size)
    _change(change, rounds, colours)
    for plane in (stack, change):
        _plain(plane)
    _name_rounds(change, rounds, room=wide - 3)
    last = _shares(rounds[-1], colours)
    handles = [stack.bar(0, 0, color=c, label=f"{name}  {last[name]:,}") for name, c in reversed(colours.items())]
    legend = figure.legend(handles=handles, loc="outside right upper", frameon=False, labelcolor=INK, fontsize=9)
    legend.set_title(f"rows after round {rounds[-1].number:,}")
    legend.get_title().set(color=INK, fontsize=9)
    return figure


def _colours(rounds: Sequence[Round]) -> dict[str, str]:
    """A colour for each source that is drawn, in the order in which they came."""
    names = list(dict.fromkeys(name for r in rounds for name in (*r.by_source, r.source)))
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS, strict=False))
    most = {name: max(r.by_source.get(name, 0) for r in rounds) for name in names}
    large = sorted(names, key=lambda name: -most[name])[: len(COLOURS) - 1]
    own = dict(zip([n for n in names if n in large], COLOURS, strict=False))
    return {OTHERS: OTHERS_COLOUR} | own


def _shares(one: Round, colours: dict[str, str]) -> dict[str, int]:
    """Rows by the names that have a colour."""
    found = dict.fromkeys(colours, 0)
    for name, n in one.by_source.items():
        found[name if name in found else OTHERS] += n
    return found


def _stack(plane: Any, rounds: Sequence[Round], colours: dict[str, str], size: int) -> None:
    numbers, floor = [r.number for r in rounds], [0] * len(rounds)
    shares = [_shares(r, colours) for r in rounds]
    for name, colour in colours.items():
        heights = [share[name] for share in shares]
        plane.bar(numbers, heights, 0.78, bottom=floor, color=colour)
        floor = [a + b for a, b in zip(floor, heights, strict=True)]
    plane.axhline(size, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    plane.text(1, size, f"size {size:,}", color=INK, fontsize=9, ha="right", va="bottom",
               transform=plane.get_yaxis_transform())  # fmt: skip
    plane.set_ylim(0, size * 1.08)
    plane.set_ylabel("rows in the bank")
    plane.tick_params(labelbottom=False)


def _change(plane: Any, rounds: Sequence[Round], colours: dict[str, str]) -> None:
    most = max(max(r.entered, r.left) for r in rounds) or 1
    for r in rounds:
        plane.bar(r.number, r.entered, 0.78, color=colours.get(r.source, OTHERS_COLOUR))
        plane.bar(
            r.number, -r.left, 0.78, facecolor="none", edgecolor=INK, linewidth=1, hatch="////", hatch_linewidth=0.5
        )
        if len(rounds) <= NUMBERED:
            _number(plane, r.number, r.entered, f"+{r.entered:,}" if r.entered else "0", 2)
            if r.left:
                _number(plane, r.number, -r.left, f"−{r.left:,}", -3)
    plane.axhline(0, color=INK, linewidth=1)
    plane.set_ylim(-1.6 * most, 1.6 * most)
    plane.set_yticks([])
    for text, up in (("entered", 0.78), ("left", 0.22)):
        plane.text(-0.012, up, text, color=INK, fontsize=9, ha="right", va="center", transform=plane.transAxes)


def _name_rounds(plane: Any, rounds: Sequence[Round], *, room: float) -> None:
    """Below each round its number and source; where there are many, a name for a run of rounds of one source."""
    runs: list[list[Round]] = []
    for r in rounds:
        if runs and runs[-1][-1].source == r.source:
            runs[-1].append(r)
        else:
            runs.append([r])
    if len(rounds) <= NUMBERED:
        at, marks = [float(r.number) for r in rounds], [(f"{r.number}", r.source) for r in rounds]
    else:
        at = [(run[0].number + run[-1].number) / 2 for run in runs]
        spans = [f"{run[0].number}–{run[-1].number}" if len(run) > 1 else f"{run[0].number}" for run in runs]
        marks = [(span, run[0].source) for span, run in zip(spans, runs, strict=True)]
    step = -(-len(at) // 40)
    at, marks = at[::step], marks[::step]
    names = {name: name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for _, name in marks}
    narrowest = min((b - a for a, b in pairwise(at)), default=3) / max(len(rounds), 3)
    letters = int(room * narrowest / 0.085)  # 0.085 inches a letter
    if letters >= 9:
        plane.set_xticks(at, [f"{number}\n{wrapped(names[name], letters)}" for number, name in marks])
    else:
        plane.set_xticks(at, [f"{number} {names[name]}" for number, name in marks], rotation=40, ha="right")
    plane.set_xlim(rounds[0].number - 0.6, max(rounds[-1].number, rounds[0].number + 2) + 0.6)


def wrapped(name: str, letters: int) -> str:
    """A name on several lines, cut after _, - or a space where one is near enough.

    >>> wrapped("evol_instruct_top1k", 10)
    'evol_\\ninstruct_\\ntop1k'
    """
    lines = []
    while len(name) > letters:
        cut = max(name.rfind(mark, 0, letters) for mark in "_- ") + 1
        cut = cut if cut > letters // 3 else letters
        lines.append(name[:cut])
        name = name[cut:]
    return "\n".join([*lines, name])


def _number(plane: Any, x: float, y: float, text: str, points: int) -> None:
    plane.annotate(text, (x, y), (0, points), textcoords="offset points", color=INK, fontsize=8, ha="center",
                   va="bottom" if points > 0 else "top")  # fmt: skip


def _plain(plane: Any) -> None:
    plane.set_facecolor("none")
    plane.tick_params(colors=INK, length=0, labelsize=9)
    plane.yaxis.label.set_color(INK)
    plane.grid(axis="y", color=FAINT, linewidth=0.8)
    plane.set_axisbelow(True)
    plane.yaxis.set_major_formatter("{x:,.0f}")
    for edge in plane.spines.values():
        edge.set_visible(False)

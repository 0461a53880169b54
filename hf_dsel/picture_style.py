# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What the pictures of a dataset card share: colours for light and dark pages, names that fit, PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hf_dsel.bank_figure import FAINT, INK
from hf_dsel.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOL, PICKED, RANDOM = "#8f98a3", "#e8833a", "#4c8ed9"  # grey, orange, blue: told apart also by colour-blind readers
WIDE = 9.0  # inches
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari",
)  # fmt: skip


def new_figure(high: float, *, wide: float = WIDE) -> Figure:
    """An empty figure with a transparent background; text is mid-grey, for light and dark pages.

    Raises:
        MissingExtra: no matplotlib.
    """
    need("matplotlib", "a dataset card's picture", extra="reporting")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=130, layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG, without a date or a version in it: equal figures give equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def plain(plane: Any, *, grid: str = "y") -> None:
    """No frame, grey text, faint lines across."""
    plane.set_facecolor("none")
    plane.tick_params(which="both", colors=INK, length=0, labelsize=9)
    for label in (plane.xaxis.label, plane.yaxis.label, plane.title):
        label.set(color=INK, fontsize=10)
    plane.grid(axis=grid, color=FAINT, linewidth=0.8)
    plane.set_axisbelow(True)
    for edge in plane.spines.values():
        edge.set_visible(False)


def caption(figure: Figure, lines: Sequence[str]) -> None:
    """Small lines of text below the panels."""
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=8.5, color=INK, x=0.01, ha="left")


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One row above the panels."""
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, labelcolor=INK,
                  fontsize=10, handlelength=1.6, columnspacing=1.8)  # fmt: skip


def name(text: object, letters: int = 40) -> str:
    """A name as a label: on one line, cut in the middle where long, characters without a picture written out.

    >>> name("a very long column name that nobody will read to its end", 24)
    'a very long …o its end'
    """
    line = " ".join(str(text).split())
    line = "".join(c if _drawable(c) else f"\\u{ord(c):04x}" for c in line) or "(empty)"
    if len(line) > letters:
        line = f"{line[: letters // 2]}…{line[-(letters // 2 - 3) :]}"
    return line.replace("$", r"\$")


def families() -> list[str]:
    """The fonts to draw with: matplotlib's own, then those of other scripts that are installed."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(font for font in FALLBACKS if font in there)]


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    files = [findfont(FontProperties(family=[family])) for family in families()]
    return frozenset(code for file in files for code in FT2Font(file).get_charmap())


def _drawable(letter: str) -> bool:
    return ord(letter) in _glyphs() and letter.isprintable()

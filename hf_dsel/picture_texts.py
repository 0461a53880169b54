# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How long the responses are and which sources the rows are from, as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_dsel.picture_scores import distribution, handles
from hf_dsel.picture_style import PICKED, POOL, caption, legend, name, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCES = 12
OTHERS = "all others"
FloatArray = npt.NDArray[np.float64]


def texts_figure(
    words: Sequence[FloatArray | None] | None,
    what: str,
    shares: tuple[Mapping[str, int], Mapping[str, int]] | None,
    sizes: Sequence[int | None],
    source: str | None,
    notes: Sequence[str],
) -> Figure | None:
    """Words a response on a logarithmic axis, and bars of the sources' shares. None when there is neither.

    Args:
        words: of pool, picked rows and random subset, NaN where a row has no response; None without text.
        what: "response" or "prompt".
        shares: rows by source in the pool and in the picked rows, or None.
        sizes: rows of the sets, for the legend.
        source: the name of the column of sources.
        notes: for the caption.
    """
    counted = [None if w is None else w[np.isfinite(w) & (w > 0)] for w in words or ()]
    lengths = bool(counted) and counted[0] is not None and len(counted[0]) > 0
    if not lengths and shares is None:
        return None
    ordered = _ordered(*shares) if shares else []
    high = 3.4 if not ordered else max(3.6, 1.3 + 0.36 * len(ordered))
    figure = new_figure(high)
    planes = figure.subplots(1, lengths + bool(ordered), squeeze=False)[0]
    lines = list(notes)
    if lengths:
        distribution(planes[0], counted, log=True)
        planes[0].set_xlabel(f"words a {what}, logarithmic axis")
        planes[0].set_ylabel("share of rows")
        plain(planes[0])
        lines += _uncounted(words or (), what)
    if ordered:
        _bars(planes[-1], ordered)
        planes[-1].set_xlabel(f"share of rows by {name(source, 30)}")
        plain(planes[-1], grid="x")
    shown = sizes if lengths else [*sizes[:2], None]
    legend(figure, handles(shown))
    caption(figure, lines)
    return figure


def _uncounted(words: Sequence[FloatArray | None], what: str) -> list[str]:
    lines = []
    for title, values in zip(("pool", "picked"), words, strict=False):
        if values is not None:
            empty, none = int((values == 0).sum()), int(np.isnan(values).sum())
            parts = [f"{empty:,} with an empty {what}"] * bool(empty) + [f"{none:,} without a {what}"] * bool(none)
            if parts:
                lines.append(f"not drawn, of {len(values):,} rows of the {title}: {', '.join(parts)}")
    return lines


def _ordered(pool: Mapping[str, int], picked: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """Sources with their shares of the pool and of the picked rows, the largest first, at most 12 and the others."""
    of_pool, of_picked = max(sum(pool.values()), 1), max(sum(picked.values()), 1)
    rows = [(n, pool.get(n, 0) / of_pool, picked.get(n, 0) / of_picked) for n in {**pool, **picked}]
    rows.sort(key=lambda row: (-max(row[1], row[2]), row[0]))
    if len(rows) <= SOURCES + 1:
        return rows
    rest = rows[SOURCES:]
    return [*rows[:SOURCES], (f"{OTHERS} ({len(rest):,})", sum(r[1] for r in rest), sum(r[2] for r in rest))]


def _bars(plane: Any, ordered: Sequence[tuple[str, float, float]]) -> None:
    at = np.arange(len(ordered))
    for shift, which, colour in ((-0.2, 1, POOL), (0.2, 2, PICKED)):
        widths = [row[which] for row in ordered]
        plane.barh(at + shift, widths, 0.38, color=colour, alpha=0.42)
        plane.barh(at + shift, widths, 0.38, facecolor="none", edgecolor=colour, linewidth=1.2)
    plane.set_yticks(at, [name(row[0], 26) for row in ordered])
    plane.invert_yaxis()
    plane.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.3g} %")


def count_sources(values: Sequence[Any]) -> Counter[str]:
    """Rows by source."""
    return Counter("(none)" if v is None else str(v) for v in values)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How scores are distributed in the pool, the picked rows and a random subset, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_dsel.bank_figure import INK
from hf_dsel.picture_style import PICKED, POOL, RANDOM, caption, legend, name, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
PANELS = 4
BINS = 40
FEW = 25  # distinct values that have a bar each
TICKED = 7  # distinct values that have a number each on the axis
SETS = (("pool", POOL), ("picked", PICKED), ("random", RANDOM))


def scores_figure(columns: Mapping[str, Sequence[FloatArray | None]]) -> Figure | None:
    """One panel a column: the share of each set's rows in a bin. None when no column has a value.

    Args:
        columns: for each score the values of pool, picked rows and random subset, NaN where a row has none; None for a
            set without the column. At most four are drawn.
    """
    usable = {n: s for n, s in columns.items() if s[0] is not None and np.isfinite(s[0]).any()}
    shown = list(usable.items())[:PANELS]
    if not shown:
        return None
    across = {1: 1, 2: 2, 3: 3, 4: 2}[len(shown)]
    down = -(-len(shown) // across)
    figure = new_figure(0.9 + 2.7 * down)
    planes = figure.subplots(down, across, squeeze=False).flat
    lines = []
    for plane, (column, sets) in zip(planes, shown, strict=True):
        beyond = distribution(plane, sets)
        letters = {1: 80, 2: 44, 3: 28}[across]
        plane.set_xlabel(name(column, letters))
        plain(plane)
        pool = sets[0]
        assert pool is not None
        missing = int((~np.isfinite(pool)).sum())
        picked = sets[1]
        unscored = int((~np.isfinite(picked)).sum()) if picked is not None else 0
        if missing:
            also = f", {unscored:,} of them picked" if unscored else ""
            lines.append(f"{name(column)}: {missing:,} of {len(pool):,} rows of the pool have no number{also}")
        if beyond:
            lines.append(f"{name(column)}: {beyond:,} rows of the pool lie beyond the ends and count in the last bars")
    for i, plane in enumerate(figure.axes):
        if i % across == 0:
            plane.set_ylabel("share of rows")
    left = [name(n, 24) for n in columns if n not in dict(shown)]
    if left:
        lines.append(f"not drawn: {', '.join(left[:6])}{f' and {len(left) - 6} more' if len(left) > 6 else ''}")
    first = shown[0][1]
    legend(figure, handles([len(s) if s is not None else None for s in first]))
    caption(figure, lines)
    return figure


def handles(sizes: Sequence[int | None]) -> list[Any]:
    """Of the legend: the sets that there are, with their number of rows."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    made: list[Any] = []
    for (title, colour), n in zip(SETS, [*sizes, None, None][:3], strict=True):
        if n is None:
            continue
        label = f"{title}, {n:,} rows"
        if title == "random":
            made.append(Line2D([], [], color=colour, linestyle=(0, (3, 2)), linewidth=1.8, label=label))
        else:
            made.append(Patch(facecolor=colour, alpha=0.45, edgecolor=colour, linewidth=1.4, label=label))
    return made


def distribution(plane: Any, sets: Sequence[FloatArray | None], *, log: bool | None = None) -> int:
    """Draw the sets over bins that they share; how many rows of the pool lie beyond the axis.

    Args:
        sets: values of the pool, the picked rows, the random subset.
        log: a logarithmic axis, for values above 0; None takes one where a few values are very large.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    finite = [s[np.isfinite(s)] if s is not None else None for s in sets]
    pool = finite[0]
    assert pool is not None
    everything = np.concatenate([s for s in finite if s is not None])
    if log is None:
        log = bool(everything.min() > 0 and everything.max() > 30 * np.median(pool))
    edges = bins([s for s in finite if s is not None and len(s)], log=log)
    if log:
        plane.set_xscale("log")
        plane.xaxis.set_major_locator(LogLocator(numticks=6))
        plane.xaxis.set_minor_formatter("")
    else:
        plane.xaxis.set_major_locator(MaxNLocator(5))
    plane.xaxis.set_major_formatter("{x:,.6g}")
    distinct = np.unique(everything)
    if len(distinct) <= TICKED and not log:
        plane.set_xticks(distinct, [f"{v:.4g}" for v in distinct])
    beyond = int(((pool < edges[0]) | (pool > edges[-1])).sum())
    for (title, colour), values in zip(SETS, finite, strict=False):
        if values is None or len(values) == 0:
            continue
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        shares = counts / len(values)
        if title == "random":
            plane.stairs(shares, edges, color=colour, linestyle=(0, (3, 2)), linewidth=1.8, zorder=4)
        else:
            plane.stairs(shares, edges, color=colour, fill=True, alpha=0.42, zorder=2)
            plane.stairs(shares, edges, color=colour, linewidth=1.5, zorder=3)
    plane.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.3g} %")
    plane.set_ylim(bottom=0)
    plane.margins(x=0.02)
    plane.axhline(0, color=INK, linewidth=1, zorder=5)
    return beyond


def bins(sets: Sequence[FloatArray], *, log: bool) -> FloatArray:
    """The edges of the bins: one for each value where they are few, else up to 40 of one width between the 0.5 % tails.

    Fewer, at least 10, where the smallest set has few rows.
    """
    n = int(np.clip(2 * min(len(s) for s in sets) ** 0.5, 10, BINS))
    values = np.unique(np.concatenate(sets))
    if len(values) == 1:
        half = max(abs(values[0]) * 0.05, 0.5)
        return np.array([values[0] * 0.7, values[0] / 0.7] if log else [values[0] - half, values[0] + half])
    if len(values) <= FEW and not log:
        step = np.diff(values)
        middles = (values[1:] + values[:-1]) / 2
        ends = np.array([values[0] - step[0] / 2]), np.array([values[-1] + step[-1] / 2])
        return np.concatenate([ends[0], middles, ends[1]])
    low = min(float(np.quantile(s, 0.005)) for s in sets)
    high = max(float(np.quantile(s, 0.995)) for s in sets)
    if not high > low:
        low, high = float(values[0]), float(values[-1])
    if values[-1] - values[0] < 1.5 * (high - low):  # no far tail: show all
        low, high = float(values[0]), float(values[-1])
    if log and (values == np.round(values)).all():  # counts: no bin without a whole number in it
        return np.unique(np.floor(np.geomspace(low, high + 1, n + 1))) - 0.5
    return np.geomspace(low, high, n + 1) if log else np.linspace(low, high, n + 1)

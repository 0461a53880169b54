# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The data map of a training set (Dataset Cartography, arXiv 2009.10795, Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_dsel.training.trajectories import Course

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 20_000  # rows drawn
INK = {False: ("#ffffff", "#1f2328", "#8c959f", "#e6e8eb"), True: ("#0d1117", "#e6edf3", "#8b949e", "#262c36")}


def draw(courses: Mapping[str, Course], *, pairs: bool, dark: bool = False) -> Figure:
    """Variability across, confidence up, colour by correctness; how the rows spread over each at the sides.

    Args:
        courses: of rows with an answer, or of preference pairs.
        pairs: which of the two.
        dark: for a dark page.

    Raises:
        ModuleNotFoundError: no matplotlib.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModuleNotFoundError("map_figure needs matplotlib: pip install 'hf-dsel[reporting]'") from error
    page, ink, quiet, grid = INK[dark]
    colour_of, colour_name = ("reward_accuracy", "reward accuracy") if pairs else ("correctness", "token accuracy")
    drawn = np.flatnonzero(courses["variability"].valid)
    n = len(drawn)
    if n > POINTS:
        drawn = np.random.default_rng(0).choice(drawn, POINTS, replace=False)
    x, y, c = (courses[name].values[drawn] for name in ("variability", "confidence", colour_of))
    figure = Figure(figsize=(8, 5.2), dpi=120, facecolor=page, layout="constrained")
    panels = figure.add_gridspec(2, 2, width_ratios=(5, 1), height_ratios=(1, 5))
    plane = figure.add_subplot(panels[1, 0], facecolor=page)
    order = np.argsort(c, kind="stable")
    size = float(np.clip(2e4 / max(len(drawn), 1), 3, 30))
    top = max(float(c.max()), float(c.min()) + 1e-6)
    part = (0.25, 1.0) if dark else (0.0, 0.9)  # what stands out from the page
    colours = ListedColormap(colormaps["viridis"](np.linspace(*part, 256)))
    dots = plane.scatter(x[order], y[order], c=c[order], s=size, cmap=colours, vmin=float(c.min()), vmax=top)
    dots.set(linewidths=0, alpha=0.85, rasterized=True)
    what = "the preference" if pairs else "a response token"
    plane.set_xlabel("variability: its standard deviation over the epochs")
    plane.set_ylabel(f"confidence: mean probability of {what}")
    above = figure.add_subplot(panels[0, 0], facecolor=page, sharex=plane)
    above.hist(x, bins=30, color=quiet)
    beside = figure.add_subplot(panels[1, 1], facecolor=page, sharey=plane)
    beside.hist(y, bins=30, orientation="horizontal", color=quiet)
    for side in (above, beside):
        side.tick_params(labelbottom=False, labelleft=False, length=0)
        for edge in side.spines.values():
            edge.set_visible(False)
    for limit, values, before, after in ((plane.set_xlim, x, 0.03, 0.2), (plane.set_ylim, y, 0.1, 0.1)):
        low, span = float(values.min()), float(np.ptp(values)) or 1.0
        limit(low - before * span, low + (1 + after) * span)  # room for the words
    _words(plane, ink)
    _plain(plane, ink, quiet, grid)
    bar = figure.colorbar(dots, ax=figure.axes, location="right", fraction=0.03, pad=0.01)
    bar.set_label(f"{colour_name}, mean over the epochs", color=ink)
    bar.ax.tick_params(colors=ink)
    bar.outline.set_visible(False)
    shown = f"{n:,} rows" if n <= POINTS else f"{POINTS:,} of {n:,} rows"
    figure.suptitle(f"Data map: {shown}", color=ink, x=0.02, ha="left", fontsize=12)
    return figure


def _words(plane: Any, ink: str) -> None:
    """What each region holds, where the paper puts it."""
    for text, x, y, across, up in (
        ("easy to learn", 0.02, 0.98, "left", "top"),
        ("ambiguous", 0.98, 0.5, "right", "center"),
        ("hard to learn", 0.02, 0.02, "left", "bottom"),
    ):
        plane.text(x, y, text, transform=plane.transAxes, ha=across, va=up, color=ink, style="italic")


def _plain(plane: Any, ink: str, quiet: str, grid: str) -> None:
    plane.grid(color=grid, linewidth=0.8)
    plane.set_axisbelow(True)
    plane.tick_params(colors=ink, length=0)
    for label in (plane.xaxis.label, plane.yaxis.label):
        label.set_color(ink)
    for name, edge in plane.spines.items():
        edge.set_visible(name in ("left", "bottom"))
        edge.set_color(quiet)

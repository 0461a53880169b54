# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A map of embeddings in two dimensions with the picked rows marked, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.described_sets import Values
from hf_dsel.picture_style import PICKED, POOL, RANDOM, caption, legend, name, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 20_000  # drawn of each set
SQUARINGS = 8
FloatArray = npt.NDArray[np.float32]


def map_figure(
    column: str, pool: Values, picked: Values, random: Values | None, rng: np.random.Generator
) -> Figure | None:
    """The pool's first two principal components, the picked rows on top, and beside it a random subset on top.

    The components are those of the pool, or of 20,000 rows drawn from it. None with fewer than 3 rows or 2 dimensions,
    or where all vectors are alike.

    Args:
        column: the embedding's name, for the caption.
        pool, picked, random: its vectors.
        rng: for the samples.
    """
    if len(pool) < 3 or pool.values.shape[1] < 2 or len(picked) == 0:
        return None
    drawn = _sample(pool, rng)
    found = principal_axes(drawn, seed=int(rng.integers(2**31)))
    if found is None:
        return None
    mean, axes, explained = found
    marked = [("picked", _sample(picked, rng), PICKED, len(picked))]
    if random is not None and len(random):
        marked.append(("random", _sample(random, rng), RANDOM, len(random)))
    ground = (drawn - mean) @ axes
    wide = 9.0 if len(marked) == 2 else 6.4
    figure = new_figure(5.2, wide=wide)
    planes = figure.subplots(1, len(marked), sharex=True, sharey=True, squeeze=False)[0]
    shown: list[Any] = []
    for plane, (title, vectors, colour, n) in zip(planes, marked, strict=True):
        below = plane.scatter(*ground.T, s=dot(len(ground)), c=POOL, alpha=0.5, linewidths=0)
        at = (vectors - mean) @ axes
        above = plane.scatter(*at.T, s=0.8 * dot(len(at)), c=colour, alpha=0.7, linewidths=0)
        plane.set_xlabel(f"component 1 ({100 * explained[0]:.1f} % of the variance)")
        if plane is planes[0]:
            plane.set_ylabel(f"component 2 ({100 * explained[1]:.1f} % of the variance)")
            shown.append((below, f"pool, {len(pool):,} rows"))
        shown.append((above, f"{title}, {n:,} rows"))
        plain(plane, grid="both")
    legend(figure, [_large(dots, label) for dots, label in shown])
    lines = [f"{name(column)}: the two principal components of the pool, {100 * explained.sum():.1f} % of its variance"]
    if len(drawn) < len(pool):
        lines.append(f"drawn and computed from: {len(drawn):,} rows of the pool by chance")
    for title, vectors, _, n in marked:
        if len(vectors) < n:
            lines.append(f"drawn: {len(vectors):,} of the {title} rows by chance")
    if pool.missing or picked.missing:
        lines.append(f"without a vector: {pool.missing:,} rows of the pool, {picked.missing:,} picked")
    caption(figure, lines)
    return figure


def principal_axes(vectors: FloatArray, *, seed: int) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """The mean, the first two principal axes (dim × 2), the parts of the variance along them; None where all is alike.

    By randomised subspace iteration (Halko, Martinsson and Tropp 2011, Algorithm 4.4). The sign is such that the
    largest entry of an axis is above 0.
    """
    mean = vectors.mean(0)
    centred = torch.from_numpy(vectors - mean)
    total = float((centred.double() ** 2).sum())
    if not total > 1e-10 * max(float((vectors.astype(np.float64) ** 2).sum()), 1e-30):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, sizes, axes = torch.pca_lowrank(centred, q=min(8, *centred.shape), center=False, niter=SQUARINGS)
    first = axes[:, :2].numpy()
    first = first * np.sign(first[np.abs(first).argmax(0), [0, 1]])
    return mean, first, (sizes[:2].double() ** 2 / total).numpy()


def dot(n: int) -> float:
    """The area of a dot in square points."""
    return float(np.clip(2e4 / max(n, 1), 2.4, 22))


def _sample(values: Values, rng: np.random.Generator) -> FloatArray:
    """The vectors, or enough of them."""
    n = len(values)
    at = np.arange(n) if n <= POINTS else np.sort(rng.choice(n, POINTS, replace=False))
    rows = at if values.rows is None else values.rows[at]
    return np.asarray(values.values[rows], np.float32)


def _large(dots: Any, label: str) -> Any:
    from matplotlib.lines import Line2D

    colour = dots.get_facecolor()[0][:3]
    return Line2D([], [], marker="o", linestyle="none", markersize=6, markeredgewidth=0, color=colour, label=label)

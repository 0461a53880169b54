# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Seeded k-means: greedy k-means++ and Lloyd's iterations, in blocks."""

from __future__ import annotations

import math

import numpy as np
import torch

from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of, true_float32


def k_means(
    embeddings: np.ndarray | torch.Tensor,
    k: int,
    *,
    rng: np.random.Generator,
    iterations: int = 100,
    n_init: int = 1,
    tolerance: float = 1e-5,
    device: str | torch.device | None = None,
    block: int = 8192,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and centroids that keep the summed squared distance to the nearest centroid small.

        minimise Σ_v min_c ‖x_v − μ_c‖²

    Distances are Euclidean on the vectors as given: normalise them first for cosine. A row at equal distance goes to
    the lower cluster; an empty cluster restarts at the row farthest from its centroid (ties: lower row).

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; read as float32.
        k: number of clusters, from 1 to the number of distinct rows.
        rng: numpy generator; the same seed gives the same clusters.
        iterations: Lloyd steps at most; it stops when no label changes.
        n_init: how many starts; the best by inertia is returned.
        tolerance: it also stops when inertia falls by less than this share.
        device: default `cuda` if there is one, else the CPU.
        block: rows compared with the centroids at a time.

    Returns:
        (labels, int64, one a row; centroids, float32, `k x dim`). Every cluster has at least one row.

    Raises:
        ValueError: an argument out of range, fewer distinct rows than k, or NaN or infinite embeddings.

    Source: Arthur & Vassilvitskii 2007 (k-means++), with 2 + ⌊ln k⌋ trials a step as in scikit-learn; Lloyd 1982.

    >>> labels, _ = k_means(np.array([[0.0], [0.1], [5.0]]), 2, rng=np.random.default_rng(0), device="cpu")
    >>> bool(labels[0] == labels[1] != labels[2])
    True
    """
    check_floats(embeddings)
    n = len(embeddings)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; it must be between 1 and the number of rows, {n}")
    for name, value in (("iterations", iterations), ("n_init", n_init), ("block", block)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    where = pick_device(device)
    points = torch.empty(tuple(embeddings.shape), dtype=torch.float32, device=where)
    for start in range(0, n, block):
        points[start : start + block] = rows_of(embeddings, slice(start, start + block)).float().to(where)
    centre = points.mean(0, dtype=torch.float64).float()  # distances lose fewer digits around 0
    points -= centre
    best: tuple[float, torch.Tensor, torch.Tensor] | None = None
    with true_float32():
        for _ in range(n_init):
            result = _lloyd(points, _seed(points, k, rng, block), iterations, tolerance, block)
            if best is None or result[0] < best[0]:
                best = result
    assert best is not None
    return best[1].cpu().numpy(), (best[2] + centre).cpu().numpy()


def _squared(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """‖x − μ‖² = ‖x‖² − 2 x·μ + ‖μ‖², 0 where float32 cannot tell."""
    x, c = points.square().sum(1, keepdim=True), centroids.square().sum(1)
    distance = torch.addmm(x + c, points, centroids.T, alpha=-2)
    return torch.where(distance > 1e-6 * (x + c), distance, 0.0)


def _seed(points: torch.Tensor, k: int, rng: np.random.Generator, block: int) -> torch.Tensor:
    """Greedy k-means++: of a few rows drawn by squared distance, the one that lowers inertia most."""
    chosen = [int(rng.integers(len(points)))]
    trials = 2 + int(math.log(k))

    def distances(rows: list[int]) -> torch.Tensor:
        return torch.cat([_squared(part, points[rows]) for part in points.split(block)])

    nearest = distances(chosen)[:, 0]
    while len(chosen) < k:
        weight = nearest.double().cpu().numpy().cumsum()
        if weight[-1] == 0:
            chosen.append(_another(points, chosen, k))
            continue
        draws = np.searchsorted(weight, rng.random(trials) * weight[-1], side="right")
        rows = sorted({int(row) for row in np.minimum(draws, len(points) - 1)})
        rows = [row for row in rows if nearest[row] > 0] or [int(nearest.argmax())]
        closer = torch.minimum(nearest[:, None], distances(rows))
        total = closer.double().sum(0)
        winner = int(
            (total <= total.min() * (1 + 1e-5)).nonzero()[0]
        )  # ties, which float32 only nearly sees: lower row
        chosen.append(rows[winner])
        nearest = closer[:, winner]
    return points[chosen].clone()


def _another(points: torch.Tensor, chosen: list[int], k: int) -> int:
    """A row unlike all chosen ones though float32 distances call it equal; an error if there is none."""
    _, label = torch.unique(points, dim=0, return_inverse=True)
    groups = label.cpu().numpy()
    distinct = int(groups.max()) + 1
    if k > distinct:
        raise ValueError(
            f"k is {k}, but only {distinct} of {len(points)} rows are distinct; ask for at most {distinct}"
        )
    return int(np.flatnonzero(~np.isin(groups, groups[chosen]))[0])


def _assign(points: torch.Tensor, centroids: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest centroid, ties to the lower one, and the squared distance to it."""
    labels, nearest = [], []
    number = torch.arange(len(centroids), device=points.device)
    for part in points.split(block):
        distance = _squared(part, centroids)
        least = distance.amin(1)
        labels.append(torch.where(distance == least[:, None], number, len(centroids)).amin(1))
        nearest.append(least)
    return torch.cat(labels), torch.cat(nearest)


def _fill_empty(labels: torch.Tensor, nearest: torch.Tensor, k: int) -> bool:
    """Give every empty cluster the farthest row of a cluster that can spare one. In place; whether any was empty."""
    count = torch.bincount(labels, minlength=k).tolist()
    empty = [cluster for cluster, rows in enumerate(count) if rows == 0]
    if empty:
        farthest = iter(torch.argsort(nearest, descending=True, stable=True).tolist())
        for cluster in empty:
            row = next(row for row in farthest if count[int(labels[row])] > 1)
            count[int(labels[row])] -= 1
            labels[row], nearest[row] = cluster, 0.0
    return bool(empty)


def _lloyd(
    points: torch.Tensor, centroids: torch.Tensor, iterations: int, tolerance: float, block: int
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """(inertia, labels, centroids) after Lloyd's steps."""
    k = len(centroids)
    labels, nearest = _assign(points, centroids, block)
    inertia: float | None = None
    for _ in range(iterations):
        refilled = _fill_empty(labels, nearest, k)
        sums = torch.zeros(k, points.shape[1], dtype=torch.float64, device=points.device)
        for part, at in zip(points.split(block), labels.split(block), strict=True):
            sums.index_add_(0, at, part.double())
        centroids = (sums / torch.bincount(labels, minlength=k)[:, None]).float()
        before, (labels, nearest) = labels, _assign(points, centroids, block)
        now = float(nearest.double().sum())
        settled = bool((labels == before).all()) or (inertia is not None and inertia - now <= tolerance * inertia)
        if settled and not refilled:
            break
        inertia = now
    if _fill_empty(labels, nearest, k):
        for cluster in range(k):
            centroids[cluster] = points[labels == cluster].mean(0)
    return float(nearest.double().sum()), labels, centroids

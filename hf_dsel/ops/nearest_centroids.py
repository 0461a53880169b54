# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The nearest centroid of every row, in blocks."""

from __future__ import annotations

import numpy as np
import torch

from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of, true_float32


def nearest_centroids(
    embeddings: np.ndarray,
    centroids: np.ndarray,
    rows: np.ndarray | None = None,
    *,
    device: str | torch.device | None = None,
    block: int = 8192,
) -> np.ndarray:
    """The cluster of every row: argmin_c ‖x − μ_c‖², ties to the lower cluster.

    It assigns rows that `k_means` has not seen, in one pass and without a copy of the pool.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; used as they are.
        centroids: `k x dim`, as `k_means` returns them.
        rows: int64, which rows; all when left out.
        device: default `cuda` if there is one, else the CPU.
        block: rows compared at a time.

    Returns:
        int64, one label for each of the rows.

    Raises:
        ValueError: other widths, or values that are NaN or infinite.

    >>> nearest_centroids(np.array([[0.0], [4.0], [9.0]]), np.array([[1.0], [8.0]]), device="cpu")
    array([0, 0, 1])
    """
    check_floats(centroids)
    if embeddings.ndim != 2 or embeddings.shape[1] != centroids.shape[1]:
        raise ValueError(
            f"embeddings have shape {embeddings.shape}, the centroids {centroids.shape}; widths must agree"
        )
    where = pick_device(device)
    means = torch.from_numpy(np.asarray(centroids, np.float32)).to(where)
    middle = means.mean(0)  # distances lose fewer digits around 0
    means = means - middle
    sizes, number = means.square().sum(1), torch.arange(len(means), device=where)
    n = len(embeddings) if rows is None else len(rows)
    labels = np.empty(n, np.int64)
    with true_float32():
        for start in range(0, n, block):
            part = slice(start, start + block)
            points = rows_of(embeddings, part if rows is None else rows[part]).to(where).float()
            closeness = torch.addmm(sizes, points - middle, means.T, alpha=-2)  # ‖x − μ‖² − ‖x‖²
            if not bool(torch.isfinite(closeness).all()):
                raise ValueError("embeddings are NaN or infinite; embed these rows again or drop them")
            least = closeness.amin(1, keepdim=True)
            labels[part] = torch.where(closeness == least, number, len(means)).amin(1).cpu().numpy()
    return labels

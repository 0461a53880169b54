# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Vendi score: how many rows would be as diverse if all were unlike each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.unit_rows import pick_device, unit_rows

BLOCK = 8192  # rows multiplied at a time
LOST = 1e-9  # an eigenvalue at most this share of the largest is 0: what float32 rows leave over
FloatArray = npt.NDArray[np.float64]


def vendi_score(
    embeddings: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None, *, order: float = 1.0
) -> float:
    """The effective number of different rows in a set, by cosine similarity.

    VS_q(S) = exp(1/(1 − q) · ln Σ_i λ_i^q), λ the eigenvalues of K/n with K_ij = cos(x_i, x_j); exp(−Σ λ_i ln λ_i) at
    q = 1. In [1, min(n, dim)]: 1 when all rows point one way, n when all are orthogonal. Repeating every row changes
    nothing. Low orders listen to rare directions, high ones to the common: 1 / max λ at q = ∞.

    Args:
        embeddings: rows x dim, float16, float32 or float64; need not be normalised.
        rows: int64, the set S; all rows when left out.
        order: q, at least 0, `math.inf` too; 0 is the rank of K.

    Raises:
        ValueError: an order below 0, no rows, or a vector that has no cosine.

    Source: survey, Eq. 35; Friedman & Dieng 2023; Pasarkar & Dieng 2023 (orders).

    Differs: the survey mixes exp with log₂; the logarithm here is natural, as in the papers. With X the unit rows, XXᵀ
        and XᵀX have the same eigenvalues above 0, so the smaller of the two is formed: n·dim² work at most, exact.

    >>> round(vendi_score(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])), 4)
    1.8899
    """
    if not order >= 0:
        raise ValueError(f"order is {order}; it must be at least 0 (1 is the usual score, inf the largest eigenvalue)")
    return score_of(
        eigenvalues(similarity_sums(embeddings, rows), len(embeddings) if rows is None else len(rows)), order
    )


def quality_weighted_vendi_score(
    embeddings: npt.NDArray[Any],
    quality: npt.NDArray[Any],
    rows: npt.NDArray[np.int64] | None = None,
    *,
    order: float = 1.0,
) -> float:
    """The mean quality of a set times its Vendi score: good and diverse at once.

    qVS_q(S) = (1/n · Σ_{i∈S} quality_i) · VS_q(S).

    Args:
        embeddings: rows x dim.
        quality: one number a row of `embeddings`, at least 0, higher is better.
        rows: int64, the set S; all rows when left out.
        order: q, as in `vendi_score`.

    Raises:
        ValueError: quality that is negative or NaN, or what `vendi_score` refuses.

    Source: survey, below Eq. 35; Nguyen & Dieng 2024.

    >>> round(quality_weighted_vendi_score(np.eye(2), np.array([1.0, 4.0])), 6)
    5.0
    """
    if len(quality) != len(embeddings):
        raise ValueError(f"there are {len(quality)} values of quality for {len(embeddings)} rows; each needs one")
    worth = np.asarray(quality if rows is None else quality[rows], np.float64)
    if not (np.isfinite(worth) & (worth >= 0)).all():
        raise ValueError(
            "quality must be finite and at least 0: a mean below 0 would make a diverse set the worse one. Shift or "
            "rank it first"
        )
    return float(worth.mean()) * vendi_score(embeddings, rows, order=order)


def similarity_sums(embeddings: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None) -> torch.Tensor:
    """XᵀX (dim x dim) of the unit rows X, or XXᵀ (n x n) when there are fewer rows than dimensions; float64."""
    n = len(embeddings) if rows is None else len(rows)
    if n == 0:
        raise ValueError("the Vendi score of no rows is undefined; select at least one row")
    if n < embeddings.shape[1]:
        unit = unit_rows(embeddings if rows is None else embeddings[rows]).double()
        return unit @ unit.T
    sums = torch.zeros(embeddings.shape[1], embeddings.shape[1], dtype=torch.float64, device=pick_device(None))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        unit = unit_rows(embeddings[part if rows is None else rows[part]]).double()
        sums.addmm_(unit.T, unit)
    return sums


def eigenvalues(sums: torch.Tensor, n: int) -> FloatArray:
    """The eigenvalues of K/n above 0, from `similarity_sums`; they sum to 1."""
    values = np.asarray(torch.linalg.eigvalsh(sums / n).cpu().numpy(), np.float64)
    kept = values[values > LOST * values.max()]
    return np.asarray(kept / kept.sum(), np.float64)


def score_of(values: FloatArray, order: float) -> float:
    """exp of the Rényi entropy, in nats, of eigenvalues that sum to 1."""
    if order == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if math.isinf(order):
        return float(1 / values.max())
    peak = values.max()  # taken out of the sum, so that high orders do not underflow
    logarithm = np.log(((values / peak) ** order).sum()) + order * np.log(peak)  # ln Σ λ^q
    return float(np.exp(logarithm / (1 - order)))  # Eq. 35

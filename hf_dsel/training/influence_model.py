# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""From vectors of a few rows and their measured effects to a prediction for every row: ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_dsel.training.scorer_report import spearman

FloatArray = npt.NDArray[np.float64]
PENALTIES = tuple(10.0 ** (i / 2) for i in range(-6, 9))  # times the mean squared distance from the mean vector
FOLDS = 5
SAME = 1e-12  # mean squared distance from the mean vector over mean squared length, below which there is only rounding
BLOCK = 65_536  # rows predicted at a time


@dataclass(frozen=True, eq=False)
class InfluenceModel:
    """effect(x) = (x − centre) · weights + mean.

    Args:
        weights, centre: (dim,).
        mean: of the effects it was fitted to.
        penalty: of the weights, times the mean squared distance of the vectors from their mean.
    """

    weights: FloatArray
    centre: FloatArray
    mean: float
    penalty: float

    def __call__(self, x: npt.NDArray[np.floating]) -> FloatArray:
        """The predicted effect of each row of `x` (rows x dim)."""
        blocks = (x[i : i + BLOCK].astype(np.float64) for i in range(0, len(x), BLOCK))
        found = [(block - self.centre) @ self.weights + self.mean for block in blocks]
        return np.concatenate(found or [np.empty(0)])


def fit(x: npt.ArrayLike, y: npt.ArrayLike, penalty: float | None = None) -> InfluenceModel:
    """The weights w that minimise Σ (y_i − ȳ − (x_i − x̄)·w)² + λ‖w‖², in closed form.

    With x − x̄ = U S Vᵀ: w = V (S / (S² + λ)) Uᵀ (y − ȳ), and λ = penalty · mean ‖x_i − x̄‖².

    Args:
        x: (rows x dim).
        y: (rows,).
        penalty: None is the one of `PENALTIES` whose squared error is the smallest when each row is predicted from all
            others, Σ ((y_i − ŷ_i) / (1 − h_i))² with the hat matrix's diagonal h.

    Raises:
        ValueError: shapes that do not go together, or a penalty that is not above 0.

    >>> model = fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], penalty=1e-9)
    >>> model(np.array([[3.0]])).round(6)
    array([3.])
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(y) < 2:
        raise ValueError(f"x is {x.shape}, y {y.shape}; they are (rows x dim) and (rows,), from two rows on")
    if penalty is not None and not penalty > 0:
        raise ValueError(f"penalty={penalty}; it is a number above 0, or None to choose it")
    centre, mean = x.mean(0), float(y.mean())
    unit = float(((x - centre) ** 2).sum() / len(x))
    if unit <= SAME * float((x**2).sum() / len(x)):  # one and the same vector predicts nothing
        return InfluenceModel(np.zeros(x.shape[1]), centre, mean, penalty or PENALTIES[-1])
    u, s, v = np.linalg.svd(x - centre, full_matrices=False)
    inner = u.T @ (y - mean)
    if penalty is None:
        penalty = min(PENALTIES, key=lambda p: _left_out(u, s, inner, y - mean, p * unit))
    weights = v.T @ (s / (s**2 + penalty * unit) * inner)  # V (S / (S² + λ)) Uᵀ (y − ȳ)
    return InfluenceModel(weights, centre, mean, penalty)


def _left_out(u: FloatArray, s: FloatArray, inner: FloatArray, y: FloatArray, penalty: float) -> float:
    """Σ ((y_i − ŷ_i) / (1 − h_i))²."""
    shrunk = s**2 / (s**2 + penalty)
    hat = 1 / len(y) + (u**2) @ shrunk
    return float((((y - u @ (shrunk * inner)) / (1 - hat).clip(1e-9)) ** 2).sum())


def held_out_spearman(x: npt.ArrayLike, y: npt.ArrayLike, penalty: float | None, rng: np.random.Generator) -> float:
    """Spearman's correlation of prediction and effect on rows that the model was not fitted to.

    The rows are parted at random into five; each part is predicted by a model of the other four, its penalty chosen on
    these, and the correlations within the parts are averaged. A part whose predictions or effects are all the same
    counts as 0. Not over all rows at once: the mean and the scale of a prediction depend on what is held out, which
    makes that correlation negative where nothing is predicted.

    Args:
        x, y, penalty: as in `fit`; from 10 rows on.
        rng: parts the rows.

    Returns:
        in [−1, 1]; where nothing can be predicted around 0, with a standard error of about 1 / √(rows − 5).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    found = []
    for part in np.array_split(rng.permutation(len(y)), FOLDS):
        rest = np.setdiff1d(np.arange(len(y)), part)
        found.append(spearman(fit(x[rest], y[rest], penalty)(x[part]), y[part]) or 0.0)
    return float(np.mean(found))

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Memorisation and influence of each row, from models trained on random subsets: arrays in, estimates out.

Source: the data selection survey (2402.05123) Eqs. 49 and 50, after Feldman and Zhang (arXiv 2008.03703).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BLOCK = 2**22  # numbers of an influence block


@dataclass(frozen=True)
class Estimate:
    """A difference of two means for each row, or each row and test row.

    Args:
        values: NaN where there is none.
        errors: its standard error; NaN where a side has fewer than two models.
        models: how many models were trained with it and how many without, of the same shape each.
    """

    values: FloatArray
    errors: FloatArray
    models: tuple[FloatArray, FloatArray]

    @property
    def reasons(self) -> npt.NDArray[Any]:
        """Why a value is missing; "" where it is not."""
        inside, outside = self.models
        why = np.where(inside == 0, "measured by no model trained with it", "")
        why = np.where(outside == 0, "measured by no model trained without it", why)
        return np.where((inside == 0) & (outside == 0), "measured by no model", why).astype(object)

    @property
    def error_reasons(self) -> npt.NDArray[Any]:
        """Why a standard error is missing; "" where it is not."""
        few = np.minimum(*self.models) < 2
        why = np.where(few, "a standard error needs two models trained with it and two without", "")
        return np.where(self.reasons == "", why, self.reasons).astype(object)


def memorization(member: npt.ArrayLike, value: npt.ArrayLike) -> Estimate:
    """How much better a model answers a row that it was trained on than one that was not.

    With v_s(i) what model s makes of row i, the mean over its response tokens of P(token | tokens before) in Eq. 49:
    memo_i = mean of v_s(i) over s with i in S_s − mean of v_s(i) over s with i not in S_s,
    error_i = sqrt(var_in / n_in + var_out / n_out), unbiased variances over the n_in and n_out models.

    Args:
        member: models x rows, true where the model was trained on the row.
        value: models x rows, higher is better; NaN where a row was not measured.

    Returns:
        the estimate of each row, (rows,). The errors of two rows are not independent: the models are the same.

    Raises:
        ValueError: other shapes, or members that are neither true nor false.

    Source: survey Eq. 49; Feldman and Zhang Eq. 1 and their estimator over subsets.
    Differs: Eq. 49 compares two models, of all rows and of all but one; as in the paper, its two terms are means over
        models of random subsets, which are smaller than the whole set.

    >>> found = memorization([[1, 1], [1, 0], [0, 1], [0, 1]], [[0.9, 0.5], [0.7, 0.4], [0.2, 0.6], [0.4, 0.7]])
    >>> found.values.round(3), found.errors.round(3), found.error_reasons[1]
    (array([0.5, 0.2]), array([0.141,   nan]), 'a standard error needs two models trained with it and two without')
    """
    inside, v = _checked(member, value)
    if v.shape != inside.shape:
        raise ValueError(f"value is {v.shape}, member {inside.shape}; both are models x rows")
    there = ~np.isnan(v)
    v = _centred(v)
    sides = [side & there for side in (inside, ~inside)]
    return _difference(*((side.sum(0), (side * v).sum(0), (side * v**2).sum(0)) for side in sides))


def influence(member: npt.ArrayLike, value: npt.ArrayLike) -> Estimate:
    """How much better models answer each test row when a row was in their training set.

    infl_ik = mean of v_s(k) over s with i in S_s − mean of v_s(k) over s with i not in S_s; errors as for
    `memorization`.

    Args:
        member: models x rows, true where the model was trained on the row.
        value: models x test rows, higher is better; NaN where a test row was not measured.

    Returns:
        the estimates, rows x test rows. `most_influential` does not hold so many at a time.

    Raises:
        ValueError: other shapes, or members that are neither true nor false.

    Source: survey Eq. 50; Feldman and Zhang Eq. 2.
    Differs: as in `memorization`.

    >>> influence([[1, 1], [1, 0], [0, 1], [0, 0]], [[0.9], [0.7], [0.2], [0.4]]).values.round(3).tolist()
    [[0.5], [0.0]]
    """
    inside, v = _checked(member, value)
    there = ~np.isnan(v)
    v = _centred(v)
    sides = [side.T.astype(np.float64) for side in (inside, ~inside)]
    return _difference(*((side @ there, side @ v, side @ v**2) for side in sides))


def most_influential(
    member: npt.ArrayLike, value: npt.ArrayLike, *, top: int, block: int = BLOCK
) -> list[tuple[npt.NDArray[np.int64], FloatArray, FloatArray]]:
    """For each test row the `top` rows of the largest influence, with the estimates and their standard errors.

    Args:
        member, value: as in `influence`.
        top: rows to name, from 1 on; a test row has fewer where fewer have an estimate. Ties go to the lower row.
        block: numbers of the largest array, rows x test rows, that is made at a time.

    Raises:
        ValueError: `top` below 1, or what `influence` refuses.

    >>> most_influential([[1, 1], [1, 0], [0, 1], [0, 0]], [[0.9], [0.7], [0.2], [0.4]], top=1)[0][0]
    array([0])
    """
    if top < 1:
        raise ValueError(f"top={top}; it is a whole number from 1 on")
    inside, v = _checked(member, value)
    found = []
    step = max(1, block // max(1, inside.shape[1]))
    for start in range(0, v.shape[1], step):
        part = influence(inside, v[:, start : start + step])
        for k in range(part.values.shape[1]):
            values, errors = part.values[:, k], part.errors[:, k]
            order = np.argsort(-values, kind="stable")[: min(top, int((~np.isnan(values)).sum()))]  # NaN comes last
            found.append((order.astype(np.int64), values[order], errors[order]))
    return found


def _checked(member: npt.ArrayLike, value: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    inside, v = np.asarray(member), np.asarray(value, np.float64)
    if inside.ndim != 2 or v.ndim != 2 or len(inside) != len(v):
        raise ValueError(f"member is {inside.shape}, value {v.shape}; both have one row a model and two axes")
    if inside.dtype != np.bool_ and not np.isin(inside, (0, 1)).all():
        raise ValueError("member holds something else than true and false, or 1 and 0")
    return inside.astype(np.bool_), v


def _centred(v: FloatArray) -> FloatArray:
    """Without each column's mean, so that the sums of squares keep their digits; 0 where nothing was measured."""
    there = ~np.isnan(v)
    mean = np.where(there, v, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    return np.where(there, v - mean, 0.0)


def _difference(inside: tuple[Any, Any, Any], outside: tuple[Any, Any, Any]) -> Estimate:
    """Of the number, sum and sum of squares on either side, the difference of the means and its standard error."""
    means, variances = [], []
    for n, total, squares in (inside, outside):
        mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        spread = np.maximum(squares - n * mean**2, 0.0)  # Σ (v − mean)²
        means.append(mean)
        variances.append(np.where(n > 1, spread / np.maximum(n - 1, 1) / np.maximum(n, 1), np.nan))
    models = np.asarray(inside[0], np.float64), np.asarray(outside[0], np.float64)
    return Estimate(means[0] - means[1], np.sqrt(variances[0] + variances[1]), models)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""TF-IDF of rows that are lists of terms, as sparse arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Weighted(NamedTuple):
    """Row i has the terms `terms[starts[i]:starts[i + 1]]`, each once, with `weights` in the same places.

    Terms are counted from 0; `rows_with[t]` is the number of rows that have term t.
    """

    starts: IntArray
    terms: IntArray
    weights: FloatArray
    rows_with: IntArray


def tf_idf(rows: Sequence[npt.NDArray[np.uint64]]) -> Weighted:
    """The weight of every term in every row: often in the row, seldom among the rows, rows at unit length.

        w_it = tf_it · (ln((1 + n) / (1 + df_t)) + 1),   then w_i / ‖w_i‖₂

    with tf_it how often row i has term t, df_t the number of rows that have it, n the number of rows. A row without
    terms stays empty.

    Args:
        rows: for each row the numbers of its terms, in any order, as often as they occur.

    Source: Salton and Buckley 1988; the smoothed idf and the length are scikit-learn's defaults (TfidfVectorizer).

    >>> found = tf_idf([np.array([7, 7, 9], np.uint64), np.array([9], np.uint64)])
    >>> found.starts.tolist(), found.terms.tolist(), found.rows_with.tolist(), found.weights.round(3).tolist()
    ([0, 2, 3], [0, 1, 1], [1, 2], [0.942, 0.335, 1.0])
    """
    n = len(rows)
    lengths = np.array([len(row) for row in rows], np.int64)
    flat = np.concatenate(rows) if n else np.empty(0, np.uint64)
    known, term = np.unique(flat, return_inverse=True)
    place = np.repeat(np.arange(n), lengths) * len(known) + term
    place, tf = np.unique(place, return_counts=True)
    row, term = np.divmod(place, max(len(known), 1))
    df = np.bincount(term, minlength=len(known))
    weight = tf * (np.log((1 + n) / (1 + df)) + 1)[term]
    length = np.sqrt(np.bincount(row, weight * weight, minlength=n))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    return Weighted(starts.astype(np.int64), term, weight / length[row], df)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Inter-cluster divergence: how much the words of each cluster differ from those of the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def inter_cluster_divergence(words: IntArray, lengths: IntArray, labels: IntArray) -> float:
    """The mean Jensen-Shannon divergence of each cluster's word distribution from that of all other rows, in bits.

    D(S) = 1/K · Σ_j JS(P_j ‖ P_{≠j}), in [0, 1]; 1 when no two clusters share a word. P_j is the distribution of
    inverse document frequency in cluster j: P_j(t) ∝ ln(1 + n_j / df_j(t)), n_j its rows and df_j(t) those with the
    word t; 0 for words that do not occur there. It falls as clusters grow: compare sets of one size.

    Args:
        words: int64, the words of all rows one after the other, as numbers (see `word_numbers`).
        lengths: int64, how many words each row has.
        labels: int64, the cluster of each row.

    Raises:
        ValueError: lengths that do not fit, or fewer than two clusters with words.

    Source: survey, Eq. 31 (Dang & Verma 2024).

    Differs: the survey leaves open what the distribution is; P_j is ours. Rows without words are left out.

    >>> inter_cluster_divergence(np.array([0, 1, 2, 3]), np.array([2, 2]), np.array([0, 1]))
    1.0
    """
    if int(lengths.sum()) != len(words) or len(labels) != len(lengths):
        raise ValueError(
            f"{len(lengths)} lengths that sum to {int(lengths.sum())} do not fit {len(words)} words and "
            f"{len(labels)} labels; each row needs a length and a label"
        )
    row = np.repeat(np.arange(len(lengths)), lengths)
    _, term = np.unique(words, return_inverse=True)
    terms = int(term.max()) + 1 if len(term) else 0
    pairs = np.unique(row * max(terms, 1) + term)  # each word of a row once
    row, term = pairs // max(terms, 1), pairs % max(terms, 1)
    spoken = lengths > 0
    clusters, rows_in = np.unique(labels[spoken], return_counts=True)
    if len(clusters) < 2:
        raise ValueError(f"a divergence between clusters needs at least 2 clusters with words, got {len(clusters)}")
    frequency = np.bincount(term, minlength=terms)
    order = np.argsort(labels[row], kind="stable")
    parts = np.split(term[order], np.searchsorted(labels[row][order], clusters[1:]))
    total = 0.0
    for inside, n in zip(parts, rows_in, strict=True):
        here = np.bincount(inside, minlength=terms)
        total += _jensen_shannon(_idf(here, int(n)), _idf(frequency - here, int(spoken.sum() - n)))
    return total / len(clusters)  # Eq. 31


def _idf(frequency: IntArray, rows: int) -> FloatArray:
    """ln(1 + n / df), 0 where the word does not occur, summing to 1."""
    weight = np.where(frequency > 0, np.log1p(rows / np.maximum(frequency, 1)), 0.0)
    return np.asarray(weight / weight.sum(), np.float64)


def _jensen_shannon(p: FloatArray, q: FloatArray) -> float:
    """½ Σ p·log₂(p/m) + ½ Σ q·log₂(q/m), m = (p + q)/2."""
    middle = (p + q) / 2
    halves = 0.0
    for side in (p, q):
        there = side > 0
        halves += float((side[there] * np.log2(side[there] / middle[there])).sum()) / 2
    return min(max(halves, 0.0), 1.0)

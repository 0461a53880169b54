# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Distinct-n: how rarely words, or runs of words, repeat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def distinct(words: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], *, n: int = 1) -> float:
    """The number of different n-grams in a set of texts, divided by its number of words.

    distinct-n = |{n-grams}| / |words|, in [0, 1]; 1 for n = 1 when no word comes twice. An n-gram lies within one text.
    It falls as texts are added, whatever they say: compare sets with the same number of words.

    Args:
        words: int64, the words of all texts one after the other, as numbers (see `word_numbers`).
        lengths: int64, how many words each text has; they sum to `len(words)`.
        n: length of the n-grams.

    Raises:
        ValueError: no words, lengths that do not add up, or n below 1.

    Source: Li et al. 2016; survey, Sec. 4.1.

    Differs: over a set of texts, as Li et al. count a system's answers, where the survey writes it for one text.

    >>> words, lengths = np.array([0, 1, 0, 1, 0, 1]), np.array([4, 2])  # "a b a b" and "a b"
    >>> round(distinct(words, lengths), 3), round(distinct(words, lengths, n=2), 3)
    (0.333, 0.333)
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1: 1 counts words, 2 pairs of neighbours")
    if int(lengths.sum()) != len(words):
        raise ValueError(f"the lengths sum to {int(lengths.sum())}, but there are {len(words)} words")
    if len(words) == 0:
        raise ValueError("distinct-n of no words is undefined; give at least one text with a word")
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))  # words from here to the end of the text
    _, terms = np.unique(words, return_inverse=True)
    grams = terms
    for at in range(1, min(n, len(words))):  # grams of at + 1 words from those of at words
        _, grams = np.unique(grams[:-1] * (terms.max() + 1) + terms[at:], return_inverse=True)
    return len(np.unique(grams[left[: len(grams)] >= n])) / len(words)  # Σ 1 / |words|

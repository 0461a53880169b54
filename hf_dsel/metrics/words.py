# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Texts as words, and words as numbers: what the lexical metrics count."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class _Cleaning(dict[int, str | None]):
    """For `str.translate`: digits and dashes go, other punctuation and symbols become a space."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        if kind in ("Nd", "Pd"):
            self[code] = None
        else:
            self[code] = " " if kind[0] in "PS" else chr(code)
        return self[code]


_CLEANING = _Cleaning()


def split_words(text: str) -> list[str]:
    """The words of a text: lower case, digits and dashes deleted (halves joined), other punctuation as a space.

    A language written without spaces gives a word for each run of letters.

    >>> split_words("Don't re-use 3 well-known words!")
    ['don', 't', 'reuse', 'wellknown', 'words']
    """
    return text.lower().translate(_CLEANING).split()


def word_numbers(texts: Iterable[str]) -> tuple[IntArray, IntArray]:
    """Every word of every text as a number that equal words share, counted from 0 in the order in which they appear.

    Args:
        texts: any number of texts.

    Returns:
        (words, lengths): int64, the numbers of all texts one after the other, and how many words each text has.

    >>> word_numbers(["a b a", "", "b c"])
    (array([0, 1, 0, 1, 2]), array([3, 0, 2]))
    """
    known: dict[str, int] = {}
    numbers: list[int] = []
    lengths: list[int] = []
    for text in texts:
        words = split_words(text)
        numbers += [known.setdefault(word, len(known)) for word in words]
        lengths.append(len(words))
    return np.array(numbers, np.int64), np.array(lengths, np.int64)

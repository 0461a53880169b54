# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The n-grams of a row as numbers, for strategies that compare rows by their wording."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
import xxhash
from datasets import List, Value

from hf_dsel import rows
from hf_dsel.scorers import options
from hf_dsel.scorers.texts import Of, parts_of

ALGORITHM = 1
UIntArray = npt.NDArray[np.uint64]


@dataclass
class NGrams:
    """The runs of 1 to `longest` words of the instruction, the response, or both, each as a number of 64 bits.

    Writes the column `<of>_ngrams`, by default `response_ngrams`, and its status: a list with the number of every
    n-gram, as often as it occurs. Equal n-grams have equal numbers in every dataset. Different ones share a number by
    chance: among two million, any two with a probability of 1e-7. About 20 bytes a word of text and 1 s for 35,000
    Alpaca answers.

    Words are lower case; punctuation and symbols part them. A language written without spaces gives a word for each run
    of letters. An n-gram lies within one message.

    Args:
        of: "instruction" (the last user message before a response; the whole text of a plain-text row), "response",
            or "example", both. System messages do not count.
        longest: words of the longest n-grams, from 1 on.
        turns: "all", "first" or "last".
        side: which response of a preference pair; the column of the rejected one is `rejected_<of>_ngrams`.

    Raises:
        ValueError: an option outside its range.

    An empty response has no n-grams. A row without any response is null ("no response").

    >>> [of_row] = NGrams(longest=2)({"prompt": ["Hi!"], "completion": ["To be. Be!"]})["response_ngrams"]
    >>> len(of_row), len(set(of_row))  # to, be, be; to be, be be
    (5, 4)
    """

    _: KW_ONLY
    of: Of = "response"
    longest: int = 3
    turns: rows.Which = "all"
    side: rows.Side = "chosen"
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        options.check_choice("of", self.of, get_args(Of))
        options.check_shared(self)
        if isinstance(self.longest, bool) or not isinstance(self.longest, int) or self.longest < 1:
            raise ValueError(f"longest={self.longest!r}; it is a number of words, from 1 on")

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the n-grams depend on, as JSON."""
        return options.settings_of(self, ALGORITHM)

    def features(self) -> dict[str, Any]:
        """The columns that it writes: lists of unsigned 64-bit numbers, of any length."""
        return {self._column: List(Value("uint64")), f"{self._column}_status": Value("string")}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None: there is no pass to share."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns."""
        options.check_rows(column_names, self.side)

    @property
    def _column(self) -> str:
        return f"{'rejected_' if self.side == 'rejected' else ''}{self.of}_ngrams"

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        texts: list[str] = []
        of_text: list[int] = []
        statuses: list[str] = []
        for i, row in enumerate(rows.read(batch, side=self.side)):
            turns = row.chosen_turns(self.turns, history=True)
            parts = [parts_of(turn, self.of) for turn in turns]
            reason = row.problem or (None if any(parts) else "no response")
            statuses.append(reason or "ok")
            found = [] if reason else [text for of_turn in parts for text in of_turn]
            texts += found
            of_text += [i] * len(found)
        numbers, of_number = ngram_numbers(texts, self.longest)
        row_of = np.asarray(of_text, np.int64)[of_number]
        order = np.argsort(row_of, kind="stable")
        ends = np.cumsum(np.bincount(row_of, minlength=len(statuses)))
        per_row = np.split(numbers[order], ends[:-1]) if statuses else []
        if self.on_rows is not None:
            self.on_rows(len(statuses))
        return {
            self._column: [of_row if s == "ok" else None for of_row, s in zip(per_row, statuses, strict=True)],
            f"{self._column}_status": statuses,
        }


class _Spacing(dict[int, str]):
    """For `str.translate`: punctuation, symbols, separators and control characters become a space."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = " " if unicodedata.category(letter)[0] in "PSZC" else letter
        return self[code]


_SPACING = _Spacing()


def words_of(text: str) -> list[str]:
    """The words of a text: lower case, parted by whatever is no letter, mark or digit.

    >>> words_of("Don't add 2 to x_1!")
    ['don', 't', 'add', '2', 'to', 'x', '1']
    """
    return text.lower().translate(_SPACING).split()


def ngram_numbers(texts: Iterable[str], longest: int) -> tuple[UIntArray, npt.NDArray[np.int64]]:
    """Every n-gram of 1 to `longest` words of every text as a number, and the text it is from.

    >>> numbers, text = ngram_numbers(["a b a", "a b"], 2)
    >>> text.tolist(), len(numbers), len(set(numbers.tolist()))
    ([0, 0, 0, 1, 1, 0, 0, 1], 8, 4)
    """
    known: dict[str, int] = {}
    places: list[int] = []
    lengths: list[int] = []
    for text in texts:
        spoken = words_of(text)
        places += [known.setdefault(word, len(known)) for word in spoken]
        lengths.append(len(spoken))
    hashed = np.array([xxhash.xxh64_intdigest(word.encode()) for word in known], np.uint64)
    count = np.array(lengths, np.int64)
    words = hashed[np.array(places, np.int64)]
    text_of = np.repeat(np.arange(len(count)), count)
    left = np.repeat(np.cumsum(count), count) - np.arange(len(words))  # words from here to the end of the text
    grams, numbers, texts_of = words, [words], [text_of]
    for n in range(2, longest + 1):
        grams = _mixed(grams[:-1], words[n - 1 :])
        whole = left[: len(grams)] >= n
        numbers.append(grams[whole])
        texts_of.append(text_of[: len(grams)][whole])
    return np.concatenate(numbers), np.concatenate(texts_of)


def _mixed(grams: UIntArray, words: UIntArray) -> UIntArray:
    """A number for each n-gram and the word behind it, by the finaliser of SplitMix64."""
    x = grams * np.uint64(0x9E3779B97F4A7C15) + words
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

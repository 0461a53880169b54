# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Numbers of an instruction and its answer that need no model: length, characters, repetition, ending, overlap."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# classes of characters: name, first and last code points; of two that hold a character, the later one has it
_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "lower": ((97, 122),), "upper": ((65, 90),), "digit": ((48, 57),), "space": ((32, 32), (9, 9), (0xA0, 0xA0)),
    "line": ((10, 10), (13, 13)), "opening": ((40, 40), (91, 91), (123, 123)),
    "closing": ((41, 41), (93, 93), (125, 125)), "quote": ((34, 34), (39, 39), (96, 96), (0x2018, 0x201F)),
    "mark": ((38, 38), (60, 60), (62, 62), (92, 92), (47, 47), (35, 35), (124, 124), (95, 95)),
    "operator": ((42, 43), (61, 61), (36, 37), (64, 64), (94, 94), (126, 126)),
    "accented": ((0xC0, 0x24F),), "odd": ((0x80, 0x9F), (0xA1, 0xBF), (0x2020, 0x2122), (0x2010, 0x2017)),
    "bad": ((0, 8), (11, 12), (14, 31), (127, 127), (0xD800, 0xDFFF), (0xE000, 0xF8FF), (0xFFFD, 0xFFFF)),
    "other_script": ((0x370, 0x1FFF), (0xA000, 0xD7FF), (0xFB00, 0xFEFF), (0xFF10, 0xFFDC), (0x10000, 0x10FFFF)),
    "ideograph": ((0x2E80, 0x2FFF), (0x3005, 0x3007), (0x3041, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    "stop": ((33, 33), (46, 46), (63, 63), (0x2026, 0x2026), (0x3002, 0x3002), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E),
             (0xFF1F, 0xFF1F), (0x964, 0x965), (0x61F, 0x61F), (0x6D4, 0x6D4)),
    "pause": ((44, 44), (58, 59), (45, 45), (0x3001, 0x3001), (0xFF0C, 0xFF0C), (0xFF1A, 0xFF1B), (0x60C, 0x60C)),
}  # fmt: skip
_NAMES = (*_RANGES, "else")
_TABLE = np.full(0x110000, len(_RANGES), np.uint8)
for _number, _of_class in enumerate(_RANGES.values()):
    for _first, _last in _of_class:
        _TABLE[_first : _last + 1] = _number
_WORDS = {"lower", "upper", "digit", "accented", "other_script", "ideograph"}
_IN_WORD = np.array([name in _WORDS for name in _NAMES])
_ALONE = np.array([name == "ideograph" for name in _NAMES])  # a word of its own: no spaces between words there
_BLANK = np.array([name in ("space", "line") for name in _NAMES])
_LOWER = np.array([ord(c) if len(c := chr(i).lower()) == 1 else i for i in range(0x600)], np.uint32)
_GRAMS = 1 << 20
_STEP = np.uint64(0x9E3779B97F4A7C15)
_SLOT = np.uint64(44)
with np.errstate(over="ignore"):
    _POWERS = np.cumprod(np.full(256, 0x100000001B3, np.uint64))
WINDOW = 48


@dataclass(frozen=True)
class Texts:
    """Many texts as one array of code points, with the words in it."""

    points: npt.NDArray[np.uint32]
    starts: Ints
    words: npt.NDArray[np.uint64]
    word_starts: Ints

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Read the texts; a word is a run of letters and digits, in lower case, or one ideograph."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)
        starts = _starts(lengths)
        kind = _TABLE[points]
        inside, alone = _IN_WORD[kind], _ALONE[kind]
        first = inside.copy()
        first[1:] &= ~inside[:-1] | alone[1:] | alone[:-1]
        edges = starts[:-1][lengths > 0]
        first[edges] = inside[edges]
        begin = np.flatnonzero(first)
        letters = np.flatnonzero(inside)
        at = np.searchsorted(letters, begin)  # of the words' first letters among the letters
        size = np.diff(np.append(at, len(letters)))
        low = points[letters]
        low = np.where(low < len(_LOWER), _LOWER[np.minimum(low, len(_LOWER) - 1)], low)
        place = np.arange(len(letters)) - np.repeat(at, size)
        code = (low.astype(np.uint64) + np.uint64(1)) * _POWERS[place & 255]
        sums = np.add.reduceat(code, at) * _STEP if len(at) else np.empty(0, np.uint64)
        words = (sums ^ (sums >> np.uint64(32))) * _STEP  # like words get unlike numbers
        return cls(points, starts, words, np.searchsorted(begin, starts))

    def __len__(self) -> int:
        """How many texts."""
        return len(self.starts) - 1

    def trigrams(self) -> tuple[Ints, Ints]:
        """The number below 2^20 of each three characters in a row, and where the texts begin."""
        p = self.points.astype(np.uint64)
        grams = ((p[:-2] * _STEP + p[1:-1]) * _STEP + p[2:]) * _STEP >> _SLOT
        return _within(grams.astype(np.int64), self.starts, 2)

    def word_pairs(self) -> tuple[Ints, Ints]:
        """The number below 2^20 of each two words in a row, and where the texts begin."""
        pairs, starts = self._pairs()
        return (pairs >> _SLOT).astype(np.int64), starts

    def _pairs(self) -> tuple[npt.NDArray[np.uint64], Ints]:
        return _within(((self.words[:-1] * _STEP) ^ self.words[1:]) * _STEP, self.word_starts, 1)


@dataclass(frozen=True)
class Familiar:
    """How often three characters and two words follow each other in some texts."""

    trigrams: Floats
    words: Floats
    pairs: Floats

    @classmethod
    def of(cls, texts: Texts) -> Familiar:
        """Count them."""
        counts = [texts.trigrams()[0], _slot(texts.words), texts.word_pairs()[0]]
        return cls(*(np.bincount(c, minlength=_GRAMS).astype(np.float32) for c in counts))

    def of_texts(self, texts: Texts) -> Floats:
        """`texts x 5`: mean and worst log frequency of trigrams, of words, share of unknown words, of known pairs."""
        grams, at = texts.trigrams()
        level = np.log((self.trigrams[grams] + 0.5) / (self.trigrams.sum() + 1))
        low = np.log(0.5 / (self.trigrams.sum() + 1))
        slots = _slot(texts.words)
        frequency = np.log((self.words[slots] + 0.5) / (self.words.sum() + 1))
        pairs, pairs_at = texts.word_pairs()
        columns = [
            _mean(level, at, low),
            _worst(level, at, low),
            _mean(frequency, texts.word_starts, np.log(0.5 / (self.words.sum() + 1))),
            _mean((self.words[slots] < 1).astype(np.float32), texts.word_starts, 1.0),
            _mean((self.pairs[pairs] > 0).astype(np.float32), pairs_at, 0.0),
        ]
        return np.stack(columns, 1).astype(np.float32)


def text_statistics(texts: Texts, strings: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """`texts x numbers`, and the names of the numbers.

    Args:
        texts: the same strings, read.
        strings: for the compression, which works on bytes.
    """
    if len(strings) != len(texts):
        raise ValueError(f"{len(texts)} texts and {len(strings)} strings; they are the same texts")
    n, lengths = len(texts), np.diff(texts.starts)
    kind = _TABLE[texts.points]
    of_kind = np.bincount(_row_of(texts.starts) * len(_NAMES) + kind, minlength=n * len(_NAMES))
    counts = dict(zip(_NAMES, of_kind.reshape(n, len(_NAMES)).T.astype(np.float64), strict=True))
    columns: dict[str, npt.NDArray[np.floating]] = {}
    words = np.diff(texts.word_starts)
    columns["chars"] = np.log1p(lengths)
    columns["words"] = np.log1p(words)
    columns["word_chars"] = sum((counts[name] for name in _WORDS), np.zeros(n)) / (words + 1)
    for name, count in counts.items():
        columns[f"share_{name}"] = count / np.maximum(lengths, 1)
    brackets = counts["opening"] + counts["closing"]
    columns["unbalanced"] = np.abs(counts["opening"] - counts["closing"]) / (1 + brackets)
    columns["stops"] = counts["stop"] / (words + 1)
    solid = ~_BLANK[kind]
    where = np.flatnonzero(solid)
    after = np.searchsorted(where, texts.starts)
    full = after[1:] > after[:-1]
    last, first = np.full(n, 255), np.full(n, 255)
    last[full] = kind[where[after[1:][full] - 1]]
    first[full] = kind[where[after[:-1][full]]]
    for name in ("stop", "pause", "closing", "quote", "digit", "lower", "mark"):
        columns[f"ends_{name}"] = (last == _NAMES.index(name)).astype(np.float32)
    for name in ("upper", "lower", "digit", "stop", "pause", "closing"):
        columns[f"starts_{name}"] = (first == _NAMES.index(name)).astype(np.float32)
    columns["ends_blank"] = np.zeros(n)
    some = lengths > 0
    columns["ends_blank"][some] = ~solid[texts.starts[1:][some] - 1]
    columns["squeezed"] = np.fromiter(map(_squeezed, strings), np.float64, n)
    columns["distinct_words"] = _distinct(texts.words, texts.word_starts) / (words + 1)
    pairs, at = texts._pairs()
    columns["distinct_pairs"] = (_distinct(pairs, at) + 1) / (np.diff(at) + 1)
    for name, top in (("chars", 8), ("words", 6)):  # short answers are a kind of their own
        columns[f"short_{name}"] = np.maximum(0, top - columns[name]) ** 2 / top
    return np.stack(list(columns.values()), 1).astype(np.float32), tuple(columns)


def overlap(left: Texts, right: Texts) -> Floats:
    """`texts x 2`: the share of the words of each text on the right that its neighbour on the left has; and back."""
    return np.stack([_shared(right, left), _shared(left, right)], 1)


def _squeezed(text: str) -> float:
    start = text[:4000]
    return len(zlib.compress(start.encode("utf-8", "surrogatepass")[:4000], 1)) / (len(start) + 20)


def _shared(of: Texts, among: Texts) -> Floats:
    there, wanted = np.sort(_of_row(among.words, among.word_starts)), _of_row(of.words, of.word_starts)
    found = np.zeros(len(wanted), np.float32)
    if len(there):
        found[there[np.searchsorted(there, wanted).clip(max=len(there) - 1)] == wanted] = 1.0
    return _mean(found, of.word_starts, 0.0)


def _distinct(items: npt.NDArray[np.uint64], starts: Ints) -> npt.NDArray[np.float64]:
    keys = np.sort(_of_row(items, starts))
    new = np.ones(len(keys), bool)
    new[1:] = keys[1:] != keys[:-1]
    return _mean(new, starts, 0.0).astype(np.float64) * np.diff(starts)


def _of_row(items: npt.NDArray[np.uint64], starts: Ints) -> npt.NDArray[np.uint64]:
    """Items as numbers that start with their row's and are the same for the same item of a row."""
    bits = np.uint64(max(1, (len(starts) - 1).bit_length()))
    return (_row_of(starts).astype(np.uint64) << (np.uint64(64) - bits)) | (items >> bits)


def _row_of(starts: Ints) -> Ints:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _starts(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _sums(values: npt.NDArray[np.floating] | npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(values, dtype=np.float64)])


def _mean(values: npt.NDArray[np.floating] | npt.NDArray[np.bool_], starts: Ints, empty: float) -> Floats:
    """The mean of each text's values."""
    sums = _sums(values)
    size = np.diff(starts)
    total = sums[starts[1:]] - sums[starts[:-1]]
    return np.where(size > 0, total / np.maximum(size, 1), empty).astype(np.float32)


def _worst(values: npt.NDArray[np.floating], starts: Ints, empty: float) -> Floats:
    """The lowest mean of `WINDOW` values in a row; of all of them where there are fewer."""
    sums = _sums(values)
    out = _mean(values, starts, empty)
    if len(values) < WINDOW:
        return out
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    size = np.diff(starts)
    long = np.flatnonzero(size >= WINDOW)
    if not len(long):
        return out
    bounds = np.stack([starts[:-1][long], starts[1:][long] - WINDOW + 1], 1).ravel()
    padded = np.append(means, np.inf)
    out[long] = np.minimum.reduceat(padded, bounds)[::2]
    return out


_Gram = TypeVar("_Gram", np.int64, np.uint64)


def _within(grams: npt.NDArray[_Gram], starts: Ints, lost: int) -> tuple[npt.NDArray[_Gram], Ints]:
    """Grams that lie within one text, and where the texts begin among them."""
    size = np.maximum(np.diff(starts) - lost, 0)
    keep = np.zeros(len(grams) + lost + 1, np.int64)
    some = size > 0
    keep[starts[:-1][some]] += 1
    keep[(starts[:-1] + size)[some]] -= 1
    return grams[np.cumsum(keep[: len(grams)]) > 0], _starts(size)


def _slot(words: npt.NDArray[np.uint64]) -> Ints:
    return (words >> _SLOT).astype(np.int64)

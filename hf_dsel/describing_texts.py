# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The lines of `describe` that read text. All sets are compared at one size, since these numbers hang on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.described_sets import Sets
from hf_dsel.description import Estimate, Metric
from hf_dsel.metrics.distinct import distinct
from hf_dsel.metrics.inter_cluster_divergence import inter_cluster_divergence
from hf_dsel.metrics.verb_noun_pairs import verb_noun_pairs
from hf_dsel.metrics.words import word_numbers
from hf_dsel.progress import count
from hf_dsel.rows import UnknownFormat, detect, read, text_columns

TEXTS = 10_000  # rows of a set whose text is read
WORDS = 200_000  # words of a set that distinct-n counts
PARSED = 2_000  # instructions of a set that the parser reads
PARTS = 5  # samples of one size from a set that is larger

IntArray = npt.NDArray[np.int64]
Parser = Callable[[Iterable[str]], Iterable[Any]]


@dataclass
class TextLines:
    """The lines, notes on them, and what is missing."""

    metrics: list[Metric] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Texts:
    """Some rows of a set: their places in it, and whether they are all of it."""

    positions: IntArray
    whole: bool
    rows: int
    instructions: list[str]
    responses: list[str]
    response_words: npt.NDArray[np.float64]


def text_lines(
    sets: Sets, labels: list[IntArray | None] | None, parser: Parser | None, rng: np.random.Generator
) -> TextLines:
    """Words a response, distinct-1 and -2, the divergence of clusters, and verb-noun pairs.

    Args:
        sets: what to describe.
        labels: the cluster of every row of every set, for the divergence; None leaves it out.
        parser: texts to spaCy parses, for the verb-noun pairs; None leaves them out.
        rng: for the samples.
    """
    lines = TextLines()
    try:
        names = text_columns(sets.pool.column_names)
        kind = detect(sets.pool.column_names)
    except UnknownFormat as error:
        lines.left_out.append(f"what reads text: {error}")
        return lines
    found = [_read(sets, i, names, rng) for i in range(len(sets.members))]
    if kind == "preference":
        lines.notes.append("text: of the chosen answers")
    sampled = {t.rows for t in found if t is not None and not t.whole}
    if sampled:
        of = " and ".join(f"{n:,}" for n in sorted(sampled))
        lines.notes.append(f"text: {TEXTS:,} rows drawn from each set that has more ({of} rows)")

    def add(title: str, numbers: list[Estimate | None], **rest: Any) -> None:
        if any(n is not None for n in numbers):
            lines.metrics.append(Metric.of(title, numbers, subset=sets.subset, **rest))

    add("response words, mean", [None if t is None else _mean_words(t) for t in found], decimals=1)
    for what, texts_of in (("instructions", lambda t: t.instructions), ("responses", lambda t: t.responses)):
        _add_distinct(what, found, texts_of, add, lines, rng)
    if labels is not None:
        _add_divergence(found, labels, add, lines, rng)
    if parser is not None:
        _add_pairs(found, parser, add, lines, rng)
    return lines


def _read(sets: Sets, member: int, names: list[str], rng: np.random.Generator) -> _Texts | None:
    chosen = sets.members[member]
    if chosen.rows is None and not set(names) <= set(chosen.own.column_names if chosen.own is not None else ()):
        return None
    whole = len(chosen) <= TEXTS
    drawn = np.arange(len(chosen)) if whole else np.sort(rng.choice(len(chosen), TEXTS, replace=False))
    places, instructions, responses, words = [], [], [], []
    at = 0
    for batch in sets.texts(chosen, names, drawn).iter(batch_size=1000):
        for row in read(batch):
            if row.problem is None:
                answers = [t.response for t in row.turns if t.response is not None]
                places.append(drawn[at])
                instructions.append("\n".join(t.instruction for t in row.turns))
                responses.append("\n".join(answers))
                words.append(sum(len(a.split()) for a in answers) if answers else np.nan)
            at += 1
    return _Texts(np.array(places, np.int64), whole, len(chosen), instructions, responses, np.array(words, np.float64))


def _mean_words(texts: _Texts) -> Estimate | None:
    known = texts.response_words[~np.isnan(texts.response_words)]
    if len(known) == 0:
        return None
    return Estimate.of_mean(known, len(known) if texts.whole else texts.rows)


def parts(
    lengths: IntArray, size: int, *, whole: bool, rng: np.random.Generator
) -> list[tuple[IntArray, IntArray, IntArray]]:
    """Samples of `size` words (or rows, where all lengths are 1) from a set, in random order of its rows.

    A set that is here whole gives all of it when that is its size, else the beginnings of 5 orders; one of which only a
    sample is here gives 5 pieces without a common word, so that they vary as new samples would.

    Args:
        lengths: words a row.
        size: at most the sum of `lengths`; a fifth of it for a sample.
        whole: whether these rows are all of the set.
        rng: for the orders.

    Returns:
        for each sample (rows, kept, skipped): how many words of each row count, after how many others.
    """
    if whole and size == int(lengths.sum()):
        spoken = np.flatnonzero(lengths)
        return [(spoken, lengths[spoken], np.zeros(len(spoken), np.int64))]
    order = rng.permutation(len(lengths))
    found = []
    for i in range(PARTS):
        if whole and i:
            order = rng.permutation(len(lengths))
        first = 0 if whole else i * size
        end = np.cumsum(lengths[order])
        begin = end - lengths[order]
        skipped = np.maximum(first - begin, 0)
        kept = np.minimum(end, first + size) - begin - skipped
        here = kept > 0
        found.append((order[here], kept[here], skipped[here]))
    return found


def _size(totals: Iterable[tuple[int, bool]], most: int) -> int:
    """The size that every set reaches: a fifth of those that are samples."""
    return min([most, *(n if whole else n // PARTS for n, whole in totals)])


def _add_distinct(what: str, found: list[_Texts | None], texts_of: Any, add: Any, lines: TextLines, rng: Any) -> None:
    numbers = [None if t is None else word_numbers(texts_of(t)) for t in found]
    there = [(n, t) for n, t in zip(numbers, found, strict=True) if n is not None and t is not None and len(n[0])]
    size = _size([(len(n[0]), t.whole) for n, t in there], WORDS) if there else 0
    if size < 2:
        return
    values: list[tuple[Estimate | None, Estimate | None]] = []
    for n, t in zip(numbers, found, strict=True):
        if n is None or t is None or len(n[0]) == 0:
            values.append((None, None))
            continue
        words, lengths = n
        start = np.cumsum(lengths) - lengths
        samples = []
        for rows, kept, skipped in parts(lengths, size, whole=t.whole, rng=rng):
            at = np.repeat(start[rows] + skipped - (np.cumsum(kept) - kept), kept) + np.arange(size)
            samples.append((words[at], kept))
        one, two = ([distinct(w, k, n=gram) for w, k in samples] for gram in (1, 2))
        values.append((Estimate.of_parts(one, size), Estimate.of_parts(two, size)))
    for gram in (1, 2):
        numbers_of = [pair[gram - 1] for pair in values]
        add(f"distinct-{gram}, {what}", numbers_of, diverse="higher", source="survey, Sec. 4.1")
    lines.notes.append(f"distinct-n, {what}: of {size:,} words of each set, as many as all have")


def _add_divergence(
    found: list[_Texts | None], labels: list[IntArray | None], add: Any, lines: TextLines, rng: Any
) -> None:
    usable: list[tuple[IntArray, IntArray, IntArray, bool] | None] = []
    for texts, label in zip(found, labels, strict=True):
        if texts is None or label is None:
            usable.append(None)
            continue
        kept = np.flatnonzero(label[texts.positions] >= 0)
        both = [f"{texts.instructions[i]}\n{texts.responses[i]}" for i in kept]
        words, lengths = word_numbers(both)
        usable.append((words, lengths, label[texts.positions[kept]], texts.whole))
    size = _size([(len(u[1]), u[3]) for u in usable if u is not None], TEXTS)

    def number(words: IntArray, lengths: IntArray, label: IntArray, whole: bool) -> Estimate | None:
        start = np.cumsum(lengths) - lengths
        values = []
        for rows, _, _ in parts(np.ones(len(lengths), np.int64), size, whole=whole, rng=rng):
            n = lengths[rows]
            at = np.repeat(start[rows] - (np.cumsum(n) - n), n) + np.arange(int(n.sum()))
            if len(np.unique(label[rows][n > 0])) < 2:
                return None
            values.append(inter_cluster_divergence(words[at], n, label[rows]))
        return Estimate.of_parts(values, size)

    if size < 2:
        return
    numbers = [None if u is None else number(*u) for u in usable]
    add("inter-cluster divergence, bits", numbers, diverse="higher", source="survey, Eq. 31")
    lines.notes.append(f"inter-cluster divergence: of {size:,} rows of each set, as many as all have")


def _add_pairs(found: list[_Texts | None], parser: Parser, add: Any, lines: TextLines, rng: Any) -> None:
    parsed: list[tuple[list[tuple[str, str] | None], bool] | None] = []
    for texts in found:
        if texts is None:
            parsed.append(None)
            continue
        n = len(texts.instructions)
        some = range(n) if n <= PARSED else np.sort(rng.choice(n, PARSED, replace=False))
        pairs = verb_noun_pairs(parser([texts.instructions[i] for i in some]))
        parsed.append((pairs, texts.whole and n <= PARSED))
    size = _size([(len(p[0]), p[1]) for p in parsed if p is not None], PARSED)
    if size < 1:
        return
    numbers: list[Estimate | None] = []
    for p in parsed:
        if p is None:
            numbers.append(None)
            continue
        samples = parts(np.ones(len(p[0]), np.int64), size, whole=p[1], rng=rng)
        values = [len({p[0][i] for i in rows} - {None}) for rows, _, _ in samples]
        numbers.append(Estimate.of_parts([float(v) for v in values], size))
    add("verb-noun pairs", numbers, diverse="higher", source="Self-Instruct, Sec. 3.3", decimals=0)
    lines.notes.append(f"verb-noun pairs: distinct ones among {count(size, 'instruction')} of each set")

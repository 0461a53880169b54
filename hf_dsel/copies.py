# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Exact and near copies of rows: which rows say the same, and which of them stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.card_markdown import visible
from hf_dsel.columns import read_column
from hf_dsel.ops.plain_words import plain_words
from hf_dsel.ops.star_groups import star_groups
from hf_dsel.progress import count, say
from hf_dsel.row_keys import RowKeys, row_keys
from hf_dsel.scorer_marks import scorers_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
GATE = "gate"  # the probability that a row is sound
SHOWN, LETTERS = 3, 100


@dataclass(frozen=True, eq=False)
class Copies:
    """The groups of rows that are copies of each other. `str()` prints a short report.

    `best`: int64 (rows,), the row that stays of each row's group; a row without copies is its own. `group`: int64
    (rows,), the number of the row's group, the largest group first; -1 for a row without copies. `sizes`: int64
    (groups,), rows in each. `by_text`: bool (rows,), rows that do not stay because a better row has their text; the
    others that do not stay are near to it by `embedding`, with a cosine of `similarity` or more. `problems`: how many
    rows have no text that can be read, by reason; these are copies of nothing by text. `examples`: the beginnings of
    the rows that stay of the largest groups.
    """

    best: Ints
    group: Ints
    sizes: Ints
    by_text: Bools
    embedding: str | None
    similarity: float
    problems: dict[str, int]
    examples: tuple[str, ...]

    @property
    def stays(self) -> Bools:
        """For each row whether it stays: the best of its group, or without copies."""
        return np.asarray(self.best == np.arange(len(self.best)), np.bool_)

    @property
    def kept(self) -> Ints:
        """The rows that stay, in their order: `dataset.select(copies.kept)`."""
        return np.flatnonzero(self.stays)

    def left_out(self) -> dict[str, int]:
        """How many rows do not stay, by what they have."""
        near = int((~self.stays & ~self.by_text).sum())
        found = {
            "a better copy (text)": int(self.by_text.sum()),
            f"a better copy ({self.embedding}, cosine {self.similarity:g} or more)": near,
        }
        return {why: n for why, n in found.items() if n}

    def __str__(self) -> str:
        """How many groups and rows, found how, and the largest."""
        return self.report()

    def report(self, numbers: Ints | None = None) -> str:
        """The same, for rows that are part of a larger dataset: `numbers` are theirs in it."""
        tests = "text" if self.embedding is None else f"text and {self.embedding} (cosine {self.similarity:g} or more)"
        there = int(self.sizes.sum())
        lines = [f"{count(len(self.best), 'row')}, compared by {tests}"]
        if len(self.sizes) == 0:
            lines.append("no copies")
        else:
            groups = f"{count(len(self.sizes), 'group')} of copies with {count(there, 'row')}"
            lines.append(f"{groups}; {len(self.sizes):,} of them stay, {there - len(self.sizes):,} do not")
        lines += [f"  {count(n, 'row')} with {why}" for why, n in self.left_out().items()]
        lines += [
            f"  {count(n, 'row')} without text that can be read: {visible(why)}" for why, n in self.problems.items()
        ]
        for number, text in enumerate(self.examples):
            best = self._best_of(number)
            row = best if numbers is None else int(numbers[best])
            lines.append(f"  {count(int(self.sizes[number]), 'row')} like row {row:,}: {text}")
        return "\n".join(lines)

    def _best_of(self, number: int) -> int:
        return int(self.best[np.argmax(self.group == number)])


def find_copies(
    dataset: Dataset,
    *,
    embedding: str | None = None,
    similarity: float = 0.95,
    quality: str | None = None,
    device: str | None = None,
) -> Copies:
    """The rows that are copies of a better row, by their text and, if asked, by their embeddings.

    By text: rows with the same messages in the same roles, instruction and response, all turns, both sides of a
    preference pair, after case, spacing, sentence marks, quotes and courtesy ("please", "sure, here is") are taken away
    (`hf_dsel.ops.plain_words`). Rows in which anything else differs, such as a system message, are not copies by text.

    By embedding: star groups around the row that stays,

        for row in order, best first:  it goes to the best row that stays with  cos(row, that row) ≥ similarity,
                                       and stays where there is none

    so that each row that goes is near one that stays, and those that stay are all less similar than that. Union-find
    would tie rows that are nothing alike into one group, by a chain of near pairs, and keep one of them.

    Near in an embedding is not yet a copy. `hf_dsel.Embed` reads the instruction alone by default, so other answers to
    a near question are found too; `Embed(model, of="example")` reads both. Sentence encoders hardly read numbers and
    names: one exercise with other figures is near. Read the report before you trust a threshold.

    The best row of a group has the largest value in the column `gate`, if there is one, to two decimals; of these the
    largest `quality`, if it is given; of these it is the first row. A null is worse than any number.

    Args:
        dataset: rows of any format that `hf_dsel.rows` reads.
        embedding: a column of vectors; rows with null are compared by text alone.
        similarity: the cosine from which on two rows are copies, in (0, 1].
        quality: a column of numbers, higher is better.
        device: where embeddings are compared; default `cuda` if there is one, else the CPU.

    Raises:
        UnknownFormat: the columns are in no format that hf_dsel reads.
        MissingColumn, BadColumn: a column that is named is not there, or cannot be read.
        ValueError: similarity out of range.
        TypeError: not a Dataset; a column of another kind.

    Source: the star groups are the rule of DEITA, Algorithm 1 (Liu et al. 2024), with each row's group noted.

    >>> pool = Dataset.from_dict({"instruction": ["Add 1 and 2.", "please add 1 and 2", "Sing!"], "output": ["3"] * 3})
    >>> find_copies(pool).best
    array([0, 0, 2])
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"find_copies takes a Dataset, got {type(dataset).__name__}; give one split, not streamed")
    check_similarity(similarity)
    order = _best_first(dataset, quality)
    vectors = None if embedding is None else read_column(dataset, embedding)
    if vectors is not None and vectors.values.ndim != 2:
        raise TypeError(f"column {embedding!r} holds no vectors; embedding names a column that hf_dsel.Embed wrote")
    if embedding is not None and scorers_of(dataset).get(embedding, {}).get("of") == "instruction":
        say(f"{embedding!r} is of the instruction alone, so other answers to a near question count as copies")
    keys = row_keys(dataset, form=plain_words)
    best = _same_text(keys, order)
    by_text = best != np.arange(len(best))
    if vectors is not None:
        at = order[~by_text[order] & vectors.valid[order]]  # one of each text, best first
        if len(at):
            values, places = vectors.values, at
            if not vectors.valid.all():
                values, places = vectors.values[vectors.valid], (np.cumsum(vectors.valid) - 1)[at]
            centre = star_groups(values, order=places, similarity=similarity, device=device)
            here = np.empty(len(values), np.int64)
            here[places] = at
            best[at] = here[centre]
            best = best[best]
    group, sizes, largest = _groups(best)
    return Copies(best, group, sizes, by_text, embedding, similarity, keys.problems, _examples(dataset, largest))


def check_similarity(similarity: Any) -> None:
    """Raise for what is no cosine between 0 and 1."""
    if isinstance(similarity, bool) or not isinstance(similarity, int | float | np.number):
        raise TypeError(f"similarity must be a number in (0, 1] such as 0.95, got {similarity!r}")
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; a cosine from which on rows are copies is in (0, 1], say 0.95")


def _best_first(dataset: Dataset, quality: str | None) -> Ints:
    """All rows: by the gate, then by quality, then in their order."""
    keys = []
    for name in (GATE if GATE in dataset.column_names else None, quality):
        if name is None:
            continue
        column = read_column(dataset, name)
        if column.values.ndim != 1 or column.values.dtype == object:
            raise TypeError(f"column {name!r} holds no numbers, so it does not tell which of two copies is better")
        values = column.values.round(2) if name == GATE else column.values
        keys.append(np.where(column.valid, -values, np.inf))
    return np.lexsort((np.arange(len(dataset)), *reversed(keys)))


def _same_text(keys: RowKeys, order: Ints) -> Ints:
    """For each row the best row with the same key; a row without a key is its own."""
    best = np.arange(len(order))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    at = np.flatnonzero(keys.readable)
    at = at[np.lexsort((rank[at], keys.low[at], keys.high[at]))]
    if len(at):
        new = np.ones(len(at), np.bool_)
        new[1:] = (keys.high[at[1:]] != keys.high[at[:-1]]) | (keys.low[at[1:]] != keys.low[at[:-1]])
        best[at] = at[np.flatnonzero(new)][np.cumsum(new) - 1]
    return best


def _groups(best: Ints) -> tuple[Ints, Ints, Ints]:
    """Each row's group, the sizes, and the best rows of the groups; the largest first, equal ones by their best row."""
    sizes = np.bincount(best, minlength=len(best))
    heads = np.flatnonzero(sizes > 1)
    heads = heads[np.argsort(-sizes[heads], kind="stable")]
    number = np.full(len(best), -1, np.int64)
    number[heads] = np.arange(len(heads))
    return number[best], sizes[heads], heads


def _examples(dataset: Dataset, heads: Ints) -> tuple[str, ...]:
    """The beginnings of some rows, a line each; nothing in them acts on a terminal."""
    names = rows.text_columns(dataset.column_names)
    batch = dataset.select_columns(names).with_format(None).select(heads[:SHOWN])[:]
    texts = []
    for row in rows.read(batch) if len(heads) else ():
        turn = row.turns[0] if row.turns else None
        text = f"{turn.instruction} → {turn.response or ''}" if turn else row.problem or ""
        said = " ".join(visible(text).split())
        texts.append(said if len(said) <= LETTERS else f"{said[: LETTERS - 2].rstrip()} …")
    return tuple(texts)

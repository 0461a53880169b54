# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Which row of the pool each training example is, carried as a column through the trainer's own data path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.columns import first
from hf_dsel.selection import Source

ROW = "hf_dsel_row"
NUMBER = f"pool = pool.add_column({ROW!r}, list(range(len(pool))))"
CHECKED = 64  # rows whose text is compared
IntArray = npt.NDArray[np.int64]


class OtherRows(ValueError):
    """The dataset given is not the one that the trainer was given."""


TOKENS = ("input_ids", "labels", "completion_mask", "prompt_ids", "chosen_ids", "rejected_ids")


def fingerprint(numbered: Dataset) -> str:
    """A hash of the row numbers of a tokenised dataset and, as in `Source`, of the tokens of up to 1,000 rows."""
    tokens = tuple(name for name in TOKENS if name in numbered.column_names)
    numbers = np.asarray(numbered.with_format(None)[ROW][:], np.int64)
    text = Source.of(numbered, tokens or None).sha256
    return hashlib.sha256(text.encode() + numbers.tobytes()).hexdigest()[:16]


@dataclass
class RowCollator:
    """The trainer's collator, with the row numbers of the batch beside what it makes.

    A packed example holds several numbers, one for each sequence in it. Examples without numbers, those of an
    evaluation set, pass as they are.
    """

    inner: Any

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch of some examples."""
        import torch

        if ROW not in examples[0]:
            return dict(self.inner(examples))
        batch = dict(self.inner([{k: v for k, v in e.items() if k != ROW} for e in examples]))
        found = [e[ROW] for e in examples]
        numbers = [n for value in found for n in (value if isinstance(value, list) else [value])]
        batch[ROW] = torch.tensor(numbers)
        return batch


@dataclass(frozen=True)
class Numbering:
    """The training set with its row numbers.

    `given`: the numbers come from a column of the user's. Otherwise they were read off the trainer's dataset, whose
    preparation keeps the order of the rows and drops some by an index, and `source_rows` is how many it was given.
    """

    dataset: Dataset
    given: bool
    source_rows: int

    @classmethod
    def of(cls, prepared: Dataset) -> Numbering:
        """Number the rows of a training set that TRL prepared.

        Raises:
            ValueError: a column of row numbers that holds something else.
        """
        if ROW in prepared.column_names:
            numbers = np.asarray(prepared.with_format(None)[ROW][:], dtype=object)
            bad = [i for i, n in enumerate(numbers) if not isinstance(n, int) or isinstance(n, bool) or n < 0]
            if bad:
                raise ValueError(
                    f"the column {ROW!r} must hold row numbers from 0 on; row {bad[0]} holds {numbers[bad[0]]!r}. "
                    f"Number the pool again: {NUMBER}"
                )
            return cls(prepared, given=True, source_rows=int(max(numbers, default=-1)) + 1)
        table_rows = len(prepared.data)
        if prepared._indices is None:
            numbers = np.arange(table_rows)
        else:
            numbers = prepared._indices.column(0).to_numpy().astype(np.int64)
        return cls(prepared.add_column(ROW, numbers), given=False, source_rows=table_rows)

    @property
    def trained(self) -> IntArray:
        """The row numbers in the training set, ascending."""
        return np.unique(np.asarray(self.dataset.with_format(None)[ROW][:], np.int64))

    def rows_of(self, pool: Dataset) -> IntArray:
        """The row number of each row of a pool.

        Raises:
            OtherRows: the pool is not what the trainer was given, as far as its size and its text show.
        """
        if self.given and ROW in pool.column_names:
            numbers = np.asarray(pool.with_format(None)[ROW][:], np.int64)
        elif len(pool) < self.source_rows or (not self.given and len(pool) != self.source_rows):
            raise OtherRows(
                f"the trainer was given {self.source_rows:,} rows and this dataset has {len(pool):,}. Pass the dataset "
                f"that it was given, or number the rows before you choose from them and train: {NUMBER}"
            )
        else:
            numbers = np.arange(len(pool))
        self._check_text(pool, numbers)
        return numbers

    def _check_text(self, pool: Dataset, numbers: IntArray) -> None:
        """Compare some rows. TRL keeps the text beside the tokens, and may have put an EOS token after it."""
        here = {int(n): i for i, n in enumerate(numbers)}
        there = self.dataset.with_format(None)
        every = max(1, len(there) // CHECKED)
        pairs = [(i, here[n]) for i in range(0, len(there), every) if (n := there[i][ROW]) in here]
        if not pairs:
            raise OtherRows(f"no row of this dataset was trained on: it has other numbers in the column {ROW!r}")
        trained, own = _texts(there.select([i for i, _ in pairs])), _texts(pool.select([j for _, j in pairs]))
        if trained is None or own is None:
            return
        wrong = [j for (_, j), a, b in zip(pairs, trained, own, strict=True) if a and not a.startswith(b)]
        if wrong:
            raise OtherRows(
                f"rows {first(wrong)} of this dataset hold another text than the rows trained on. Pass the dataset "
                f"that the trainer was given, in the same order, or number the rows before you train: {NUMBER}"
            )


def _texts(dataset: Dataset) -> list[str] | None:
    """The text of each row without its white space, or nothing where the columns are tokens alone.

    White space, because TRL and hf_dsel cut a shared prompt out of two strings at different places.
    """
    try:
        names = rows.text_columns(dataset.column_names)
        found = rows.read(dataset.with_format(None).select_columns(names)[:])
    except rows.UnknownFormat:
        return None
    turns = [row.turns[-1] if row.turns else rows.Turn((), None) for row in found]
    texts = ["".join([*(m.content for m in turn.prompt), turn.response or ""]) for turn in turns]
    return ["".join(text.split()) for text in texts]

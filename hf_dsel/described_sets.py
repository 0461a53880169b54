# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The sets that `describe` compares, and where each finds its columns: its own, or those of its rows in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.columns import Column, MissingColumn, read_column
from hf_dsel.selection import Selection, Source, WrongSource, selection_of

IntArray = npt.NDArray[np.int64]
Rows: TypeAlias = Dataset | Selection | IntArray


@dataclass(frozen=True)
class RowSet:
    """A set of rows: a dataset with columns of its own, rows of the pool, or both in the same order."""

    own: Dataset | None
    rows: IntArray | None

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows) if self.rows is not None else len(self.own or ())


@dataclass(frozen=True)
class Values:
    """A column of a set: `values[rows]`, all values when `rows` is None; nulls are left out.

    `positions` are the places in the set that have a value, `missing` how many have none.
    """

    values: npt.NDArray[Any]
    rows: IntArray | None
    positions: IntArray
    missing: int

    def __len__(self) -> int:
        """How many values."""
        return len(self.positions)

    def taken(self) -> npt.NDArray[Any]:
        """The values as an array of their own, unless they are the whole column."""
        return self.values if self.rows is None else np.asarray(self.values[self.rows])


@dataclass(frozen=True)
class Sets:
    """The pool, the subset if there is one, and the random subsets, in this order."""

    pool: Dataset
    members: tuple[RowSet, ...]
    subset: bool
    read: dict[tuple[int, str], Column] = field(default_factory=dict)

    def column(self, member: RowSet, name: str) -> Values | None:
        """The column of a member, or None when neither it nor the pool has it for these rows."""
        if member.own is not None and name in member.own.column_names:
            return _usable(self._read(member.own, name), None)
        if member.rows is not None and name in self.pool.column_names:
            return _usable(self._read(self.pool, name), member.rows)
        return None

    def columns(self, name: str) -> list[Values | None]:
        """The column of every member."""
        return [self.column(member, name) for member in self.members]

    def require(self, name: str) -> None:
        """Refuse a column that the pool lacks.

        Raises:
            MissingColumn: with the columns that it has.
        """
        if name not in self.pool.column_names:
            raise MissingColumn(f"no column {name!r}; the pool has {self.pool.column_names}")

    def texts(self, member: RowSet, names: Sequence[str], positions: IntArray) -> Dataset:
        """The text columns at some places of a set."""
        own = member.own is not None and set(names) <= set(member.own.column_names)
        if own or member.rows is None:
            assert member.own is not None
            source, at = member.own, positions
        else:
            source, at = self.pool, member.rows[positions]
        return source.select_columns([n for n in names if n in source.column_names]).with_format(None).select(at)

    def _read(self, dataset: Dataset, name: str) -> Column:
        key = (id(dataset), name)
        if key not in self.read:
            self.read[key] = read_column(dataset, name)
        return self.read[key]


def _usable(column: Column, rows: IntArray | None) -> Values:
    valid = column.valid if rows is None else column.valid[rows]
    positions = np.flatnonzero(valid)
    if len(positions) < len(valid):
        rows = positions if rows is None else rows[positions]
    return Values(column.values, rows, positions, len(valid) - len(positions))


def sets_of(pool: Dataset, subset: Rows | None, random: int | Rows | Sequence[Rows], rng: np.random.Generator) -> Sets:
    """The sets that the arguments of `describe` name.

    Raises:
        TypeError: a pool that is no Dataset.
        ValueError: an empty pool or set, rows that the pool lacks, or random subsets larger than the pool.
        WrongSource: a Selection that was made on another dataset.
    """
    if not isinstance(pool, Dataset):
        raise TypeError(f"the pool is a {type(pool).__name__}; describe takes a Dataset, such as pool['train']")
    if len(pool) == 0:
        raise ValueError("the pool has no rows; there is nothing to describe")
    whole = RowSet(pool, None)
    if subset is None:
        return Sets(pool, (whole,), subset=False)
    chosen = _row_set(pool, subset, "the subset")
    if isinstance(random, int):
        if random < 0:
            raise ValueError(f"random is {random}; it must be at least 0, the number of random subsets to draw")
        if random and len(chosen) > len(pool):
            raise ValueError(
                f"the subset has {len(chosen):,} rows and the pool {len(pool):,}, so no random subset of that size "
                "exists; random=0 leaves them out"
            )
        draws = [RowSet(None, np.sort(rng.choice(len(pool), len(chosen), replace=False))) for _ in range(random)]
    else:
        given = [random] if isinstance(random, Dataset | Selection | np.ndarray) else list(random)
        draws = [_row_set(pool, g, "a random subset") for g in given]
    return Sets(pool, (whole, chosen, *draws), subset=True)


def _row_set(pool: Dataset, given: Rows, what: str) -> RowSet:
    if isinstance(given, Dataset):
        made = RowSet(given, _rows_in_pool(pool, given))
    elif isinstance(given, Selection):
        if Source.of(pool, given.source.columns) != given.source:
            raise WrongSource(
                f"{what} was selected from another dataset than this pool ({given.source.rows:,} rows, this one has "
                f"{len(pool):,}); give the pool that it was selected from, or the subset as a Dataset"
            )
        made = RowSet(None, given.indices)
    else:
        rows = np.asarray(given)
        if (
            rows.ndim != 1
            or rows.dtype.kind not in "iu"
            or (len(rows) and not 0 <= rows.min() <= rows.max() < len(pool))
        ):
            raise ValueError(f"{what} must be a Dataset, a Selection, or row numbers from 0 to {len(pool) - 1:,}")
        made = RowSet(None, rows.astype(np.int64))
    if len(made) == 0:
        raise ValueError(f"{what} is empty; there is nothing to describe")
    return made


def _rows_in_pool(pool: Dataset, subset: Dataset) -> IntArray | None:
    """Which rows of the pool a subset that `select_by` made consists of; None when nobody knows."""
    record = selection_of(subset)
    if record is None or set(record.source.columns) - set(pool.column_names):
        return None
    if Source.of(pool, record.source.columns) != record.source:
        return None
    if "selection_rank" in subset.column_names:  # also after a filter or a shuffle
        ranks = read_column(subset, "selection_rank")
        at = ranks.values.astype(np.int64)
        known = ranks.valid.all() and len(at) and 0 <= at.min() <= at.max() < len(record)
        return record.indices[at] if known else None
    return record.indices if len(subset) == len(record) else None

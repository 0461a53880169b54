# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Columns of a Dataset as checked numpy arrays, without a copy where Arrow allows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

BLOCK = 65_536  # rows checked at a time


class MissingColumn(KeyError):
    """A strategy needs a column that the dataset lacks. The text says how to add it."""

    def __str__(self) -> str:
        """The plain text (KeyError would show its repr)."""
        return str(self.args[0])


class BadColumn(ValueError):
    """A column holds values that no strategy can read: NaN, infinity, zero vectors, vectors of several widths."""


@dataclass(frozen=True)
class Column:
    """One column.

    `values`: float64 (rows,) for numbers, objects (rows,) for text, float16 or float32 (rows x dim) for vectors,
    objects (rows,) that are uint64 arrays for lists of terms; what stands in a null row means nothing. `valid`: bool
    (rows,), False where the row is null.
    """

    name: str
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def read_column(dataset: Dataset, name: str) -> Column:
    """Read and check one column, in the row order of the dataset.

    Args:
        dataset: a Dataset; a `select`ed or shuffled view is read in its own order.
        name: a column of numbers, booleans, text, vectors (fixed-size or variable lists of floats, all of one width),
            or terms (lists of unsigned 64-bit numbers, of any length), such as `hf_dsel.NGrams` writes.

    Raises:
        MissingColumn: no such column.
        BadColumn: NaN or infinite values, zero vectors, mixed widths, or a type that is none of the above.
    """
    if name not in dataset.column_names:
        raise MissingColumn(f"no column {name!r}; the dataset has {dataset.column_names}")
    chunked = dataset.data.column(name)
    indices = dataset._indices.column(0).to_numpy() if dataset._indices is not None else None
    kind = chunked.type
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_uint64(kind.value_type):
        column = _terms(chunked, indices, name)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        column = _vectors(chunked, indices, name)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if indices is not None:
            chunked = chunked.take(pa.array(indices))
        column = Column(name, np.asarray(chunked.to_pylist(), dtype=object), _valid(chunked))
    elif pa.types.is_null(kind):
        rows = len(dataset)
        column = Column(name, np.zeros(rows), np.zeros(rows, np.bool_))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        column = _numbers(chunked, indices, name)
    else:
        raise BadColumn(f"column {name!r} has the type {kind}; a strategy reads numbers, text or vectors of floats")
    return column


def read_turns(dataset: Dataset, name: str) -> Column:
    """A column of lists with one number a turn, such as `quality_turns`.

    Returns:
        a Column of objects, each a float64 array with NaN where a turn has no number; `valid` is False for null rows.

    Raises:
        MissingColumn: no such column.
        BadColumn: not a list of numbers, or infinite numbers.
    """
    if name not in dataset.column_names:
        raise MissingColumn(f"no column {name!r}; the dataset has {dataset.column_names}")
    chunked = dataset.data.column(name)
    if not (pa.types.is_list(chunked.type) or pa.types.is_large_list(chunked.type)):
        raise BadColumn(f"column {name!r} has the type {chunked.type}; expected a list of numbers, one a turn")
    if dataset._indices is not None:
        chunked = chunked.take(pa.array(dataset._indices.column(0).to_numpy()))
    lengths = pc.fill_null(pc.list_value_length(chunked), 0).to_numpy()
    values = np.asarray(pc.cast(pc.list_flatten(chunked), pa.float64()).to_numpy(), np.float64)  # null becomes NaN
    rows = np.empty(len(lengths), object)
    rows[:] = np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []
    bad = [i for i in np.unique(np.repeat(np.arange(len(lengths)), lengths)[np.isinf(values)])]
    if bad:
        raise BadColumn(f"column {name!r} has infinite values in {len(bad):,} rows, first {first(bad)}")
    return Column(name, rows, _valid(chunked))


def _valid(chunked: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    if chunked.null_count == 0:
        return np.ones(len(chunked), np.bool_)
    return np.asarray(chunked.is_valid().to_numpy(), np.bool_)


def _numbers(chunked: pa.ChunkedArray, indices: npt.NDArray[Any] | None, name: str) -> Column:
    valid = _valid(chunked)
    filled = pc.fill_null(chunked, False if pa.types.is_boolean(chunked.type) else 0) if chunked.null_count else chunked
    values = np.asarray(filled.to_numpy(), np.float64)
    if indices is not None:
        values, valid = values[indices], valid[indices]
    bad = np.flatnonzero(valid & ~np.isfinite(values))
    if len(bad):
        raise BadColumn(
            f"column {name!r} has NaN or infinite values in {len(bad):,} of {len(values):,} rows, first {first(bad)}. "
            "A row without a score should be null: map them to None, or filter the rows out."
        )
    return Column(name, values, valid)


def _terms(chunked: pa.ChunkedArray, indices: npt.NDArray[Any] | None, name: str) -> Column:
    if indices is not None:
        chunked = chunked.take(pa.array(indices))
    flat = pc.list_flatten(chunked)
    if flat.null_count:
        raise BadColumn(f"column {name!r} has lists with null among their terms; leave these terms out")
    lengths = pc.fill_null(pc.list_value_length(chunked), 0).to_numpy()
    rows = np.empty(len(lengths), object)
    rows[:] = np.split(flat.to_numpy(), np.cumsum(lengths)[:-1]) if len(lengths) else []
    return Column(name, rows, _valid(chunked))


def _vectors(chunked: pa.ChunkedArray, indices: npt.NDArray[Any] | None, name: str) -> Column:
    valid = _valid(chunked)
    dtype = np.float16 if pa.types.is_float16(chunked.type.value_type) else np.float32
    if not pa.types.is_floating(chunked.type.value_type):
        raise BadColumn(f"column {name!r} is a list of {chunked.type.value_type}, not of floats")
    if not valid.any():  # nothing to read, whatever the width
        return Column(name, np.zeros((len(valid), 1), dtype), valid if indices is None else valid[indices])
    width = _width(chunked, name)
    parts = [np.asarray(c.flatten().to_numpy(zero_copy_only=False), dtype).reshape(-1, width) for c in chunked.chunks]
    full = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty((0, width), dtype)])
    if not valid.all():  # flatten() left the null rows out
        with_gaps = np.zeros((len(valid), width), dtype)
        with_gaps[valid] = full
        full = with_gaps
    if indices is not None:
        full, valid = full[indices], valid[indices]
    _check_vectors(full, valid, name)
    return Column(name, full, valid)


def _width(chunked: pa.ChunkedArray, name: str) -> int:
    if pa.types.is_fixed_size_list(chunked.type):
        return int(chunked.type.list_size)
    widths = pc.value_counts(pc.list_value_length(chunked.drop_null())).to_pylist()
    if len(widths) > 1:
        seen = ", ".join(
            f"{w['values']} in {w['counts']:,} rows" for w in sorted(widths, key=lambda w: -w["counts"])[:4]
        )
        raise BadColumn(
            f"column {name!r} mixes vectors of several widths ({seen}). Embed all rows with one model and pooling."
        )
    return int(widths[0]["values"]) if widths else 0


def _check_vectors(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], name: str) -> None:
    broken, zero = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(values), BLOCK):
        block, ok = values[start : start + BLOCK], valid[start : start + BLOCK]
        finite = np.isfinite(block).all(axis=1)
        broken.append(start + np.flatnonzero(ok & ~finite))
        zero.append(start + np.flatnonzero(ok & finite & ~block.any(axis=1)))
    for bad, what in (
        (np.concatenate(broken), "NaN or infinite values"),
        (np.concatenate(zero), "only zeros"),
    ):
        if len(bad):
            raise BadColumn(
                f"column {name!r} has vectors with {what} in {len(bad):,} of {len(values):,} rows, first {first(bad)}. "
                "Set those rows to None or filter them out, then embed again."
            )


def first(rows: Iterable[Any], n: int = 5) -> str:
    """The first few row numbers, for an error text.

    >>> first(range(7))
    '0, 1, 2, 3, 4, ...'
    """
    listed = [str(int(r)) for r in rows]
    return ", ".join(listed[:n]) + (", ..." if len(listed) > n else "")

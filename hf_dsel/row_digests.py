# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What the rows of a dataset hold, as hashes and beside another dataset's rows: the evidence of `verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from datasets import Dataset

from hf_dsel.rows import text_columns
from hf_dsel.trl_format import to_trl

_BATCH = 1000
_SHOWN = 80


def row_digests(dataset: Dataset) -> list[str]:
    """A hash of every column of each row: the first 16 hexadecimal digits of the SHA-256 of the row as JSON.

    The same after parquet, the Hub and back, and whatever the order of the columns.

    >>> row_digests(Dataset.from_dict({"text": ["a", "a"], "score": [1.0, None]}))
    ['0efdd46a147baa3a', 'cbaba0d9171f51ac']
    """
    return [
        sha256(json.dumps(row, sort_keys=True, ensure_ascii=True, default=_plain).encode()).hexdigest()[:16]
        for row in _rows(dataset)
    ]


def difference(found: Dataset, expected: Dataset, texts: Sequence[str]) -> tuple[str | None, list[str]]:
    """The first place where the rows of two datasets differ, in words, and the columns that both have.

    Args:
        found: what is published.
        expected: what it should be.
        texts: the columns of `expected` that `found` must have, as they are or as `to_trl` converts them.
    """
    if set(texts) - set(found.column_names):
        try:
            converted = to_trl(expected)
        except ValueError:
            pass
        else:
            expected, texts = converted, text_columns(converted.column_names)
    missing = sorted(set(texts) - set(found.column_names))
    shared = [name for name in expected.column_names if name in found.column_names]
    if missing or not texts:
        return f"the columns of text {missing} are not there, so there is nothing to compare", shared
    if len(found) != len(expected):
        return f"there are {len(found):,} rows, and the record has {len(expected):,}", shared
    pairs = zip(_rows(found.select_columns(shared)), _rows(expected.select_columns(shared)), strict=True)
    for i, (row, wanted) in enumerate(pairs):
        for name in shared:
            if not _same(row[name], wanted[name]):
                return (
                    f"row {i:,} differs in {name!r}: it holds {_short(row[name])}, not {_short(wanted[name])}",
                    shared,
                )
    return None, shared


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for table in dataset.with_format("arrow").iter(batch_size=_BATCH):
        yield from table.to_pylist()


def _same(a: Any, b: Any) -> bool:
    return a == b or json.dumps(a, sort_keys=True, default=_plain) == json.dumps(b, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON does not know: half-precision numbers, bytes, dates."""
    if isinstance(value, bytes):
        return value.hex()
    return value.item() if hasattr(value, "item") else str(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scores without rows, as files: one line for each distinct row, found by its key, and a record of what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value

from hf_dsel import rows
from hf_dsel.columns import MissingColumn, read_column
from hf_dsel.origin import Origin
from hf_dsel.progress import bar, count, say
from hf_dsel.row_keys import KEY_VERSION, WHAT, RowKeys, hex_keys, row_keys
from hf_dsel.selection import Source, installed_versions, is_vector

RECORD, KEY = "hf_dsel_scores.json", "key"
FORMAT = 1
SHARD_BYTES = 500_000_000
LONGEST_STATUS = 200
_BATCH = 10_000
_QUOTED = re.compile(r"""(?<!\w)(['"])(?:\\.|(?!\1).)*\1""", re.DOTALL)
Order = npt.NDArray[np.int64]


def score_columns(dataset: Dataset, columns: Sequence[str] | None) -> list[str]:
    """The columns to publish; by default numbers that have a `_status` beside them, and the `_turns` of these.

    Raises:
        UnknownFormat: the rows are in no format that hf_dsel reads.
        MissingColumn: no such column.
        ValueError: a column of text, or of the dataset's own text; none to publish.
    """
    rows.detect(dataset.column_names)
    features, text = dataset.features, rows.text_columns(dataset.column_names)
    if columns is None:
        scored = [n for n, f in features.items() if f"{n}_status" in features and _is_number(f) and n not in text]
        found = [
            n for n in features if n in scored or (n.removesuffix("_turns") in scored and _is_numbers(features[n]))
        ]
        if not found:
            there = [n for n, f in features.items() if _is_number(f) or _is_numbers(f)]
            raise ValueError(
                "no column has a number and a status beside it, as scorers write them; name the columns to publish: "
                f"columns={there or ['my_score']}"
            )
        return found
    if isinstance(columns, str) or not columns:
        raise ValueError(f"columns is {columns!r}; give a list of names, such as ['ifd']")
    missing = [n for n in columns if n not in features]
    if missing:
        raise MissingColumn(f"no column {missing[0]!r}; the dataset has {dataset.column_names}")
    for name in columns:
        if name in text or not (_is_number(features[name]) or _is_numbers(features[name])):
            raise ValueError(f"{name!r} holds {features[name]}; only numbers and vectors are published, never text")
        if name == KEY or columns.count(name) > 1:
            raise ValueError(f"{name!r} cannot be published {'under this name' if name == KEY else 'twice'}")
    return list(columns)


def write_scores(
    dataset: Dataset, folder: Path, columns: Sequence[str], *, marks: Mapping[str, Any], origin: Origin | None
) -> dict[str, Any]:
    """The parquet files and the record, in a folder that is there; the record is returned.

    Of rows with the same text one line is written: that of the copy with the most scores, of these the first. Where
    copies have other scores, it is said and recorded how many and how far they are apart.

    Raises:
        ValueError: no row that can be read.
        BadColumn: NaN or infinite numbers.
    """
    keys = row_keys(dataset)
    if not keys.readable.any():
        raise ValueError(f"none of the {count(len(dataset), 'row')} can be read: {_reasons(keys.problems)}")
    kept, copies = _distinct(dataset, keys, columns)
    names = _with_status(columns)
    kinds = {n: Value("string") if n.endswith("_status") else dataset.features[n] for n in names}
    features = Features({KEY: Value("string")} | kinds)
    files = _write(dataset, folder, kept, keys, features)
    record = {
        "hf_dsel_scores": FORMAT,
        "key": {"version": KEY_VERSION, "what": WHAT},
        "source": {"format": keys.format_name, **asdict(Source.of(dataset))},
        "origin": None if origin is None else origin.to_dict(),
        "rows": len(kept),
        "columns": {name: {"type": _type(features[name]), "made_by": marks.get(name)} for name in columns},
        "left_out": _unquoted(keys.problems),
        "copies": copies,
        "files": files,
        "versions": installed_versions(),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")
    if keys.problems:
        say(f"{count(len(dataset) - int(keys.readable.sum()), 'row')} left out: {_reasons(keys.problems)}")
    for name, differ in copies["differ"].items():
        say(f"{name}: other than published in {differ['rows']:,} copies of a row, by {differ['largest']:g} at most")
    return record


def _is_number(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(("float", "int", "uint", "bool"))


def _is_numbers(feature: Any) -> bool:
    """Whether it is a list of numbers, and no list of hashed words (uint64)."""
    return isinstance(feature, List) and _is_number(feature.feature) and feature.feature.dtype != "uint64"


def _type(feature: Any) -> str:
    if isinstance(feature, List):
        return (
            f"{feature.feature.dtype}[{feature.length}]" if is_vector(feature) else f"list of {feature.feature.dtype}"
        )
    return str(feature.dtype)


def _reasons(problems: Mapping[str, int]) -> str:
    shown = [f"{n:,} x {why}" for why, n in sorted(problems.items(), key=lambda p: -p[1])[:3]]
    return "; ".join(shown) + ("; ..." if len(problems) > 3 else "")


def _unquoted(problems: Mapping[str, int]) -> dict[str, int]:
    """The reasons without what they quote, which is of the rows."""
    found: dict[str, int] = {}
    for why, n in problems.items():
        short = _QUOTED.sub(r"\1...\1", why)
        found[short] = found.get(short, 0) + n
    return found


def status_of(name: str, columns: Sequence[str]) -> str | None:
    """The name of a column's status; None for `quality_turns` beside `quality`, which share one."""
    shares = name.endswith("_turns") and name.removesuffix("_turns") in columns
    return None if shares else f"{name}_status"


def _with_status(columns: Sequence[str]) -> list[str]:
    names = [n for name in columns for n in (name, status_of(name, columns)) if n is not None]
    return list(dict.fromkeys(names))


def _distinct(dataset: Dataset, keys: RowKeys, columns: Sequence[str]) -> tuple[Order, dict[str, Any]]:
    """The rows to publish, in the dataset's order, and what their copies say."""
    scored = np.zeros(len(dataset), np.int32)
    for name in columns:
        if _is_number(dataset.features[name]):
            scored += read_column(dataset, name).valid
        else:
            blocks = dataset.select_columns([name]).with_format("arrow").iter(_BATCH)
            scored += np.concatenate([b.column(0).is_valid().to_numpy(zero_copy_only=False) for b in blocks])
    at = np.flatnonzero(keys.readable)
    at = at[np.lexsort((-scored[at], keys.low[at], keys.high[at]))]  # stable: of equals the first row
    first = np.ones(len(at), np.bool_)
    first[1:] = (keys.high[at][1:] != keys.high[at][:-1]) | (keys.low[at][1:] != keys.low[at][:-1])
    copies, kept_by = at[~first], at[first][np.cumsum(first) - 1][~first]
    differ = {n: d for n in columns if (d := _differences(dataset, n, copies, kept_by))["rows"]}
    return np.sort(at[first]), {"rows": len(copies), "differ": differ}


def _differences(dataset: Dataset, name: str, some: Order, others: Order) -> dict[str, Any]:
    """How many of these pairs of rows have different values, and the largest difference where both have numbers."""
    column, n, largest = dataset.select_columns([name]).with_format(None), 0, 0.0
    for start in range(0, len(some), _BATCH):
        part = slice(start, start + _BATCH)
        for a, b in zip(column.select(some[part])[name][:], column.select(others[part])[name][:], strict=True):
            if a != b:
                n += 1
                a, b = np.atleast_1d(np.asarray(a, np.float64)), np.atleast_1d(np.asarray(b, np.float64))
                if a.shape == b.shape:
                    largest = max(largest, float(np.nan_to_num(np.abs(a - b)).max(initial=0)))
    return {"rows": n, "largest": largest}


def _write(dataset: Dataset, folder: Path, kept: Order, keys: RowKeys, features: Features) -> list[str]:
    """The lines of these rows in parquet files of about 500 MB, `data/train-....parquet`; the files' names."""
    names = [n for n in features if n in dataset.column_names]
    whole = len(kept) == len(dataset)
    lines = dataset.select_columns(names).with_format("arrow")
    row_bytes = max(1, sum(c.nbytes for c in lines[: min(1000, len(lines))].columns) // min(1000, len(lines)) + 20)
    rows_of_file = max(_BATCH, SHARD_BYTES // row_bytes // _BATCH * _BATCH)
    n_files = -(-len(kept) // rows_of_file)
    files = [f"data/train-{i:05d}-of-{n_files:05d}.parquet" for i in range(n_files)]
    (folder / "data").mkdir()
    schema = features.arrow_schema
    with bar(total=len(kept), what="writing the scores") as shown:
        for i, file in enumerate(files):
            with pq.ParquetWriter(folder / file, schema, compression="zstd") as writer:
                end = min((i + 1) * rows_of_file, len(kept))
                for start in range(i * rows_of_file, end, _BATCH):
                    at = kept[start : min(start + _BATCH, end)]
                    table = lines[int(at[0]) : int(at[-1]) + 1] if whole else lines.select(at)[:]
                    writer.write_table(_lines(table, hex_keys(keys, at), schema))
                    shown.update(len(at))
    return files


def _lines(table: pa.Table, keys: pa.Array, schema: pa.Schema) -> pa.Table:
    columns: dict[str, Any] = {KEY: keys}
    for field in schema:
        if field.name in table.column_names:
            column = table.column(field.name)
            columns[field.name] = _without_quotes(column) if field.name.endswith("_status") else column
        elif field.name != KEY:  # a status that the dataset does not have
            valid = table.column(field.name.removesuffix("_status")).is_valid()
            columns[field.name] = pc.if_else(valid, "ok", "no score")
    return pa.table([columns[n].cast(schema.field(n).type) for n in schema.names], schema=schema)


def _without_quotes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Statuses without what they quote, which may be of the text."""
    coded = pc.dictionary_encode(column.combine_chunks().cast(pa.string()))
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    texts = [_QUOTED.sub(r"\1...\1", text)[:LONGEST_STATUS] for text in coded.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string()).take(coded.indices)])

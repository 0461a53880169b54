# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A key for what a row says, the same in every copy of a dataset: in another order, file format or column format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.progress import bar

KEY_VERSION = 1  # raised when equal rows would get other keys
WIDTH = 16
WHAT = (
    "the first 16 bytes, in hexadecimal, of the SHA-256 of the row as compact UTF-8 JSON: [messages, answers], where "
    "messages are [role, content] pairs with the roles user, assistant, system and tool, and answers are the places of "
    "the responses among them; a preference pair is [chosen, rejected], each of them such a list"
)
_BATCH = 1000
_SURROGATE = "half a character (a lone surrogate) in the text"


@dataclass(frozen=True, eq=False)
class RowKeys:
    """The keys of a dataset's rows.

    `high` and `low`: uint64 (rows,), the two halves of each key. `readable`: bool (rows,), False where a row has none.
    `problems`: how many rows have none, by reason. `format_name`: how the rows were read.
    """

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    readable: npt.NDArray[np.bool_]
    problems: dict[str, int]
    format_name: str

    def order(self) -> npt.NDArray[np.int64]:
        """The readable rows by key, equal keys in the dataset's order."""
        at = np.flatnonzero(self.readable)
        return at[np.lexsort((self.low[at], self.high[at]))]


def row_keys(dataset: Dataset, *, form: Callable[[str], str] | None = None) -> RowKeys:
    """A 128-bit key for what each row says, as `hf_dsel.rows` reads it and every scorer sees it.

    Rows that are read as the same turns have the same key: a question and its answer as Alpaca columns, as messages or
    as prompt and completion. Of a preference pair both sides count. Other columns, such as an id, do not. Text counts
    to the letter: nothing is stripped or normalised.

    Args:
        dataset: the rows.
        form: what is made of the text of each message first; texts of one form then count as one.

    Raises:
        UnknownFormat: the columns are in no format that hf_dsel reads.

    >>> keys = row_keys(Dataset.from_dict({"instruction": ["Hi."], "output": ["Hello."]}))
    >>> hex_keys(keys, np.array([0])).to_pylist()
    ['10dd2ae6c6a2f96a6fd266c2ae443de5']
    >>> chat = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    >>> keys.low == row_keys(Dataset.from_dict({"messages": [chat]})).low
    array([ True])
    """
    names = rows.text_columns(dataset.column_names)
    format_name = rows.detect(dataset.column_names)
    source = dataset.select_columns(names).with_format(None)
    raw, readable = bytearray(len(dataset) * WIDTH), np.zeros(len(dataset), np.bool_)
    problems: dict[str, int] = {}
    with bar(total=len(dataset), what="reading") as shown:
        for start in range(0, len(dataset), _BATCH):
            found = _digests(source[start : start + _BATCH], format_name, form)
            for i, digest in enumerate(found, start):
                if isinstance(digest, str):
                    problems[digest] = problems.get(digest, 0) + 1
                else:
                    raw[i * WIDTH : (i + 1) * WIDTH] = digest
                    readable[i] = True
            shown.update(len(found))
    halves = np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 2)
    return RowKeys(halves[:, 0].copy(), halves[:, 1].copy(), readable, problems, format_name)


def hex_keys(keys: RowKeys, at: npt.NDArray[np.int64]) -> pa.Array:
    """The keys of these rows as 32 hexadecimal digits."""
    both = np.stack([keys.high[at], keys.low[at]], 1).astype(">u8")
    digits = np.frombuffer(both.tobytes().hex().encode(), np.uint8)
    ends = np.arange(0, 2 * WIDTH * (len(at) + 1), 2 * WIDTH, dtype=np.int64)
    found = pa.LargeStringArray.from_buffers(len(at), pa.py_buffer(ends), pa.py_buffer(digits))
    return found.cast(pa.string())


def halves_of(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The two halves of keys in hexadecimal digits.

    Raises:
        ValueError: a value that is no key.
    """
    parts = [np.zeros((0, 2), np.uint64)]
    for chunk in column.chunks:
        text = "".join(chunk.to_pylist())
        if len(text) != 2 * WIDTH * len(chunk):
            raise ValueError(f"the column of keys holds values that are not {2 * WIDTH} hexadecimal digits")
        parts.append(np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64).reshape(-1, 2))
    both = np.concatenate(parts)
    return both[:, 0].copy(), both[:, 1].copy()


def places(keys: RowKeys, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Where each row's key stands in a list of distinct keys; -1 where it does not."""
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    left, right = np.searchsorted(high, keys.high, "left"), np.searchsorted(high, keys.high, "right")
    found = np.full(len(keys.high), -1, np.int64)
    for step in range(int((right - left).max(initial=0))):  # more than one only where two keys share a half
        at = left + step
        inside = keys.readable & (at < right)
        hit = inside.copy()
        hit[inside] = low[at[inside]] == keys.low[inside]
        found[hit] = order[at[hit]]
    return found


def _digests(
    batch: Mapping[str, Sequence[Any]], format_name: str, form: Callable[[str], str] | None
) -> list[bytes | str]:
    """Each row's key, or why it has none."""
    read: list[Any]
    if format_name == "preference":
        sides = (rows.read(batch, side="chosen"), rows.read(batch, side="rejected"))
        read = [_pair(a, b, form) for a, b in zip(*sides, strict=True)]
    else:
        read = [row.problem or _said(row, form) for row in rows.read(batch)]
    return [said if isinstance(said, str) else _digest(said) for said in read]


def _pair(chosen: rows.Row, rejected: rows.Row, form: Callable[[str], str] | None) -> Any:
    return chosen.problem or rejected.problem or [_said(chosen, form), _said(rejected, form)]


def _said(row: rows.Row, form: Callable[[str], str] | None = None) -> list[Any]:
    """The conversation that the last turn ends, and which of its messages are responses."""
    last = row.turns[-1]
    messages = [[m.role, m.content] for m in last.prompt]
    if last.response is not None:
        messages.append(["assistant", last.response])
    if form is not None:
        messages = [[role, form(content)] for role, content in messages]
    return [messages, [len(turn.prompt) for turn in row.turns if turn.response is not None]]


def _digest(said: list[Any]) -> bytes | str:
    try:
        return sha256(json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()).digest()[:WIDTH]
    except UnicodeEncodeError:
        return _SURROGATE

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rows of any format in the one form that a bank keeps them in, and a key for what each says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Features, Value

from hf_dsel import rows
from hf_dsel.progress import bar
from hf_dsel.trl_format import MESSAGES

Kind = Literal["messages", "pairs", "text"]
FEATURES = {
    "messages": {"messages": MESSAGES},
    "pairs": {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES},
    "text": {"text": Value("string")},
}
_BATCH = 1000
_TOOL_CALLS = "tool calls, which a bank does not keep"


class OtherKind(ValueError):
    """A dataset holds another kind of rows than the bank: conversations, preference pairs or plain text."""


def kind_of(columns: Sequence[str]) -> Kind:
    """What a bank of such rows holds.

    Raises:
        UnknownFormat: the columns are in no known format.
        OtherKind: prompts alone, which nothing can be trained on.

    >>> kind_of(["instruction", "input", "output"])
    'messages'
    """
    found = rows.detect(columns)
    if found == "prompt":
        raise OtherKind("the dataset has prompts and no answers; a bank keeps examples to train on")
    if found == "preference":
        return "pairs"
    return "text" if found == "text" else "messages"


def keys_of(
    dataset: Dataset, at: npt.NDArray[np.int64], kind: Kind
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], dict[str, int]]:
    """A 64-bit key for what each of these rows says, which rows have one, and why the others have none.

    Equal text has an equal key, whatever the format, the other columns and the place in the dataset.
    """
    keys, good, reasons = np.zeros(len(at), np.uint64), np.zeros(len(at), np.bool_), dict[str, int]()
    names = rows.text_columns(dataset.column_names)
    source = dataset.select_columns(names).with_format(None)
    with bar(total=len(at), what="reading") as shown:
        for start in range(0, len(at), _BATCH):
            part = at[start : start + _BATCH]
            for i, row in enumerate(_stored(source.select(part)[:], kind), start):
                if not isinstance(row, str):
                    try:
                        text = json.dumps(row, ensure_ascii=False, sort_keys=True).encode()
                    except UnicodeEncodeError:
                        row = "half a character (a lone surrogate) in the text"
                if isinstance(row, str):
                    reasons[row] = reasons.get(row, 0) + 1
                else:
                    keys[i] = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
                    good[i] = True
            shown.update(len(part))
    return keys, good, reasons


def stored_rows(dataset: Dataset, at: npt.NDArray[np.int64], kind: Kind) -> Dataset:
    """These rows as the bank keeps them: `messages`, `prompt`/`chosen`/`rejected` as messages, or `text`.

    Raises:
        ValueError: a row that cannot be read.
    """
    source = dataset.select_columns(rows.text_columns(dataset.column_names)).with_format(None)
    columns: dict[str, list[Any]] = {name: [] for name in FEATURES[kind]}
    for start in range(0, len(at), _BATCH):
        for row in _stored(source.select(at[start : start + _BATCH])[:], kind):
            if isinstance(row, str):
                raise ValueError(f"a row cannot be read: {row}")
            for name, value in row.items():
                columns[name].append(value)
    return Dataset.from_dict(columns, features=Features(FEATURES[kind]))


def _stored(batch: Mapping[str, Sequence[Any]], kind: Kind) -> list[dict[str, Any] | str]:
    """Each row in the bank's form, or the reason why it has none."""
    table = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    if kind == "pairs":
        read = [_pair(row) for row in table]
    else:
        read = [_conversation(row, kind) for row in rows.read(batch)]
    return [_TOOL_CALLS if _calls(row) else found for row, found in zip(table, read, strict=True)]


def _calls(row: Mapping[str, Any]) -> bool:
    """Whether a message calls a tool in a field of its own, which a bank has no place for."""
    for value in row.values():
        if isinstance(value, str) and '"tool_calls"' in value:
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                continue
        if isinstance(value, list) and any(isinstance(m, Mapping) and m.get("tool_calls") for m in value):
            return True
    return False


def _conversation(row: rows.Row, kind: Kind) -> dict[str, Any] | str:
    if row.problem:
        return row.problem
    last = row.turns[-1]
    if kind == "text":
        return {"text": last.response} if last.response else "empty text"
    if not any(turn.response for turn in row.turns):
        return "no answer"
    messages = [m.as_dict() for m in last.prompt]
    if last.response is not None:
        messages.append({"role": "assistant", "content": last.response})
    return {"messages": messages}


def _pair(row: Mapping[str, Any]) -> dict[str, Any] | str:
    try:
        (prompt, chosen), (_, rejected) = rows.pair_of(row, "chosen"), rows.pair_of(row, "rejected")
    except rows.BadRow as problem:
        return str(problem)
    if not any(m.content for m in chosen) or not any(m.content for m in rejected):
        return "no answer"
    sides = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {name: [m.as_dict() for m in messages] for name, messages in sides.items()}

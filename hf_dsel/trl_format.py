# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A dataset in a format that TRL's trainers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, Features, IterableDataset, List, Value

from hf_dsel import rows

AnyDataset = TypeVar("AnyDataset", Dataset, DatasetDict, IterableDataset)
READ_BY_TRL = {"messages", "conversations", "prompt", "completion", "chosen", "rejected", "text"}
MESSAGES = List({"role": Value("string"), "content": Value("string")})


class Unreadable(ValueError):
    """Rows that cannot be written in TRL's format; the text says which and why."""


def to_trl(dataset: AnyDataset) -> AnyDataset:
    """The dataset as `SFTTrainer` (or, with pairs, `DPOTrainer`) takes it.

    Other columns are kept, but for the text columns of a second format (UltraChat's `prompt` beside `messages`), which
    TRL would read instead.

    | found | returned |
    |---|---|
    | `messages`, `prompt` + `completion`, `text` | the same |
    | `chosen` + `rejected` | the same; a `prompt` that the conversations contain already is dropped |
    | `conversations` (ShareGPT) | `messages`, roles renamed |
    | `instruction`, `input`, `output` | `prompt` and `completion`, one message each, so the chat template applies |

    Args:
        dataset: in any format that hf_dsel reads.

    Raises:
        UnknownFormat: the columns are in no known format.
        Unreadable: rows that cannot be converted, with their numbers and the first reason.

    >>> pool = Dataset.from_dict({"instruction": ["Hi."], "output": ["Hello."]})
    >>> to_trl(pool)["completion"][0]
    [{'role': 'assistant', 'content': 'Hello.'}]
    """
    if isinstance(dataset, DatasetDict):
        return DatasetDict({name: to_trl(split) for name, split in dataset.items()})
    if not isinstance(dataset, Dataset | IterableDataset):
        raise TypeError(f"to_trl takes a Dataset, DatasetDict or IterableDataset, got {type(dataset).__name__}")
    if dataset.column_names is None:
        raise Unreadable(
            "the stream does not say its columns; load it with features=, or call stream._resolve_features()"
        )
    format_name = rows.detect(dataset.column_names)
    second = READ_BY_TRL - set(rows.text_columns(dataset.column_names))
    dataset = _without(dataset, [n for n in dataset.column_names if n in second])
    if format_name == "preference":
        return _without_repeated_prompt(dataset)
    if format_name in ("sharegpt", "alpaca"):
        return _converted(dataset, format_name)
    if format_name == "prompt":
        raise Unreadable("the dataset has prompts and no answers; SFT needs 'completion', DPO 'chosen' and 'rejected'")
    return dataset


def _without(dataset: Any, names: list[str]) -> Any:
    return dataset.remove_columns(names) if names else dataset


def _without_repeated_prompt(dataset: Any) -> Any:
    first = next(iter(dataset), None)
    if "prompt" not in dataset.column_names or first is None or isinstance(first["chosen"], str):
        return dataset
    repeated = rows.holds_prompt(rows.messages_of(first["chosen"], "chosen"))
    return _without(dataset, ["prompt"] if repeated else [])


def _converted(dataset: Any, format_name: str) -> Any:
    source = rows.text_columns(dataset.column_names)
    columns = ("messages",) if format_name == "sharegpt" else ("prompt", "completion")
    kept = {n: f for n, f in (dataset.features or {}).items() if n not in source}
    features = Features(kept | dict.fromkeys(columns, MESSAGES)) if dataset.features else None
    shown = {"desc": "to TRL's format"} if isinstance(dataset, Dataset) else {}
    options = {"batched": True, "with_indices": True, "remove_columns": source, "features": features}
    return dataset.map(_Convert(format_name), **options, **shown)


class _Convert:
    """A callable of a class, so that `map` hashes it by its format alone."""

    def __init__(self, format_name: str) -> None:
        self.format_name = format_name
        self.algorithm = 1

    def __call__(self, batch: Mapping[str, Sequence[Any]], at: Sequence[int]) -> dict[str, list[Any]]:
        read = rows.read(batch)
        answer = "output" if "output" in batch else "response"
        bad = [
            (i, row.problem or f"{answer} is null")
            for i, row in zip(at, read, strict=True)
            if row.problem or (self.format_name == "alpaca" and row.turns[0].response is None)
        ]
        if bad:
            raise Unreadable(
                f"{len(bad):,} of {len(at):,} rows cannot be converted, first row {bad[0][0]}: {bad[0][1]}. "
                "Filter them out, for example dataset.filter(lambda row: row['output'] is not None)."
            )
        if self.format_name == "sharegpt":
            found = [rows.messages_of(c, "conversations") for c in batch["conversations"]]
            return {"messages": [[m.as_dict() for m in messages] for messages in found]}
        turns = [row.turns[0] for row in read]
        return {
            "prompt": [[m.as_dict() for m in turn.prompt] for turn in turns],
            "completion": [[{"role": "assistant", "content": turn.response}] for turn in turns],
        }

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a gate and flipped labels take to learn from and to load: checked, with an error that says what to give."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hf_dsel.extras import need


def need_trees() -> None:
    """Raise unless LightGBM is installed, which both learn with."""
    need("lightgbm", "the gate", extra="gate")


def check_model(option: str, value: Any, kind: type) -> None:
    """Raise for what is no model: neither a name, nor the scorer that runs it, nor None.

    >>> from hf_dsel import Embed
    >>> check_model("embedder", 5, Embed)
    Traceback (most recent call last):
    TypeError: embedder=5; it is a model's name or folder as text, a hf_dsel.Embed, or None for no model
    """
    if not isinstance(value, str | kind | None) or value == "":
        wrong = ValueError if value == "" else TypeError
        also = f"; write {option}={str(value)!r}" if isinstance(value, os.PathLike) else ""
        raise wrong(
            f"{option}={value!r}; it is a model's name or folder as text, a hf_dsel.{kind.__name__}, or None for no "
            f"model{also}"
        )


def whole(option: str, value: Any, *, least: int, rule: str | None = None) -> int:
    """A whole number, of any integer type, as an int.

    >>> whole("learn_from", 5, least=300)
    Traceback (most recent call last):
    ValueError: learn_from=5; it is a whole number, 300 or more
    """
    number = value.__index__() if hasattr(value, "__index__") and not isinstance(value, bool) else None
    form = f"it is a whole number, {least:,} or more"
    if number is None:
        raise TypeError(f"{option}={value!r}; {form}")
    if number < least:
        raise ValueError(f"{option}={value!r}; {rule or form}")
    return int(number)


def check_pool(dataset: Any, name: str, does: str = "fit") -> None:
    """Raise for what is no `Dataset`; `name` is the class that learns, `does` its method that takes the dataset.

    >>> check_pool(DatasetDict(train=Dataset.from_list([])), "Gate")
    Traceback (most recent call last):
    TypeError: Gate.fit learns from one Dataset, and this has the splits 'train'; give one: Gate.fit(dataset['train'])
    """
    if isinstance(dataset, Dataset):
        return
    called = f"{name}.{does}" if does == "fit" else does
    if isinstance(dataset, DatasetDict | IterableDatasetDict) and dataset:
        splits = ", ".join(map(repr, dataset))
        found = f"has the splits {splits}; give one: {called}(dataset[{str(next(iter(dataset)))!r}])"
    elif isinstance(dataset, IterableDataset):
        found = f"is a stream; take some rows of it: {called}(Dataset.from_list(list(dataset.take(12_000))))"
    else:
        found = f"is of type {type(dataset).__name__}; rows become one by datasets.Dataset.from_list(rows)"
    raise TypeError(f"{name}.{does} {'learns from' if does == 'fit' else 'reads'} one Dataset, and this {found}")


def drawn_from(rows: int, pool: int) -> str:
    """How many rows were looked at, and of how many, where these are more.

    >>> drawn_from(12_000, 52_002), drawn_from(300, 300)
    ('12,000 rows drawn from 52,002', '300 rows')
    """
    return f"{rows:,} rows" + (f" drawn from {pool:,}" if rows < pool else "")


def saved(path: str | os.PathLike[str], name: str) -> bytes:
    """The content of a file that `name`.save wrote.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no file, or a folder.
    """
    place = Path(path)
    for there, what, wrong in ((not place.exists(), "is not there", FileNotFoundError),
                               (place.is_dir(), "is a folder", IsADirectoryError)):  # fmt: skip
        if there:
            raise wrong(f"{os.fspath(path)!r} {what}; give the file that {name}.save wrote")
    return place.read_bytes()


def check_loading(name: str, path: Any, chosen: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raise for an option that comes too late for what has learned: only where its models and columns are may change.

    Raises:
        TypeError: naming the option, those that can be given, and what to do.
    """
    late = [option for option in chosen if option not in allowed]
    if late:
        raise TypeError(
            f"{name}.load({os.fspath(path)!r}) takes {', '.join(allowed)}, and not {late[0]}=, since what was learned "
            f"stays as it is: leave it out, or learn again with {name}.fit(pool, {late[0]}=...)"
        )

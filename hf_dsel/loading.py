# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A published subset, or one that lies in a folder, together with the record of how it was chosen."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.fetching import fetched
from hf_dsel.opening import CannotOpen, open_dataset
from hf_dsel.scorer_marks import with_marks
from hf_dsel.selection import Selection, WrongSource, remember

PUBLISHED, SAVED = "hf_dsel.json", "selection.json"  # the record as push_to_hub and as `hf-dsel select` write it


class NoRecord(ValueError):
    """A repository or folder holds no record of a selection."""


@dataclass(frozen=True)
class Loaded:
    """Rows with their record. `fields` is the record's file as it stands, `revision` the commit (None for a folder)."""

    rows: Dataset
    record: Selection
    fields: dict[str, Any]
    revision: str | None


def load(
    repo_or_dir: str | os.PathLike[str],
    *,
    revision: str | None = None,
    split: str | None = None,
    token: str | None = None,
) -> Dataset:
    """A subset that `hf_dsel.push_to_hub` published, or that `hf-dsel select` wrote, with its record.

    `selection_of(subset)` gives the record; its `apply` picks the same rows out of the source. To read the rows alone,
    or as a stream, plain `load_dataset` does.

    Args:
        repo_or_dir: `name/repository`, or a folder.
        revision: a branch, tag or commit; the newest one when left out.
        split: train when left out.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Raises:
        NoRecord: there is no record beside the rows, or a broken one.
        NotFetched: no such repository, no right to read it, no connection.
        CannotOpen: the rows cannot be read.
    """
    return load_with_record(repo_or_dir, revision=revision, split=split, token=token).rows


def load_with_record(
    repo_or_dir: str | os.PathLike[str],
    *,
    revision: str | None = None,
    split: str | None = None,
    token: str | None = None,
) -> Loaded:
    """The rows, the record, and everything that the record's file says. Arguments and errors as for `load`."""
    place = os.fspath(repo_or_dir)
    folder = fetched(place, [PUBLISHED, SAVED], revision=revision, token=token)
    local = Path(place).expanduser().is_dir()
    file = next((folder / name for name in (PUBLISHED, SAVED) if (folder / name).is_file()), None)
    if file is None:
        rows = f"plain load_dataset({place!r}) reads the rows"
        raise NoRecord(f"{place} holds no {PUBLISHED} and no {SAVED}, so nothing says how it was chosen; {rows}")
    try:
        record = Selection.load(file)
    except ValueError as error:
        raise NoRecord(f"{place}: {file.name} is no record of a selection: {error}") from None
    commit = None if local else folder.name
    rows = open_dataset(place, split=split or "train", revision=commit, token=token)
    rows = remember(with_marks(rows, record.scorers), record)
    return Loaded(rows, record, json.loads(file.read_text(encoding="utf-8")), commit)


def open_source(
    place: str,
    record: Selection,
    *,
    config: str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Dataset:
    """The dataset at a place, in the split that a selection was made on.

    On the Hub that is the recorded one. A local copy may hold all of it, the recorded slice alone, or the same rows as
    its train; the first that the record fits is taken, or else the first that is there.
    """
    said = (record.origin or {}).get("split") or "train"
    splits = list(dict.fromkeys([said, re.split(r"[\[+]", said, maxsplit=1)[0], "train"]))
    if not Path(place).expanduser().exists():
        splits = splits[:1]
    found: list[Dataset] = []
    for split in splits:
        try:
            rows = open_dataset(place, name=config, split=split, revision=revision, token=token)
            record.check(rows)
            return rows
        except WrongSource:
            found.append(rows)
        except CannotOpen:
            if split == splits[-1] and not found:
                raise
    return found[0]

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Published scores joined to any copy of their rows."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import datasets
import numpy as np
import pyarrow as pa
import xxhash
from datasets import Dataset, DatasetDict, Features, concatenate_datasets, load_dataset

from hf_dsel.budget import IntArray
from hf_dsel.columns import MissingColumn
from hf_dsel.fetching import NotFetched, fetched
from hf_dsel.opening import BUILDERS as FILES
from hf_dsel.origin import HUB_ID
from hf_dsel.progress import count, say
from hf_dsel.row_keys import KEY_VERSION, RowKeys, halves_of, places, row_keys
from hf_dsel.rows import UnknownFormat, text_columns
from hf_dsel.score_files import FORMAT, KEY, RECORD, status_of
from hf_dsel.scorer_marks import scorers_of, with_marks

NONE = "no published score of this row"
_BATCH = 65_536
AnyDataset = TypeVar("AnyDataset", Dataset, DatasetDict)


class NothingJoined(ValueError):
    """Published scores fit no row of a dataset, or are no scores; the text says what was compared."""


def with_scores(
    dataset: AnyDataset,
    repo_or_dir: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> AnyDataset:
    """The dataset with published scores joined to its rows, found by what the rows say.

    Any copy of the rows that were scored will do: in another order, a part of them, with other rows between, as a file
    or in another column format that `hf_dsel` reads the same way. The text counts to the letter.

    Args:
        dataset: the rows; or a DatasetDict, whose splits are joined one by one.
        repo_or_dir: what `push_scores` or `save_scores` wrote: a folder, or else the id of a repository.
        columns: which scores; None joins all.
        revision: a branch, tag or commit of the repository.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Returns:
        the rows in their order, with the columns and the `_status` of each. A row without a published score has null
        and says so in the status; of a DatasetDict a whole split may be so.

    Raises:
        NotFetched: no such folder or repository, or a file.
        TypeError: `repo_or_dir` is neither text nor a path.
        NothingJoined: no scores there, or none of these rows.
        MissingColumn: a column that is not published.
        ValueError: a column that the dataset has already.
        UnknownFormat: the rows are in no format that hf_dsel reads.
    """
    if not isinstance(dataset, Dataset | DatasetDict):
        raise TypeError(
            f"with_scores takes a Dataset or DatasetDict, got {type(dataset).__name__}; a stream is loaded without "
            "streaming=True first"
        )
    splits: dict[Any, Dataset] = {"": dataset} if isinstance(dataset, Dataset) else dict(dataset)
    _check_place(repo_or_dir)
    folder = fetched(repo_or_dir, (RECORD, "data/train-*.parquet"), revision=revision, token=token)
    record = _record_in(folder, os.fspath(repo_or_dir))
    names: list[str] = _wanted(record, columns, os.fspath(repo_or_dir))
    for name, split in splits.items():
        clash = _clash(split, names, list(record["columns"]) if columns is None else list(columns))
        if clash:
            raise ValueError(f"split {name!r}: {clash}" if name else clash)
    files = [str(folder / name) for name in record["files"]]
    missing = [name for name in files if not Path(name).is_file()]
    if missing:
        raise NothingJoined(f"{missing[0]} is missing; copy or fetch the whole of {os.fspath(repo_or_dir)} again")
    lines = load_dataset("parquet", data_files=files, columns=[KEY, *names], split="train")
    halves = halves_of(lines.data.column(KEY))
    keys = {name: _keys_of(split, name) for name, split in splits.items()}
    at = {name: places(of_split, *halves) for name, of_split in keys.items()}
    if splits and not any((found >= 0).any() for found in at.values()):
        name = next(iter(splits))
        of = f"split {name!r}: " if name else ""
        raise NothingJoined(f"{of}{_nothing(splits[name], keys[name], record, os.fspath(repo_or_dir))}")
    makers = {name: column["made_by"] for name, column in record["columns"].items() if column["made_by"]}
    marks = {name: how for name, how in makers.items() if name in names}
    joined = {}
    for name, split in splits.items():
        of = f" of the split {name!r}" if name else ""
        say(f"{int((at[name] >= 0).sum()):,} of {count(len(split), 'row')}{of} have a published score")
        both = _beside(split, _taken(lines.select_columns(names), at[name]))
        joined[name] = with_marks(both, scorers_of(split) | marks)
    return cast(AnyDataset, joined[""] if isinstance(dataset, Dataset) else DatasetDict(joined))


def _check_place(place: Any) -> None:
    """Raise for a file, and for a folder that is not there; what may be an id of the Hub passes."""
    if not isinstance(place, str | os.PathLike):
        raise TypeError(f"with_scores takes a folder or the id of a repository, got {place!r}")
    text = os.fspath(place)
    found = Path(os.path.expanduser(text))  # where there is no such user, Path.expanduser raises
    expected = "a folder that save_scores or push_scores wrote, or the id of a repository such as me/scores"
    if found.is_file():
        whole = f": give {found.parent}" if (found.parent / RECORD).is_file() else ""
        raise NotFetched(f"{text!r} is a file, and scores are joined from {expected}{whole}")
    looks_local = not isinstance(place, str) or text.startswith((".", "/", "~")) or found.suffix in FILES
    if not text or (not found.exists() and (looks_local or not HUB_ID.fullmatch(text))):
        raise NotFetched(f"there is no folder {text!r}; scores are joined from {expected}")


def _keys_of(split: Dataset, name: str) -> RowKeys:
    try:
        return row_keys(split)
    except UnknownFormat as error:
        raise UnknownFormat(f"split {name!r}: {error}" if name else str(error)) from None


def _beside(split: Dataset, scores: Dataset) -> Dataset:
    """The rows with the scores; of no rows a table with the columns of both."""
    if len(split):
        return concatenate_datasets([split, scores], axis=1)
    features = Features({**split.features, **scores.features})  # concatenate_datasets leaves out what has no rows
    info = split.info.copy()
    info.features = features
    return Dataset(features.arrow_schema.empty_table(), info=info, split=split.split)


def _taken(lines: Dataset, at: IntArray) -> Dataset:
    """These lines, in a memory-mapped file; where there is none (-1), null and a status that says it."""
    key = xxhash.xxh64(at.tobytes())
    key.update(lines._fingerprint.encode())
    path = Path(datasets.config.HF_DATASETS_CACHE) / "hf_dsel" / f"joined-{key.hexdigest()}.arrow"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        schema = Features(lines.features).arrow_schema
        try:
            with pa.ipc.new_stream(str(temporary), schema) as writer:
                for start in range(0, len(at), _BATCH):
                    some = at[start : start + _BATCH]
                    columns = [_values(lines.data.column(field.name), some, field) for field in schema]
                    writer.write_table(pa.table(columns, schema=schema))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return Dataset.from_file(str(path))


def _values(column: pa.ChunkedArray, at: IntArray, field: pa.Field) -> pa.Array:
    """The values at these places, read chunk by chunk; null, or the status NONE, at -1."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    order = np.argsort(at, kind="stable")
    order = order[at[order] >= 0]
    bounds = np.searchsorted(at[order], np.concatenate([[0], ends]))
    parts = [
        chunk.take(pa.array(at[order[low:high]] - (end - len(chunk))))
        for chunk, end, low, high in zip(column.chunks, ends, bounds[:-1], bounds[1:], strict=True)
        if low < high
    ]
    place = np.full(len(at), len(order))
    place[order] = np.arange(len(order))
    gap = pa.array([NONE if field.name.endswith("_status") else None], field.type)
    return pa.concat_arrays([*(part.cast(field.type) for part in parts), gap]).take(pa.array(place))


def _record_in(folder: Path, place: str) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise NothingJoined(f"{place} holds no {RECORD}, so no scores that hf_dsel published")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = record["hf_dsel_scores"] == FORMAT and record["key"]["version"] == KEY_VERSION
        made = record["versions"]["hf-dsel"]
    except (ValueError, KeyError, TypeError) as error:
        raise NothingJoined(f"{RECORD} of {place} is damaged ({error}); fetch it again") from None
    if not known:
        raise NothingJoined(
            f"the scores in {place} were written by hf-dsel {made}, in a form that this one cannot read"
        )
    return dict(record)


def _wanted(record: dict[str, Any], columns: Sequence[str] | None, place: str) -> list[str]:
    """The columns to join, each with its status."""
    there = list(record["columns"])
    if isinstance(columns, str):
        raise ValueError(f"columns is {columns!r}; give a list of names, such as [{columns!r}]")
    missing = [name for name in columns or () if name not in there]
    if missing:
        raise MissingColumn(f"{place} has no score {missing[0]!r}; it has {', '.join(there)}")
    chosen = there if columns is None else list(columns)
    named = [n for name in chosen for n in (name, status_of(name, there) or f"{name.removesuffix('_turns')}_status")]
    return list(dict.fromkeys(named))


def _clash(dataset: Dataset, names: Sequence[str], columns: Sequence[str]) -> str | None:
    """What to say when the dataset has some of the columns."""
    clash = [name for name in names if name in dataset.column_names]
    if not clash:
        return None
    free = [name for name in columns if name not in clash and f"{name}_status" not in clash]
    only = f", or join the others: columns={free!r}" if free else ""
    return (
        f"the dataset has {', '.join(clash)} already. Take its own away: dataset.remove_columns({clash!r}); or "
        f"rename it: dataset.rename_column({clash[0]!r}, 'my_{clash[0]}'){only}"
    )


def _nothing(dataset: Dataset, keys: RowKeys, record: dict[str, Any], place: str) -> str:
    source, columns = record["source"], ", ".join(text_columns(dataset.column_names))
    of = f" of {record['origin']['repo']}" if record["origin"] else ""
    text = (
        f"none of the {count(len(dataset), 'row')} (read as {keys.format_name}, from {columns}) is among the "
        f"{record['rows']:,} of {place}, which were made from rows{of} read as {source['format']}, from "
        f"{', '.join(source['columns'])}. The text must be the same to the letter: another revision, a chat template "
        "or an added system message make other rows"
    )
    problems = "; ".join(f"{n:,} x {why}" for why, n in list(keys.problems.items())[:3])
    return f"{text}. Rows that cannot be read: {problems}" if problems else text

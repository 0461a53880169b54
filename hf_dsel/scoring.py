# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scoring at size: rows in shards, shards over ranks, every finished shard on disk for good."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import datasets
import numpy as np
import pyarrow as pa
import xxhash
from datasets import Dataset, DatasetDict, Features, concatenate_datasets
from datasets.fingerprint import Hasher

from hf_dsel.progress import bar, count, is_main_process, say
from hf_dsel.rows import text_columns
from hf_dsel.scorer_marks import described, made_by, scorers_of, with_marks, written

__all__ = ["OtherScores", "Scorer", "described", "joined_scorers", "score", "written"]
SHARD_ROWS = 2048
MOST_SHARDS = 1000
WAIT_SECONDS = 0.2
AnyDataset = TypeVar("AnyDataset", Dataset, DatasetDict)


class OtherScores(ValueError):
    """A cache folder holds scores made with another model, other settings or from other data."""


class Scorer(Protocol):
    """Rows in, new columns out. Plain functions for `Dataset.map(batched=True)` are scorers too, without the rest."""

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> Mapping[str, Any]:
        """The new columns of a batch, one value for each row, in order."""
        ...

    def features(self) -> Mapping[str, Any]:
        """The columns it writes and their types."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that its scores depend on, as JSON."""
        ...

    def joined(self, other: Any) -> Any | None:
        """One scorer that does the work of both in one pass over the model, or None."""
        ...

    def check(self, column_names: Sequence[str]) -> None:
        """Raise what would go wrong for this dataset, before any model is loaded."""
        ...


def score(
    dataset: AnyDataset,
    scorers: Any,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    shard_rows: int | None = None,
) -> AnyDataset:
    """The dataset with the scorers' columns added, computed in shards that survive a crash.

    Rows are split into shards. Each shard is sorted by length inside the scorer, scored, and written as one Arrow file
    in one step, so a killed run loses at most the shard it was in, and the next run with the same arguments goes on
    from there. Under `torchrun` or `accelerate launch` each rank scores its share and all return the full dataset. The
    new columns are read from the shard files, memory-mapped. Scorers that differ only in the columns they ask of one
    language model share its forward passes.

    Args:
        dataset: a Dataset, or a DatasetDict, whose splits are scored one by one.
        scorers: one scorer or a list.
        cache_dir: folder of the shards, shared by all ranks. The default is a folder of its own, named by the data and
            the settings, in the `datasets` cache.
        shard_rows: rows a shard; 2,048, or the thousandth part of a large dataset.

    Returns:
        the dataset with the new columns, rows in the same order. It remembers which scorer made which column, and
        `select_by` writes that into the record.

    Raises:
        OtherScores: `cache_dir` holds the same columns made with another model, other settings or other data.
        ValueError: no rows, a column that exists already, two scorers for one column, or what a scorer's own check
        finds.

    >>> from hf_dsel.scorers import Length
    >>> pool = Dataset.from_dict({"instruction": ["Say hi."], "output": ["Hi, you there."]})
    >>> score(pool, Length(of="response", unit="words"))["response_words"][:]
    [3]
    """
    todo = [scorers] if callable(scorers) else list(scorers)
    if isinstance(dataset, DatasetDict):
        folders = {n: None if cache_dir is None else Path(cache_dir) / n for n in dataset}
        return DatasetDict({n: score(d, todo, cache_dir=folders[n], shard_rows=shard_rows) for n, d in dataset.items()})
    if not isinstance(dataset, Dataset):
        raise TypeError(f"score takes a Dataset or DatasetDict, got {type(dataset).__name__}; map a stream instead")
    if len(dataset) == 0:
        raise ValueError("the dataset has no rows to score")
    if shard_rows is not None and shard_rows < 1:
        raise ValueError(f"shard_rows must be at least 1, got {shard_rows}")
    check_scorers(joined_scorers(todo), dataset)
    todo = [s.fitted(dataset) if hasattr(s, "fitted") else s for s in todo]  # one that learns from the pool itself
    groups = joined_scorers(todo)
    size = shard_rows or max(SHARD_ROWS, math.ceil(len(dataset) / MOST_SHARDS))
    contents: dict[tuple[str, ...], str] = {}
    marks = {**scorers_of(dataset), **made_by(todo)}
    for scorer in groups:
        names = _read_by(scorer, dataset)
        contents[names] = contents.get(names) or _content_hash(dataset, names)
        manifest = {"rows": len(dataset), "shard_rows": size, "content": contents[names], "scorer": _settings(scorer)}
        folder = _folder(cache_dir, scorer, manifest)
        _claim(folder, manifest)
        _score_shards(dataset, scorer, folder, size)
        parts = [Dataset.from_file(str(folder / _shard_name(i))) for i in range(math.ceil(len(dataset) / size))]
        dataset = concatenate_datasets([dataset, concatenate_datasets(parts)], split=dataset.split, axis=1)
    return cast(AnyDataset, with_marks(dataset, marks))


def joined_scorers(scorers: Sequence[Any]) -> list[Any]:
    """The scorers, with those that can share a pass joined."""
    groups: list[Any] = []
    for scorer in scorers:
        if not callable(scorer):
            raise TypeError(f"a scorer is a callable that takes a batch, got {scorer!r}")
        for i, earlier in enumerate(groups):
            both = earlier.joined(scorer) if hasattr(earlier, "joined") else None
            if both is not None:
                groups[i] = both
                break
        else:
            groups.append(scorer)
    return groups


def check_scorers(groups: Sequence[Any], dataset: Dataset) -> None:
    """Raise for scorers that would write over a column or one another, and for what their own checks find."""
    seen = {name: "the dataset already has it; remove or rename it first" for name in dataset.column_names}
    for scorer in groups:
        if hasattr(scorer, "check"):
            scorer.check(dataset.column_names)
        for name in written(scorer):
            if name in seen:
                raise ValueError(f"{type(scorer).__name__} would write the column {name!r}, but {seen[name]}")
            seen[name] = f"{type(scorer).__name__} writes it too; give one of them another column name"


def _settings(scorer: Any) -> dict[str, Any]:
    if hasattr(scorer, "settings"):
        return dict(scorer.settings())
    name = getattr(scorer, "__qualname__", type(scorer).__qualname__)
    return {"callable": name, "hash": Hasher.hash(scorer)}


def _read_by(scorer: Any, dataset: Dataset) -> tuple[str, ...]:
    """The columns that a scorer gets: those of the text, and those that it names besides."""
    more = scorer.also_reads(dataset.column_names) if hasattr(scorer, "also_reads") else ()
    return (*text_columns(dataset.column_names), *more)


def _content_hash(dataset: Dataset, names: Sequence[str]) -> str:
    """A hash of these columns of every row."""
    digest = xxhash.xxh64()
    for table in dataset.select_columns(list(names)).with_format("arrow").iter(batch_size=10_000):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
            writer.write_table(table.replace_schema_metadata(None).combine_chunks())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _folder(cache_dir: str | os.PathLike[str] | None, scorer: Any, manifest: Mapping[str, Any]) -> Path:
    names = [n for n in written(scorer) if not n.endswith("_status")] or [type(scorer).__name__]
    slug = re.sub(r"[^\w.+-]", "_", "+".join(names))[:100]
    if cache_dir is not None:
        return Path(cache_dir) / slug
    key = xxhash.xxh64(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_dsel" / f"{slug}-{key}"


def _claim(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or see that the one there is the same."""
    path = folder / "manifest.json"
    if is_main_process() and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, json.dumps(manifest, indent=1, sort_keys=True).encode())
    while not path.exists():
        time.sleep(WAIT_SECONDS)
    found = json.loads(path.read_text())
    changed = [f"{k}: {a!r} there, {b!r} now" for k, a, b in _differences(found, manifest)]
    if changed:
        raise OtherScores(
            f"{folder} holds scores made otherwise ({'; '.join(changed)}). Use another cache_dir, or delete it."
        )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], at: str = "") -> list[tuple[str, Any, Any]]:
    """What two nested records do not share, by dotted name."""
    found = []
    for key in sorted({*a, *b}):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found += _differences(x, y, f"{at}{key}.")
        elif x != y:
            found.append((f"{at}{key}", x, y))
    return found


def _shard_name(i: int) -> str:
    return f"shard-{i:05d}.arrow"


def _write_atomically(path: Path, data: bytes | pa.Buffer) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _score_shards(dataset: Dataset, scorer: Any, folder: Path, size: int) -> None:
    """Score this rank's missing shards, then wait for the other ranks' ones."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    shards = [range(start, min(start + size, len(dataset))) for start in range(0, len(dataset), size)]
    mine = range(rank, len(shards), world)
    missing = [i for i in mine if not (folder / _shard_name(i)).exists()]
    total, todo = sum(len(shards[i]) for i in mine), sum(len(shards[i]) for i in missing)
    what = " ".join(n for n in written(scorer) if not n.endswith("_status")) or type(scorer).__name__
    if missing and todo < total:
        say(f"{what}: {count(total - todo, 'row')} scored before, {count(todo, 'row')} to go ({folder})")
    if missing:
        rows = dataset.select_columns(list(_read_by(scorer, dataset))).with_format(None)
        features = Features(scorer.features()) if hasattr(scorer, "features") else None
        with bar(total=total, what=what, done=total - todo) as progress:
            for i in missing:
                table = _scored(rows[shards[i].start : shards[i].stop], scorer, features, progress)
                _write_shard(table, folder / _shard_name(i))
    _wait_for(folder, len(shards))


def _scored(batch: Mapping[str, Sequence[Any]], scorer: Any, features: Features | None, progress: Any) -> pa.Table:
    n = len(next(iter(batch.values())))
    start = progress.n
    if hasattr(scorer, "on_rows"):
        scorer.on_rows = progress.update
    columns = scorer(batch)
    if hasattr(scorer, "on_rows"):
        scorer.on_rows = None
    progress.update(start + n - progress.n)
    wrong = {name: len(values) for name, values in columns.items() if len(values) != n}
    if wrong:
        raise ValueError(f"{type(scorer).__name__} returned {wrong} values for {n} rows; a scorer returns one a row")
    made = Dataset.from_dict({k: list(v) if isinstance(v, np.ndarray) else v for k, v in columns.items()}, features)
    return made.data.table


def _write_shard(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    _write_atomically(path, sink.getvalue())


def _wait_for(folder: Path, shards: int) -> None:
    """Until all shards are there. Ranks meet at the files, so a long tail cannot time a collective out."""
    left = [i for i in range(shards) if not (folder / _shard_name(i)).exists()]
    if left:
        say(f"waiting for {count(len(left), 'shard')} of other ranks in {folder}")
    while left:
        time.sleep(WAIT_SECONDS)
        left = [i for i in left if not (folder / _shard_name(i)).exists()]
    if is_main_process():
        for stale in folder.glob("*.tmp"):
            stale.unlink(missing_ok=True)

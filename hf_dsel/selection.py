# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The record of a selection: which rows, in which order, by which rule, from what. It can be saved and replayed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import weakref
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, List, Value
from datasets.table import InMemoryTable

from hf_dsel.budget import IntArray
from hf_dsel.rows import text_columns

FILE_FORMAT = 1
SAMPLED_ROWS = 1000
IN_MEMORY_ROWS = 100_000
Float32Array = npt.NDArray[np.float32]


class WrongSource(ValueError):
    """A selection was applied to another dataset than the one it was made on."""


@dataclass(frozen=True)
class Source:
    """What the rows were picked from: the number of rows and a hash of their text.

    The hash covers `columns` of up to 1,000 evenly spaced rows, so it is the same on every machine and does not change
    when scores are added.
    """

    rows: int
    columns: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, dataset: Dataset, columns: tuple[str, ...] | None = None) -> Source:
        """The source record of a dataset."""
        names = tuple(text_columns(dataset.column_names)) if columns is None else columns
        missing = sorted(set(names) - set(dataset.column_names))
        if missing:
            raise WrongSource(f"the selection was made on a dataset with the columns {missing}, which this one lacks")
        at = np.unique(
            np.linspace(0, max(len(dataset) - 1, 0), min(SAMPLED_ROWS, len(dataset))).round().astype(np.int64)
        )
        sample = dataset.with_format(None).select(at).select_columns(list(names)) if names else None
        digest = hashlib.sha256()
        for row in sample if sample is not None else ():
            digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode())
        return cls(len(dataset), names, digest.hexdigest())


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows that a strategy picked, in pick order, and everything needed to do it again.

    Args:
        indices: int64 (k,), rows of the source in pick order.
        gains: float32 (k,), what each pick added; NaN where the strategy defines no gain.
        strategy: the strategy's repr, which can be pasted back as code.
        seed: the seed of the call.
        budget: what was asked for, such as `{"k": 6000}`.
        source: the pool's size and text hash.
        columns: the columns that the strategy read.
        why: further numbers for each pick, by name; `apply` writes them as `selection_<name>`.
        shortfall: rows asked for and not found, because the strategy's rule ran dry.
        left_out: how many rows could not be considered, by reason.
        versions: of hf_dsel and the libraries that did the arithmetic.
        scorers: for each column that was read and that hf_dsel computed: its scorer, model, revision and settings.
        origin: where the pool is on the Hub: repo, revision, config and split; None where it is not or nobody knows.
        where: conditions on columns, such as `ifd < 1`; only rows that fulfil them were considered.
        gate: how rows that are probably junk were left out first, as `select_by` takes it; None where they were not.
        dedup: how copies were left out first, as `select_by` takes it; None where they were not.

    >>> pool = Dataset.from_dict({"text": ["a", "b", "c"]})
    >>> chosen = Selection(np.array([2, 0]), np.array([0.9, 0.5]), "TopK()", 42, {"k": 2}, Source.of(pool))
    >>> chosen.apply(pool)["text"][:]
    ['c', 'a']
    """

    indices: IntArray
    gains: Float32Array
    strategy: str
    seed: int
    budget: dict[str, float]
    source: Source
    columns: tuple[str, ...] = ()
    why: dict[str, Float32Array] = field(default_factory=dict)
    shortfall: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: installed_versions())
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: dict[str, str | None] | None = None
    where: tuple[str, ...] = ()
    dedup: bool | float | dict[str, Any] | None = None
    gate: bool | float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", np.asarray(self.indices, np.int64))
        object.__setattr__(self, "gains", np.asarray(self.gains, np.float32))
        object.__setattr__(self, "why", {n: np.asarray(v, np.float32) for n, v in self.why.items()})

    def __len__(self) -> int:
        """How many rows were picked."""
        return len(self.indices)

    def __repr__(self) -> str:
        """One line: the rule, the numbers of rows, the first picks."""
        head = ", ".join(str(i) for i in self.indices[:5]) + (", ..." if len(self) > 5 else "")
        return f"Selection({self.strategy}: {len(self):,} of {self.source.rows:,} rows, indices=[{head}])"

    def apply(self, dataset: Dataset, *, keep_vectors: bool = False, strict: bool = True) -> Dataset:
        """The picked rows of `dataset`, in pick order, with `selection_rank`, `selection_gain` and the reasons added.

        Args:
            dataset: the source, with or without further columns.
            keep_vectors: keep the columns of embeddings and terms that the strategy read; they are large, and trainers
                copy them.
            strict: refuse a dataset whose text differs from the source's.

        Raises:
            WrongSource: other rows than the selection was made on.
        """
        if strict:
            self.check(dataset)
        subset = dataset.select(self.indices)
        if not keep_vectors:
            subset = subset.remove_columns([n for n in self.columns if _is_large(subset.features.get(n))])
        added: dict[str, Any] = {"rank": np.arange(len(self)), "gain": self.gains} | self.why
        subset = subset.remove_columns([f"selection_{n}" for n in added if f"selection_{n}" in subset.column_names])
        if len(self) <= IN_MEMORY_ROWS:
            table = InMemoryTable(subset.with_format("arrow")[:])
            subset = Dataset(table, info=subset.info.copy(), split=subset.split).with_format(**subset.format)
        for name, values in added.items():
            feature = Value("int64" if name == "rank" else "float32")
            column = [None if v != v else v for v in values.tolist()]  # NaN, no gain defined, becomes null
            subset = subset.add_column(f"selection_{name}", column, feature=feature)
        return remember(subset, self)

    def check(self, dataset: Dataset) -> None:
        """Whether a dataset is the source.

        Raises:
            WrongSource: another number of rows, or other text.
        """
        if len(dataset) != self.source.rows:
            raise WrongSource(
                f"the selection was made on {self.source.rows:,} rows, this dataset has {len(dataset):,}. Load the "
                "source that it was made on (same revision and split); strict=False skips this check."
            )
        if Source.of(dataset, self.source.columns) != self.source:
            raise WrongSource(
                f"the text of this dataset differs from what the selection was made on (columns "
                f"{', '.join(self.source.columns)}; another revision or order?). Pass strict=False to apply the row "
                "numbers all the same."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record as JSON, atomically."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_text(self.to_json() + "\n", encoding="utf-8")
        temporary.replace(target)

    def to_json(self) -> str:
        """The record as JSON text."""
        record = {"hf_dsel_selection": FILE_FORMAT, "strategy": self.strategy, "seed": self.seed, "budget": self.budget}
        record |= {"source": asdict(self.source), "columns": list(self.columns), "shortfall": self.shortfall}
        record |= {"left_out": self.left_out, "versions": self.versions, "scorers": self.scorers, "origin": self.origin}
        record |= {"where": list(self.where), "dedup": self.dedup, "gate": self.gate, "indices": self.indices.tolist()}
        record |= {"gains": _numbers(self.gains), "why": {n: _numbers(v) for n, v in self.why.items()}}
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Selection:
        """The record that `to_json` wrote."""
        record = json.loads(text)
        if not isinstance(record, dict) or record.get("hf_dsel_selection") != FILE_FORMAT:
            raise ValueError(f"not a selection of format {FILE_FORMAT}, as hf_dsel {version('hf-dsel')} writes it")
        source = record["source"]
        return cls(
            indices=np.asarray(record["indices"], np.int64),
            gains=np.asarray(record["gains"], np.float32),
            strategy=record["strategy"],
            seed=record["seed"],
            budget=record["budget"],
            source=Source(source["rows"], tuple(source["columns"]), source["sha256"]),
            columns=tuple(record["columns"]),
            why={n: np.asarray(v, np.float32) for n, v in record["why"].items()},
            shortfall=record["shortfall"],
            left_out=record["left_out"],
            versions=record["versions"],
            scorers=record.get("scorers") or {},
            origin=record.get("origin"),
            where=tuple(record.get("where") or ()),
            dedup=record.get("dedup"),
            gate=record.get("gate"),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Selection:
        """Read a saved record.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no selection, or is cut off.
        """
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{os.fspath(path)} is not complete JSON ({error.msg} at line {error.lineno}, column {error.colno}). "
                "It was probably cut off while being copied: make the selection again, or fetch the file again."
            ) from None
        except (KeyError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)} is no selection record: {error}") from None


def _numbers(values: Float32Array) -> list[float | None]:
    return [None if v != v else v for v in values.tolist()]


def installed_versions() -> dict[str, str]:
    """Versions of what does the arithmetic."""
    names = ("hf-dsel", "numpy", "torch", "datasets", "transformers")
    return {n: version(n) for n in names} | {"python": platform.python_version()}


def is_vector(feature: Any) -> bool:
    """Whether a column's feature is a fixed-length list of floats."""
    return (
        isinstance(feature, List)
        and feature.length > 0
        and str(getattr(feature.feature, "dtype", "")).startswith("float")
    )


def is_terms(feature: Any) -> bool:
    """Whether a column's feature is a list of terms: unsigned 64-bit numbers, of any length."""
    return isinstance(feature, List) and feature.length < 0 and getattr(feature.feature, "dtype", "") == "uint64"


def _is_large(feature: Any) -> bool:
    return is_vector(feature) or is_terms(feature)


_MARK = "hf_dsel selection "
_records: dict[str, Selection] = {}
_pools: dict[str, weakref.ref[Dataset]] = {}


def remember(subset: Dataset, selection: Selection) -> Dataset:
    """Tie a subset to its record; the tie survives `map`, `select` and `filter` within the process."""
    key = hashlib.sha256(selection.to_json().encode()).hexdigest()[:16]
    _records[key] = selection
    kept = [line for line in (subset.info.description or "").splitlines() if not line.startswith(_MARK)]
    info = subset.info.copy()
    info.description = "\n".join([*kept, f"{_MARK}{key}: {selection.strategy}"])
    subset._info = info
    return subset


def selection_of(subset: Dataset) -> Selection | None:
    """The record behind a subset that `select_by`, `Selection.apply` or `hf_dsel.load` returned.

    Also after `map`, `select` or `filter`. None for any other dataset, and for a subset read back from disk by
    `load_from_disk` or `load_dataset`: there the record is the file that you saved, or `hf_dsel.load` reads both.

    >>> selection_of(Dataset.from_dict({"text": ["a"]})) is None
    True
    """
    return _records.get(_key(subset))


def remember_pool(subset: Dataset, pool: Dataset) -> Dataset:
    """Note what a subset was selected from, without holding it."""
    _pools[_key(subset)] = weakref.ref(pool)
    return subset


def pool_of(subset: Dataset) -> Dataset | None:
    """The dataset that a subset was selected from, if the program still holds it."""
    held = _pools.get(_key(subset))
    return held() if held is not None else None


def _key(subset: Dataset) -> str:
    for line in (subset.info.description or "").splitlines():
        if line.startswith(_MARK):
            return line.removeprefix(_MARK).split(":")[0]
    return ""

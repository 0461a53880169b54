# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Which scorer made which column: a mark on the dataset that stays through `map`, `select` and `save_to_disk`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import try_to_load_from_cache

_MARK = "hf_dsel scorers "
Marks = dict[str, dict[str, Any]]


def with_marks(dataset: Dataset, marks: Mapping[str, Mapping[str, Any]]) -> Dataset:
    """The dataset with exactly these notes on its columns, as far as it has them.

    They are a line of `dataset.info.description`. It tells what was computed, not what you do to a column later: one
    that you overwrite keeps the note of its first maker.
    """
    kept = [line for line in (dataset.info.description or "").splitlines() if not line.startswith(_MARK)]
    there = {name: dict(how) for name, how in marks.items() if name in dataset.column_names}
    info = dataset.info.copy()
    info.description = "\n".join(
        [*kept, *([_MARK + json.dumps(there, ensure_ascii=False, default=str)] if there else [])]
    )
    dataset._info = info
    return dataset


def scorers_of(dataset: Dataset) -> Marks:
    """The scorer of each column that `hf_dsel.score` or `select_by` computed, with model, revision and settings.

    >>> from hf_dsel import Length, score
    >>> pool = score(Dataset.from_dict({"instruction": ["Hi"], "output": ["Hi there"]}), Length(of="response"))
    >>> scorers_of(pool.select([0]))["response_chars"]["scorer"]
    "Length(of='response')"
    """
    for line in (dataset.info.description or "").splitlines():
        if line.startswith(_MARK):
            try:
                found = json.loads(line.removeprefix(_MARK))
            except json.JSONDecodeError:
                return {}
            return {name: how for name, how in found.items() if name in dataset.column_names}
    return {}


def made_by(scorers: Sequence[Any]) -> Marks:
    """For each column that these scorers write: the scorer as code, its model and revision, and its other settings."""
    marks: Marks = {}
    for scorer in scorers:
        how = _record(scorer)
        marks |= {name: how for name in written(scorer) if not name.endswith(("_status", "_raw"))}
    return marks


def without_places(marks: Mapping[str, Mapping[str, Any]]) -> Marks:
    """The same notes, with the last part alone of each path of this machine, as strangers may read them.

    >>> here = str(Path(".").absolute())
    >>> without_places({"nll": {"scorer": f"NLL(model={here!r})", "model": here}})["nll"]["model"] == Path(here).name
    True
    """
    places = {text for how in marks.values() for text in _texts(how) if _is_place(text)}
    hidden = {place: Path(place).name for place in sorted(places, key=len, reverse=True)}

    def shown(found: Any) -> Any:
        if isinstance(found, str):
            for place, name in hidden.items():
                found = found.replace(place, name)
            return found
        if isinstance(found, Mapping):
            return {name: shown(value) for name, value in found.items()}
        return [shown(value) for value in found] if isinstance(found, list | tuple) else found

    return {column: shown(how) for column, how in marks.items()}


def _texts(found: Any) -> list[str]:
    if isinstance(found, str):
        return [found]
    parts = found.values() if isinstance(found, Mapping) else found if isinstance(found, list | tuple) else ()
    return [text for part in parts for text in _texts(part)]


def _is_place(text: str) -> bool:
    path = Path(text)
    return len(text) < 1000 and "\n" not in text and bool(path.name) and (path.is_absolute() or path.exists())


def _record(scorer: Any) -> dict[str, Any]:
    settings = dict(scorer.settings()) if hasattr(scorer, "settings") else {}
    made = described(scorer, {*settings, "criterion"} if settings else None)  # no address, price or folder
    settings.pop("scorer", None)
    model, revision = settings.pop("model", None), settings.pop("revision", None)
    return {
        "scorer": made,
        "model": model,
        "revision": (_commit(model, revision) if isinstance(model, str) else None) or revision,
        **settings,
    }


def _commit(model: str, revision: str | None) -> str | None:
    """The commit of a model that lies in the Hub's cache, as it does once it was used; None for a local one."""
    if Path(model).exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        return None
    path = try_to_load_from_cache(model, "config.json", revision=revision)
    found = re.search(r"[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]", path) if isinstance(path, str) else None
    return found[1] if found else None


def written(scorer: Any) -> list[str]:
    """The columns that a scorer writes, as far as it says."""
    return list(scorer.features()) if hasattr(scorer, "features") else []


def described(scorer: Any, only: Collection[str] | None = None) -> str:
    """A scorer as the code that makes it, without the options left at their defaults; `only` these options, if given.

    >>> from hf_dsel.scorers import Length
    >>> described(Length(of="response", unit="words"))
    "Length(of='response', unit='words')"
    """
    if not is_dataclass(scorer):
        return getattr(scorer, "__qualname__", repr(scorer))
    shown = [
        f
        for f in fields(scorer)
        if f.repr
        and (only is None or f.name in only)
        and (f.default is MISSING or getattr(scorer, f.name) != f.default)
    ]
    return f"{type(scorer).__name__}({', '.join(f'{f.name}={getattr(scorer, f.name)!r}' for f in shown)})"

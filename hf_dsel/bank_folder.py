# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A bank in a folder: one small index that is replaced in one step, and the files that it names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features
from filelock import FileLock
from safetensors.numpy import load_file, save_file

from hf_dsel.bank_rows import FEATURES
from hf_dsel.bank_state import Round, Settings, State
from hf_dsel.ops.carried_messages import Carried
from hf_dsel.ops.sketch import Sketch
from hf_dsel.selection import installed_versions

INDEX, ROWS, MEMORY, CARRIED = "bank.json", "rows.parquet", "memory.safetensors", "carried.safetensors"
LOCK = ".lock"
ALGORITHM = 1  # raised when equal settings would give other banks, or the files change
_PREFIX = "state-"


class WrongBank(ValueError):
    """A folder's bank was made by another version or with other settings, or is damaged; the text says which."""


class _NoSetting(TypeError):
    """A setting is expected that no bank has."""


def write(
    settings: Settings, state: State | None, folder: str | os.PathLike[str], *, replaces: str | None, overwrite: bool
) -> str:
    """The bank in `folder`, and the name of what was written.

    The index is replaced last and at once, after all else is on the disk, so the folder holds the old or the new bank;
    a lock lets one process at a time do it.

    Args:
        settings, state: of the bank.
        folder: where to.
        replaces: the name of what the bank was loaded from or last saved as in this folder. None: nothing.
        overwrite: replace whatever bank is there.

    Raises:
        WrongBank: the folder holds a bank that this one did not come from.
        ValueError: the folder holds other things.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / LOCK):
        others = [p.name for p in place.iterdir() if not p.name.startswith((INDEX, _PREFIX, f".{INDEX}", LOCK))]
        if others and not (place / INDEX).exists():
            raise ValueError(f"{place} holds {others[0]!r} and no bank; give a new or empty folder")
        if not overwrite and (place / INDEX).exists() and written_as(place) != replaces:
            raise WrongBank(
                f"the bank in {place} is not the one that this one came from: another process or another Bank saved "
                "there in the meantime, so nothing was written. Load it and update it again, give another folder, or "
                "overwrite=True"
            )
        return _replace(settings, state, place)


def _replace(settings: Settings, state: State | None, place: Path) -> str:
    identity = uuid4().hex[:12]
    record: dict[str, Any] = {"hf_dsel_bank": ALGORITHM, "id": identity, "settings": asdict(settings)}
    record |= {"versions": installed_versions()}
    if state is not None:
        current = f"{_PREFIX}{len(state.rounds):04d}-{identity}"
        (place / current).mkdir()
        _write_files(state, place / current)
        record |= {"state": current, "kind": state.kind, "sources": state.sources, "made_by": state.made_by}
        record |= {"median": None if state.carried is None else state.carried.median}
        record |= {"files": {p.name: _fingerprint(p) for p in sorted((place / current).iterdir())}}
        record |= {"rounds": [asdict(r) for r in state.rounds]}
        for path in (*(place / current).iterdir(), place / current):
            _to_disk(path)
    temporary = place / f".{INDEX}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    _to_disk(temporary)
    temporary.replace(place / INDEX)
    _to_disk(place)
    for old in place.glob(f"{_PREFIX}*"):
        if old.name != record.get("state"):
            shutil.rmtree(old)
    for stray in place.glob(f".{INDEX}.*"):
        stray.unlink(missing_ok=True)
    return identity


def _to_disk(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, have left the system's memory."""
    if path.is_dir() and os.name == "nt":  # no such call for folders there
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def written_as(folder: str | os.PathLike[str]) -> str | None:
    """The name of the save that a folder holds; None where it holds no readable bank."""
    try:
        found = json.loads((Path(folder).expanduser() / INDEX).read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def read(folder: str | os.PathLike[str], expected: Mapping[str, Any]) -> tuple[Settings, State | None, str]:
    """The settings and the state that `write` wrote, and the name of that save.

    Raises:
        FileNotFoundError: no bank there.
        WrongBank: another version, other settings than expected, or damage.
    """
    place = Path(folder).expanduser()
    if not (place / INDEX).is_file():
        hint = "; an interrupted first save leaves such a folder: delete it" if any(place.glob(f"{_PREFIX}*")) else ""
        raise FileNotFoundError(f"no bank in {place} (no {INDEX}){hint}")
    try:
        return _read(place, json.loads((place / INDEX).read_text(encoding="utf-8")), expected)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, WrongBank | _NoSetting):
            raise
        raise WrongBank(
            f"{place / INDEX} is damaged ({type(error).__name__}: {error}); restore it from a copy"
        ) from None


def _read(place: Path, record: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[Settings, State | None, str]:
    version = record["hf_dsel_bank"]
    if version != ALGORITHM:
        made = record.get("versions", {}).get("hf-dsel", "another version")
        raise WrongBank(
            f"the bank in {place} was made by hf-dsel {made} (format {version}, this one reads {ALGORITHM}); equal "
            "settings would now choose other rows. Install that version, or begin a new bank"
        )
    settings = Settings(**record["settings"])
    _check_expected(settings, expected, place)
    if "state" not in record:
        return settings, None, record["id"]
    for name, (size, digest) in record["files"].items():
        path = place / record["state"] / name
        found = _fingerprint(path) if path.is_file() else None
        if found != [size, digest]:
            problem = "is missing" if found is None else f"is damaged ({found[0]:,} bytes, {size:,} were written)"
            raise WrongBank(
                f"{path} {problem}; if another process was saving, load again, else copy the whole folder again"
            )
    return settings, _read_files(record, place / record["state"]), record["id"]


def _check_expected(settings: Settings, expected: Mapping[str, Any], place: Path) -> None:
    known = [f.name for f in fields(Settings)]
    for name, value in expected.items():
        if name not in known:
            raise _NoSetting(f"a bank has no setting {name!r}; it has {', '.join(known)}")
        if getattr(settings, name) != value:
            raise WrongBank(
                f"the bank in {place} was made with {name}={getattr(settings, name)!r}, not {value!r}. A bank keeps "
                "its settings: begin a new one to change them"
            )


def _write_files(state: State, folder: Path) -> None:
    table = state.rows.with_format("arrow")[:]
    vectors = pa.FixedSizeListArray.from_arrays(state.embeddings.reshape(-1), state.embeddings.shape[1])
    columns = {name: table.column(name) for name in state.rows.column_names}
    columns |= {name: pa.array(values) for name, values in state.numbers.items()}
    columns |= {"key": pa.array(state.keys), "vector": vectors}
    pq.write_table(pa.table(columns), folder / ROWS)
    if state.memory is not None:
        parts = {f.name: np.ascontiguousarray(getattr(state.memory, f.name)) for f in fields(Sketch)}
        save_file(parts | {"keys": state.forgotten}, folder / MEMORY)
    if state.carried is not None:
        names = [f.name for f in fields(Carried) if f.name != "median"]
        save_file({n: np.ascontiguousarray(getattr(state.carried, n)) for n in names}, folder / CARRIED)


def _read_files(record: Mapping[str, Any], folder: Path) -> State:
    table = pq.read_table(folder / ROWS)
    features = FEATURES[record["kind"]]
    rows = Dataset(table.select(list(features)).cast(Features(features).arrow_schema))
    vectors = table.column("vector").combine_chunks()
    width = table.schema.field("vector").type.list_size
    numbers: dict[str, npt.NDArray[Any]] = {
        name: table.column(name).to_numpy() for name in table.column_names if name not in {*features, "key", "vector"}
    }
    memory, forgotten, carried = None, np.zeros(0, np.uint64), None
    if (folder / MEMORY).exists():
        parts = load_file(folder / MEMORY)
        forgotten = parts.pop("keys")
        memory = Sketch(**parts)
    if (folder / CARRIED).exists():
        carried = Carried(**load_file(folder / CARRIED), median=record["median"])
    return State(
        record["kind"], rows, np.asarray(vectors.flatten().to_numpy(), np.float32).reshape(-1, width),
        table.column("key").to_numpy(), numbers, tuple(record["sources"]), memory, forgotten, carried,
        tuple(Round(**r) for r in record["rounds"]), dict(record["made_by"]),
    )  # fmt: skip


def _fingerprint(path: Path) -> list[Any]:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return [path.stat().st_size, digest.hexdigest()]

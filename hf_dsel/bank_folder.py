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
from safetensors.numpy import load_file, save_file

from hf_dsel.bank_rows import FEATURES
from hf_dsel.bank_state import Round, Settings, State
from hf_dsel.ops.carried_messages import Carried
from hf_dsel.ops.sketch import Sketch
from hf_dsel.selection import installed_versions

INDEX, ROWS, MEMORY, CARRIED = "bank.json", "rows.parquet", "memory.safetensors", "carried.safetensors"
ALGORITHM = 1  # raised when equal settings would give other banks, or the files change
_PREFIX = "state-"


class WrongBank(ValueError):
    """A folder's bank was made by another version or with other settings, or is damaged; the text says which."""


def write(settings: Settings, state: State | None, folder: str | os.PathLike[str]) -> None:
    """The bank in `folder`. The index is replaced last and at once, so the folder holds the old or the new bank.

    Raises:
        ValueError: the folder holds other things.
    """
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    others = [p.name for p in place.iterdir() if p.name != INDEX and not p.name.startswith((_PREFIX, f".{INDEX}"))]
    if others and not (place / INDEX).exists():
        raise ValueError(f"{place} holds {others[0]!r} and no bank; give a new or empty folder")
    record: dict[str, Any] = {"hf_dsel_bank": ALGORITHM, "settings": asdict(settings), "versions": installed_versions()}
    if state is not None:
        current = f"{_PREFIX}{len(state.rounds):04d}-{uuid4().hex[:8]}"
        (place / current).mkdir()
        _write_files(state, place / current)
        record |= {"state": current, "kind": state.kind, "sources": state.sources, "made_by": state.made_by}
        record |= {"median": None if state.carried is None else state.carried.median}
        record |= {"files": {p.name: _fingerprint(p) for p in sorted((place / current).iterdir())}}
        record |= {"rounds": [asdict(r) for r in state.rounds]}
    temporary = place / f".{INDEX}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / INDEX)
    for old in place.glob(f"{_PREFIX}*"):
        if old.name != record.get("state"):
            shutil.rmtree(old)
    for stray in place.glob(f".{INDEX}.*"):
        stray.unlink(missing_ok=True)


def read(folder: str | os.PathLike[str], expected: Mapping[str, Any]) -> tuple[Settings, State | None]:
    """The settings and the state that `write` wrote.

    Raises:
        FileNotFoundError: no bank there.
        WrongBank: another version, other settings than expected, or damage.
    """
    place = Path(folder).expanduser()
    if not (place / INDEX).is_file():
        hint = "; an interrupted first save leaves such a folder: delete it" if any(place.glob(f"{_PREFIX}*")) else ""
        raise FileNotFoundError(f"no bank in {place} (no {INDEX}){hint}")
    try:
        record = json.loads((place / INDEX).read_text(encoding="utf-8"))
        version = record["hf_dsel_bank"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise WrongBank(f"{place / INDEX} is damaged ({error}); restore it from a copy") from None
    if version != ALGORITHM:
        made = record.get("versions", {}).get("hf-dsel", "another version")
        raise WrongBank(
            f"the bank in {place} was made by hf-dsel {made} (format {version}, this one reads {ALGORITHM}); equal "
            "settings would now choose other rows. Install that version, or begin a new bank"
        )
    settings = Settings(**record["settings"])
    _check_expected(settings, expected, place)
    if "state" not in record:
        return settings, None
    for name, (size, digest) in record["files"].items():
        path = place / record["state"] / name
        found = _fingerprint(path) if path.is_file() else None
        if found != [size, digest]:
            problem = "is missing" if found is None else f"is damaged ({found[0]:,} bytes, {size:,} were written)"
            raise WrongBank(f"{path} {problem}; copy the whole folder again, or go back to an earlier copy")
    return settings, _read_files(record, place / record["state"])


def _check_expected(settings: Settings, expected: Mapping[str, Any], place: Path) -> None:
    known = [f.name for f in fields(Settings)]
    for name, value in expected.items():
        if name not in known:
            raise TypeError(f"a bank has no setting {name!r}; it has {', '.join(known)}")
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

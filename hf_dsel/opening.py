# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A dataset from the words on a command line: a Hub id, a file, or a folder."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from hf_dsel.origin import HUB_ID
from hf_dsel.provenance import with_provenance

BUILDERS = {
    ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".arrow": "arrow",
}  # fmt: skip
COMPRESSED = {".gz", ".zst", ".bz2", ".xz"}


class CannotOpen(ValueError):
    """The dataset is not there, is damaged, or is empty; the text says which and what to do."""


def open_dataset(
    path: str,
    *,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    token: str | None = None,
) -> Dataset:
    """One split of a dataset.

    Args:
        path: a file (parquet, json, jsonl, csv, arrow; json and csv also compressed), a folder of such files, a
            folder that `save_to_disk` wrote, or the id of a dataset on the Hub.
        name: the configuration, for datasets that have several.
        split: the split, or a slice of one such as `train[:10%]`.
        revision: a branch, tag or commit, for a dataset on the Hub.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Raises:
        CannotOpen: no such dataset or split, a damaged file, or no rows.

    >>> open_dataset("pool.jsonl")
    Traceback (most recent call last):
    hf_dsel.opening.CannotOpen: no file or folder 'pool.jsonl'
    """
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the reason is in the error; once is enough
    try:
        found = _open(path, name, split, revision, token)
    except CannotOpen:
        raise
    except (StopIteration, datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        raise CannotOpen(_explained(path, split, error)) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
    if len(found) == 0:
        raise CannotOpen(f"{path} ({split}) has no rows; there is nothing to do")
    place = Path(path).expanduser()
    return with_provenance(found, place if place.is_dir() else place.parent)


def _open(path: str, name: str | None, split: str, revision: str | None, token: str | None) -> Dataset:
    place = Path(path).expanduser()
    if place.is_file():
        return load_dataset(_builder(place), data_files={_split_name(split): str(place)}, split=split)
    if (place / "state.json").is_file() or (place / "dataset_dict.json").is_file():
        return _from_disk(place, split)
    if place.is_dir():
        return load_dataset(str(place), name=name, split=split)
    if _is_a_path(path):
        raise CannotOpen(f"no file or folder {path!r}{_near(place)}")
    return load_dataset(path, name=name, split=split, revision=revision, token=token)


def _near(place: Path) -> str:
    """A question about a file or folder of nearly that name."""
    near = difflib.get_close_matches(place.name, [p.name for p in place.parent.glob("*")], n=1)
    return f"; did you mean {str(place.with_name(near[0]))!r}?" if near else ""


def _is_a_path(path: str) -> bool:
    looks_local = path.startswith((".", "/", "~")) or Path(path).suffix in {*BUILDERS, *COMPRESSED}
    return looks_local or not HUB_ID.fullmatch(path)


def _builder(file: Path) -> str:
    suffixes = [s for s in file.suffixes if s not in COMPRESSED]
    builder = BUILDERS.get(suffixes[-1]) if suffixes else None
    if builder is None:
        raise CannotOpen(f"{file} is no dataset file; known endings: {', '.join(BUILDERS)} (also compressed)")
    return builder


def _split_name(split: str) -> str:
    return re.split(r"[\[+]", split, maxsplit=1)[0]


def _from_disk(folder: Path, split: str) -> Dataset:
    found = load_from_disk(str(folder))
    if isinstance(found, DatasetDict):
        if split not in found:
            raise CannotOpen(f"{folder} has no split {split!r}; it has {', '.join(found)}")
        return found[split]
    if split != "train":
        raise CannotOpen(f"{folder} was saved without splits, so --split {split} has no meaning there; leave it out")
    return found


def _explained(path: str, split: str, error: Exception) -> str:
    """One sentence on what is wrong with the file, and what to do."""
    place = Path(path).expanduser()
    reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
    if isinstance(error, StopIteration) or "corresponds to no data" in reason or "No columns to parse" in reason:
        return f"{path} ({split}) has no rows; there is nothing to do"
    if place.is_file():
        return (
            f"{path} cannot be read as {_builder(place)}: {reason}. It may have been cut off while it was copied; "
            "compare its size with the original, or fetch it again."
        )
    if not place.exists():
        step = "Check the id on https://huggingface.co/datasets, or give a local file or folder"
        return f"{path}: {reason}. {step}{_near(place)}"
    return f"{path}: {reason}"

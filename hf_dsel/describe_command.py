# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel describe` does with its options."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.commands import RECORD
from hf_dsel.described_sets import Rows
from hf_dsel.describing import describe as describe_dataset
from hf_dsel.extras import need
from hf_dsel.opening import open_dataset
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.reporting import show
from hf_dsel.selection import Selection, Source
from hf_dsel.selection_block import BadConfig

OPTIONS = ("random", "embedding", "quality", "columns", "clusters", "seed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of `hf-dsel describe` beside those that name the dataset."""
    group = parser.add_argument_group("what to compare")
    group.add_argument("--subset", metavar="PATH", help="a folder that hf-dsel select wrote, its selection.json, or "
                       "any file or folder of rows")  # fmt: skip
    group.add_argument("--random", type=int, metavar="N", help="random subsets of its size to draw (default: 5)")
    group.add_argument("--embedding", action="append", metavar="COLUMN", help="vectors to read; repeat it for more "
                       "(default: all columns of vectors)")  # fmt: skip
    group.add_argument("--quality", metavar="COLUMN", help="for the quality-weighted Vendi score (default: quality)")
    group.add_argument("--column", dest="columns", action="append", metavar="COLUMN", help="a score to average; repeat "
                       "it for more (default: all columns of floats)")  # fmt: skip
    group.add_argument("--clusters", type=int, metavar="K", help="of k-means, at most (default: 100)")
    group.add_argument("--parser", metavar="NAME", help="a spaCy pipeline such as en_core_web_sm, for the verb-noun "
                       "pairs (default: leave them out)")  # fmt: skip
    group.add_argument("--seed", type=int, metavar="N", help="of subsets, samples and clusters (default: 0)")
    group = parser.add_argument_group("the result")
    group.add_argument("--json", metavar="FILE", help="write the table there too, numbers not rounded")
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")


def describe(options: dict[str, Any]) -> int:
    """`hf-dsel describe`: every metric of a dataset, beside a subset and random subsets of its size."""
    if not options.get("dataset"):
        raise BadConfig("which dataset? Give a Hub id, a file or a folder, for example hf-dsel describe pool.parquet")
    for name in ("random", "clusters", "seed"):
        if name in options and (isinstance(options[name], bool) or not isinstance(options[name], int)):
            raise BadConfig(f"--{name} {options[name]!r} must be a whole number")
    target = Path(options["json"]).expanduser() if options.get("json") else None
    if target is not None and target.is_dir():
        raise BadConfig(f"--json {target} is a folder; give a file")
    rest = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if isinstance(rest.get("columns"), str):
        rest["columns"] = [rest["columns"]]
    if options.get("parser"):
        rest["parser"] = _parser(str(options["parser"]))
    pool = open_dataset(options["dataset"], name=options.get("name"), split=options.get("split", "train"))
    say(f"{options['dataset']}: {count(len(pool), 'row')} with {', '.join(pool.column_names)}")
    subset = subset_of(pool, str(options["subset"])) if options.get("subset") else None
    if not is_main_process():
        return 0
    found = describe_dataset(pool, subset, **rest)
    show(found)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_text(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(target)
        show(f"wrote {target}")
    return 0


def subset_of(pool: Dataset, path: str) -> Rows:
    """The subset in a folder or file: rows of the pool when a record of them is there, else a dataset of its own.

    Raises:
        BadConfig: a record alone, made on another dataset.
        CannotOpen: no such file or folder, or no dataset.
    """
    place = Path(path).expanduser()
    file = place / RECORD if place.is_dir() else place
    record = _record(file)
    if record is None:
        return open_dataset(path)
    if (
        not set(record.source.columns) - set(pool.column_names)
        and Source.of(pool, record.source.columns) == record.source
    ):
        return record
    if file == place:
        raise BadConfig(
            f"{path} records a selection from another dataset than this pool ({record.source.rows:,} rows, the pool "
            f"has {len(pool):,}); give the pool that it was made on"
        )
    say(f"{file} records a selection from another dataset, so the rows in {place} are described as they are")
    return open_dataset(path)


def _record(file: Path) -> Selection | None:
    """The record in a file, or None when it is none."""
    if not file.is_file() or file.suffix != ".json":
        return None
    with file.open(encoding="utf-8", errors="replace") as text:
        if "hf_dsel_selection" not in text.read(200):
            return None
    return Selection.load(file)


def _parser(name: str) -> Any:
    step = f", and the pipeline: python -m spacy download {name}"
    need("spacy", f"--parser {name}", extra="parser", then=step)
    import spacy

    return spacy.load(name)

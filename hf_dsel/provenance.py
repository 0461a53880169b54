# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a parquet file cannot say, in a file beside it: which scorers made its columns, and where its rows are from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset

from hf_dsel.origin import Origin
from hf_dsel.scorer_marks import scorers_of, with_marks
from hf_dsel.selection import Source

PROVENANCE = "provenance.json"


def write_provenance(dataset: Dataset, folder: Path) -> None:
    """Write what is known of a dataset that was written to `folder`; nothing is left there when nothing is known."""
    scorers, origin = scorers_of(dataset), Origin.of(dataset)
    if not scorers and origin is None:
        (folder / PROVENANCE).unlink(missing_ok=True)
        return
    record = {"scorers": scorers, "origin": origin and origin.to_dict(), "rows": asdict(Source.of(dataset))}
    temporary = folder / f".{PROVENANCE}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / PROVENANCE)


def with_provenance(dataset: Dataset, folder: Path) -> Dataset:
    """A dataset read from `folder`, with what the file there says of it, if it says it of these rows."""
    try:
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        said = Source(record["rows"]["rows"], tuple(record["rows"]["columns"]), record["rows"]["sha256"])
        if set(said.columns) - set(dataset.column_names) or Source.of(dataset, said.columns) != said:
            return dataset
        dataset = with_marks(dataset, record["scorers"])
        return Origin(**record["origin"]).marked(dataset) if record["origin"] else dataset
    except (OSError, ValueError, KeyError, TypeError):
        return dataset  # none, or not one of ours

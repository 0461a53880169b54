# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What made a dataset's score columns, as far as it is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.scoring import written


def makers(dataset: Dataset, columns: Sequence[str], scorers: Sequence[Any] = ()) -> dict[str, Any]:
    """The settings of the scorer behind each of these columns; None where nobody said and nothing shows it.

    What `hf_dsel.score` computed is known as long as the dataset still reads its shards: not after `map`, nor once it
    was written to a file of its own. For such a dataset name the scorers.

    Args:
        dataset: with the columns.
        columns: their names.
        scorers: the scorers that made some of them. They are not run.

    >>> from hf_dsel.scorers import Length
    >>> pool = Dataset.from_dict({"text": ["a b"], "response_words": [2]})
    >>> makers(pool, ["response_words"], [Length(of="response", unit="words")])["response_words"]["scorer"]
    'Length'
    """
    named = {name: scorer.settings() for scorer in scorers if hasattr(scorer, "settings") for name in written(scorer)}
    missing = [name for name in columns if name not in named]
    return {name: named.get(name) for name in columns} | (_from_shards(dataset, missing) if missing else {})


def _from_shards(dataset: Dataset, columns: Sequence[str]) -> dict[str, Any]:
    """The settings beside the shards that the dataset reads, where the column is still what a shard holds."""
    found: dict[str, Any] = {}
    for folder in dict.fromkeys(Path(file["filename"]).parent for file in dataset.cache_files):
        try:
            made_by = json.loads((folder / "manifest.json").read_text())["scorer"]
            first = Dataset.from_file(str(folder / "shard-00000.arrow")).data
        except (OSError, ValueError, KeyError, TypeError):
            continue
        for name in columns:
            if name in first.column_names:
                same = dataset.data.column(name).slice(0, len(first)).equals(first.column(name))
                found |= {name: made_by} if same else {}
    return found

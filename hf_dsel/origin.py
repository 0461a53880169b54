# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Where a dataset came from on the Hub: repository, commit, configuration and split."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset
from huggingface_hub import constants

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MARK = "hf_dsel origin "
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Origin:
    """A split of a dataset on the Hub, at one commit. What is not known is None."""

    repo: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Origin | None:
        """Where `load_dataset` got a dataset, as its cache shows it; None when that is not on the Hub or not known.

        Known as long as the dataset, or what `map`, `select` and `shuffle` made of it, reads the file in the cache
        that `load_dataset` wrote: its folder is named by the commit, and the download cache says whose commit it is.
        Two sources in one dataset have no origin.
        """
        for line in (dataset.info.description or "").splitlines():
            if line.startswith(_MARK):
                return cls(**json.loads(line.removeprefix(_MARK)))
        places = {Path(file["filename"]).parent for file in dataset.cache_files}
        found = [place for place in places if _COMMIT.fullmatch(place.name)]
        repos = {repo for place in found for repo in _repos_with(place.name)}
        if len(found) != 1 or len(repos) != 1:
            return None
        config = dataset.info.config_name
        split = str(dataset.split) if dataset.split is not None else None
        return cls(repos.pop(), found[0].name, None if config == "default" else config, split)

    @classmethod
    def parse(cls, text: str, *, config: str | None = None, split: str | None = None) -> Origin:
        """What a person wrote: `name/repository`, or `name/repository@revision`.

        >>> Origin.parse("tatsu-lab/alpaca@dce01c9", split="train")
        Origin(repo='tatsu-lab/alpaca', revision='dce01c9', config=None, split='train')

        Raises:
            ValueError: no id of a dataset on the Hub.
        """
        repo, at, revision = text.partition("@")
        if not HUB_ID.fullmatch(repo) or repo.startswith(".") or (at and not revision) or Path(text).exists():
            raise ValueError(
                f"source {text!r} is no dataset on the Hub, such as tatsu-lab/alpaca or tatsu-lab/alpaca@revision; for "
                "local data leave it out"
            )
        return cls(repo, revision or None, config, split)

    def marked(self, dataset: Dataset) -> Dataset:
        """The dataset with a note that it came from here, for one that was written to a file in between."""
        kept = [line for line in (dataset.info.description or "").splitlines() if not line.startswith(_MARK)]
        info = dataset.info.copy()
        info.description = "\n".join([*kept, _MARK + json.dumps(self.to_dict())])
        dataset._info = info
        return dataset

    def to_dict(self) -> dict[str, str | None]:
        """As plain values, for JSON."""
        return asdict(self)


def _repos_with(commit: str) -> list[str]:
    """The dataset repositories of which the download cache holds this commit."""
    kept = [*Path(constants.HF_HUB_CACHE).glob(f"datasets--*/snapshots/{commit}")]
    return [place.parent.parent.name.removeprefix("datasets--").replace("--", "/") for place in kept]

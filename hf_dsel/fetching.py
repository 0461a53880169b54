# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Files of a repository on the Hub, or of a folder, in one state of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_dsel.opening import HUB_ID
from hf_dsel.publishing import signed_in


class NotFetched(OSError):
    """Nothing could be read from a repository or folder; the text says why and the next step."""


def fetched(
    place: str | os.PathLike[str],
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """The folder that holds these files: the one that is named, or a copy of what the Hub has.

    Args:
        place: a folder, or else the id of a dataset repository.
        patterns: which files, such as `data/*.parquet`.
        revision: a branch, tag or commit of the repository.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Raises:
        NotFetched: no such folder or repository, no right to read it, no connection.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if not isinstance(place, str) or not HUB_ID.fullmatch(place) or place.startswith("."):
        raise NotFetched(f"no folder {os.fspath(place)!r}, and it is no id of a repository such as me/scores")
    try:
        found = snapshot_download(
            place, repo_type="dataset", revision=revision, token=token, allow_patterns=list(patterns)
        )
    except RevisionNotFoundError:
        reason = f"{place} has no revision {revision!r}; see {place}/commits/main on the Hub"
    except RepositoryNotFoundError:
        reason = (
            f"there is no folder {place!r} and no dataset {place!r} on the Hub that this token may read. Check the "
            "name; for a private one run `hf auth login`, or set HF_TOKEN"
        )
    except (LocalEntryNotFoundError, httpx2.HTTPError, OSError) as error:
        reason = f"{place} could not be fetched from the Hub ({_short(error)}) and is not in the cache; try again"
    except (HFValidationError, ValueError) as error:
        reason = f"{place}: {_short(error)}"
    else:
        return Path(found)
    raise NotFetched(reason)  # outside the except, so that no request with its headers hangs on it


@dataclass(frozen=True)
class Head:
    """A dataset repository as it was when it was asked for.

    `repo_id` is its full name, `commit` the newest one and `names` are its files; None and empty where there is none.
    """

    repo_id: str
    commit: str | None
    names: tuple[str, ...]
    api: HfApi

    def text(self, name: str) -> str | None:
        """What a file of it says; None where there is no such file.

        Raises:
            NotFetched: the connection broke.
        """
        if name not in self.names:
            return None
        try:
            path = self.api.hf_hub_download(self.repo_id, name, repo_type="dataset", revision=self.commit)
            return Path(path).read_text(encoding="utf-8")
        except (LocalEntryNotFoundError, httpx2.HTTPError, OSError) as error:
            reason = f"{name} of {self.repo_id} could not be fetched ({_short(error)}), so nothing was published"
        raise NotFetched(reason)


def head_of(repo_id: str, token: str | None = None) -> Head:
    """What a repository holds now, for a push that builds on it.

    Raises:
        NotPublished: no token, or one that may not write.
        NotFetched: the connection broke.
    """
    api, full = signed_in(repo_id, token)
    try:
        info = api.dataset_info(full)
    except RepositoryNotFoundError:
        return Head(full, None, (), api)
    except (httpx2.HTTPError, OSError) as error:
        reason = f"{full} could not be looked at ({_short(error)}), so nothing was published"
    else:
        return Head(full, info.sha, tuple(file.rfilename for file in info.siblings or ()), api)
    raise NotFetched(reason)


def _short(error: BaseException) -> str:
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    text = " ".join(str(getattr(error, "server_message", None) or error).split())
    return text[:200].rstrip(".") or type(error).__name__

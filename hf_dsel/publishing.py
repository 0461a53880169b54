# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Files to a repository on the Hub: rights checked first, everything in one commit, nothing changed when it breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)  # fmt: skip
from huggingface_hub.utils import validate_repo_id

from hf_dsel.progress import say

SIGN_IN = "Run `hf auth login`, or set HF_TOKEN to a token with the role write (https://huggingface.co/settings/tokens)"
_BROKEN = (HTTPError, RuntimeError, ConnectionError, TimeoutError)  # HfHubHTTPError is an HTTPError


class NotPublished(OSError):
    """Files did not reach the Hub; the text says why, what is there now, and the next step. It never shows a token."""


def hub(token: str | None = None) -> HfApi:
    """The Hub as this program's user agent and token see it, at the address that HF_ENDPOINT names."""
    return HfApi(token=token, library_name="hf_dsel", library_version=version("hf-dsel"))


def publish(
    files: Mapping[str, bytes | Path],
    repo_id: str,
    *,
    message: str,
    description: str = "",
    repo_type: str = "dataset",
    private: bool = True,
    token: str | None = None,
    delete: Sequence[str] = (),
    parent: str | None = None,
) -> CommitInfo:
    """Upload files to a repository, all in one commit.

    Whether the token may write is asked before anything is made or uploaded. The repository is made when it is not
    there. Large files are uploaded first and belong to nothing until the commit, so an upload that breaks leaves the
    repository as it was. Files that are there already with this content are not uploaded again.

    Args:
        files: content, or where it lies, by path in the repository.
        repo_id: `name/repository`; without a name, that of the token's user.
        message: the commit's title.
        description: the commit's text.
        repo_type: dataset, model or space.
        private: of a new repository; one that exists keeps its visibility.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.
        delete: patterns such as `data/train-*.parquet`; files that match and are not among `files` are deleted in the
            same commit.
        parent: the commit that this one builds on; the newest one when left out. Somebody else's commit after it makes
            this one fail.

    Returns:
        huggingface_hub's `CommitInfo`, with `commit_url` and `oid`.

    Raises:
        NotPublished: no token, a token without rights, a connection that broke, a commit in between.
        ValueError: no files, or a repo_id that the Hub does not take.
    """
    if not files and not delete:
        raise ValueError("there are no files to publish")
    missing = [str(place) for place in files.values() if isinstance(place, Path) and not place.is_file()]
    if missing:
        raise ValueError(f"there is no file {missing[0]} to publish")
    api, repo_id = signed_in(repo_id, token)
    secret = str(api.token).encode()
    shown = [path for path, content in files.items() if isinstance(content, bytes) and secret in content]
    if shown:
        raise ValueError(f"{shown[0]} holds your token of the Hub, so nothing was published; take it out")
    head, new = _head(api, repo_id, repo_type, private)
    if parent not in (None, head):
        raise NotPublished(_overtaken(repo_id))
    adds = [CommitOperationAdd(path, str(c) if isinstance(c, Path) else c) for path, c in files.items()]
    try:
        there = api.list_repo_files(repo_id, repo_type=repo_type, revision=head) if delete else []
        old = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in delete)]
        return api.create_commit(
            repo_id,
            [*adds, *(CommitOperationDelete(name) for name in old)],
            commit_message=message,
            commit_description=description,
            repo_type=repo_type,
            parent_commit=head,
        )
    except _BROKEN as error:
        failure: Exception = NotPublished(_explained(error, api, repo_id, repo_type, head, new))
    except ValueError as error:  # such as a card whose metadata the Hub refuses
        failure = ValueError(f"{' '.join(str(error).split())} Nothing was changed.")
    raise failure  # outside the except, so that no request with its headers hangs on it


def signed_in(repo_id: str, token: str | None) -> tuple[HfApi, str]:
    """The Hub and the full name of the repository, after asking who the token belongs to and what it may do.

    Raises:
        NotPublished: no token, one that is not accepted, or one that may only read; no connection.
        ValueError: a name that no repository can have.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name of a repository, such as me/curated-6k: {error}") from None
    token = token or get_token()
    if not token:
        raise NotPublished(f"publishing needs a token of the Hub and there is none. {SIGN_IN}")
    api, reason = hub(token), ""
    try:
        who = api.whoami()
    except _BROKEN as error:
        reason = _unreachable(error)
        if _status(error) == 401:
            reason = f"the Hub does not accept the token; it may have expired or been revoked. {SIGN_IN}"
    if reason:
        raise NotPublished(f"{reason}. Nothing was changed")
    full = repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"
    access = (who.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == "read":
        raise NotPublished(
            f"the token of {who['name']} has the role read, and publishing to {full} needs the role write. Make one on "
            "https://huggingface.co/settings/tokens, then `hf auth login`. Nothing was changed"
        )
    return api, full


def _head(api: HfApi, repo_id: str, repo_type: str, private: bool) -> tuple[str, bool]:
    """The newest commit of the repository, and whether it had to be made."""
    new = False
    try:
        try:
            info = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            api.create_repo(repo_id, repo_type=repo_type, private=private)
            new = True
            info = api.repo_info(repo_id, repo_type=repo_type)
        else:
            with suppress(TypeError):  # early huggingface_hub 2 cannot ask; there the first upload is refused
                api.auth_check(repo_id, repo_type=repo_type, write=True)
            if private and not info.private:
                say(f"{repo_id} exists and is public; it stays public")
        return str(info.sha), new
    except _BROKEN as error:
        reason = _refused(error, api, repo_id, repo_type)
    raise NotPublished(f"{reason}. Nothing was changed")


def _refused(error: Exception, api: HfApi, repo_id: str, repo_type: str) -> str:
    """Why the Hub gives no right to this repository."""
    status, namespace = _status(error), repo_id.split("/")[0]
    if status == 403:
        return (
            f"the token may not write to {repo_id} (the {repo_type} repositories of {namespace}). Is the name right? "
            f"In an organisation you need the role write; a fine-grained token needs write access to {namespace}"
        )
    if status == 409:
        others = [kind for kind in ("model", "dataset", "space") if kind != repo_type and _exists(api, repo_id, kind)]
        what = f"a {others[0]}" if others else "something that this token cannot see"
        return f"{repo_id} is taken by {what}, so it cannot be made a {repo_type}; choose another name"
    return _unreachable(error)


def _exists(api: HfApi, repo_id: str, kind: str) -> bool:
    try:
        return api.repo_exists(repo_id, repo_type=kind)
    except _BROKEN:
        return False


def _explained(error: Exception, api: HfApi, repo_id: str, repo_type: str, head: str, new: bool) -> str:
    """What broke, and what is in the repository now."""
    if _status(error) == 412:
        return _overtaken(repo_id)
    if _status(error) in (401, 403):
        return f"{_refused(error, api, repo_id, repo_type)}. Nothing was changed"
    reason = f"publishing to {repo_id} broke off: {_unreachable(error)}"
    try:
        now = str(api.repo_info(repo_id, repo_type=repo_type).sha)
    except _BROKEN:
        return f"{reason}. Whether it was published cannot be asked now; look at {_page(repo_id, repo_type)}"
    if now != head:
        return f"{reason}. The repository has a new commit all the same, {now[:8]}; look at {_page(repo_id, repo_type)}"
    left = "The new repository is empty" if new else "Nothing was changed in the repository"
    return f"{reason}. {left}; run the same again"


def _overtaken(repo_id: str) -> str:
    return (
        f"somebody else changed {repo_id} in the meantime, so nothing of this was published. Look at what is there "
        "now, and run the same again to publish on top of it"
    )


def _page(repo_id: str, repo_type: str) -> str:
    return f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(repo_type, '')}{repo_id}"


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, or behind what caused it."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, HfHubHTTPError):
            return int(at.response.status_code)
        at = at.__cause__
    return None


def _unreachable(error: BaseException) -> str:
    """One clause on a connection or a server that failed."""
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and publishing needs the Hub; unset it"
    text = " ".join(str(getattr(error, "server_message", None) or error).split()).rstrip(".")
    status = f"status {_status(error)}, " if _status(error) else ""
    if status:
        return f"{constants.ENDPOINT} answered {status}{text[:300]}"
    return f"the connection to {constants.ENDPOINT} failed ({_kind(error)})"


def _kind(error: BaseException) -> str:
    """An error's kind and text without addresses, which may hold a signature."""
    text = re.sub(r"https?://\S+", "an address", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A bank on the Hub: one commit an update, its rows best first, and beside them what the next update needs."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import CommitInfo

from hf_dsel.bank_card import bank_card
from hf_dsel.bank_folder import ALGORITHM, INDEX, WrongBank, read, write
from hf_dsel.bank_report import rounds_table
from hf_dsel.bank_state import Round, Settings, State
from hf_dsel.fetching import Head, NotFetched, fetched, head_of
from hf_dsel.progress import count, say
from hf_dsel.publishing import publish

STATE = "bank"  # the folder with what `Bank.save` writes
SHARD_BYTES = 500_000_000


def push(
    settings: Settings,
    state: State | None,
    rows: Dataset,
    repo_id: str,
    *,
    private: bool,
    token: str | None,
    license: str | None,
    message: str | None,
) -> CommitInfo:
    """A bank's rows, state and card as one commit on top of the state of this bank that the repository holds.

    Args:
        settings, state: of the bank.
        rows: its rows, best first, as `Bank.dataset` gives them.
        repo_id, private, token, license, message: as in `Bank.push_to_hub`.
    """
    if state is None:
        raise ValueError("the bank is empty; give it a dataset first: bank.update(dataset, source='alpaca')")
    head = head_of(repo_id, token)
    before = _rounds_there(head, settings, state)
    if before == len(state.rounds):
        say(f"{head.repo_id} holds this bank already; only what its card says may change")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files: dict[str, bytes | Path] = {}
        if before != len(state.rounds):
            write(settings, state, folder / STATE, replaces=None, overwrite=False)
            kept = [p for p in sorted((folder / STATE).rglob("*")) if p.is_file() and not p.name.startswith(".")]
            files |= {path.relative_to(folder).as_posix(): path for path in kept}
            files |= _shards(rows, folder)
        card = bank_card(
            settings, state.rounds, rows, made_by=state.made_by, repo_id=head.repo_id, license=license,
            previous=head.text("README.md"),
        )  # fmt: skip
        files["README.md"] = card.encode()
        new = state.rounds[before:]
        return publish(
            files,
            head.repo_id,
            message=message or _message(new, len(rows)),
            description=f"```text\n{rounds_table(new)}\n```" if new else "",
            private=private,
            token=token,
            delete=(f"{STATE}/state-*", "data/train-*.parquet") if new else (),
            parent=head.commit,
        )


def pull(
    repo_id: str, expected: Mapping[str, Any], *, revision: str | None, token: str | None
) -> tuple[Settings, State | None]:
    """What a bank on the Hub was made with, and what it holds.

    Raises:
        NotFetched: no such repository, or no bank in it.
        WrongBank: as in `Bank.load`.
    """
    if "/" not in repo_id or Path(repo_id).expanduser().is_dir():
        raise NotFetched(f"{repo_id!r} must be the id of a repository, such as me/bank; Bank.load reads a folder")
    folder = fetched(repo_id, (f"{STATE}/*",), revision=revision, token=token)
    try:
        settings, state, _ = read(folder / STATE, expected)
    except FileNotFoundError:
        raise NotFetched(f"{repo_id} holds no bank ({STATE}/{INDEX}); was it pushed by bank.push_to_hub?") from None
    return settings, state


def _rounds_there(head: Head, settings: Settings, state: State) -> int:
    """How many of this bank's rounds the repository holds.

    Raises:
        WrongBank: it holds a bank that this one did not come from.
        ValueError: it holds something else.
    """
    text = head.text(f"{STATE}/{INDEX}")
    if text is None:
        others = [n for n in head.names if n not in ("README.md", ".gitattributes")]
        if others:
            raise ValueError(f"{head.repo_id} holds {others[0]!r} and no bank; give a new or empty repository")
        return 0
    advice = (
        f"Nothing was pushed. Go on from that one: hf_dsel.Bank.from_hub({head.repo_id!r}), and update it again; or "
        "push to another repository"
    )
    try:
        record = json.loads(text)
        if record["hf_dsel_bank"] != ALGORITHM:
            raise WrongBank(f"the bank in {head.repo_id} was made by another version of hf_dsel. {advice}")
        there = [Round(**r) for r in record.get("rounds", [])]
        theirs = record["settings"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, WrongBank):
            raise
        raise WrongBank(f"{STATE}/{INDEX} of {head.repo_id} is damaged ({error}); nothing was pushed") from None
    changed = [f"{n}={theirs.get(n)!r}, not {v!r}" for n, v in asdict(settings).items() if theirs.get(n) != v]
    if changed:
        raise WrongBank(f"the bank in {head.repo_id} was made with {'; '.join(changed)}. {advice}")
    ours = state.rounds[: len(there)]
    if tuple(there) != ours:
        same = sum(1 for a, b in zip(there, ours, strict=False) if a == b)
        raise WrongBank(
            f"the bank in {head.repo_id} is not one that this one came from: it is after {count(len(there), 'round')}, "
            f"this one after {len(state.rounds)}, and they share {same}. {advice}"
        )
    return len(there)


def _shards(rows: Dataset, folder: Path) -> dict[str, Path]:
    """The rows in parquet files of about 500 MB, by name in the repository."""
    n = max(1, math.ceil(rows.data.nbytes / SHARD_BYTES))
    files = {f"data/train-{i:05d}-of-{n:05d}.parquet": folder / f"{i}.parquet" for i in range(n)}
    for i, path in enumerate(files.values()):
        rows.shard(n, i, contiguous=True).to_parquet(str(path))
    return files


def _message(new: Sequence[Round], rows: int) -> str:
    if not new:
        return "hf_dsel: the card of the bank"
    names = ", ".join(dict.fromkeys(r.source for r in new))
    numbers = f"round {new[0].number}" if len(new) == 1 else f"rounds {new[0].number} to {new[-1].number}"
    return f"hf_dsel bank, {numbers} ({names}): {count(sum(r.entered for r in new), 'row')} entered; {rows:,} rows"

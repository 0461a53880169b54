# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel push` does with its options."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hf_dsel.fetching import Head, head_of
from hf_dsel.loading import load_with_record, open_source
from hf_dsel.opening import open_dataset
from hf_dsel.progress import count, is_main_process
from hf_dsel.publication import CARD, REPLACED, Publication, publication
from hf_dsel.publication import push_to_hub as push_subset
from hf_dsel.published_scores import REPLACED as SCORES_REPLACED
from hf_dsel.published_scores import push_scores, scores_publication
from hf_dsel.publishing import hub
from hf_dsel.reporting import show
from hf_dsel.selection_block import BadConfig

TEXTS = {
    "folder": "best", "repo": "me/alpaca-3k", "message": "more rows", "pool": "pool.parquet", "license": "cc-by-4.0",
    "source": "tatsu-lab/alpaca@main",
}  # fmt: skip
GIVEN = ("license", "source", "pictures", "message")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of `hf-dsel push`."""
    group = parser.add_argument_group("what to publish, and where")
    group.add_argument("folder", nargs="?", metavar="DIR", help="a folder that hf-dsel select wrote")
    group.add_argument("repo", nargs="?", metavar="REPO", help="name/repository; without a name, your own")
    group.add_argument("--public", action="store_true", help="make a new repository public (default: private; one that "
                       "exists keeps its visibility)")  # fmt: skip
    group.add_argument("--message", metavar="TEXT", help="the commit's title")
    group.add_argument("--scores-only", action="store_true", help="publish the scores of DIR without its rows; DIR is "
                       "a scored dataset: a folder, a file or a Hub id")  # fmt: skip
    group.add_argument("--column", dest="columns", action="append", metavar="COLUMN", help="a score to publish, with "
                       "--scores-only; repeat it for more (default: numbers with a status; not vectors)")  # fmt: skip
    group.add_argument("--replace", action="store_true", help="with --scores-only: drop published columns and rows "
                       "that these scores do not have (default: refuse)")  # fmt: skip
    group = parser.add_argument_group("what the card says")
    group.add_argument("--pool", metavar="DATASET", help="what DIR was selected from, for the table and pictures: a "
                       "Hub id, file or folder, best with scores (default: where the record says)")  # fmt: skip
    group.add_argument("--no-pool", action="store_true", help="a card without the table and the pictures")
    group.add_argument("--pictures", action=argparse.BooleanOptionalAction, help="draw them (default: --pictures)")
    group.add_argument("--license", metavar="ID", help="such as cc-by-4.0 (default: that of the card that is there, or "
                       "of the pool's card on the Hub)")  # fmt: skip
    group.add_argument("--source", metavar="REPO@REVISION", help="where the pool is on the Hub, when the record does "
                       "not say")  # fmt: skip
    group = parser.add_argument_group("other")
    group.add_argument("--dry-run", action="store_true", help="say which files would be uploaded and write the card to "
                       "a temporary file; upload nothing")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")


def push(options: dict[str, Any]) -> int:
    """`hf-dsel push`: the rows, the record and a card, in one commit."""
    _check_texts(options)
    for name, hint in (("folder", "a folder that hf-dsel select wrote"), ("repo", "such as me/alpaca-3k")):
        if not options.get(name):
            raise BadConfig(f"{name} is missing: give {hint}, for example hf-dsel push alpaca-3k me/alpaca-3k")
    try:
        validate_repo_id(options["repo"])
    except HFValidationError as error:
        raise BadConfig(f"{options['repo']!r} is no name of a repository, such as me/alpaca-3k: {error}") from None
    if options.get("scores_only"):
        return _push_scores(options)
    for name in ("columns", "replace"):
        if options.get(name):
            raise BadConfig(f"--{name.removesuffix('s')} is for --scores-only")
    if options.get("pool") and options.get("no_pool"):
        raise BadConfig("--pool and --no-pool contradict each other; give one")
    place = Path(options["folder"]).expanduser()
    if not place.is_dir():
        raise BadConfig(f"{options['folder']} is no folder; give one that hf-dsel select wrote")
    if not is_main_process():
        return 0
    head = _head(options)
    subset, pool = _opened(options, place)
    given = {name: options[name] for name in GIVEN if options.get(name) is not None}
    if not options.get("dry_run"):
        made = push_subset(subset, options["repo"], pool=pool, private=not options.get("public"), **given)
        show(f"published {count(len(subset), 'row')}: {made.commit_url}")
        show(f"read: hf_dsel.load({head.repo_id!r}), or load_dataset; check: hf-dsel verify {head.repo_id}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        planned = publication(subset, head, Path(folder), pool=pool, **given)
        _show_publication(planned, REPLACED)
    return 0


def _check_texts(options: dict[str, Any]) -> None:
    """Raise for an option that a file gives as something else than text."""
    for name, example in TEXTS.items():
        if not isinstance(options.get(name), str | None):
            raise BadConfig(f"{name} must be text such as {example}, got {options[name]!r}")
    columns = options.get("columns")
    names = [columns] if isinstance(columns, str) else columns or []
    if columns is not None and not (isinstance(columns, str | list) and all(isinstance(n, str) for n in names)):
        raise BadConfig(f"columns must be names of columns such as [ifd, quality], got {columns!r}")


def _push_scores(options: dict[str, Any]) -> int:
    """The scores without the rows."""
    clash = [n for n in ("pool", "no_pool", "pictures") if options.get(n)]
    if clash:
        raise BadConfig(f"--{clash[0].replace('_', '-')} has no meaning with --scores-only; leave it out")
    dataset = open_dataset(options["folder"])
    given = {name: options[name] for name in ("columns", "license", "source", "message") if options.get(name)}
    if isinstance(given.get("columns"), str):
        given["columns"] = [given["columns"]]
    given["replace"] = bool(options.get("replace"))
    if not is_main_process():
        return 0
    if not options.get("dry_run"):
        made = push_scores(dataset, options["repo"], private=not options.get("public"), **given)
        show(f"published: {made.commit_url}")
        show(f"join: hf_dsel.with_scores(dataset, {options['repo']!r}), or --scores-from {options['repo']}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _show_publication(scores_publication(dataset, _head(options), Path(folder), **given), SCORES_REPLACED)
    return 0


def _head(options: dict[str, Any]) -> Head:
    """The repository as it is; for a dry run without a token, as if there were none."""
    if options.get("dry_run") and not get_token():
        return Head(options["repo"], None, (), hub())
    return head_of(options["repo"])


def _show_publication(planned: Publication, replaced: Sequence[str]) -> None:
    """What would be uploaded, and where to read the card."""
    card = Path(tempfile.mkdtemp(prefix="hf_dsel-card-")) / CARD
    content = planned.files[CARD]
    card.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    state = f"on top of {planned.head.commit[:8]}" if planned.head.commit else "as a new repository"
    show(f"would be uploaded to {planned.repo_id}, {state}, in one commit: {planned.message}")
    show("\n".join(f"  {size:>13,} bytes  {name}" for name, size in planned.sizes().items()))
    show(f"files of an earlier push that would go: {' and '.join(replaced)}, unless they are listed here")
    show(f"the card is in {card}")


def _opened(options: dict[str, Any], place: Path) -> tuple[Dataset, Dataset | Literal[False]]:
    """The rows with their record, and what they were selected from."""
    loaded = load_with_record(place)
    if options.get("no_pool"):
        return loaded.rows, False
    recorded = loaded.record.origin or {}
    if options.get("pool"):
        return loaded.rows, open_source(options["pool"], loaded.record)
    if not recorded.get("repo"):
        raise BadConfig(
            f"the record in {place} does not say where the pool is (it was not on the Hub), and the card compares the "
            "rows with it: give --pool, or --no-pool for a card without the table and the pictures"
        )
    where = {"config": recorded.get("config"), "revision": recorded.get("revision")}
    return loaded.rows, open_source(str(recorded["repo"]), loaded.record, **where)

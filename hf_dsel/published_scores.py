# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scores published apart from their rows: a pool is scored once, and anyone who has the rows joins the scores."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import CommitInfo

from hf_dsel.fetching import Head, head_of
from hf_dsel.origin import Origin
from hf_dsel.progress import count, say
from hf_dsel.publication import Publication
from hf_dsel.publishing import publish
from hf_dsel.score_files import RECORD, score_columns, write_scores
from hf_dsel.scorer_marks import made_by, scorers_of, without_places
from hf_dsel.scores_card import scores_card

REPLACED = ("data/train-*.parquet",)  # of an earlier push


def save_scores(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    scorers: Sequence[Any] = (),
    source: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Path:
    """The scores of a dataset as files without its rows: what `push_scores` publishes, in a folder.

    `data/train-*.parquet` holds a line for each distinct row: `key`, the score columns and a `_status` for each.
    `hf_dsel_scores.json` says what made them, `README.md` how to join them. No text of the rows is written; statuses
    lose what they quote.

    Args:
        dataset: with score columns.
        folder: a new or empty one.
        columns: which to write. None: numbers that have a `_status` beside them, as scorers write them. Vectors are
            written when they are named.
        scorers: the scorers that made the columns, for the record. Those of `hf_dsel.score` are known as long as the
            dataset was not written to a file of its own.
        source: where the rows are on the Hub, such as "tatsu-lab/alpaca" or "tatsu-lab/alpaca@revision". Of what
            `load_dataset` read it is known.
        license: of the scores.
        overwrite: replace scores that the folder holds.

    Returns:
        the folder.

    Of rows with equal text one line is written: that of the copy with the most scores, of these the first. Copies with
    other scores are counted in the record and announced.

    Raises:
        UnknownFormat: the rows are in no format that hf_dsel reads.
        MissingColumn, BadColumn: no such column; NaN or infinite numbers.
        ValueError: columns of text, no scores, no row that can be read, or a folder that holds something else.

    >>> from hf_dsel.joined_scores import with_scores
    >>> pool = Dataset.from_dict({"text": ["a", "b"], "score": [1.0, 2.0]})
    >>> folder = save_scores(pool, tempfile.mkdtemp(), ["score"])
    >>> with_scores(Dataset.from_dict({"text": ["b", "c"]}), folder)["score"][:]
    [2.0, None]
    """
    place = Path(folder).expanduser()
    there = sorted(p.name for p in place.iterdir()) if place.is_dir() else []
    if there and not (overwrite and RECORD in there):
        hint = "give another folder, or overwrite=True" if RECORD in there else "give a new or empty folder"
        raise ValueError(f"{place} holds {', '.join(there[:3])} already; {hint}")
    with tempfile.TemporaryDirectory(dir=_made(place.absolute().parent), prefix=f".{place.name}-") as temporary:
        new = Path(temporary) / "scores"
        _prepare(dataset, new, columns, scorers=scorers, source=source, license=license, repo_id=place.name)
        if there:
            place.rename(Path(temporary) / "old")
        elif place.exists():
            place.rmdir()
        new.rename(place)
    return place


def push_scores(
    dataset: Dataset,
    repo_id: str,
    columns: Sequence[str] | None = None,
    *,
    scorers: Sequence[Any] = (),
    source: str | None = None,
    license: str | None = None,
    private: bool = True,
    token: str | None = None,
    message: str | None = None,
    replace: bool = False,
) -> CommitInfo:
    """Publish the scores of a dataset without its rows, in one commit; `with_scores` joins them to any copy of it.

    Args:
        dataset, columns, scorers, source, license: as in `save_scores`.
        repo_id: `name/repository`.
        private: of a new repository; one that exists keeps its visibility.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.
        message: the commit's title.
        replace: also drop columns or rows that are published there and are not in these scores.

    Returns:
        huggingface_hub's `CommitInfo`.

    Raises:
        NotPublished: no token, a token without rights, a connection that broke, a commit in between.
        ValueError: as in `save_scores`; the repository holds something else, or scores that would be lost.
    """
    chosen = score_columns(dataset, columns)
    head = head_of(repo_id, token)
    with tempfile.TemporaryDirectory() as folder:
        made = scores_publication(
            dataset, head, Path(folder), chosen, scorers=scorers, source=source, license=license, message=message,
            replace=replace,
        )  # fmt: skip
        return publish(
            made.files, made.repo_id, message=made.message, private=private, token=token, delete=REPLACED,
            parent=head.commit,
        )  # fmt: skip


def scores_publication(
    dataset: Dataset,
    head: Head,
    folder: Path,
    columns: Sequence[str] | None = None,
    *,
    scorers: Sequence[Any] = (),
    source: str | None = None,
    license: str | None = None,
    message: str | None = None,
    replace: bool = False,
) -> Publication:
    """What `push_scores` would upload; the files are written to `folder`. Arguments and errors as there."""
    chosen = score_columns(dataset, columns)
    before = _scores_there(head)
    scores = folder / "scores"
    record = _prepare(
        dataset, scores, chosen, scorers=scorers, source=source, license=license, repo_id=head.repo_id,
        previous=head.text("README.md"),
    )  # fmt: skip
    if before is not None and not replace:
        _refuse_loss(head.repo_id, before, record)
    return Publication(
        repo_id=head.repo_id,
        files={path.relative_to(scores).as_posix(): path for path in sorted(scores.rglob("*")) if path.is_file()},
        message=message or f"hf_dsel: {', '.join(chosen)} of {count(record['rows'], 'row')}",
        description="",
        head=head,
    )


def _prepare(
    dataset: Dataset,
    folder: Path,
    columns: Sequence[str] | None,
    *,
    scorers: Sequence[Any],
    source: str | None,
    license: str | None,
    repo_id: str,
    previous: str | None = None,
) -> dict[str, Any]:
    """All files, in a new folder; the record."""
    if not isinstance(dataset, Dataset):
        raise TypeError(f"scores are published of a Dataset (one split), got {type(dataset).__name__}")
    chosen = score_columns(dataset, columns)
    origin = Origin.parse(source) if source else Origin.of(dataset)
    marks = without_places(scorers_of(dataset) | made_by([scorers] if callable(scorers) else scorers))
    unknown = [name for name in chosen if name not in marks]
    if unknown:
        say(f"what made {', '.join(unknown)} is not recorded; name it with scorers=[...]")
    folder.mkdir(parents=True)
    record = write_scores(dataset, folder, chosen, marks=marks, origin=origin)
    features = Dataset.from_parquet(str(folder / record["files"][0])).features  # as anyone will read them
    card = scores_card(record, features, repo_id=repo_id, license=license, previous=previous)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return record


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _scores_there(head: Head) -> dict[str, Any] | None:
    """The record of the scores that a repository holds; None where it holds no data."""
    text = head.text(RECORD)
    others = [name for name in head.names if name not in ("README.md", ".gitattributes", RECORD)]
    if text is None and others:
        raise ValueError(
            f"{head.repo_id} holds {others[0]} and no {RECORD}, so it is no repository of scores; give another name"
        )
    return None if text is None else dict(json.loads(text))


def _refuse_loss(repo_id: str, before: dict[str, Any], record: dict[str, Any]) -> None:
    """A push must not silently take away what others join."""
    lost = [name for name in before["columns"] if name not in record["columns"]]
    if lost:
        raise ValueError(
            f"{repo_id} has the scores {', '.join(lost)}, which these do not have and which would be lost. Keep them: "
            f"first hf_dsel.with_scores(dataset, {repo_id!r}, {lost!r}). Or replace=True"
        )
    if before["rows"] > record["rows"]:
        raise ValueError(
            f"{repo_id} has the scores of {before['rows']:,} rows, these are of {record['rows']:,}; the others would "
            "be lost. Push to another repository, or replace=True"
        )

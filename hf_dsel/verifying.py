# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Whether published rows are what their record produces from the source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from hf_dsel.card_code import known_class
from hf_dsel.loading import Loaded, load_with_record, open_source
from hf_dsel.origin import Origin
from hf_dsel.progress import count, say
from hf_dsel.row_digests import difference, row_digests
from hf_dsel.selection import WrongSource


class CannotVerify(ValueError):
    """There is nothing to compare with; the text says what to pass."""


@dataclass(frozen=True)
class Verification:
    """`holds`: the rows are what the record produces. `lines`: what was looked at and what was found. True or False."""

    place: str
    holds: bool
    lines: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether it holds."""
        return self.holds

    def __str__(self) -> str:
        """The verdict, and what it rests on."""
        verdict = "the rows are what the record produces" if self.holds else "NOT what the record produces"
        return "\n".join([f"{self.place}: {verdict}", *(f"  {line}" for line in self.lines)])


def verify(
    repo_or_dir: str | os.PathLike[str],
    *,
    source: Dataset | str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Verification:
    """Whether the rows of a published subset are the ones that its record picks out of the source.

    First the hash of each row that was recorded when it was published, over all columns. Then the source is loaded at
    the recorded commit, the record's row numbers are applied, and the rows are compared one by one in every column that
    both have; columns that were computed, such as scores, are only in the published rows. It does not run the strategy
    again, but says whether that is possible.

    Args:
        repo_or_dir: `name/repository`, or a folder that `hf-dsel select` wrote.
        source: the pool, or where it lies: a file, a folder, or `name/repository@revision`. None: where the record
            says, on the Hub.
        revision: of the published rows.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Raises:
        CannotVerify: the record does not say where the pool is, and `source` was not given.
        NoRecord, NotFetched, CannotOpen: as for `load`.
    """
    place = os.fspath(repo_or_dir)
    loaded = load_with_record(place, revision=revision, token=token)
    lines: list[str] = []

    def done(holds: bool) -> Verification:
        return Verification(place if loaded.revision is None else f"{place}@{loaded.revision[:8]}", holds, (*lines,))

    changed = _changed(loaded, lines)
    if changed:
        lines.append(changed)
        return done(False)
    pool, name = _source(loaded, source, token)
    try:
        expected = loaded.record.apply(pool)
    except WrongSource as error:
        lines.append(f"the source {name} is another than the record's: {error}")
        return done(False)
    wrong, shared = difference(loaded.rows, expected, loaded.record.source.columns)
    if wrong:
        lines.append(f"compared with {name}: {wrong}")
        return done(False)
    rest = [n for n in loaded.rows.column_names if n not in shared]
    lines.append(f"{count(len(expected), 'row')} as in {name}, in {', '.join(shared)}")
    if rest:
        lines.append(f"not in the source, so not compared with it: {', '.join(rest)}")
    lines.append(_again(loaded, pool))
    return done(True)


def _changed(loaded: Loaded, lines: list[str]) -> str | None:
    """The first row that is not what was published, by the hashes in the record."""
    recorded = loaded.fields.get("rows")
    if not isinstance(recorded, dict):
        lines.append("no hashes of the rows were recorded (push_to_hub records them)")
        return None
    digests, columns = recorded.get("digests") or [], recorded.get("columns") or []
    if set(columns) != set(loaded.rows.column_names):
        names = sorted(set(columns) ^ set(loaded.rows.column_names))
        return f"columns were added or taken away after publishing: {', '.join(names)}"
    found = row_digests(loaded.rows)
    if len(found) != len(digests):
        return f"there are {len(found):,} rows; {len(digests):,} were published"
    for i, (now, then) in enumerate(zip(found, digests, strict=True)):
        if now != then:
            return f"row {i:,} was changed after publishing: its hash is {now}, the record says {then}"
    lines.append(f"every row has the hash that was recorded when it was published, in all {len(columns)} columns")
    return None


def _source(loaded: Loaded, source: Dataset | str | os.PathLike[str] | None, token: str | None) -> tuple[Dataset, str]:
    """The pool, and what to call it."""
    if isinstance(source, Dataset):
        return source, "the source given"
    recorded = loaded.record.origin or {}
    config = recorded.get("config")
    if source is None:
        repo, revision = recorded.get("repo"), recorded.get("revision")
        if not repo:
            raise CannotVerify(
                "the record does not say where the pool is (it was not on the Hub), so give it: source=, or --source "
                "with a file, a folder or name/repository@revision"
            )
    else:
        text = os.fspath(source)
        if Path(text).expanduser().exists() or "@" not in text:
            return open_source(text, loaded.record, config=config if text == recorded.get("repo") else None), text
        origin = Origin.parse(text)
        repo, revision = origin.repo, origin.revision
    name = repo if revision is None else f"{repo}@{revision[:8]}"
    say(f"loading the source {name}")
    return open_source(repo, loaded.record, config=config, revision=revision, token=token), name


def _again(loaded: Loaded, pool: Dataset) -> str:
    """Whether the strategy could be run again, from scores to picks."""
    record, lacking, needed = loaded.record, [], []
    if known_class(record.strategy) is None:
        lacking.append(f"the strategy {record.strategy[:200]} is not part of this hf_dsel")
    for column in record.columns:
        how = record.scorers.get(column) or (loaded.fields.get("scorers") or {}).get(column)
        if how:
            needed.append(f"{column} by {how['scorer']}")
        elif column not in pool.column_names:
            lacking.append(f"nobody recorded how {column} was made")
    if lacking:
        return f"the strategy cannot be run again: {'; '.join(lacking)}"
    first = f", after computing {'; '.join(needed)}" if needed else ""
    among = f", among the rows with {' and '.join(record.where)}" if record.where else ""
    sound = f", behind the gate (gate={record.gate!r})" if record.gate else ""
    alone = f", without copies (dedup={record.dedup!r})" if record.dedup else ""
    return f"the strategy can be run again: {record.strategy}, seed {record.seed}{among}{sound}{alone}{first}"

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A subset as a repository on the Hub: the rows, the record of how they were chosen, and a card that shows it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from huggingface_hub import CommitInfo

from hf_dsel.card import card_text, license_of
from hf_dsel.card_code import known_class, parsed, strategy_name
from hf_dsel.describing import describe
from hf_dsel.extras import MissingExtra
from hf_dsel.fetching import Head, NotFetched, fetched, head_of
from hf_dsel.loading import PUBLISHED
from hf_dsel.origin import Origin
from hf_dsel.pictures import draw
from hf_dsel.progress import count, say
from hf_dsel.publishing import publish
from hf_dsel.row_digests import difference, row_digests
from hf_dsel.scorer_marks import Marks, made_by, scorers_of, without_places
from hf_dsel.scoring import score
from hf_dsel.selection import Selection, is_vector, pool_of, selection_of

CARD = "README.md"
_ALWAYS = ".gitattributes"  # a file that every repository has, so that one is found
SHARD_BYTES = 500_000_000
REPLACED = ("data/train-*.parquet", "hf_dsel/*.png")  # of an earlier push


class CannotPublish(ValueError):
    """Something is missing or contradicts the record; the text says what to pass."""


@dataclass(frozen=True)
class Publication:
    """What a push uploads. `files` are contents, or where they lie, by path; `replaced` patterns of what goes."""

    repo_id: str
    files: dict[str, bytes | Path]
    message: str
    description: str
    head: Head

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {n: len(c) if isinstance(c, bytes) else c.stat().st_size for n, c in self.files.items()}


def push_to_hub(
    subset: Dataset,
    repo_id: str,
    *,
    pool: Dataset | Literal[False] | None = None,
    license: str | None = None,
    source: str | None = None,
    scorers: Sequence[Any] = (),
    private: bool = True,
    pictures: bool = True,
    message: str | None = None,
    token: str | None = None,
) -> CommitInfo:
    """Publish a subset with the record of its choice, in one commit: a stranger sees how it was made and can check it.

    The repository gets the rows as parquet (`load_dataset` and streams read them), `hf_dsel.json` (the record, and a
    hash of each row), pictures, and a card with a table of these rows beside the pool and random rows, and the lines
    that make them again. A later push replaces rows, record and pictures, and keeps what people wrote in the card.

    Args:
        subset: what `select_by`, `Selection.apply` or `hf_dsel.load` returned, all of its rows.
        repo_id: `name/repository`; without a name, that of the token's user.
        pool: the dataset that it was selected from, for the table and the pictures. None: the one that `select_by` was
            called on, if the program still holds it. False: a card without them.
        license: a licence id of the Hub, such as "cc-by-4.0", or another name. None: the one in the card that is there,
            or that of the pool's card on the Hub.
        source: where the pool is on the Hub, `name/repository@revision`, when `load_dataset` has not left it known.
        scorers: the scorers behind columns that `hf_dsel.score` did not compute, for the record. They are not run.
        private: of a new repository; one that exists keeps its visibility.
        pictures: draw them; needs matplotlib.
        message: the commit's title.
        token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.

    Returns:
        huggingface_hub's `CommitInfo`, with `commit_url` and `oid`.

    Raises:
        CannotPublish: no record, no pool, no licence, or rows that the record does not give.
        NotPublished: no token, a token without rights, a connection that broke; nothing was changed.
        CardEdited: somebody edited the part of the card that is generated.
    """
    if not isinstance(subset, Dataset):
        raise TypeError(f"push_to_hub takes a Dataset, got {type(subset).__name__}; push one split, to one repository")
    head = head_of(repo_id, token)
    with tempfile.TemporaryDirectory() as folder:
        made = publication(
            subset, head, Path(folder), pool=pool, license=license, source=source, scorers=scorers, pictures=pictures,
            message=message, token=token,
        )  # fmt: skip
        say(f"uploading {count(len(made.files), 'file')}, {sum(made.sizes().values()):,} bytes, to {made.repo_id}")
        return publish(
            made.files, made.repo_id, message=made.message, description=made.description, private=private, token=token,
            delete=REPLACED, parent=head.commit,
        )  # fmt: skip


def publication(
    subset: Dataset,
    head: Head,
    folder: Path,
    *,
    pool: Dataset | Literal[False] | None = None,
    license: str | None = None,
    source: str | None = None,
    scorers: Sequence[Any] = (),
    pictures: bool = True,
    message: str | None = None,
    token: str | None = None,
) -> Publication:
    """What `push_to_hub` would upload; the shards are written to `folder`. Arguments and errors as there."""
    selection = selection_of(subset)
    if selection is None:
        raise CannotPublish(
            "nothing says how these rows were chosen. Push what select_by returned, in the program that called it, or "
            "hf_dsel.load(DIR) of a folder that hf-dsel select wrote; plain rows go with their own push_to_hub"
        )
    if PUBLISHED not in head.names and any(n.startswith("data/train-") for n in head.names):
        raise CannotPublish(f"{head.repo_id} holds rows that hf_dsel did not publish there; choose another name")
    before = _pool(subset, selection, pool)
    _check_rows(subset, selection, before)
    record = _record(subset, selection, source, scorers, token)
    previous = head.text(CARD)
    terms, where = _license(license, previous, record["origin"], token)
    table, drawn = None, {}
    if before is not None:
        before = _with_scores(before, selection)
        table = describe(before, subset, columns=_scores(before, selection), seed=selection.seed)
        drawn = _drawn(before, subset, selection) if pictures else {}
    shards = _write_shards(subset, folder)
    card = card_text(
        repo_id=head.repo_id, record=record, description=table, features=subset.features, rows=len(subset),
        examples=[dict(subset.with_format(None)[i]) for i in range(min(2, len(subset)))], pictures=list(drawn),
        license=terms, previous=previous, license_origin=where,
    )  # fmt: skip
    rows = {"columns": subset.column_names, "digests": row_digests(subset)}
    text = json.dumps({**record, "rows": rows}, allow_nan=False, ensure_ascii=False)
    name = strategy_name(selection.strategy)
    return Publication(
        repo_id=head.repo_id,
        files={CARD: card.encode(), PUBLISHED: (text + "\n").encode(), **drawn, **shards},
        message=message or f"{len(subset):,} of {selection.source.rows:,} rows, chosen by {name}",
        description=f"{selection.strategy}, seed {selection.seed}, {json.dumps(selection.budget)}",
        head=head,
    )


def _pool(subset: Dataset, selection: Selection, pool: Dataset | Literal[False] | None) -> Dataset | None:
    """What the rows were selected from, or None when the card is to do without."""
    if pool is False:
        return None
    found = pool_of(subset) if pool is None else pool
    if found is None:
        raise CannotPublish(
            "the dataset that these rows were selected from is not in this program any more, and the card compares "
            "them with it: pass pool= (or pool=False for a card without the table and pictures)"
        )
    selection.check(found)
    return found


def _check_rows(subset: Dataset, selection: Selection, pool: Dataset | None) -> None:
    """Never publish rows that `verify` would refute."""
    remedy = "Change the pool first and select then, so that the record gives what is published"
    if len(subset) != len(selection):
        raise CannotPublish(
            f"{count(len(subset), 'row')} and a record of {len(selection):,}: rows were dropped or added after the "
            f"choice. {remedy}"
        )
    if pool is not None:
        wrong, _ = difference(subset, selection.apply(pool, strict=False), selection.source.columns)
        if wrong:
            raise CannotPublish(f"these are not the rows that the record gives: {wrong}. {remedy}")


def _record(
    subset: Dataset, selection: Selection, source: str | None, scorers: Sequence[Any], token: str | None
) -> dict[str, Any]:
    """The selection's own fields, with the origin and the scorers as far as anybody knows them."""
    record: dict[str, Any] = json.loads(selection.to_json())
    named = [scorers] if callable(scorers) else scorers
    known: Marks = {**scorers_of(subset), **selection.scorers, **made_by(named)}
    columns = {*selection.columns, *subset.column_names}
    record["scorers"] = without_places({name: how for name, how in known.items() if name in columns})
    if source is not None:
        recorded = record["origin"] or {}
        origin = Origin.parse(source, config=recorded.get("config"), split=recorded.get("split"))
        commit = fetched(
            origin.repo, [CARD, _ALWAYS], revision=origin.revision, token=token
        ).name  # also of a branch or tag
        record["origin"] = replace(origin, revision=commit).to_dict()
    return record


def _license(
    given: str | None, previous: str | None, origin: dict[str, str] | None, token: str | None
) -> tuple[str, str | None]:
    """The licence, and where it is from when nobody gave it here."""
    repo = (origin or {}).get("repo")
    if given:
        return given, None
    there, carried = license_of(previous), None
    if repo:
        try:
            place = fetched(repo, [CARD, _ALWAYS], revision=(origin or {}).get("revision"), token=token) / CARD
            carried = license_of(place.read_text(encoding="utf-8")) if place.is_file() else None
        except (NotFetched, ValueError):
            carried = None
    found = there or carried
    if not found:
        what = f"the card of {repo} names none" if repo else "the pool was not on the Hub"
        raise CannotPublish(
            f"under which licence? {what[0].upper()}{what[1:]}. Pass license=, such as 'cc-by-4.0', 'apache-2.0' or "
            "'cc-by-nc-4.0'; the terms of the source hold for these rows too"
        )
    return found, f"carried over from the card of {repo}" if found == carried else None


def _with_scores(pool: Dataset, selection: Selection) -> Dataset:
    """The pool with the columns that `select_by` computed by itself, which lie in its cache."""
    cls, options = known_class(selection.strategy), parsed(selection.strategy)[1]
    if cls is None or options is None:
        return pool
    needs = cls(**options).needs()
    missing = [n for n in selection.columns if n not in pool.column_names and needs.get(n) is not None]
    todo = [needs[n] for n in missing if made_by([needs[n]]).get(n) == selection.scorers.get(n)]
    return score(pool, todo) if todo else pool


def _scores(pool: Dataset, selection: Selection) -> list[str]:
    """The columns of numbers that the strategy read, then the other columns of floats."""
    kinds = {name: str(getattr(feature, "dtype", "")) for name, feature in pool.features.items()}
    read = [n for n in selection.columns if kinds.get(n, "").startswith(("float", "int", "uint"))]
    floats = [n for n, kind in kinds.items() if kind.startswith("float") and not n.startswith("selection_")]
    return list(dict.fromkeys([*read, *floats]))


def _drawn(pool: Dataset, subset: Dataset, selection: Selection) -> dict[str, bytes]:
    vectors = [name for name in (*selection.columns, *pool.column_names) if is_vector(pool.features.get(name))]
    try:
        return draw(
            pool,
            subset,
            embedding=vectors[0] if vectors else None,
            scores=_scores(pool, selection),
            source="source" if "source" in pool.column_names else None,
            seed=selection.seed,
        )
    except MissingExtra as error:
        raise CannotPublish(f"{error}. Or leave the pictures out: pictures=False, --no-pictures") from None


def _write_shards(subset: Dataset, folder: Path) -> dict[str, bytes | Path]:
    """Parquet files of at most half a gigabyte or so."""
    size = subset.data.nbytes * len(subset) / max(len(subset.data), 1)
    n = max(1, math.ceil(size / SHARD_BYTES))
    shards: dict[str, bytes | Path] = {}
    for i in range(n):
        place = folder / f"{i}.parquet"
        subset.with_format(None).shard(n, i, contiguous=True).to_parquet(str(place))
        shards[f"data/train-{i:05d}-of-{n:05d}.parquet"] = place
    return shards

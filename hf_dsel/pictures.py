# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The pictures of a dataset card: score distributions, a map of the embeddings, lengths and sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import ClassLabel, Dataset

from hf_dsel.columns import BadColumn
from hf_dsel.described_sets import Rows, RowSet, Sets, sets_of
from hf_dsel.picture_map import map_figure
from hf_dsel.picture_scores import scores_figure
from hf_dsel.picture_style import families, new_figure, png
from hf_dsel.picture_texts import count_sources, texts_figure
from hf_dsel.rows import UnknownFormat, detect, read, text_columns

SCORES, MAP, TEXTS = "hf_dsel/scores.png", "hf_dsel/map.png", "hf_dsel/texts.png"  # paths in the repo
READ = 20_000  # rows of a set whose text is read
FloatArray = npt.NDArray[np.float64]


def draw(
    pool: Dataset,
    subset: Rows,
    *,
    embedding: str | None,
    scores: Sequence[str],
    source: str | None,
    seed: int = 0,
) -> dict[str, bytes]:
    """PNG files by their path in the repo; a picture that the columns do not allow is left out.

    The scores and the lengths: shares of the rows of pool, picked rows and a random subset of the same size. The map:
    the pool's first two principal components. The background is transparent and the text mid-grey, for light and dark
    pages.

    Args:
        pool: what was selected from, with its columns.
        subset: a Dataset, a Selection or row numbers, as for `describe`.
        embedding: the column of vectors, or None.
        scores: columns of numbers, of which the first four are drawn. Null and NaN are counted in the caption.
        source: a column that says where a row is from, or None.
        seed: of the random subset and of samples. The same seed gives the same bytes.

    Raises:
        MissingExtra: no matplotlib.
        MissingColumn: a column named here that the pool lacks.
        BadColumn: a score that holds no numbers, or vectors that are none.
    """
    new_figure(1.0)  # says what to install before any work
    from matplotlib import style

    draws, map_rng, text_rng = np.random.default_rng(seed).spawn(3)
    sets = sets_of(pool, subset, 0, draws)
    picked = sets.members[1]
    if len(picked) <= len(pool):
        drawn = np.sort(draws.choice(len(pool), len(picked), replace=False))
        sets = Sets(pool, (*sets.members, RowSet(None, drawn)), subset=True)
    for name in (*scores, *([embedding] if embedding else []), *([source] if source else [])):
        sets.require(name)
    with style.context(["default", {"font.family": families()}]):
        figures: dict[str, Any] = {
            SCORES: scores_figure({n: [_numbers(sets, m, n) for m in sets.members] for n in scores})
        }
        if embedding:
            vectors = sets.columns(embedding)
            if any(c is not None and c.values.ndim != 2 for c in vectors):
                raise BadColumn(f"column {embedding!r} holds no vectors, so no map can be drawn of it")
            if vectors[0] is not None and vectors[1] is not None:
                figures[MAP] = map_figure(
                    embedding, vectors[0], vectors[1], vectors[2] if len(vectors) > 2 else None, map_rng
                )
        figures[TEXTS] = _texts(sets, source, text_rng)
        return {path: png(figure) for path, figure in figures.items() if figure is not None}


def _column(sets: Sets, member: RowSet, name: str) -> tuple[Dataset, npt.NDArray[np.int64] | None] | None:
    """Where a member's column is: a dataset, and its rows there (None for all)."""
    if member.own is not None and name in member.own.column_names:
        return member.own, None
    return (sets.pool, member.rows) if member.rows is not None else None


def _numbers(sets: Sets, member: RowSet, name: str) -> FloatArray | None:
    """A member's numbers, NaN where there is none or it is infinite."""
    found = _column(sets, member, name)
    if found is None:
        return None
    dataset, rows = found
    dataset = dataset if rows is None else dataset.select(rows)
    chunked = dataset.select_columns([name]).with_format("arrow")[:].column(0)
    kind = chunked.type
    if not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):
        raise BadColumn(f"column {name!r} has the type {kind}; the distribution of numbers is drawn")
    if pa.types.is_boolean(kind):
        chunked = chunked.cast(pa.int8())
    values = np.array(chunked.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _texts(sets: Sets, source: str | None, rng: np.random.Generator) -> Any:
    sizes: list[int | None] = [len(member) for member in sets.members]
    notes: list[str] = []
    words: list[FloatArray | None] | None = None
    what = "response"
    try:
        what = "prompt" if detect(sets.pool.column_names) == "prompt" else "response"
        words = [_words(sets, member, what, rng) for member in sets.members]
        if len(sets.pool) > READ:
            notes.append(f"words: of {READ:,} rows drawn from each set that has more")
    except UnknownFormat:
        notes.append("words: not counted, since the text is in no format that hf_dsel reads")
    shares = None
    if source:
        counts = [_sources(sets, member, source) for member in sets.members[:2]]
        if counts[0] and counts[1]:
            shares = counts[0], counts[1]
    return texts_figure(words, what, shares, sizes, source, notes)


def _words(sets: Sets, member: RowSet, what: str, rng: np.random.Generator) -> FloatArray | None:
    """The words of the responses of each row (or of some rows), NaN where there is none."""
    n = len(member)
    at = np.arange(n) if n <= READ else np.sort(rng.choice(n, READ, replace=False))
    texts = sets.texts(member, text_columns(sets.pool.column_names), at)
    found = np.full(len(at), np.nan)
    start = 0
    for batch in texts.iter(batch_size=1000):
        for row in read(batch):
            parts = [t.response if what == "response" else t.instruction for t in row.turns]
            known = [p for p in parts if p is not None]
            if known:
                found[start] = sum(len(p.split()) for p in known)
            start += 1
    return found


def _sources(sets: Sets, member: RowSet, name: str) -> Counter[str] | None:
    found = _column(sets, member, name)
    if found is None:
        return None
    dataset, rows = found
    values = (dataset if rows is None else dataset.select(rows)).select_columns([name]).with_format(None)[name][:]
    feature = dataset.features[name]
    if isinstance(feature, ClassLabel):
        values = [None if v is None or v < 0 else feature.int2str(v) for v in values]
    return count_sources(values)

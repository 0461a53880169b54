# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What is in a dataset, and what a selection changed: every metric of pool, subset and random subsets in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.described_sets import Rows, Sets, Values, sets_of
from hf_dsel.describing_texts import text_lines
from hf_dsel.describing_vectors import vector_lines
from hf_dsel.description import Description, Estimate, Metric
from hf_dsel.selection import is_vector

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
VECTOR_METRICS = (
    "coverage, nearest-neighbour distance, Vendi scores, radius, cluster inertia, entropies, Simpson index and "
    "inter-cluster divergence"
)


def describe(
    pool: Dataset,
    subset: Rows | None = None,
    *,
    random: int | Rows | Sequence[Rows] = 5,
    embedding: str | Sequence[str] | None = None,
    quality: str = "quality",
    columns: Sequence[str] | None = None,
    clusters: int = 100,
    parser: Any = None,
    seed: int = 0,
) -> Description:
    """Every metric that the columns allow, of a pool, a subset, and random subsets of its size, as a table.

    Scores: the mean of each column. Embeddings: coverage of the pool, nearest-neighbour distance, Vendi scores, radius,
    cluster inertia, entropy, Rényi entropy and Simpson index of clusters. Text: words a response, distinct-1 and -2,
    inter-cluster divergence, verb-noun pairs. Cosine throughout, but radius, inertia and the clusters are Euclidean on
    the vectors as they are. Numbers of text are taken at one size for all sets, since they fall or grow with it; the
    others grow or fall with it too, so compare the subset with the random ones first.

    What is quadratic in the rows is computed on a sample when the set is large, and then has a 95 % interval. Memory:
    the embeddings, once, and some hundred MiB.

    Args:
        pool: what was selected from, with its score and embedding columns.
        subset: a Dataset, a Selection, or row numbers; without it the pool alone is described. A subset that
            `select_by` made finds the vectors that it lacks in the pool.
        random: how many random subsets to draw, or one or several of your own, given like `subset`.
        embedding: column or columns of vectors; all that the pool has when left out.
        quality: the column for the quality-weighted Vendi score, at least 0 everywhere, higher is better.
        columns: score columns to average; all columns of floats when left out. Nulls are left out and counted.
        clusters: how many clusters k-means makes of the pool, at most; fewer when the smallest set has under 10 rows
            a cluster.
        parser: a spaCy pipeline such as `spacy.load("en_core_web_sm")`, for the verb-noun pairs.
        seed: of the random subsets, the samples and the clusters.

    Raises:
        TypeError: a pool that is no Dataset, such as a DatasetDict.
        ValueError: an empty pool or set, row numbers that the pool lacks, or clusters below 2.
        MissingColumn: a column named here that the pool lacks.
        WrongSource: a Selection that was made on another dataset.

    Source: survey, Eqs. 28-35; QDIT, Eq. 1; Self-Instruct, Sec. 3.3. Each metric's docstring gives its formula.

    >>> pool = Dataset.from_dict({"prompt": ["a b", "c d"], "completion": ["one", "two"], "quality": [1.0, 3.0]})
    >>> print(describe(pool, np.array([1]), random=[np.array([0])]).cells()[2])
    ('quality, mean', '3.000', '1.000', '2.000')
    """
    if clusters < 2:
        raise ValueError(f"clusters is {clusters}; it must be at least 2")
    draws, *streams = np.random.default_rng(seed).spawn(3)
    sets = sets_of(pool, subset, random, draws)
    notes: list[str] = []
    left_out: list[str] = []
    sizes = [Estimate(len(member)) for member in sets.members]
    metrics = [Metric.of("rows", sizes, subset=sets.subset, decimals=0)]
    for name in _score_columns(pool) if columns is None else columns:
        metrics.append(_mean(sets, name, notes))
    worth = _quality(sets, quality, left_out)
    vectors = [embedding] if isinstance(embedding, str) else embedding
    if vectors is None:
        vectors = [name for name in pool.column_names if is_vector(pool.features[name])]
    labels = None
    for name, rng in zip(vectors, streams[0].spawn(len(vectors)), strict=True):
        sets.require(name)
        lines = vector_lines(sets, name, worth, clusters, rng)
        metrics += lines.metrics if len(vectors) == 1 else [m.under(name) for m in lines.metrics]
        notes += lines.notes if len(vectors) == 1 else [f"{name}: {note}" for note in lines.notes]
        left_out += lines.left_out
        labels = lines.labels if labels is None else labels
    if not vectors:
        left_out.append(
            f"{VECTOR_METRICS}; the pool has no column of embeddings. Add one: hf_dsel.score(pool, "
            f"hf_dsel.Embed(model='{MODEL}')), or hf-dsel score POOL --scorer Embed:model={MODEL} --out DIR"
        )
    text = text_lines(sets, labels, None if parser is None else parser.pipe, streams[1])
    if parser is None and text.metrics:
        left_out.append(
            "verb-noun pairs; they need a parser of the language, for English: pip install 'hf-dsel[parser]', python "
            "-m spacy download en_core_web_sm, then parser=spacy.load('en_core_web_sm') or --parser en_core_web_sm"
        )
    metrics += text.metrics
    drawn = len(sets.members) - 2 if sets.subset else 0
    return Description(tuple(metrics), drawn, seed, (*notes, *text.notes), (*left_out, *text.left_out))


def _score_columns(pool: Dataset) -> list[str]:
    """The columns of floats that are not about a selection."""
    dtypes = {name: str(getattr(feature, "dtype", "")) for name, feature in pool.features.items()}
    return [n for n, dtype in dtypes.items() if dtype.startswith("float") and not n.startswith("selection_")]


def _mean(sets: Sets, name: str, notes: list[str]) -> Metric:
    sets.require(name)
    found = sets.columns(name)
    if any(c is not None and (c.values.ndim != 1 or c.values.dtype == object) for c in found):
        raise ValueError(f"column {name!r} holds no numbers; describe averages numbers")
    pool, n = found[0], len(sets.pool)
    if pool is not None and pool.missing:
        notes.append(f"{name}: the mean of the rows that have one, {len(pool):,} of {n:,} in the pool")
    means = [Estimate(float(c.taken().mean())) if c is not None and len(c) else None for c in found]
    return Metric.of(f"{name}, mean", means, subset=sets.subset)


def _quality(sets: Sets, name: str, left_out: list[str]) -> list[Values | None] | None:
    what = "quality-weighted Vendi score"
    if name not in sets.pool.column_names:
        others = _score_columns(sets.pool)
        hint = f"quality='{others[0]}' takes another" if others else "a scorer such as hf_dsel.DeitaQuality() makes one"
        left_out.append(f"{what}; the pool has no column {name!r}. {hint[0].upper()}{hint[1:]}")
        return None
    found = sets.columns(name)
    if any(c is not None and (c.values.ndim != 1 or c.values.dtype == object) for c in found):
        raise ValueError(f"column {name!r} holds no numbers; quality is one number a row")
    if any(c is not None and c.missing > len(c) for c in found):
        left_out.append(f"{what}; most rows of a set have no {name}")
        return None
    lowest = min((float(c.taken().min()) for c in found if c is not None and len(c)), default=0.0)
    if lowest < 0:
        left_out.append(
            f"{what}; {name} is below 0 in places (lowest {lowest:g}), and a product with it has no meaning"
        )
        return None
    return found

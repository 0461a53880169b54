# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The lines of `describe` that read embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.described_sets import Sets, Values
from hf_dsel.description import STUDENT, Estimate, Metric
from hf_dsel.metrics.cluster_inertia import cluster_inertia
from hf_dsel.metrics.entropy import entropy
from hf_dsel.metrics.nearest import largest_cosine
from hf_dsel.metrics.nearest_neighbour_distance import distances_to_nearest
from hf_dsel.metrics.radius import radius
from hf_dsel.metrics.renyi_entropy import renyi_entropy
from hf_dsel.metrics.simpson import simpson_index
from hf_dsel.metrics.vendi_score import eigenvalues, score_of, similarity_sums
from hf_dsel.ops.k_means import k_means
from hf_dsel.ops.nearest_centroids import nearest_centroids

PAIRS = 200_000_000  # cosines computed for one number; 1,000 rows are looked at in any case
VENDI_WORK = 400_000_000_000  # rows x dim², the products of one Vendi score
CLUSTERED = 20_000  # rows that k-means sees
PARTS = 5  # of a sampled Vendi score
ROWS_A_CLUSTER = 10  # at least, on average, in the smallest set

IntArray = npt.NDArray[np.int64]


@dataclass
class VectorLines:
    """The lines for one embedding column, notes on them, and the cluster of every row of every set (-1: no vector)."""

    metrics: list[Metric] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    labels: list[IntArray | None] | None = None


def vector_lines(
    sets: Sets, name: str, quality: list[Values | None] | None, clusters: int, rng: np.random.Generator
) -> VectorLines:
    """Coverage, nearest-neighbour distance, Vendi scores, radius and the metrics of clusters.

    Args:
        sets: what to describe.
        name: the embedding column.
        quality: the quality of every set, for the weighted Vendi score; None leaves it out.
        clusters: how many clusters at most.
        rng: for the samples and the clusters.
    """
    lines = VectorLines()
    columns = sets.columns(name)
    pool = columns[0]
    if pool is None or len(pool) < 2:
        lines.left_out.append(f"all that reads {name}: it has fewer than 2 vectors in the pool")
        return lines
    if sets.subset and columns[1] is None:
        lines.left_out.append(
            f"what reads {name}, for the subset: it has no such column, and which rows of the pool it consists of is "
            "unknown. Pass its Selection, or select with keep_vectors=True"
        )
    if pool.missing:
        lines.notes.append(f"{name}: {pool.missing:,} rows of the pool without a vector are left out")

    def add(title: str, number: Callable[[Values], Estimate | None], **rest: Any) -> None:
        found = [None if c is None or len(c) == 0 else number(c) for c in columns]
        lines.metrics.append(Metric.of(title, found, subset=sets.subset, **rest))

    _add_distances(columns, add, lines, rng)
    _add_vendi(columns, quality, add, lines, rng)
    add("radius", lambda c: _radius(c), diverse="higher", source="survey, Eq. 30", decimals=4)
    flat = radius(pool.values, pool.rows).flat_axes if _varies(pool) else 0
    if flat:
        lines.notes.append(f"radius: {flat} of {pool.values.shape[1]} axes, along which nothing varies, are left out")
    _add_clusters(sets, columns, clusters, add, lines, rng)
    return lines


def _sample(n: int, against: int, rng: np.random.Generator) -> IntArray | None:
    """Enough of n rows to compare with `against` others, or None for all."""
    enough = max(1000, PAIRS // max(against, 1))
    return np.sort(rng.choice(n, enough, replace=False)) if enough < n else None


def _add_distances(columns: list[Values | None], add: Any, lines: VectorLines, rng: np.random.Generator) -> None:
    pool = columns[0]
    assert pool is not None
    if len(columns) > 1:
        points = _sample(len(pool), max(len(c) for c in columns[1:] if c is not None) if any(columns[1:]) else 1, rng)
        if points is not None:
            lines.notes.append(f"coverage: seen from {len(points):,} rows drawn from the pool")
        at = points if pool.rows is None else pool.rows if points is None else pool.rows[points]
        seen = pool.values if at is None else pool.values[at]

        def covered(c: Values) -> Estimate:
            return Estimate(1.0) if c is pool else Estimate.of_mean(largest_cosine(seen, c.taken()), len(pool))  # Eq. 1

        add("coverage of the pool", covered, diverse="higher", source="QDIT, Eq. 1")

    def apart(c: Values) -> Estimate | None:
        if len(c) < 2:
            return None
        points = _sample(len(c), len(c), rng)
        found = Estimate.of_mean(distances_to_nearest(c.values, c.rows, seen_from=points), len(c))
        if points is not None:
            sampled.append(len(points))
        return found

    sampled: list[int] = []
    add("nearest-neighbour distance", apart, diverse="higher", source="survey, Eq. 28")
    if sampled:
        sizes = " or ".join(f"{n:,}" for n in sorted(set(sampled)))
        lines.notes.append(f"nearest-neighbour distance: of sets too large for all pairs, {sizes} rows are looked at")


def _add_vendi(
    columns: list[Values | None],
    quality: list[Values | None] | None,
    add: Any,
    lines: VectorLines,
    rng: np.random.Generator,
) -> None:
    scores: dict[int, tuple[Estimate, Estimate]] = {}  # of orders 1 and 2, by set

    def both(c: Values) -> tuple[Estimate, Estimate]:
        if id(c) not in scores:
            scores[id(c)] = _vendi(c, rng)
            sample = scores[id(c)][0].sample
            if sample is not None:
                lines.notes.append(f"Vendi scores: of a set of {len(c):,} rows, {sample:,} drawn from it")
        return scores[id(c)]

    add("Vendi score", lambda c: both(c)[0], diverse="higher", source="survey, Eq. 35", decimals=2)
    add("Vendi score, order 2", lambda c: both(c)[1], diverse="higher", source="survey, Eq. 35", decimals=2)
    if quality is None:
        return
    worth = {id(c): q for c, q in zip(columns, quality, strict=True) if c is not None}

    def weighted(c: Values) -> Estimate | None:
        q = worth[id(c)]
        if q is None:
            return None
        shared, of_c, of_q = np.intersect1d(c.positions, q.positions, assume_unique=True, return_indices=True)
        if len(shared) == 0:
            return None
        rows = of_c if c.rows is None else c.rows[of_c]
        score = both(c)[0] if len(shared) == len(c) else _vendi(Values(c.values, rows, shared, 0), rng)[0]
        mean = float(q.taken()[of_q].mean())
        low, high = (None if end is None else mean * end for end in (score.low, score.high))
        return Estimate(mean * score.value, low, high, score.sample)

    add("quality-weighted Vendi score", weighted, diverse="higher", source="survey, below Eq. 35", decimals=2)


def _vendi(c: Values, rng: np.random.Generator) -> tuple[Estimate, Estimate]:
    """Of orders 1 and 2, exact, or with the interval of a jackknife over parts of a sample."""
    n, dim = len(c), c.values.shape[1]
    enough = max(VENDI_WORK // dim**2, 2 * PARTS * dim)
    if n <= enough:
        values = eigenvalues(similarity_sums(c.values, c.rows), n)
        return Estimate(score_of(values, 1)), Estimate(score_of(values, 2))
    drawn = rng.choice(n, enough, replace=False)
    parts = [p if c.rows is None else c.rows[p] for p in np.array_split(drawn, PARTS)]
    sums = [similarity_sums(c.values, np.sort(part)) for part in parts]
    total = sum(sums[1:], start=sums[0])
    whole = eigenvalues(total, enough)
    without = [eigenvalues(total - s, enough - len(p)) for s, p in zip(sums, parts, strict=True)]
    first, second = (_jackknife(score_of(whole, q), [score_of(w, q) for w in without], enough) for q in (1, 2))
    return first, second


def _jackknife(whole: float, without: list[float], sample: int) -> Estimate:
    """The bias of a sample taken off, and an interval: g·θ − (g−1)·θ̄, (g−1)/g · Σ (θ_i − θ̄)²."""
    g, mean = len(without), float(np.mean(without))
    value = g * whole - (g - 1) * mean
    half = STUDENT[g] * ((g - 1) / g * sum((w - mean) ** 2 for w in without)) ** 0.5
    return Estimate(value, value - half, value + half, sample)


def _varies(c: Values) -> bool:
    """Whether two vectors of the set differ."""
    start = c.values[0 if c.rows is None else c.rows[0]]
    steps = range(0, len(c), 8192)
    blocks = (c.values[i : i + 8192] if c.rows is None else c.values[c.rows[i : i + 8192]] for i in steps)
    return any(bool((block != start).any()) for block in blocks)


def _radius(c: Values) -> Estimate | None:
    return Estimate(radius(c.values, c.rows).radius) if len(c) > 1 and _varies(c) else None


def _add_clusters(
    sets: Sets, columns: list[Values | None], clusters: int, add: Any, lines: VectorLines, rng: np.random.Generator
) -> None:
    pool = columns[0]
    assert pool is not None
    drawn = np.sort(rng.choice(len(pool), min(CLUSTERED, len(pool)), replace=False))
    sample = pool.values[drawn if pool.rows is None else pool.rows[drawn]].astype(np.float32)
    distinct = len({row.tobytes() for row in sample + np.float32(0)})  # −0 becomes 0
    smallest = min(len(c) for c in columns if c is not None and len(c))
    k = min(clusters, distinct, max(2, smallest // ROWS_A_CLUSTER))
    if k < 2:
        lines.left_out.append("the metrics of clusters: all vectors of the pool are alike")
        return
    _, centroids = k_means(sample, k, rng=rng)
    of = f"{len(sample):,} rows drawn from the pool" if len(sample) < len(pool) else "the pool"
    lines.notes.append(f"clusters: {k}, by k-means on {of}; the same for every column of the table")
    found = {id(c): nearest_centroids(c.values, centroids, c.rows) for c in columns if c is not None and len(c)}

    def counts(c: Values) -> IntArray:
        return np.bincount(found[id(c)], minlength=k)

    def inertia(c: Values) -> Estimate:
        return Estimate(cluster_inertia(c.values, found[id(c)], c.rows) / len(c))

    add("cluster inertia, a row", inertia, diverse="higher", source="survey, Eq. 29")
    add("entropy of clusters, bits", lambda c: Estimate(entropy(counts(c))), diverse="higher", source="survey, Eq. 32")
    add("Rényi entropy, order 2, bits", lambda c: Estimate(renyi_entropy(counts(c), order=2)), diverse="higher",
        source="survey, Eq. 33")  # fmt: skip
    add("Simpson index of clusters", lambda c: Estimate(simpson_index(counts(c))), diverse="lower", decimals=4,
        source="survey, Eq. 34")  # fmt: skip
    lines.labels = []
    for member, c in zip(sets.members, columns, strict=True):
        label = np.full(len(member), -1, np.int64)
        if c is not None and len(c):
            label[c.positions] = found[id(c)]
        lines.labels.append(None if c is None else label)

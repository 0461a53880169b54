# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""DEITA: best score first, skipping what is too similar to a row already kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.ops.near_duplicates import first_come
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors


def paper_embedder() -> Embed:
    """The encoder of DEITA's released code: the last token of Mistral-7B over the whole example."""
    return Embed(model="mistralai/Mistral-7B-v0.1", of="example", pooling="last")


@dataclass(frozen=True, kw_only=True)
class Deita:
    """Keeps the rows with the largest complexity × quality whose nearest kept row is not too similar.

    Rows are sorted by s = q·c, largest first, ties to the lower row. The first is kept. Each next row is dropped when
    its largest cosine similarity to a row already kept is above `threshold` (equal is kept), until the budget is
    spent. When the pool runs out first, fewer rows are kept, with a warning. Gains are the scores s;
    `selection_similarity` is the largest similarity to the rows kept before (none for the first).

    Args:
        threshold: largest cosine similarity allowed, in [-1, 1].
        complexity, quality, embedding: the columns to read.

    Raises:
        ValueError: a threshold outside [-1, 1].

    Source: DEITA (Liu et al. 2024), Algorithm 1 and Section 2.5; threshold 0.9 there.
    Differs: the paper's text compares a cosine distance with the threshold, its code a similarity, as here. Its batched
    mode also drops a row for being near a dropped one; here only kept rows count. Sorting is stable.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "complexity": [2.0, 3.0, 1.0],
    ...     "quality": [3.0, 3.0, 3.0],
    ...     "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]],
    ... })
    >>> hf_dsel.select_by(pool, "deita", k=2)["complexity"][:]
    [3.0, 1.0]
    """

    threshold: float = 0.9
    complexity: str = "complexity"
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def needs(self) -> dict[str, Any]:
        """Two scores and an embedding; the default embedder is the paper's code's."""
        return {self.complexity: None, self.quality: None, self.embedding: paper_embedder()}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Algorithm 1."""
        score = numbers(columns, self.complexity) * numbers(columns, self.quality)  # line 4: s = q * c
        return best_first(vectors(columns, self.embedding), score, self.threshold, budget)


def best_first(embeddings: npt.NDArray[Any], score: FloatArray, threshold: float, budget: Budget) -> Picks:
    """Rows by score, largest first, without those more similar than `threshold` to one kept before."""
    similarity: list[float] = []

    def kept() -> Iterator[tuple[int, float]]:
        for row, nearest in first_come(embeddings, order=np.argsort(-score, kind="stable"), threshold=threshold):
            similarity.append(np.nan if nearest is None else nearest)
            yield row, float(score[row])

    rows, gains = budget.take(kept())
    return Picks(rows, gains, {"similarity": np.asarray(similarity[: len(rows)], np.float64)})


def check_threshold(threshold: float) -> None:
    """Refuse what no cosine similarity can be."""
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is a cosine similarity in [-1, 1], got {threshold}; DEITA uses 0.9, QDIT 0.5")

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""QDIT:Threshold: best quality first, skipping what is too similar to a row already kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors
from hf_dsel.strategies.deita import best_first, check_threshold


@dataclass(frozen=True, kw_only=True)
class QditThreshold:
    """Keeps the rows with the largest quality whose similarity to every row kept before is at most `threshold`.

    Like `deita`, with one score and a stricter threshold. Gains are the qualities; `selection_similarity` is the
    largest similarity to the rows kept before (none for the first). It may run dry before the budget is spent, with a
    warning.

    Args:
        threshold: largest cosine similarity allowed, in [-1, 1].
        quality, embedding: the columns to read.

    Raises:
        ValueError: a threshold outside [-1, 1].

    Source: QDIT (Bukharin et al. 2024), Appendix H, QDIT:Threshold; threshold 0.5 there.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"quality": [3.0, 2.0, 1.0], "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]})
    >>> hf_dsel.select_by(pool, "qdit_threshold", k=2)["quality"][:]
    [3.0, 1.0]
    """

    threshold: float = 0.5
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def needs(self) -> dict[str, Any]:
        """A score and an embedding; the default embedder is the paper's."""
        return {self.quality: None, self.embedding: Embed()}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Walk the rows by quality."""
        quality = numbers(columns, self.quality)
        return best_first(vectors(columns, self.embedding), quality, self.threshold, budget)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""QDIT: greedy facility location plus quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.ops.facility_location import facility_location
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors


@dataclass(frozen=True, kw_only=True)
class Qdit:
    """Keeps rows that are good and that together stand for the whole pool.

    Greedily adds the row with the largest f(a|A) = (1−α)·d(a|A) + α·q(a), where d(A) = Σ_v max_{a∈A} cos(a, v) sums
    over all rows v of the pool, d(a|A) = d(A ∪ a) − d(A), d(∅) = 0 and cosines are not floored at 0. Gains are f(a|A);
    `selection_diversity` is d(a|A). The picks are exactly those of the plain greedy algorithm, ties to the lower row,
    and the first m of them are the choice for budget m.

    **α does not carry over.** d(a|A) is a sum over the pool that falls from thousands to fractions while q stays the
    same, so one α means other things in pools of other sizes. The scalings make it comparable: `diversity="mean"`
    divides d by the number of rows; `scale="minmax"` maps q to [0, 1], `scale="rank"` to evenly spaced ranks.

    Args:
        alpha: weight of quality in [0, 1]. 0 is diversity alone (no quality column needed), 1 is `top_k`.
        scale: of the quality: "raw" (the paper's), "minmax" or "rank". A constant quality becomes 0.
        diversity: "sum" (the paper's) or "mean".
        epsilon: None for the exact greedy choice. Otherwise each step looks at ⌈N/k·ln(1/ε)⌉ random rows only, for a
            value of at least (1 − 1/e − ε) times the best in expectation; it needs a budget in rows.
        quality, embedding: the columns to read.

    Raises:
        ValueError: α or ε out of range, an unknown scaling, ε with a budget in tokens.

    Source: QDIT (Bukharin et al. 2024), Eq. 1 and Algorithm 1; α = 0.7 in most of its tables; all-mpnet-base-v2 on the
    instruction (Appendix A). Lazy greedy: Minoux 1978. ε: Mirzasoleiman et al. 2015.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "quality": [1.0, 2.0, 1.0], "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]})
    >>> hf_dsel.select_by(pool, "qdit", k=2, alpha=0.5)["quality"][:]
    [2.0, 1.0]
    """

    alpha: float = 0.7
    scale: Literal["raw", "minmax", "rank"] = "raw"
    diversity: Literal["sum", "mean"] = "sum"
    epsilon: float | None = None
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1] (0: diversity alone, 1: quality alone), got {self.alpha}")
        if self.epsilon is not None and not 0 < self.epsilon < 1:
            raise ValueError(
                f"epsilon must be in (0, 1), for example 0.1, or None for the exact choice; got {self.epsilon}"
            )
        if self.scale not in ("raw", "minmax", "rank"):
            raise ValueError(f"scale must be 'raw', 'minmax' or 'rank', got {self.scale!r}")
        if self.diversity not in ("sum", "mean"):
            raise ValueError(f"diversity must be 'sum' or 'mean', got {self.diversity!r}")

    def needs(self) -> dict[str, Any]:
        """An embedding unless alpha is 1, a score unless it is 0; the default embedder is the paper's."""
        embedding = {self.embedding: Embed()} if self.alpha < 1 else {}
        return embedding | ({self.quality: None} if self.alpha > 0 else {})

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Algorithm 1."""
        quality = self.scaled(numbers(columns, self.quality)) if self.alpha > 0 else np.zeros(budget.pool)
        if self.alpha == 1:
            order = budget.fitting(np.argsort(-quality, kind="stable"))
            return Picks(order, quality[order])
        if self.epsilon is not None and budget.rows is None:
            raise ValueError(
                "epsilon needs a budget in rows: the rows looked at each step depend on k. Give k or fraction."
            )
        weight = (1 - self.alpha) / (budget.pool if self.diversity == "mean" else 1)
        rows, gains = budget.take(
            facility_location(
                vectors(columns, self.embedding),
                diversity_weight=weight,  # f(a|A) = (1 − α)·d(a|A) + α·q(a)
                modular=self.alpha * quality,
                epsilon=self.epsilon,
                k=budget.at_most,
                rng=rng,
            )
        )
        return Picks(rows, gains, {"diversity": (gains - self.alpha * quality[rows]) / weight})

    def scaled(self, quality: FloatArray) -> FloatArray:
        """The quality on the scale asked for."""
        if self.scale == "raw" or len(quality) == 0:
            return quality
        if self.scale == "rank":  # equal qualities share the mean of their ranks
            _, inverse, counts = np.unique(quality, return_inverse=True, return_counts=True)
            middle = np.cumsum(counts) - (counts + 1) / 2
            return middle[inverse] / max(len(quality) - 1, 1) if len(counts) > 1 else np.zeros(len(quality))
        spread = quality.max() - quality.min()
        return (quality - quality.min()) / spread if spread > 0 else np.zeros(len(quality))

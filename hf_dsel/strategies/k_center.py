# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""k-center: always the row farthest from what was picked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.ops.k_center import k_center
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors
from hf_dsel.strategies.knn import check_gamma, min_max, quality_needed


@dataclass(frozen=True, kw_only=True)
class KCenter:
    """Keeps rows such that no row of the pool is far from all of them.

    Starts from one row, then always adds u = argmax_v min_{a∈A} ‖x_v − x_a‖, the row farthest from what was picked,
    ties to the lower row. The largest distance of a row to its nearest pick is at most twice the smallest that k rows
    can reach (for γ = 0). Gains are the distances to the nearest pick at the time of picking, none for the first. The
    first m rows are the choice for budget m.

    With γ > 0 it adds argmax_v (1 + r'_v) · (1 + q'_v)^γ, where r_v is that distance, r' = r / max r at each step, and
    q' is the quality scaled to [0, 1] over the rows (min-max; all 0 where constant). Gains are still distances.

    Outliers come first: it is made to cover the pool, not to find typical rows.

    Args:
        start: the first pick: a row number, "mean" (the row nearest to the mean of all) or "random" (by the seed).
            Rows that are left out for a null are not counted.
        gamma: weight γ of the quality, at least 0. 0 is distance alone (no quality column needed).
        quality, embedding: the columns to read. Vectors are used as they are: of length 1 for cosine.

    Raises:
        ValueError: γ below 0, or a start that is no row.

    Source: Sener & Savarese 2018; InsBank (PIBE), Appendix B, Algorithm 1, and Section 4.1 for the quality.
    Differs: PIBE does not say over what it scales the distances: here over all rows at each step, picks (at 0)
    included. It uses γ = 1 and an instruction embedding (Li et al. 2024).

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 0.9]]})
    >>> hf_dsel.select_by(pool, "k_center", k=2)["embedding"][:]
    [[1.0, 0.0], [0.0, 1.0]]
    """

    start: int | Literal["mean", "random"] = 0
    gamma: float = 0.0
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        number = isinstance(self.start, int) and not isinstance(self.start, bool) and self.start >= 0
        if not number and self.start not in ("mean", "random"):
            raise ValueError(f"start is a row number from 0, 'mean' or 'random'; got {self.start!r}")

    def needs(self) -> dict[str, Any]:
        """An embedding, and a score unless γ is 0; the default score is the paper's."""
        return {self.embedding: Embed()} | quality_needed(self.quality, self.gamma)

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Algorithm 1."""
        factor = (1 + min_max(numbers(columns, self.quality))) ** self.gamma if self.gamma > 0 else None
        picks = k_center(vectors(columns, self.embedding), start=self.start, factor=factor, rng=rng)
        return Picks(*budget.take((row, np.nan if distance is None else distance) for row, distance in picks))

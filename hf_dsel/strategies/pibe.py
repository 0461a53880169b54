# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""PIBE: the rows that represent others and are not represented, times quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.ops.representation import Preference, check_preference, representation
from hf_dsel.scorers.embed import Embed
from hf_dsel.strategies import Columns, numbers, vectors
from hf_dsel.strategies.knn import check_gamma, min_max, quality_needed

Combine = Literal["multiply", "add"]


@dataclass(frozen=True, kw_only=True)
class Pibe:
    """Keeps the rows that are good and that would represent others while nothing represents them.

        s_k = (1 + r'_k) · (1 + q'_k)^γ  (Eq. 10, "multiply"),  or  s_k = r'_k + γ · q'_k  (Eq. 9, "add")

    r is the representation score (Eq. 7) from the messages of affinity propagation, q the quality; r' and q' are scaled
    to [0, 1] over the rows (Eq. 8). Largest first, ties to the lower row. Gains are the scores s;
    `selection_representation` is r. The first m rows are the choice for budget m. This is one round: `hf_dsel.Bank`
    goes on with it as new datasets appear.

    With `preference=0`, as published, r is exactly the distance to the nearest neighbour, so that this is `knn`: no row
    ever prefers another to itself (see `hf_dsel.ops.representation`). It needs no N×N array. A preference below 0
    makes rows compete; then messages are passed among all pairs (R takes 4·N² bytes), or along `neighbours`.

    Args:
        gamma: weight γ of the quality, at least 0. 0 is representation alone (no quality column needed).
        combine: "multiply" (Eq. 10, the paper's choice) or "add" (Eq. 9).
        preference: the diagonal of the similarities −‖x_i − x_k‖: 0 (the paper's), "median" (Frey & Dueck's: typical
            rows of groups rise, outliers sink), or any number.
        neighbours: pass messages along this many nearest neighbours alone; None: among all pairs.
        iterations: of the messages, at most.
        damping: share of the old message that is kept, in [0, 1).
        quality, embedding: the columns to read. Vectors are used as they are: of length 1 for cosine.

    Raises:
        ValueError: an option out of range, one row alone, or a quality that is the same in all rows.
        MemoryError: the messages of all pairs do not fit.

    Source: InsBank (PIBE), Section 3.3 and 3.4, Eqs. 7-10; γ = 1, damping 0.5, preference 0 (App. A), DEITA's
        quality, averaged over the turns of a conversation.
    Differs: the default embedder is all-mpnet-base-v2; the paper's is an instruction embedding (Li et al. 2024). The
        authors' code adds noise to the similarities; here ties go to the lower row.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "quality": [1.0, 2.0, 2.0], "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]})
    >>> hf_dsel.select_by(pool, "pibe", k=2)["embedding"][:]
    [[0.0, 1.0], [1.0, 0.1]]
    """

    gamma: float = 1.0
    combine: Combine = "multiply"
    preference: Preference = 0.0
    neighbours: int | None = None
    iterations: int = 200
    damping: float = 0.5
    quality: str = "quality"
    embedding: str = "embedding"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_gamma(self.gamma)
        check_preference(self.preference)
        if self.combine not in ("multiply", "add"):
            raise ValueError(f"combine is {self.combine!r}; expected 'multiply' (Eq. 10) or 'add' (Eq. 9)")
        for name, number in (("neighbours", self.neighbours), ("iterations", self.iterations)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")
        if not 0 <= self.damping < 1:
            raise ValueError(f"damping is {self.damping}; it must be at least 0 and below 1, e.g. 0.5")

    def needs(self) -> dict[str, Any]:
        """An embedding, and a score unless γ is 0; the default score is the paper's."""
        return {self.embedding: Embed()} | quality_needed(self.quality, self.gamma)

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The largest scores."""
        r = representation(
            vectors(columns, self.embedding),
            preference=self.preference,
            neighbours=self.neighbours,
            iterations=self.iterations,
            damping=self.damping,
        )
        quality = None
        if self.gamma > 0:
            quality = numbers(columns, self.quality)
            refuse_constant(quality, self.quality)
        score = combined(r, quality, gamma=self.gamma, combine=self.combine)
        order = budget.fitting(np.argsort(-score, kind="stable"))
        return Picks(order, score[order], {"representation": r[order]})


def combined(r: FloatArray, quality: FloatArray | None, *, gamma: float, combine: Combine) -> FloatArray:
    """The overall score of each row: Eq. 10 or 9 over the scaled scores of Eq. 8; `quality` is not read where γ is 0.

    >>> combined(np.array([0.0, 1.0]), np.array([3.0, 5.0]), gamma=2.0, combine="multiply")
    array([1., 8.])
    """
    rep = min_max(r)  # Eq. 8
    q = min_max(quality) if gamma > 0 and quality is not None else np.zeros(len(rep))
    return rep + gamma * q if combine == "add" else (1 + rep) * (1 + q) ** gamma  # Eq. 9, Eq. 10


def refuse_constant(quality: FloatArray, name: str) -> None:
    """A quality that is the same in all rows says nothing, and Eq. 8 divides by its range."""
    if quality.min() == quality.max():
        raise ValueError(
            f"{name!r} is {quality[0]:g} in all {len(quality):,} rows, so it cannot rank them; use another column, or "
            "gamma=0 for representation alone"
        )

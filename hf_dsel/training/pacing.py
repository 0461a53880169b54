# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A curriculum over the rounds of `Reselect`: each opens a larger part of the pool, the easiest rows first."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from datasets import Dataset

from hf_dsel.columns import read_column
from hf_dsel.strategies import numbers
from hf_dsel.strategies.curriculum import Curriculum
from hf_dsel.training.reselector import Round


@dataclass(frozen=True)
class Pacing:
    """Each round draws at random from the easiest part of the pool, which grows with the steps that are done.

        hf_dsel.Reselect(Pacing("ifd"), k=6000, score="ifd").bind(trainer)

    With the part of the steps done t, part(t) = min(1, (s^p + (1 − s^p) · t / T)^(1/p)): s at the start, everything
    from t = T on; p = 1 grows evenly, p = 2 fast at first.

    Args:
        column: the difficulty: of the pool, or one that `score=` makes anew each round.
        start: s, in (0, 1].
        full_at: T, the part of the training after which the whole pool is open, in (0, 1].
        power: p, from 1 on.
        hardest: "high" or "low" values are the hard ones.

    Raises:
        ValueError: an option outside its range.

    Source: Platanios et al. 2019 (arXiv 1903.09848), Eqs. 7 and 8 (competence by the root of order p).
    Differs: the part is kept for a whole round, where the paper has it grow every step.

    >>> pacing = Pacing("ifd", start=0.2, full_at=0.5)
    >>> [round(pacing.part(t), 2) for t in (0, 0.25, 0.5, 0.75)]
    [0.2, 0.72, 1.0, 1.0]
    """

    column: str
    _: KW_ONLY
    start: float = 0.2
    full_at: float = 0.5
    power: float = 2.0
    hardest: str = "high"

    def __post_init__(self) -> None:
        for name in ("start", "full_at"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value <= 1):
                raise ValueError(f"{name}={value!r}; it is above 0 and at most 1")
        if not (isinstance(self.power, int | float) and 1 <= self.power < math.inf):
            raise ValueError(f"power={self.power!r}; it is a number from 1 on")
        if not isinstance(self.column, str):
            raise TypeError(f"column={self.column!r}; it is the name of a column")
        Curriculum(column=self.column, part=1, hardest=self.hardest)

    def needs(self) -> dict[str, None]:
        """The difficulty."""
        return {self.column: None}

    def check(self, pool: Dataset) -> None:
        """Refuse, before the training, a difficulty that is no number. Asked at `bind`, of the rows that can be chosen.

        Raises:
            BadColumn, TypeError: the pool has the column, and it holds NaN, text or vectors.
        """
        if self.column in pool.column_names:
            numbers({self.column: read_column(pool, self.column).values}, self.column)

    def part(self, done: float) -> float:
        """The part of the pool that is open when this part of the steps is done."""
        least = self.start**self.power
        return min(1.0, (least + (1 - least) * done / self.full_at) ** (1 / self.power))

    def __call__(self, now: Round) -> Curriculum:
        """The strategy of a round."""
        part = self.part(now.progress)
        now.note["part"] = part
        return Curriculum(column=self.column, part=part, hardest=self.hardest)

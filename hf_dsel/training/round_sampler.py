# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The order in which a trainer draws rows when what it draws from changes from round to round."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass
class RoundSampler:
    """As many draws in every round, from the rows that are chosen at the time.

    The trainer fixes its dataloader and its number of steps once; this sampler keeps both as they are. The order is a
    function of the seed, the round and the rows, so every rank and every resumed run draws the same. There is no
    `set_epoch` on purpose: after a resume on several ranks accelerate does not reach a sampler with it.

    Args:
        draws: rows drawn in a round. With fewer rows chosen they are gone over again, each the same number of times or
            one more; with more, the rest is not drawn.
        shuffle: draw in a random order; False draws in the order of the picks.
        seed: of the order.

    >>> sampler = RoundSampler(draws=5, shuffle=False, seed=0)
    >>> sampler.go_on(2, np.array([7, 3]))
    >>> list(sampler)
    [7, 3, 7, 3, 7]
    """

    draws: int
    shuffle: bool
    seed: int
    rows: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    round: int = 0

    def go_on(self, number: int, rows: IntArray) -> None:
        """Draw from these rows in the round of this number."""
        self.round, self.rows = number, rows

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[int]:
        if not len(self.rows):
            raise RuntimeError("no row is chosen yet; the rows of a round are set when it begins")
        rng = np.random.default_rng([self.seed, self.round])
        passes = math.ceil(self.draws / len(self.rows))
        order = [rng.permutation(self.rows) if self.shuffle else self.rows for _ in range(passes)]
        yield from np.concatenate(order)[: self.draws].tolist()

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How much may be picked: rows, a fraction of the pool, or tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Picks(NamedTuple):
    """What a strategy returns.

    `indices`: int64, the rows in pick order. `gains`: float, what each pick added, in the strategy's own unit; NaN
    where the strategy defines none. `why`: further numbers for each pick, named; they become `selection_<name>`
    columns.
    """

    indices: IntArray
    gains: FloatArray
    why: dict[str, FloatArray] = {}  # noqa: RUF012  (never written to)


class BudgetError(ValueError):
    """The budget is missing, given twice, not positive, or more than the pool holds."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a strategy may spend.

    Args:
        pool: rows that can be picked.
        rows: how many rows to pick, or None.
        tokens: how many tokens the picked rows may have together, or None.
        costs: tokens of each row (int64, length `pool`), with `tokens`.

    With neither rows nor tokens the budget is open: a strategy with a rule of its own (a threshold) takes all it may.
    """

    pool: int
    rows: int | None = None
    tokens: int | None = None
    costs: IntArray | None = None

    @property
    def at_most(self) -> int:
        """The largest number of rows that any choice within this budget could have."""
        if self.rows is not None:
            return self.rows
        if self.tokens is None or self.costs is None:
            return self.pool
        return int(np.searchsorted(np.cumsum(np.sort(self.costs)), self.tokens, side="right"))

    def fitting(self, order: IntArray) -> IntArray:
        """The longest prefix of `order` that the budget pays for.

        >>> Budget(pool=3, tokens=5, costs=np.array([3, 2, 1])).fitting(np.array([1, 0, 2]))
        array([1, 0])
        """
        if self.rows is not None:
            return order[: self.rows]
        if self.tokens is None or self.costs is None:
            return order
        return order[: int(np.searchsorted(np.cumsum(self.costs[order]), self.tokens, side="right"))]

    def take(self, picks: Iterable[tuple[int, float]]) -> tuple[IntArray, FloatArray]:
        """Draw (row, gain) pairs from a lazy stream until the budget is spent; what is not drawn is never computed."""
        rows: list[int] = []
        gains: list[float] = []
        spent = 0
        if self.rows != 0:
            for row, gain in picks:
                spent += int(self.costs[row]) if self.costs is not None else 0
                if self.tokens is not None and spent > self.tokens:
                    break
                rows.append(row)
                gains.append(gain)
                if len(rows) == self.rows:
                    break
        return np.asarray(rows, np.int64), np.asarray(gains, np.float64)


def rows_asked(
    k: int | None, fraction: float | None, max_tokens: int | None, *, pool: int, open_ended: bool
) -> int | None:
    """The number of rows that `k` or `fraction` asks for; None for a budget in tokens or an open one.

    Args:
        k: rows, from 1 to `pool`.
        fraction: part of the pool in (0, 1]; rounded to the nearest row, halves up.
        max_tokens: tokens, at least 1.
        pool: rows in the dataset.
        open_ended: whether the strategy can do without a budget.

    Raises:
        BudgetError: no budget, several, or one out of range.
        TypeError: a budget that is not a number.

    >>> rows_asked(None, 0.1, None, pool=52_002, open_ended=False)
    5200
    """
    given = {n: v for n, v in (("k", k), ("fraction", fraction), ("max_tokens", max_tokens)) if v is not None}
    if len(given) > 1:
        raise BudgetError(
            f"give one of k, fraction and max_tokens; got {', '.join(f'{n}={v}' for n, v in given.items())}"
        )
    if not given:
        if open_ended:
            return None
        raise BudgetError("give one of k (rows), fraction (of the pool) or max_tokens, for example k=1000")
    [(name, value)] = given.items()
    whole = name != "fraction"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer) if whole else (int, float, np.number)):
        raise TypeError(f"{name} must be {'a whole number' if whole else 'a number'}, got {value!r}")
    if name == "fraction":
        if not 0 < value <= 1:
            raise BudgetError(f"fraction must be in (0, 1], got {value}; for a number of rows use k")
        value = math.floor(value * pool + 0.5)
        if value == 0:
            raise BudgetError(f"fraction={fraction} of {pool:,} rows is less than one row; raise it or use k")
        return int(value)
    if value <= 0:
        raise BudgetError(f"{name} must be at least 1, got {value}")
    if name == "max_tokens":
        return None
    if value > pool:
        raise BudgetError(f"k={value:,} is more than the {pool:,} rows of the dataset; ask for at most k={pool}")
    return int(value)

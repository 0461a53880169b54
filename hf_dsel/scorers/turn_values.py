# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The values of a row's turns, made into one value and one status."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Combine = Literal["mean", "sum", "min", "max"]
COMBINATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "sum": math.fsum,
    "min": min,
    "max": max,
}


@dataclass(slots=True)
class TurnValues:
    """One turn: its values by column, what was done to it (`remark`), and why it or one column has no value."""

    values: dict[str, float] = field(default_factory=dict)
    remark: str | None = None
    reason: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    answered: bool = True

    def problem(self, column: str) -> str | None:
        """Why the column has no value here, or None."""
        if self.reason or column in self.reasons:
            return self.reason or self.reasons[column]
        return None if math.isfinite(self.values[column]) else f"{column} is not finite"


def row_value(
    column: str, turns: Sequence[TurnValues], combine: Combine, problem: str | None = None
) -> tuple[float | None, str]:
    """The row's value and status.

    Args:
        column: which value.
        turns: the turns in question, in order. Those without a response are passed over.
        combine: "mean", "sum", "min" or "max" over the turns that have a value.
        problem: why the row could not be read, if so.

    Returns:
        the value, or None; and "ok", or the remarks, or why there is none.

    >>> row_value("nll", [TurnValues({"nll": 1.0}), TurnValues({"nll": 2.0})], "mean")
    (1.5, 'ok')
    >>> row_value("nll", [TurnValues({"nll": 1.0}), TurnValues(reason="empty response")], "mean")
    (1.0, 'turn 2 of 2 left out: empty response')
    """
    if problem is not None:
        return None, problem
    answered = [(i, turn) for i, turn in enumerate(turns, start=1) if turn.answered]
    if not answered:
        return None, "no response"
    problems = {i: turn.problem(column) for i, turn in answered}
    values = [turn.values[column] for i, turn in answered if problems[i] is None]
    if not values:
        return None, "; ".join(dict.fromkeys(str(p) for p in problems.values()))
    remarks = []
    for i, turn in answered:
        where = f"turn {i} of {len(turns)}" if len(turns) > 1 else ""
        if problems[i] is not None:
            remarks.append(f"{where} left out: {problems[i]}")
        elif turn.remark and column != "nll_alone":
            remarks.append(f"{where}: {turn.remark}" if where else turn.remark)
    return COMBINATIONS[combine](values), "; ".join(remarks) or "ok"

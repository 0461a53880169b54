# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The table that `describe` makes: numbers of a pool, a subset and random subsets, with intervals where sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % points of Student's t for so many values


@dataclass(frozen=True)
class Estimate:
    """A number. When it was computed on a sample: its 95 % interval, and the size of the sample in rows or words."""

    value: float
    low: float | None = None
    high: float | None = None
    sample: int | None = None

    @classmethod
    def of_mean(cls, values: np.ndarray, population: int) -> Estimate:
        """The mean of some of `population` values drawn without replacement, with a normal interval."""
        mean, m = float(values.mean()), len(values)
        if m >= population:
            return cls(mean)
        half = 1.96 * float(values.std(ddof=1)) * ((1 - m / population) / m) ** 0.5
        return cls(mean, mean - half, mean + half, m)

    @classmethod
    def of_parts(cls, values: Sequence[float], sample: int) -> Estimate:
        """The mean of one number computed on each of up to 5 samples of one size, with Student's interval."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean)
        half = STUDENT[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
        return cls(mean, mean - half, mean + half, sample)


@dataclass(frozen=True)
class Metric:
    """One line: a number of the subset, of random subsets (their mean and standard deviation) and of the pool.

    None where it is not defined or was not asked for. `diverse` says which way is more diverse, `higher` or `lower`;
    None for lines that measure something else. `source` is the paper's equation.
    """

    name: str
    subset: Estimate | None
    random: float | None
    spread: float | None
    pool: Estimate | None
    decimals: int = 3
    diverse: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, name: str, found: Sequence[Estimate | None], *, subset: bool, **rest: Any) -> Metric:
        """From the numbers of the pool, of the subset if there is one, and of the draws."""
        drawn = [e.value for e in found[2:] if e is not None]
        mean = float(np.mean(drawn)) if drawn else None
        spread = float(np.std(drawn, ddof=1)) if len(drawn) > 1 else None
        return cls(name, found[1] if subset else None, mean, spread, found[0], **rest)

    def under(self, column: str) -> Metric:
        """The same line with the column's name in front, where several columns have it."""
        return replace(self, name=f"{column}: {self.name}")


@dataclass(frozen=True)
class Description:
    """The lines of the table, what a reader has to know about them, and what is missing. `str()` gives the table."""

    metrics: tuple[Metric, ...]
    draws: int
    seed: int
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Metric:
        """The line of that name.

        Raises:
            KeyError: no such line; the text lists them.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no line {name!r}; there are {[m.name for m in self.metrics]}")

    def rows(self) -> list[dict[str, Any]]:
        """The lines as plain mappings, numbers not rounded, for a card or a data frame."""
        return [asdict(metric) for metric in self.metrics]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain mappings and lists, which JSON can hold."""
        rest = {"notes": list(self.notes), "left_out": list(self.left_out)}
        return {"draws": self.draws, "seed": self.seed, "metrics": self.rows()} | rest

    def cells(self) -> list[tuple[str, ...]]:
        """The table as texts, its head first. A column without a number is left out."""
        random = "random" if self.draws == 1 else f"random (mean of {self.draws})"
        columns = [("subset", [_shown(m.subset, m) for m in self.metrics])]
        columns.append((random, [_drawn(m) for m in self.metrics]))
        columns.append(("whole pool", [_shown(m.pool, m) for m in self.metrics]))
        kept = [(head, cells) for head, cells in columns if any(number != "-" for number, _ in cells)]
        names = [m.name + {"higher": " ↑", "lower": " ↓"}.get(m.diverse or "", "") for m in self.metrics]
        joined = [[" ".join(part for part in cell if part) for cell in cells] for _, cells in kept]
        return [("", *(head for head, _ in kept)), *zip(names, *joined, strict=True)]

    def __str__(self) -> str:
        """An aligned table in plain text, with the notes below it."""
        table = self.cells()
        columns = [_aligned([row[i] for row in table]) for i in range(1, len(table[0]))]
        first = max(len(row[0]) for row in table)
        lines = ["  ".join([row[0].ljust(first), *cells]).rstrip() for row, *cells in zip(table, *columns, strict=True)]
        below = []
        if any(m.diverse for m in self.metrics):
            below.append("↑ higher is more diverse, ↓ lower is")
        if any(e is not None and e.low is not None for m in self.metrics for e in (m.subset, m.pool)):
            below.append("[a, b] 95 % interval of a number that was computed on a sample")
        below += [*self.notes, *(f"left out: {what}" for what in self.left_out)]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:], *(f"  {line}" for line in below)])


def _aligned(cells: list[str]) -> list[str]:
    """A column with its numbers under each other, what follows a number behind it, and the head above the numbers."""
    parts = [cell.partition(" ") for cell in cells[1:]]
    number, rest = max(len(n) for n, _, _ in parts), max(len(r) for _, _, r in parts)
    body = [f"{n.rjust(number)} {r.ljust(rest)}" if rest else n.rjust(number) for n, _, r in parts]
    if not rest:
        width = max(len(cells[0]), number)
        return [cells[0].rjust(width), *(cell.rjust(width) for cell in body)]
    head = cells[0].rjust(number)
    width = max(len(head), len(body[0]))
    return [head.ljust(width), *(cell.ljust(width) for cell in body)]


def _shown(number: Estimate | None, metric: Metric) -> tuple[str, str]:
    if number is None:
        return "-", ""
    text = f"{number.value:,.{metric.decimals}f}"
    if number.low is None or number.high is None:
        return text, ""
    return text, f"[{number.low:,.{metric.decimals}f}, {number.high:,.{metric.decimals}f}]"


def _drawn(metric: Metric) -> tuple[str, str]:
    if metric.random is None:
        return "-", ""
    if not metric.spread:  # one draw, or a number that all share
        return f"{metric.random:,.{metric.decimals}f}", ""
    decimals = max(metric.decimals, 1)  # a mean of counts is no count
    return f"{metric.random:,.{decimals}f}", f"± {metric.spread:,.{decimals}f}"

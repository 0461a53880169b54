# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Conditions on columns, as words: `ifd < 1`, `source == flan`."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.columns import read_column

SIGNS = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
FORM = re.compile(r"\s*(\S+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")


class BadCondition(ValueError):
    """A condition that cannot be read, or that compares a column with something of another kind."""


@dataclass(frozen=True)
class Condition:
    """One comparison of a column with a number, or, for == and !=, with a text."""

    column: str
    sign: str
    value: float | str

    @classmethod
    def of(cls, text: Any) -> Condition:
        """The condition that a text spells out.

        >>> Condition.of("ifd<1")
        Condition(column='ifd', sign='<', value=1.0)
        """
        found = FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise BadCondition(
                f"{text!r} is no condition; write a column, one of {' '.join(SIGNS)} and a value: ifd < 1"
            )
        column, sign, word = found.groups()
        try:
            return cls(column, sign, float(word))
        except ValueError:
            if sign in ("==", "!="):
                return cls(column, sign, word)
            raise BadCondition(f"{text!r}: {word!r} is no number, and {sign} compares numbers") from None

    def __str__(self) -> str:
        """As it would be written."""
        return f"{self.column} {self.sign} {self.value if isinstance(self.value, str) else format(self.value, 'g')}"

    def holds(self, dataset: Dataset) -> npt.NDArray[np.bool_]:
        """For each row whether it fulfils the condition; a null does not.

        Raises:
            MissingColumn: no such column.
            BadCondition: a text column and a number, or the other way round, or a column of vectors.
        """
        column = read_column(dataset, self.column)
        is_text = column.values.dtype == object
        if column.values.ndim != 1 or is_text != isinstance(self.value, str):
            kind = "vectors" if column.values.ndim != 1 else "text" if is_text else "numbers"
            raise BadCondition(f"{self}: the column {self.column!r} holds {kind}")
        return np.asarray(SIGNS[self.sign](column.values, self.value), np.bool_) & column.valid


def rows_where(dataset: Dataset, conditions: Sequence[Condition]) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    """The rows that fulfil all conditions, and how many rows fail at each, counted where they fail first.

    >>> rows_where(Dataset.from_dict({"ifd": [0.5, 1.2, None]}), [Condition.of("ifd < 1")])
    (array([0]), {'not ifd < 1': 2})
    """
    kept = np.ones(len(dataset), np.bool_)
    failed = {}
    for condition in conditions:
        holds = condition.holds(dataset)
        failed[f"not {condition}"] = int((kept & ~holds).sum())
        kept &= holds
    return np.flatnonzero(kept), {text: n for text, n in failed.items() if n}

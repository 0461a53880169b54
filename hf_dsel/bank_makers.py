# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The scorers behind a bank's columns, which must stay the same as long as the bank lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from datasets import Dataset

from hf_dsel.bank_state import State
from hf_dsel.scorers.options import HOW_IT_RUNS
from hf_dsel.scoring import described, written
from hf_dsel.strategies.pibe import Pibe


def makers_of(rule: Pibe, dataset: Dataset, state: State | None, scorers: Sequence[Any]) -> dict[str, str]:
    """The scorers of the columns that the dataset lacks, as code.

    Args:
        rule: what the bank chooses by.
        dataset: the new rows.
        state: of the bank so far.
        scorers: those that were given in place of the default ones.

    Raises:
        ValueError: another scorer than the one that the bank's rows were scored with.
    """
    given = {name: scorer for scorer in scorers for name in written(scorer)}
    made = {
        name: _maker(scorer)
        for name, scorer in (rule.needs() | {n: s for n, s in given.items() if n in rule.needs()}).items()
        if scorer is not None and name not in dataset.column_names
    }
    for name, scorer in made.items():
        before = scorer if state is None else state.made_by.get(name, scorer)
        if before != scorer:
            raise ValueError(
                f"{name!r} of the bank's rows was made by {before}, and would now be made by {scorer}, so that old "
                "and new rows could not be compared; use the first one, or begin a new bank"
            )
    return made


def _maker(scorer: Any) -> str:
    """A scorer as code, without what changes only how it runs."""
    if is_dataclass(scorer) and not isinstance(scorer, type):
        usual = {f.name: f.default for f in fields(scorer) if f.name in HOW_IT_RUNS and f.default is not MISSING}
        scorer = replace(scorer, **usual)
    return described(scorer)

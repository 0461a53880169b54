# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The rows of a pool that a gate looks at: drawn, and refused where they say too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.gate_turns import Turns
from hf_dsel.learning_input import drawn_from

FEWEST = 300
FEWEST_ANSWERS = 30


class TooLittle(ValueError):
    """A pool has too few answered rows to learn a gate from, or to estimate its share of junk."""


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """Rows of a pool: their columns, what was read of them, and their turns."""

    batch: Mapping[str, Sequence[Any]]
    read: Sequence[rows.Row]
    turns: Turns

    @classmethod
    def of(
        cls, dataset: Dataset, also: Sequence[str], side: rows.Side, *, most: int, seed: int, learns: bool = True
    ) -> Self:
        """At most `most` rows, drawn at random, with their texts and the columns `also`, to learn from or to look at.

        Raises:
            TooLittle: fewer than 300 different rows with an answer, or than 30 different answers.
        """
        at = np.arange(len(dataset))
        if len(dataset) > most:
            at = np.sort(np.random.default_rng(seed).choice(len(dataset), most, replace=False))
        names = [*rows.text_columns(dataset.column_names), *also]
        batch = dataset.with_format(None).select_columns(names).select(at)[:]
        read = rows.read(batch, side=side)
        turns = Turns.of(read)
        does = "learns from" if learns else "estimates the share of junk in"
        instead = "Take the gate as it is, without for_pool, or a larger pool."
        said = [j for j, text in enumerate(turns.responses) if text.strip()]
        answered = len(np.unique(turns.row[said]))
        different = len({(turns.instructions[j], turns.responses[j]) for j in said})
        if min(answered, different) < FEWEST:
            there = f"{answered:,} of {drawn_from(len(at), len(dataset)).removesuffix(' rows')}"
            there += f", {different:,} different" if different < answered else ""
            more = f"Give a larger learn_from= than {most:,}" if len(at) < len(dataset) else (
                "Fit it on a larger pool of the same kind, Gate.fit(larger)")  # fmt: skip
            raise TooLittle(
                f"the gate {does} at least {FEWEST} different rows with an answer, and here are {there}. "
                f"{more + ', or go without a gate.' if learns else instead}"
            )
        if (answers := len(set(turns.responses))) < FEWEST_ANSWERS:
            here = f"among {drawn_from(len(at), len(dataset))}" if len(at) < len(dataset) else "here"
            raise TooLittle(
                f"the {answered:,} answered rows {here} have only {answers} different answers, and the gate {does} at "
                f"least {FEWEST_ANSWERS}: among so few it cannot tell a wrong one. "
                f"{'Go without a gate.' if learns else instead}"
            )
        return cls(batch, read, turns)

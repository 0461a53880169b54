# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How many rows `where`, `gate` and `dedup` leave of a pool, as far as that is known before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.budget import rows_asked
from hf_dsel.conditions import rows_where
from hf_dsel.copies import find_copies
from hf_dsel.narrowing import gate_rule
from hf_dsel.progress import count
from hf_dsel.selecting import TOKENS, read_needed
from hf_dsel.selection_block import SelectionBlock


@dataclass(frozen=True)
class RowsLeft:
    """What each rule leaves, in lines for a reader, and how many rows a fraction asks for (None for other budgets)."""

    lines: tuple[str, ...]
    asked: int | None


def rows_left(block: SelectionBlock, dataset: Dataset) -> RowsLeft:
    """What the rules leave, one after the other, as the selection applies them: where, no null, gate, dedup.

    A rule whose columns are yet to be computed is passed over, and the numbers after it are upper bounds.

    Raises:
        BudgetError: a fraction of what is left is less than one row.
        ValueError, TypeError: what the rules raise on these columns.
    """
    there, lines = dataset.column_names, []
    known = [c for c in block.conditions if c.column in there]
    certain = len(known) == len(block.conditions)
    kept = rows_where(dataset, known)[0] if known else np.arange(len(dataset))
    pool = len(kept)
    if block.conditions:
        text = f"of these rows only those with {' and '.join(map(str, block.conditions))} will be considered"
        lines.append(f"{text}: {'' if certain else 'at most '}{count(pool, 'row')}" if known else text)
    needed = [*block.rule.needs(), *([TOKENS] if block.max_tokens is not None else [])]
    scored = set(needed) <= set(there)
    kept = _without_nulls(block, dataset, kept, [name for name in needed if name in there])
    null = pool - len(kept)
    if null:
        have = f"{count(len(kept), 'row')} ha{'s' if len(kept) == 1 else 've'}"
        nulls = f"{count(null, 'row')} ha{'s' if null == 1 else 've'} a null"
        lines.append(f"{have} a value in each column that the strategy reads, {nulls}")
    gates = tuple(block.gates(there))
    rule = gate_rule(block.gate, gates)
    if rule is not None and not set(gates) <= set(there):
        lines.append("gate: how many rows stay is known when it has learned")
        certain = False
    elif rule is not None:
        before = len(kept)
        kept = kept[rule(dataset.select(kept))[0]] if before else kept
        lines.append(f"gate: {len(kept):,} of {count(before, 'row')} stay")
    if block.copies is not None:
        options = {n: v for n, v in block.copies.items() if n == "similarity" or v in there}
        certain = certain and len(options) == len(block.copies)
        if len(kept):
            copies = find_copies(dataset.select(kept), **options)
            lines.append(f"copies: {copies.report(kept)}")
            kept = kept[copies.kept]
        lines.append(f"left: {'' if certain else 'at most '}{count(len(kept), 'row')}")
    asked, said = _budget(block, len(kept), null, "at most " if not certain else "" if scored else "about ")
    if lines:
        lines[-1] += said
    return RowsLeft(tuple(lines), asked)


def _without_nulls(block: SelectionBlock, dataset: Dataset, kept: Any, names: list[str]) -> Any:
    """Those of the rows that have a value in every column that the strategy reads and that is there."""
    turns = [n for n in getattr(block.rule, "turn_columns", lambda: ())() if n in dataset.column_names]
    names = [*names, *turns]
    if not names or len(kept) == 0:
        return kept
    return kept[read_needed(dataset.select(kept), names, turns)[1]]


def _budget(block: SelectionBlock, left: int, null: int, about: str) -> tuple[int | None, str]:
    """How many rows a fraction of those that are left and of the null ones is, and what to say of the budget."""
    asked: int | None = block.k
    text, given = "", f"k={block.k:,}" if block.k is not None else ""
    if block.fraction is not None and left:
        asked = rows_asked(None, block.fraction, None, pool=left + null, open_ended=False)
        given = f"fraction={block.fraction:g}"
        text = f"; {given} is of {'those and the null ones' if null else 'those'}, {about}{asked:,}"
    if left == 0 or (asked is not None and asked > left):
        text += f", too few for {given}" if given and left else ": no row can be selected"
    return (asked if block.fraction is not None else None), text

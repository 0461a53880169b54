# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Packing that knows which row each packed sequence is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from datasets import Dataset

from hf_dsel.training.row_numbers import ROW

PACKED = ("input_ids", "labels", ROW)


def packed(numbered: Dataset, length: int) -> Dataset:
    """Sequences put together, best fit first, into examples of at most `length` tokens, as TRL packs them.

    A longer sequence is cut at `length`. TRL's collator keeps the sequences of an example apart by `seq_lengths`.

    Args:
        numbered: `input_ids`, `labels` and row numbers.
        length: tokens an example, at least 2.

    Returns:
        the examples: `input_ids`, `labels`, `seq_lengths`, and the row number of each sequence.
    """
    from trl import pack_dataset

    spread = numbered.select_columns(list(PACKED)).map(_spread, batched=True, desc="row numbers of tokens")
    return pack_dataset(spread, length, "bfd").map(_gather, batched=True, desc="row numbers of sequences")


def _spread(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
    """The row number beside each token, since packing cuts and joins all columns alike."""
    return {ROW: [[n] * len(ids) for n, ids in zip(batch[ROW], batch["input_ids"], strict=True)]}


def _gather(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
    """The row number of the first token of each sequence."""
    starts = [[0, *accumulate(lengths)][:-1] for lengths in batch["seq_lengths"]]
    return {ROW: [[numbers[s] for s in mine] for numbers, mine in zip(batch[ROW], starts, strict=True)]}

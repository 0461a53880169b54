# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a scorer that first learns from the pool, such as a gate, would do, before it does."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.gate_learning import copies_of
from hf_dsel.gate_rows import FEWEST, TooLittle
from hf_dsel.progress import count, say
from hf_dsel.rows import read, text_columns
from hf_dsel.scorers.embed import Embed

FIRST, MOST = 16, 512  # rows that are timed
ENOUGH_SECONDS = 2.0


@dataclass(frozen=True)
class Learning:
    """What is learned before a row is scored: from how many of the rows, and with which models (None: without).

    >>> print(Learning(12_000, 52_002, "a/encoder"))
    first, from 12,000 of the 52,002 rows, with the embedder a/encoder
    """

    rows: int
    pool: int
    embedder: str | None
    lm: str | None = None

    def __str__(self) -> str:
        """For a reader."""
        some = f"{self.rows:,} of the {count(self.pool, 'row')}" if self.rows < self.pool else count(self.rows, "row")
        how = "by text statistics alone" if self.embedder is None else f"with the embedder {self.embedder}"
        slow = f" and the language model {self.lm}, on every row and every broken copy" if self.lm else ""
        return f"first, from {some}, {how}{slow}"


def learning_of(scorer: Any, pool: int) -> Learning | None:
    """What a scorer would learn from a pool of so many rows; None for one that learns nothing, or has learned.

    Raises:
        TooLittle: it would not learn from so few.
    """
    if not hasattr(scorer, "fitted") or getattr(scorer, "learned", None) is not None:
        return None
    if pool < FEWEST:
        raise TooLittle(
            f"{type(scorer).__name__} learns from at least {FEWEST} rows, and the dataset has {pool:,}; go without it, "
            "or fit it on a larger pool of the same kind and add its column"
        )
    embed = _embed(scorer)
    most = getattr(scorer, "learn_from", pool)
    lm = getattr(scorer, "lm", None)
    return Learning(min(pool, most), pool, None if embed is None else embed.model, getattr(lm, "model", lm))


def embedding_seconds(scorer: Any, dataset: Dataset, seed: int) -> tuple[float | None, int]:
    """Seconds for the embeddings alone, of the rows and of what is learned from, and the rows that were timed.

    A gate embeds each row once, and of the copies that it breaks what is broken, mostly the response. (None, 0) without
    an embedder.
    """
    embed = _embed(scorer)
    if embed is None:
        return None, 0
    embed = replace(embed, of="instruction", side="chosen", column="v", on_rows=None)
    text = dataset.select_columns(text_columns(dataset.column_names)).with_format(None)
    order = np.random.default_rng(seed).permutation(len(dataset))[:MOST]
    say(f"timing the embedder of {type(scorer).__name__} on a few rows")
    embed({"text": ["Load the model."]})
    n = min(FIRST, len(order))
    while True:
        texts = _texts(scorer, text.select(order[:n])[:])
        start = time.perf_counter()
        if texts:
            embed({"text": texts})
        seconds = time.perf_counter() - start
        if seconds >= ENOUGH_SECONDS or n == len(order):
            break
        n = min(2 * n, len(order))
    learned = min(len(dataset), getattr(scorer, "learn_from", len(dataset)))
    more = copies_of(learned, len(scorer.corruptions)) / 2 if hasattr(scorer, "corruptions") else learned
    return seconds * (len(dataset) + more) / n, n


def _embed(scorer: Any) -> Embed | None:
    made = getattr(scorer, "embedder", None)
    return Embed(made) if isinstance(made, str) else made


def _texts(scorer: Any, batch: Any) -> list[str]:
    """The instructions and responses of some rows, of both sides of a pair where the scorer has no side."""
    sides: tuple[Any, ...] = (scorer.side,) if hasattr(scorer, "side") else ("chosen", "rejected")
    turns = [turn for side in sides for row in read(batch, side=side) for turn in row.turns]
    said = [text for turn in turns for text in (turn.instruction, turn.response or "")]
    return list(dict.fromkeys(text for text in said if text.strip()))

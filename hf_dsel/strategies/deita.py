# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""DEITA: best score first, skipping what is too similar to a row already kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, FloatArray, Picks
from hf_dsel.ops.near_duplicates import first_come
from hf_dsel.scorers.deita import DeitaComplexity, DeitaQuality
from hf_dsel.scorers.embed import Embed
from hf_dsel.scorers.options import check_choice
from hf_dsel.scorers.turn_values import COMBINATIONS, Combine
from hf_dsel.strategies import Columns, numbers, vectors

Embedder = Literal["last_token", "minilm"]


def paper_embedder() -> Embed:
    """The encoder of DEITA's released code: the last token of Mistral-7B over the whole example."""
    return Embed(model="mistralai/Mistral-7B-v0.1", of="example", pooling="last")


def light_embedder() -> Embed:
    """A sentence encoder of 22 million parameters over the whole example, of which it reads 256 tokens."""
    return Embed(model="sentence-transformers/all-MiniLM-L6-v2", of="example")


EMBEDDERS = {"last_token": paper_embedder, "minilm": light_embedder}


@dataclass(frozen=True, kw_only=True)
class Deita:
    """Keeps the rows with the largest complexity × quality whose nearest kept row is not too similar.

    Rows are sorted by s = q·c, largest first, ties to the lower row. The first is kept. Each next row is dropped when
    its largest cosine similarity to a row already kept is above `threshold` (equal is kept), until the budget is
    spent. When the pool runs out first, fewer rows are kept, with a warning. Gains are the scores s;
    `selection_similarity` is the largest similarity to the rows kept before (none for the first).

    Conversations: where the dataset has `complexity_turns` and `quality_turns` too (the scorers write them), s is the
    sum over the turns of c·q, as in the paper. A turn that lacks one of the two does not count; a row without any
    turn that has both is not selected.

    On a raw pool the columns are computed first, with the models of the paper: its two released scorers, and the last
    token of Mistral-7B. These are three 7B models. embedder="minilm" is the light way to the third; the paper found
    embeddings of the kind of the first better (App. B). Smaller scorers come out of `hf-dsel train-scorer`.

    Args:
        threshold: largest cosine similarity allowed, in [-1, 1].
        combine: "sum", "mean", "min" or "max" of the turns' c·q. A sum favours long conversations.
        complexity, quality, embedding: the columns to read; `_turns` is added for the numbers of the turns.
        embedder: what computes a missing embedding: "last_token" (Mistral-7B, the paper's) or "minilm".

    Raises:
        ValueError: a threshold outside [-1, 1], an unknown combination or embedder, or turns that do not go together.

    Source: DEITA (Liu et al. 2024), Algorithm 1 and Section 2.5; threshold 0.9 there; turns: Section 2.2 and the code.
    Differs: the paper's text compares a cosine distance with the threshold, its code a similarity, as here. Its batched
    mode also drops a row for being near a dropped one; here only kept rows count. Sorting is stable.

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({
    ...     "complexity": [2.0, 3.0, 1.0],
    ...     "quality": [3.0, 3.0, 3.0],
    ...     "embedding": [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]],
    ... })
    >>> hf_dsel.select_by(pool, "deita", k=2)["complexity"][:]
    [3.0, 1.0]
    """

    threshold: float = 0.9
    combine: Combine = "sum"
    complexity: str = "complexity"
    quality: str = "quality"
    embedding: str = "embedding"
    embedder: Embedder = "last_token"
    open_ended: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_choice("combine", self.combine, COMBINATIONS)
        check_choice("embedder", self.embedder, EMBEDDERS)

    def needs(self) -> dict[str, Any]:
        """Two scores and an embedding; the defaults are the paper's models."""
        return {
            self.complexity: DeitaComplexity() if self.complexity == "complexity" else None,
            self.quality: DeitaQuality() if self.quality == "quality" else None,
            self.embedding: EMBEDDERS[self.embedder](),
        }

    def turn_columns(self) -> tuple[str, str]:
        """The scores of the turns, read where the dataset has them."""
        return f"{self.complexity}_turns", f"{self.quality}_turns"

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Algorithm 1."""
        of_turns = [columns[name] for name in self.turn_columns() if name in columns]
        if len(of_turns) == 2:
            score = self._over_turns(*of_turns)
        else:
            score = numbers(columns, self.complexity) * numbers(columns, self.quality)  # line 4: s = q * c
        return best_first(vectors(columns, self.embedding), score, self.threshold, budget)

    def _over_turns(self, complexity: npt.NDArray[Any], quality: npt.NDArray[Any]) -> FloatArray:
        """Σ over the turns of c·q, or what `combine` says; NaN for a row without a turn that has both."""
        if unlike := [i for i, (c, q) in enumerate(zip(complexity, quality, strict=True)) if len(c) != len(q)]:
            i = unlike[0]
            raise ValueError(
                f"{' and '.join(self.turn_columns())} have different numbers of turns in {len(unlike):,} rows (the "
                f"first: {len(complexity[i])} and {len(quality[i])}); compute both with the same turns="
            )
        products = [(c * q)[~np.isnan(c * q)].tolist() for c, q in zip(complexity, quality, strict=True)]
        return np.asarray([COMBINATIONS[self.combine](p) if p else np.nan for p in products], np.float64)


def best_first(embeddings: npt.NDArray[Any], score: FloatArray, threshold: float, budget: Budget) -> Picks:
    """Rows by score, largest first, without those more similar than `threshold` to one kept before; NaN is left out."""
    similarity: list[float] = []
    order = np.argsort(-score, kind="stable")  # NaN comes last
    order = order[: len(order) - int(np.isnan(score).sum())]

    def kept() -> Iterator[tuple[int, float]]:
        for row, nearest in first_come(embeddings, order=order, threshold=threshold):
            similarity.append(np.nan if nearest is None else nearest)
            yield row, float(score[row])

    rows, gains = budget.take(kept())
    return Picks(rows, gains, {"similarity": np.asarray(similarity[: len(rows)], np.float64)})


def check_threshold(threshold: float) -> None:
    """Refuse what no cosine similarity can be."""
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is a cosine similarity in [-1, 1], got {threshold}; DEITA uses 0.9, QDIT 0.5")

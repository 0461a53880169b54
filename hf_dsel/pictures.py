# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The pictures of a dataset card: score distributions, a map of the embeddings, lengths and sources."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from hf_dsel.described_sets import Rows

SCORES, MAP, TEXTS = "hf_dsel/scores.png", "hf_dsel/map.png", "hf_dsel/texts.png"  # paths in the repo


def draw(
    pool: Dataset,
    subset: Rows,
    *,
    embedding: str | None,
    scores: Sequence[str],
    source: str | None,
    seed: int = 0,
) -> dict[str, bytes]:
    """PNG files by their path in the repo; a picture that the columns do not allow is left out.

    Args:
        pool: what was selected from, with its columns.
        subset: a Dataset, a Selection or row numbers, as for `describe`.
        embedding: the column of vectors, or None.
        scores: columns of numbers, at most four are drawn.
        source: a column that says where a row is from, or None.
        seed: of the random subset and of samples. The same seed gives the same bytes.

    Raises:
        ModuleNotFoundError: no matplotlib.
    """
    return {}

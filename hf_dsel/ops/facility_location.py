# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Exact greedy for facility location plus a modular term, at about the cost of one N×N×d product, without N×N memory.

1. The first gain is a column sum: O(N·d).
2. The next few picks are lazy (Minoux 1978): upper bounds from second moments, the best candidates computed exactly.
3. Then the pairs that can still count are stored, and every gain is kept exact (`uncovered_pairs.py`).

Steps 2 and 3 are in `greedy_cover.py`; this file holds the public function. On CPUs `pip install 'hf-dsel[cpu]'` brings
numba, whose compiled loops take about half the time; the picks are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from hf_dsel.ops.greedy_cover import GreedyCover
from hf_dsel.ops.unit_rows import unit_rows

Similarity = Literal["cosine", "shifted"]


def facility_location(
    embeddings: np.ndarray | torch.Tensor,
    *,
    diversity_weight: float = 1.0,
    modular: np.ndarray | torch.Tensor | None = None,
    similarity: Similarity = "cosine",
    epsilon: float | None = None,
    k: int | None = None,
    rng: np.random.Generator | None = None,
    device: str | torch.device | None = None,
    max_bytes: int | None = None,
    block: int | None = None,
) -> Iterator[tuple[int, float]]:
    """Picks that greedily maximise `diversity_weight · d(A) + Σ_{a in A} modular[a]`, d being facility location.

        d(A) = Σ_v max_{a in A} sim(a, v),   d(∅) = 0,   gain(a) = diversity_weight · (d(A ∪ a) − d(A)) + modular[a]

    Sums run over all rows v and are not divided. There is no floor at 0, so the first gain is the full column sum
    `diversity_weight · Σ_v sim(a, v) + modular[a]`. Ties go to the lower row. It is an iterator: stop when the budget
    is spent. It works ahead of the pick asked for by at most one pass over the pairs.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; normalised here.
        diversity_weight: ≥ 0. QDIT: 1 − α.
        modular: one number a row, in the unit of the gains; default 0. QDIT: α · quality.
        similarity: `cosine`, or `shifted` = (1 + cosine) / 2.
        epsilon: in (0, 1): at each step only ⌈N/k · ln(1/ε)⌉ random rows not picked yet are compared. Default: exact.
        k: how many picks are wanted; needed with `epsilon`, else unused.
        rng: numpy generator; needed with `epsilon`, else unused.
        device: default `cuda` if there is one, else the CPU.
        max_bytes: room for the stored pairs, beside the embeddings (`rows x dim` float32, twice for a moment). Less
            room costs more passes, never other picks. Default: half of the free memory.
        block: edge of the tiles, in rows.

    Yields:
        (row, gain), the largest gain first; gains do not grow after the first pick. N of them at most.

    Raises:
        ValueError: an argument out of range, or embeddings that are NaN, infinite or zero.

    Source: Wei, Iyer & Bilmes 2015 (facility location); Minoux 1978 (lazy greedy); Bukharin et al. 2024, QDIT,
        Algorithm 1; Mirzasoleiman et al. 2015, "Lazier than lazy greedy" (`epsilon`).

    Differs: gains within 1e-6 (relative, of the diversity part) tie, so that results do not hang on float32 noise;
        pairs within 1e-6 of the cover count as covered.

    >>> pool = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> [(row, round(gain, 3)) for row, gain in facility_location(pool, device="cpu")]
    [(1, 2.4), (2, 0.4), (0, 0.2)]
    """
    if not (math.isfinite(diversity_weight) and diversity_weight >= 0):
        raise ValueError(f"diversity_weight is {diversity_weight}; it must be finite and at least 0")
    if similarity not in ("cosine", "shifted"):
        raise ValueError(f"similarity is {similarity!r}; it must be 'cosine' or 'shifted'")
    n = len(embeddings)
    sample = None
    if epsilon is not None:
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon is {epsilon}; it must be between 0 and 1 (0.1 is usual); None is exact")
        if k is None or not 1 <= k <= n:
            raise ValueError(f"epsilon needs k, the number of picks, between 1 and {n}; k is {k}")
        if rng is None:
            raise ValueError("epsilon needs rng, a numpy Generator, e.g. rng=np.random.default_rng(42)")
        sample = math.ceil(n / k * math.log(1 / epsilon))
    if max_bytes is not None and max_bytes <= 0:
        raise ValueError(f"max_bytes is {max_bytes}; it must be above 0, e.g. {1 << 30} for 1 GiB")
    if block is not None and block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 row")
    worth = torch.zeros(n, dtype=torch.float64) if modular is None else _checked(modular, n)
    unit = unit_rows(embeddings, device=device)
    shifted = similarity == "shifted"
    greedy = GreedyCover(unit, float(diversity_weight), worth, shifted=shifted, max_bytes=max_bytes, block=block)
    return greedy.picks() if sample is None or rng is None else greedy.sampled_picks(sample, rng)


def _checked(modular: np.ndarray | torch.Tensor, n: int) -> torch.Tensor:
    """The modular term as a float64 copy."""
    values = torch.as_tensor(np.array(modular, dtype=np.float64) if isinstance(modular, np.ndarray) else modular)
    values = values.detach().to("cpu", torch.float64, copy=True)
    if values.shape != (n,):
        raise ValueError(f"modular has shape {tuple(values.shape)}; expected one number for each of the {n} rows")
    bad = torch.nonzero(~torch.isfinite(values)).view(-1)
    if len(bad):
        first = bad[:5].tolist()
        raise ValueError(f"{len(bad)} of {n} modular values are NaN or infinite (first rows: {first}); drop these rows")
    return values

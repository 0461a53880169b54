# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The seed set of an evolution: rows drawn from a pool, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from datasets import Dataset

from hf_dsel import rows
from hf_dsel.progress import count, say
from hf_dsel.scorers.score_templates import Scores

SEEDS = 2000  # DEITA Section 2.3
CHUNK = 1000


@dataclass
class Variant:
    """One stage of a sample: its text, or None and why; `answer` is the model's reply as it came."""

    method: str | None
    text: str | None
    status: str = "ok"
    answer: str | None = None


@dataclass
class Chain:
    """A sample and what became of it, by round; round 0 is the sample itself."""

    seed_row: int
    instruction: str
    response: str | None
    variants: list[Variant] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The variants there are, in the order of their rounds."""
        return [v.text for v in self.variants if v.text is not None]

    @property
    def failed(self) -> set[str]:
        """The methods that have failed on the last variant there is."""
        since = takewhile(lambda variant: variant.text is None, reversed(self.variants))
        return {variant.method for variant in since if variant.method is not None}


def draw(dataset: Dataset, *, scores: Scores, k: int | None, seed: int) -> list[Chain]:
    """The seed set: k rows that can be evolved, drawn at random, in the order of the dataset.

    A larger k with the same seed adds rows and keeps the ones there are. Of a conversation, the first turn counts.

    Args:
        dataset: in any format.
        scores: "complexity" needs instructions, "quality" responses too.
        k: None is 2,000, or all rows where there are fewer.
        seed: of the draw.

    Raises:
        ValueError: k outside 1 to the rows there are, or no row that can be evolved.
        TypeError: no `Dataset`.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"the pool is a {type(dataset).__name__}; give one datasets.Dataset, such as one split")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}; it is a whole number, at least 0")
    if k is not None and (not isinstance(k, int | float) or k % 1 or not 1 <= k <= len(dataset)):
        most = f"{len(dataset):,}"
        raise ValueError(
            f"k={k!r}; the seed set has a whole number of rows, at least 1 and at most the dataset's {most}"
        )
    wanted = min(SEEDS, len(dataset)) if k is None else k
    reasons: dict[str, int] = {}
    found: list[Chain] = []
    for chain, problem in _in_random_order(dataset, scores, seed):
        if problem is not None:
            reasons[problem] = reasons.get(problem, 0) + 1
            continue
        chain.variants.append(Variant(None, chain.instruction if scores == "complexity" else chain.response))
        found.append(chain)
        if len(found) == wanted:
            break
    why = ", ".join(f"{reason} ({n:,})" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:3])
    if not found:
        needs = "an instruction" if scores == "complexity" else "an instruction and a response"
        raise ValueError(f"no row can be evolved: {why}; {scores} needs {needs}")
    if reasons:
        say(f"{count(sum(reasons.values()), 'row')} passed over for the seed set: {why}")
    return sorted(found, key=lambda chain: chain.seed_row)


def _in_random_order(dataset: Dataset, scores: Scores, seed: int) -> Iterator[tuple[Chain, str | None]]:
    """The first turn of every row, and why it cannot be evolved, or None."""
    text = dataset.select_columns(rows.text_columns(dataset.column_names)).with_format(None)
    order = np.random.default_rng(seed).permutation(len(text))
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        for seed_row, row in zip(chunk.tolist(), rows.read(text.select(chunk)[:]), strict=True):
            [turn] = row.chosen_turns("first", history=False) or (rows.Turn((), None),)
            problem = row.problem
            if problem is None and not turn.instruction.strip():
                problem = "no instruction"
            elif problem is None and scores == "quality" and not (turn.response or "").strip():
                problem = "no response"
            yield Chain(seed_row, turn.instruction, turn.response), problem

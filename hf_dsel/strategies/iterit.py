# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""IterIT: difficult rows that say what no earlier pick says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np

from hf_dsel.budget import Budget, Picks
from hf_dsel.ops.fading_terms import fading_terms
from hf_dsel.ops.tf_idf import tf_idf
from hf_dsel.scorers.ngrams import NGrams
from hf_dsel.scorers.texts import Of
from hf_dsel.strategies import Columns, numbers, terms


@dataclass(frozen=True, kw_only=True)
class Iterit:
    """Keeps rows with a large complexity × diversity, where n-grams that picks have count for less and less.

    Greedily adds the row with the largest c_i · Σ_t tfidf_it · decay^(picks that have n-gram t), over the n-grams of
    one to three words of its response; ties go to the lower row. Rows with a complexity of `ceiling` or more are not
    considered, and their words do not count in the idf; when fewer rows than the budget remain, fewer are kept, with a
    warning. `selection_diversity` is the sum. The picks are exactly those of the loop that computes every row's score
    at every step, and the first m of them are the choice for budget m. TF-IDF rows have length 1, so the sum is at most
    the root of the number of different n-grams: long answers are favoured.

    In training, `hf_dsel.Reselect("iterit", k, score="ifd", narrow=3)` is the paper's loop.

    Args:
        complexity: the column c, at least 0.
        ceiling: complexities from here up are not considered (IFD: 1); None considers all.
        decay: what an n-gram's weight is multiplied by with every pick that has it, in [0, 1].
        ngrams: the column of n-grams; `instruction_ngrams`, `response_ngrams` and `example_ngrams` are computed.

    Raises:
        ValueError: a decay out of range, a negative complexity.

    Source: IterIT (Jia et al. 2024, arXiv 2412.17365): IFD × TF-IDF of the response, decay 0.1 (its repository's
        script).
    Differs: words of one letter or digit count, and the end-of-text token does not; scores are float64, in the authors'
        code bfloat16, which ties many of them. Where IFD is 1 or more the authors keep the row as a candidate of later
        rounds, before all rows that were not picked; here it is out for the round. Complexity is the ratio of NLLs with
        `IFD` (`ifd_ppl` of `CausalLM` is the ratio of perplexities, which the authors' code has).

    >>> from datasets import Dataset
    >>> import hf_dsel
    >>> pool = Dataset.from_dict({"prompt": ["a", "b", "c"], "ifd": [0.9, 0.8, 0.5],
    ...     "completion": ["The sea is blue.", "The sea is blue!", "Two and two are four."]})
    >>> hf_dsel.select_by(pool, "iterit", k=2)["completion"][:]
    ['The sea is blue.', 'Two and two are four.']
    """

    complexity: str = "ifd"
    ceiling: float | None = 1.0
    decay: float = 0.1
    ngrams: str = "response_ngrams"
    open_ended: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay}; it is in [0, 1]: 1 lets no n-gram fade, 0 counts each once")

    def needs(self) -> dict[str, Any]:
        """A score, and n-grams, which are computed without a model."""
        made = {f"{of}_ngrams": NGrams(of=of) for of in get_args(Of)}
        return {self.complexity: None, self.ngrams: made.get(self.ngrams)}

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """The greedy choice among the rows below the ceiling."""
        complexity = numbers(columns, self.complexity)
        if (complexity < 0).any():
            raise ValueError(f"complexity={self.complexity!r} has {complexity.min():.4g}; it must be at least 0")
        inside = np.arange(budget.pool) if self.ceiling is None else np.flatnonzero(complexity < self.ceiling)
        weighted = tf_idf(list(terms(columns, self.ngrams)[inside]))
        greedy = fading_terms(weighted, complexity[inside], self.decay)
        rows, gains = budget.take((int(inside[i]), gain) for i, gain in greedy)
        with np.errstate(divide="ignore", invalid="ignore"):
            diversity = gains / complexity[rows]
        return Picks(rows, gains, {"diversity": diversity})

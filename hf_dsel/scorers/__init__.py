# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scorers: rows in, columns out. Each is a callable for `Dataset.map(scorer, batched=True)`."""

from hf_dsel.scorers.causal_lm import IFD, NLL, CausalLM, Perplexity
from hf_dsel.scorers.deita import DeitaComplexity, DeitaQuality
from hf_dsel.scorers.embed import Embed
from hf_dsel.scorers.flipped_labels import FlippedLabels
from hf_dsel.scorers.gate import Gate
from hf_dsel.scorers.judge import Judge
from hf_dsel.scorers.length import Length
from hf_dsel.scorers.ngrams import NGrams
from hf_dsel.scorers.reward import Reward

__all__ = [
    "IFD", "NLL", "CausalLM", "DeitaComplexity", "DeitaQuality", "Embed", "FlippedLabels", "Gate", "Judge", "Length",
    "NGrams", "Perplexity", "Reward",
]  # fmt: skip

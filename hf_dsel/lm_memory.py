# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What was learned from a causal LM's likelihoods remembers the model, by what it says of two answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from hf_dsel.scorers.causal_lm import CausalLM

ANSWERS = (
    ("How does rain form?", "Water rises as vapour, cools into clouds, and falls once the drops are heavy enough."),
    ("Who wrote this letter?", "Twelve letters came by train; nobody knew who had sent them, and nobody asked."),
)
NUMBERS = ("nll", "nll_alone")  # nats a token
NEAR = 0.02  # of the number: bfloat16 moves those of SmolLM2-135M by 0.007 of it, another template by 0.027
Floats = npt.NDArray[np.float32]


class OtherLM(ValueError):
    """A causal LM is not the one that something was learned with."""


@dataclass(frozen=True, eq=False)
class LMMemory:
    """A causal LM's name, and its NLL of `ANSWERS` with and without their instructions: float32 (answers, 2)."""

    model: str
    numbers: Floats

    @classmethod
    def of(cls, lm: CausalLM) -> Self:
        """Of this model."""
        return cls(lm.model, _numbers(lm))

    def check(self, lm: CausalLM, name: str) -> None:
        """See that a model says of the answers what this one did. `name`: the class that has learned.

        Raises:
            OtherLM: one of the numbers differs by 2 % or more.
        """
        now = _numbers(lm)
        far = ~(np.abs(now - self.numbers) < NEAR * np.abs(self.numbers)) & ~(np.isnan(now) & np.isnan(self.numbers))
        if not far.any():
            return
        at, which = np.argwhere(far)[0]
        same = lm.model == self.model
        raise OtherLM(
            f"this {name} learned with the causal LM {self.model!r}, and "
            f"{'it says something else now' if same else f'{lm.model!r} is another'}: {NUMBERS[which]} of "
            f"{ANSWERS[at][1]!r} is {now[at, which]:.3f} nats a token and was {self.numbers[at, which]:.3f}, where "
            f"bfloat16 moves it by less than {NEAR:.0%}. Give the one that it learned with, {name}.load(path, "
            f"lm=...), or let another learn with this one: {name}.fit(pool, lm={lm.model!r})."
        )


def _numbers(lm: CausalLM) -> Floats:
    talks = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in ANSWERS]
    found = replace(lm, columns=NUMBERS, side="chosen", on_rows=None)({"messages": talks})
    return np.asarray([[np.nan if v is None else v for v in found[name]] for name in NUMBERS], np.float32).T

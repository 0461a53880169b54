# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What was learned from an encoder's vectors remembers the encoder, by how it embeds two sentences."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hf_dsel.scorers.embed import Embed

if TYPE_CHECKING:
    from hf_dsel.scorers.causal_lm import CausalLM

SENTENCES = ("How does rain form?", "Twelve letters came by train; nobody knew who had sent them.")
SAME_COSINE = 0.99  # bfloat16 and float16 leave 0.999
Floats = npt.NDArray[np.float32]


class OtherEncoder(ValueError):
    """An encoder is not the one that something was learned with."""


@dataclass(frozen=True, eq=False)
class EncoderMemory:
    """An encoder's name, and how it embeds `SENTENCES`: float32 (sentences, dim)."""

    model: str
    vectors: Floats

    @classmethod
    def of(cls, embed: Embed) -> Self | None:
        """Of this encoder; None where it gives no vector."""
        vectors = _vectors(embed)
        return None if vectors is None else cls(embed.model, vectors)

    def check(self, embed: Embed, name: str) -> None:
        """See that an encoder embeds the sentences as this one did. `name`: the class that has learned.

        Raises:
            OtherEncoder: the cosine of one of the sentences is below 0.99, or the widths differ.
        """
        now = _vectors(embed)
        if now is not None and now.shape == self.vectors.shape:
            lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(self.vectors, axis=1)
            cosines = (now * self.vectors).sum(1) / np.maximum(lengths, 1e-9)
            if cosines.min() >= SAME_COSINE:
                return
            at = int(cosines.argmin())
            found = f"its vector of {SENTENCES[at]!r} has the cosine {cosines[at]:.2f} with the one from then"
        else:
            width = 0 if now is None else now.shape[1]
            found = f"its vectors have {width:,} numbers, not {self.vectors.shape[1]:,}"
        same = embed.model == self.model
        raise OtherEncoder(
            f"this {name} learned with the embedder {self.model!r}, and "
            f"{'it embeds otherwise now' if same else f'{embed.model!r} is another'}: {found}, where at least "
            f"{SAME_COSINE} is the same model. Give the one that it learned with, {name}.load(path, embedder=...), or "
            f"let another learn with this one: {name}.fit(pool, embedder={embed.model!r})."
        )


def described(model: Embed | CausalLM) -> dict[str, Any]:
    """A model's options as JSON, without those that say how it runs here."""
    return {f.name: getattr(model, f.name) for f in fields(model) if f.name not in ("on_rows", "device")}


def _vectors(embed: Embed) -> Floats | None:
    found = replace(embed, of="instruction", side="chosen", column="v", on_rows=None)({"text": list(SENTENCES)})["v"]
    if any(vector is None for vector in found):
        return None
    return np.asarray(found, np.float32)

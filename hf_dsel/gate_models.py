# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What models say of a gate's turns: vectors of an encoder, numbers of a causal LM; each text once, columns first."""

from __future__ import annotations

import warnings
from collections import ChainMap, Counter
from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel import rows
from hf_dsel.gate_turns import Measured, Turns
from hf_dsel.progress import bar
from hf_dsel.scorers.causal_lm import CausalLM
from hf_dsel.scorers.embed import Embed

Floats = npt.NDArray[np.float32]
CHECKED = 8  # rows whose columns are compared with the model
LM_COLUMNS = ("nll", "nll_alone", "ifd", "entropy", "margin", "min_margin", "least_confidence")
SAMPLE, FEWEST_CHECKED = 500, 100  # rows on which an embedder is tried
MOST_UNKNOWN, LEAST_TOLD, WELL_TOLD = 0.1, 0.6, 0.9
NEAR_COSINE = 0.97
NEAR_NUMBER = 0.05  # of the number, or of 1: bfloat16 moves a mean NLL by less


class CannotTell(ValueError):
    """An embedder sees nothing in a pool's texts that ties an answer to its instruction."""


class Vectors:
    """Unit vectors of texts, from columns where they are there, else by the embedder, each text once."""

    def __init__(self, embed: Embed, instructions: str | None, responses: str | None) -> None:
        self.embed, self.columns = embed, (instructions, responses)
        self.known: MutableMapping[str, Floats] = {}

    def learn_columns(self, turns: Turns, batch: Mapping[str, Sequence[Any]]) -> None:
        """Take the vectors of rows with one turn from the columns, after comparing a few with the embedder's."""
        alone = _alone(turns)
        for column, texts in zip(self.columns, (turns.instructions, turns.responses), strict=True):
            if column is None:
                continue
            values = batch[column]
            there = [j for j, i in enumerate(turns.row) if alone[i] and values[i] is not None and texts[j].strip()]
            read = {texts[j]: self._read(column, values[turns.row[j]], texts[j]) for j in there}
            if len(widths := Counter(map(len, read.values()))) > 1:
                seen = ", ".join(f"{width:,} numbers in {n:,}" for width, n in widths.most_common(4))
                raise ValueError(
                    f"the column {column!r} mixes vectors of several widths ({seen}); embed all rows with one model, "
                    f"{self.embed.model!r}, or name no column"
                )
            found = {text: _unit(vector) for text, vector in read.items()}
            if bad := [text for text, vector in found.items() if not np.isfinite(vector).all()]:
                raise ValueError(
                    f"the column {column!r} has {len(bad)} vectors that are NaN, infinite or zero, the first for "
                    f"{bad[0][:60]!r}; embed these rows again or leave them out"
                )
            self._compare(column, dict(list(found.items())[:CHECKED]))
            self.known.update(found)

    def _read(self, column: str, value: Any, text: str) -> Floats:
        try:
            vector = np.asarray(value, np.float32)
        except (TypeError, ValueError):
            vector = np.zeros(0, np.float32)
        if vector.ndim != 1 or not len(vector):
            shown = repr(value)
            raise ValueError(
                f"the column {column!r} holds {shown if len(shown) <= 40 else shown[:37] + '...'} for {text[:60]!r}, "
                f"and not a list of numbers. Name a column of vectors that {self.embed.model!r} made, such as "
                "hf_dsel.Embed writes, or no column."
            )
        return vector

    def _compare(self, column: str, some: Mapping[str, Floats]) -> None:
        own = self._embedded(list(some))
        for text, mine, theirs in zip(some, own, some.values(), strict=True):
            same = len(mine) == len(theirs)
            cosine = float(_unit(mine) @ theirs) if same else 0.0
            if not cosine >= NEAR_COSINE:
                raise ValueError(
                    f"the column {column!r} holds other vectors than the embedder {self.embed.model!r} makes "
                    f"({'cosine ' + format(cosine, '.2f') if same else f'{len(theirs)} numbers, not {len(mine)}'} for "
                    f"{text[:60]!r}). Name the column that it made, its model as embedder=, or no column."
                )

    def of(self, turns: Turns) -> tuple[Floats, Floats]:
        """The vectors of instructions and responses; zeros for a text that has none."""
        new = sorted({t for t in (*turns.instructions, *turns.responses) if t.strip() and t not in self.known})
        self.known.update(zip(new, self._embedded(new), strict=True))
        width = len(next(iter(self.known.values()))) if self.known else 1
        nothing = np.zeros(width, np.float32)
        left, right = (
            np.stack([self.known.get(t, nothing) for t in texts]) for texts in (turns.instructions, turns.responses)
        )
        return left, right

    def check_known(self, turns: Turns) -> None:
        """See on some turns that the embedder knows their language, and an answer from the answer to something else.

        Raises:
            CannotTell: over 10 % of the tokens are unknown, or an answer's cosine with its instruction is above those
                of other answers less than 60 times in 100.
        """
        both = [j for j in range(len(turns)) if turns.instructions[j].strip() and turns.responses[j].strip()]
        some = both[:: max(1, len(both) // SAMPLE)][:SAMPLE]
        if len(some) < FEWEST_CHECKED:
            return
        asked, said = [turns.instructions[j] for j in some], [turns.responses[j] for j in some]
        advice = (
            "Give another embedder=, made for this language, or embedder=None, which goes by text statistics alone."
        )
        unknown = self._unknown([*asked, *said])
        if unknown > MOST_UNKNOWN:
            raise CannotTell(
                f"{unknown:.0%} of the tokens in {len(some)} rows are unknown to the embedder {self.embed.model!r}: it "
                f"does not know this language or script. {advice}"
            )
        left, right = self.of(Turns(turns.row[some], asked, [""] * len(some), said, {}))
        cosines = (left @ right.T) / np.maximum(
            np.linalg.norm(left, axis=1)[:, None] * np.linalg.norm(right, axis=1)[None], 1e-9
        )
        own = np.diag(cosines)[:, None]
        others = ~np.eye(len(some), dtype=bool)
        above = float(((own > cosines) + (own == cosines) / 2)[others].mean())
        if above < LEAST_TOLD:
            raise CannotTell(
                f"the embedder {self.embed.model!r} sees no difference between an answer and the answer to another "
                f"question here: in {len(some)} rows the own answer is the nearer one {above:.0%} of the time, and 50 "
                f"% is chance. Either it does not know this language, or the answers are all alike. {advice}"
            )
        if above < WELL_TOLD:
            warnings.warn(
                f"the embedder {self.embed.model!r} hardly tells an answer from the answer to another question here "
                f"(in {len(some)} rows the own one is nearer {above:.0%} of the time; 97 % is usual), so the gate will "
                "miss wrong answers. If the embedder is not made for this language, give another embedder=.",
                stacklevel=2,
            )

    def _unknown(self, texts: Sequence[str]) -> float:
        """The share of tokens that the embedder has no word for."""
        tokenizer = self.embed.tokenizer()
        unknown = tokenizer.unk_token_id
        if unknown is None or unknown == tokenizer.eos_token_id:
            return 0.0
        found = [
            i
            for ids in tokenizer([text[:2000] for text in texts], add_special_tokens=False, verbose=False)["input_ids"]
            for i in ids
        ]
        return float(np.mean(np.asarray(found) == unknown)) if found else 0.0

    def _embedded(self, texts: Sequence[str]) -> list[Floats]:
        if not texts:
            return []
        embed = replace(self.embed, of="instruction", side="chosen", column="v", on_rows=None)
        found: list[Floats] = []
        with bar(total=len(texts), what="embedding", unit="texts") as shown:
            for start in range(0, len(texts), 2048):
                part = texts[start : start + 2048]
                vectors = embed({"text": part})["v"]
                width = next((len(v) for v in vectors if v is not None), 1)
                found += [np.zeros(width, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors]
                shown.update(len(part))
        return found


class Likelihoods:
    """What a causal LM says of answers to their instructions, from its columns where they are, else computed once."""

    def __init__(self, lm: CausalLM, prefix: str) -> None:
        self.lm, self.prefix = lm, prefix
        self.known: MutableMapping[tuple[str, str], Floats] = {}

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns to read: those of the LM, where all are there."""
        found = [self.prefix + column for column in self.lm.columns]
        return found if set(found) <= set(names) else []

    def learn_columns(self, turns: Turns, batch: Mapping[str, Sequence[Any]], read: Sequence[rows.Row]) -> None:
        """Take the numbers of an instruction and its answer, and nothing else, from the columns; a few are compared."""
        columns = self.columns(list(batch))
        if not columns:
            return
        found = {}
        for j, i in enumerate(turns.row.tolist()):
            values = [batch[column][i] for column in columns]
            mine = read[i].turns
            bare = len(mine) == 1 and [m.role for m in mine[0].prompt] in ([], ["user"])
            if bare and None not in values and np.isfinite(values).all():
                found[turns.instructions[j], turns.responses[j]] = np.asarray(values, np.float32)
        some = dict(list(found.items())[:CHECKED])
        for (asked, said), own in zip(some, self._scored(list(some)), strict=True):
            theirs = some[asked, said]
            far = np.abs(own - theirs) > NEAR_NUMBER * np.maximum(1.0, np.abs(theirs))
            if far.any():
                at = int(np.flatnonzero(far)[0])
                raise ValueError(
                    f"the column {columns[at]!r} holds {theirs[at]:.4g} where the model {self.lm.model!r} says "
                    f"{own[at]:.4g}, for the answer {said[:60]!r}. Give the CausalLM that wrote the column as lm=, or "
                    "leave the column out: pool.remove_columns(...)."
                )
        self.known.update(found)

    def of(self, turns: Turns) -> Floats:
        """`turns x columns`; NaN for what the model could not score."""
        pairs = list(zip(turns.instructions, turns.responses, strict=True))
        new = sorted(
            {pair for pair in pairs if pair not in self.known}, key=lambda pair: (len(pair[0] + pair[1]), pair)
        )
        self.known.update(zip(new, self._scored(new), strict=True))
        return np.stack([self.known[pair] for pair in pairs])

    def _scored(self, pairs: Sequence[tuple[str, str]]) -> list[Floats]:
        if not pairs:
            return []
        lm = replace(self.lm, side="chosen", on_rows=None)
        found: list[Floats] = []
        with bar(total=len(pairs), what="scoring answers", unit="answers") as shown:
            for start in range(0, len(pairs), 256):
                part = pairs[start : start + 256]
                talks = [
                    [{"role": role, "content": text} for role, text in zip(("user", "assistant"), pair, strict=True)]
                    for pair in part
                ]
                scored = lm({"messages": [talk if talk[0]["content"] else talk[1:] for talk in talks]})
                values = [scored[column] for column in lm.columns]
                found += [np.asarray([np.nan if v is None else v for v in row], np.float32)
                          for row in zip(*values, strict=True)]  # fmt: skip
                shown.update(len(part))
        return found


class Models:
    """The models of a gate and what they have said so far."""

    def __init__(self, vectors: Vectors | None, likelihoods: Likelihoods | None) -> None:
        self.vectors, self.likelihoods = vectors, likelihoods

    def learn_columns(self, turns: Turns, batch: Mapping[str, Sequence[Any]], read: Sequence[rows.Row]) -> None:
        """Take what they said of these rows from the columns that hold it."""
        if self.vectors is not None:
            self.vectors.learn_columns(turns, batch)
        if self.likelihoods is not None:
            self.likelihoods.learn_columns(turns, batch, read)

    def of_turns(self, turns: Turns) -> Models:
        """The same, with what they said of these turns alone."""
        made = copy(self)
        if self.vectors is not None:
            made.vectors, known = copy(self.vectors), self.vectors.known
            made.vectors.known = {t: known[t] for t in (*turns.instructions, *turns.responses) if t in known}
        if self.likelihoods is not None:
            made.likelihoods, said = copy(self.likelihoods), self.likelihoods.known
            pairs = zip(turns.instructions, turns.responses, strict=True)
            made.likelihoods.known = {pair: said[pair] for pair in pairs if pair in said}
        return made

    def continued(self) -> Models:
        """The same for a batch: what they say of it is forgotten after it."""
        made = copy(self)
        if self.vectors is not None:
            made.vectors = copy(self.vectors)
            made.vectors.known = ChainMap({}, self.vectors.known)
        if self.likelihoods is not None:
            made.likelihoods = copy(self.likelihoods)
            made.likelihoods.known = ChainMap({}, self.likelihoods.known)
        return made

    def measured(self, turns: Turns) -> Measured:
        """The numbers of some turns."""
        likelihoods = None if self.likelihoods is None else self.likelihoods.of(turns)
        return Measured.of(turns, None if self.vectors is None else self.vectors.of(turns), likelihoods)


def _unit(vector: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def _alone(turns: Turns) -> npt.NDArray[np.bool_]:
    """For each row whether it has one turn: a row's columns are of all its turns."""
    return np.bincount(turns.row, minlength=1) == 1 if len(turns) else np.zeros(0, bool)

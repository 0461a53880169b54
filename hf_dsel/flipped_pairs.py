# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Preference pairs as numbers that change their sign when chosen and rejected are exchanged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel import rows
from hf_dsel.ops.text_statistics import Texts, overlap, text_statistics

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
NO_RESPONSE, ALIKE = "no response", "both answers are the same"
ANSWERS = re.compile(  # what says that an answer follows: "Assistant:" and the like on a line of its own, or a token
    r"(?:^|\n)[^\w\n]*(?:assistant|response|answer|output|model|bot|gpt|ai|a)(?=[ \t]*(?:[:>|]|\n|$))"
    r"|<\|(?:(?:im_start|start_header_id)\|>)?assistant|\[/INST\]",
    re.IGNORECASE,
)


def flipped(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Chosen and rejected in each other's place: a scale read the wrong way round, a careless click, a swapped column.

    `pairs.map(flipped)` exchanges them everywhere.

    >>> flipped({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"})
    {'prompt': '2 + 2?', 'chosen': '5', 'rejected': '4'}
    """
    return {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}


def implicit_strings(batch: Mapping[str, Sequence[Any]]) -> list[bool]:
    """For each row whether it is a pair of two strings that begin with their prompt: no prompt is given besides.

    >>> implicit_strings({"chosen": ["1? yes", "yes"], "rejected": ["1? no", "no"], "prompt": [None, "1?"]})
    [True, False]
    """
    if not {"chosen", "rejected"} <= set(batch):
        return [False] * len(next(iter(batch.values()), ()))
    prompts = batch["prompt"] if "prompt" in batch else [None] * len(batch["chosen"])
    sides = zip(batch["chosen"], batch["rejected"], prompts, strict=True)
    return [isinstance(one, str) and isinstance(two, str) and prompt is None for one, two, prompt in sides]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of some rows that have two different answers, one after another.

    `row`: int64 (pairs,), the row of each. `before`: all that is said before the answers; `asked`: the last question in
    it; `chosen`, `rejected`: the answers, those of several turns one below the other. `problems`: row → why it has no
    pair here. `prompts`: what pairs with one prompt have in common: `before`; but of two strings, which may share the
    first words of their answers too, what comes before the last "Assistant:" or the like.
    """

    row: npt.NDArray[np.int64]
    before: list[str]
    asked: list[str]
    chosen: list[str]
    rejected: list[str]
    problems: dict[int, str]
    prompts: list[str]

    @classmethod
    def of(cls, batch: Mapping[str, Sequence[Any]]) -> Pairs:
        """Of a batch as `Dataset.map` gives it.

        Raises:
            ValueError: the columns hold no preference pairs.
        """
        at: list[int] = []
        said: list[tuple[str, ...]] = []
        problems: dict[int, str] = {}
        strings = implicit_strings(batch)
        for i, sides in enumerate(zip(rows.read(batch, side="chosen"), rows.read(batch, side="rejected"), strict=True)):
            answers = [[turn.response for turn in side.turns if turn.response is not None] for side in sides]
            if not all(answers):
                problems[i] = next((side.problem for side in sides if side.problem), NO_RESPONSE)
            elif answers[0] == answers[1]:
                problems[i] = ALIKE
            else:
                both = zip(*(side.turns[0].prompt for side in sides), strict=False)
                shared = tuple(one for one, _ in takewhile(lambda two: two[0] == two[1], both))
                before = json.dumps([[m.role, m.content] for m in shared], ensure_ascii=False)
                at.append(i)
                asked = rows.Turn(shared, None).instruction
                prompt = _asked_in(asked) if strings[i] and asked else before
                said.append((before, asked, *("\n".join(texts) for texts in answers), prompt))
        before_all, asked_all, chosen, rejected, prompts = ([texts[k] for texts in said] for k in range(5))
        return cls(np.asarray(at, np.int64), before_all, asked_all, chosen, rejected, problems, prompts)

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.row)

    def different(self) -> int:
        """How many say something that no other says, also not with the answers exchanged."""
        return len({(b, *sorted(two)) for b, *two in zip(self.before, self.chosen, self.rejected, strict=True)})

    def order(self) -> npt.NDArray[np.int64]:
        """The pairs by what they say, so that a model learns the same from them in any order."""
        said = list(zip(self.before, self.chosen, self.rejected, strict=True))
        return np.asarray(sorted(range(len(said)), key=said.__getitem__), np.int64)

    def parts(self, n: int, *, by_prompt: bool) -> npt.NDArray[np.int64]:
        """The part of each pair, 0 to n - 1, by a hash of what it says; a pair and its mirror are in one part.

        Pairs with one prompt are in one part too, where `by_prompt` and the prompt says something.
        """
        found = np.empty(len(self), np.int64)
        for j, (before, one, two) in enumerate(zip(self.before, self.chosen, self.rejected, strict=True)):
            said = [self.prompts[j]] if by_prompt and before != "[]" else [before, *sorted((one, two))]
            text = json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")
            found[j] = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % n
        return found


def _asked_in(shared: str) -> str:
    """The text up to where the last answer is announced; all of it where none is.

    >>> _asked_in("Human: Why?\\n\\nAssistant: It is")
    'Human: Why?'
    """
    starts = [found.start() for found in ANSWERS.finditer(shared)]
    return shared[: starts[-1]].rstrip() if starts else shared


@dataclass(frozen=True, eq=False)
class Vectors:
    """Unit embeddings of some pairs: float32 (pairs, dim) each, zeros for a text that has none."""

    asked: Floats
    chosen: Floats
    rejected: Floats


@dataclass(frozen=True, eq=False)
class Numbers:
    """Some pairs as numbers, float64 (pairs, numbers) each.

    `plain`, `embedded`: what the chosen answer has more of than the rejected one. `even`: what they have in common.
    """

    plain: Doubles
    embedded: Doubles
    even: Doubles

    @classmethod
    def of(cls, pairs: Pairs, vectors: Vectors | None) -> Numbers:
        """Measure the pairs.

            φ(pair) = ψ(question, chosen) − ψ(question, rejected)   ⇒   φ(mirrored pair) = −φ(pair), to the last bit

        ψ: text statistics, the words shared with the question and, with embeddings, the cosine with the question and
        the embedding. `even`: statistics of the question, and the mean of both answers', the same for both orders.
        """
        asked = Texts.of(pairs.asked)
        sides = []
        for texts in (pairs.chosen, pairs.rejected):
            read = Texts.of(texts)
            sides.append(np.concatenate([text_statistics(read, texts)[0], overlap(asked, read)], 1).astype(np.float64))
        plain, embedded = [sides[0] - sides[1]], np.zeros((len(pairs), 0))
        if vectors is not None:
            question, one, two = (v.astype(np.float64) for v in (vectors.asked, vectors.chosen, vectors.rejected))
            plain.append((question * one).sum(1, keepdims=True) - (question * two).sum(1, keepdims=True))
            embedded = one - two
        even = [text_statistics(asked, pairs.asked)[0].astype(np.float64), (sides[0] + sides[1]) / 2]
        return cls(np.concatenate(plain, 1), embedded, np.concatenate(even, 1))

    def take(self, at: npt.NDArray[Any]) -> Numbers:
        """Some of the pairs."""
        return Numbers(self.plain[at], self.embedded[at], self.even[at])

    def orders(self) -> tuple[Doubles, Doubles]:
        """What trees read: the pairs as they are, and mirrored."""
        return np.concatenate([self.plain, self.even], 1), np.concatenate([-self.plain, self.even], 1)

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.plain)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What the gate looks at: each answered turn of a row, as numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_dsel import rows
from hf_dsel.gate_examples import on_a_line
from hf_dsel.ops.text_statistics import Familiar, Texts, overlap, text_statistics

Floats = npt.NDArray[np.float32]
NO_RESPONSE = "no response"
OFTEN, OFTEN_SHARE, MOST_COMMON, SHOWN = 20, 0.01, 3, 40  # instructions; of the rows; answers; columns of a terminal


@dataclass(frozen=True, eq=False)
class Turns:
    """The answered turns of some rows, one after another.

    `row`: int64 (turns,), the row of each. `instructions`, `histories`, `responses`: their texts. `problems`: row → why
    it has no turn here.
    """

    row: npt.NDArray[np.int64]
    instructions: list[str]
    histories: list[str]
    responses: list[str]
    problems: dict[int, str]

    @classmethod
    def of(cls, read: Sequence[rows.Row]) -> Turns:
        """Of rows as `rows.read` gives them."""
        at: list[int] = []
        said: list[tuple[str, str, str]] = []
        problems: dict[int, str] = {}
        for i, row in enumerate(read):
            answered = [turn for turn in row.turns if turn.response is not None]
            if not answered:
                problems[i] = row.problem or NO_RESPONSE
            for turn in answered:
                at.append(i)
                said.append(_said(turn))
        asked, before, answers = ([texts[k] for texts in said] for k in range(3))
        return cls(np.asarray(at, np.int64), asked, before, answers, problems)

    def __len__(self) -> int:
        """How many turns."""
        return len(self.row)


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of some turns that no pool is needed for, and what the others are computed from.

    `fixed`: float32 (turns, numbers), NaN where a model has none. `left`, `right`: the texts of instructions and
    responses. `vectors`: unit embeddings of both, or None.
    """

    fixed: Floats
    left: Texts
    right: Texts
    vectors: tuple[Floats, Floats] | None

    @classmethod
    def of(cls, turns: Turns, vectors: tuple[Floats, Floats] | None, likelihoods: Floats | None = None) -> Measured:
        """Measure the turns; `likelihoods` are numbers of a causal LM, `turns x some`."""
        left, right, before = (Texts.of(t) for t in (turns.instructions, turns.responses, turns.histories))
        asked, _ = text_statistics(left, turns.instructions)
        said, _ = text_statistics(right, turns.responses)
        parts = [said, asked, overlap(left, right), overlap(before, right)]
        parts.append(np.asarray([[len(history) > 0] for history in turns.histories], np.float32).reshape(-1, 1))
        if vectors is not None:
            parts.append(_cosine(*vectors))
        if likelihoods is not None:
            parts.append(likelihoods)
        return cls(np.concatenate(parts, 1), left, right, vectors)

    def take(self, at: npt.NDArray[np.int64], instructions: Sequence[str], responses: Sequence[str]) -> Measured:
        """Some of the turns; the texts are given again."""
        vectors = None if self.vectors is None else (self.vectors[0][at], self.vectors[1][at])
        return Measured(self.fixed[at], Texts.of(instructions), Texts.of(responses), vectors)


@dataclass(frozen=True, eq=False)
class Acquaintance:
    """What is usual in some part of a pool: its words, and which answers go with which instructions.

    `maps`: two matrices (dim + 1, dim), the ridge regressions from the embedding of an instruction to that of its
    response and back; None without embeddings.
    """

    asked: Familiar
    said: Familiar
    maps: tuple[Floats, Floats] | None

    @classmethod
    def of(cls, turns: Measured) -> Acquaintance:
        """Get to know these turns."""
        maps = None
        if turns.vectors is not None:
            left, right = turns.vectors
            maps = _ridge(left, right), _ridge(right, left)
        return cls(Familiar.of(turns.left), Familiar.of(turns.right), maps)

    def numbers(self, turns: Measured) -> Floats:
        """`turns x numbers`: the fixed ones and those that depend on this part of the pool."""
        said, asked = self.said.of_texts(turns.right), self.asked.of_texts(turns.left)
        crossed = self.said.of_texts(turns.left)[:, :1]
        parts = [turns.fixed, said, asked, crossed - said[:, :1]]
        if self.maps is not None and turns.vectors is not None:
            left, right = turns.vectors
            parts += [_cosine(_mapped(left, self.maps[0]), right), _cosine(_mapped(right, self.maps[1]), left)]
        return np.concatenate(parts, 1)


def common_answers(turns: Turns, n_rows: int) -> tuple[tuple[str, int], ...]:
    """The answers to at least 20 different instructions and 1 % of the rows, at most three: shortened, and to how many.

    >>> turns = Turns(np.arange(40), [f"Is {i} even?" for i in range(40)], [""] * 40, ["yes", " no "] * 20, {})
    >>> common_answers(turns, 40), common_answers(turns, 3_000)
    ((('no', 20), ('yes', 20)), ())
    """
    asked: dict[str, set[str]] = defaultdict(set)
    for instruction, response in zip(turns.instructions, turns.responses, strict=True):
        asked[" ".join(response.split())].add(instruction)
    least = max(OFTEN, OFTEN_SHARE * n_rows)
    found = sorted((-len(of), answer) for answer, of in asked.items() if len(of) >= least)
    return tuple((on_a_line(answer, SHOWN), -n) for n, answer in found[:MOST_COMMON])


def _said(turn: rows.Turn) -> tuple[str, str, str]:
    users = [i for i, m in enumerate(turn.prompt) if m.role == "user"]
    before = turn.prompt[: users[-1]] if users else turn.prompt
    history = "\n".join(m.content for m in before if m.role != "system")
    return turn.instruction, history, turn.response or ""


def _cosine(left: Floats, right: Floats) -> Floats:
    norm = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(1) / np.maximum(norm, 1e-9), np.float32)[:, None]


def _ridge(left: Floats, right: Floats, penalty: float = 10.0) -> Floats:
    x = np.concatenate([left, np.ones((len(left), 1), np.float32)], 1)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1], dtype=np.float32), x.T @ right).astype(np.float32)


def _mapped(vectors: Floats, matrix: Floats) -> Floats:
    return vectors @ matrix[:-1] + matrix[-1]

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Learning to tell the pool's own rows from corrupted copies of them, so that no row is judged by who has seen it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel import rows
from hf_dsel.corruptions import Corruption, Messages
from hf_dsel.encoder_memory import EncoderMemory
from hf_dsel.flipped_pairs import implicit_strings
from hf_dsel.gate_turns import Acquaintance, Measured, Turns, common_answers
from hf_dsel.junk_share import JunkKinds, junk_kinds
from hf_dsel.lm_memory import LMMemory

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
FOLDS = 6
ROUNDS = 50
NEAREST = 5
FEWEST_COPIES, MOST_COPIES = 1.5, 4.0  # for each row
COPIES = 18_000  # in all, within that
LEAST_COPIES = 200  # of each kind, whatever that takes
SETTINGS = {
    "objective": "multiclass", "learning_rate": 0.12, "num_leaves": 15, "min_data_in_leaf": 20, "max_bin": 63,
    "feature_fraction": 0.5, "lambda_l2": 5.0, "bagging_fraction": 0.7, "bagging_freq": 1, "verbose": -1,
    "deterministic": True, "force_row_wise": True,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Judge:
    """One model: what it knows of a part of the pool, and its trees."""

    known: Acquaintance
    trees: Any

    def scores(self, turns: Measured) -> npt.NDArray[np.float64]:
        """turns x kinds: log P(kind) / P(one of the pool's own)."""
        found = np.log(np.clip(np.asarray(self.trees.predict(self.known.numbers(turns)), np.float64), 1e-9, 1))
        return found.reshape(len(turns.fixed), -1)[:, 1:] - found.reshape(len(turns.fixed), -1)[:, :1]


def part_of(row: rows.Row, *, in_one: bool = False) -> int:
    """The part, 0 to 2 · FOLDS − 1, by a row's first turn: copies of it are there too. Its fold: part mod FOLDS.

    `in_one`: prompt and answer were one text, which a pair's other side divides; copies beside another are there too.
    """
    first = row.turns[0] if row.turns else None  # so that a conversation and its beginning are in one part
    said: Any = [[m.role, m.content] for m in first.prompt] + [first.response] if first else ""
    if first and in_one:
        said = "".join("".join([*(m.content for m in first.prompt), first.response or ""]).split())
    text = json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % (2 * FOLDS)


def parts_of(read: Sequence[rows.Row], batch: Mapping[str, Sequence[Any]]) -> Ints:
    """The part of each row of a batch, which `read` holds."""
    in_one = implicit_strings(batch)
    return np.asarray([part_of(row, in_one=one) for row, one in zip(read, in_one, strict=True)], np.int64)


def _seen(judge: int) -> tuple[list[int], list[int]]:
    """The parts that a judge knows, and those that its trees learn from; of the rows of its fold it has seen none."""
    fold, half = divmod(judge, 2)
    others = [p for p in range(2 * FOLDS) if p % FOLDS != fold]
    return [p for p in others if p // FOLDS == half], [p for p in others if p // FOLDS != half]


@dataclass(frozen=True, eq=False)
class Learned:
    """The judges, the share of junk in the pool that they learned from, and the cut for it.

    `rows_used`: rows learned from. `scores`, `sound`: float64 (turns,), of their turns, or of those of another pool, of
    which `estimated_on` rows were read to estimate the share there. `copies`: float32 (copies, kinds), the scores of
    corrupted copies. `encoder`, `lm`: whose vectors and likelihoods they learned from. `common`: answers to many
    instructions, shortened, and to how many.
    """

    judges: tuple[Judge, ...]
    junk: JunkKinds
    names: tuple[str, ...]
    rows_used: int
    scores: npt.NDArray[np.float64]
    copies: Floats
    broken_kinds: Ints
    sound: npt.NDArray[np.float64]
    encoder: EncoderMemory | None = None
    common: tuple[tuple[str, int], ...] = ()
    estimated_on: int | None = None
    lm: LMMemory | None = None

    @property
    def broken_scores(self) -> npt.NDArray[np.float64]:
        """Of each copy as of a turn: log P(the pool's own) / P(any kind)."""
        return told(self.copies.astype(np.float64))

    @property
    def of_rows(self) -> str:
        """Which rows the share is of, for a reader."""
        learned = f"learned from {self.rows_used:,} rows"
        return (
            learned
            if self.estimated_on is None
            else f"estimated on {self.estimated_on:,} rows of another pool, {learned}"
        )

    def for_pool(self, scores: npt.NDArray[np.float64], rows: int, seed: int) -> Learned:
        """The same judges, with the share of junk estimated by `turns x kinds` scores of another pool's rows."""
        junk = junk_kinds(scores, self.copies.astype(np.float64), self.broken_kinds, seed=seed)
        return replace(self, junk=junk, scores=told(scores), sound=junk.sound(scores), estimated_on=rows)

    def bare(self) -> Learned:
        """What the probabilities depend on, without what is only remembered."""
        return replace(self, encoder=None, lm=None, common=())


def learn(
    read: Sequence[rows.Row],
    parts: Ints,
    corruptions: Sequence[Corruption],
    measure: Callable[[Turns], Measured],
    *,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Learned:
    """Cross-fitted judges of some rows, whose `parts` say which of them see which rows.

    Of the rows outside its fold a judge learns from one half what is usual, and from the other half to tell rows from
    corrupted copies. Six folds, so that both halves are 5/12 of the rows: with three, pools of 600 rows looked dirtier
    than they are, and junk was told less well.

    The pool's rows are taken for sound, though some are junk; `junk_share` corrects for it afterwards. Leaving out the
    least sound rows and learning again gave worse probabilities where it was compared: with embeddings, on pools with
    30 % planted junk.
    """
    turns = Turns.of(read)
    say(f"measuring {len(turns):,} turns")
    own = measure(turns)
    copies, kind, source = _copies(read, parts, corruptions, _neighbours(turns, own, parts), seed)
    say(f"measuring {len(copies):,} corrupted copies")
    broken = measure(copies)
    own_part, broken_part = parts[turns.row], parts[source]
    judges: list[Judge] = []
    for number in range(2 * FOLDS):
        known_parts, learned_parts = _seen(number)
        known = Acquaintance.of(_some(own, turns, np.flatnonzero(np.isin(own_part, known_parts))))
        mine = np.flatnonzero(np.isin(own_part, learned_parts))
        theirs = np.flatnonzero(np.isin(broken_part, learned_parts))
        numbers = np.concatenate([known.numbers(_some(own, turns, mine)), known.numbers(_some(broken, copies, theirs))])
        labels = np.concatenate([np.zeros(len(mine), np.int64), 1 + kind[theirs]])
        judges.append(Judge(known, _trees(numbers, labels, 1 + len(corruptions), seed + number)))
        say(f"judge {number + 1} of {2 * FOLDS} has learned")
    scores = cross_scores(judges, own, turns, own_part)
    of_copies = cross_scores(judges, broken, copies, broken_part).astype(np.float32)
    junk = junk_kinds(scores, of_copies.astype(np.float64), kind, seed=seed)
    names = tuple(c.__name__ for c in corruptions)
    learned = Learned(tuple(judges), junk, names, len(read), told(scores), of_copies, kind, junk.sound(scores))
    return replace(learned, common=common_answers(turns, len(read)))


def cross_scores(judges: Sequence[Judge], measured: Measured, turns: Turns, part: Ints) -> npt.NDArray[np.float64]:
    """turns x kinds: the mean score by the two judges that have not seen the turn's row."""
    found: npt.NDArray[np.float64] | None = None
    for number, judge in enumerate(judges):
        at = np.flatnonzero(part % FOLDS == number // 2)
        if not len(at):
            continue
        scores = judge.scores(_some(measured, turns, at))
        found = np.zeros((len(turns), scores.shape[1])) if found is None else found
        found[at] += scores / 2
    return np.zeros((0, 0)) if found is None else found


def told(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log P(the pool's own) / P(any kind): one number a turn, high is sound."""
    return -np.logaddexp.reduce(scores, axis=1)


def _some(measured: Measured, turns: Turns, at: Ints) -> Measured:
    return measured.take(at, [turns.instructions[i] for i in at], [turns.responses[i] for i in at])


def _trees(numbers: Floats, labels: Ints, classes: int, seed: int) -> Any:
    import lightgbm

    settings = SETTINGS | {"num_class": classes, "seed": seed}
    return lightgbm.train(settings, lightgbm.Dataset(numbers, labels), ROUNDS)


def _neighbours(turns: Turns, measured: Measured, parts: Ints) -> dict[int, Ints]:
    """Row → the rows of its fold with the most similar instructions; without embeddings nothing.

    A judge sees none of the rows of the folds that it judges, so copies borrow from their own fold.
    """
    if measured.vectors is None:
        return {}
    found: dict[int, Ints] = {}
    first = np.unique(turns.row, return_index=True)[1]
    for fold in range(FOLDS):
        at = first[parts[turns.row[first]] % FOLDS == fold]
        at = at[np.linalg.norm(measured.vectors[0][at], axis=1) > 0.5]
        if len(at) <= NEAREST:
            continue
        vectors = measured.vectors[0][at]
        for start in range(0, len(at), 512):  # 512 x rows of the fold, 8 MiB for 4,000
            close = vectors[start : start + 512] @ vectors.T
            close[np.arange(len(close)), np.arange(start, start + len(close))] = -2.0
            best = np.argpartition(-close, NEAREST, axis=1)[:, :NEAREST]
            for i, others in zip(at[start : start + 512], best, strict=True):
                found[int(turns.row[i])] = turns.row[at][others]
    return found


class _NoneSimilar(Exception):
    """Nothing says which rows are similar: a copy that needs one is not made."""


@dataclass(frozen=True)
class _Others:
    messages: Sequence[Messages]
    part: Ints
    similar: Ints | None
    me: int
    rng: np.random.Generator

    def far(self) -> Messages:
        while True:
            i = int(self.rng.choice(self.part))
            if i != self.me or len(self.part) == 1:
                return [dict(m) for m in self.messages[i]]

    def near(self) -> Messages:
        if self.similar is None:
            raise _NoneSimilar
        return [dict(m) for m in self.messages[int(self.rng.choice(self.similar))]]


def copies_of(rows: int, kinds: int) -> int:
    """How many broken copies are made of so many rows, in so many ways.

    >>> copies_of(2_000, 16), copies_of(12_000, 16), copies_of(400, 16)
    (8000, 18000, 3200)
    """
    of_each = min(max(COPIES / rows, FEWEST_COPIES), MOST_COPIES)
    return round(max(of_each * rows, LEAST_COPIES * kinds))


def _copies(
    read: Sequence[rows.Row],
    parts: Ints,
    corruptions: Sequence[Corruption],
    near: dict[int, Ints],
    seed: int,
) -> tuple[Turns, Ints, Ints]:
    """Corrupted copies: the turns that changed, their corruption, and the row that each was made from."""
    rng = np.random.default_rng(seed)
    messages = [_messages(row) for row in read]
    usable = [np.flatnonzero((parts % FOLDS == p) & np.asarray([len(m) > 0 for m in messages])) for p in range(FOLDS)]
    asked, before, said, kind, source = [], [], [], [], []
    total = max(1, sum(len(part) for part in usable))
    a_row = copies_of(total, len(corruptions)) / total
    for part in usable:
        for _ in range(round(a_row * len(part))):
            i = int(rng.choice(part))
            number = int(rng.integers(len(corruptions)))
            others = _Others(messages, part, near.get(i), i, rng)
            try:
                broken = corruptions[number]([dict(m) for m in messages[i]], others, rng)
            except _NoneSimilar:
                continue
            if broken is None:
                continue
            for instruction, history, response in _changed_turns(messages[i], broken):
                asked.append(instruction)
                before.append(history)
                said.append(response)
                kind.append(number)
                source.append(i)
    if not source:
        names = ", ".join(c.__name__ for c in corruptions)
        raise ValueError(f"none of the corruptions ({names}) can happen to a row of this pool; give others")
    turns = Turns(np.asarray(source, np.int64), asked, before, said, {})
    return turns, np.asarray(kind, np.int64), np.asarray(source, np.int64)


def _messages(row: rows.Row) -> Messages:
    """The conversation of a row with its answers, or nothing for a row without an answer."""
    answered = [t for t in row.turns if t.response is not None]
    if not answered:
        return []
    last = answered[-1]
    return [m.as_dict() for m in last.prompt] + [{"role": "assistant", "content": last.response or ""}]


def _changed_turns(before: Messages, after: Messages) -> list[tuple[str, str, str]]:
    """Instruction, history and response of the answers in `after` that `before` does not have at that place."""
    found = []
    for i, message in enumerate(after):
        if message["role"] != "assistant" or (i < len(before) and before[: i + 1] == after[: i + 1]):
            continue
        if i < len(before) and before[i] == message and before[:i] != after[:i] and before[i - 1] == after[i - 1]:
            continue  # an earlier answer changed, not this one
        users = [j for j in range(i) if after[j]["role"] == "user"]
        asked = after[users[-1]]["content"] if users else ""
        history = "\n".join(m["content"] for m in after[: users[-1] if users else i] if m["role"] != "system")
        found.append((asked, history, message["content"]))
    return found

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A gate against junk, learned from the pool itself: no labels, no judge."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Value

from hf_dsel import rows
from hf_dsel.corruptions import CORRUPTIONS, Corruption
from hf_dsel.extras import need
from hf_dsel.gate_file import from_bytes, to_bytes
from hf_dsel.gate_learning import Learned, cross_scores, learn, part_of, told
from hf_dsel.gate_turns import Measured, Turns
from hf_dsel.progress import count, say
from hf_dsel.rows import text_columns
from hf_dsel.scorers import options
from hf_dsel.scorers.embed import Embed

ALGORITHM = 1
FEWEST = 300
CHECKED = 8
Floats = npt.NDArray[np.float32]


class TooLittle(ValueError):
    """A pool has too few answered rows to learn a gate from."""


class NotFitted(ValueError):
    """A gate was called before it had learned from a pool."""


@dataclass(eq=False)
class Gate:
    """How likely each row is sound: an answer, whole and readable, to its own question.

    A classifier learns to tell the pool's own turns from corrupted copies of them (`hf_dsel.corruptions`), by text
    statistics and, with an embedder, by how well an answer's embedding goes with its instruction's. The copies need no
    labels, and the pool may be dirty: what it has in common with the copies is estimated and taken out. A row is judged
    only by models that have seen neither it nor an exact copy of it, also when the gate is saved and loaded.

        P(sound | x) = 1 − Σ_kinds share · corrupted(x) / pool(x)

    with the densities' ratios out of the classifier and the share of each kind of junk in the pool estimated. Of a
    conversation the least sound turn counts. Writes `gate` (float32), `gate_reason`, the corruption that this turn
    resembles most, and `gate_status`; a row without an answer gets null and the reason.

        gate = hf_dsel.Gate.fit(pool)
        print(gate)                            # the share of junk, and what it can and cannot see
        pool = pool.map(gate, batched=True)    # or: hf_dsel.score(pool, hf_dsel.Gate()), which fits first

    What it does not see: wrong facts, and faults that resemble no corruption. Give your own as functions. Applied to
    another pool it takes that one for as dirty as the pool that it learned from.

    Args:
        embedder: a sentence encoder, as a model or an `Embed`; None learns from text statistics alone.
        corruptions: functions that break a row, each a kind of junk.
        embedding, response_embedding: columns with the embedder's vectors of instruction and response, which are read
            instead of computing them where rows have one turn. A few are compared with the embedder first.
        learn_from: at most so many rows, drawn at random, are learned from.
        seed: of the draw, the corruptions and the classifier.
        side: which answer of a preference pair; the columns for "rejected" are `rejected_gate` and so on.

    Raises:
        ValueError: an option outside its range; a column that holds other vectors.
        TooLittle: fewer than 300 rows with an answer.
        NotFitted: called on a batch before it has learned.

    Source: ours; negatives by rule are UniEval's idea (Zhong et al. 2022; survey §3.2). The estimate of the share:
        `hf_dsel.junk_share`.

    >>> Gate(embedder=None).features()["gate"]
    Value('float32')
    """

    embedder: str | Embed | None = "sentence-transformers/all-MiniLM-L6-v2"
    _: KW_ONLY
    corruptions: Sequence[Corruption] = CORRUPTIONS
    embedding: str | None = None
    response_embedding: str | None = None
    learn_from: int = 12_000
    seed: int = 0
    side: rows.Side = "chosen"
    learned: Learned | None = field(default=None, init=False, repr=False)
    on_rows: Callable[[int], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        options.check_shared(self)
        names = [getattr(c, "__name__", None) for c in self.corruptions]
        if len(names) < 2 or None in names or len(set(names)) < len(names):
            raise ValueError(f"corruptions={names}; they are two or more functions with names of their own")
        if self.learn_from < FEWEST:
            raise ValueError(f"learn_from={self.learn_from}; the gate learns from at least {FEWEST} rows")
        if self.embedder is None and (self.embedding or self.response_embedding):
            raise ValueError("embedding= and response_embedding= name the embedder's vectors; give embedder= too")

    @classmethod
    def fit(cls, dataset: Dataset, **chosen: Any) -> Self:
        """A gate that has learned from a pool. Options as for `Gate`; `print` it to see what it found.

        Raises:
            TooLittle: fewer than 300 rows with an answer.
            TypeError: an unknown option.
        """
        return cls(**chosen).fitted(dataset)

    def fitted(self, dataset: Dataset) -> Self:
        """Itself if it has learned already, else one that has learned from this pool."""
        if self.learned is not None:
            return self
        _need_trees()
        self.check(dataset.column_names)
        at = np.arange(len(dataset))
        if len(dataset) > self.learn_from:
            at = np.sort(np.random.default_rng(self.seed).choice(len(dataset), self.learn_from, replace=False))
        names = [*text_columns(dataset.column_names), *self._vector_columns()]
        batch = dataset.with_format(None).select_columns(names).select(at)[:]
        read = rows.read(batch, side=self.side)
        answered = sum(any(t.response for t in row.turns) for row in read)
        if answered < FEWEST:
            raise TooLittle(
                f"the gate learns from at least {FEWEST} rows with an answer, and here are {answered:,} of "
                f"{len(dataset):,}. Fit it on a larger pool of the same kind, Gate.fit(larger), or go without a gate."
            )
        say(f"the gate learns from {count(len(read), 'row')}")
        vectors = _Vectors(self)
        vectors.learn_columns(Turns.of(read), batch)
        learned = learn(read, self.corruptions, vectors.of, seed=self.seed, say=say)
        made = replace(self)
        made.learned = learned
        say(str(made).splitlines()[0])
        return made

    def of_side(self, side: rows.Side) -> Self:
        """The same gate for an answer of a preference pair; what was learned is kept."""
        if side == self.side:
            return self
        other = replace(self, side=side)
        other.learned = self.learned
        return other

    def __str__(self) -> str:
        """The share of junk that was found, and how well each corruption is told from the pool."""
        if self.learned is None:
            return f"Gate({self.embedder!r}), which has not learned yet"
        junk, found = self.learned.junk, self.learned
        lines = [
            f"{junk.share:.1%} of the turns look like corrupted ones (95 %: {junk.low:.1%} to {junk.high:.1%}); "
            f"learned from {found.rows_used:,} rows",
            "kind, how well it is told from the pool's rows (AUC; 0.5 is not at all), its estimated share:",
        ]
        for i, name in enumerate(found.names):
            mine = found.broken_scores[found.broken_kinds == i]
            auc = f"{_auc(found.scores, mine):.3f}" if len(mine) >= 10 else "too few rows can have it"
            lines.append(f"  {name:<18} {auc}  {junk.share * junk.weights[i]:.1%}")
        return "\n".join(lines)

    def features(self) -> dict[str, Value]:
        """The columns that it writes."""
        return {self._column: Value("float32"), f"{self._column}_reason": Value("string"),
                f"{self._column}_status": Value("string")}  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Everything that the probabilities depend on, as JSON."""
        embedder = self._embed.settings() if self._embed is not None else None
        named = {"embedding": self.embedding, "response_embedding": self.response_embedding, "side": self.side}
        digest = None if self.learned is None else hashlib.sha256(to_bytes(self.learned)).hexdigest()[:16]
        names = [corruption.__name__ for corruption in self.corruptions]
        rest = {"learn_from": self.learn_from, "seed": self.seed, "corruptions": names, "learned": digest}
        return {"scorer": "Gate", "algorithm": ALGORITHM, "embedder": embedder, **named, **rest}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None."""
        return self if other is self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        _need_trees()
        options.check_rows(column_names, self.side)
        missing = [name for name in self._vector_columns() if name not in column_names]
        if missing:
            raise ValueError(f"no column {missing[0]!r}; the dataset has {sorted(column_names)}")
        if self._embed is not None:
            self._embed.check(column_names)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """The new columns for a batch of rows, in order."""
        if self.learned is None:
            raise NotFitted("this gate has not learned yet: gate = Gate.fit(pool), then pool.map(gate, batched=True)")
        read = rows.read(batch, side=self.side)
        turns = Turns.of(read)
        vectors = _Vectors(self)
        vectors.learn_columns(turns, batch)
        sound: list[float | None] = [None] * len(read)
        reason: list[str | None] = [None] * len(read)
        status = ["ok"] * len(read)
        for i, problem in turns.problems.items():
            status[i] = problem
        if len(turns):
            parts = np.asarray([part_of(row) for row in read], np.int64)[turns.row]
            scores = cross_scores(self.learned.judges, Measured.of(turns, vectors.of(turns)), turns, parts)
            found, kinds = self.learned.junk.sound(scores), self.learned.junk.kind(scores)
            for j in np.lexsort((-told(scores), -found)):  # the least sound turn comes last and stays
                i = int(turns.row[j])
                sound[i], reason[i] = float(found[j]), self.learned.names[int(kinds[j])]
        if self.on_rows is not None:
            self.on_rows(len(read))
        return {self._column: sound, f"{self._column}_reason": reason, f"{self._column}_status": status}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learned to one safetensors file, with the options that belong to it."""
        if self.learned is None:
            raise NotFitted("there is nothing to save: this gate has not learned yet; Gate.fit(pool).save(path)")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(to_bytes(self.learned, embedder=self._embed, side=self.side, seed=self.seed))
        temporary.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **chosen: Any) -> Self:
        """Read a gate that was saved, to apply it to the same pool or another one.

        Args:
            path: the file.
            **chosen: options that say where vectors are: `embedder`, `embedding`, `response_embedding`; and `side`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no gate.
        """
        learned, kept = from_bytes(Path(path).read_bytes(), os.fspath(path))
        _need_trees()
        gate = cls(**{**kept, **chosen})
        gate.learned = learned
        return gate

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("learned", "on_rows")}
        return {"algorithm": ALGORITHM, "options": state,
                "learned": None if self.learned is None else to_bytes(self.learned)}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        learned = None if state["learned"] is None else from_bytes(state["learned"], "a pickled gate")[0]
        self.__dict__.update(state["options"], learned=learned, on_rows=None)

    @property
    def _column(self) -> str:
        return "rejected_gate" if self.side == "rejected" else "gate"

    @property
    def _embed(self) -> Embed | None:
        return Embed(self.embedder) if isinstance(self.embedder, str) else self.embedder

    def _vector_columns(self) -> list[str]:
        return [name for name in (self.embedding, self.response_embedding) if name is not None]


class _Vectors:
    """Unit vectors of texts, from columns where they are there, else by the embedder, each text once."""

    def __init__(self, gate: Gate) -> None:
        self.embed, self.gate = gate._embed, gate
        self.known: dict[str, Floats] = {}

    def learn_columns(self, turns: Turns, batch: Mapping[str, Sequence[Any]]) -> None:
        """Take the vectors of rows with one turn from the columns, after comparing a few with the embedder's."""
        alone = np.bincount(turns.row, minlength=1) == 1 if len(turns) else np.zeros(0, bool)
        for column, texts in (
            (self.gate.embedding, turns.instructions),
            (self.gate.response_embedding, turns.responses),
        ):
            if column is None:
                continue
            values = batch[column]
            there = [j for j, i in enumerate(turns.row) if alone[i] and values[i] is not None and texts[j].strip()]
            found = {texts[j]: np.asarray(values[turns.row[j]], np.float32) for j in there}
            self._compare(column, dict(list(found.items())[:CHECKED]))
            self.known.update(found)

    def _compare(self, column: str, some: Mapping[str, Floats]) -> None:
        own = self._embedded(list(some))
        for text, mine, theirs in zip(some, own, some.values(), strict=True):
            same = len(mine) == len(theirs)
            cosine = float(mine @ theirs / max(float(np.linalg.norm(theirs)), 1e-9)) if same else 0.0
            if cosine < 0.97:
                raise ValueError(
                    f"the column {column!r} holds other vectors than the embedder {self.gate.embedder!r} makes "
                    f"({'cosine ' + format(cosine, '.2f') if same else f'{len(theirs)} numbers, not {len(mine)}'} for "
                    f"{text[:60]!r}). Name the column that it made, its model as embedder=, or no column."
                )

    def of(self, turns: Turns) -> tuple[Floats, Floats] | None:
        """The vectors of instructions and responses; zeros for a text that has none."""
        if self.embed is None:
            return None
        new = sorted({t for t in (*turns.instructions, *turns.responses) if t.strip() and t not in self.known})
        self.known.update(zip(new, self._embedded(new), strict=True))
        width = len(next(iter(self.known.values()))) if self.known else 1
        nothing = np.zeros(width, np.float32)
        left, right = (
            np.stack([self.known.get(t, nothing) for t in texts]) for texts in (turns.instructions, turns.responses)
        )
        return left, right

    def _embedded(self, texts: Sequence[str]) -> list[Floats]:
        if not texts or self.embed is None:
            return []
        embed = replace(self.embed, of="instruction", side="chosen", column="v", on_rows=None)
        found: list[Floats] = []
        for start in range(0, len(texts), 2048):
            part = texts[start : start + 2048]
            vectors = embed({"text": part})["v"]
            width = next((len(v) for v in vectors if v is not None), 1)
            found += [np.zeros(width, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors]
        return found


def _auc(sound: npt.NDArray[np.float64], broken: npt.NDArray[np.float64]) -> float:
    """The chance that a row of the pool scores above a corrupted one."""
    order = np.sort(broken)
    below, upto = np.searchsorted(order, sound, "left"), np.searchsorted(order, sound, "right")
    return float((below + upto).mean() / 2 / len(broken))


def _need_trees() -> None:
    need("lightgbm", "the gate", extra="gate")

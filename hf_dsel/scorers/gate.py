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
from hf_dsel.encoder_memory import EncoderMemory
from hf_dsel.gate_file import from_bytes, to_bytes
from hf_dsel.gate_learning import Learned, cross_scores, learn, parts_of, told
from hf_dsel.gate_models import LM_COLUMNS, Likelihoods, Models, Vectors
from hf_dsel.gate_rows import FEWEST, DrawnRows
from hf_dsel.gate_turns import Turns, common_answers
from hf_dsel.junk_share import about_width
from hf_dsel.learning_input import check_loading, check_model, check_pool, need_trees, saved, whole
from hf_dsel.lm_memory import LMMemory
from hf_dsel.progress import count, say
from hf_dsel.scorers import options
from hf_dsel.scorers.causal_lm import CausalLM
from hf_dsel.scorers.embed import Embed
from hf_dsel.seeds import check_seed

ALGORITHM = 3
LOADING = ("embedder", "lm", "embedding", "response_embedding", "side", "on_rows")
Floats = npt.NDArray[np.float32]


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

    What it does not see: wrong facts, faults that resemble no corruption (give your own as functions), and one junk
    answer that fills a part of the pool, "N/A" in a tenth of the rows: that looks like the pool's own. An answer to 20
    different instructions and 1 % of the rows is named when it learns and by `print`. Applied to another pool it takes
    that one for as dirty as the pool that it learned from, unless `for_pool` is asked to look.

    Args:
        embedder: a sentence encoder, as a model or an `Embed`; None learns from text statistics alone.
        lm: a causal LM, as a model or a `CausalLM`: how likely it finds an answer, with its instruction and alone. Its
            columns are read where they are all there, and else computed, of the instruction and the answer without
            what came before; the corrupted copies, 1.5 to 4 for each row that is learned from, are always scored. Off
            by default, for it is slow without a GPU. Of 800 rows of five datasets with 30 % junk the AUC is 0.88 by
            text statistics, 0.92 with MiniLM or SmolLM2-135M, 0.94 with both.
        corruptions: functions that break a row, each a kind of junk.
        embedding, response_embedding: columns with the embedder's vectors of instruction and response, which are read
            instead of computing them where rows have one turn. A few are compared with the embedder first.
        learn_from: at most so many rows, drawn at random, are learned from.
        seed: of the draw, the corruptions and the classifier.
        side: which answer of a preference pair; the columns for "rejected" are `rejected_gate` and so on.

    Raises:
        ValueError: an option outside its range; a column that holds other vectors.
        TooLittle: fewer than 300 different rows with an answer, or than 30 different answers.
        CannotTell: the embedder does not know the language, or cannot tell an answer from the answer to something else.
        NotFitted: called on a batch before it has learned.
        hf_dsel.encoder_memory.OtherEncoder, hf_dsel.lm_memory.OtherLM: loaded, and called with another embedder, or
            causal LM, than it learned with.

    Source: ours; negatives by rule are UniEval's idea (Zhong et al. 2022; survey §3.2). The estimate of the share:
        `hf_dsel.junk_share`.

    >>> Gate(embedder=None).features()["gate"]
    Value('float32')
    """

    embedder: str | Embed | None = "sentence-transformers/all-MiniLM-L6-v2"
    _: KW_ONLY
    lm: str | CausalLM | None = None
    corruptions: Sequence[Corruption] = field(default=CORRUPTIONS, repr=False)
    embedding: str | None = None
    response_embedding: str | None = None
    learn_from: int = 12_000
    seed: int = 0
    side: rows.Side = "chosen"
    learned: Learned | None = field(default=None, init=False, repr=False)
    on_rows: Callable[[int], None] | None = field(default=None, repr=False)
    _models: Models | None = field(default=None, init=False, repr=False)  # what they said of the rows learned from

    def __post_init__(self) -> None:
        options.check_shared(self)
        check_model("embedder", self.embedder, Embed)
        check_model("lm", self.lm, CausalLM)
        check_seed(self.seed)
        self.seed = int(self.seed)
        rule = f"the gate learns from at least {FEWEST} rows"
        self.learn_from = whole("learn_from", self.learn_from, least=FEWEST, rule=rule)
        if not isinstance(self.corruptions, Sequence) or not all(map(callable, self.corruptions)):
            raise TypeError(
                f"corruptions={self.corruptions!r}; they are functions, such as hf_dsel.corruptions.CORRUPTIONS"
            )
        names = [getattr(c, "__name__", None) for c in self.corruptions]
        if len(names) < 2 or None in names or len(set(names)) < len(names):
            raise ValueError(f"corruptions={names}; they are two or more functions with names of their own")
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
        drawn = self._drawn(dataset, "fit")
        say(f"the gate learns from {count(len(drawn.read), 'row')}")
        models = self._made_models()
        models.learn_columns(drawn.turns, drawn.batch, drawn.read)
        if models.vectors is not None:
            models.vectors.check_known(drawn.turns)
        parts = parts_of(drawn.read, drawn.batch)
        learned = learn(drawn.read, parts, self.corruptions, models.measured, seed=self.seed, say=say)
        encoder = None if self._embed is None else EncoderMemory.of(self._embed)
        lm = None if self._lm is None else LMMemory.of(self._lm)
        return self._with(replace(learned, encoder=encoder, lm=lm), models, drawn.turns)

    def for_pool(self, dataset: Dataset) -> Self:
        """The same gate, learned as it is, with the share of junk and the kinds of it estimated in another pool.

            gate = hf_dsel.Gate.load("gate.safetensors").for_pool(other)

        Without it a gate takes every pool for as dirty as the one that it learned from. The other pool's texts should
        be of the same sort: what is unusual in the first looks like junk in the second.

        Raises:
            NotFitted: it has not learned yet.
            TooLittle: fewer than 300 different rows with an answer, or than 30 different answers.
            CannotTell: the embedder does not know the language.
        """
        if self.learned is None:
            raise NotFitted("this gate has not learned yet: Gate.fit(pool) learns from a pool, and estimates its share")
        drawn = self._drawn(dataset, "for_pool")
        say(f"the gate looks at {count(len(drawn.read), 'row')}")
        models = self._known_models()
        models.learn_columns(drawn.turns, drawn.batch, drawn.read)
        if models.vectors is not None:
            models.vectors.check_known(drawn.turns)
        parts = parts_of(drawn.read, drawn.batch)[drawn.turns.row]
        scores = cross_scores(self.learned.judges, models.measured(drawn.turns), drawn.turns, parts)
        learned = self.learned.for_pool(scores, len(drawn.read), self.seed)
        common = common_answers(drawn.turns, len(drawn.read))
        return self._with(replace(learned, common=common), models, drawn.turns)

    def _drawn(self, dataset: Dataset, does: str) -> DrawnRows:
        need_trees()
        check_pool(dataset, type(self).__name__, does)
        self.check(dataset.column_names)
        also = self.also_reads(dataset.column_names)
        return DrawnRows.of(dataset, also, self.side, most=self.learn_from, seed=self.seed, learns=does == "fit")

    def _with(self, learned: Learned, models: Models, turns: Turns) -> Self:
        """Itself with something learned, which it says; what models said of these turns is kept."""
        made = replace(self)
        made.learned, made._models = learned, models.of_turns(turns)
        say(str(made).splitlines()[0])
        if learned.common:
            say(_about_common(learned.common))
        return made

    def of_side(self, side: rows.Side) -> Self:
        """The same gate for an answer of a preference pair; what was learned is kept."""
        if side == self.side:
            return self
        other = replace(self, side=side, response_embedding=None)  # the column is of this side's answers
        other.learned = self.learned
        return other

    def __str__(self) -> str:
        """The share of junk that was found, and how well each corruption is told from the pool."""
        if self.learned is None:
            return f"Gate({self.embedder!r}), which has not learned yet"
        junk, found = self.learned.junk, self.learned
        lines = [
            f"{junk.share:.1%} of the answers look like corrupted ones (95 %: {junk.low:.1%} to {junk.high:.1%}"
            f"{about_width(junk.share, junk.low, junk.high)}); {found.of_rows}",
            "kind, how well it is told from the pool's rows (AUC; 0.5 is not at all), its estimated share:",
        ]
        for i, name in enumerate(found.names):
            mine = found.broken_scores[found.broken_kinds == i]
            auc = f"{_auc(found.scores, mine):.3f}" if len(mine) >= 10 else "too few rows can have it"
            lines.append(f"  {name:<18} {auc}  {junk.share * junk.weights[i]:.1%}")
        if found.common:
            lines.append(_about_common(found.common))
        return "\n".join(lines)

    def features(self) -> dict[str, Value]:
        """The columns that it writes."""
        return {self._column: Value("float32"), f"{self._column}_reason": Value("string"),
                f"{self._column}_status": Value("string")}  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Everything that the probabilities depend on, as JSON."""
        embedder = self._embed.settings() if self._embed is not None else None
        named = {"embedding": self.embedding, "response_embedding": self.response_embedding, "side": self.side}
        digest = None if self.learned is None else hashlib.sha256(to_bytes(self.learned.bare())).hexdigest()[:16]
        kinds = [corruption.__name__ for corruption in self.corruptions]
        names = kinds if self.learned is None else list(self.learned.names)
        lm = self._lm.settings() if self._lm is not None else None
        rest = {"lm": lm, "learn_from": self.learn_from, "seed": self.seed, "corruptions": names, "learned": digest}
        return {"scorer": "Gate", "algorithm": ALGORITHM, "embedder": embedder, **named, **rest}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None."""
        return self if other is self else None

    def also_reads(self, column_names: Sequence[str]) -> list[str]:
        """The columns that it reads besides the text: its models' vectors and likelihoods, where they are there."""
        return self._vector_columns() + (
            [] if self._lm is None else Likelihoods(self._lm, self._prefix).columns(column_names)
        )

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        need_trees()
        options.check_rows(column_names, self.side)
        missing = [name for name in self._vector_columns() if name not in column_names]
        if texts := [name for name in self._vector_columns() if name in rows.text_columns(column_names)]:
            raise ValueError(
                f"the column {texts[0]!r} holds the rows' texts; name one of vectors, such as hf_dsel.Embed writes, or "
                "none to have the texts embedded"
            )
        if missing:
            raise ValueError(f"no column {missing[0]!r}; the dataset has {sorted(column_names)}")
        for model in (self._embed, self._lm):
            if model is not None:
                model.check(column_names)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """The new columns for a batch of rows, in order."""
        if self.learned is None:
            raise NotFitted("this gate has not learned yet: gate = Gate.fit(pool), then pool.map(gate, batched=True)")
        read = rows.read(batch, side=self.side)
        turns = Turns.of(read)
        models = self._known_models()
        models.learn_columns(turns, batch, read)
        sound: list[float | None] = [None] * len(read)
        reason: list[str | None] = [None] * len(read)
        status = ["ok"] * len(read)
        for i, problem in turns.problems.items():
            status[i] = problem
        if len(turns):
            parts = parts_of(read, batch)[turns.row]
            scores = cross_scores(self.learned.judges, models.measured(turns), turns, parts)
            found, kinds = self.learned.junk.sound(scores), self.learned.junk.kind(scores)
            for j in np.lexsort((-told(scores), -found)):  # the least sound turn comes last and stays
                i = int(turns.row[j])
                sound[i], reason[i] = float(found[j]), self.learned.names[int(kinds[j])]
        if self.on_rows is not None:
            self.on_rows(len(read))
        return {self._column: sound, f"{self._column}_reason": reason, f"{self._column}_status": status}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learned to one safetensors file, with the options that belong to it.

        Of the pool's texts it holds those answers that `print` names, shortened; of the others, hashed counts.
        """
        if self.learned is None:
            raise NotFitted("there is nothing to save: this gate has not learned yet; Gate.fit(pool).save(path)")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        kept = {"side": self.side, "seed": self.seed, "learn_from": self.learn_from}
        temporary.write_bytes(to_bytes(self.learned, embedder=self._embed, lm=self._lm, **kept))
        temporary.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **chosen: Any) -> Self:
        """Read a gate that was saved, to apply it to the same pool or another one.

        Args:
            path: the file.
            **chosen: another place of the same models, and where their columns are: `embedder`, `lm`, `embedding`,
                `response_embedding`; and `side`. Other models than it learned with are refused when used.

        Raises:
            FileNotFoundError, IsADirectoryError: no such file, or a folder.
            TypeError: an option of the learning, which is done.
            ValueError: the file is no gate.
        """
        check_loading("Gate", path, chosen, LOADING)
        learned, kept = from_bytes(saved(path, "Gate"), os.fspath(path))
        for name in ("embedder", "lm"):
            if name in chosen and (chosen[name] is None) != (kept[name] is None):
                raise ValueError(
                    f"the gate in {os.fspath(path)} learned {'without' if kept[name] is None else 'with'} {name}="
                    f"{'' if kept[name] is None else repr(kept[name].model)}, and {name}={chosen[name]!r} was given; "
                    "leave it out, or fit another gate"
                )
        need_trees()
        gate = cls(**{**kept, **chosen})
        gate.learned = learned
        return gate

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("learned", "on_rows", "_models")}
        state |= {"embedder": self._embed, "lm": self._lm}  # named or made, the same
        return {"algorithm": ALGORITHM, "options": state,
                "learned": None if self.learned is None else to_bytes(self.learned)}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        learned = None if state["learned"] is None else from_bytes(state["learned"], "a pickled gate")[0]
        self.__dict__.update(state["options"], learned=learned, on_rows=None, _models=None)

    @property
    def _prefix(self) -> str:
        return "rejected_" if self.side == "rejected" else ""

    @property
    def _column(self) -> str:
        return f"{self._prefix}gate"

    @property
    def _embed(self) -> Embed | None:
        return Embed(self.embedder) if isinstance(self.embedder, str) else self.embedder

    @property
    def _lm(self) -> CausalLM | None:
        return CausalLM(self.lm, columns=LM_COLUMNS) if isinstance(self.lm, str) else self.lm

    def _made_models(self) -> Models:
        vectors = None if self._embed is None else Vectors(self._embed, self.embedding, self.response_embedding)
        return Models(vectors, None if self._lm is None else Likelihoods(self._lm, self._prefix))

    def _known_models(self) -> Models:
        """The models that it learned with, of which what they say from now on is forgotten."""
        if self._models is None:  # loaded, or come from another process
            if self.learned is not None and self.learned.encoder is not None and self._embed is not None:
                self.learned.encoder.check(self._embed, type(self).__name__)
            if self.learned is not None and self.learned.lm is not None and self._lm is not None:
                self.learned.lm.check(self._lm, type(self).__name__)
            self._models = self._made_models()
        return self._models.continued()

    def _vector_columns(self) -> list[str]:
        return [name for name in (self.embedding, self.response_embedding) if name is not None]


def _about_common(common: Sequence[tuple[str, int]]) -> str:
    listed = ", ".join(f"“{answer}” to {n:,} different instructions" for answer, n in common)
    return (
        f"answers that are given often: {listed}. The gate takes such an answer for the pool's own, whatever it says; "
        "where it is no answer, leave its rows out before the gate learns, with pool.filter or where="
    )


def _auc(sound: npt.NDArray[np.float64], broken: npt.NDArray[np.float64]) -> float:
    """The chance that a row of the pool scores above a corrupted one."""
    order = np.sort(broken)
    below, upto = np.searchsorted(order, sound, "left"), np.searchsorted(order, sound, "right")
    return float((below + upto).mean() / 2 / len(broken))

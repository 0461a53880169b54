# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Preference pairs whose labels look flipped, learned from the pairs themselves: no labels of right or wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from datasets import Dataset, Value

from hf_dsel.encoder_memory import EncoderMemory, described
from hf_dsel.flipped_learning import LearnedOrder, from_bytes, learn_order, to_bytes
from hf_dsel.flipped_pairs import Floats, Pairs, Vectors
from hf_dsel.gate_rows import TooLittle
from hf_dsel.learning_input import check_loading, check_model, check_pool, drawn_from, need_trees, saved, whole
from hf_dsel.progress import say
from hf_dsel.rows import detect, text_columns
from hf_dsel.scorers.embed import Embed
from hf_dsel.scorers.gate import NotFitted
from hf_dsel.seeds import check_seed

ALGORITHM = 1
FEWEST = 300
NONE = 0.01  # of the labels
COLUMN = "gate_flipped"


@dataclass(eq=False)
class FlippedLabels:
    """How likely chosen and rejected of a pair are in each other's place.

    A classifier learns from the pool which of two answers is the chosen one, by differences of text statistics and
    embeddings. A pair is judged by models that have seen neither it, nor a copy, nor its mirror. Hard pairs get rarer
    the surer a judge is; flipped ones do not. So what is labelled against the surest judgements bounds the share π of
    flipped labels:

        P(labelled as it is | s) = π + (1 − 2π) · σ(z(s)),   P(flipped | s) = π · σ(−z(s)) / P(labelled as it is | s)

    with the score s, which changes its sign with the order, and a rising z, both averaged over what the pool leaves
    possible (`hf_dsel.flipped_share`). Writes `gate_flipped` (float32) and `gate_flipped_status`; a pair with an answer
    missing, or with the same answer twice, gets null and the reason.

        flips = hf_dsel.FlippedLabels.fit(pairs)
        print(flips)                            # the share, with an interval, and how far it goes by length
        pairs = pairs.map(flips, batched=True)  # or: hf_dsel.score(pairs, hf_dsel.FlippedLabels()), which fits first

    What it cannot know: where most pairs are hard, as in UltraFeedback, flips look like them, and hardly a pair is more
    likely flipped than not. Near 40 % flips the same holds for easy pairs. Flips that are not random, such as those of
    an annotator who always prefers brevity, are learned as taste; if most labels are flipped, it finds the others. It
    prefers longer answers as far as the pool's labels do.

    Args:
        embedder: a sentence encoder, as a model or an `Embed`; None learns from text statistics alone.
        learn_from: at most so many pairs, drawn at random, are learned from.
        seed: of the draw.

    Raises:
        ValueError: an option outside its range; columns that hold no pairs.
        TooLittle: fewer than 300 different pairs.
        NotFitted: called on a batch before it has learned.
        hf_dsel.encoder_memory.OtherEncoder: loaded, and called with another embedder than it learned with.

    Source: ours; class-conditional noise, of which the surest examples bound the rate, as in Scott et al. 2013 and
        Northcutt et al. 2021 (arXiv 1911.00068).
    Differs: from theirs in that one class is the other one's mirror, so the rate is one number and the score is odd.

    >>> FlippedLabels(embedder=None).features()["gate_flipped"]
    Value('float32')
    """

    embedder: str | Embed | None = "sentence-transformers/all-MiniLM-L6-v2"
    _: KW_ONLY
    learn_from: int = 12_000
    seed: int = 0
    learned: LearnedOrder | None = field(default=None, init=False, repr=False)
    on_rows: Callable[[int], None] | None = field(default=None, repr=False)
    _recognised: bool = field(default=False, init=False, repr=False)  # the embedder is the one that it learned with

    def __post_init__(self) -> None:
        check_model("embedder", self.embedder, Embed)
        check_seed(self.seed)
        self.seed = int(self.seed)
        rule = f"it learns from at least {FEWEST} pairs"
        self.learn_from = whole("learn_from", self.learn_from, least=FEWEST, rule=rule)

    @classmethod
    def fit(cls, dataset: Dataset, **chosen: Any) -> Self:
        """One that has learned from a pool of pairs. Options as for `FlippedLabels`; `print` it to see what it found.

        Raises:
            TooLittle: fewer than 300 different pairs.
            TypeError: an unknown option.
        """
        return cls(**chosen).fitted(dataset)

    def fitted(self, dataset: Dataset) -> Self:
        """Itself if it has learned already, else one that has learned from this pool."""
        if self.learned is not None:
            return self
        need_trees()
        check_pool(dataset, type(self).__name__)
        self.check(dataset.column_names)
        at = np.arange(len(dataset))
        if len(dataset) > self.learn_from:
            at = np.sort(np.random.default_rng(self.seed).choice(len(dataset), self.learn_from, replace=False))
        names = text_columns(dataset.column_names)
        pairs = Pairs.of(dataset.with_format(None).select_columns(names).select(at)[:])
        different = pairs.different()
        if different < FEWEST:
            raise TooLittle(
                f"flipped labels are looked for in at least {FEWEST} different pairs, and here are {different:,} in "
                f"{drawn_from(len(at), len(dataset))}. Learn from a larger pool of the same kind, "
                f"flips = hf_dsel.FlippedLabels.fit(larger), and add the column: pairs.map(flips, batched=True)."
            )
        made = replace(self)
        by_prompt = len(set(pairs.prompts)) >= FEWEST
        learned = learn_order(pairs, self._vectors(pairs), by_prompt=by_prompt, say=say)
        made.learned = replace(learned, encoder=None if self._embed is None else EncoderMemory.of(self._embed))
        made._recognised = True
        say(str(made).splitlines()[0])
        return made

    def __str__(self) -> str:
        """The share of flipped labels that was found, and how well the chosen answer is foretold."""
        if self.learned is None:
            return f"FlippedLabels({self.embedder!r}), which has not learned yet"
        found, share = self.learned, self.learned.share
        unsure = "\nhard pairs alone may explain the labels too: that none is flipped is not ruled out"
        return (
            f"{share.share:.1%} of the labels look flipped (95 %: {share.low:.1%} to {share.high:.1%}); learned from "
            f"{len(found.scores):,} pairs\n"
            f"the chosen answer is foretold in {share.told:.1%} of the pairs (50 % is chance: then nothing is seen)\n"
            f"the longer answer is the chosen one in {found.longer:.1%} of the pairs, and the one that is foretold in "
            f"{found.prefers_longer:.1%}{unsure if share.low < NONE and share.high > 5 * NONE else ''}"
        )

    def features(self) -> dict[str, Value]:
        """The columns that it writes."""
        return {COLUMN: Value("float32"), f"{COLUMN}_status": Value("string")}

    def settings(self) -> dict[str, Any]:
        """Everything that the probabilities depend on, as JSON."""
        embedder = self._embed.settings() if self._embed is not None else None
        digest = None if self.learned is None else hashlib.sha256(to_bytes(self.learned.bare())).hexdigest()[:16]
        rest = {"learn_from": self.learn_from, "seed": self.seed, "learned": digest}
        return {"scorer": "FlippedLabels", "algorithm": ALGORITHM, "embedder": embedder, **rest}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None."""
        return self if other is self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        if detect(column_names) != "preference":
            raise ValueError(f"flipped labels need the columns chosen and rejected; these are {sorted(column_names)}")
        if self._embed is not None:
            self._embed.check(column_names)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """The new columns for a batch of rows, in order."""
        if self.learned is None:
            raise NotFitted(
                "it has not learned yet: flips = FlippedLabels.fit(pairs), then pairs.map(flips, batched=True)"
            )
        if not self._recognised and self.learned.encoder is not None and self._embed is not None:
            self.learned.encoder.check(self._embed, type(self).__name__)
        self._recognised = True
        pairs = Pairs.of(batch)
        n = len(pairs) + len(pairs.problems)
        values: list[float | None] = [None] * n
        if len(pairs):
            found = self.learned.share.of(self.learned.scores_of(pairs, self._vectors(pairs)))
            for i, value in zip(pairs.row, found, strict=True):
                values[i] = float(value)
        if self.on_rows is not None:
            self.on_rows(n)
        return {COLUMN: values, f"{COLUMN}_status": [pairs.problems.get(i, "ok") for i in range(n)]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learned to one safetensors file, with the options that belong to it."""
        if self.learned is None:
            raise NotFitted("there is nothing to save: it has not learned yet; FlippedLabels.fit(pairs).save(path)")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        embedder = None if self._embed is None else described(self._embed)
        kept = {"embedder": embedder, "learn_from": self.learn_from, "seed": self.seed}
        temporary.write_bytes(to_bytes(self.learned, **kept))
        temporary.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **chosen: Any) -> Self:
        """Read what was saved, to apply it to the same pairs or others.

        Args:
            path: the file.
            **chosen: another place of the same embedder: `embedder`. Another one is refused when it is used.

        Raises:
            FileNotFoundError, IsADirectoryError: no such file, or a folder.
            TypeError: an option of the learning, which is done.
            ValueError: the file is something else, or is cut off.
        """
        need_trees()
        check_loading("FlippedLabels", path, chosen, ("embedder", "on_rows"))
        learned, kept = from_bytes(saved(path, "FlippedLabels"), os.fspath(path))
        if kept["embedder"] is not None:
            kept["embedder"] = Embed(**kept["embedder"])
        made = cls(**{**kept, **chosen})
        made.learned = learned
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: value for name, value in self.__dict__.items() if name not in ("learned", "on_rows", "_recognised")
        }
        return {"algorithm": ALGORITHM, "options": state,
                "learned": None if self.learned is None else to_bytes(self.learned)}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        learned = None if state["learned"] is None else from_bytes(state["learned"], "pickled labels")[0]
        self.__dict__.update(state["options"], learned=learned, on_rows=None, _recognised=False)

    @property
    def _embed(self) -> Embed | None:
        return Embed(self.embedder) if isinstance(self.embedder, str) else self.embedder

    def _vectors(self, pairs: Pairs) -> Vectors | None:
        if self._embed is None:
            return None
        embed = replace(self._embed, of="instruction", side="chosen", column="v", on_rows=None)
        texts = sorted({t for side in (pairs.asked, pairs.chosen, pairs.rejected) for t in side if t.strip()})
        known: dict[str, Floats] = {}
        for start in range(0, len(texts), 2048):
            part = texts[start : start + 2048]
            found = zip(part, embed({"text": part})["v"], strict=True)
            known.update((text, np.asarray(vector, np.float32)) for text, vector in found if vector is not None)
        nothing = np.zeros(len(next(iter(known.values()))) if known else 1, np.float32)
        sides = (pairs.asked, pairs.chosen, pairs.rejected)
        return Vectors(*(np.stack([known.get(text, nothing) for text in side]) for side in sides))

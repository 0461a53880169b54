# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""MATES: a small model of what a training step on a row does to a reference loss chooses the rows of each round."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.budget import FloatArray
from hf_dsel.columns import read_column
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.scorers.embed import Embed
from hf_dsel.selection import Source
from hf_dsel.strategies import Strategy, vectors
from hf_dsel.strategies.random import Random
from hf_dsel.training import one_step_influence
from hf_dsel.training.influence_model import fit, held_out_spearman
from hf_dsel.training.influential_rows import InfluentialRows
from hf_dsel.training.reselectable import CannotReselect
from hf_dsel.training.reselector import Round

FEWEST = 20  # probe rows: four in each part of the cross-validation


@dataclass(frozen=True)
class Mates:
    """Each round draws the rows whose training step is predicted to lower the loss on a reference set the most.

        plan = Mates(held_out, probe=64, embedding="embedding")
        hf_dsel.Reselect(plan, k=1600, every=100).bind(trainer)

    Round 0 draws at random. Before each later round, with the model M as it is by then:

    1. `probe` random rows x of the pool are measured: effect(x) = L(M) − L(A(M, x)), with L the mean loss of the
       reference rows in nats a token and A one step of the trainer's optimiser on x alone, with its moments, its
       learning rate of the time and its clipping. Each step is taken back, so training goes on as if none had been.
    2. A ridge regression from the embedding to the effect is fitted to them.
    3. It predicts the effect of every row, and k rows are drawn without replacement, the next one each time with
       P(x) ∝ exp(effect(x) / (temperature · sd)), sd the standard deviation of the measured effects. With
       temperature 0 the k largest are taken.

    A round costs `probe` times a step on one row and a forward pass over the reference rows, shared out over the ranks;
    the numbers are said before, the time is logged (`reselect/probe_seconds`). The memory is that of a second copy of
    the trainable weights and of their optimiser state.

    Look at `reselect/influence_spearman`, the rank correlation of prediction and effect on probe rows that the
    regression was not fitted to: at 0 the rows are as good as random. A warning says so; a larger `probe`, an embedding
    of the whole example (`Embed(of="example")`) and more reference rows raise it. Under bfloat16 small effects drown in
    rounding. Also logged: `reselect/reference_loss`, `effect_mean`, `effect_sd`, `influence_penalty`, `probe_failed`;
    the checkpoints hold each measured row and its effect.

    Args:
        reference: rows like those that the model should get better at, in a format that hf_dsel reads.
        probe: rows to measure before a round, from 20 on.
        embedding: the pool's column of vectors; where there is none, `Embed(of="example")` makes it at `bind`. Rows
            without a vector are neither measured nor chosen.
        temperature: from 0 on.
        penalty: of the regression, above 0, times the mean squared distance of the vectors from their mean; None
            chooses it anew each round by the error of predicting each probe row from the others.

    Raises:
        ValueError, TypeError: an option outside its range; at `bind` too few rows with a vector, or a reference without
            a token to learn from.
        hf_dsel.training.reselectable.CannotReselect: at `bind`, a trainer whose step cannot be taken back: DPO, FSDP,
            DeepSpeed, tensor parallelism, fp16; or a training with one round, which would be random throughout.

    Source: MATES (Yu, Das and Xiong 2024, arXiv 2406.06046). The step on one row, with the optimiser's state, its rate
        of the time and clipping, is that of its code's `probe_oracle_data_influence.py`.
    Differs: the paper fine-tunes BERT on the text of 80,000 measured rows, here a regression on a given embedding. Its
        code takes the smallest of loss/T + Gumbel, which favours the best rows more than softmax does; here the draw is
        exact. Dropout is off in the step. A step on one row is the paper's; it ignores what rows do together.

    >>> rows = Dataset.from_dict({"text": ["1 + 1 = 2", "2 * 2 = 4"]})
    >>> Mates(rows, probe=5)
    Traceback (most recent call last):
    ValueError: probe=5; it is a whole number from 20 on
    """

    reference: Dataset = field(repr=False)
    _: KW_ONLY
    probe: int = 256
    embedding: str = "embedding"
    temperature: float = 1.0
    penalty: float | None = None
    reference_sha256: str = field(init=False, compare=False)  # in its repr, so that a resumed run has the same rows
    _batches: WeakKeyDictionary[Any, Any] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        if not isinstance(self.reference, Dataset):
            raise TypeError(f"reference is a Dataset, got {type(self.reference).__name__}; open_dataset reads files")
        if len(self.reference) == 0:
            raise ValueError("reference is empty; give rows like those that the model should get better at")
        check_options(self.probe, self.temperature, self.penalty)
        names = tuple(n for n in ("input_ids", "labels") if n in self.reference.column_names)
        object.__setattr__(self, "reference_sha256", Source.of(self.reference, names or None).sha256[:16])

    def needs(self) -> dict[str, Any]:
        """The embedding; of the whole example where the pool has none."""
        return {self.embedding: Embed(of="example", column=self.embedding)}

    def check(self, pool: Dataset) -> None:
        """Refuse, before the training, an embedding that holds no vectors, or too few.

        Raises:
            ValueError, TypeError: the pool has the column, and it will not do.
        """
        if self.embedding in pool.column_names:
            self._enough(pool, 1)

    def check_trainer(self, trainer: Any, pool: Dataset, *, k: int, rounds: int) -> None:
        """Refuse at `bind` what cannot be measured, and say what a round costs.

        Args:
            trainer: to be bound.
            pool: the rows that can be chosen, with the embedding.
            k: rows of a selection.
            rounds: of the whole training.

        Raises:
            CannotReselect, ValueError, TypeError: see the class.
        """
        one_step_influence.check(trainer)
        if rounds < 2:
            raise CannotReselect(
                "the first round of Mates is random and this training has no other; choose more often (every=, in "
                "steps), or train longer"
            )
        self._enough(pool, k)
        self._batches[trainer] = one_step_influence.reference_batches(trainer, self.reference)
        say(f"Mates: {self._cost()} before each of {count(rounds - 1, 'round')}")

    def _enough(self, pool: Dataset, k: int) -> None:
        column = read_column(pool, self.embedding)
        vectors({self.embedding: column.values}, self.embedding)
        there = int(column.valid.sum())
        for name, asked in (("probe", self.probe), ("k", k)):
            if asked > there:
                raise ValueError(
                    f"{name}={asked:,} is more than the {there:,} rows with a vector in {self.embedding!r}; lower it, "
                    "or embed the others"
                )

    def _cost(self) -> str:
        rows = count(len(self.reference), "reference row")
        return f"{self.probe:,} times a step on one row and a forward pass over {rows}"

    def __call__(self, now: Round) -> Strategy:
        """The strategy of a round."""
        if now.number == 0:
            return Random()
        column = read_column(now.pool, self.embedding)
        rng = np.random.default_rng([now.seed, now.number, self.probe])
        rows = rng.choice(np.flatnonzero(column.valid & (now.places >= 0)), self.probe, replace=False)
        last = [note["probe_seconds"] for note in now.earlier if "probe_seconds" in note]
        say(f"round {now.number}: {self._cost()}" + (f"; {last[-1]:.0f} s the last time" if last else ""))
        begun = time.perf_counter()
        effect, loss = self._effects(now, rows)
        seconds = time.perf_counter() - begun
        fine = np.isfinite(effect)
        now.note.update(
            reference_loss=loss, probe_seconds=seconds, probe_failed=int((~fine).sum()), probe_rows=rows.tolist(),
            effects=[float(e) if ok else None for e, ok in zip(effect, fine, strict=True)],
        )  # fmt: skip
        if fine.sum() < FEWEST or not np.isfinite(loss):
            _warn(
                f"round {now.number} is random: only {int(fine.sum())} of {self.probe} effects are finite numbers; "
                "lower the learning rate"
            )
            return Random()
        x, y = column.values[rows[fine]], effect[fine]
        model, agreement = fit(x, y, self.penalty), held_out_spearman(x, y, self.penalty, rng)
        now.note.update(
            influence_spearman=agreement, influence_penalty=model.penalty, effect_mean=float(y.mean()),
            effect_sd=float(y.std()),
        )  # fmt: skip
        if agreement <= 1 / np.sqrt(len(y)):  # a standard error
            _warn(
                f"round {now.number}: the influence model does not predict (Spearman {agreement:.2f} on held-out probe "
                f"rows), so its rows are as good as random; raise probe={self.probe}, or embed the whole example"
            )
        return InfluentialRows(self.embedding, model, self.temperature * float(y.std()))

    def _effects(self, now: Round, rows: npt.NDArray[np.int64]) -> tuple[FloatArray, float]:
        """The measured effect of some rows of the pool, and the reference loss; each rank measures a part."""
        batches = self._batches[now.trainer]

        def measure(model: Any, tokenizer: Any, share: Dataset) -> Mapping[str, Any]:
            places = np.asarray(share["place"][:], np.int64)
            return one_step_influence.one_step_effects(now.trainer, places, batches)

        found = now.measure(measure, Dataset.from_dict({"place": now.places[rows]}))
        return np.asarray(found["effect"][:], np.float64), float(found["reference_loss"][0])


def check_options(probe: Any, temperature: Any, penalty: Any) -> None:
    """Refuse options of `Mates` that no reference could make right.

    Raises:
        ValueError: an option outside its range.
    """
    if isinstance(probe, bool) or not isinstance(probe, int) or probe < FEWEST:
        raise ValueError(f"probe={probe!r}; it is a whole number from {FEWEST} on")
    if not _number(temperature) or not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature={temperature!r}; it is a number from 0 on")
    if penalty is not None and (not _number(penalty) or not 0 < penalty < float("inf")):
        raise ValueError(f"penalty={penalty!r}; it is a number above 0, or None to choose it each round")


def _warn(text: str) -> None:
    if is_main_process():
        warnings.warn(text, stacklevel=4)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Choosing again while training: a callback for TRL's SFTTrainer and DPOTrainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Self

from datasets import Dataset

from hf_dsel.scorers.options import check_choice
from hf_dsel.selection import Selection
from hf_dsel.strategies import Strategy, make_strategy
from hf_dsel.training.live_scores import Score, live_scorer
from hf_dsel.training.reselector import Reselector, Round, is_plan


@dataclass
class Reselect:
    """Trains on k rows that are chosen again before each round, with the model as it is by then.

        reselect = hf_dsel.Reselect("top_k", k=6000, score="ifd", params={"column": "ifd", "ceiling": 1}).bind(trainer)
        trainer.train()

    The trainer gets the whole pool as its training set. Before a round the pool is scored by the model in training, in
    memory, in evaluation mode and without gradients; the strategy picks k rows; the round draws from them and from no
    other row. A round is an epoch of the trainer: its k rows once, or with `every=100` as many draws as 100 steps take.
    So `num_train_epochs` counts rounds and steps an epoch are those of k rows, whatever the size of the pool; with
    `every=100`, `max_steps` says when to stop, and what the trainer does "each epoch" it does each 100 steps.

    A strategy whose rule runs dry may give fewer than k rows, with a warning; a round then goes over them again until
    it has made its draws. The seed of round r is `seed + r`, so `random` draws anew; `selections[r]` can be replayed.

    Each selection is written to `output_dir/selections/round-0000.json` when it is made, and with the state of the
    rounds into every checkpoint. A run that was killed and resumed draws the rows that it would have drawn, with
    workers, gradient accumulation and on several ranks, where all train on the same selection. A checkpoint of another
    pool, other options or another number of steps a round is refused. With FSDP or DeepSpeed `score=` is refused; the
    rest was not tried with them.

    The trainer's logs get `reselect/round`, `reselect/rows`, `reselect/new` (the part that the round before did not
    have), `reselect/seconds`, and for each column of numbers that the strategy read its mean among the picks and in
    the pool.

    | | |
    |---|---|
    | IterIT: IFD again each epoch, times words that no pick has | `Reselect("iterit", k, score="ifd", narrow=3)` |
    | the rows of largest IFD by then | `Reselect(TopK(column="ifd", ceiling=1), k, score="ifd", narrow=3)` |
    | the rows that are hardest for the model by then | `Reselect(TopK(column="nll"), k, score="nll")` |
    | random, the control | `Reselect("random", k)` |
    | easy to hard, once, no model | `Reselect(TopK(column="length", largest=False), k, every="once", order="picks")` |
    | easy to hard, in rounds | `Reselect(Pacing("ifd"), k, score="ifd")` of `hf_dsel.training.pacing` |
    | Skill-it | `Reselect(SkillIt(...), k)` of `hf_dsel.training.skill_it` |
    | MATES: what is predicted to lower a reference loss | `Reselect(Mates(...), k)` of `hf_dsel.training.mates` |

    Args:
        strategy: a name or an instance, as in `select_by`; or a plan, a callable that takes a
            `hf_dsel.training.reselector.Round` and returns a strategy for it.
        k: rows of a selection.
        every: "epoch"; a number of steps; or "once", before the training.
        score: what the model in training says: columns of `CausalLM` ("ifd", "nll", ...), or a callable
            (model, tokenizer, dataset) → columns, called on each rank with its share of the rows. None: the strategy
            reads the pool's own columns, and misses none that have a default scorer; those are computed at `bind`.
        narrow: score all rows only in the first round, and from then on only its first narrow x k picks, to choose
            among them (IterIT: 3).
        order: within a round, "random", or "picks": the strategy's order.
        params: the options of a strategy that is given by name.
        seed: of all random choices.

    Raises:
        ValueError, TypeError: an option outside its range, or what the strategy refuses.

    Source: IterIT (arXiv 2412.17365) for `Reselect("iterit", k, score="ifd", narrow=3)`.
    Differs: with `narrow` the first round, too, chooses among its first narrow x k picks (IterIT: among all rows). They
        are the candidates for good, in its code too; but there these are the first k picks, then the rows of IFD 1 or
        more, then the largest IFD. Scores are not rounded to bfloat16.

    >>> from hf_dsel.strategies.top_k import TopK
    >>> Reselect(TopK(column="ifd", ceiling=1), k=0)
    Traceback (most recent call last):
    ValueError: k=0; it is a whole number from 1 on
    """

    strategy: str | Strategy | Callable[[Round], str | Strategy]
    k: int
    _: KW_ONLY
    every: Literal["epoch", "once"] | int = "epoch"
    score: Score | None = None
    narrow: float | None = None
    order: Literal["random", "picks"] = "random"
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 42
    _reselector: Reselector | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_plan(self.strategy):
            self.strategy = make_strategy(self.strategy, self.params)  # type: ignore[arg-type]
        elif self.params:
            raise TypeError("params are the options of a strategy that is given by name; a plan has its own")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"k={self.k!r}; it is a whole number from 1 on")
        if isinstance(self.every, bool) or not (isinstance(self.every, int) and self.every >= 1):
            if self.every not in ("epoch", "once"):
                raise ValueError(f"every={self.every!r}; it is 'epoch', 'once' or a number of steps from 1 on")
        check_choice("order", self.order, ("random", "picks"))
        if self.score is not None and not callable(self.score):
            live_scorer(self.score)
        if self.narrow is not None:
            if self.score is None:
                raise ValueError(f"narrow={self.narrow} says which rows are scored again; give score= too")
            if not isinstance(self.narrow, int | float) or self.narrow < 1:
                raise ValueError(f"narrow={self.narrow!r}; it is a number from 1 on: times k rows are scored again")

    def bind(self, trainer: Any, pool: Dataset | None = None) -> Self:
        """Choose what this trainer trains on.

        Args:
            trainer: a `trl.SFTTrainer` or `trl.DPOTrainer` whose training set is the whole pool.
            pool: the dataset that the trainer was given, with the columns that the strategy reads and the text that is
                scored. The selections are row numbers of it. None: the trainer's own prepared copy, which has the same
                columns; row numbers are then those of `trainer.train_dataset`.

        Raises:
            hf_dsel.training.reselectable.CannotReselect: what the trainer does rules it out; with the next step.
            hf_dsel.training.row_numbers.OtherRows: another pool.
            BudgetError, MissingColumn: more rows than the pool has; a column that nothing makes.
            ValueError: this object or the trainer is bound already.
        """
        if self._reselector is not None:
            raise ValueError("bound already; make a Reselect for each trainer")
        if getattr(trainer, "_hf_dsel_reselect", None) is not None:
            raise ValueError("this trainer has a Reselect already; make a new trainer, or use that one")
        reselector = Reselector(
            trainer,
            pool,
            strategy=self.strategy,
            k=self.k,
            every=self.every,
            score=self.score,
            narrow=self.narrow,
            order=self.order,
            seed=self.seed,
        )
        reselector.attach()
        trainer._hf_dsel_reselect = self
        self._reselector = reselector
        return self

    @property
    def selections(self) -> dict[int, Selection]:
        """Round → what was chosen for it, as far as this process made or resumed it."""
        return {} if self._reselector is None else dict(self._reselector.selections)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Skill-it: a mixture over skills or sources that follows the validation losses of the model in training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from os import PathLike
from typing import Any

from datasets import Dataset

from hf_dsel.rows import text_columns
from hf_dsel.strategies.mixture import Mixture, as_text
from hf_dsel.training.learned_graph import LearnedGraph
from hf_dsel.training.live_scores import Score, live_scorer
from hf_dsel.training.reselector import Round

Graph = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class SkillIt:
    """Each round draws from the skills in shares that rise with the losses of what they teach.

        plan = SkillIt("skill", held_out, graph={"add": {"add": 1, "multiply": 0.5}, "multiply": {"multiply": 1}})
        hf_dsel.Reselect(plan, k=1600, every=100).bind(trainer)

    With the graph A (A_ij: how far rows of skill i teach skill j) and the losses L_j(t) before round t of the held-out
    rows of skill j, nats a token, each row's mean and then the mean of the rows:

        p_i(0) ∝ exp(η · Σ_j A_ij)
        p_i(t) ∝ exp(η · Σ_{τ = t−w+1 .. t} Σ_j A_ij · L_j(τ)),  τ ≥ 1

    The losses and shares of each round go to the trainer's logs (`reselect/losses/add`, `reselect/weights/add`) and
    into its checkpoints. Within a skill rows are drawn at random (`hf_dsel.strategies.mixture`).

    Args:
        column: of the pool and of the held-out rows: the skill, a source, a cluster.
        held_out: rows of each skill to be learned, in a format that hf_dsel reads. They are scored anew each round.
        graph: A, skill of the pool → skill of the held-out rows → weight. A pair that is left out has 0, a skill that
            is left out is not drawn. Or the file that `hf-dsel dynamics graph` wrote, or the edges that
            `hf_dsel.training.skill_graph.learn_graph` found. None: each skill of `held_out` teaches itself alone, with
            1.
        eta: η.
        window: w, the rounds whose losses count.

    Raises:
        ValueError: an option outside its range; a skill in the graph without held-out rows; a file that is no graph.

    Source: Skill-it (arXiv 2307.14430), Algorithm 1.
    Differs: the authors' code turns edges of 1 off the diagonal into 0.5, here they stay as given. Learned edges are
        nats and often small; a larger η makes up for it (the paper: 0.1 to 0.8, and 100 on RedPajama).

    >>> rows = Dataset.from_dict({"text": ["1 + 1 = 2", "2 * 2 = 4"], "skill": ["add", "multiply"]})
    >>> plan = SkillIt("skill", rows, graph={"add": {"add": 1, "multiply": 1}, "multiply": {"multiply": 1}}, eta=0.5)
    >>> {skill: round(share, 3) for skill, share in plan.shares([]).items()}
    {'add': 0.622, 'multiply': 0.378}
    """

    column: str
    held_out: Dataset = field(repr=False)
    _: KW_ONLY
    graph: Graph | str | PathLike[str] | None = None
    eta: float = 0.5
    window: int = 3

    def __post_init__(self) -> None:
        if self.column not in self.held_out.column_names:
            raise ValueError(f"held_out has no column {self.column!r}; it has {self.held_out.column_names}")
        check_options(self.eta, self.window, self.graph)
        if isinstance(self.graph, str | PathLike):
            object.__setattr__(self, "graph", LearnedGraph.load(self.graph).edges)
        there = self._held_out_skills()
        foreign = sorted({j for taught in self.edges.values() for j in taught} - set(there))
        if foreign:
            raise ValueError(f"graph: held_out has no row of the skill {foreign[0]!r}; it has {there}")

    def _held_out_skills(self) -> list[str]:
        return sorted({skill_name(skill) for skill in self.held_out[self.column][:] if skill is not None})

    def needs(self) -> dict[str, None]:
        """The skill."""
        return {self.column: None}

    def check(self, pool: Dataset) -> None:
        """Refuse at `bind` held-out rows that cannot be scored, and skills that no row of the pool has.

        Raises:
            ValueError: the held-out rows have no answer to score, or the graph names a skill that no row has.
        """
        live_scorer("nll").check(text_columns(self.held_out.column_names))
        if self.column not in pool.column_names:
            return
        there = {skill_name(skill) for skill in pool.unique(self.column)}
        foreign = sorted({str(i) for i in self.edges} - there)
        if foreign:
            raise ValueError(f"no row of the pool has the skill {foreign[0]!r}; it has {sorted(there)}. Leave it out "
                             "of the graph, or give a graph of the pool's skills")  # fmt: skip

    @property
    def edges(self) -> Graph:
        """A."""
        if isinstance(self.graph, Mapping) and self.graph:
            return self.graph
        return {skill: {skill: 1.0} for skill in self._held_out_skills()}

    def shares(self, losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The share of each skill of the pool.

        Args:
            losses: skill → loss before rounds 1 to t; empty before round 0.
        """
        recent = losses[-self.window :] or [defaultdict(lambda: 1.0)]
        power = {
            i: self.eta * sum(a * found[j] for found in recent for j, a in taught.items())  # Algorithm 1
            for i, taught in self.edges.items()
        }
        top = max(power.values())
        weights = {i: math.exp(p - top) for i, p in power.items()}
        return {i: w / sum(weights.values()) for i, w in weights.items()}

    def losses(self, now: Round) -> dict[str, float]:
        """The mean loss of the held-out rows of each skill by the model as it is now, nats a token."""
        return mean_losses(
            self.held_out, self.column, now.measure, {j for taught in self.edges.values() for j in taught}
        )

    def __call__(self, now: Round) -> Mixture:
        """The strategy of a round."""
        earlier = [note["losses"] for note in now.earlier if "losses" in note]
        if now.number > 0:
            earlier.append(self.losses(now))
            now.note["losses"] = earlier[-1]
        now.note["weights"] = self.shares(earlier)
        return Mixture(column=self.column, weights=now.note["weights"])


def mean_losses(
    held_out: Dataset, column: str, measure: Callable[[Score, Dataset], Dataset], wanted: Collection[str] | None = None
) -> dict[str, float]:
    """The mean loss of the rows of each skill, nats a token.

    Args:
        held_out: the rows.
        column: their skill; rows where it is null are left out.
        measure: (columns of `CausalLM`, rows) → these columns.
        wanted: the skills that must have a loss; None: all.

    Raises:
        ValueError: a wanted skill of which no row can be scored.
    """
    rows = held_out.select_columns(text_columns(held_out.column_names))
    of_skill: dict[str, list[float]] = {skill_name(s): [] for s in held_out[column][:] if s is not None}
    for skill, loss in zip(held_out[column][:], measure("nll", rows)["nll"][:], strict=True):
        if loss is not None and skill is not None:
            of_skill[skill_name(skill)].append(loss)
    silent = sorted(j for j in of_skill if not of_skill[j] and (wanted is None or j in wanted))
    if silent:
        raise ValueError(f"no held-out row of the skill {silent[0]!r} can be scored: its answers are empty or long")
    return {j: sum(losses) / len(losses) for j, losses in sorted(of_skill.items()) if losses}


def check_options(eta: Any, window: Any, graph: Any) -> None:
    """Refuse options of `SkillIt` that no held-out rows could make right.

    Raises:
        ValueError: an option outside its range; a graph that is not skill → skill → weight.
    """
    number = isinstance(eta, int | float) and not isinstance(eta, bool) and 0 < eta < math.inf
    if not number or isinstance(window, bool) or not (isinstance(window, int) and window >= 1):
        raise ValueError(f"eta={eta!r}, window={window!r}; eta is above 0, window a whole number from 1 on")
    if isinstance(graph, str | PathLike):
        graph = LearnedGraph.load(graph).edges
    rows = graph.values() if isinstance(graph, Mapping) else [graph] if graph is not None else []
    for taught in rows:
        if not isinstance(taught, Mapping) or not all(isinstance(a, int | float) for a in taught.values()):
            raise ValueError(f"graph: skill → skill → weight, such as {{'add': {{'multiply': 0.5}}}}; got {taught!r}")


def skill_name(skill: object) -> str:
    """A skill's name as the strategy `mixture` reads it out of a column: truth values and numbers are numbers there."""
    return as_text(float(skill) if isinstance(skill, bool | int | float) else skill)

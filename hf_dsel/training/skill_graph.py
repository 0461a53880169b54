# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The skills graph of Skill-it, learned by short trainings on one skill, or two, at a time."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.progress import count, say
from hf_dsel.selection import Source
from hf_dsel.training.learned_graph import LearnedGraph, LossOf, write_json
from hf_dsel.training.live_scores import measured
from hf_dsel.training.skill_it import mean_losses, skill_name

Run = tuple[str, ...]  # the skills that a model is trained on
SAME = 0.01  # how far the losses of two fresh models may lie apart


class OtherGraph(ValueError):
    """A folder holds runs on other rows or with other settings; or the trainers start from different models."""


def learn_graph(
    make_trainer: Callable[[Dataset], Any],
    rows: Dataset,
    held_out: Dataset,
    column: str,
    *,
    folder: str | os.PathLike[str],
    pairs: bool = False,
    relative: bool = False,
    settings: Any = None,
    seed: int = 42,
) -> LearnedGraph:
    """How far a short training on each skill lowers the held-out loss of each, by one fresh model a skill.

        graph = learn_graph(make_trainer, pool, held_out, "skill", folder="graph")
        hf_dsel.Reselect(SkillIt("skill", held_out, graph=graph.edges), k=1600, every=100).bind(trainer, pool)

    Losses are those of `SkillIt`: each held-out row's mean over its response tokens, then the mean over the rows of a
    skill. The formula of the edges is in `LearnedGraph`. A run's losses are stored in `folder` when it is finished, and
    it is not trained again.

    Args:
        make_trainer: rows → an `SFTTrainer` on them, fresh each time: the same model, `max_steps` the H of the paper
            (100 to 600 there). It gets rows of `rows`, with all their columns; `hf_dsel.to_trl` is up to it.
        rows, held_out: with the column of skills. Rows where it is null are left out. The held-out skills may be others
            than those trained on, unless `pairs`.
        column: the skill, a source, a cluster.
        folder: for the finished runs.
        pairs: train on every two skills together as well, k(k+1)/2 runs for k skills (Algorithm 2: does i help
            where j is trained on anyway?). False: k runs (Algorithm 3: does i alone lower j?).
        relative: edges as parts of the loss instead of nats.
        settings: whatever else the losses depend on, as JSON. A folder of other settings is refused.
        seed: set before each trainer is made; it also draws the rows of pairs.

    Raises:
        OtherGraph: the folder holds runs on other rows or with other settings, or two trainers started differently.
        ValueError: a missing column, fewer than two skills, a skill whose held-out rows cannot be scored.

    Source: Skill-it (arXiv 2307.14430), Algorithms 2 and 3, Appendix B.2 and C.2.
    Differs: a pair is trained on as many rows of each, those of the smaller skill; the paper says "balanced mixture".
        With k skills the runs are k or k(k+1)/2, since f_ij is f_ji.
    """
    runs = SkillRuns.of(rows, held_out, column, Path(folder), pairs=pairs, seed=seed, settings=settings)

    def trained(some: Dataset) -> tuple[LossOf, LossOf]:
        from transformers import set_seed

        set_seed(seed)
        trainer = make_trainer(some)
        before = losses(trainer, held_out, column)
        trainer.train()
        after = losses(trainer, held_out, column)
        del trainer
        gc.collect()
        return before, after

    return runs.graph(trained, relative=relative)


def losses(trainer: Any, held_out: Dataset, column: str) -> LossOf:
    """The mean loss of each held-out skill by the trainer's model as it is now, nats a token."""
    return mean_losses(held_out, column, partial(measured, trainer))


@dataclass(frozen=True, kw_only=True)
class SkillRuns:
    """Which trainings a graph takes, and those that are finished.

    Args:
        rows: to train on.
        members: skill → its row numbers.
        taught: the skills of the held-out rows.
        runs: what is trained on, in order.
        folder: a file for each finished run.
        identity: everything that the losses depend on, hashed.
        seed: for the rows of pairs.
    """

    rows: Dataset
    members: dict[str, np.ndarray]
    taught: list[str]
    runs: list[Run]
    folder: Path
    identity: str
    seed: int

    @classmethod
    def of(
        cls, rows: Dataset, held_out: Dataset, column: str, folder: Path, *, pairs: bool, seed: int, settings: Any
    ) -> SkillRuns:
        """The runs for these rows.

        Raises:
            OtherGraph, ValueError: as `learn_graph`.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("the models are trained one after the other in one process; start it without torchrun")
        names = {}
        for what, dataset in (("rows", rows), ("held_out", held_out)):
            if column not in dataset.column_names:
                raise ValueError(f"{what}: no column {column!r}; there are {dataset.column_names}")
            names[what] = [None if s is None else skill_name(s) for s in dataset.with_format(None)[column][:]]
        taught = sorted({s for s in names["held_out"] if s is not None})
        skills = sorted({s for s in names["rows"] if s is not None})
        if len(skills) < 2 or not taught:
            raise ValueError(
                f"{column!r} has {len(skills)} skills to train on and {len(taught)} held out; a graph needs 2 and 1"
            )
        foreign = sorted(set(taught) - set(skills))
        if pairs and foreign:
            raise ValueError(f"pairs: no row has the held-out skill {foreign[0]!r}, so it cannot be trained on; leave "
                             "pairs out")  # fmt: skip
        members = {s: np.flatnonzero([name == s for name in names["rows"]]) for s in skills}
        sources = [asdict(Source.of(dataset)) for dataset in (rows, held_out)]
        known = json.dumps([sources, names, seed, settings], sort_keys=True, default=str)
        identity = hashlib.sha256(known.encode()).hexdigest()
        runs: list[Run] = [(s,) for s in skills]
        runs += combinations(skills, 2) if pairs else []
        made = cls(rows=rows, members=members, taught=taught, runs=runs, folder=folder, identity=identity, seed=seed)
        for run in made.finished:
            made.read(run)
        return made

    @property
    def finished(self) -> list[Run]:
        """The runs that are stored."""
        return [run for run in self.runs if self.file(run).exists()]

    def file(self, run: Run) -> Path:
        """Where a run is stored: the number of each of its skills."""
        skills = list(self.members)
        return self.folder / f"{'+'.join(f'{skills.index(s):04d}' for s in run)}.json"

    def rows_of(self, run: Run) -> Dataset:
        """What a run is trained on: a skill's rows, or as many of each of two skills, drawn at random."""
        if len(run) == 1:
            return self.rows.select(self.members[run[0]])
        size = min(len(self.members[s]) for s in run)
        rng = np.random.default_rng([self.seed, *(list(self.members).index(s) for s in run)])
        drawn = [rng.choice(self.members[s], size, replace=False) for s in run]
        return self.rows.select(np.sort(np.concatenate(drawn)))

    def read(self, run: Run) -> dict[str, Any]:
        """A finished run."""
        found: dict[str, Any] = json.loads(self.file(run).read_text(encoding="utf-8"))
        if found["identity"] != self.identity:
            raise OtherGraph(f"{self.file(run)} is a run on other rows, or with another seed or other settings of the "
                             "training; give another folder, or the rows and options of that run")  # fmt: skip
        return found

    def graph(self, trained: Callable[[Dataset], tuple[LossOf, LossOf]], *, relative: bool) -> LearnedGraph:
        """Train what is not finished; then the edges.

        Args:
            trained: rows → the losses of a fresh model, before and after its training on them.
            relative: as in `LearnedGraph`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        known: list[LossOf] = [self.read(run)["before"] for run in self.finished[:1]]
        for number, run in enumerate(self.runs, start=1):
            if self.file(run).exists():
                continue
            some = self.rows_of(run)
            say(f"run {number} of {len(self.runs)}: {count(len(some), 'row')} of {' and '.join(run)}")
            before, after = trained(some)
            for j, loss in before.items():
                if known and not abs(loss - known[0][j]) <= SAME * abs(known[0][j]):
                    raise OtherGraph(
                        f"the model of this run starts with a loss of {loss:.4f} on {j!r}, that of an earlier run with "
                        f"{known[0][j]:.4f}; each trainer must start from the same model, loaded anew"
                    )
            known = known or [before]
            write_json(self.file(run), {"identity": self.identity, "skills": run, "before": before, "after": after})
        after_of = {run: self.read(run)["after"] for run in self.runs}
        together: dict[str, LossOf] = {}
        for run, after in after_of.items():
            if len(run) == 2:
                for i, j in (run, run[::-1]):
                    if j in self.taught:
                        together.setdefault(i, {})[j] = after[j]
        return LearnedGraph(
            before=known[0],
            alone={s: after_of[(s,)] for s in self.members},
            together=together,
            relative=relative,
        )

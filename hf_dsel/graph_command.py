# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""`hf-dsel dynamics graph`: which skill teaches which, from short trainings on each."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from hf_dsel.progress import count, say
from hf_dsel.reporting import show
from hf_dsel.selection_block import BadConfig

HELP = """Train as hf-dsel sft would, on the rows of one skill at a time and for a few steps, and see how far the loss
on held-out rows of every skill falls: the skills graph of Skill-it. One training a skill; with --pairs one for every
two skills as well. A small model can stand for a large one.

  hf-dsel dynamics graph --config sft.yaml --column skill --held-out held_out.parquet --steps 100 --out graph.json

Then reselect: {skill_it: {column: skill, held_out: held_out.parquet, graph: graph.json}, ...} trains by it. The same
file does for both: its selection: and reselect: blocks are not applied here. A killed run goes on with the skill that
it was at. Finished runs lie in OUT.runs; other edges (--pairs, --relative) are made from them.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise BadConfig(message)


def graph(arguments: list[str]) -> int | Callable[[], None]:
    """`hf-dsel dynamics graph`; the training is returned, to be called next."""
    parser = _Parser(prog="hf-dsel dynamics graph", description=HELP, allow_abbrev=False,
                     usage="hf-dsel dynamics graph --config FILE --column NAME --out FILE [options] [--trl_key VALUE]",
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--column", metavar="NAME", help="the skill of a row: a task, a source, a cluster")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the graph, as JSON")
    parser.add_argument("--held-out", metavar="DATASET", help="rows with the same column to measure the losses on "
                        "(default: those that the file evaluates on, if any)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=100, help="of each training (default: 100)")
    parser.add_argument("--pairs", action="store_true", help="train on every two skills too: an edge says that one "
                        "helps where the other is trained on anyway")  # fmt: skip
    parser.add_argument("--relative", action="store_true", help="edges as parts of the loss (default: nats a token)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT (default: refuse)")
    if not arguments:
        parser.print_help()
        return 2
    try:
        options, rest = parser.parse_known_args(arguments)
    except SystemExit:  # --help
        return 0
    return _prepared(options, rest)


def _prepared(options: argparse.Namespace, rest: list[str]) -> Callable[[], None]:
    from hf_dsel.opening import open_dataset
    from hf_dsel.training import experiment as sft
    from hf_dsel.training.skill_graph import SkillRuns
    from hf_dsel.training.subset_models import NOT_SETTINGS

    for name, example in (("column", "skill"), ("out", "graph.json")):
        if getattr(options, name) is None:
            raise BadConfig(f"--{name} is missing, for example --{name} {example}")
    if options.steps < 1:
        raise BadConfig(f"--steps {options.steps} must be 1 or more")
    out = options.out.expanduser()
    if out.exists() and not options.overwrite:
        raise BadConfig(f"{out} is there already; add --overwrite to replace it, or give another --out")
    folder = out.with_name(f"{out.name}.runs")
    models = folder / "model"
    # A reselect: block may name the graph that is about to be made; another strategy leaves it behind.
    flags = ["--dynamics.map", "false", "--reselect.strategy", "random", "--reselect.k", "1"]
    flags += ["--max_steps", str(options.steps), "--output_dir", str(models)]

    def fresh() -> Any:
        found = replace(sft.parsed("sft", [*rest, *flags]), block=None, reselect=None, dynamics=None)
        for name in ("push_to_hub", "resume_from_checkpoint"):
            if getattr(found.training, name):
                raise BadConfig(f"{name} is for one model, and this trains several; leave it out")
        return found

    experiment = fresh()
    rows, held_out = sft.opened(experiment)
    held_out = held_out if options.held_out is None else open_dataset(options.held_out)
    if held_out is None:
        raise BadConfig("which rows to measure the losses on? Give --held-out DATASET, rows of each skill")
    settings = {k: v for k, v in experiment.training.to_dict().items() if k not in NOT_SETTINGS}
    runs = SkillRuns.of(rows, held_out, options.column, folder, pairs=options.pairs, seed=experiment.training.seed,
                        settings=[settings, dataclasses.asdict(experiment.model)])  # fmt: skip
    say(f"{count(len(runs.members), 'skill')} of {count(len(rows), 'row')}: {count(len(runs.runs), 'training')} of "
        f"{options.steps} steps; {len(runs.finished)} finished already")  # fmt: skip

    def run() -> None:
        def trained(some: Any) -> tuple[dict[str, float], dict[str, float]]:
            measuring = _Measuring(held_out, options.column)
            ready: Any = replace(fresh(), dynamics=measuring, rows=some)
            ready.training.eval_strategy = "no"
            sft.train(ready, sft.for_trl(some), None)
            shutil.rmtree(models, ignore_errors=True)
            gc.collect()
            return measuring.before, measuring.after

        found = runs.graph(trained, relative=options.relative)
        found.save(out)
        show(f"{found}\n{out}: name it as graph: in the skill_it: block of reselect:\n")

    return run


class _Measuring:
    """In the place of a dynamics block: measures the held-out losses before and after a training."""

    def __init__(self, held_out: Any, column: str) -> None:
        self.held_out, self.column = held_out, column
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def make(self) -> _Measuring:
        """Itself."""
        return self

    def bind(self, trainer: Any) -> Any:
        """Measure the model as it is loaded."""
        from hf_dsel.training.skill_graph import losses

        self.before = losses(trainer, self.held_out, self.column)
        return trainer

    def write(self, trainer: Any, rows: Any, output_dir: str) -> list[str]:
        """Measure the model as it is trained."""
        from hf_dsel.training.skill_graph import losses

        self.after = losses(trainer, self.held_out, self.column)
        return []

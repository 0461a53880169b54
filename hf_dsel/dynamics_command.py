# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""`hf-dsel dynamics subsets`: memorisation and influence of every row, from models of random subsets."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hf_dsel.graph_command import graph
from hf_dsel.progress import count, say
from hf_dsel.reporting import show
from hf_dsel.scorer_specs import nearest
from hf_dsel.selection_block import BadConfig

HELP = """Train N models as hf-dsel sft would, each on a random part of the rows, and measure every row with each.
A row's memorization is how much higher the mean probability of its response tokens is with models that were trained on
it than with the others; its influence is the same difference on held-out rows. N trainings: start with a small model.

  hf-dsel dynamics subsets --config sft.yaml --n 8 --fraction 0.7 --out memorized
  hf-dsel dynamics subsets --config sft.yaml --n 8 --held-out test.parquet --out memorized --max_steps 100

OUT/train.parquet is the dataset with memorization and memorization_se, and influence with held-out rows, whose most
influential rows are in OUT/held_out/train.parquet. A killed run goes on with the model that it was at; a larger N adds
models. Standard errors are wide with few models: a difference of two means of N · FRACTION and N · (1 − FRACTION).
"""
ALSO = "Which skill teaches which, for Skill-it: hf-dsel dynamics graph --help\n"
OF_POOL = ("memorization", "influence")
OF_TESTS = ("influential_rows", "influential_by", "influential_se")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise BadConfig(message)


def dynamics(arguments: list[str]) -> int | Callable[[], None]:
    """`hf-dsel dynamics VERB`; the training is returned, to be called next."""
    if not arguments or arguments[0] in ("-h", "--help"):
        show(f"usage: hf-dsel dynamics subsets --config FILE --out DIR [options]\n\n{HELP}\n{ALSO}")
        return 0 if arguments else 2
    if arguments[0] == "graph":
        return graph(arguments[1:])
    if arguments[0] != "subsets":
        raise BadConfig(f"no verb {arguments[0]!r}; {nearest(arguments[0], ['subsets', 'graph'])}Verbs: subsets, graph")
    from hf_dsel.training.subset_models import MEASURES

    parser = _Parser(prog="hf-dsel dynamics subsets", description=HELP, allow_abbrev=False,
                     usage="hf-dsel dynamics subsets --config FILE --out DIR [options] [--trl_key VALUE]",
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--n", type=int, default=8, help="models (default: 8)")
    parser.add_argument("--fraction", type=float, default=0.7, metavar="PART", help="of the rows that each is trained "
                        "on (default: 0.7)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the result, and of the models' numbers")
    parser.add_argument("--held-out", metavar="DATASET", help="rows to find the most influential ones for (default: "
                        "those that the file evaluates on, if any)")  # fmt: skip
    parser.add_argument("--measure", choices=MEASURES, default="probability", help="of the response tokens (default: "
                        "probability)")  # fmt: skip
    parser.add_argument("--top", type=int, default=10, metavar="ROWS", help="influential rows to name for each "
                        "held-out row (default: 10)")  # fmt: skip
    parser.add_argument("--keep-models", action="store_true", help="leave each model's weights in OUT/subsets")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT/train.parquet (default: refuse)")
    options, rest = parser.parse_known_args(arguments[1:])
    return _prepared(options, rest)


def _prepared(options: argparse.Namespace, rest: list[str]) -> Callable[[], None]:
    from hf_dsel.training.subset_models import HELD_OUT, SubsetModels, with_columns

    if options.out is None:
        raise BadConfig("which folder to write to? Give --out DIR")
    if options.top < 1:
        raise BadConfig(f"--top {options.top} must be 1 or more")
    out = options.out.expanduser()
    target, of_tests = out / "train.parquet", out / HELD_OUT / "train.parquet"
    if target.exists() and not options.overwrite:
        raise BadConfig(f"{target} is there already; add --overwrite to replace it, or give another --out")
    models = SubsetModels(arguments=rest, n=options.n, fraction=options.fraction, out=out, held_out=options.held_out,
                          keep_models=options.keep_models)  # fmt: skip
    wanted = [(models.pool, [f"{n}{end}" for n in OF_POOL for end in ("", "_status", "_se", "_se_status")])]
    if models.tests is not None:
        wanted.append((models.tests, list(OF_TESTS)))
    for dataset, names in wanted:
        there = [name for name in names if name in dataset.column_names]
        if there:
            raise BadConfig(f"the dataset already has the column {there[0]!r}; drop it, or rename it")
    done = len(models.finished)
    say(f"{models.n} models, each on {models.size:,} of {count(len(models.pool), 'row')}; {done} finished already")

    def run() -> None:
        models.train()
        pool, tests = with_columns(models, options.measure, options.top)
        out.mkdir(parents=True, exist_ok=True)
        if tests is not None:
            of_tests.parent.mkdir(exist_ok=True)
            _write(tests, of_tests)
            show(f"held-out rows with their most influential ones: {of_tests}")
        _write(pool, target)
        show(f"rows with memorization: {target}")

    return run


def _write(dataset: Any, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    dataset.to_parquet(temporary)
    temporary.replace(path)

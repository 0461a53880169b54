# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The command `hf-dsel`: score, select, sft, dpo."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hf_dsel.one_pass import Shortfall
from hf_dsel.scorer_specs import nearest, scorer_names, value
from hf_dsel.scorers.models import ModelNotLoaded
from hf_dsel.selection_block import BadConfig, merged, read_yaml, refuse_unknown
from hf_dsel.strategies import strategy_names

TOP = """Choose the best rows of an instruction or preference dataset, and train on them.

  score    add score and embedding columns to a dataset
  select   pick the best rows, and write them where trl sft and trl dpo read them
  sft      select and fine-tune in one go: TRL's own YAML with a selection: block
  dpo      the same for preference pairs

Start with
  hf-dsel select tatsu-lab/alpaca --strategy random --k 1000 --out alpaca-1k
and see hf-dsel COMMAND --help. Errors show in one line; HF_DSEL_TRACEBACK=1 shows where they come from.
"""

SCORE = """Compute score columns for a dataset and write it as parquet. Scores are kept in shards on the way: after a
kill, the same command goes on where it was. Under torchrun every rank scores its share.

Example: the IFD of every response, and an embedding of every instruction
  hf-dsel score tatsu-lab/alpaca --scorer IFD:model=HuggingFaceTB/SmolLM2-135M-Instruct \\
      --scorer Embed:model=sentence-transformers/all-MiniLM-L6-v2 --out alpaca-scored

The same as a file, for --config
  dataset: tatsu-lab/alpaca
  scorers:
    - {name: IFD, model: HuggingFaceTB/SmolLM2-135M-Instruct}
    - {name: Embed, model: sentence-transformers/all-MiniLM-L6-v2}
  out: alpaca-scored
"""

SELECT = """Pick the best rows of a dataset. OUT/train.parquet holds them in pick order, as trl sft and trl dpo read
them, with selection_rank, selection_gain and the scores; OUT/selection.json is the record that replays the choice.

Example: 3,000 rows of Alpaca, good and diverse
  hf-dsel select tatsu-lab/alpaca --strategy qdit --k 3000 --param quality=ifd --param scale=rank \\
      --where 'ifd < 1' --scorer IFD:model=HuggingFaceTB/SmolLM2-135M-Instruct \\
      --scorer Embed:model=sentence-transformers/all-MiniLM-L6-v2 --out alpaca-3k
  trl sft --model_name_or_path Qwen/Qwen2.5-0.5B --dataset_name alpaca-3k --output_dir out

First see what it would take: the same with --dry-run. Again, from the record: hf-dsel select tatsu-lab/alpaca
--selection alpaca-3k/selection.json --out again. As a file, for --config: the long names of the flags, with _ for -,
params: as a mapping and scorers: as a list.
"""

TRAIN = """Select and train in one go. The file holds TRL's keys for trl {command} and a selection: block.

Example, x.yaml
  model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
  dataset_name: {dataset}          # a Hub id, a local file or a folder
  output_dir: out
  selection:
    strategy: {strategy}
    k: 3000
    seed: 42
    params: {{{params}}}
    scorers:                       # what to compute first; leave out what the dataset has
      - {{name: Embed, model: sentence-transformers/all-MiniLM-L6-v2}}

  hf-dsel {command} --config x.yaml
  hf-dsel {command} --config x.yaml --selection.strategy random --output_dir out-random   # the baseline
  accelerate launch -m hf_dsel {command} --config x.yaml                                  # several GPUs

Other keys of the block: fraction or max_tokens instead of k; where, a list of conditions on columns such as "ifd < 1";
cache_dir, the folder of the scores; compare: false leaves the table of numbers out.
Any key of the block can be given as --selection.KEY and a strategy's option as --selection.params.NAME; every flag of
trl {command} works too (trl {command} --help lists them). Flags win over the file. The record of the selection goes to
OUTPUT_DIR/selection.json.
"""


class UsageError(ValueError):
    """A command line that cannot be read."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0 done, 2 the input is at fault, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given else ""
    try:
        warnings.showwarning = _show_warning
        done = COMMANDS[command](given[1:]) if command in COMMANDS else _top(command)
    except KeyboardInterrupt:
        print(f"\nhf-dsel {command}: interrupted. Finished shards are kept: the same command goes on.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, LookupError, OSError, ModelNotLoaded) as error:
        if os.environ.get("HF_DSEL_TRACEBACK", "0") not in ("", "0"):
            raise
        notes = getattr(error, "__notes__", [])
        text = " ".join(" ".join([str(error), *notes]).split())
        print(f"hf-dsel {command}: error: {text or type(error).__name__}", file=sys.stderr)
        return 2
    if callable(done):  # the training itself; its errors are shown whole
        done()
        return 0
    return done


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if issubclass(category, Shortfall):
        print(f"hf_dsel: warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, str(place[0]), place[1]), end="", file=sys.stderr)


def _top(command: str) -> int:
    if command in ("", "-h", "--help"):
        print(TOP)
        print(f"Strategies: {', '.join(strategy_names())}\nScorers: {', '.join(scorer_names())}")
        return 0
    if command == "--version":
        from hf_dsel import __version__

        print(__version__)
        return 0
    known = list(COMMANDS)
    raise UsageError(f"no command {command!r}; {nearest(command, known)}Commands: {', '.join(known)}")


def _score(arguments: list[str]) -> int:
    from hf_dsel.commands import score

    parser = _parser("score", SCORE)
    _add_dataset(parser)
    _add_scoring(parser)
    _add_output(parser)
    return score(_read(parser, arguments, "score"))


def _select(arguments: list[str]) -> int:
    from hf_dsel.commands import select

    parser = _parser("select", SELECT)
    _add_dataset(parser)
    rule = parser.add_argument_group("what to pick")
    rule.add_argument("--strategy", metavar="NAME", help=f"one of {', '.join(strategy_names())}")
    rule.add_argument("-k", "--k", type=int, metavar="ROWS", help="how many rows; or")
    rule.add_argument("--fraction", type=float, metavar="PART", help="part of the dataset, in (0, 1]; or")
    rule.add_argument(
        "--max-tokens", type=int, metavar="TOKENS", help="tokens of the picked rows together (column example_tokens)"
    )
    rule.add_argument(
        "--param",
        dest="params",
        action="append",
        metavar="NAME=VALUE",
        help="an option of the strategy; repeat it for more",
    )
    rule.add_argument("--where", action="append", metavar="CONDITION", help="consider only rows such as 'ifd < 1'; "
                      "repeat it for more")  # fmt: skip
    rule.add_argument("--seed", type=int, metavar="N", help="of all random choices (default: 42)")
    rule.add_argument("--selection", metavar="FILE", help="take the rows of this record instead of choosing")
    _add_scoring(parser)
    rule = _add_output(parser)
    rule.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        help="print the numbers beside those of random subsets (default: --compare)",
    )
    return select(_read(parser, arguments, "select"))


def _train(command: str, arguments: list[str]) -> int | Callable[[], None]:
    if not arguments or {"-h", "--help"} & set(arguments):
        dataset = {"sft": "tatsu-lab/alpaca", "dpo": "HuggingFaceH4/ultrafeedback_binarized"}[command]
        params = {"sft": "alpha: 0", "dpo": "quality: score_chosen, scale: rank"}[command]
        print(f"usage: hf-dsel {command} --config FILE [--selection.KEY VALUE] [--trl_key VALUE]\n")
        print(TRAIN.format(command=command, dataset=dataset, strategy="qdit", params=params))
        return 0 if arguments else 2
    from hf_dsel.training import experiment

    return experiment.prepared(command, arguments)


def _parser(command: str, text: str) -> _Parser:
    return _Parser(
        prog=f"hf-dsel {command}",
        usage=f"hf-dsel {command} DATASET [options]   or   hf-dsel {command} --config FILE [options]",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )


def _add_dataset(parser: _Parser) -> None:
    group = parser.add_argument_group("the dataset")
    group.add_argument("dataset", nargs="?", metavar="DATASET", help="a Hub id, a file (parquet, json, jsonl, csv), a "
                       "folder of such files, or a folder that save_to_disk wrote")  # fmt: skip
    group.add_argument("--name", metavar="NAME", help="its configuration, where it has several")
    group.add_argument("--split", metavar="SPLIT", help="the split, or a slice such as train[:10%%] (default: train)")


def _add_scoring(parser: _Parser) -> None:
    group = parser.add_argument_group("what to compute first")
    group.add_argument("--scorer", dest="scorers", action="append", metavar="NAME:OPTION=VALUE,...",
                       help=f"a scorer and its options; repeat it for more. One of {', '.join(scorer_names())}, "
                       "or my_package.MyScorer")  # fmt: skip
    group.add_argument("--cache-dir", metavar="DIR", help="folder of the scores, from which a killed run goes on "
                       "(default: in the datasets cache)")  # fmt: skip


def _add_output(parser: _Parser) -> Any:
    group = parser.add_argument_group("the result")
    group.add_argument("--out", metavar="DIR", help="folder to write train.parquet to")
    group.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote "
                       "to DIR (default: refuse)")  # fmt: skip
    group.add_argument("--dry-run", action="store_true", help="say what would be computed, how large "
                       "the largest array is and how long it takes, timed on some rows; write nothing")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")
    return group


def _read(parser: _Parser, arguments: list[str], command: str) -> dict[str, Any]:
    """The options given, from the file and the flags."""
    options = [a for a in parser._actions if a.dest not in ("help", "config")]
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = sorted(f for a in options for f in a.option_strings if f.startswith("--"))
        raise UsageError(f"unknown argument {unknown[0]!r}; {nearest(unknown[0], known)}Known: {', '.join(known)}")
    flags = vars(given)
    if flags.get("dataset", "") is None:
        del flags["dataset"]
    if "params" in flags:
        flags["params"] = dict(_param(text) for text in flags["params"])
    path = flags.pop("config", None)
    if path is None:
        return flags
    file = read_yaml(path)
    refuse_unknown(file, [a.dest for a in options], path)
    for key in ("dry_run", "overwrite", "compare"):
        if not isinstance(file.get(key, False), bool):
            raise BadConfig(f"{path}: {key} must be true or false, got {file[key]!r}")
    return merged(file, flags)


def _param(text: str) -> tuple[str, Any]:
    name, equals, word = text.partition("=")
    if not equals:
        raise UsageError(f"--param {text!r} must be NAME=VALUE, for example --param alpha=0.7")
    return name.replace("-", "_"), value(word)


COMMANDS: dict[str, Callable[[list[str]], int | Callable[[], None]]] = {
    "score": _score,
    "select": _select,
    "sft": lambda arguments: _train("sft", arguments),
    "dpo": lambda arguments: _train("dpo", arguments),
}

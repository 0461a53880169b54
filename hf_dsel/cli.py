# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The command `hf-dsel`: score, gate, select, describe, push, verify, bank, sft, dpo, dynamics, and others."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from hf_dsel.endpoint import BudgetSpent, EndpointDown
from hf_dsel.endpoint_flags import add_endpoint
from hf_dsel.extras import MissingExtra
from hf_dsel.help_texts import (
    BANK,
    BANK_VERBS,
    DESCRIBE,
    EVOLVE,
    GATE,
    PUSH,
    SCORE,
    SELECT,
    TOP,
    TRAIN,
    TRAIN_SCORER,
    VERIFY,
)  # fmt: skip
from hf_dsel.one_pass import Shortfall
from hf_dsel.scorer_specs import nearest, scorer_names, value
from hf_dsel.scorers.models import ModelNotLoaded
from hf_dsel.selection_block import BadConfig, merged, read_yaml, refuse_unknown
from hf_dsel.strategies import strategy_names

# Their text is for the user, in one line; any other error is a fault of a program and is shown whole.
SHOWN = (ValueError, TypeError, LookupError, OSError, ModelNotLoaded, BudgetSpent, EndpointDown, MissingExtra)

TEXTS = ("dataset", "name", "split", "revision", "out", "cache_dir")  # of a file's keys; YAML reads 1.10 as a number


class UsageError(ValueError):
    """A command line that cannot be read."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code: 0 done, 2 the input is at fault, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = 2 if " ".join(given[:2]) in COMMANDS else 1
    command = " ".join(given[:words])
    try:
        warnings.showwarning = _show_warning
        done = COMMANDS[command](given[words:]) if command in COMMANDS else _top(command)
    except KeyboardInterrupt:
        print(f"\nhf-dsel {command}: interrupted. What is finished is kept: the same command goes on.", file=sys.stderr)
        return 130
    except SHOWN as error:
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


def _gate_pool(arguments: list[str]) -> int:
    from hf_dsel.gate_command import add_options, gate

    parser = _parser("gate", GATE)
    _add_dataset(parser)
    add_options(parser)
    return gate(_read(parser, arguments, "gate"))


def _select(arguments: list[str]) -> int:
    from hf_dsel.commands import select

    a_probability = partial(_number_or_true, what="probability such as 0.5", flag="--gate")
    a_cosine = partial(_number_or_true, what="cosine such as 0.95", flag="--dedup")
    parser = _parser("select", SELECT)
    _add_dataset(parser)
    rule = parser.add_argument_group("what to pick")
    rule.add_argument("--strategy", metavar="NAME", help=f"one of {', '.join(strategy_names())}")
    rule.add_argument("-k", "--k", type=int, metavar="ROWS", help="how many rows; or")
    rule.add_argument("--fraction", type=float, metavar="PART", help="part of the dataset, in (0, 1]; or")
    rule.add_argument("--max-tokens", type=int, metavar="TOKENS", help="tokens of the picked rows together (column "
                      "example_tokens)")  # fmt: skip
    rule.add_argument("--param", dest="params", action="append", metavar="NAME=VALUE", help="an option of the "
                      "strategy; repeat it for more")  # fmt: skip
    rule.add_argument("--where", action="append", metavar="CONDITION", help="consider only rows such as 'ifd < 1'; "
                      "repeat it for more")  # fmt: skip
    rule.add_argument("--gate", nargs="?", const=True, type=a_probability, metavar="PROBABILITY", help="leave out rows "
                      "that are probably junk first, by the column gate, which hf-dsel gate --out writes, or by a "
                      "classifier learned from DATASET (pip install 'hf-dsel[gate]'); a number is the lowest "
                      "probability of being sound that stays")  # fmt: skip
    rule.add_argument("--dedup", nargs="?", const=True, type=a_cosine, metavar="COSINE", help="leave out copies of a "
                      "better row first: the same text; with a cosine such as 0.95 near embeddings too")  # fmt: skip
    rule.add_argument("--seed", type=int, metavar="N", help="of all random choices (default: 42)")
    rule.add_argument("--selection", metavar="FILE", help="take the rows of this record instead of choosing")
    _add_scoring(parser)
    rule = _add_output(parser)
    rule.add_argument("--compare", action=argparse.BooleanOptionalAction, help="print the numbers beside those of "
                      "random subsets (default: --compare)")  # fmt: skip
    return select(_read(parser, arguments, "select"))


def _describe(arguments: list[str]) -> int:
    from hf_dsel.describe_command import add_options, describe

    parser = _parser("describe", DESCRIBE)
    _add_dataset(parser)
    add_options(parser)
    return describe(_read(parser, arguments, "describe"))


def _push(arguments: list[str]) -> int:
    from hf_dsel.push_command import add_options, push

    parser = _parser("push", PUSH, "DIR REPO")
    add_options(parser)
    return push(_read(parser, arguments, "push"))


def _verify(arguments: list[str]) -> int:
    from hf_dsel.verify_command import add_options, verify

    parser = _parser("verify", VERIFY, "REPO")
    add_options(parser)
    return verify(_read(parser, arguments, "verify"))


def _evolve(arguments: list[str]) -> int:
    from hf_dsel.commands import evolve
    from hf_dsel.evolution_prompts import OURS

    parser = _parser("evolve", EVOLVE.replace("{prompts}", str(OURS)))
    _add_dataset(parser)
    rule = parser.add_argument_group("what to make")
    rule.add_argument("--scores", metavar="WHICH", help="complexity: instructions grow harder; quality: responses grow "
                      "better")  # fmt: skip
    rule.add_argument("-k", "--k", type=int, metavar="ROWS", help="rows drawn at random (default: 2000, or all)")
    rule.add_argument(
        "--rounds", type=int, metavar="M", help="rewritings of each row, one after the other (default: 5)"
    )
    rule.add_argument("--prompts", metavar="DIR", help="a folder of your own prompts (default: ours)")
    rule.add_argument("--template", metavar="TEXT", help="the scorer's input, with {instruction} and {response} "
                      "(default: that of the released scorers)")  # fmt: skip
    rule.add_argument("--seed", type=int, metavar="N", help="of the rows, the methods and the order in the rankings "
                      "(default: 42)")  # fmt: skip
    rule.add_argument("--asks", type=int, metavar="N", help="requests for one reply, in all, while it cannot be read "
                      "(default: 3)")  # fmt: skip
    rule.add_argument("--max-tokens", type=int, metavar="TOKENS", help="of a reply (default: 1024)")
    rule.add_argument("--temperature", type=float, metavar="T", help="of the rewriting (default: 0.7)")
    add_endpoint(parser)
    _add_output(parser, dry_run="say how many requests and tokens it takes and what it costs; send and write nothing")
    return evolve(_read(parser, arguments, "evolve"))


def _train_scorer(arguments: list[str]) -> int:
    from hf_dsel.commands import train_scorer

    parser = _parser("train-scorer", TRAIN_SCORER)
    _add_dataset(parser)
    rule = parser.add_argument_group("what to train")
    rule.add_argument("--model", metavar="MODEL", help="a causal language model, a Hub id or a folder")
    rule.add_argument("--revision", metavar="NAME", help="of the model on the Hub")
    rule.add_argument("--trust-remote-code", action="store_true", help="run code that the model brings")
    rule.add_argument("--scores", metavar="WHICH", help="complexity or quality (default: the dataset's column scores)")
    rule.add_argument("--template", metavar="TEXT", help="the scorer's input (default: the dataset's column template, "
                      "or that of the released scorers)")  # fmt: skip
    rule.add_argument("--held-out", type=float, metavar="PART", help="part of the samples to measure on (default: 0.1)")
    rule.add_argument("--epochs", type=float, metavar="N", help="passes over the rows (default: 3)")
    rule.add_argument("--learning-rate", type=float, metavar="X", help="(default: 2e-5)")
    rule.add_argument("--batch-size", type=int, metavar="ROWS", help="rows a step and device (default: 8)")
    rule.add_argument("--max-length", type=int, metavar="TOKENS", help="longer texts are cut (default: the window)")
    rule.add_argument("--seed", type=int, metavar="N", help="of the held-out rows and the training (default: 42)")
    rule.add_argument("--training", action="append", metavar="NAME=VALUE", help="another option of trl.SFTConfig, such "
                      "as gradient_accumulation_steps=8; repeat it for more")  # fmt: skip
    _add_output(
        parser,
        out="folder to write the scorer to",
        overwrite="replace a scorer in DIR (default: refuse)",
        dry_run="say what would be trained and measured on which rows; load no weights, write nothing",
    )
    return train_scorer(_read(parser, arguments, "train-scorer"))


def _bank(verb: str, arguments: list[str]) -> int:
    from hf_dsel import bank_commands

    if not verb:
        if arguments and arguments[0] not in ("-h", "--help"):
            verbs = list(BANK_VERBS)
            raise UsageError(f"no verb {arguments[0]!r}; {nearest(arguments[0], verbs)}Verbs: {', '.join(verbs)}")
        print(BANK)
        return 0 if arguments else 2
    parsers = {name: _bank_parser(name) for name in BANK_VERBS}
    known = sorted({a.dest for parser in parsers.values() for a in parser._actions} - {"help", "config"})
    return getattr(bank_commands, verb)(_read(parsers[verb], arguments, f"bank {verb}", known))


def _bank_parser(verb: str) -> _Parser:
    from hf_dsel.bank_options import ARGUMENTS, add_options, add_place

    parser = _parser(f"bank {verb}", BANK_VERBS[verb], ARGUMENTS[verb])
    add_place(parser, verb)
    if verb == "update":
        _add_dataset(parser)
        _add_scoring(parser)
    add_options(parser, verb)
    return parser


def _train(command: str, arguments: list[str]) -> int | Callable[[], None]:
    if not arguments or {"-h", "--help"} & set(arguments):
        dataset = {"sft": "tatsu-lab/alpaca", "dpo": "HuggingFaceH4/ultrafeedback_binarized"}[command]
        params = {"sft": "alpha: 0", "dpo": "quality: score_chosen, scale: rank"}[command]
        print(f"usage: hf-dsel {command} --config FILE [--selection.KEY VALUE] [--trl_key VALUE]\n")
        print(TRAIN.format(command=command, dataset=dataset, strategy="qdit", params=params))
        return 0 if arguments else 2
    from hf_dsel.training import experiment

    return experiment.prepared(command, arguments)


def _dynamics(arguments: list[str]) -> int | Callable[[], None]:
    from hf_dsel.dynamics_command import dynamics

    return dynamics(arguments)


def _parser(command: str, text: str, names: str = "DATASET") -> _Parser:
    return _Parser(
        prog=f"hf-dsel {command}",
        usage=f"hf-dsel {command} {names} [options]   or   hf-dsel {command} --config FILE [options]",
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
    group.add_argument("--scores-from", metavar="PLACE", help="join published scores: a repository, or a folder that "
                       "hf_dsel.save_scores wrote")  # fmt: skip
    group.add_argument("--cache-dir", metavar="DIR", help="folder of the scores, from which a killed run goes on "
                       "(default: in the datasets cache)")  # fmt: skip


def _add_output(
    parser: _Parser,
    *,
    out: str = "folder to write train.parquet to",
    overwrite: str = "replace what an earlier run wrote to DIR (default: refuse)",
    dry_run: str = "say what would be computed, how large the largest array is and how long it takes, timed on some "
    "rows; write nothing",
) -> Any:
    group = parser.add_argument_group("the result")
    group.add_argument("--out", metavar="DIR", help=out)
    group.add_argument("--overwrite", action="store_true", help=overwrite)
    group.add_argument("--dry-run", action="store_true", help=dry_run)
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")
    return group


def _read(parser: _Parser, arguments: list[str], command: str, also_known: Sequence[str] = ()) -> dict[str, Any]:
    """The options given, from the file and the flags. Keys of the file that are only `also_known` are left out."""
    options = [a for a in parser._actions if a.dest not in ("help", "config")]
    given, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        known = sorted(f for a in options for f in a.option_strings if f.startswith("--"))
        raise UsageError(f"unknown argument {unknown[0]!r}; {nearest(unknown[0], known)}Known: {', '.join(known)}")
    flags = vars(given)
    for name in ("folder", "dataset", "repo", "place"):
        if flags.get(name, "") is None:
            del flags[name]
    for name in ("params", "training"):
        if name in flags:
            flags[name] = dict(_param(text, f"--{name.removesuffix('s')}") for text in flags[name])
    path = flags.pop("config", None)
    if path is None:
        return flags
    file = read_yaml(path)
    names = [a.dest for a in options]
    refuse_unknown(file, [*names, *(n for n in also_known if n not in names)], path)
    file = {key: found for key, found in file.items() if key in names}
    for key in (a.dest for a in options if a.nargs == 0):
        if not isinstance(file.get(key, False), bool):
            raise BadConfig(f"{path}: {key} must be true or false, got {file[key]!r}")
    for key in TEXTS:
        if not isinstance(file.get(key), str | None):
            raise BadConfig(f"{path}: {key} must be text, got {file[key]!r}; write it in quotes")
    if command in ("score", "select"):
        return merged(file, flags)  # which knows that k, fraction and max_tokens are one budget
    numbers = [a.dest for a in options if a.type is float]
    file = {key: _number(found) if key in numbers else found for key, found in file.items()}
    if isinstance(file.get("training"), dict):
        flags["training"] = {**file["training"], **flags.get("training", {})}
    return {**file, **flags}


def _number(found: Any) -> Any:
    """A number, also where it stands in quotes, as TRL reads it too."""
    return value(found) if isinstance(found, str) and type(value(found)) in (int, float) else found


def _number_or_true(text: str, *, what: str, flag: str) -> bool | float:
    found = value(text)
    if not isinstance(found, bool | int | float):
        saved = "a saved gate is for hf-dsel gate DATASET --gate FILE --out DIR"
        step = saved if flag == "--gate" and text.endswith(".safetensors") else f"{flag} alone goes after DATASET"
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}; {step}")
    return found if isinstance(found, bool) else float(found)


def _param(text: str, flag: str) -> tuple[str, Any]:
    name, equals, word = text.partition("=")
    if not equals:
        example = "alpha=0.7" if flag == "--param" else "weight_decay=0.1"
        raise UsageError(f"{flag} {text!r} must be NAME=VALUE, for example {flag} {example}")
    return name.replace("-", "_"), value(word)


COMMANDS: dict[str, Callable[[list[str]], int | Callable[[], None]]] = {
    "score": _score,
    "gate": _gate_pool,
    "select": _select,
    "describe": _describe,
    "push": _push,
    "verify": _verify,
    "evolve": _evolve,
    "train-scorer": _train_scorer,
    "bank": lambda arguments: _bank("", arguments),
    "bank init": lambda arguments: _bank("init", arguments),
    "bank update": lambda arguments: _bank("update", arguments),
    "bank show": lambda arguments: _bank("show", arguments),
    "bank export": lambda arguments: _bank("export", arguments),
    "bank push": lambda arguments: _bank("push", arguments),
    "bank pull": lambda arguments: _bank("pull", arguments),
    "sft": lambda arguments: _train("sft", arguments),
    "dpo": lambda arguments: _train("dpo", arguments),
    "dynamics": _dynamics,
}

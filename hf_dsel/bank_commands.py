# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel bank init`, `update`, `show`, `export`, `push` and `pull` do with their options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.bank import Bank
from hf_dsel.bank_folder import INDEX, WrongBank
from hf_dsel.bank_report import report, rounds_table
from hf_dsel.bank_state import Settings
from hf_dsel.columns import MissingColumn
from hf_dsel.commands import DATA, free_folder, opened, write_rows
from hf_dsel.opening import BUILDERS, COMPRESSED
from hf_dsel.planning import Array, plan
from hf_dsel.progress import count, is_main_process
from hf_dsel.reporting import show as show_text
from hf_dsel.scorer_specs import make_scorer
from hf_dsel.scoring import written
from hf_dsel.selection_block import BadConfig

PICTURES = (".png", ".svg", ".pdf")


def init(options: dict[str, Any]) -> int:
    """`hf-dsel bank init`: an empty bank on disk."""
    folder = _folder(options, "init")
    bank = Bank(**_settings(options))
    if (folder / INDEX).exists():
        raise BadConfig(
            f"{folder} holds a bank already, {_filled(Bank.load(folder))}; add to it with hf-dsel bank update "
            f"{_quoted(folder)} DATASET, or give another folder"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise BadConfig(
            f"{folder} is not empty ({min(p.name for p in folder.iterdir())}) and holds no complete bank; give a new "
            "folder, or delete what an interrupted run left there"
        )
    if is_main_process():
        bank.save(folder)
        settings = bank.settings
        reads = settings.embedding if settings.gamma == 0 else f"{settings.quality} and {settings.embedding}"
        show_text(f"{folder}: an empty bank for {settings.size:,} rows, that reads {reads}; history {settings.history}")
        show_text(f"next: hf-dsel bank update {_quoted(folder)} DATASET")
    return 0


def update(options: dict[str, Any]) -> int:
    """`hf-dsel bank update`: the rows of a dataset compete with the bank's."""
    folder = _folder(options, "update")
    if not options.get("dataset"):
        raise BadConfig(
            "which dataset? Give a Hub id, a file or a folder, for example hf-dsel bank update "
            f"{_quoted(folder)} tatsu-lab/alpaca"
        )
    scorers = [make_scorer(spec) for spec in options.get("scorers") or []]
    bank = _loaded(folder, _settings(options))
    source = options.get("source") or source_name(options["dataset"])
    dataset = opened(options)
    _check_columns(bank, dataset, scorers)
    if options.get("dry_run"):
        _show_plan(bank, dataset, scorers)
        return 0
    rounds = bank.update(dataset, source=source, scorers=scorers, cache_dir=options.get("cache_dir"))
    if not is_main_process():
        return 0
    if not rounds:
        show_text(f"{folder} is as it was: {_filled(bank)}")
        return 0
    try:
        bank.save(folder)
    except WrongBank as error:
        raise WrongBank(f"{error}. The same command again takes both (the scores are kept)") from None
    show_text(f"{rounds_table(rounds)}\n")
    show_text(f"saved {folder}: {_filled(bank)}")
    show_text(f"look: hf-dsel bank show {_quoted(folder)}\ntrain: hf-dsel bank export {_quoted(folder)} --out DIR")
    return 0


def show(options: dict[str, Any]) -> int:
    """`hf-dsel bank show`: what a bank holds."""
    folder = _folder(options, "show")
    top = _whole(options, "top", 5)
    picture = Path(options["picture"]).expanduser() if options.get("picture") else None
    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise BadConfig(f"--picture {picture} must end in {', '.join(PICTURES)}")
    bank = _loaded(folder)
    show_text(f"{folder}: {_filled(bank)}\n")
    show_text(report(bank, every_round=bool(options.get("rounds")), top=top))
    if not len(bank):
        show_text(f"\nnext: hf-dsel bank update {_quoted(folder)} DATASET")
    if picture is not None:
        figure = bank.figure()
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=160)
        show_text(f"\nwrote {picture}")
    return 0


def export(options: dict[str, Any]) -> int:
    """`hf-dsel bank export`: the rows as trl reads them."""
    folder = _folder(options, "export")
    if not options.get("out"):
        raise BadConfig("where to? Add --out DIR")
    bank = _loaded(folder)
    out = free_folder(options)
    if not len(bank):
        raise BadConfig(f"the bank in {folder} is empty; first hf-dsel bank update {_quoted(folder)} DATASET")
    rows = bank.top(_whole(options, "top", len(bank)))
    if is_main_process():
        write_rows(rows, out)
        show_text(f"wrote {out / DATA}: {count(len(rows), 'row')} of {len(bank):,}, best first")
        command = "dpo" if "chosen" in rows.column_names else "sft"
        show_text(f"train: trl {command} --model_name_or_path MODEL --dataset_name {_quoted(out)} --output_dir DIR")
    return 0


def push(options: dict[str, Any]) -> int:
    """`hf-dsel bank push`: the bank's rows, its state and a card on the Hub, in one commit."""
    folder, repo = _folder(options, "push"), _repo(options, "push")
    bank = _loaded(folder)
    given = {name: options[name] for name in ("license", "message") if options.get(name) is not None}
    if is_main_process():
        made = bank.push_to_hub(repo, private=not options.get("public"), **given)
        show_text(f"published {_filled(bank)}: {made.commit_url}")
        best = f'load_dataset({repo!r}, split="train[:{min(2000, len(bank))}]")'
        show_text(f"read: {best}; go on elsewhere: hf-dsel bank pull DIR {repo}")
    return 0


def pull(options: dict[str, Any]) -> int:
    """`hf-dsel bank pull`: a bank on the Hub as a folder."""
    folder, repo = _folder(options, "pull"), _repo(options, "pull")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadConfig(f"{folder} is not empty ({min(p.name for p in folder.iterdir())}); give a new folder")
    bank = Bank.from_hub(repo, revision=options.get("revision"))
    if is_main_process():
        bank.save(folder)
        show_text(f"{folder}: {_filled(bank)}, from {repo}")
        show_text(
            f"next: hf-dsel bank update {_quoted(folder)} DATASET, then hf-dsel bank push {_quoted(folder)} {repo}"
        )
    return 0


def source_name(dataset: str) -> str:
    """What the rows of a dataset are called when nobody says it.

    >>> source_name("tatsu-lab/alpaca"), source_name("pools/dolly.jsonl.gz"), source_name("pools/lima/")
    ('alpaca', 'dolly', 'lima')
    """
    name = Path(dataset).name or Path(dataset).expanduser().resolve().name
    while Path(name).suffix in {*BUILDERS, *COMPRESSED} and Path(name).stem:
        name = Path(name).stem
    return name


def _folder(options: Mapping[str, Any], verb: str) -> Path:
    if not options.get("folder"):
        raise BadConfig(f"which bank? Give its folder, for example hf-dsel bank {verb} my-bank")
    folder = Path(str(options["folder"])).expanduser()
    if folder.exists() and not folder.is_dir():
        raise BadConfig(f"{folder} is a file; a bank is a folder")
    return folder


def _repo(options: Mapping[str, Any], verb: str) -> str:
    if not options.get("repo"):
        raise BadConfig(f"which repository? Give its name, for example hf-dsel bank {verb} my-bank me/my-bank")
    return str(options["repo"])


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings given; the word none is no history, no chunks or all pairs."""
    given = {f.name: options[f.name] for f in fields(Settings) if f.name in options}
    for name in ("history", "chunk", "neighbours"):
        if given.get(name) == "none":
            given[name] = None
    return given


def _loaded(folder: Path, expected: Mapping[str, Any] | None = None) -> Bank:
    try:
        return Bank.load(folder, **(expected or {}))
    except FileNotFoundError as error:
        raise BadConfig(f"{error}. Begin one: hf-dsel bank init {_quoted(folder)}") from error


def _check_columns(bank: Bank, dataset: Dataset, scorers: list[Any]) -> None:
    """Find a column that will be missing before anything is computed."""
    there = {*dataset.column_names, *(n for s in scorers for n in written(s))}
    missing = [n for n, s in bank.settings.rule().needs().items() if n not in there and s is None]
    if missing:
        raise MissingColumn(
            f"the bank reads {missing}, which the dataset lacks and no scorer writes; add --scorer, for example "
            f"--scorer IFD:model=gpt2 for ifd. There will be: {sorted(there)}"
        )


def _show_plan(bank: Bank, dataset: Dataset, scorers: list[Any]) -> None:
    """What the update would compute, and how large a round is."""
    settings, held = bank.settings, len(bank)
    new = min(len(dataset), settings.chunk or len(dataset))
    show_text(plan(dataset, settings.rule(), scorers=scorers, k=min(settings.size, len(dataset))))
    parts = -(-len(dataset) // new)
    show_text(f"{'a round':<13}  {new:,} new rows at most and {held:,} of the bank; {count(parts, 'round')} at most")
    n = held + new
    if settings.history == "sketch":  # all rows ever seen take part
        n = sum(r.candidates for r in bank.history) + len(dataset)
    if not settings.by_neighbour and settings.neighbours is None:
        show_text(f"{'messages':<13}  {Array('R (float32)', (n, n), 4 * n * n)}")


def _whole(options: Mapping[str, Any], name: str, default: int) -> int:
    number = options.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise BadConfig(f"--{name} {number!r} must be a whole number of rows")
    return number


def _filled(bank: Bank) -> str:
    rounds = f" after {count(len(bank.history), 'round')}" if bank.history else ""
    return f"{len(bank):,} of {bank.settings.size:,} rows{rounds}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

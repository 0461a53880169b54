# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel gate` does with its options."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.commands import DATA, free_folder, is_floats, opened, write_rows
from hf_dsel.gate_page import check_jinja2
from hf_dsel.gate_reporting import check_options, gate_report, with_gate, written_columns
from hf_dsel.narrowing import flip_columns, foreseen_flips, gate_columns
from hf_dsel.planning import plan
from hf_dsel.progress import count, is_main_process
from hf_dsel.provenance import write_provenance
from hf_dsel.reporting import show
from hf_dsel.scorers.gate import Gate
from hf_dsel.scorers.models import ModelNotLoaded
from hf_dsel.seeds import check_seed
from hf_dsel.selection_block import BadConfig

LEARNING = ("learn_from", "seed")
READING = ("embedder", "embedding", "response_embedding")
WHOLE = ("learn_from", "examples")
TEXTS = ("gate", "save", "lm", *READING)
PAGE = "gate.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of `hf-dsel gate` beside those that name the dataset."""
    group = parser.add_argument_group("the gate")
    group.add_argument("--gate", metavar="FILE", help="one that --save wrote, instead of learning from DATASET")
    group.add_argument("--for-pool", action="store_true", help="with --gate: estimate anew how much of DATASET is "
                       "junk (default: as much as of the pool that the gate learned from)")  # fmt: skip
    group.add_argument("--save", metavar="FILE", help="write what was learned, for other pools (.safetensors)")
    group.add_argument("--embedder", metavar="MODEL", help="a sentence encoder, a Hub id or a folder (default: "
                       "sentence-transformers/all-MiniLM-L6-v2)")  # fmt: skip
    group.add_argument("--text-only", action="store_true", help="no embedder: fast, and it sees less well which "
                       "answers belong to another question")  # fmt: skip
    group.add_argument("--embedding", metavar="COLUMN", help="the embedder's vectors of the instructions, to read "
                       "instead of computing them")  # fmt: skip
    group.add_argument("--response-embedding", metavar="COLUMN", help="the same of the responses")
    group.add_argument("--lm", metavar="MODEL", help="a causal language model that scores every answer and broken copy "
                       "too (default: none; without a GPU it takes hours)")  # fmt: skip
    group.add_argument("--learn-from", type=int, metavar="ROWS", help="at most so many, drawn at random (default: "
                       "12000)")  # fmt: skip
    group.add_argument("--seed", type=int, metavar="N", help="of all random choices (default: 0)")
    group.add_argument("--cache-dir", metavar="DIR", help="folder of the probabilities, from which a killed run goes "
                       "on (default: in the datasets cache)")  # fmt: skip
    group = parser.add_argument_group("what to show")
    group.add_argument("--report", nargs="?", const=PAGE, metavar="FILE", help=f"write a page to read in a browser "
                       f"(default: {PAGE}); alone it goes after DATASET")  # fmt: skip
    group.add_argument("--threshold", type=float, metavar="PROBABILITY", help="show rows around this one (default: "
                       "what select --gate takes)")  # fmt: skip
    group.add_argument("--examples", type=int, metavar="N", help="rows of each sort on the page (default: 3)")
    group = parser.add_argument_group("the result")
    group.add_argument("--out", metavar="DIR", help="folder to write the rows to, with gate, gate_reason and "
                       "gate_status")  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace files that are there (default: refuse)")
    group.add_argument("--dry-run", action="store_true", help="say what would be learned and computed, and how long "
                       "the embeddings take, timed on some rows; write nothing")  # fmt: skip
    group.add_argument("--config", metavar="FILE", help="YAML with these options; flags win over it")


def gate(options: dict[str, Any]) -> int:
    """`hf-dsel gate`: how much of a dataset is junk, of which kinds, and what a threshold would drop."""
    try:
        return _judged(options)
    except ModelNotLoaded as error:
        if not any(options.get(name) for name in ("gate", "embedder", "lm")):
            error.add_note("Or take --text-only, which needs no model.")
        raise


def _judged(options: dict[str, Any]) -> int:
    options = {name: found for name, found in options.items() if found is not None and found is not False}
    _check(options)
    page, saved = _free_file(options, "report", ".html"), _free_file(options, "save", ".safetensors")
    if page is not None:
        check_jinja2()
    out = free_folder(options) if "out" in options else None
    made = _gate(options)
    dataset = opened(options)
    _check_vectors(options, dataset)
    if "for_pool" in options and "dry_run" not in options:
        made = made.for_pool(dataset)
    there = written_columns(dataset, made if made.learned else None)
    makers = gate_columns(made, dataset.column_names)
    if there and made.learned is None:
        _no_effect(options, ("learn_from", *READING, "lm", "text_only", "save", "cache_dir"))
    elif len(there) == len(makers):
        _no_effect(options, (*READING, "lm", "cache_dir"))
    if "dry_run" in options:
        judges = {**makers, **flip_columns(made, dataset.column_names)} if len(there) < len(makers) else {}
        todo = [judge for name, judge in judges.items() if name not in dataset.column_names]
        planned, todo, flips = foreseen_flips(dataset, todo)
        if "for_pool" in options:
            show(f"first, the share of junk is estimated in {count(min(made.learn_from, len(dataset)), 'row')}\n")
        show(plan(planned, scorers=todo))
        if flips is not None:
            show(flips)
        return 0
    if not there and made.learned is None:
        made = made.fitted(dataset)
        if saved is not None and is_main_process():
            made.save(saved)
            show(f"wrote {saved}: the gate, for other pools of this kind (--gate {shlex.quote(str(saved))})\n")
    try:
        judged, _ = with_gate(dataset, made if made.learned else None, cache_dir=options.get("cache_dir"))
    except KeyboardInterrupt:
        if saved is None:
            raise
        use = shlex.quote(str(saved))
        text = f"interrupted. What was learned is kept: give --gate {use} in place of --save, and it goes on."
        sys.stderr.write(f"\nhf-dsel gate: {text}\n")
        return 130
    if not is_main_process():
        return 0
    shown = {name: options[name] for name in ("threshold", "examples", "seed") if name in options}
    report = gate_report(judged, made if made.learned else None, **shown)
    show(report)
    if out is not None:
        write_rows(judged, out)
        write_provenance(judged, out)
        show(f"\nwrote {out / DATA}: {count(len(judged), 'row')} with their probabilities")
    if page is not None:
        report.save_html(page, title=f"The gate on {options['dataset']}")
        show(f"\nwrote {page}: open it in a browser")
    place = out or (options["dataset"] if len(there) == len(makers) else None)
    part = [f"--{n}={options[n]}" for n in ("name", "split") if options.get(n)] if place and place != out else []
    rest = report.command(shlex.join([str(place or "DIR"), *part]), threshold="threshold" in options)
    possible = rest.startswith("hf-dsel ")
    first = "add --out DIR here, then " if place is None and possible else ""
    show(f"\nchoose among the rest: {first}{rest}" if possible else f"\n{rest}")
    return 0


def _check_vectors(options: dict[str, Any], dataset: Dataset) -> None:
    """Raise for columns named as vectors that hold something else."""
    for name in ("embedding", "response_embedding"):
        feature = dataset.features.get(options.get(name))
        if feature is not None and not is_floats(feature):
            raise BadConfig(f"{_flag(name)}: the column {options[name]!r} holds no vectors but {feature}")


def _no_effect(options: dict[str, Any], names: Sequence[str]) -> None:
    """Raise for an option that does nothing where the columns are there."""
    clash = [_flag(name) for name in names if name in options]
    if clash:
        raise BadConfig(
            f"{options['dataset']} has a column gate already, which is shown as it is, so {clash[0]} would have no "
            "effect; leave it out, or remove the column"
        )


def _check(options: dict[str, Any]) -> None:
    """Raise for options that cannot be, before anything is read."""
    if "dataset" not in options:
        raise BadConfig("which dataset? Give a Hub id, a file or a folder, for example hf-dsel gate pool.parquet")
    for name in WHOLE:
        if name in options and (isinstance(options[name], bool) or not isinstance(options[name], int)):
            raise BadConfig(f"{_flag(name)} {options[name]!r} must be a whole number")
    for name in TEXTS:
        if name in options and not isinstance(options[name], str):
            raise BadConfig(f"{_flag(name)} {options[name]!r} must be a text; in a file, write it in quotes")
    check_seed(options.get("seed", 0))
    threshold = options.get("threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise BadConfig(f"--threshold {threshold!r} must be a probability such as 0.5")
    check_options(threshold, options.get("examples", 3))
    without = [_flag(name) for name in READING if name in options] if "text_only" in options else []
    if without:
        raise BadConfig(f"--text-only reads no vectors, so {without[0]} would have no effect; leave one of them out")
    if "gate" in options:
        clash = [_flag(name) for name in ("learn_from", "text_only", "save") if name in options]
        if clash:
            raise BadConfig(f"--gate has learned already, so {clash[0]} would have no effect; leave one of them out")
    elif "for_pool" in options:
        raise BadConfig("--for-pool is about a gate that learned from another pool; name its file with --gate")


def _gate(options: dict[str, Any]) -> Gate:
    reading: dict[str, Any] = {name: options[name] for name in (*READING, "lm") if name in options}
    if "gate" not in options:
        reading |= {"embedder": None} if "text_only" in options else {}
        return Gate(**reading, **{name: options[name] for name in LEARNING if name in options})
    path = Path(options["gate"]).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise BadConfig(f"--gate {path} {what}; give a file that hf-dsel gate --save or Gate.save wrote")
    return Gate.load(path, **reading)


def _free_file(options: dict[str, Any], name: str, ending: str) -> Path | None:
    """The file that an option names; refused when it is there."""
    if name not in options:
        return None
    found = PAGE if options[name] is True else options[name]
    path = Path(found).expanduser() if isinstance(found, str) else None
    if path is None or path.suffix.lower() != ending:
        raise BadConfig(f"--{name} {found} must end in {ending}, for example --{name} gate{ending}")
    if path.is_dir() or (path.exists() and not options.get("overwrite")):
        step = "give another file" if path.is_dir() else "give another file, or --overwrite"
        if name == "save" and path.is_file():  # a killed run has saved what it learned before it judged all rows
            step += f"; or take what it has learned: --gate {shlex.quote(str(path))} in place of --save"
        raise BadConfig(f"--{name} {path} is there already; {step}")
    above = next((p for p in path.parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise BadConfig(f"--{name} {path}: {above} is a file, not a folder")
    return path


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

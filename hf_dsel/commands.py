# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What `hf-dsel score`, `select`, `evolve` and `train-scorer` do with their options."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, List

from hf_dsel.endpoint import Endpoint
from hf_dsel.evolution_plan import plan_evolution
from hf_dsel.evolving import check_evolution
from hf_dsel.evolving import evolve as evolve_dataset
from hf_dsel.joined_scores import with_scores
from hf_dsel.narrowing import foreseen_flips
from hf_dsel.opening import open_dataset
from hf_dsel.planning import plan
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.provenance import PROVENANCE, write_provenance
from hf_dsel.reporting import brief, first_picks, show
from hf_dsel.rows import detect
from hf_dsel.rows_left import rows_left
from hf_dsel.scorer_specs import make_scorer
from hf_dsel.scorers.score_templates import SETTINGS_FILE
from hf_dsel.scoring import score as score_dataset
from hf_dsel.selection import Selection, is_terms
from hf_dsel.selection_block import BadConfig, SelectionBlock
from hf_dsel.shortage import reasons_to_read
from hf_dsel.trl_format import to_trl

DATA, RECORD = "train.parquet", "selection.json"
ENDPOINT = tuple(f.name for f in fields(Endpoint) if f.init)
EVOLUTION = ("scores", "k", "rounds", "prompts", "template", "seed", "asks", "max_tokens", "temperature")
DATA_OF_SCORER = ("scores", "template", "held_out", "seed", "max_length", "revision", "trust_remote_code")
TRAINING = ("epochs", "learning_rate", "batch_size", "training", "overwrite")
BLOCK = tuple(f.name for f in fields(SelectionBlock))


def score(options: dict[str, Any]) -> int:
    """`hf-dsel score`: a dataset with score columns."""
    if not options.get("scorers") and not options.get("scores_from"):
        raise BadConfig("what to compute is missing: add --scorer, for example --scorer IFD:model=gpt2")
    scorers = [make_scorer(spec) for spec in options.get("scorers") or []]
    out = _output(options)
    dataset = opened(options)
    if options.get("dry_run"):
        show(plan(dataset, scorers=scorers))
        return 0
    scored = score_dataset(dataset, scorers, cache_dir=options.get("cache_dir"))
    if out is not None and is_main_process():
        write_rows(scored, out)
        write_provenance(scored, out)
        new = [n for n in scored.column_names if n not in dataset.column_names]
        show(f"wrote {out / DATA}: {count(len(scored), 'row')} with {', '.join(new) or 'the joined scores'}")
    return 0


def select(options: dict[str, Any]) -> int:
    """`hf-dsel select`: the best rows of a dataset, or those of a saved record."""
    out = _output(options)
    if "selection" in options:
        return _replay(options, out)
    block = SelectionBlock.of({k: v for k, v in options.items() if k in BLOCK}, "hf-dsel select")
    dataset = block.joined(opened({**options, "scores_from": None}))
    block.check(dataset)
    if options.get("dry_run"):
        _show_plan(block, dataset)
        return 0
    scored = block.scored(dataset)
    if out is None or not is_main_process():
        return 0
    record = block.pick(scored)
    if len(record) == 0:
        raise BadConfig(f"{brief(block.rule)} kept no row, so nothing is written; loosen its bounds")
    show(f"{brief(block.rule)}: {len(record):,} of {len(scored):,} rows\n")
    if block.compare:
        show(f"{block.comparison(scored, record)}\n")
    show(f"the first picks\n{first_picks(scored, record)}\n")
    _write_subset(record.apply(scored), record, out)
    where = [options["dataset"], *(f"--{n}={options[n]}" for n in ("name", "split") if options.get(n))]
    where += [f"--scores-from={options['scores_from']}"] if options.get("scores_from") else []
    show(f"again: hf-dsel select {shlex.join(where)} --selection {shlex.quote(str(out / RECORD))} --out DIR")
    return 0


def evolve(options: dict[str, Any]) -> int:
    """`hf-dsel evolve`: ranked variants of some rows."""
    out = _output(options)
    if not options.get("model"):
        raise BadConfig("which model writes and ranks? Add --model NAME, and --base-url URL for your own server")
    if not options.get("scores"):
        raise BadConfig("which score is it for? Add --scores complexity or --scores quality")
    if not isinstance(options.get("extra_body") or {}, dict):
        raise BadConfig(
            f"extra_body must be a mapping such as {{reasoning_effort: low}}, got {options['extra_body']!r}"
        )
    endpoint = Endpoint(**{k: options[k] for k in ENDPOINT if options.get(k) is not None})
    rule = {k: options[k] for k in EVOLUTION if options.get(k) is not None}
    check_evolution(**{k: v for k, v in rule.items() if k not in ("k", "seed")})
    if out is not None:
        endpoint.check()
    dataset = opened(options)
    if out is None:
        show(plan_evolution(dataset, endpoint, **rule))
        return 0
    if not is_main_process():
        return 0
    evolved = evolve_dataset(dataset, endpoint, **rule)
    write_rows(evolved, out)
    scored = sum(score is not None for score in evolved["score"][:])
    show(f"wrote {out / DATA}: {count(len(evolved), 'variant')}, {scored:,} of them with a score")
    if scored < len(evolved):
        show(f"why the others have none\n{_reasons(evolved)}")
    if scored:
        show(f"train: hf-dsel train-scorer {shlex.quote(str(out))} --model MODEL --out DIR")
    return 0


def _reasons(evolved: Dataset) -> str:
    """The most frequent reasons for a variant without a text or a score, a line each."""
    reasons = Counter(
        variant if variant != "ok" else score
        for variant, score in zip(evolved["variant_status"][:], evolved["score_status"][:], strict=True)
    )
    del reasons["ok"]
    return "\n".join(f"  {n:,} x {reason}" for reason, n in reasons_to_read(dict(reasons.most_common()), 5).items())


def train_scorer(options: dict[str, Any]) -> int:
    """`hf-dsel train-scorer`: a scorer of complexity or quality, and how well it agrees."""
    from hf_dsel.training import scorer_training

    if not options.get("dataset"):
        raise BadConfig("which dataset? Give what hf-dsel evolve wrote, for example hf-dsel train-scorer evolved")
    for name, hint in (("model", "the model to train, a Hub id or a folder"), ("out", "the folder of the scorer")):
        if not options.get(name) and not (name == "out" and options.get("dry_run")):
            raise BadConfig(f"--{name} is missing: {hint}")
    if not isinstance(options.get("training") or {}, dict):
        raise BadConfig(f"training must be a mapping such as {{weight_decay: 0.1}}, got {options['training']!r}")
    data = {k: options[k] for k in DATA_OF_SCORER if options.get(k) is not None}
    training = {k: options[k] for k in TRAINING if options.get(k) is not None}
    if not options.get("dry_run"):
        scorer_training.check_output(options["out"], overwrite=bool(options.get("overwrite")))
    scorer_training.check_training(options.get("training") or {})
    where = {"name": options.get("name"), "split": options.get("split", "train")}
    dataset = open_dataset(options["dataset"], **where)
    if options.get("dry_run"):
        show(scorer_training.prepare(dataset, options["model"], **data))
        return 0
    out = Path(options["out"]).expanduser()
    report = scorer_training.train_scorer(dataset, options["model"], out, **data, **training)
    if is_main_process():
        scorer = {"complexity": "DeitaComplexity", "quality": "DeitaQuality"}[report.scores]
        show(f"{report}\n\nwrote {out}: the model, {SETTINGS_FILE} and README.md with these numbers")
        show(f"score: hf-dsel score DATASET --scorer {shlex.quote(f'{scorer}:model={out}')} --out DIR")
    return 0


def _show_plan(block: SelectionBlock, dataset: Dataset) -> None:
    """What `select` would compute, and what its rules would leave, as far as the columns are there."""
    budget: dict[str, Any] = {"k": block.k, "fraction": block.fraction, "max_tokens": block.max_tokens}
    dataset, scorers, flips = foreseen_flips(dataset, block.all_scorers(dataset.column_names))
    left = rows_left(block, dataset)
    planned = plan(dataset, block.rule, scorers=scorers, **budget)
    show(planned if left.asked is None else replace(planned, picks=left.asked))
    for line in (*([flips] if flips else []), *left.lines):
        show(line)


def _replay(options: dict[str, Any], out: Path | None) -> int:
    clash = [k for k in BLOCK if k in options and k not in ("compare", "scores_from")]
    if clash:
        raise BadConfig(f"--selection replays a record, so {', '.join(clash)} would have no effect; leave them out")
    record = Selection.load(options["selection"])
    subset = record.apply(opened(options))
    show(f"{options['selection']}: {len(record):,} rows chosen by {record.strategy}")
    if out is not None and not options.get("dry_run"):
        _write_subset(subset, record, out)
    return 0


def _output(options: dict[str, Any]) -> Path | None:
    """The folder to write to, None for a dry run; refused when it holds another run's rows."""
    if not options.get("dataset"):
        raise BadConfig("which dataset? Give a Hub id, a file or a folder, for example hf-dsel select tatsu-lab/alpaca")
    if options.get("dry_run"):
        return None
    if not options.get("out"):
        raise BadConfig("where to? Add --out DIR (or --dry-run to see what would be computed)")
    return free_folder(options)


def free_folder(options: dict[str, Any]) -> Path:
    """The folder that `out` names; refused when it holds another run's rows."""
    out = Path(options["out"]).expanduser()
    if out.exists() and not out.is_dir():
        raise BadConfig(f"--out {out} is a file; give a folder")
    there = sorted(p.name for p in out.glob("*") if p.suffix in (".parquet", ".arrow", ".json", ".jsonl", ".csv"))
    if set(there) - {DATA, RECORD, PROVENANCE} or (there and not options.get("overwrite")):
        hint = "another folder" if set(there) - {DATA, RECORD, PROVENANCE} else "another folder, or --overwrite"
        raise BadConfig(f"--out {out} holds {', '.join(there[:4])} already; give {hint}")
    return out


def opened(options: dict[str, Any]) -> Dataset:
    """The dataset that the options name, announced."""
    dataset = open_dataset(options["dataset"], name=options.get("name"), split=options.get("split", "train"))
    say(f"{options['dataset']}: {count(len(dataset), 'row')}, read as {detect(dataset.column_names)}")
    return with_scores(dataset, options["scores_from"]) if options.get("scores_from") else dataset


def _write_subset(subset: Dataset, record: Selection, out: Path) -> None:
    kind = detect(subset.column_names)
    subset = subset.remove_columns([n for n, f in subset.features.items() if is_floats(f) or is_terms(f)])
    write_rows(subset if kind == "prompt" else to_trl(subset), out)
    record.save(out / RECORD)
    show(f"wrote {out / DATA} ({count(len(subset), 'row')}, best first) and {out / RECORD} (the record)")
    if kind != "prompt":
        command = "dpo" if kind == "preference" else "sft"
        show(f"train: trl {command} --model_name_or_path MODEL --dataset_name {out} --output_dir DIR")


def is_floats(feature: Any) -> bool:
    """Whether a column holds embeddings, of fixed length or not."""
    return isinstance(feature, List) and str(getattr(feature.feature, "dtype", "")).startswith("float")


def write_rows(dataset: Dataset, out: Path) -> None:
    """All of the file or nothing."""
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{DATA}.{os.getpid()}"
    try:
        dataset.to_parquet(str(temporary))
        temporary.replace(out / DATA)
    finally:
        temporary.unlink(missing_ok=True)

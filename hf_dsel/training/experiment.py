# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""`hf-dsel sft` and `hf-dsel dpo`: TRL's YAML with a `selection:`, `reselect:` or `dynamics:` block, in one process."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from datasets import Dataset, DatasetDict

from hf_dsel.opening import open_dataset
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.reporting import brief, first_picks, show
from hf_dsel.rows import detect, text_columns
from hf_dsel.scorer_specs import nearest, value
from hf_dsel.scorers.models import Checkpoint, release
from hf_dsel.selection_block import BadConfig, SelectionBlock, merged, read_yaml
from hf_dsel.training.dynamics_block import DynamicsBlock
from hf_dsel.training.reselect_block import ReselectBlock, with_flags
from hf_dsel.trl_format import to_trl

PREFIX = "--selection."
DYNAMICS = "--dynamics."
RESELECT = "--reselect."
ALSO_READ_BY_TRL = ("tools", "chat_template_kwargs", "images")


@dataclass(frozen=True)
class Experiment:
    """One file and its flags, parsed: what to select (None: all), again and record, and TRL's own arguments.

    `rows` are those trained on with all their columns, once they are known.
    """

    command: str
    block: SelectionBlock | None
    script: Any
    training: Any
    model: Any
    mixture: Any
    dynamics: DynamicsBlock | None = None
    reselect: ReselectBlock | None = None
    rows: Dataset | None = None


def prepared(command: str, arguments: list[str]) -> Callable[[], None]:
    """Read, check, score and select; the training itself is returned, to be called next.

    Raises:
        BadConfig: a key or flag that nobody knows, no `selection:` block, no dataset or model.
        ValueError, TypeError: what the dataset, a scorer or the strategy refuses.
    """
    experiment = parsed(command, arguments)
    pool, held_out = opened(experiment)
    block, output = experiment.block, Path(experiment.training.output_dir)
    if block is None:
        say(f"{count(len(pool), 'row')} to train on, read as {detect(pool.column_names)}")
        return _training(experiment, pool, held_out)
    say(f"{count(len(pool), 'row')} to select from, read as {detect(pool.column_names)}")
    scored = block.scored(pool)
    record = block.pick(scored)
    if len(record) == 0:
        raise BadConfig(f"{brief(block.rule)} kept no row; there is nothing to train on")
    if is_main_process():
        record.save(output / "selection.json")
        show(f"{brief(block.rule)}: {len(record):,} of {len(pool):,} rows, recorded in {output / 'selection.json'}\n")
        if block.compare:
            show(f"{block.comparison(scored, record)}\n")
        show(f"the first picks\n{first_picks(scored, record)}\n")
    subset = record.apply(scored)
    release()  # the scorers' models make room for the one that is trained
    return _training(experiment, subset, held_out)


def _training(experiment: Experiment, rows: Dataset, held_out: Dataset | None) -> Callable[[], None]:
    ready = replace(experiment, rows=rows)
    return lambda: train(ready, for_trl(rows), None if held_out is None else for_trl(held_out))


def train(experiment: Experiment, subset: Dataset, held_out: Dataset | None) -> None:
    """What `trl sft` and `trl dpo` do, on the subset."""
    import trl

    args, model = experiment.training, experiment.model
    loading = {
        "revision": model.model_revision,
        "trust_remote_code": args.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    args.model_init_kwargs = loading | (args.model_init_kwargs or {})
    make_trainer = trl.SFTTrainer if experiment.command == "sft" else trl.DPOTrainer
    trainer = make_trainer(
        model=model.model_name_or_path,
        args=args,
        train_dataset=subset,
        eval_dataset=held_out,
        quantization_config=trl.get_quantization_config(model),
        peft_config=trl.get_peft_config(model),
    )
    if experiment.reselect is not None:
        experiment.reselect.make().bind(trainer, experiment.rows)
    dynamics = experiment.dynamics.make().bind(trainer) if experiment.dynamics is not None else None
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)
    what = "model and selection.json" if experiment.block is not None else "model"
    trainer.accelerator.print(f"{what}: {args.output_dir}")
    if experiment.dynamics is not None and dynamics is not None and is_main_process():
        for line in experiment.dynamics.write(dynamics, experiment.rows or subset, args.output_dir):
            show(f"{line}\n")
    if args.push_to_hub:
        trainer.push_to_hub(dataset_name=experiment.script.dataset_name)
    accelerator = trainer.accelerator
    accelerator.wait_for_everyone()
    # The wrapped model must go before the process group. Freed after it, by the interpreter, it waits for a thread of
    # the group that waits for the interpreter, and the rank never exits.
    accelerator.free_memory()
    del trainer
    gc.collect()
    accelerator.end_training()


def parsed(command: str, arguments: list[str]) -> Experiment:
    """The file of `--config` and the flags, checked; no dataset and no model is touched."""
    path, selection_flags, dynamics_flags, reselect_flags, flags = _sorted_out(arguments)
    file = read_yaml(path) if path is not None else {}
    found = file.pop("selection", None)
    recorded = file.pop("dynamics", None)
    if dynamics_flags and isinstance(recorded, dict | bool | None):
        recorded = (recorded if isinstance(recorded, dict) else {}) | dynamics_flags
    watch = None if recorded in (None, False) else DynamicsBlock.of(recorded, f"{path or 'flags'}: dynamics")
    again = file.pop("reselect", None)
    if reselect_flags and isinstance(again, dict | None):
        again = with_flags(again or {}, reselect_flags)
    reselect = None if again is None else ReselectBlock.of(again, f"{path or 'flags'}: reselect")
    if found is None and not selection_flags and watch is None and reselect is None:
        raise BadConfig(f"no selection: block in {path or 'the flags'}; to train on every row use trl {command}")
    if found is not None and not isinstance(found, dict):
        raise BadConfig(f"{path}: selection: must be a mapping such as {{strategy: random, k: 1000}}, got {found!r}")
    block = None
    if found is not None or selection_flags:
        block = SelectionBlock.of(merged(found or {}, selection_flags), f"{path or 'flags'}: selection")
    for name, text in (file.pop("env", None) or {}).items():
        os.environ[name] = str(text)
    script, training, model, mixture = _trl_arguments(command, file, flags, path)
    return Experiment(command, block, script, training, model, mixture, watch, reselect)


def _trl_arguments(command: str, file: dict[str, Any], flags: list[str], path: str | None) -> tuple[Any, ...]:
    from trl import DatasetMixtureConfig, DPOConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            raise BadConfig(f"{message}; see trl {command} --help")

    config: Any = SFTConfig if command == "sft" else DPOConfig
    kinds: Any = (ScriptArguments, config, ModelConfig, DatasetMixtureConfig)
    parser = Parser(kinds, prog=f"hf-dsel {command}")
    known = sorted(a.dest for a in parser._actions if a.dest != "help")
    for key in file:
        if key not in known:
            raise BadConfig(
                f"{path}: unknown key {key!r}; {nearest(str(key), known)}Accepted: the keys of trl {command}, "
                "selection:, reselect: and dynamics:. Options of accelerate go on its own line: "
                f"accelerate launch --num_processes 2 -m hf_dsel {command} --config {path}"
            )
    parser.set_defaults_with_config(**file)
    *found, unknown = parser.parse_args_into_dataclasses(flags, return_remaining_strings=True, look_for_args_file=False)
    if unknown:
        raise BadConfig(f"unknown argument {unknown[0]!r}; {nearest(unknown[0].lstrip('-'), known)}")
    return tuple(found)


def _sorted_out(
    arguments: list[str],
) -> tuple[str | None, dict[str, Any], dict[str, Any], dict[str, Any], list[str]]:
    """The path of the file, the flags of the selection, dynamics and reselect blocks, and TRL's flags."""
    path: str | None = None
    selection: dict[str, Any] = {}
    dynamics: dict[str, Any] = {}
    reselect: dict[str, Any] = {}
    flags: list[str] = []
    rest = iter(arguments)
    for word in rest:
        flag, equals, text = word.partition("=")
        if flag == "--config" or flag.startswith((PREFIX, DYNAMICS, RESELECT)):
            text = text if equals else next(rest, "")
            if not text:
                raise BadConfig(f"{flag} needs a value")
        if flag == "--config":
            path = text
        elif flag.startswith((f"{PREFIX}params.", f"{RESELECT}params.")):
            block, _, name = flag.removeprefix("--").partition(".params.")
            of_block = selection if block == "selection" else reselect
            of_block.setdefault("params", {})[name] = value(text)
        elif flag.startswith(PREFIX):
            selection[flag.removeprefix(PREFIX).replace("-", "_")] = value(text)
        elif flag.startswith(DYNAMICS):
            dynamics[flag.removeprefix(DYNAMICS).replace("-", "_")] = value(text)
        elif flag.startswith(RESELECT):
            reselect[flag.removeprefix(RESELECT).replace("-", "_")] = value(text)
        else:
            flags.append(word)
    return path, selection, dynamics, reselect, flags


def opened(experiment: Experiment) -> tuple[Dataset, Dataset | None]:
    """The rows to choose from or to train on, and those to evaluate on, as a file and its flags name them.

    What can be checked before a model is loaded is checked: the format, the columns of the selection, the template, the
    plan of `reselect:`.

    Args:
        experiment: of `parsed`.

    Returns:
        the pool, and the rows to evaluate on; None where the file does not evaluate.

    Raises:
        BadConfig: no model or dataset, a stream, a format that the command does not train on.
        ValueError, TypeError: what `selection:` or `reselect:` refuses.
    """
    script, mixture, command = experiment.script, experiment.mixture, experiment.command
    evaluate = experiment.training.eval_strategy != "no"
    if not experiment.model.model_name_or_path:
        raise BadConfig("model_name_or_path is missing: the model to train, a Hub id or a folder")
    if not Path(experiment.model.model_name_or_path).expanduser().is_dir():  # what is in it is the trainer's business
        Checkpoint(experiment.model.model_name_or_path).check()
    if script.dataset_streaming or mixture.streaming:
        raise BadConfig("a selection needs the whole dataset; leave streaming out")
    if mixture.datasets:
        import trl

        found: DatasetDict = trl.get_dataset(mixture)
        pool = found[script.dataset_train_split]
        held_out = found[script.dataset_test_split] if evaluate else None
    elif script.dataset_name:
        where = {"path": script.dataset_name, "name": script.dataset_config}
        pool = open_dataset(**where, split=script.dataset_train_split)
        held_out = open_dataset(**where, split=script.dataset_test_split) if evaluate else None
    else:
        raise BadConfig("which dataset? Give dataset_name (a Hub id, a file or a folder) or datasets")
    kind = detect(pool.column_names)
    if (kind == "preference") != (command == "dpo") or kind == "prompt":
        other = "hf-dsel dpo trains on pairs" if kind == "preference" else "hf-dsel sft trains on answers"
        needs = "chosen and rejected" if command == "dpo" else "answers"
        raise BadConfig(f"{command} needs a dataset with {needs}; this one is read as {kind} ({other})")
    if experiment.block is not None:
        experiment.block.check(pool)
    if experiment.reselect is not None:
        experiment.reselect.make()  # opens what it names, so what is wrong with it is said before a model is loaded
    _check_template(experiment, pool)
    return pool, held_out


def _check_template(experiment: Experiment, pool: Dataset) -> None:
    """Messages need a chat template; the trainer would find out after all the scoring."""
    first = for_trl(pool.select([0]))[0]
    if not any(isinstance(value, list) for value in first.values()):
        return
    if getattr(experiment.training, "chat_template_path", None):
        return
    name, options = experiment.model.model_name_or_path, experiment.training
    checkpoint = Checkpoint(name, experiment.model.model_revision, options.trust_remote_code)
    if checkpoint.tokenizer().chat_template is None:
        step = "set chat_template_path to a model or file that has one, or " if experiment.command == "sft" else ""
        raise BadConfig(
            f"the rows are conversations, and the tokenizer of {name} has no chat template to write them with; {step}"
            "train an instruct model"
        )


def for_trl(dataset: Dataset) -> Dataset:
    """In TRL's format, without the columns that no trainer reads.

    >>> for_trl(Dataset.from_list([{"instruction": "Say 1.", "input": "", "output": "1", "score": 5}])).column_names
    ['completion', 'prompt']
    """
    converted = to_trl(dataset)
    wanted = [*text_columns(converted.column_names), *(n for n in ALSO_READ_BY_TRL if n in converted.column_names)]
    return converted.select_columns(wanted)

"""Trainings that choose again, in processes of their own. `python -m` this, with a mode: killed, or ranks."""

from __future__ import annotations

import gc
import json
import os
import sys

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from hf_dsel.strategies.top_k import TopK
from hf_dsel.training.reselect import Reselect
from tests.training.dynamics_worker import KillAt
from tests.training.tiny_runs import sft, tiny_pool

SIX_STEPS = {"save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2, "num_train_epochs": 3}


class Seen(TrainerCallback):
    """The rows of each step, as this rank's model was given them; also into a file, line by line."""

    def __init__(self, trainer, path=None):
        self.steps, self.path = {}, path
        ids = trainer.train_dataset.with_format(None)
        names = ids.column_names
        known = [p + c for p, c in zip(ids["prompt_ids"][:], ids["chosen_ids"][:], strict=True)] if (
            "chosen_ids" in names
        ) else ids["input_ids"][:]  # fmt: skip
        self.known = {tuple(row): i for i, row in enumerate(known)}
        assert len(self.known) == len(known)
        plain = trainer.training_step

        def training_step(model, inputs, *args, **kwargs):
            pairs = "completion_mask" in inputs
            rows, masks = inputs["input_ids"], inputs["attention_mask"].bool()
            n = len(rows) // 2 if pairs else len(rows)
            found = [self.known[tuple(row[mask].tolist())] for row, mask in zip(rows[:n], masks[:n], strict=True)]
            self.steps.setdefault(trainer.state.global_step, []).extend(found)
            return plain(model, inputs, *args, **kwargs)

        trainer.training_step = training_step
        trainer.add_callback(self)

    def on_step_end(self, args, state, control, **given):
        if self.path is not None:
            with open(self.path, "a") as file:
                file.write(json.dumps([state.global_step - 1, self.steps[state.global_step - 1]]) + "\n")

    def between(self, first, last):
        return [row for step in range(first, last) for row in self.steps[step]]


def chosen_each_epoch(folder, *, seen=None, callbacks=None, **options):
    """24 rows of which 8 are trained on in each of three epochs: the hardest as the model finds them by then."""
    trainer = sft(tiny_pool(24), output_dir=folder, **SIX_STEPS | options)
    watch = Seen(trainer, seen)
    for callback in callbacks or ():
        trainer.add_callback(callback)
    return trainer, Reselect(TopK(column="ifd"), 8, score="ifd").bind(trainer, tiny_pool(24)), watch


def iterit_each_epoch(folder, **options):
    """IterIT whole: six rows of the eighteen best of the first round, in each of three epochs."""
    trainer = sft(tiny_pool(24), output_dir=folder, **SIX_STEPS | {"save_strategy": "no"} | options)
    seen = Seen(trainer)
    how = {"score": "ifd", "narrow": 3, "params": {"ceiling": None}}
    return trainer, Reselect("iterit", 6, **how).bind(trainer, tiny_pool(24)), seen


def killed(folder, step):
    trainer, _, _ = chosen_each_epoch(folder, seen=f"{folder}/seen.jsonl", callbacks=[KillAt(int(step))])
    trainer.train()


def ranks(folder):
    """Two ranks; what each saw and chose, of a run that ended, of one resumed in mid-round, of one that fails."""
    PartialState(cpu=True)
    result = {}
    two = {"per_device_train_batch_size": 1, "save_steps": 6}
    trainer, reselect, seen = chosen_each_epoch(f"{folder}/whole", **two)
    trainer.train()
    assert trainer.args.world_size == torch.distributed.get_world_size() == 2
    result["whole"] = [seen.steps, {r: s.indices.tolist() for r, s in reselect.selections.items()}]
    again, reselect, seen = chosen_each_epoch(f"{folder}/whole", **two)
    again.train(resume_from_checkpoint=f"{folder}/whole/checkpoint-6")
    result["resumed"] = [seen.steps, {r: s.indices.tolist() for r, s in reselect.selections.items()}]
    third, reselect, seen = iterit_each_epoch(f"{folder}/iterit", per_device_train_batch_size=1)
    third.train()
    result["iterit"] = [seen.steps, {r: s.indices.tolist() for r, s in reselect.selections.items()}]

    def fails_on_rank_one(model, tokenizer, rows):
        if PartialState().process_index == 1:
            raise ArithmeticError("on one rank")
        return {"mine": [1.0] * len(rows)}

    broken = sft(tiny_pool(24), output_dir=f"{folder}/broken", **SIX_STEPS)
    Reselect(TopK(column="mine"), 8, score=fails_on_rank_one).bind(broken)
    try:
        broken.train()
    except ArithmeticError as error:
        result["error"] = str(error)
    del trainer, again, third, broken, reselect, seen
    gc.collect()  # a wrapped model that is freed after its process group aborts the rank
    rank = PartialState().process_index
    with open(f"{folder}/rank-{rank}.json", "w") as file:
        json.dump(result, file)
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("TRL_DISABLE_TELEMETRY", "1")
    {"killed": killed, "ranks": ranks}[sys.argv[1]](*sys.argv[2:])

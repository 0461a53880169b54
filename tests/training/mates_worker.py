"""Trainings by MATES, in processes of their own. `python -m` this, with a mode: killed, or ranks under torchrun."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys

import numpy as np
import torch
from accelerate import PartialState

from hf_dsel.training import one_step_influence
from hf_dsel.training.mates import Mates
from hf_dsel.training.reselect import Reselect
from tests.training.dynamics_worker import KillAt
from tests.training.reselect_worker import SIX_STEPS, Seen
from tests.training.tiny_runs import sft, tiny_pool


def embedded(n):
    """The tiny pool with vectors that tell the five words of its answers apart."""
    noise = np.random.default_rng(0).normal(size=(n, 6)) * 0.1
    return tiny_pool(n).add_column("embedding", [(np.eye(6)[i % 5] + noise[i]).tolist() for i in range(n)])


def held_out(n):
    """Rows that answer as every fifth of the pool does."""
    return tiny_pool(5 * n).select(range(0, 5 * n, 5))


def mates_each_epoch(folder, *, path=None, callbacks=None, **options):
    """24 rows of which 8 are trained on in each of three epochs."""
    trainer = sft(embedded(24), output_dir=folder, **SIX_STEPS | options)
    seen = Seen(trainer, path)
    for callback in callbacks or ():
        trainer.add_callback(callback)
    return trainer, Reselect(Mates(held_out(5), probe=20), 8).bind(trainer, embedded(24)), seen


def noted(reselect):
    """What the rounds measured and what the regression made of it, but for the time it took."""
    return [{n: v for n, v in note.items() if "seconds" not in n} for note in reselect._reselector.state.notes]


def killed(folder, step, measured):
    """Dies after a step; or, with a number of measured losses, before it, while the weights are those of a probe."""
    trainer, _, _ = mates_each_epoch(folder, path=f"{folder}/seen.jsonl", callbacks=[KillAt(int(step))])
    plain, left = one_step_influence.reference_loss, int(measured)

    def reference_loss(*args):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args)

    one_step_influence.reference_loss = reference_loss
    trainer.train()


def ranks(folder):
    """Both ranks write what they chose and noted, and whether their weights agree at the end."""
    PartialState(cpu=True)
    trainer, reselect, _ = mates_each_epoch(f"{folder}/two", per_device_train_batch_size=1)
    trainer.train()
    assert trainer.args.world_size == torch.distributed.get_world_size() == 2
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    notes = noted(reselect)
    chosen = {number: selection.indices.tolist() for number, selection in reselect.selections.items()}
    result = {"chosen": chosen, "notes": notes, "same weights": torch.equal(*both)}
    del trainer, reselect
    gc.collect()  # a wrapped model that is freed after its process group aborts the rank
    with open(f"{folder}/rank-{PartialState().process_index}.json", "w") as file:
        json.dump(result, file)
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("TRL_DISABLE_TELEMETRY", "1")
    {"killed": killed, "ranks": ranks}[sys.argv[1]](*sys.argv[2:])

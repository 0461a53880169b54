"""Trainings in processes of their own: one that kills itself, and one on two ranks. `python -m` this, with a mode."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import torch
from accelerate import PartialState
from transformers import TrainerCallback

from hf_dsel.training.dynamics import TrainingDynamics
from tests.training.tiny_runs import courses, sft, tiny_pool

RESUMABLE = {"save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 2, "num_train_epochs": 2}
PROBE = {"probe": "epoch", "gradients": "last_layer"}


class KillAt(TrainerCallback):
    """`kill -9` of this process after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **given):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def resumable(folder, *, callbacks=None, **more):
    """Eight steps an epoch, two epochs, a checkpoint each three steps."""
    return sft(tiny_pool(16), output_dir=folder, callbacks=callbacks, **RESUMABLE | more)


def killed(folder, step):
    trainer = resumable(folder, callbacks=[KillAt(int(step))])
    TrainingDynamics(**PROBE).bind(trainer)
    trainer.train()


def ranks(folder):
    """Two ranks with two rows each; the records of every rank, of a run that ended and of one that was resumed."""
    PartialState(cpu=True)
    saved = {}
    for name, n in (("even", 16), ("odd", 13)):
        trainer = sft(tiny_pool(n), output_dir=f"{folder}/{name}", **RESUMABLE)
        dynamics = TrainingDynamics(**PROBE).bind(trainer)
        trainer.train()
        assert trainer.args.world_size == torch.distributed.get_world_size() == 2
        saved[name] = courses(dynamics, range(n))
        saved[f"{name}-probe"] = dynamics._recorder.probe.records.trajectories(np.arange(n))
        saved[f"{name}-columns"] = {"epochs": np.array(dynamics.add_to(tiny_pool(n))["dynamics_epochs"][:])}
    again = sft(tiny_pool(16), output_dir=f"{folder}/even", **RESUMABLE)
    dynamics = TrainingDynamics(**PROBE).bind(again)
    again.train(resume_from_checkpoint=f"{folder}/even/checkpoint-6")
    saved["resumed"] = courses(dynamics, range(16))
    flat = {f"{run}/{name}": values for run, found in saved.items() for name, values in found.items()}
    np.savez(f"{folder}/rank-{PartialState().process_index}.npz", **flat)
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


if __name__ == "__main__":
    {"killed": killed, "ranks": ranks}[sys.argv[1]](*sys.argv[2:])

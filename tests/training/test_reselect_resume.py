"""After `kill -9` and on two ranks, the rows seen are those of one run that nobody stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hf_dsel
from hf_dsel.strategies.random import Random
from hf_dsel.strategies.top_k import TopK
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.reselect_state import SELECTION, STATE, ForeignRounds
from tests.training.reselect_worker import Seen, chosen_each_epoch, iterit_each_epoch
from tests.training.tiny_runs import sft, tiny_pool

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TRL_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer, reselect, seen = chosen_each_epoch(str(folder))
    trainer.train()
    return folder, seen.steps, picks(reselect)


def picks(reselect):
    return {number: selection.indices.tolist() for number, selection in reselect.selections.items()}


@pytest.mark.parametrize("step", [3, 5, 11])  # in the first round; in the second, after its end's checkpoint; third
def test_killed_and_resumed(whole, tmp_path, step):
    _, steps, chosen = whole
    worker = [sys.executable, "-m", "tests.training.reselect_worker", "killed", str(tmp_path), str(step)]
    found = subprocess.run(worker, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr[-3000:]
    before = dict(json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines())
    last = 2 * ((step - 1) // 2)
    assert max(before) == step - 1 and (tmp_path / f"checkpoint-{last}" / STATE).exists()
    assert not (tmp_path / f"checkpoint-{last + 2}").exists()
    trainer, reselect, seen = chosen_each_epoch(str(tmp_path))
    trainer.train(resume_from_checkpoint=True)
    assert min(seen.steps) == last and before | seen.steps == steps
    after = picks(reselect)
    assert after == {number: chosen[number] for number in after} and max(after) == 2
    for number, rows in chosen.items():
        saved = hf_dsel.Selection.load(tmp_path / f"selections/round-{number:04d}.json")
        assert saved.indices.tolist() == rows
    assert hf_dsel.Selection.load(tmp_path / "checkpoint-12" / SELECTION).indices.tolist() == chosen[2]


@pytest.mark.parametrize("at", [2, 4, 6, 8])
@pytest.mark.parametrize("restore", [False, True])
def test_resumed_from_every_checkpoint(whole, at, restore, tmp_path):
    """At the end of a round (4, 8) the checkpoint comes before the choice of the next."""
    folder, steps, chosen = whole
    trainer, reselect, seen = chosen_each_epoch(
        str(tmp_path), save_strategy="no", restore_callback_states_from_checkpoint=restore
    )
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{at}"))
    assert seen.steps == {step: rows for step, rows in steps.items() if step >= at}
    assert picks(reselect)[2] == chosen[2]


def resumed(reselect, folder, step, **options):
    trainer = sft(tiny_pool(24), **{"output_dir": str(folder), "save_strategy": "steps", "save_steps": 1, **options})
    seen = Seen(trainer)
    reselect.bind(trainer, tiny_pool(24))
    trainer.train(resume_from_checkpoint=None if step is None else f"{folder}/checkpoint-{step}")
    return seen.steps


@pytest.mark.parametrize(
    ("reselect", "options", "at"),
    [
        ({"every": 3}, {"max_steps": 8, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}, (4, 6)),
        ({"every": "once"}, {"num_train_epochs": 3, "per_device_train_batch_size": 2}, (3, 4)),
        ({"narrow": 2}, {"num_train_epochs": 3, "per_device_train_batch_size": 2, "dataloader_num_workers": 2}, (5, 8)),
    ],
)
def test_what_was_drawn_is_drawn_again(reselect, options, at, tmp_path):
    def make():
        return Reselect(TopK(column="nll"), 8, score="nll", **reselect)

    steps = resumed(make(), tmp_path, None, **options)
    for step in at:
        assert resumed(make(), tmp_path, step, **options) == {s: rows for s, rows in steps.items() if s >= step}


def test_notes_of_a_plan_are_there_after_a_resume(tmp_path):
    told = []

    def plan(now):
        told.append([note["number"] for note in now.earlier])
        now.note["number"] = now.number
        return Random()

    resumed(Reselect(plan, 8), tmp_path, None, num_train_epochs=3)
    resumed(Reselect(plan, 8), tmp_path, 3, num_train_epochs=3)
    assert told == [[], [0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("noted", "message"),
    [
        ({"loss": np.float32(1)}, r"note\['loss'\] is a numpy.float32"),
        ({"of": {"a": [0.5, {"b": np.arange(2)}]}}, r"note\['of'\]\['a'\]\[1\]\['b'\] is a numpy.ndarray"),
        ({"of": {3: 0.5}}, r"note\['of'\] has the key 3, a int;"),
        ({"what": {"a", "b"}}, r"note\['what'\] is a set, which"),
    ],
)
def test_a_note_that_no_checkpoint_could_keep_is_named_at_once(noted, message, tmp_path):
    def plan(now):
        now.note.update(noted)
        return Random()

    with pytest.raises(TypeError, match=message):
        resumed(Reselect(plan, 8), tmp_path, None, save_strategy="no", num_train_epochs=1)
    assert not list(tmp_path.glob("selections/*"))  # nothing was chosen


def test_a_note_is_the_same_before_and_after_a_resume(tmp_path):
    told = []

    def plan(now):
        told.append(now.earlier)
        now.note["rows"] = (now.number, None, True, "ä")
        return Random()

    resumed(Reselect(plan, 8), tmp_path, None, num_train_epochs=2)
    resumed(Reselect(plan, 8), tmp_path, 2, num_train_epochs=2)
    assert told[1] == told[2] == ({"rows": [0, None, True, "ä"]},)


def test_checkpoints_of_other_runs_are_refused(whole, tmp_path):
    folder, _, _ = whole
    other = sft(tiny_pool(24), per_device_train_batch_size=2)
    Reselect(TopK(column="ifd"), 6, score="ifd").bind(other, tiny_pool(24))
    with pytest.raises(ForeignRounds, match="of another run .*k: 8 there, 6 now"):
        other.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    plain = sft(tiny_pool(24), output_dir=str(tmp_path), save_strategy="epoch", num_train_epochs=1)
    plain.train()
    trainer, _, _ = chosen_each_epoch(str(tmp_path))
    with pytest.raises(ForeignRounds, match=f"holds no {STATE}: it was written without Reselect"):
        trainer.train(resume_from_checkpoint=True)
    trainer, _, _ = chosen_each_epoch(str(tmp_path / "x"), per_device_train_batch_size=8)
    with pytest.raises(ForeignRounds, match="steps a round: 4 there, 1 now"):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-6"))


@pytest.mark.distributed
def test_two_ranks_train_on_one_selection(whole, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m"]
    line = [*torchrun, "tests.training.reselect_worker", "ranks", str(tmp_path)]
    found = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-3000:]
    zero, one = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    _, steps, chosen = whole  # two rows a step, as the two ranks have together
    for mine in (zero, one):
        assert mine["whole"][1] == {str(number): rows for number, rows in chosen.items()}
        assert mine["resumed"][1] == {str(number): chosen[number] for number in (1, 2)}
        assert mine["error"] == "on one rank"
    for name, first in (("whole", 0), ("resumed", 6)):
        together = {int(s): sorted(zero[name][0][s] + one[name][0][s]) for s in zero[name][0]}
        assert together == {s: sorted(rows) for s, rows in steps.items() if s >= first}
    assert not np.array_equal(zero["whole"][0]["0"], one["whole"][0]["0"])
    trainer, reselect, seen = iterit_each_epoch(str(tmp_path / "alone"))
    trainer.train()
    assert zero["iterit"][1] == one["iterit"][1] == {str(number): rows for number, rows in picks(reselect).items()}
    together = {int(s): sorted(zero["iterit"][0][s] + one["iterit"][0][s]) for s in zero["iterit"][0]}
    assert together == {s: sorted(rows) for s, rows in seen.steps.items()} and len(together) == 9
    assert picks(reselect)[0] != picks(reselect)[2]

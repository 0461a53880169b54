"""Records after `kill -9` and on two ranks are those of one run that nobody stopped."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.recorder import FILE, ForeignRecords
from tests.training.dynamics_worker import PROBE, resumable
from tests.training.tiny_runs import courses, sft, tiny_pool

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TRL_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}


def run(trainer, resume=None, **options):
    dynamics = TrainingDynamics(**PROBE | options).bind(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return dynamics


def everything(dynamics):
    probe = dynamics._recorder.probe.records.trajectories(np.arange(16))
    return courses(dynamics, range(16)) | {f"probe {name}": values for name, values in probe.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, everything(run(resumable(str(folder))))


@pytest.mark.parametrize("step", [5, 8, 11])  # in the first epoch, between the two, in the second
def test_killed_and_resumed(whole, tmp_path, step):
    worker = [sys.executable, "-m", "tests.training.dynamics_worker", "killed", str(tmp_path), str(step)]
    found = subprocess.run(worker, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr[-3000:]
    last = 3 * ((step - 1) // 3)
    assert (tmp_path / f"checkpoint-{last}" / FILE).exists() and not (tmp_path / f"checkpoint-{last + 3}").exists()
    resumed = run(resumable(str(tmp_path)), resume=True)
    for name, values in everything(resumed).items():
        assert values == pytest.approx(whole[1][name], abs=1e-5), name
    assert resumed.add_to(tiny_pool(16))["dynamics_epochs"][:] == [2] * 16


def test_resumed_at_the_end_of_an_epoch_the_probe_is_made_up_for(tmp_path):
    """The checkpoint of the last step of an epoch is written before the epoch's probe."""
    first = run(resumable(str(tmp_path), save_steps=8))
    again = run(resumable(str(tmp_path), save_steps=8), resume=str(tmp_path / "checkpoint-8"))
    with np.load(tmp_path / "checkpoint-8" / FILE) as found:
        assert "probe/0/rows" in found and "probe/1/rows" not in found
    for name, values in everything(again).items():
        assert values == pytest.approx(everything(first)[name], abs=1e-5), name


def test_a_checkpoint_without_records_says_so(whole, tmp_path):
    plain = resumable(str(tmp_path))
    plain.train()
    with pytest.warns(UserWarning, match=f"checkpoint-9 holds no {FILE}"):
        found = run(resumable(str(tmp_path)), resume=str(tmp_path / "checkpoint-9"))
    seen = found.add_to(tiny_pool(16))["dynamics_epochs"][:]
    assert sum(seen) == 14 and sorted(found._recorder.records.passes) == [1]  # steps 10 to 16, two rows each
    assert found.add_to(tiny_pool(16))["dynamics_loss_mean_status"][seen.index(0)].startswith("not seen")


def test_records_of_another_training_set_are_refused(whole):
    folder, _ = whole
    other = sft(tiny_pool(12), output_dir=str(folder), per_device_train_batch_size=2, num_train_epochs=2)
    with pytest.raises(ForeignRecords, match=r"rows: 16 of 16 \(\w+\) there, 12 of 12 \(\w+\) now"):
        run(other, resume=str(folder / "checkpoint-3"))


def test_other_rows_of_the_same_number_are_refused(whole):
    rows = tiny_pool(16).to_list()
    rows[7]["output"] = "another answer"
    other = sft(Dataset.from_list(rows), output_dir=str(whole[0]), per_device_train_batch_size=2, num_train_epochs=2)
    with pytest.raises(
        ForeignRecords, match=r"\(rows: 16 of 16 \((\w+)\) there, 16 of 16 \((?!\1)\w+\) now; .*delete that"
    ):
        run(other, resume=str(whole[0] / "checkpoint-3"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradients": "trainable"}, r"\(gradients: last_layer there, trainable now\)"),
        ({"probe": "steps", "probe_every": 2}, r"\(probe: each epoch there, every 2 steps now\)"),
        ({"probe_on": [1, 2]}, r"16 rows of the training set \(\w+\) there, 2 rows of the training set"),
        ({"probe_on": hf_dsel.to_trl(tiny_pool(3))}, r"\(probe_on: .* there, 3 other rows \(\w+\) now\)"),
        ({"probe": None, "gradients": None}, "probe: each epoch there, None now; probe_on: "),
    ],
)
def test_another_probe_is_refused(whole, options, message):
    with pytest.raises(ForeignRecords, match=message):
        run(resumable(str(whole[0])), resume=str(whole[0] / "checkpoint-3"), **options)


def test_records_of_an_earlier_version_or_cut_off_are_named(whole, tmp_path):
    folder = shutil.copytree(whole[0] / "checkpoint-3", tmp_path / "checkpoint-3")
    with np.load(folder / FILE) as found:
        arrays = dict(found)
    np.savez(folder / FILE, **arrays | {"identity": np.array(["sft", "16", "16"])})
    with pytest.raises(ForeignRecords, match=r"an earlier hf_dsel.*delete that file to resume without"):
        run(resumable(str(tmp_path)), resume=str(folder))
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:300])
    with pytest.raises(ForeignRecords, match="is not complete"):
        run(resumable(str(tmp_path)), resume=str(folder))
    (folder / FILE).unlink()
    with pytest.warns(UserWarning, match="holds no"):
        run(resumable(str(tmp_path)), resume=str(folder))


@pytest.mark.distributed
def test_two_ranks_have_the_records_of_one(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m"]
    line = [*torchrun, "tests.training.dynamics_worker", "ranks", str(tmp_path)]
    found = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-3000:]
    zero, one = (dict(np.load(tmp_path / f"rank-{rank}.npz")) for rank in (0, 1))
    assert sorted(zero) == sorted(one)
    for name in zero:
        assert np.array_equal(zero[name], one[name], equal_nan=True), name
    alone = run(sft(tiny_pool(16), num_train_epochs=2))  # four rows a step, as two ranks have together
    for name, values in courses(alone, range(16)).items():
        assert zero[f"even/{name}"] == pytest.approx(values, abs=1e-4), name
        assert zero[f"resumed/{name}"] == pytest.approx(values, abs=1e-4), name
    for name, values in alone._recorder.probe.records.trajectories(np.arange(16)).items():
        assert zero[f"even-probe/{name}"] == pytest.approx(values, abs=1e-3), name
    # 13 rows do not fill the batches of two ranks, which draw some twice; a row counts once an epoch
    assert zero["odd-columns/epochs"].tolist() == [2] * 13 and not np.isnan(zero["odd/loss"]).any()
    assert not np.isnan(zero["odd-probe/grand"]).any()

"""`hf-dsel dynamics subsets`: real trainings of a tiny model on random subsets."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.training.memorization import memorization, most_influential
from hf_dsel.training.recordable import CannotRecord
from tests.training.tiny_runs import tiny_pool

STEPS = {
    "dtype": "float32", "max_steps": 3, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False,
    "report_to": "none", "save_strategy": "no", "learning_rate": 3e-3, "max_length": 64, "disable_tqdm": True,
}  # fmt: skip
ROWS, COMMAND = 12, ["dynamics", "subsets", "--config", "x.yaml", "--out", "out"]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_qwen2):
    monkeypatch.chdir(tmp_path)
    tiny_pool(ROWS).to_parquet("pool.parquet")
    Dataset.from_list([{"prompt": f"Say {i}.", "completion": f" rain {i}"} for i in range(3)]).to_parquet(
        "test.parquet"
    )
    Path("x.yaml").write_text(
        yaml.safe_dump({"model_name_or_path": tiny_qwen2, "dataset_name": "pool.parquet", "output_dir": "no", **STEPS})
    )
    return tmp_path


def stored(n):
    return [dict(np.load(f"out/subsets/{s:04d}.npz")) for s in range(n)]


def test_columns_from_the_models(place):
    assert main([*COMMAND, "--n", "4", "--fraction", "0.5", "--held-out", "test.parquet", "--top", "2"]) == 0
    found = stored(4)
    member = np.stack([f["member"] for f in found])
    assert (member.sum(1) == 6).all() and len({m.tobytes() for m in member}) > 1
    value, tests = (np.stack([f[name] for f in found]) for name in ("row_probability", "test_probability"))
    expected = memorization(member, value)
    pool = Dataset.from_parquet("out/train.parquet")
    assert pool.column_names[:3] == ["instruction", "input", "output"] and len(pool) == ROWS
    for name, numbers, reasons in (
        ("memorization", expected.values, expected.reasons),
        ("memorization_se", expected.errors, expected.error_reasons),
    ):
        assert [np.nan if x is None else x for x in pool[name]] == pytest.approx(numbers, abs=1e-6, nan_ok=True)
        assert pool[f"{name}_status"][:] == [reason or "ok" for reason in reasons]
    held_out = Dataset.from_parquet("out/held_out/train.parquet")
    for row, (order, by, _) in zip(held_out, most_influential(member, tests, top=2), strict=True):
        assert row["influential_rows"] == order.tolist() and row["influential_by"] == pytest.approx(by, abs=1e-6)
    assert set(pool["influence_status"]) <= {"ok", "measured by no model trained with it",
                                             "measured by no model trained without it"}  # fmt: skip
    assert sorted(path.name for path in Path("out/subsets").iterdir()) == [f"{s:04d}.npz" for s in range(4)]
    assert not Path("no").exists()


def test_what_is_measured_is_what_the_model_says(place):
    assert main([*COMMAND, "--n", "2", "--keep-models"]) == 0
    model = AutoModelForCausalLM.from_pretrained("out/subsets/0001").eval()
    tokenizer = AutoTokenizer.from_pretrained("out/subsets/0001")
    found = stored(2)[1]
    for i, row in enumerate(tiny_pool(ROWS)):
        start, whole = _tokens(tokenizer, row)
        ids = torch.tensor([whole])
        p = model(input_ids=ids).logits[0, :-1].softmax(-1)
        own = p[torch.arange(len(whole) - 1), ids[0, 1:]][start - 1 :]
        assert found["row_probability"][i] == pytest.approx(own.mean().item(), abs=1e-5)
        best = (p.argmax(-1) == ids[0, 1:])[start - 1 :]
        assert found["row_accuracy"][i] == pytest.approx(best.double().mean().item(), abs=1e-6)


def _tokens(tokenizer, row):
    """Where the answer starts, and the tokens, as TRL makes them of a prompt and a completion."""
    row = hf_dsel.to_trl(Dataset.from_list([row]))[0]
    said = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
    return len(said), tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)


def test_a_finished_model_is_not_trained_again(place, capsys):
    assert main([*COMMAND, "--n", "2"]) == 0
    before = [Path(f"out/subsets/{s:04d}.npz").stat().st_mtime_ns for s in range(2)]
    assert main([*COMMAND, "--n", "3"]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert main([*COMMAND, "--n", "3", "--overwrite"]) == 0
    assert [Path(f"out/subsets/{s:04d}.npz").stat().st_mtime_ns for s in range(2)] == before
    assert len(stored(3)) == 3
    for change in (["--fraction", "0.5"], ["--learning_rate", "1e-2"], ["--seed", "7"]):
        assert main([*COMMAND, "--n", "3", "--overwrite", *change]) == 2
        assert "other settings of the training" in capsys.readouterr().err


def test_rows_are_packed_as_the_file_says(place, capsys):
    packed = ["--dynamics.pack_to", "64"]
    free = ["--padding_free", "true", "--max_length", "null"]
    with pytest.raises(CannotRecord, match="pack_to=64 needs"):
        main([*COMMAND, "--n", "2", *packed])
    found = {}
    for name, flags in (("plain", free), ("packed", [*free, *packed])):
        assert main([*COMMAND[:-1], name, "--n", "2", *flags]) == 0
        found[name] = dict(np.load(f"{name}/subsets/0000.npz"))
    assert (found["plain"]["member"] == found["packed"]["member"]).all()
    assert not np.isnan(found["packed"]["row_probability"]).any()
    assert np.abs(found["plain"]["row_probability"] - found["packed"]["row_probability"]).max() > 1e-4
    assert main([*COMMAND[:-1], "plain", "--n", "2", *free, *packed, "--overwrite"]) == 2
    assert "other settings of the training" in capsys.readouterr().err


def test_killed_and_started_again(place, capsys):
    assert main([*COMMAND, "--n", "3", "--out", "whole"]) == 0
    command = [sys.executable, "-m", "hf_dsel", *COMMAND, "--n", "3"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    end = time.monotonic() + 120
    while not Path("out/subsets/0000.npz").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Path("out/subsets/0000.npz").exists()
    assert main([*COMMAND, "--n", "3", "--overwrite"]) == 0
    one, other = (Dataset.from_parquet(f"{folder}/train.parquet")["memorization"][:] for folder in ("whole", "out"))
    none = [x is None for x in one]
    assert none == [x is None for x in other] and not all(none)
    assert [x for x in one if x is not None] == pytest.approx([x for x in other if x is not None], abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n", "1"], "n=1"),
        (["--fraction", "1"], "fraction=1.0"),
        (["--fraction", "0.01"], "is 0; subsets need some rows"),
        (["--top", "0"], "--top 0"),
        (["--mesure", "accuracy"], "unknown argument '--mesure'"),
        (["--push_to_hub", "true"], "push_to_hub is for one model"),
    ],
)
def test_refused_before_any_training(place, flags, message, capsys):
    assert main([*COMMAND, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_verb_is_taught(capsys):
    assert main(["dynamics", "--help"]) == 0
    assert "hf-dsel dynamics subsets --config sft.yaml" in capsys.readouterr().out
    assert main(["dynamics", "subset"]) == 2
    assert "did you mean" in capsys.readouterr().err.lower()

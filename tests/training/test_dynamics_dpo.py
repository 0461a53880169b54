"""Log-probabilities, margins and reward accuracy of preference pairs, from real steps of TRL's DPOTrainer."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.recordable import CannotRecord
from hf_dsel.training.row_numbers import ROW
from tests.training.tiny_runs import CPU, courses

N = 10


def pairs():
    return Dataset.from_list(
        [{"prompt": f"Question {i}? ", "chosen": "good " * (1 + i % 3), "rejected": "bad " * (1 + i % 2)}
         for i in range(N)]
    )  # fmt: skip


def dpo(folder, tmp_path, pool=None, model=None, **options):
    args = {"output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 5, "num_train_epochs": 3,
            "save_strategy": "no", "learning_rate": 1e-2, "beta": 0.3} | CPU | options  # fmt: skip
    return DPOTrainer(
        model=model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=DPOConfig(**args),
        train_dataset=pairs() if pool is None else pool,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )


def logp(model, prompt, answer):
    """The slow way: one answer, the whole vocabulary."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        log_p = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    return float(log_p[torch.arange(len(prompt) - 1, len(ids[0]) - 1), ids[0, len(prompt) :]].sum())


@pytest.mark.parametrize("precompute", [False, True])
def test_records_are_those_of_the_plain_models_and_of_the_trainers_logs(tiny_qwen2, tmp_path, precompute):
    trainer = dpo(tiny_qwen2, tmp_path, precompute_ref_log_probs=precompute)
    dynamics = TrainingDynamics().bind(trainer)
    reference = AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32).eval()
    first_batch, inner = [], trainer.data_collator

    def listening(examples):
        if not first_batch:
            first_batch.extend(examples)
        return inner(examples)

    trainer.data_collator = listening
    trainer.train()
    seen = courses(dynamics, range(N))
    for example in first_batch:  # before the first step the policy is the reference
        chosen, rejected = (logp(reference, example["prompt_ids"], example[f"{s}_ids"]) for s in ("chosen", "rejected"))
        row = example[ROW]
        assert seen["chosen_logp"][row, 0] == pytest.approx(chosen, abs=1e-4)
        assert seen["rejected_logp"][row, 0] == pytest.approx(rejected, abs=1e-4)
        assert seen["margin"][row, 0] == pytest.approx(0, abs=1e-4)
    logs = [log for log in trainer.state.log_history if "rewards/margins" in log and "loss" in log]
    for e in range(3):
        mine = {k: np.mean([log[k] for log in logs[2 * e : 2 * e + 2]]) for k in logs[0] if "/" in k}
        assert seen["margin"][:, e].mean() == pytest.approx(mine["rewards/margins"], abs=1e-5)
        assert (seen["margin"][:, e] > 0).mean() == pytest.approx(mine["rewards/accuracies"], abs=1e-6)
        assert seen["chosen_logp"][:, e].mean() == pytest.approx(mine["logps/chosen"], rel=1e-5)
    summary = [log for log in trainer.state.log_history if "dynamics/margin" in log]
    assert [log["dynamics/reward_accuracy"] for log in summary] == [(seen["margin"][:, e] > 0).mean() for e in range(3)]


def test_columns_of_pairs(tiny_qwen2, tmp_path):
    trainer = dpo(tiny_qwen2, tmp_path)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    found, seen = dynamics.add_to(pairs()), courses(dynamics, range(N))
    right = seen["margin"] > 0
    assert found["dynamics_margin_last"][:] == pytest.approx(seen["margin"][:, 2], rel=1e-6)
    assert found["dynamics_reward_accuracy"][:] == pytest.approx(right.mean(1))
    assert found["dynamics_confidence"][:] == pytest.approx((1 / (1 + np.exp(-seen["margin"]))).mean(1), rel=1e-5)
    falls = [sum(a and not b for a, b in pairwise(row)) for row in right.tolist()]
    ever = right.any(1).tolist()
    assert found["dynamics_forgetting"][:] == [n if yes else None for n, yes in zip(falls, ever, strict=True)]
    assert found["dynamics_forgetting_score"][:] == [n if yes else 3 for n, yes in zip(falls, ever, strict=True)]
    assert found["dynamics_chosen_logp_mean_status"][:] == ["ok"] * N
    assert not any("loss" in name for name in found.column_names)


def test_an_adapter_is_its_own_reference(tiny_qwen2, tmp_path):
    peft = pytest.importorskip("peft")
    base = AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32)
    trainer = dpo(tiny_qwen2, tmp_path, model=peft.get_peft_model(base, peft.LoraConfig(r=2)), learning_rate=0.1)
    dynamics = TrainingDynamics(probe="epoch").bind(trainer)
    trainer.train()
    margin = courses(dynamics, range(N))["margin"]
    logs = [log["rewards/margins"] for log in trainer.state.log_history if "loss" in log]
    assert margin.mean(0) == pytest.approx(np.reshape(logs, (3, 2)).mean(1), abs=1e-5)
    probed = dynamics._recorder.probe.records.trajectories(np.arange(N))["margin"]
    assert probed[:, 0] == pytest.approx(np.zeros(N), abs=1e-5) and abs(probed[:, 3]).max() > 1e-3


def test_a_probe_of_other_pairs(tiny_qwen2, tmp_path):
    held_out = pairs().select([3, 1])
    trainer = dpo(tiny_qwen2, tmp_path, learning_rate=0.0)
    dynamics = TrainingDynamics(probe="epoch", probe_on=held_out).bind(trainer)
    trainer.train()
    found = dynamics.add_probe_to(held_out)
    trained = courses(dynamics, [3, 1])
    assert found["probe_passes"][:] == [4, 4]
    assert found["probe_chosen_logp_last"][:] == pytest.approx(trained["chosen_logp"][:, 0], rel=1e-5)


def test_what_dpo_cannot_have(tiny_qwen2, tmp_path):
    with pytest.raises(CannotRecord, match=r"ld_alpha=0.5 weighs"):
        TrainingDynamics().bind(dpo(tiny_qwen2, tmp_path, ld_alpha=0.5))
    with pytest.raises(CannotRecord, match="leave gradients out"):
        TrainingDynamics(probe="epoch", gradients="trainable").bind(dpo(tiny_qwen2, tmp_path))
    with pytest.raises(CannotRecord, match="leaves no reference model"):
        trainer = dpo(tiny_qwen2, tmp_path, precompute_ref_log_probs=True)
        TrainingDynamics(probe="epoch", probe_on=pairs()).bind(trainer)

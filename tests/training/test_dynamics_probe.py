"""Probes: passes that change nothing, and gradient norms equal to those of autograd."""

import numpy as np
import pytest
import torch

import hf_dsel
from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.gradient_norms import last_layer_norms
from hf_dsel.training.recordable import CannotRecord
from hf_dsel.training.row_numbers import ROW
from tests.conftest import make_tokenizer
from tests.training.tiny_runs import sft, tiny_model, tiny_pool


def norms_by_autograd(model, example, weights):
    """The slow way: one row, one backward pass through the plain model."""
    model.zero_grad()
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    model(input_ids=ids, labels=labels).loss.backward()
    norm = torch.stack([w.grad.square().sum() for w in weights]).sum().sqrt().item()
    model.zero_grad()
    return norm


def probed(dynamics, rows):
    return dynamics._recorder.probe.records.trajectories(np.asarray(rows))


@pytest.mark.parametrize("gradients", ["last_layer", "trainable"])
@pytest.mark.parametrize("options", [{}, {"padding_free": True, "max_length": None}], ids=["padded", "padding_free"])
def test_grand_is_the_norm_that_autograd_gives(gradients, options):
    trainer = sft(tiny_pool(7), learning_rate=0.0, num_train_epochs=1, **options)
    model = tiny_model(trainer.processing_class).eval()
    dynamics = TrainingDynamics(probe="epoch", gradients=gradients).bind(trainer)
    trainer.train()
    weights = list(model.parameters()) if gradients == "trainable" else [model.lm_head.weight]
    expected = [norms_by_autograd(model, e, weights) for e in sorted(trainer.train_dataset, key=lambda e: e[ROW])]
    found = probed(dynamics, range(7))["grand"]
    assert found[:, 0] == pytest.approx(expected, rel=1e-4) and found[:, 1] == pytest.approx(expected, rel=1e-4)
    assert dynamics.add_to(tiny_pool(7))["probe_grand"][:] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("width", [1, 7, 64, 10**9])
def test_the_tiles_of_the_vocabulary_do_not_matter(width, monkeypatch):
    import hf_dsel.training.gradient_norms as module

    trainer = sft(tiny_pool(3))
    TrainingDynamics().bind(trainer)
    model = trainer.model.eval()
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, len(model.lm_head.weight)))
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(3)])
    batch.pop(ROW)
    with torch.no_grad():
        output = model(**batch, fused_lm_head=True)
        monkeypatch.setattr(module, "LOGITS", width)
        found = last_layer_norms(model, batch, output)[:, 0]
    weights = [model.lm_head.weight, model.lm_head.bias]
    expected = [norms_by_autograd(model, trainer.train_dataset[i], weights) for i in range(3)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_logits_that_are_scaled_are_noticed():
    trainer = sft(tiny_pool(3))
    TrainingDynamics().bind(trainer)
    model = trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[0]])
    batch.pop(ROW)
    with torch.no_grad():
        output = model(**batch, fused_lm_head=True)
        model.lm_head.weight *= 0.5
        with pytest.raises(CannotRecord, match="gradients='trainable'"):
            last_layer_norms(model, batch, output)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
def test_the_last_layer_under_adapters_that_add_tokens(kind):
    """The model beneath them does not see their tokens: refused; the gradient of the adapter goes through them."""
    peft = pytest.importorskip("peft")

    def tuned():
        config = getattr(peft, kind)(num_virtual_tokens=2, task_type="CAUSAL_LM")
        model = peft.get_peft_model(tiny_model(make_tokenizer()), config)
        return sft(tiny_pool(4), model=model, num_train_epochs=1, gradient_checkpointing=False)

    with pytest.raises(CannotRecord, match=r"'default' \(\w+\) puts tokens of its own.*use gradients='trainable'"):
        TrainingDynamics(probe="epoch", gradients="last_layer").bind(tuned())
    dynamics = TrainingDynamics(probe="epoch", gradients="trainable").bind(trainer := tuned())
    trainer.train()
    found = dynamics.add_to(tiny_pool(4))
    assert min(found["probe_grand"][:]) > 0 and found["dynamics_epochs"][:] == [1] * 4


def test_a_probe_changes_nothing():
    trained, losses = [], []
    for more in ({}, {"probe": "epoch", "gradients": "trainable"}, {"probe": "steps", "probe_every": 3}):
        model = tiny_model(sft(tiny_pool(2)).processing_class, attention_dropout=0.2)
        trainer = sft(tiny_pool(8), model=model, num_train_epochs=2, per_device_train_batch_size=2)
        dynamics = TrainingDynamics(**more).bind(trainer)
        trainer.train()
        trained.append([p.detach().clone() for p in trainer.model.parameters()])
        losses.append([log for log in trainer.state.log_history if "loss" in log])
        assert trainer.model.training
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 8
    for other in trained[1:]:
        assert all(torch.equal(a, b) for a, b in zip(trained[0], other, strict=True))
    assert sorted(dynamics._recorder.probe.records.passes) == [0, 1, 2]  # before, after steps 3 and 6 of 8
    assert sum("probe/loss" in log for log in trainer.state.log_history) == 3


def test_a_probe_of_some_rows_and_of_rows_never_trained_on():
    trainer = sft(tiny_pool(8), max_steps=1, per_device_train_batch_size=2)
    dynamics = TrainingDynamics(probe="steps", probe_every=1, probe_on=[5, 2]).bind(trainer)
    trainer.train()
    found = dynamics.add_to(tiny_pool(8))
    assert found["probe_passes"][:] == [0, 0, 2, 0, 0, 2, 0, 0] and sum(found["dynamics_epochs"][:]) == 2
    assert found["probe_loss_mean_status"][0] == "not probed" and found["probe_loss_mean"][0] is None
    with pytest.raises(ValueError, match="did not run on another dataset"):
        dynamics.add_probe_to(tiny_pool(8))


def test_a_probe_of_a_held_out_set_measures_what_an_evaluation_does():
    pool, held_out = tiny_pool(8), tiny_pool(20).select(range(12, 17))
    trainer = sft(pool, num_train_epochs=2)
    dynamics = TrainingDynamics(probe="epoch", probe_on=hf_dsel.to_trl(held_out)).bind(trainer)
    trainer.train()
    found = dynamics.add_probe_to(held_out)
    assert found["probe_passes"][:] == [3] * 5 and min(found["probe_loss_drop"][:]) != 0
    n = probed(dynamics, range(5))["tokens"][:, 0]
    expected = trainer.evaluate(hf_dsel.to_trl(held_out))["eval_loss"]
    assert (np.array(found["probe_loss_last"][:]) * n).sum() / n.sum() == pytest.approx(expected, abs=1e-5)
    assert not any(name.startswith("probe") for name in dynamics.add_to(pool).column_names)
    with pytest.raises(ValueError, match="probe_on has 5 rows, this dataset 8"):
        dynamics.add_probe_to(pool)

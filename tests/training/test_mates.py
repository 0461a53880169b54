"""MATES: measured effects beside a slow copy, the training left as it was, the regression, the draw, a planted pool."""

import copy
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOTrainer, SFTTrainer

from hf_dsel.cli import main
from hf_dsel.strategies.random import Random
from hf_dsel.training import one_step_influence
from hf_dsel.training.influence_model import PENALTIES, fit, held_out_spearman
from hf_dsel.training.influential_rows import gumbel_order
from hf_dsel.training.mates import Mates
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.reselect_state import STATE, ForeignRounds
from hf_dsel.training.reselectable import CannotReselect
from tests.conftest import make_tokenizer
from tests.training.mates_worker import embedded, held_out, mates_each_epoch, noted
from tests.training.reselect_worker import Seen
from tests.training.test_reselect import dpo, pairs
from tests.training.tiny_runs import sft, tiny_model

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TRL_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small are slower on several threads, and much slower where other work wants them too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def slow_effects(trainer, places, reference):
    """Copies of the model and the optimiser, one step, two losses from the logits; row by row, without batches."""

    def prepared(rows):
        prepared = trainer._prepare_dataset(
            one_step_influence.to_trl(rows), trainer.processing_class, trainer.args, False, None, "slow"
        )
        return [{k: torch.tensor([row[k]]) for k in ("input_ids", "labels")} for row in prepared.with_format(None)]

    def token_losses(model, row):
        log_p = model(input_ids=row["input_ids"]).logits[:, :-1].float().log_softmax(-1)
        y = row["labels"][:, 1:]
        return -log_p.gather(2, y.clamp(min=0)[..., None])[..., 0][y != -100]

    def loss_of(model):
        with torch.no_grad():
            return np.mean([token_losses(model, row).mean().item() for row in rows])

    rows = prepared(reference)
    found = []
    for place in places:
        model, optimizer = copy.deepcopy((trainer.model, trainer.optimizer.optimizer))
        model.eval()
        for module in model.modules():
            vars(module).pop("forward", None)  # what TRL and accelerate put there is bound to the original
        row = trainer.train_dataset.with_format(None)[int(place)]
        losses = token_losses(model, {k: torch.tensor([row[k]]) for k in ("input_ids", "labels")})
        if trainer.args.loss_type == "dft":
            losses = losses * (-losses).exp().detach()
        losses.mean().backward()
        if trainer.args.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        before = loss_of(model)
        type(optimizer).step(optimizer)  # its own step; the scheduler wrapped that of the original
        found.append(before - loss_of(model))
    return np.array(found), before


def everything(trainer):
    """Weights, gradients, optimiser, modes, random numbers and metrics, as values."""
    optimizer = trainer.optimizer.optimizer
    state = optimizer.state_dict()
    return {
        "weights": [w.detach().clone() for w in trainer.model.state_dict().values()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in trainer.model.parameters()],
        "state": copy.deepcopy(state["state"]),
        "groups": copy.deepcopy(state["param_groups"]),
        "of": [list(optimizer.state[p]) if p in optimizer.state else None for p in trainer.model.parameters()],
        "modes": [m.training for m in trainer.model.modules()],
        "random": torch.get_rng_state(),
        "metrics": copy.deepcopy(trainer._metrics),
        "tokens": trainer._total_train_tokens,
    }


def same(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b


def measuring(trainer, reference, places, *, slow=True, at=1):
    """A plan that measures before round `at` and checks that nothing has changed; otherwise random rows."""
    found = {}

    def plan(now):
        if now.number == at:
            batches = one_step_influence.reference_batches(trainer, reference)
            before = everything(trainer)
            measure = lambda model, tokenizer, share: one_step_influence.one_step_effects(  # noqa: E731
                trainer, np.array(share["place"][:]), batches
            )
            effects = now.measure(measure, Dataset.from_dict({"place": places}))
            assert same(everything(trainer), before)
            found["effect"], found["loss"] = np.array(effects["effect"][:]), effects["reference_loss"][0]
            if slow:
                found["slow"] = slow_effects(trainer, places, reference)
        return Random()

    return plan, found


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "warmup_steps": 3, "lr_scheduler_type": "cosine"},
        {"max_grad_norm": 0.05, "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 3},
        {"max_grad_norm": 0.0, "optim": "sgd", "optim_args": None},
        {"optim": "adafactor", "learning_rate": 1e-3},
        {"loss_type": "dft"},
        {"padding_free": True, "max_length": None, "per_device_eval_batch_size": 4},
    ],
)
def test_effects_beside_copies_of_model_and_optimiser(options):
    pool, reference = embedded(24), held_out(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = sft(pool, num_train_epochs=2, **options)
    plan, found = measuring(trainer, reference, [0, 3, 5, 11, 22])
    Reselect(plan, 12).bind(trainer, pool)
    trainer.train()
    slow, loss = found["slow"]
    assert found["loss"] == pytest.approx(loss, abs=1e-6) and found["effect"] == pytest.approx(slow, abs=2e-6)
    print(options, "largest difference", np.abs(found["effect"] - slow).max(), "of effects", slow.round(4))
    assert np.ptp(slow) > 1e-4


def test_before_the_first_step_the_optimiser_has_no_state_and_gets_none():
    trainer = sft(embedded(12), num_train_epochs=1)
    plan, found = measuring(trainer, held_out(4), [1, 2], at=0)
    Reselect(plan, 4).bind(trainer)
    trainer.train()
    assert found["effect"] == pytest.approx(found["slow"][0], abs=2e-6)


def test_adapters():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.2)
    model = peft.get_peft_model(tiny_model(make_tokenizer()), config)
    trainer = sft(embedded(16), model=model, num_train_epochs=2, gradient_checkpointing=True)
    plan, found = measuring(trainer, held_out(5), [0, 4, 9])
    Reselect(plan, 8).bind(trainer)
    trainer.train()
    assert found["effect"] == pytest.approx(found["slow"][0], abs=2e-6) and np.ptp(found["effect"]) > 1e-6


def test_bfloat16_sees_the_stepped_weights():
    """Autocast keeps bfloat16 copies of the weights within a pass over many rows; they must not outlive a step."""
    effects = []
    for bf16 in (False, True):
        trainer = sft(embedded(16), bf16=bf16, num_train_epochs=2, learning_rate=3e-2)
        plan, found = measuring(trainer, held_out(8), list(range(12)), slow=False)
        Reselect(plan, 8).bind(trainer)
        trainer.train()
        effects.append(found["effect"])
    print("float32", effects[0].round(4), "bfloat16", effects[1].round(4))
    assert np.corrcoef(*effects)[0, 1] > 0.9


def test_training_is_the_same_as_without_measuring():
    final = []
    for measured in (False, True):
        model = tiny_model(make_tokenizer(), attention_dropout=0.3)
        trainer = sft(embedded(16), model=model, num_train_epochs=3, warmup_steps=2, weight_decay=0.1)
        plan, _ = measuring(trainer, held_out(4), [0, 1, 2], slow=False)
        Reselect(plan if measured else "random", 8).bind(trainer)
        trainer.train()
        logged = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        final.append((trainer.model.state_dict(), trainer.optimizer.optimizer.state_dict(), logged,
                      [log["num_tokens"] for log in trainer.state.log_history if "num_tokens" in log]))  # fmt: skip
    assert same(*map(list, final))


def test_an_error_in_mid_measurement_leaves_the_weights_as_they_were():
    trainer = sft(embedded(12), num_train_epochs=2)
    trainer.create_optimizer_and_scheduler(4)
    before = everything(trainer_with(trainer))
    with pytest.raises(ArithmeticError), one_step_influence.taken_back(trainer.optimizer.optimizer):
        one_step_influence.step_on(
            trainer, trainer.optimizer.optimizer, one_step_influence._collated(trainer, trainer.train_dataset, [0])
        )
        assert not same(everything(trainer)["weights"], before["weights"])
        raise ArithmeticError
    assert same(everything(trainer), before)


def trainer_with(trainer):
    trainer.optimizer = trainer.accelerator.prepare(trainer.optimizer)
    return trainer


@given(n=st.integers(2, 12), dim=st.integers(1, 15), power=st.floats(-3, 3), seed=st.integers(0, 99))
def test_ridge_beside_the_normal_equations(n, dim, power, seed):
    rng = np.random.default_rng(seed)
    x, y, penalty = rng.normal(size=(n, dim)) + 5, rng.normal(size=n), 10**power
    c = x - x.mean(0)
    unit = (c**2).sum(1).mean()
    w = np.linalg.solve(c.T @ c + penalty * unit * np.eye(dim), c.T @ (y - y.mean()))
    new = rng.normal(size=(4, dim)).astype(np.float32)
    assert fit(x, y, penalty)(new) == pytest.approx((new - x.mean(0)) @ w + y.mean(), rel=1e-6, abs=1e-8)


def test_the_penalty_is_the_one_that_predicts_left_out_rows_best():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 6))
    y = x[:, 0] + rng.normal(size=20)
    unit = ((x - x.mean(0)) ** 2).sum(1).mean()

    def left_out(penalty):
        total = 0.0
        for i in range(20):  # the rest, centred on all rows' mean as the formula has it, with λ of all rows
            rest = np.arange(20) != i
            a = np.c_[np.ones(20), x - x.mean(0)][rest]
            w = np.linalg.solve(a.T @ a + np.diag([0.0] + [penalty * unit] * 6), a.T @ y[rest])
            total += (y[i] - np.r_[1, x[i] - x.mean(0)] @ w) ** 2
        return total

    errors = {penalty: left_out(penalty) for penalty in PENALTIES}
    assert fit(x, y).penalty == min(errors, key=errors.get)


def test_vectors_or_effects_that_are_all_the_same_predict_the_mean():
    rng = np.random.default_rng(0)
    one = np.tile(rng.normal(size=5), (12, 1))
    assert fit(one, np.arange(12.0))(one) == pytest.approx(np.full(12, 5.5))
    assert fit(rng.normal(size=(12, 5)), np.zeros(12))(one).tolist() == [0.0] * 12
    assert held_out_spearman(one, np.arange(12.0), None, rng) == 0
    with pytest.raises(ValueError, match=r"x is \(3,\), y \(3,\)"):
        fit(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="penalty=0"):
        fit(np.ones((3, 1)), np.ones(3), 0)


def test_held_out_correlation_is_about_zero_where_there_is_nothing_and_one_where_all_is_told():
    rng = np.random.default_rng(0)
    nothing = [held_out_spearman(rng.normal(size=(40, 16)), rng.normal(size=40), None, rng) for _ in range(60)]
    print("nothing to predict: mean", np.mean(nothing), "sd", np.std(nothing), "1/sqrt(n)", 1 / math.sqrt(40))
    assert abs(np.mean(nothing)) < 0.06 and np.std(nothing) < 1.5 / math.sqrt(40)
    x = rng.normal(size=(60, 8))
    assert held_out_spearman(x, x @ np.arange(8.0), None, rng) > 0.95


@pytest.mark.parametrize(("scores", "scale", "k"), [((0.0, 1.0, 2.0), 1.0, 2), ((0.3, 0.1, 0.0, -0.4), 0.25, 2)])
def test_draws_beside_every_order_counted_out(scores, scale, k):
    weight = np.exp(np.array(scores) / scale)
    exact = np.zeros(len(scores))
    first = np.zeros(len(scores))
    for order in itertools.permutations(range(len(scores)), k):
        p, left = 1.0, weight.sum()
        for row in order:
            p, left = p * weight[row] / left, left - weight[row]
        exact[list(order)] += p
        first[order[0]] += p
    rng = np.random.default_rng(0)
    orders = np.array([gumbel_order(np.array(scores), scale, rng)[:k] for _ in range(40_000)])
    seen = np.array([(orders == row).any(1).mean() for row in range(len(scores))])
    drawn_first = np.array([(orders[:, 0] == row).mean() for row in range(len(scores))])
    print("exact", exact.round(4), "seen", seen.round(4), "first", first.round(4), drawn_first.round(4))
    assert seen == pytest.approx(exact, abs=0.01) and drawn_first == pytest.approx(first, abs=0.01)


def test_temperature_zero_takes_the_largest_and_ties_at_random():
    assert gumbel_order(np.array([1.0, 3.0, 2.0]), 0, np.random.default_rng(0)).tolist() == [1, 2, 0]
    ties = {int(gumbel_order(np.zeros(3), 0, np.random.default_rng(seed))[0]) for seed in range(20)}
    assert ties == {0, 1, 2}


def planted(n, seed=0):
    """Half of the rows answer like the reference, the others say its letters in disorder; the vectors roughly tell."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        good = bool(rng.random() < 0.5)
        said = "The sum is 42. The sea rolls in and out."
        if not good:
            said = " ".join(rng.permutation(said.split()))[::-1]
        vector = rng.normal(size=8) + (1.5 if good else -1.5) * np.eye(8)[0]
        rows.append({"instruction": f"Of {i}.", "input": "", "output": said, "good": good, "embedding": vector})
    return Dataset.from_list(rows)


def test_what_helps_is_measured_higher_and_drawn_more_often():
    pool, reference = planted(160), planted(40, seed=1).filter(lambda row: row["good"]).select(range(12))
    good = np.array(pool["good"][:])
    trainer = sft(pool, num_train_epochs=4, learning_rate=1e-3)
    reselect = Reselect(Mates(reference, probe=40, temperature=0.5), 32).bind(trainer, pool)
    trainer.train()
    state = reselect._reselector.state
    logs = {log["reselect/round"]: log for log in trainer.state.log_history if "reselect/round" in log}
    assert "reselect/influence_spearman" not in logs[0]
    for number in (1, 2, 3):
        note, log = state.notes[number], logs[number]
        rows, effects = np.array(note["probe_rows"]), np.array(note["effects"])
        helpful, harmful = effects[good[rows]].mean(), effects[~good[rows]].mean()
        share = good[reselect.selections[number].indices].mean()
        print(f"round {number}: effect {helpful:.4f} of helpful rows, {harmful:.4f} of harmful ones; Spearman "
              f"{log['reselect/influence_spearman']:.2f}; {share:.0%} helpful drawn of {good.mean():.0%}")  # fmt: skip
        assert helpful > harmful and share > good.mean() + 0.15
        assert log["reselect/influence_spearman"] > 0.3
        assert log["reselect/effect_mean"] == pytest.approx(effects.mean())
        assert log["reselect/effect_sd"] == pytest.approx(effects.std())
        assert log["reselect/probe_seconds"] > 0 and log["reselect/probe_failed"] == 0
        again = Reselect("random", 32)
        assert len(set(rows.tolist())) == 40 and again.k == len(reselect.selections[number])
    assert logs[3]["reselect/reference_loss"] < logs[1]["reselect/reference_loss"]


def test_where_nothing_is_predicted_it_says_so(capsys):
    pool = embedded(30)
    noise = np.random.default_rng(5).normal(size=(30, 20)).tolist()
    trainer = sft(pool.remove_columns("embedding").add_column("vector", noise), num_train_epochs=2, learning_rate=0.0)
    chosen = Reselect(Mates(held_out(4), probe=20, embedding="vector"), 8)
    chosen.bind(trainer)
    with pytest.warns(UserWarning, match=r"does not predict \(Spearman 0.00 on held-out probe rows\).*raise probe=20"):
        trainer.train()
    said = capsys.readouterr().err
    assert "Mates: 20 times a step on one row and a forward pass over 4 reference rows before each of 1 round" in said
    log = next(log for log in trainer.state.log_history if log.get("reselect/round") == 1)
    assert log["reselect/effect_sd"] == 0 and len(set(chosen.selections[1].indices.tolist())) == 8


def test_rows_without_a_vector_are_neither_measured_nor_drawn():
    pool = embedded(30)
    vectors = [None if i % 3 == 0 else v for i, v in enumerate(pool["embedding"][:])]
    pool = pool.remove_columns("embedding").add_column("embedding", vectors)
    trainer = sft(pool, num_train_epochs=2)
    reselect = Reselect(Mates(held_out(4), probe=20, temperature=0), 10).bind(trainer, pool)
    trainer.train()
    drawn = [*reselect.selections[1].indices.tolist(), *reselect._reselector.state.notes[1]["probe_rows"]]
    assert all(i % 3 for i in drawn)
    for options, k, message in (({"probe": 21}, 10, "probe=21 is more than the 20 rows with a vector"),
                                ({"probe": 20}, 25, "k=25 is more than the 20 rows with a vector")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Reselect(Mates(held_out(4), **options), k).bind(sft(pool, num_train_epochs=2), pool)


@pytest.mark.parametrize("at", [2, 4, 6, 8])
def test_resumed_runs_choose_the_same_rows(at, tmp_path):
    trainer, reselect, seen = mates_each_epoch(str(tmp_path / "whole"))
    trainer.train()
    chosen = {number: s.indices.tolist() for number, s in reselect.selections.items()}
    again, resumed, after = mates_each_epoch(str(tmp_path / "again"))
    again.train(resume_from_checkpoint=str(tmp_path / f"whole/checkpoint-{at}"))
    found = {number: s.indices.tolist() for number, s in resumed.selections.items()}
    assert max(found) == 2 and found == {number: chosen[number] for number in found}
    assert after.steps == {step: rows for step, rows in seen.steps.items() if step >= at}
    assert resumed._reselector.state.notes[2]["effects"] == reselect._reselector.state.notes[2]["effects"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer, reselect, seen = mates_each_epoch(str(tmp_path_factory.mktemp("unbroken")))
    trainer.train()
    torch.set_num_threads(threads)
    return reselect.selections, seen.steps, noted(reselect)


@pytest.mark.parametrize(
    ("step", "measured", "last"),
    [
        (7, 0, 6),  # in round 1, whose rows are in the checkpoint
        (12, 12, 4),  # while round 1 is measured, the eleventh probe's step not yet taken back: it is measured again
        (12, 30, 8),  # while round 2 is measured: the twenty probes and the loss before them were the first 21 losses
    ],
)
def test_killed_and_resumed(unbroken, tmp_path, step, measured, last):
    selections, steps, notes = unbroken
    worker = [sys.executable, "-m", "tests.training.mates_worker", "killed", str(tmp_path), str(step), str(measured)]
    found = subprocess.run(worker, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr[-3000:]
    assert max(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*")) == last
    before = dict(json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines())
    assert max(before) + 1 == (last if measured else step)
    trainer, reselect, seen = mates_each_epoch(str(tmp_path))
    trainer.train(resume_from_checkpoint=True)
    assert min(seen.steps) == last and before | seen.steps == steps
    for ours, theirs in zip(noted(reselect), notes, strict=True):
        assert set(ours) == set(theirs) and ours.get("probe_rows") == theirs.get("probe_rows")
        for name in set(ours) - {"probe_rows"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-7), name
    assert max(reselect.selections) == 2
    for number, selection in reselect.selections.items():
        assert selection.indices.tolist() == selections[number].indices.tolist()
        assert selection.gains == pytest.approx(
            selections[number].gains, abs=1e-7, nan_ok=True
        )  # the predicted effects


def test_a_checkpoint_measured_on_another_reference_is_refused(tmp_path):
    trainer, _, _ = mates_each_epoch(str(tmp_path))
    trainer.train()
    other = sft(embedded(24), per_device_train_batch_size=2)
    Reselect(Mates(held_out(6), probe=20), 8).bind(other, embedded(24))
    with pytest.raises(ForeignRounds, match="reference_sha256"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.distributed
def test_two_ranks_measure_a_share_each_and_choose_the_same(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m"]
    line = [*torchrun, "tests.training.mates_worker", "ranks", str(tmp_path)]
    found = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-3000:]
    zero, one = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert zero == one and zero["same weights"]
    trainer, reselect, _ = mates_each_epoch(str(tmp_path / "alone"))
    trainer.train()
    assert zero["chosen"]["0"] == reselect.selections[0].indices.tolist()
    note = reselect._reselector.state.notes[1]
    assert zero["notes"][1]["probe_rows"] == note["probe_rows"]
    assert zero["notes"][1]["effects"] == pytest.approx(note["effects"], abs=1e-4)
    assert zero["notes"][1]["reference_loss"] == pytest.approx(note["reference_loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": 19}, "probe=19; it is a whole number from 20 on"),
        ({"probe": 64.0}, "probe=64.0"),
        ({"temperature": -1}, "temperature=-1; it is a number from 0 on"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": "high"}, "temperature='high'"),
        ({"penalty": 0}, "penalty=0; it is a number above 0, or None"),
        ({"reference": held_out(1).select([])}, "reference is empty"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Mates(**{"reference": held_out(2)} | options)


def test_a_reference_is_a_dataset():
    with pytest.raises(TypeError, match="got str; open_dataset reads files"):
        Mates("held_out.parquet")


class OwnLoss(SFTTrainer):
    def compute_loss(self, *args, **kwargs):
        return 2 * super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize(
    ("options", "reselect", "message"),
    [
        ({"num_train_epochs": 1}, {}, "the first round of Mates is random and this training has no other"),
        ({"num_train_epochs": 3}, {"every": "once"}, "this training has no other"),
        ({"max_steps": 5}, {"every": 5}, "this training has no other"),
        ({"max_steps": 3}, {}, "this training has no other"),
        ({"optim": "lomo"}, {}, "optim='lomo' steps in the backward pass"),
        ({"label_smoothing_factor": 0.1}, {}, "measured with TRL's own loss"),
        ({"cls": OwnLoss}, {}, "measured with TRL's own loss"),
    ],
)
def test_refused_at_bind(options, reselect, message):
    trainer = sft(embedded(24), **options)
    with pytest.raises(CannotReselect, match=message):
        Reselect(Mates(held_out(2), probe=20), 12, **reselect).bind(trainer)


def test_preferences_are_refused():
    pool = pairs(24).add_column("embedding", embedded(24)["embedding"][:])
    trainer = dpo(Path(tempfile.mkdtemp()), pool)
    assert isinstance(trainer, DPOTrainer)
    with pytest.raises(CannotReselect, match="changes of the loss on answers; use an SFTTrainer"):
        Reselect(Mates(held_out(2), probe=20), 12).bind(trainer, pool)


def test_a_reference_without_a_token_to_learn_from_and_a_column_without_vectors_are_refused_at_bind():
    empty = Dataset.from_list([{"instruction": "Say " * 90, "input": "", "output": "x"}])
    with pytest.raises(ValueError, match="reference has no row with a token to learn from"):
        Reselect(Mates(empty, probe=20), 8).bind(sft(embedded(24)))
    pool = embedded(24).add_column("hard", list(range(24)))
    with pytest.raises(TypeError, match="column 'hard' holds single values, not embeddings"):
        Reselect(Mates(held_out(2), probe=20, embedding="hard"), 8).bind(sft(pool), pool)


def test_from_a_file(tmp_path, monkeypatch, tiny_qwen2, capsys):
    monkeypatch.chdir(tmp_path)
    embedded(24).to_parquet("pool.parquet")
    held_out(4).to_parquet("held_out.parquet")
    file = {"model_name_or_path": tiny_qwen2, "dataset_name": "pool.parquet", "output_dir": "out", "use_cpu": True,
            "bf16": False, "report_to": "none", "dtype": "float32", "per_device_train_batch_size": 4,
            "num_train_epochs": 2, "save_strategy": "epoch"}  # fmt: skip
    mates = {"reference": "held_out.parquet", "probe": 20, "temperature": 0.5}
    Path("x.yaml").write_text(yaml.safe_dump(file | {"reselect": {"mates": mates, "k": 8}}))
    assert main(["sft", "--config", "x.yaml"]) == 0
    state = json.loads(Path("out/checkpoint-4", STATE).read_text())
    assert len(state["notes"][1]["effects"]) == 20 and len(list(Path("out/selections").iterdir())) == 2
    for wrong, message in (({"probe": 5}, "probe=5"), ({"reference": None}, "mates needs reference, the file"),
                           ({"prob": 20}, "unknown key 'prob'; did you mean 'probe'")):  # fmt: skip
        Path("x.yaml").write_text(yaml.safe_dump(file | {"reselect": {"mates": mates | wrong, "k": 8}}))
        assert main(["sft", "--config", "x.yaml"]) == 2 and message in capsys.readouterr().err


def test_seen_rows_are_those_chosen():
    pool = embedded(24)
    trainer = sft(pool, max_steps=6, per_device_train_batch_size=4)
    seen = Seen(trainer)
    reselect = Reselect(Mates(held_out(3), probe=20), 8, every=2).bind(trainer, pool)
    trainer.train()
    for number in range(3):
        drawn = seen.between(2 * number, 2 * number + 2)
        assert sorted(drawn) == sorted(reselect.selections[number].indices.tolist())

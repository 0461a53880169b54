"""What is recorded is what the trainer computed: real steps of TRL's SFTTrainer on a tiny model."""

import gc
import weakref

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.training.dynamics import NothingRecorded, TrainingDynamics
from hf_dsel.training.recordable import CannotRecord
from hf_dsel.training.row_numbers import ROW, OtherRows
from tests.conftest import make_tokenizer
from tests.training.tiny_runs import CPU, courses, sft, tiny_model, tiny_pool

NAMES = ("loss", "accuracy", "el2n", "entropy", "tokens")


def reference(model, trainer):
    """The slow way: each row alone through the plain model, softmax over the whole vocabulary."""
    found = {}
    for example in trainer.train_dataset:
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
        with torch.no_grad():
            p = model(input_ids=ids).logits[0, :-1].double().softmax(-1)
        y = labels[0, 1:]
        p, y = p[y != -100], y[y != -100]
        at = p[torch.arange(len(y)), y]
        wrong = p.clone()
        wrong[torch.arange(len(y)), y] -= 1
        found[example[ROW]] = [
            float(-at.log().mean()), float((p.argmax(1) == y).double().mean()), float(wrong.norm(dim=1).mean()),
            float(-(p * p.log()).sum(1).mean()), len(y),
        ]  # fmt: skip
    return np.array([found[row] for row in sorted(found)])


@pytest.mark.parametrize("how", ["padded", "padding_free", "packed"])
def test_every_number_is_the_one_of_the_plain_model(how):
    pool = tiny_pool(11)
    options = {} if how == "padded" else {"padding_free": True, "max_length": None}
    trainer = sft(pool, learning_rate=0.0, num_train_epochs=2, **options)
    numbered = sft(pool)
    TrainingDynamics().bind(numbered)
    tokens = reference(trainer.model.eval(), numbered)
    dynamics = TrainingDynamics(pack_to=64 if how == "packed" else None).bind(trainer)
    trainer.train()
    assert (len(trainer.train_dataset) < 11) == (how == "packed")
    found = courses(dynamics, range(11))
    for i, name in enumerate(NAMES):
        for epoch in (0, 1):
            assert found[name][:, epoch] == pytest.approx(tokens[:, i], abs=2e-5), name


def test_the_model_is_freed_with_its_trainer_and_the_records_stay():
    pool = tiny_pool()
    trainer = sft(pool)
    dynamics = TrainingDynamics(probe="epoch", probe_on=[0, 1]).bind(trainer)
    reselect = hf_dsel.Reselect("random", k=8).bind(trainer)
    trainer.train()
    model = weakref.ref(trainer.model)
    before = dynamics.add_to(pool).to_dict()
    del trainer
    gc.collect()
    assert model() is None
    assert dynamics.add_to(pool).to_dict() == before and len(reselect.selections) == 3


def test_recorded_losses_are_the_trainers_own_step_by_step():
    batches = []
    trainer = sft(tiny_pool(), per_device_train_batch_size=3)
    dynamics = TrainingDynamics().bind(trainer)
    inner = trainer.data_collator

    def listening(examples):
        batches.append([e[ROW] for e in examples])
        return inner(examples)

    trainer.data_collator = listening
    trainer.train()
    logged = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    found = courses(dynamics, range(16))
    assert len(logged) == len(batches) == 18
    for i, (rows, loss) in enumerate(zip(batches, logged, strict=True)):
        mine, n = found["loss"][rows, i // 6], found["tokens"][rows, i // 6]
        assert (mine * n).sum() / n.sum() == pytest.approx(loss, abs=1e-5)


@pytest.fixture(scope="module")
def plain():
    """Three epochs, four rows a step; the records and the final weights without any TrainingDynamics."""
    trainer = sft(tiny_pool())
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    alone = sft(tiny_pool())
    alone.train()
    return courses(dynamics, range(16)), trainer, alone


def test_training_is_the_same_as_without(plain):
    _, trainer, alone = plain
    for a, b in zip(trainer.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(a, b)
    ours, theirs = ([log for log in t.state.log_history if "loss" in log] for t in (trainer, alone))
    for a, b in zip(ours, theirs, strict=True):
        assert a == b  # TRL's running means too


@pytest.mark.parametrize(
    "options",
    [{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
     {"padding_free": True, "max_length": None}, {"gradient_checkpointing": False},
     {"dataloader_num_workers": 2}, {"shuffle_dataset": True, "data_seed": 7},
     {"remove_unused_columns": False}],
    ids=lambda o: next(iter(o)),
)  # fmt: skip
def test_the_records_do_not_depend_on_how_it_runs(plain, options):
    trainer = sft(tiny_pool(), **options)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    found = courses(dynamics, range(16))
    if "shuffle_dataset" in options:  # other batches, the same rows
        tokens = plain[0]["tokens"]
        assert (found["tokens"] == tokens).all() and not np.allclose(found["loss"], plain[0]["loss"])
        return
    for name in NAMES:
        assert found[name] == pytest.approx(plain[0][name], abs=1e-4), name


def test_columns_and_statuses():
    pool = tiny_pool(9)
    trainer = sft(pool, num_train_epochs=3)
    dynamics = TrainingDynamics(learned_at=0.3).bind(trainer)
    with pytest.raises(NothingRecorded, match="come first"):
        dynamics.add_to(pool)
    trainer.train()
    found, seen = dynamics.add_to(pool), courses(dynamics, range(9))
    assert found["dynamics_loss_last"][:] == pytest.approx(seen["loss"][:, 2])
    assert found["dynamics_confidence"][:] == pytest.approx(np.exp(-seen["loss"]).mean(1), rel=1e-6)
    assert found["dynamics_epochs"][:] == [3] * 9 and set(found["dynamics_loss_mean_status"][:]) == {"ok"}
    first = found["dynamics_first_learned"][:]
    for row in range(9):
        learned = [e + 1 for e in range(3) if seen["accuracy"][row, e] >= 0.3]
        assert first[row] == (learned[0] if learned else None)
        assert (found["dynamics_first_learned_status"][row] == "never learned") == (not learned)
        assert (found["dynamics_forgetting_status"][row] == "never learned") == (not learned)
        assert (found["dynamics_forgetting_score"][row] == 3) == (not learned)
    assert (
        found.select_by("top_k", k=2, column="dynamics_loss_mean")["dynamics_loss_mean"][:]
        == sorted(found["dynamics_loss_mean"][:], reverse=True)[:2]
    )
    with pytest.raises(ValueError, match="already has the column 'dynamics_epochs'; drop"):
        dynamics.add_to(found)


def test_rows_not_seen_are_null_with_a_reason():
    pool = tiny_pool(12).add_column(ROW, list(range(12)))
    trainer = sft(pool.select([11, 0, 2, 5, 6, 7]), max_steps=2, per_device_train_batch_size=2)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    found = dynamics.add_to(pool.shuffle(seed=1))
    for row in found:
        trained = row[ROW] in (11, 0, 2, 5, 6, 7)
        if row["dynamics_epochs"] == 0:
            why = "not seen: not drawn while the training was recorded" if trained else "not in the training set"
            assert row["dynamics_loss_mean"] is None and row["dynamics_loss_mean_status"] == why
            assert row["dynamics_unforgettable"] is None and row["dynamics_forgetting_status"] == why
        else:
            assert trained and row["dynamics_loss_mean"] > 0
            assert (
                row["dynamics_loss_drop"] is None and row["dynamics_loss_drop_status"] == "seen once; this compares two"
            )
    assert found["dynamics_epochs"][:].count(1) == 4


def test_rows_that_trl_drops_keep_their_places():
    pool = tiny_pool(6)
    rows = pool[:]
    rows["instruction"][2] = "long " * 60  # fills max_length, so nothing of the answer is left
    pool = Dataset.from_dict(rows)
    trainer = sft(pool, num_train_epochs=1)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    found = dynamics.add_to(pool)
    assert len(trainer.train_dataset) == 5 and found["dynamics_epochs"][:] == [1, 1, 0, 1, 1, 1]
    assert found["dynamics_loss_mean_status"][2] == "left out by the trainer: no token to learn from"
    numbers = [trainer.train_dataset[i][ROW] for i in range(5)]
    assert numbers == [0, 1, 3, 4, 5]


def test_rows_that_pack_to_cuts_away_say_so():
    rows = tiny_pool(6).to_list()
    rows[2]["instruction"] = "long " * 30  # more than 64 tokens before the answer
    rows[4]["output"] = "rain " * 60  # cut, but not to nothing
    pool = Dataset.from_list(rows)
    trainer = sft(pool, num_train_epochs=2, padding_free=True, max_length=None)
    dynamics = TrainingDynamics(pack_to=64).bind(trainer)
    trainer.train()
    found = dynamics.add_to(pool)
    assert found["dynamics_epochs"][:] == [2, 2, 0, 2, 2, 2] and found["dynamics_loss_mean"][2] is None
    assert found["dynamics_loss_mean_status"][2] == "cut away: pack_to=64 leaves no token to learn from"


@pytest.mark.parametrize("probe", [None, "epoch"])
def test_rows_whose_loss_is_not_finite_say_so(probe):
    rows = tiny_pool(4).to_list()
    rows[2]["output"] = "~"  # a token that no other row has
    pool = Dataset.from_list(rows)
    trainer = sft(pool, max_steps=1)
    ids = [set(i) for i in trainer.train_dataset["input_ids"][:]]
    alone = ids[2] - ids[0] - ids[1] - ids[3]
    trainer.model.model.embed_tokens.weight.data[sorted(alone)] = torch.nan
    dynamics = TrainingDynamics(probe=probe).bind(trainer)
    trainer.train()
    found = dynamics.add_to(pool)
    assert found["dynamics_epochs"][:] == [1, 1, 0, 1]
    assert found["dynamics_loss_mean_status"][:] == ["ok", "ok", "the loss was not finite", "ok"]
    assert found["dynamics_forgetting_status"][2] == "the loss was not finite"
    if probe:
        assert found["probe_loss_mean_status"][2] == "the loss was not finite"


def test_a_row_without_a_scored_token_says_so():
    ids = [[5, 6, 7], [5, 6, 8], [9]]  # nothing comes before the only token of the last
    tokens = Dataset.from_dict({"input_ids": ids, "labels": ids})
    trainer = sft(tokens, max_steps=1, dataset_kwargs={"skip_prepare_dataset": True})
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    found = dynamics.add_to(tokens)
    assert found["dynamics_loss_mean_status"][:] == ["ok", "ok", "no token to learn from"]


@pytest.mark.parametrize("bf16", [False, True])
def test_the_model_has_its_stock_head_again(bf16):
    """A second trainer of the same model sees what TRL put there, also under accelerate's wrapper for bfloat16."""
    model = tiny_model(make_tokenizer())
    first, second = (sft(tiny_pool(8), model=model, num_train_epochs=2, bf16=bf16) for _ in range(2))
    stock, batch = model.forward, {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[5, 6, 7]])}
    dynamics = TrainingDynamics().bind(first)
    assert model.forward is stock
    for _ in range(2):  # trained twice, it records twice
        first.train()
        assert courses(dynamics, range(8))["el2n"].shape == (8, 2)
        assert bf16 or model.forward is stock
        assert model(**batch, fused_lm_head=True).log_sum_sq_probs is None
    second.train()
    assert model(**batch, fused_lm_head=True).log_sum_sq_probs is None

    class Broken(SFTTrainer):
        def training_step(self, *_, **__):
            raise ZeroDivisionError

    TrainingDynamics().bind(broken := sft(tiny_pool(4), cls=Broken, bf16=bf16))
    with pytest.raises(ZeroDivisionError):
        broken.train()
    assert broken.model(**batch, fused_lm_head=True).log_sum_sq_probs is None


def test_another_dataset_is_refused():
    pool = tiny_pool(6)
    trainer = sft(pool, max_steps=1)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    with pytest.raises(OtherRows, match="was given 6 rows and this dataset has 5"):
        dynamics.add_to(pool.select(range(5)))
    with pytest.raises(OtherRows, match="hold another text than the rows trained on"):
        dynamics.add_to(pool.select([1, 0, 2, 3, 4, 5]))
    numbered = dynamics.add_to(pool.add_column(ROW, list(range(10, 16))))  # the trainer was not given these numbers
    assert numbered["dynamics_loss_mean"][:] == dynamics.add_to(pool)["dynamics_loss_mean"][:]
    assert "dynamics_epochs" in dynamics.add_to(hf_dsel.to_trl(pool)).column_names


@pytest.mark.parametrize("kind", ["text", "messages", "prompt_completion"])
def test_every_format_of_sft(kind):
    turn = lambda role, text: {"role": role, "content": text}  # noqa: E731
    makers = {
        "text": lambda i: {"text": f"Number {i} is {i * i}."},
        "messages": lambda i: {"messages": [turn("user", f"Say {i}"), turn("assistant", f"It is {i}.")]},
        "prompt_completion": lambda i: {"prompt": f"Say {i}: ", "completion": f"It is {i}."},
    }
    pool = Dataset.from_list([makers[kind](i) for i in range(5)])
    trainer = sft(pool, num_train_epochs=1)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    assert dynamics.add_to(pool)["dynamics_epochs"][:] == [1] * 5


def test_the_logs_hold_a_summary_of_each_epoch(plain):
    found, trainer, _ = plain
    logs = [log for log in trainer.state.log_history if "dynamics/loss" in log]
    assert [log["epoch"] for log in logs] == [1, 2, 3] and "dynamics/forgotten" not in logs[0]
    for e, log in enumerate(logs):
        assert log["dynamics/loss"] == pytest.approx(found["loss"][:, e].mean(), rel=1e-6)
        assert log["dynamics/rows"] == 16
        assert log["dynamics/learned_at"] == np.median(found["accuracy"][:, e])
        if e:  # by the median as it is then
            was, now = (found["accuracy"][:, p] >= log["dynamics/learned_at"] for p in (e - 1, e))
            assert log["dynamics/forgotten"] == (was & ~now).sum()


def test_learned_is_what_half_of_the_rows_reach_in_the_end(plain):
    """Of all rows that were trained on, also where the columns go to a part of them."""
    found, _, _ = plain
    pool = tiny_pool().add_column(ROW, list(range(16)))
    trainer = sft(pool)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    learned = found["accuracy"] >= np.median(found["accuracy"][:, 2])
    some = [9, 3, 4]
    first = dynamics.add_to(pool.select(some))["dynamics_first_learned"][:]
    assert first == [int(learned[i].argmax()) + 1 if learned[i].any() else None for i in some]
    assert None in dynamics.add_to(pool)["dynamics_first_learned"][:]


def test_evaluation_is_not_recorded():
    pool = tiny_pool(8)
    held_out = hf_dsel.to_trl(tiny_pool(5).add_column(ROW, [90, 91, 92, 93, 94]))
    trainer = sft(pool, eval_dataset=held_out, eval_strategy="steps", eval_steps=1, num_train_epochs=1)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    assert dynamics._recorder.records.passes[0][0].tolist() == list(range(8))
    assert any("eval_loss" in log for log in trainer.state.log_history)


def test_training_again_starts_anew():
    trainer = sft(tiny_pool(4), num_train_epochs=2)
    dynamics = TrainingDynamics().bind(trainer)
    trainer.train()
    once = courses(dynamics, range(4))["loss"]
    trainer.train()
    twice = courses(dynamics, range(4))["loss"]
    assert twice.shape == once.shape and (twice < once).all()


def test_a_lora_adapter():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model(sft(tiny_pool(2)).processing_class), peft.LoraConfig(r=2))
    trainer = sft(tiny_pool(6), model=model, num_train_epochs=2)
    dynamics = TrainingDynamics(probe="epoch", gradients="trainable").bind(trainer)
    trainer.train()
    found = dynamics.add_to(tiny_pool(6))
    assert found["dynamics_epochs"][:] == [2] * 6 and min(found["probe_grand"][:]) > 0


@pytest.mark.parametrize(
    ("options", "dynamics", "message"),
    [({"packing": True}, {}, r"TrainingDynamics\(pack_to=64\): it packs the same way"),
     ({"torch_compile": True}, {}, "torch_compile=True"),
     ({"label_smoothing_factor": 0.1}, {}, "second forward pass"),
     ({"padding_free": True, "max_length": None, "pad_to_multiple_of": 4}, {}, "pad_to_multiple_of=4 adds padding"),
     ({}, {"pack_to": 64}, "padding_free=True, max_length=None"),
     ({}, {"probe": "epoch", "probe_on": [3, 99]}, "probe_on names rows 99, which are not in the training set")],
)  # fmt: skip
def test_what_cannot_be_recorded_is_refused_at_bind(options, dynamics, message):
    trainer = sft(tiny_pool(4), **options)
    with pytest.raises(ValueError, match=message):
        TrainingDynamics(**dynamics).bind(trainer)


def test_other_trainers_and_second_binds_are_refused():
    trainer = sft(tiny_pool(4))
    dynamics = TrainingDynamics().bind(trainer)
    with pytest.raises(ValueError, match="bound already"):
        dynamics.bind(sft(tiny_pool(4)))
    with pytest.raises(ValueError, match="has a TrainingDynamics already"):
        TrainingDynamics().bind(trainer)
    with pytest.raises(TypeError, match="SFTTrainer or trl.DPOTrainer, got int"):
        TrainingDynamics().bind(3)
    tokenizer = trainer.processing_class
    streamed = SFTTrainer(
        model=tiny_model(tokenizer), args=SFTConfig("out", max_steps=1, **CPU), processing_class=tokenizer,
        train_dataset=hf_dsel.to_trl(tiny_pool(4)).to_iterable_dataset(),
    )  # fmt: skip
    with pytest.raises(CannotRecord, match="is a stream"):
        TrainingDynamics().bind(streamed)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"learned_at": 0}, "learned_at=0; it is 'median', a number above 0"),
     ({"probe": "often"}, "'epoch', 'steps', None"),
     ({"probe": "steps"}, "probe_every=None"), ({"probe_every": 3}, "goes with probe='steps'"),
     ({"gradients": "trainable"}, "gradients is for a probe"), ({"pack_to": 1}, "from 2 on"),
     ({"probe": "epoch", "gradients": "all"}, "'last_layer'")],
)  # fmt: skip
def test_options_outside_their_range(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingDynamics(**options)


def test_a_view_of_tokenised_rows_is_refused_and_a_copy_is_not():
    ids = [[1 + i, 2 + i, 3 + i] for i in range(8)]
    tokens = Dataset.from_dict({"input_ids": ids, "labels": ids})
    options = {"padding_free": True, "max_length": None, "max_steps": 1}
    shuffled = tokens.shuffle(seed=3)
    with pytest.raises(CannotRecord, match="flatten_indices"):
        TrainingDynamics().bind(sft(shuffled, **options))
    dynamics = TrainingDynamics().bind(trainer := sft(shuffled.flatten_indices(), **options))
    trainer.train()
    assert any(dynamics.add_to(shuffled)["dynamics_epochs"][:])


def test_nothing_stays_on_the_model_when_training_breaks_off():
    class Broken(SFTTrainer):
        def training_step(self, *_, **__):
            raise ZeroDivisionError

    trainer = sft(tiny_pool(4), cls=Broken)
    TrainingDynamics().bind(trainer)
    before = len(trainer.model._forward_hooks)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert len(trainer.model._forward_hooks) == before


def test_packed_rows_cannot_be_chosen_from():
    options = {"padding_free": True, "max_length": None, "max_steps": 1}
    trainer = sft(tiny_pool(8), **options)
    TrainingDynamics(pack_to=64).bind(trainer)
    with pytest.raises(ValueError, match="leave pack_to out"):
        hf_dsel.Reselect("random", k=2).bind(trainer)
    trainer = sft(tiny_pool(8), **options)
    hf_dsel.Reselect("random", k=2).bind(trainer)
    with pytest.raises(CannotRecord, match="leave one of them out"):
        TrainingDynamics(pack_to=64).bind(trainer)

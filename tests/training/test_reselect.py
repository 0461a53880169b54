"""Reselect on TRL's trainers: which rows each step draws, with what scores, and what is refused."""

import json
import random
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import DPOConfig, DPOTrainer

import hf_dsel
from hf_dsel.budget import BudgetError
from hf_dsel.columns import MissingColumn
from hf_dsel.strategies.k_center import KCenter
from hf_dsel.strategies.random import Random
from hf_dsel.strategies.top_k import TopK
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.reselectable import CannotReselect
from hf_dsel.training.round_sampler import RoundSampler
from hf_dsel.training.row_numbers import OtherRows
from tests.conftest import make_tokenizer, save
from tests.training.reselect_worker import Seen
from tests.training.tiny_runs import CPU, sft, tiny_model, tiny_pool


def numbered(n=24):
    """A pool whose column `hard` is a shuffled 0 .. n-1."""
    return tiny_pool(n).add_column("hard", np.random.default_rng(0).permutation(n).astype(float))


def run(reselect, pool, trainer=None, **options):
    trainer = trainer or sft(pool, **options)
    seen = Seen(trainer)
    reselect.bind(trainer, pool)
    trainer.train()
    return trainer, seen


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@given(rows=st.integers(1, 9), draws=st.integers(1, 30), number=st.integers(0, 3), shuffle=st.booleans())
def test_a_round_draws_its_number_evenly(rows, draws, number, shuffle):
    sampler = RoundSampler(draws, shuffle, seed=1)
    sampler.go_on(number, np.arange(rows) * 10)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == draws and list(sampler) == drawn
    counts = Counter(drawn)
    assert set(counts) <= set(range(0, rows * 10, 10))
    assert max(counts.values()) - min([counts[i] for i in range(0, rows * 10, 10)]) <= 1
    if not shuffle:
        assert drawn == [(i % rows) * 10 for i in range(draws)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
        {"padding_free": False, "dataloader_drop_last": True},
    ],
)
def test_each_epoch_trains_on_its_selection_and_on_nothing_else(options):
    reselect = Reselect("random", 8)
    trainer, seen = run(reselect, numbered(), per_device_train_batch_size=2, **options)
    steps = 4 // options.get("gradient_accumulation_steps", 1)
    assert trainer.state.global_step == trainer.state.max_steps == 3 * steps
    picks = [set(reselect.selections[r].indices.tolist()) for r in range(3)]
    assert [sorted(seen.between(r * steps, (r + 1) * steps)) for r in range(3)] == [sorted(p) for p in picks]
    assert len(picks[0] | picks[1] | picks[2]) > 8
    for number in range(3):
        path = Path(trainer.args.output_dir) / f"selections/round-{number:04d}.json"
        saved = hf_dsel.Selection.load(path)
        assert saved.indices.tolist() == reselect.selections[number].indices.tolist() and saved.seed == 42 + number
        again = hf_dsel.select(numbered(), "random", k=8, seed=42 + number)
        assert again.indices.tolist() == saved.indices.tolist() and len(saved.apply(numbered())) == 8
    logs = [log for log in trainer.state.log_history if "reselect/round" in log]
    assert [log["reselect/round"] for log in logs] == [0, 1, 2] and [log["reselect/rows"] for log in logs] == [8] * 3
    assert [log["reselect/new"] for log in logs] == [1.0, len(picks[1] - picks[0]) / 8, len(picks[2] - picks[1]) / 8]
    end = trainer.state.log_history[-1]
    assert end["train_samples_per_second"] * end["train_runtime"] == pytest.approx(24, rel=0.01)
    assert all("mean_token_accuracy" in log for log in trainer.state.log_history if "grad_norm" in log)


@pytest.mark.parametrize(("k", "rows"), [(4, 4), (8, 6), (6, 6)])
def test_every_two_steps_of_three_rows(k, rows):
    reselect = Reselect(TopK(column="hard"), k, every=2, order="picks", score=None)
    pool = numbered()
    trainer, seen = run(reselect, pool, per_device_train_batch_size=3, max_steps=5)
    assert trainer.state.global_step == 5 and sorted(reselect.selections) == [0, 1, 2]
    hardest = np.argsort(-np.array(pool["hard"][:]))[:k].tolist()
    assert seen.between(0, 2) == seen.between(2, 4) == [hardest[i % k] for i in range(6)]
    assert len(set(seen.between(0, 2))) == rows


def test_easy_to_hard_once():
    reselect = Reselect(TopK(column="hard", largest=False), 24, every="once", order="picks")
    _, seen = run(reselect, numbered(), per_device_train_batch_size=4, num_train_epochs=2)
    easy_first = np.argsort(numbered()["hard"][:]).tolist()
    assert seen.between(0, 6) == seen.between(6, 12) == easy_first and list(reselect.selections) == [0]
    once = Reselect("random", 8, every="once")
    _, seen = run(once, numbered(), per_device_train_batch_size=4, num_train_epochs=2)
    assert sorted(seen.between(0, 2)) == sorted(seen.between(2, 4)) == sorted(once.selections[0].indices.tolist())
    assert seen.between(0, 2) != seen.between(2, 4)


def word(i):
    """Another word for each i; a saved tokenizer of the tests cuts digits differently when it is read again."""
    return "".join("abcdefghij"[int(d)] for d in str(i * i + 7))


def pairs(n=12):
    return Dataset.from_list(
        [
            {"prompt": f"Of {word(i)}? ", "chosen": f"Good {word(3 * i)}", "rejected": "Bad " * (1 + i % 3)}
            for i in range(n)
        ]
    )


def words(n=24):
    return Dataset.from_list(
        [{"instruction": f"Of {word(i)}.", "input": "", "output": f"{word(2 * i)} " * (1 + i % 4)} for i in range(n)]
    )


def dpo(folder, pool, **options):
    tokenizer = make_tokenizer()
    path = save(tiny_model(tokenizer), tokenizer, folder)
    args = {"output_dir": str(folder / "out"), "per_device_train_batch_size": 2, "num_train_epochs": 2,
            "save_strategy": "no", "max_length": 64, "learning_rate": 1e-2} | CPU | options  # fmt: skip
    return DPOTrainer(path, args=DPOConfig(**args), train_dataset=pool, processing_class=tokenizer)


def test_pairs_are_chosen_again_by_what_the_policy_says(tmp_path):
    reselect = Reselect(TopK(column="nll"), 4, score="nll")
    trainer, seen = run(reselect, pairs(), dpo(tmp_path, pairs(), save_strategy="epoch"))
    picks = [reselect.selections[r].indices.tolist() for r in range(2)]
    assert sorted(seen.between(0, 2)) == sorted(picks[0]) and sorted(seen.between(2, 4)) == sorted(picks[1])
    fresh = hf_dsel.score(pairs(), hf_dsel.NLL(f"{trainer.args.output_dir}/checkpoint-2", dtype="float32"))["nll"][:]
    assert picks[1] == np.argsort(-np.array(fresh), kind="stable")[:4].tolist()
    assert reselect.selections[1].gains == pytest.approx(np.array(fresh)[picks[1]], rel=1e-6)


@pytest.mark.parametrize("columns", [("ifd",), ("nll", "entropy", "ifd_ppl")])
def test_scores_of_the_model_in_training_are_those_of_its_checkpoint(columns, tmp_path):
    pool = words()
    trainer = sft(pool, output_dir=str(tmp_path), save_strategy="epoch", num_train_epochs=3)
    start = save(trainer.model, trainer.processing_class, tmp_path / "checkpoint-0")
    reselect = Reselect(TopK(column=columns, ceiling=1e9), 8, score=columns)
    run(reselect, pool, trainer)
    picked = []
    for number, folder in enumerate([start, tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"]):
        fresh = hf_dsel.score(pool, hf_dsel.CausalLM(str(folder), columns=columns, dtype="float32"))
        value = np.prod([np.array(fresh[name][:], np.float64) for name in columns], axis=0)
        chosen = reselect.selections[number]
        assert chosen.indices.tolist() == np.argsort(-value, kind="stable")[:8].tolist()
        assert chosen.gains == pytest.approx(value[chosen.indices], rel=1e-6)
        picked.append(chosen.indices.tolist())
        log = next(log for log in trainer.state.log_history if log.get("reselect/round") == number)
        first = np.array(fresh[columns[0]][:])
        assert log[f"reselect/{columns[0]}_pool"] == pytest.approx(first.mean(), rel=1e-6)
        assert log[f"reselect/{columns[0]}"] == pytest.approx(first[chosen.indices].mean(), rel=1e-6)
    assert picked[0] != picked[1] != picked[2]


def test_scoring_leaves_the_training_as_it_would_have_been():
    """With dropout, a score that draws from every generator, and a module that is kept out of training mode."""

    def noisy(model, tokenizer, rows):
        assert not any(module.training for module in model.modules()) and not torch.is_grad_enabled()
        random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        return {"noise": np.arange(len(rows), dtype=float)}

    def restless(now):
        random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        return Random()

    final = []
    for rule, score in (("random", None), ("random", "ifd"), (restless, noisy)):
        trainer = sft(tiny_pool(16), model=tiny_model(make_tokenizer(), attention_dropout=0.3), num_train_epochs=2)
        trainer.model.model.norm.eval()
        reselect = Reselect(rule, 8, score=score)
        trainer.training_step = still_training(trainer, trainer.training_step)
        run(reselect, tiny_pool(16), trainer)
        final.append(weights(trainer))
    assert torch.equal(final[0], final[1]) and torch.equal(final[0], final[2])
    other = sft(tiny_pool(16), model=tiny_model(make_tokenizer(), attention_dropout=0.0), num_train_epochs=2)
    run(Reselect("random", 8), tiny_pool(16), other)
    assert not torch.equal(final[0], weights(other))  # dropout was at work


def still_training(trainer, plain):
    def training_step(model, *args, **kwargs):
        assert torch.is_grad_enabled()
        return plain(model, *args, **kwargs)

    return training_step


def test_a_score_of_ones_own_may_write_vectors():
    def hidden(model, tokenizer, rows):
        ids = [tokenizer(f"{row['instruction']}\n{row['output']}")["input_ids"] for row in rows]
        return {"embedding": torch.stack([model.model(torch.tensor([i])).last_hidden_state[0].mean(0) for i in ids])}

    reselect = Reselect(KCenter(), 8, score=hidden)
    _, seen = run(reselect, tiny_pool(24), per_device_train_batch_size=4)
    assert all(sorted(seen.between(2 * r, 2 * r + 2)) == sorted(reselect.selections[r].indices) for r in range(3))
    assert len({tuple(s.indices.tolist()) for s in reselect.selections.values()}) == 3


def test_a_score_that_returns_too_few_values_is_named():
    trainer = sft(tiny_pool(8))
    Reselect(TopK(column="x"), 4, score=lambda model, tokenizer, rows: {"x": [1.0]}).bind(trainer)
    with pytest.raises(ValueError, match=r"score returned \{'x': 1\} for 8 rows"):
        trainer.train()


def test_narrow_scores_a_part_again():
    scored = []

    def counted(model, tokenizer, rows):
        scored.append(rows["output"][:])
        return {"x": np.random.default_rng(len(scored)).random(len(rows))}

    reselect = Reselect(TopK(column="x"), 4, score=counted, narrow=2.5)
    run(reselect, tiny_pool(24), per_device_train_batch_size=4)
    assert [len(rows) for rows in scored] == [24, 10, 10] and scored[1] == scored[2]
    first, second = np.random.default_rng(1).random(24), np.random.default_rng(2).random(10)
    candidates = np.sort(np.argsort(-first)[:10])
    assert tiny_pool(24).select(candidates)["output"][:] == scored[1]
    assert reselect.selections[0].indices.tolist() == np.argsort(-first)[:4].tolist()
    assert reselect.selections[1].indices.tolist() == candidates[np.argsort(-second)[:4]].tolist()


def test_fewer_rows_than_asked_for_are_gone_over_again():
    reselect = Reselect(TopK(column="hard", floor=19), 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer, seen = run(reselect, numbered(), per_device_train_batch_size=2)
    assert any("kept 5 of the 8 rows" in str(w.message) for w in caught) and trainer.state.global_step == 12
    assert sorted(Counter(seen.between(0, 4)).values()) == [1, 1, 2, 2, 2]


def test_rows_that_trl_leaves_out_are_not_chosen():
    long = {"instruction": "Say " * 80, "input": "", "output": "no room left"}
    rows = tiny_pool(10).to_list()
    pool = Dataset.from_list([long, *rows[:5], long | {"instruction": "Yes " * 90}, *rows[5:]])
    pool = pool.add_column("hard", np.arange(12.0)[::-1])
    reselect = Reselect(TopK(column="hard"), 8)
    trainer, seen = run(reselect, pool, per_device_train_batch_size=4)
    assert len(trainer.train_dataset) == 10
    assert reselect.selections[0].indices.tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert sorted(seen.between(0, 2)) == list(range(8))
    assert reselect.selections[0].left_out == {"left out by the trainer: no token to learn from": 2}
    with pytest.raises(BudgetError, match="k=11 is more than the 10"):
        Reselect(TopK(column="hard"), 11).bind(sft(pool), pool)


def test_the_trainers_own_copy_gives_the_same_scores():
    """TRL writes an EOS token behind plain text; the scores are those of the text as it was given."""
    pool = Dataset.from_list(
        [{"prompt": f"Say {i}. ", "completion": f"It is {i * i} " * (1 + i % 4)} for i in range(16)]
    )
    gains = []
    for own in (pool, None):
        trainer = sft(pool, num_train_epochs=1)
        assert trainer.train_dataset["completion"][0].endswith("<|im_end|>")
        reselect = Reselect(TopK(column="nll"), 8, score="nll").bind(trainer, own)
        trainer.train()
        gains.append(reselect.selections[0].gains)
        subset = reselect.selections[0].apply(pool if own is not None else trainer.train_dataset)
        assert len(subset) == 8
    assert gains[0] == pytest.approx(gains[1], rel=1e-6)


def test_a_plan_gives_each_round_its_strategy():
    pool = numbered()
    losses = []

    def plan(now):
        found = now.measure("nll", pool.select(range(4)))["nll"][:]
        losses.append(float(np.mean(found)))
        now.note.update(loss=losses[-1], rounds_before=len(now.earlier))
        assert now.progress == pytest.approx(now.number / 3)
        return TopK(column="hard", largest=now.number == 2)

    reselect = Reselect(plan, 4)
    trainer, _ = run(reselect, pool, per_device_train_batch_size=2)
    easy = np.argsort(pool["hard"][:]).tolist()
    assert [reselect.selections[r].indices.tolist() for r in range(3)] == [easy[:4], easy[:4], easy[:-5:-1]]
    logs = [log for log in trainer.state.log_history if "reselect/round" in log]
    assert [log["reselect/loss"] for log in logs] == losses and losses[0] != losses[1]
    assert [log["reselect/rounds_before"] for log in logs] == [0, 1, 2]


def test_beside_training_dynamics():
    for first in ("dynamics", "reselect"):
        trainer = sft(numbered(), per_device_train_batch_size=2)
        dynamics, reselect = hf_dsel.TrainingDynamics(), Reselect("random", 8)
        if first == "dynamics":
            dynamics.bind(trainer)
        reselect.bind(trainer, numbered())
        if first == "reselect":
            dynamics.bind(trainer)
        trainer.train()
        seen = dynamics.add_to(numbered())["dynamics_epochs"][:]
        times = Counter(i for s in reselect.selections.values() for i in s.indices.tolist())
        assert seen == [times[i] for i in range(24)]


@pytest.mark.parametrize(
    ("options", "reselect", "message"),
    [
        ({"packing": True, "max_length": 64}, {}, "packing=True merges rows into examples"),
        ({"train_sampling_strategy": "group_by_length"}, {}, "orders the rows itself; leave it out$"),
        ({"train_sampling_strategy": "sequential"}, {}, "and pass order='picks'"),
        ({"auto_find_batch_size": True}, {}, "set the batch size"),
        ({"ignore_data_skip": True}, {}, "leave it out"),
        ({}, {"every": 5}, "max_steps=6 is 3 times k=8 rows"),
    ],
)
def test_refused_at_bind(options, reselect, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = sft(tiny_pool(16), **options)
    with pytest.raises(CannotReselect, match=message):
        Reselect("random", 8, **reselect).bind(trainer)


def test_refused_at_bind_for_what_the_rows_are():
    trainer = sft(tiny_pool(16))
    with pytest.raises(BudgetError, match="k=17 is more than the 16 rows"):
        Reselect("random", 17).bind(trainer)
    with pytest.raises(MissingColumn, match=r"\['quality'\] is in neither the pool nor the score"):
        Reselect("top_k", 4, score="ifd").bind(trainer)
    with pytest.raises(OtherRows):
        Reselect("random", 4).bind(trainer, tiny_pool(15))
    with pytest.raises(TypeError, match=r"trl.SFTTrainer or trl.DPOTrainer, got str"):
        Reselect("random", 4).bind("trainer")
    bound = Reselect("random", 4).bind(trainer)
    with pytest.raises(ValueError, match="bound already"):
        bound.bind(trainer)
    with pytest.raises(ValueError, match="has a Reselect already"):
        Reselect("random", 4).bind(trainer)
    trainer.train_dataset = trainer.train_dataset.select(range(3))
    with pytest.raises(CannotReselect, match="replaced, or packed, after bind"):
        trainer.train()
    stream = sft(tiny_pool(16), max_steps=2)
    stream.train_dataset = stream.train_dataset.to_iterable_dataset()
    with pytest.raises(CannotReselect, match="is a stream"):
        Reselect("random", 4).bind(stream)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2.5}, "k=2.5; it is a whole number from 1 on"),
        ({"every": 0}, "every=0; it is 'epoch', 'once' or a number of steps"),
        ({"every": "step"}, "every='step'"),
        ({"order": "sorted"}, "order='sorted'"),
        ({"score": "idf"}, "columns='idf'"),
        ({"narrow": 3}, "give score= too"),
        ({"score": "ifd", "narrow": 0.5}, "narrow=0.5"),
        ({"strategy": "top"}, "unknown strategy 'top'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Reselect(**{"strategy": Random(), "k": 4} | options)


def test_a_strategy_by_name_has_params_and_a_plan_has_none():
    assert Reselect("top_k", 4, params={"column": "ifd"}).strategy == TopK(column="ifd")
    with pytest.raises(TypeError, match="a plan has its own"):
        Reselect(lambda now: Random(), 4, params={"column": "ifd"})


def test_a_column_with_a_default_scorer_is_computed_once(tmp_path):
    class Shortest:
        def needs(self):
            return {"response_words": hf_dsel.Length(of="response", unit="words")}

        def pick(self, columns, budget, rng):
            order = budget.fitting(np.argsort(columns["response_words"], kind="stable"))
            return hf_dsel.Picks(order, -columns["response_words"][order])

    reselect = Reselect(Shortest(), 6)
    run(reselect, tiny_pool(24), per_device_train_batch_size=2)
    words = [len(text.split()) for text in tiny_pool(24)["output"][:]]
    assert sorted(words)[:6] == [words[i] for i in reselect.selections[2].indices]
    assert json.loads(reselect.selections[2].to_json())["columns"] == ["response_words"]

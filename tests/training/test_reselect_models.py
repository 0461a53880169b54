"""Scores of models in training that are not plain float32: adapters, bfloat16; and padding-free batches."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2AudioProcessor, WhisperFeatureExtractor
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.strategies.top_k import TopK
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.reselectable import CannotReselect
from tests.conftest import make_tokenizer, save
from tests.training.test_reselect import words
from tests.training.tiny_runs import CPU, sft, tiny_model


def adapted(folder, config, **options):
    tokenizer = make_tokenizer()
    base = save(tiny_model(tokenizer), tokenizer, folder / "base")
    args = {"output_dir": str(folder / "out"), "per_device_train_batch_size": 4, "num_train_epochs": 2,
            "save_strategy": "epoch", "max_length": 64, "learning_rate": 1e-2} | CPU | options  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base)
    return SFTTrainer(model, args=SFTConfig(**args), train_dataset=hf_dsel.to_trl(words()), processing_class=tokenizer,
                      peft_config=config)  # fmt: skip


def test_adapters_are_scored_as_if_merged(tmp_path):
    peft = pytest.importorskip("peft")
    trainer = adapted(tmp_path, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    reselect = Reselect(TopK(column="nll"), 8, score="nll").bind(trainer, words())
    trainer.train()
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    merged = peft.PeftModel.from_pretrained(base, tmp_path / "out/checkpoint-2").merge_and_unload()
    path = save(merged, trainer.processing_class, tmp_path / "merged")
    fresh = np.array(hf_dsel.score(words(), hf_dsel.NLL(path, dtype="float32"))["nll"][:])
    before = np.array(hf_dsel.score(words(), hf_dsel.NLL(str(tmp_path / "base"), dtype="float32"))["nll"][:])
    chosen = reselect.selections[1]
    assert chosen.gains == pytest.approx(fresh[chosen.indices], rel=1e-5)
    assert abs(fresh - before).max() > 0.01


def test_adapters_that_add_tokens_are_refused(tmp_path):
    peft = pytest.importorskip("peft")
    trainer = adapted(tmp_path, peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    with pytest.raises(CannotReselect, match="puts tokens before the prompt, which the scores would not see; use LoRA"):
        Reselect(TopK(column="nll"), 8, score="nll").bind(trainer, words())
    Reselect("random", 8).bind(trainer, words())


def test_a_processor_gives_its_tokenizer(tmp_path):
    """A model that is trained with a processor is scored with the tokenizer in it, by columns and by a callable."""
    tokenizer = make_tokenizer()
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(), tokenizer, chat_template=tokenizer.chat_template)
    given = []

    def own(model, tokenizer, rows):
        given.append(tokenizer)
        return {"nll": [float(len(tokenizer(text).input_ids)) for text in rows["output"][:]]}

    gains = []
    for reader, score in ((tokenizer, "nll"), (processor, "nll"), (processor, own)):
        args = {"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "num_train_epochs": 1, "max_length": 64,
                "save_strategy": "no"} | CPU  # fmt: skip
        trainer = SFTTrainer(tiny_model(tokenizer), args=SFTConfig(**args), processing_class=reader,
                             train_dataset=hf_dsel.to_trl(words()))  # fmt: skip
        reselect = Reselect(TopK(column="nll"), 8, score=score).bind(trainer, words())
        trainer.train()
        gains.append(reselect.selections[0].gains.tolist())
    assert gains[0] == gains[1] and given == [tokenizer]


def test_bfloat16_training_scores_in_bfloat16(tmp_path):
    found = []
    for bf16 in (False, True):
        trainer = sft(words(), bf16=bf16, num_train_epochs=1)
        reselect = Reselect(TopK(column="nll"), 8, score="nll").bind(trainer, words())
        weights = {name: weight.dtype for name, weight in trainer.model.state_dict().items()}
        trainer.train()
        assert {n: w.dtype for n, w in trainer.model.state_dict().items()} == weights
        found.append(reselect.selections[0].gains)
    assert np.array(found[0]) == pytest.approx(found[1], rel=0.02) and not np.array_equal(*found)
    assert set(weights.values()) == {torch.float32}


def test_padding_free_batches_hold_the_selection():
    pool = words()
    trainer = sft(pool, padding_free=True, max_length=None, per_device_train_batch_size=2, num_train_epochs=2)
    reselect = Reselect(TopK(column="ifd"), 8, score="ifd").bind(trainer, pool)
    dynamics = hf_dsel.TrainingDynamics().bind(trainer)
    trainer.train()
    times = [sum(i in s.indices for s in reselect.selections.values()) for i in range(24)]
    assert dynamics.add_to(pool)["dynamics_epochs"][:] == times and sum(times) == 16

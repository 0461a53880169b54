"""Trainings of a tiny model that take a second, for the tests of the callbacks."""

import tempfile

import numpy as np
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

import hf_dsel
from tests.conftest import make_tokenizer, sizes

CPU = {"report_to": "none", "bf16": False, "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}


def tiny_pool(n=16):
    """Alpaca rows whose answers differ in length and in how hard they are."""
    words = ["rain", "Paris", "sleep", "42", "sea"]
    return Dataset.from_list(
        [
            {"instruction": f"Say {i}.", "input": "", "output": f"{words[i % 5]} {i * i} " * (1 + i % 4)}
            for i in range(n)
        ]
    )


def tiny_model(tokenizer, **more):
    set_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**sizes(tokenizer), num_key_value_heads=2, **more))


def sft(pool, *, model=None, cls=SFTTrainer, eval_dataset=None, callbacks=None, **options):
    """A trainer on the pool in TRL's format; any option of SFTConfig."""
    tokenizer = make_tokenizer()
    args = {"output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": 4, "num_train_epochs": 3,
            "save_strategy": "no", "max_length": 64, "learning_rate": 1e-2} | CPU | options  # fmt: skip
    model = tiny_model(tokenizer) if model is None else model
    return cls(
        model=model,
        args=SFTConfig(**args),
        train_dataset=pool if "input_ids" in pool.column_names else hf_dsel.to_trl(pool),
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def courses(dynamics, rows):
    """The recorded numbers, name → rows x epochs."""
    return dynamics._recorder.records.trajectories(np.asarray(rows))

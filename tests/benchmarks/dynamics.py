"""What recording costs a training step: `python -m tests.benchmarks.dynamics [--rounds N] [--steps N]`.

Plain SFT and SFT with a bound `TrainingDynamics`, the same rows and seed, run in turn; each step is timed, and the
ratio is that of the medians. Time is that of the clock on a GPU, and of the processor on a CPU, where other programs
would be in it otherwise. The model has the shape of SmolLM2-135M; on a GPU in bfloat16, with a larger batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median

import datasets
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from hf_dsel.training.dynamics import TrainingDynamics
from tests.conftest import make_tokenizer

TARGET = 1.03
VOCABULARY = 49_152
BATCH = {"cuda": (16, 1024), "cpu": (2, 128)}  # rows, tokens each


class Clock(TrainerCallback):
    """Seconds from the start of each step to the start of the next."""

    def __init__(self):
        self.starts = []

    def on_step_begin(self, args, state, control, **given):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.starts.append(time.perf_counter())
        else:
            self.starts.append(time.process_time())

    def seconds(self):
        return [b - a for a, b in zip(self.starts[2:-1], self.starts[3:], strict=True)]


def trainer(steps, device):
    tokenizer = make_tokenizer()
    rows, length = BATCH[device]
    set_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (rows * steps, length), generator=generator).tolist()
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=rows, max_steps=steps, bf16=device == "cuda",
        use_cpu=device == "cpu", report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=10,
        gradient_checkpointing=False,
    )  # fmt: skip
    made = SFTTrainer(
        model=LlamaForCausalLM(config),
        args=args,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=tokenizer,
    )
    made.remove_callback(PrinterCallback)
    return made


def measure(rounds, steps):
    """Step times of both sides, in turn, so that a slow moment of the machine meets both."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = {"plain": [], "recorded": []}
    for turn in range(rounds):
        for side in ("plain", "recorded") if turn % 2 == 0 else ("recorded", "plain"):
            made, clock = trainer(steps, device), Clock()
            if side == "recorded":
                TrainingDynamics().bind(made)
            made.add_callback(clock)
            made.train()
            seconds[side] += clock.seconds()
    return device, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    device, seconds = measure(args.rounds, args.steps)
    ours, plain = median(seconds["recorded"]), median(seconds["plain"])
    rows, length = BATCH[device]
    print(f"| TrainingDynamics, SFT step on {device}, 135M parameters, {rows} x {length} tokens "
          f"| {ours * 1e3:.1f} ms | {plain * 1e3:.1f} ms | {ours / plain:.3f} | ≤ {TARGET} |")  # fmt: skip


if __name__ == "__main__":
    main()

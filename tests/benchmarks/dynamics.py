"""What recording costs a training step: `python -m tests.benchmarks.dynamics [--pairs N]`.

One SFT training whose steps are recorded and plain by turns, so that a slow moment of the machine meets both. The ratio
is that of the medians; in that of the lower quartiles there is less of the machine's other work. The model has the
shape of SmolLM2-135M, in bfloat16 on a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import quantiles

import datasets
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.row_numbers import ROW
from tests.conftest import make_tokenizer

TARGET = 1.03
VOCABULARY = 49_152
BATCH = {"cuda": (16, 1024), "cpu": (2, 128)}  # rows, tokens each


class Turns(TrainerCallback):
    """Recorded at even steps, plain at odd ones; the seconds of each."""

    def __init__(self, made, ways):
        self.made, self.ways, self.seconds, self.start = made, ways, [], 0.0

    def on_step_begin(self, args, state, control, **given):
        self.made.model.forward, self.made.compute_loss = self.ways[state.global_step % 2]
        self.start = now()

    def on_step_end(self, args, state, control, **given):
        self.seconds.append(now() - self.start)


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


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
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=rows, max_steps=steps, bf16=False,
        use_cpu=device == "cpu", report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=10,
        gradient_checkpointing=False,
    )  # fmt: skip
    made = SFTTrainer(
        model=LlamaForCausalLM(config).to(torch.bfloat16 if device == "cuda" else torch.float32),
        args=args,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=tokenizer,
    )
    made.remove_callback(PrinterCallback)
    return made


def measure(pairs):
    """Seconds of the recorded steps and of the plain ones after each; the first two of each are left out."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = trainer(2 * pairs + 4, device)
    forward, loss = made.model.forward, made.compute_loss
    TrainingDynamics().bind(made)

    def plain_loss(model, inputs, *args, **kwargs):
        del inputs[ROW]
        return loss(model, inputs, *args, **kwargs)

    turns = Turns(made, [(made.model.forward, made.compute_loss), (forward, plain_loss)])
    made.add_callback(turns)
    made.train()
    return device, turns.seconds[4::2], turns.seconds[5::2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=45)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    device, recorded, plain = measure(args.pairs)
    rows, length = BATCH[device]
    ours, theirs = quantiles(recorded, n=4), quantiles(plain, n=4)
    print(f"| TrainingDynamics, SFT step on {device}, 135M parameters, {rows} x {length} tokens "
          f"| {ours[1] * 1e3:.1f} ms | {theirs[1] * 1e3:.1f} ms "
          f"| {ours[1] / theirs[1]:.3f} (lower quartile {ours[0] / theirs[0]:.3f}) | ≤ {TARGET} |")  # fmt: skip


if __name__ == "__main__":
    main()

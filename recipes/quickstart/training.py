"""A short fine-tuning with TRL, and the loss before and after on rows that it does not see."""

from __future__ import annotations

import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from hf_dsel.scorers.models import has_fast_bfloat16


class PrintLoss(TrainerCallback):
    """One short line a step."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            print(f"  step {state.global_step} of {state.max_steps}: loss {float(logs['loss']):.3f}", flush=True)


def train(model: str, subset: Dataset, held_out: Dataset, *, steps: int, out: str) -> tuple[float, float]:
    """Fine-tune `model` on `subset`, both datasets in TRL's format; the held-out loss before and after."""
    disable_progress_bars()  # those of the preparation; the steps print lines of their own
    disable_progress_bar()
    cuda = torch.cuda.is_available()
    args = SFTConfig(
        output_dir=out,
        max_steps=steps,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        learning_rate=1e-4,
        max_length=256,
        bf16=has_fast_bfloat16(torch.device("cuda" if cuda else "cpu")),
        use_cpu=not cuda,
        activation_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=args,
        train_dataset=subset,
        eval_dataset=held_out,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[PrintLoss()],
    )
    trainer.remove_callback(PrinterCallback)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model(out)
    return before, after

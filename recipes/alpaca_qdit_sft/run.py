"""Fine-tunes on 3,000 of Alpaca's 52,002 rows: difficult ones that together stand for the whole pool (QDIT).

    python recipes/alpaca_qdit_sft/run.py
    hf-dsel sft --config recipes/alpaca_qdit_sft/sft.yaml      the same as one file

QDIT's own quality is a reward model's; here it is IFD, which a small language model computes.
"""

import argparse

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks
from hf_dsel.strategies.threshold import Threshold

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--scorer", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--embedder", default="sentence-transformers/all-mpnet-base-v2")
parser.add_argument("--k", type=int, default=3000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="alpaca-qdit-3k")
args = parser.parse_args()

pool = open_dataset(args.dataset)
pool = hf_dsel.score(pool, [hf_dsel.IFD(args.scorer), hf_dsel.Embed(args.embedder)])
pool = pool.filter(Threshold(column="ifd", high=1))  # from 1 on, the instruction does not help

selection = hf_dsel.select(pool, "qdit", k=args.k, quality="ifd", scale="rank", alpha=0.7, seed=42)
selection.save(f"{args.out}/selection.json")
print(compare(pool, selection), first_picks(pool, selection), sep="\n\n")

gpu = torch.cuda.is_available()
training = SFTConfig(
    output_dir=args.out,
    num_train_epochs=3,
    max_steps=args.max_steps,
    per_device_train_batch_size=16,
    lr_scheduler_type="cosine",
    bf16=gpu,
    use_cpu=not gpu,
    save_strategy="no",
    seed=42,
)
trainer = SFTTrainer(args.model, args=training, train_dataset=hf_dsel.to_trl(selection.apply(pool)))
trainer.train()
trainer.save_model()

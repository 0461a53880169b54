"""Fine-tunes on 3,000 of Alpaca's 52,002 rows: good answers, by a reward model, that together stand for all (QDIT).

    python recipes/reward_qdit/run.py
    hf-dsel sft --config recipes/reward_qdit/sft.yaml      the same as one file

A reward model's score is the quality that QDIT's paper uses. Any model that AutoModelForSequenceClassification loads
with one label will do: --scorer.
"""

import argparse

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--scorer", default="Skywork/Skywork-Reward-V2-Qwen3-0.6B")
parser.add_argument("--embedder", default="sentence-transformers/all-mpnet-base-v2")
parser.add_argument("--k", type=int, default=3000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="alpaca-reward-qdit-3k")
args = parser.parse_args()

pool = open_dataset(args.dataset)
pool = hf_dsel.score(pool, [hf_dsel.Reward(args.scorer), hf_dsel.Embed(args.embedder)])

selection = hf_dsel.select(pool, "qdit", k=args.k, quality="reward", scale="rank", alpha=0.7, seed=42)
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

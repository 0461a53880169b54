"""DPO on 6,000 pairs of UltraFeedback: a good answer and a bad one, to prompts that stand for all (QDIT).

python recipes/ultrafeedback_dpo/run.py
hf-dsel dpo --config recipes/ultrafeedback_dpo/dpo.yaml      the same as one file
"""

import argparse

import torch
from trl import DPOConfig, DPOTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks
from hf_dsel.strategies.threshold import Threshold

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="HuggingFaceH4/ultrafeedback_binarized")
parser.add_argument("--split", default="train_prefs")
parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--embedder", default="sentence-transformers/all-mpnet-base-v2")
parser.add_argument("--k", type=int, default=6000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="ultrafeedback-qdit-6k")
args = parser.parse_args()

pool = open_dataset(args.dataset, split=args.split)
pool = pool.filter(Threshold(column="score_rejected", high=5, inclusive=True))  # of 10: clearly a bad answer
pool = hf_dsel.score(pool, hf_dsel.Embed(args.embedder))

selection = hf_dsel.select(pool, "qdit", k=args.k, quality="score_chosen", scale="rank", alpha=0.7, seed=42)
selection.save(f"{args.out}/selection.json")
print(compare(pool, selection), first_picks(pool, selection), sep="\n\n")

gpu = torch.cuda.is_available()
training = DPOConfig(
    output_dir=args.out,
    beta=0.1,
    num_train_epochs=1,
    max_steps=args.max_steps,
    per_device_train_batch_size=8,
    learning_rate=5e-7,
    bf16=gpu,
    use_cpu=not gpu,
    save_strategy="no",
    seed=42,
)
pairs = hf_dsel.to_trl(selection.apply(pool)).select_columns(["chosen", "rejected"])
trainer = DPOTrainer(args.model, args=training, train_dataset=pairs)
trainer.train()
trainer.save_model()

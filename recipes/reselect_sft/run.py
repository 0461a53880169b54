"""Trains on Alpaca for three epochs, each on 6,000 rows that are hard for the model by then and that differ (IterIT).

    python recipes/reselect_sft/run.py
    hf-dsel sft --config recipes/reselect_sft/sft.yaml      the same as one file

IFD is measured again before every epoch, on the first epoch's 18,000 best rows; an n-gram of an answer counts a tenth
for each pick that has it. `--control` draws at random.
"""

import argparse

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import first_picks

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--k", type=int, default=6000, help="rows an epoch")
parser.add_argument("--control", action="store_true", help="the same number of random rows, drawn anew each epoch")
parser.add_argument("--out", default="alpaca-reselect")
args = parser.parse_args()

pool = open_dataset(args.dataset)
gpu = torch.cuda.is_available()
training = SFTConfig(output_dir=args.out, num_train_epochs=3, per_device_train_batch_size=16, save_strategy="epoch",
                     bf16=gpu, use_cpu=not gpu, seed=42)  # fmt: skip
trainer = SFTTrainer(args.model, args=training, train_dataset=hf_dsel.to_trl(pool))

if args.control:
    reselect = hf_dsel.Reselect("random", args.k)
else:
    reselect = hf_dsel.Reselect("iterit", args.k, score="ifd", narrow=3)
reselect.bind(trainer, pool)
trainer.train()
trainer.save_model()

for number, chosen in reselect.selections.items():
    kept = set(chosen.indices) & set(reselect.selections[0].indices)
    print(f"epoch {number}: {len(chosen):,} rows, {len(kept):,} of them also in epoch 0")
    print(first_picks(pool, chosen))

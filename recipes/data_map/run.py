"""Trains on Alpaca for three epochs, records what each row did, and trains anew without the rows that stayed hard.

    python recipes/data_map/run.py
    hf-dsel sft --config recipes/data_map/sft.yaml      the first training as one file

Rows of low confidence and low variability are where the data map's paper found the mislabelled ones.
"""

import argparse
from pathlib import Path

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import first_picks

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--drop", type=float, default=0.1, help="part of the rows to leave out")
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="alpaca-data-map")
args = parser.parse_args()


def trainer_on(rows, out):
    gpu = torch.cuda.is_available()
    training = SFTConfig(output_dir=out, num_train_epochs=3, max_steps=args.max_steps, per_device_train_batch_size=16,
                         bf16=gpu, use_cpu=not gpu, save_strategy="no", seed=42)  # fmt: skip
    return SFTTrainer(args.model, args=training, train_dataset=hf_dsel.to_trl(rows))


pool = open_dataset(args.dataset)
trainer = trainer_on(pool, f"{args.out}/all")
dynamics = hf_dsel.TrainingDynamics().bind(trainer)
trainer.train()
pool = dynamics.add_to(pool)

Path(args.out).mkdir(parents=True, exist_ok=True)
pool.to_parquet(f"{args.out}/dynamics.parquet")
dynamics.map_figure().savefig(f"{args.out}/map.png")
hardest = hf_dsel.select(pool, "top_k", k=5, column="dynamics_confidence", largest=False)
print(first_picks(pool, hardest))

steady = {"column": ["dynamics_confidence", "dynamics_variability"], "weights": [1, 1]}
kept = pool.select_by("top_k", fraction=1 - args.drop, **steady)
print(f"{len(kept):,} of {len(pool):,} rows kept")

trainer = trainer_on(kept, f"{args.out}/kept")
trainer.train()
trainer.save_model()

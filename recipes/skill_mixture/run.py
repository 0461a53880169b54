"""Trains on several skills in shares that follow their held-out losses, updated every 50 steps (Skill-it).

    python recipes/skill_mixture/run.py --pool pool.parquet --held_out held_out.parquet
    hf-dsel sft --config recipes/skill_mixture/sft.yaml     the same as one file

Both files have a column `skill`: a task, a source, a cluster. The graph says which skill teaches which.
"""

import argparse
import json

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.training.skill_it import SkillIt

parser = argparse.ArgumentParser()
parser.add_argument("--pool", default="pool.parquet")
parser.add_argument("--held_out", default="held_out.parquet")
parser.add_argument("--graph", type=json.loads, help='for example {"add": {"add": 1, "multiply": 0.5}, ...}')
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--every", type=int, default=50)
parser.add_argument("--max_steps", type=int, default=500)
parser.add_argument("--out", default="skill-mixture")
args = parser.parse_args()

pool = open_dataset(args.pool)
gpu = torch.cuda.is_available()
training = SFTConfig(output_dir=args.out, max_steps=args.max_steps, per_device_train_batch_size=16, bf16=gpu,
                     use_cpu=not gpu, save_strategy="no", seed=42)  # fmt: skip
trainer = SFTTrainer(args.model, args=training, train_dataset=hf_dsel.to_trl(pool))

plan = SkillIt("skill", open_dataset(args.held_out), graph=args.graph, eta=0.5, window=3)
reselect = hf_dsel.Reselect(plan, k=min(len(pool), 16 * args.every), every=args.every).bind(trainer, pool)
trainer.train()
trainer.save_model()

for number, chosen in reselect.selections.items():
    skills = pool.select(chosen.indices)["skill"][:]
    counts = {skill: skills.count(skill) for skill in sorted(set(skills))}
    print(f"steps {number * args.every} on: {counts}")

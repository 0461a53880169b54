"""DEITA from the seed set to the fine-tuned model: evolve, rank, train both scorers, score, select, train.

    HF_TOKEN=hf_... python recipes/deita_full/run.py --plan                    # what it would ask, and what it costs
    HF_TOKEN=hf_... python recipes/deita_full/run.py
    python recipes/deita_full/run.py --strong MODEL --base_url http://localhost:8000/v1        # a server of your own

Answers are stored as they come: after a kill, the same line goes on. sft.yaml lists the same steps as commands. To see
all steps at work without an account, serve SmolLM2-135M with `transformers serve` and add
    --prompts recipes/deita_full/small_model --seeds 12 --rounds 1 --max_tokens 24 --max_steps 2 --k 20 --dataset FILE
It follows these prompts; its rankings mean nothing.
"""

import argparse
from pathlib import Path

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.evolution_plan import plan_evolution
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--strong", default="Qwen/Qwen2.5-72B-Instruct", help="the model that rewrites and ranks")
parser.add_argument("--base_url", help="of an OpenAI-compatible server; without it, Hugging Face's router")
parser.add_argument("--key_variable", default="HF_TOKEN", help="the environment variable that holds the key")
parser.add_argument("--max_requests", type=int, help="stop after so many")
parser.add_argument("--prompts", type=Path, help="a folder with complexity/ and quality/")
parser.add_argument("--seeds", type=int, default=2000, help="rows that are evolved")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--max_tokens", type=int, default=1024, help="of a reply")
parser.add_argument("--plan", action="store_true", help="ask nothing; say what would be asked")
parser.add_argument("--scorer", default="Qwen/Qwen2.5-0.5B", help="the model that becomes a scorer")
parser.add_argument("--embedder", default="sentence-transformers/all-MiniLM-L6-v2")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B", help="the model that is fine-tuned")
parser.add_argument("--k", type=int, default=6000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="alpaca-deita-6k")
args = parser.parse_args()

pool = open_dataset(args.dataset)
server = hf_dsel.Endpoint(
    model=args.strong, base_url=args.base_url, key_variable=args.key_variable, max_requests=args.max_requests
)
for scores in ("complexity", "quality"):
    rule = {"scores": scores, "k": args.seeds, "rounds": args.rounds, "max_tokens": args.max_tokens, "seed": 42}
    rule["prompts"] = args.prompts and args.prompts / scores
    print(plan_evolution(pool, server, **rule))
    if not args.plan:
        evolved = hf_dsel.evolve(pool, server, **rule)
        evolved.to_parquet(f"{args.out}/evolved-{scores}/train.parquet")
        limit = {"max_steps": args.max_steps}
        print(hf_dsel.train_scorer(evolved, args.scorer, f"{args.out}/{scores}-scorer", training=limit, overwrite=True))
if args.plan:
    raise SystemExit

complexity = hf_dsel.DeitaComplexity(f"{args.out}/complexity-scorer")
quality = hf_dsel.DeitaQuality(f"{args.out}/quality-scorer")
pool = hf_dsel.score(pool, [complexity, quality, hf_dsel.Embed(args.embedder, of="example")])

selection = hf_dsel.select(pool, "deita", k=args.k, threshold=0.9, seed=42)
selection.save(f"{args.out}/selection.json")
print(compare(pool, selection, columns=["complexity", "quality"]), first_picks(pool, selection), sep="\n\n")

gpu = torch.cuda.is_available()
training = SFTConfig(
    output_dir=args.out,
    num_train_epochs=6,
    max_steps=args.max_steps,
    per_device_train_batch_size=16,
    lr_scheduler_type="cosine",
    max_length=2048,
    bf16=gpu,
    use_cpu=not gpu,
    save_strategy="no",
    seed=42,
)
trainer = SFTTrainer(args.model, args=training, train_dataset=hf_dsel.to_trl(selection.apply(pool)))
trainer.train()
trainer.save_model()

"""Has a strong model rate Alpaca, keeps what it finds right, and fine-tunes on 3,000 demanding rows of that.

    HF_TOKEN=hf_... python recipes/judge_scores/run.py --max_requests 1000        # a first look at what it costs
    python recipes/judge_scores/run.py --judge MODEL --base_url http://localhost:8000/v1      # vLLM and others
    hf-dsel sft --config recipes/judge_scores/sft.yaml      the same as one file

Every answer is stored as it comes. A run that was killed, or that the budget stopped, goes on where it was.
"""

import argparse
from collections import Counter

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks
from hf_dsel.strategies.threshold import Threshold

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="tatsu-lab/alpaca")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--judge", default="Qwen/Qwen2.5-72B-Instruct")
parser.add_argument("--base_url", help="of an OpenAI-compatible server; without it, Hugging Face's router")
parser.add_argument("--key_variable", default="HF_TOKEN", help="the environment variable that holds the key")
parser.add_argument("--max_requests", type=int)
parser.add_argument("--embedder", default="sentence-transformers/all-mpnet-base-v2")
parser.add_argument("--k", type=int, default=3000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="alpaca-judged-3k")
args = parser.parse_args()

pool = open_dataset(args.dataset)
server = {"base_url": args.base_url, "key_variable": args.key_variable, "max_requests": args.max_requests}
judge = hf_dsel.Judge(["accuracy", "complexity"], model=args.judge, **server)  # two criteria, one request
print(judge.forecast(pool[:]))
pool = hf_dsel.score(pool, [judge, hf_dsel.Embed(args.embedder)])
for column in ("accuracy", "complexity"):
    values = Counter(pool[column][:])
    print(column, {value: values[value] for value in sorted(v for v in values if v is not None)}, "null:", values[None])
pool = pool.filter(Threshold(column="accuracy", low=4.5, inclusive=True))  # AlpaGasus' bound

selection = hf_dsel.select(pool, "deita", k=args.k, complexity="complexity", quality="accuracy", threshold=0.9, seed=42)
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

"""Fine-tunes on 6,000 conversations by DEITA's rule: the largest complexity times quality, none too like a kept one.

    python recipes/deita_sft/run.py
    hf-dsel sft --config recipes/deita_sft/sft.yaml      the same as one file

With scores of your own: --complexity and --quality name their columns. Without, IFD stands in for complexity and the
length of the first response for quality; DEITA's own scorers have 7 billion parameters (recipes/deita_full makes small
ones).
"""

import argparse

import torch
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.opening import open_dataset
from hf_dsel.reporting import compare, first_picks
from hf_dsel.strategies.threshold import Threshold

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="HuggingFaceH4/ultrachat_200k")
parser.add_argument("--split", default="train_sft")
parser.add_argument("--complexity", default="ifd")
parser.add_argument("--quality", default="response_words")
parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
parser.add_argument("--scorer", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--embedder", default="sentence-transformers/all-mpnet-base-v2")
parser.add_argument("--k", type=int, default=6000)
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--out", default="ultrachat-deita-6k")
args = parser.parse_args()

pool = open_dataset(args.dataset, split=args.split)
scorers = [hf_dsel.Embed(args.embedder, of="example")]
if args.complexity == "ifd":
    scorers.append(hf_dsel.IFD(args.scorer, turns="first"))
if args.quality == "response_words":
    scorers.append(hf_dsel.Length(of="response", unit="words", turns="first"))
pool = hf_dsel.score(pool, scorers)
if args.complexity == "ifd":
    pool = pool.filter(Threshold(column="ifd", high=1))

rule = {"complexity": args.complexity, "quality": args.quality, "threshold": 0.9}
selection = hf_dsel.select(pool, "deita", k=args.k, seed=42, **rule)
selection.save(f"{args.out}/selection.json")
print(compare(pool, selection), first_picks(pool, selection), sep="\n\n")

gpu = torch.cuda.is_available()
training = SFTConfig(
    output_dir=args.out,
    num_train_epochs=3,
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

"""From a pool to a fine-tuned model on a plain machine: python recipes/quickstart/run.py

No GPU, no account; three to five minutes after the downloads on two CPU cores. --help lists what can be changed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import install
import models


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="your own pool, a file or Hub id (default: documentation of Python packages)")
    parser.add_argument("--rows", type=int, default=5000, help="rows of the pool that are looked at (default: 5000)")
    parser.add_argument(
        "--candidates", type=int, default=300, help="rows that the language model scores (default: 300)"
    )
    parser.add_argument("--k", type=int, default=100, help="rows to select (default: 100)")
    parser.add_argument("--alpha", type=float, default=0.3, help="weight of quality, 0 to 1 (default: 0.3)")
    parser.add_argument("--steps", type=int, default=10, help="training steps of 8 rows (default: 10)")
    parser.add_argument("--embedder", help="a sentence encoder (default: all-MiniLM-L6-v2 from PyPI)")
    parser.add_argument("--model", help="a causal language model (default: SmolLM2-135M-Instruct from PyPI)")
    parser.add_argument("--out", type=Path, default=Path("quickstart-out"), help="folder of the results")
    return parser.parse_args()


def main() -> None:
    args, began = arguments(), time.time()
    needed = {} if args.model and args.embedder else models.PACKAGES
    install.ensure(needed)

    def step(number: int, text: str) -> None:
        print(f"\n[{number}/6] {text}  ({time.time() - began:.0f} s)", flush=True)

    step(1, "the pool")
    from pool import documentation
    from training import train

    import hf_dsel
    from hf_dsel.opening import open_dataset
    from hf_dsel.reporting import compare, first_picks
    from hf_dsel.rows import detect, text_columns

    pool = open_dataset(args.dataset) if args.dataset else documentation(args.rows)
    if detect(pool.column_names) in ("preference", "prompt"):
        raise SystemExit(f"the pool needs questions with one answer each; it has {pool.column_names}")
    pool = pool.select_columns(text_columns(pool.column_names))
    if len(pool) > args.rows:
        pool = pool.shuffle(seed=0).select(range(args.rows))
    print(f"{len(pool):,} rows")

    step(2, "an embedding of every instruction")
    pool = hf_dsel.score(pool, hf_dsel.Embed(args.embedder or models.minilm()))

    step(3, f"{args.candidates} candidates that stand for the pool, and {args.k} random rows to compare with")
    candidates = hf_dsel.select(pool, "qdit", k=args.candidates, alpha=0)  # diversity alone
    chance = hf_dsel.select(pool, "random", k=args.k)
    rows = sorted({*candidates.indices.tolist(), *chance.indices.tolist()})

    step(4, f"how much each of these {len(rows)} answers owes to its question (IFD, by a language model)")
    model = args.model or models.smollm2(args.out / "smollm2")
    scored = hf_dsel.score(pool.select(rows), hf_dsel.IFD(model))
    ifd: list[float | None] = [None] * len(pool)
    for row, value in zip(rows, scored["ifd"], strict=True):
        ifd[row] = value
    quality = [v if v is not None and v < 1 else None for v in ifd]  # from 1 on the question is of no help at all
    pool = pool.add_column("ifd", ifd).add_column("quality", quality)

    step(5, f"{args.k} rows that are good and together stand for the pool (QDIT)")
    record = hf_dsel.select(pool, "qdit", k=args.k, alpha=args.alpha, scale="rank")
    print(compare(pool, record, columns=["ifd"], random_draws=[chance.indices]))
    print(f"\nthe first picks: gain = {1 - args.alpha:g} x diversity + {args.alpha:g} x rank of the quality in [0, 1]")
    print(first_picks(pool, record))
    subset = hf_dsel.to_trl(record.apply(pool))
    subset.to_parquet(args.out / "subset" / "train.parquet")
    record.save(args.out / "selection.json")

    step(6, f"{args.steps} training steps on the subset")
    held_out = pool.select([i for i in range(len(pool)) if i not in set(record.indices)]).shuffle(seed=0)
    held_out = hf_dsel.to_trl(held_out.select(range(min(64, len(held_out)))))
    before, after = train(model, subset, held_out, steps=args.steps, out=str(args.out / "model"))
    print(f"loss on {len(held_out)} rows of the pool that were not selected: {before:.3f} before, {after:.3f} after")

    print(f"\ndone in {time.time() - began:.0f} s. In {args.out}:")
    print("  subset/train.parquet   the rows, best first, with their scores; trl sft --dataset_name takes the folder")
    print("  selection.json         which rows and why; hf_dsel.Selection.load(...).apply(pool) gives them again")
    print("  model/                 the fine-tuned model")


if __name__ == "__main__":
    main()

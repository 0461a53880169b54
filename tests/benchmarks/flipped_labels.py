"""Flipped labels planted in real preference pairs: `python -m tests.benchmarks.flipped_labels [--file NAME] [--gate]`.

Needs the folder of data in HF_DSEL_DATA. In a share of the pairs chosen and rejected are exchanged; `FlippedLabels`
learns from the pool as it then is. Printed for each share, means over the seeds:

- the estimated share, its interval, and how many of the seeds have the planted share in it;
- the AUC of `gate_flipped` for what was exchanged, and of simple scores: the lengths' difference, taken to prefer what
  most labels of the pool prefer, and, with --gate, the difference of the gates of both answers;
- what gate=True leaves out, and the share of flips in that, before and after;
- the AUC within fifths of the pairs by the lengths' difference of chosen and rejected, where length cannot be the
  reason.

The labels of real pairs are not all right to begin with. A share of 0 shows what is found in them as they are; where
judges' scores of both answers are known, a line says how near those of the pairs it suspects lie to each other.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

import hf_dsel
from hf_dsel.flipped_pairs import Pairs, flipped
from hf_dsel.narrowing import MOST_FLIPPED
from tests.benchmarks.gate_pools import Remembered
from tests.benchmarks.labels import auc
from tests.benchmarks.table import show

FILES = ("pref_ultrafeedback_1k", "pref_expert_revised", "pref_alpaca_eval", "pref_hh_harmless_test",
         "pref_oasst_100trees", "pref_dpo_en_demo")  # fmt: skip


def pairs_of(folder: Path, name: str, rows: int) -> Dataset:
    """The pairs of a file, the same draw each time."""
    pairs = Dataset.from_parquet(str(folder / f"{name}.parquet"))
    return pairs.select(np.sort(np.random.default_rng(0).permutation(len(pairs))[:rows]))


def planted(pairs: Dataset, share: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """The pairs with some exchanged, and which."""
    bad = np.random.default_rng(seed).random(len(pairs)) < share
    rows = [flipped(row) if is_bad else row for row, is_bad in zip(pairs, bad, strict=True)]
    return Dataset.from_list(rows, features=pairs.features), bad


def chars(pairs: Pairs) -> np.ndarray:
    """log characters of the chosen answer less those of the rejected one."""
    sizes = [np.log1p([len(text) for text in side]) for side in (pairs.chosen, pairs.rejected)]
    return sizes[0] - sizes[1]


def within_lengths(score: np.ndarray, length: np.ndarray, bad: np.ndarray) -> list[float]:
    """The AUC in each fifth by length."""
    bins = np.searchsorted(np.quantile(length, [0.2, 0.4, 0.6, 0.8]), length)
    found = []
    for i in range(5):
        mine = bins == i
        both = 0 < bad[mine].sum() < mine.sum()
        found.append(auc(score[mine], bad[mine])[0] if both else np.nan)
    return found


def gates(pairs: Dataset, embed: Any, seed: int) -> np.ndarray:
    """The gate of the chosen answer less that of the rejected one."""
    sound = []
    for side in ("chosen", "rejected"):
        gate = hf_dsel.Gate.fit(pairs, embedder=embed, seed=seed, side=side)
        column = "gate" if side == "chosen" else "rejected_gate"
        sound.append(np.array([value for i in range(0, len(pairs), 500) for value in gate(pairs[i : i + 500])[column]]))
    return sound[0] - sound[1]


def measured(pairs: Dataset, share: float, seed: int, embed: Any, *, gate: bool) -> dict[str, Any]:
    """One pool with planted flips."""
    pool, bad = planted(pairs, share, seed)
    flips = hf_dsel.FlippedLabels.fit(pool, embedder=embed)
    chance = np.array([np.nan if v is None else v for v in pool.map(flips, batched=True)["gate_flipped"][:]], float)
    told = np.isfinite(chance)
    chance, bad, length = chance[told], bad[told], chars(Pairs.of(pool[:]))
    found = flips.learned.share
    drop = chance > MOST_FLIPPED
    line: dict[str, Any] = {"share": bad.mean(), "estimate": found.share, "low": found.low, "high": found.high}
    line |= {"foretold": found.told, "longer": flips.learned.longer, "prefers longer": flips.learned.prefers_longer}
    line |= {"dropped": drop.mean(), "flips in dropped": bad[drop].mean() if drop.any() else np.nan}
    line |= {"flips in kept": bad[~drop].mean(), "expected in kept": chance[~drop].mean()}
    if bad.any():
        sign = np.sign(flips.learned.longer - 0.5) or 1.0
        line["AUC"] = auc(chance, bad)[0]
        line["AUC length"] = auc(-sign * length, bad)[0]
        if gate:
            line["AUC gates"] = auc(-gates(pool, embed, seed)[told], bad)[0]
        line |= {f"fifth {i + 1}": value for i, value in enumerate(within_lengths(chance, length, bad))}
    if "score_chosen" in pool.column_names and not bad.any():
        margin = (np.array(pool["score_chosen"][:]) - np.array(pool["score_rejected"][:]))[told]
        suspect = chance >= np.quantile(chance, 0.9)
        line["margin of the most suspect tenth"], line["margin of the rest"] = (
            margin[suspect].mean(),
            margin[~suspect].mean(),
        )
    return line


def summary(lines: list[dict[str, Any]]) -> dict[str, str]:
    """The means over the seeds, as text."""
    inside = [line["low"] <= line["share"] <= line["high"] for line in lines]
    mean = {name: float(np.nanmean([line[name] for line in lines])) if any(
        np.isfinite(line[name]) for line in lines) else np.nan for name in lines[0]}  # fmt: skip
    out = {"flipped": f"{mean['share']:.1%}"}
    out["estimate"] = f"{mean['estimate']:.1%} ({mean['low']:.1%} to {mean['high']:.1%})"
    out["in it"] = f"{sum(inside)} of {len(inside)}"
    for name in ("foretold", "longer", "prefers longer", "dropped", "flips in dropped", "flips in kept"):
        out[name] = "-" if np.isnan(mean[name]) else f"{mean[name]:.1%}"
    for name in ("AUC", "AUC length", "AUC gates"):
        out[name] = f"{mean[name]:.3f}" if name in mean else "-"
    return out | {name: f"{value:.3f}" for name, value in mean.items() if name.startswith("fifth")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", choices=FILES, default=FILES[0])
    parser.add_argument("--rows", type=int, default=2500, help="at most so many pairs (default: 2500)")
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2, 0.4], help="of pairs to flip")
    parser.add_argument("--seeds", type=int, default=3, help="draws of each share (default: 3)")
    parser.add_argument("--statistics", action="store_true", help="without embeddings")
    parser.add_argument("--gate", action="store_true", help="beside the gates of both answers, of the first seed")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings between runs")
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error("set HF_DSEL_DATA to the folder with pref_ultrafeedback_1k.parquet and the others")
    datasets.disable_progress_bars()
    embed = None if args.statistics else Remembered.open(args.cache)
    pairs = pairs_of(Path(os.environ["HF_DSEL_DATA"]), args.file, args.rows)
    table, fifths = [], []
    for share in args.share:
        lines = [measured(pairs, share, seed, embed, gate=args.gate and seed == 1)
                 for seed in range(1, 1 + (args.seeds if share else 1))]  # fmt: skip
        found = summary(lines)
        if share:
            fifths.append({"flipped": found["flipped"]} | {n: found.pop(n) for n in list(found) if n.startswith("fif")})
        table.append(found)
        print(" ".join(found.values()), flush=True)
        for name in ("margin of the most suspect tenth", "margin of the rest"):
            if name in lines[0]:
                print(f"judges' {name}: {lines[0][name]:.2f}")
        Remembered.keep()
    print(f"\n{args.file}, {len(pairs):,} pairs, {args.seeds} seeds; dropped is what gate=True leaves out")
    show(table)
    print("\nAUC within fifths by the lengths' difference")
    show(fifths)


if __name__ == "__main__":
    main()

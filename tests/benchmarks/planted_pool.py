"""Does the data map find planted faults? `python -m tests.benchmarks.planted_pool [--rows N] [--epochs E] [--seed S]`.

Needs the folder of data in HF_DSEL_DATA, with alpaca_52k.parquet. A pool of short Alpaca rows, of which 20 % have their
responses shuffled among themselves and 10 % are exact copies of others, is trained on by a stock SFTTrainer with
TrainingDynamics. Printed: for each column the area under the ROC curve for shuffled against untouched rows (0.5 is
chance; above it the shuffled rows have the higher values), and for rows that are there twice against untouched ones.

Then the rule of the map, fixed beforehand: the 20 % of lowest confidence are left out, against a random 20 %. Both are
trained on from the same weights for as many steps as all rows were, and the mean NLL of held-out untouched rows is
measured after every epoch's worth of steps.
"""

from __future__ import annotations

import argparse
import os
import runpy
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.training.row_numbers import ROW
from hf_dsel.training.trajectories import learning_events
from tests.benchmarks.labels import ALPACA, auc
from tests.benchmarks.table import show

SHUFFLED, COPIED, DROPPED = 0.2, 0.1, 0.2
COLUMNS = (
    "loss_first", "loss_mean", "loss_last", "loss_drop", "confidence", "variability", "correctness", "el2n", "entropy",
    "forgetting", "first_learned", "unforgettable",
)  # fmt: skip
LEARNED_AT = {"forgetting, learned at 0.75": 0.75, "forgetting, learned at 0.9": 0.9, "forgetting, any fall": None}


def short_rows(folder: Path, chars: int) -> pd.DataFrame:
    """Alpaca rows without an input and with a short answer that no other row has."""
    rows = pd.read_parquet(folder / ALPACA, columns=["instruction", "input", "output"])
    size = rows["output"].str.len()
    rows = rows[(rows["input"] == "") & (rows["instruction"].str.len() <= 60) & size.between(20, chars)]
    rows = rows.drop_duplicates("output", keep=False)
    return pd.DataFrame({"prompt": rows["instruction"] + "\n", "completion": rows["output"]})


def planted(rows: pd.DataFrame, n: int, held_out: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pool of n rows in random order with its column `kind`, and rows that are not in it."""
    shuffled, copies = round(SHUFFLED * n), round(COPIED * n)
    if len(rows) < n - copies + held_out:
        raise SystemExit(f"{len(rows):,} rows are short enough; --rows {n} needs {n - copies + held_out:,}")
    drawn = rows.iloc[rng.permutation(len(rows))[: n - copies + held_out]].reset_index(drop=True)
    pool, apart = drawn[: n - copies].copy(), drawn[n - copies :]
    pool["kind"] = "untouched"
    pool.loc[: shuffled - 1, "kind"] = "shuffled"
    # rows in random order already, so a shift by one is a random cycle: no row keeps its response
    pool.loc[: shuffled - 1, "completion"] = np.roll(pool["completion"][:shuffled], 1)
    pool.loc[shuffled : shuffled + copies - 1, "kind"] = "twice"
    pool = pd.concat([pool, pool[pool["kind"] == "twice"]])
    return pool.iloc[rng.permutation(n)].reset_index(drop=True), apart.reset_index(drop=True)


def trained(pool: Dataset, held_out: Dataset, model: str, steps: int, every: int, args: argparse.Namespace) -> Any:
    """The dynamics of a training on the pool, the held-out rows measured at the start and after each `every` steps."""
    gpu = torch.cuda.is_available()
    options = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=16, learning_rate=args.learning_rate, lr_scheduler_type="constant", bf16=True,
        use_cpu=not gpu, gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
        logging_steps=every, seed=args.seed, max_length=256, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    trainer = SFTTrainer(model, args=options, train_dataset=pool.select_columns(["prompt", "completion", ROW]))
    trainer.remove_callback(PrinterCallback)
    dynamics = hf_dsel.TrainingDynamics(probe="steps", probe_every=every, probe_on=held_out).bind(trainer)
    start = time.perf_counter()
    trainer.train()
    losses = [record["probe/loss"] for record in trainer.state.log_history if "probe/loss" in record]
    return dynamics, losses, time.perf_counter() - start


def areas(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Each column, and the length of the response, as a sign of either fault."""
    lines = []
    for name in ("length", *COLUMNS, *LEARNED_AT):
        line: dict[str, Any] = {"column": "response length, characters" if name == "length" else name}
        for kind in ("shuffled", "twice"):
            mine = found[found["kind"].isin([kind, "untouched"])]
            area, error = auc(mine[name].to_numpy(float), (mine["kind"] == kind).to_numpy())
            line[f"AUC, {kind}"] = f"{area:.3f} ± {error:.3f}"
        for kind in ("untouched", "shuffled", "twice"):
            line[f"mean, {kind}"] = f"{found.loc[found['kind'] == kind, name].mean():.3f}"
        lines.append(line)
    return lines


def as_numbers(pool: Dataset, dynamics: Any) -> pd.DataFrame:
    """The dynamics without nulls: a row that was never learned counts as learned after the last epoch."""
    found = pool.to_pandas()
    accuracy = dynamics._recorder.records.trajectories(np.arange(len(pool)))["accuracy"]
    for name, learned_at in LEARNED_AT.items():
        found[name] = learning_events(accuracy, learned_at)["forgetting"].values
    found = found.rename(columns=lambda name: name.removeprefix("dynamics_"))
    found["first_learned"] = found["first_learned"].fillna(found["epochs"].max() + 1)
    found["loss_first"] = found["loss_last"] + found["loss_drop"]
    found["length"] = found["completion"].str.len()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=240, help="rows of the pool (default: 240)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the pool, the random drop and the training")
    parser.add_argument("--model", help="causal language model (default: SmolLM2-135M-Instruct from PyPI)")
    parser.add_argument("--held-out", type=int, default=100, help="untouched rows to measure on (default: 100)")
    parser.add_argument("--chars", type=int, default=100, help="longest answer (default: 100)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error(f"set HF_DSEL_DATA to the folder with {ALPACA}")
    datasets.disable_progress_bars()
    rng = np.random.default_rng(args.seed)
    table, apart = planted(short_rows(Path(os.environ["HF_DSEL_DATA"]), args.chars), args.rows, args.held_out, rng)
    pool = Dataset.from_pandas(table, preserve_index=False).add_column(ROW, np.arange(len(table)))
    held_out = Dataset.from_pandas(apart[["prompt", "completion"]], preserve_index=False)
    every = -(-len(pool) // args.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        made = runpy.run_path(str(Path(__file__).parents[2] / "recipes/quickstart/models.py"))
        model = args.model or made["smollm2"](Path(folder) / "SmolLM2-135M-Instruct")
        compare(pool, held_out, model, every, rng, args)


def compare(pool: Dataset, held_out: Dataset, model: str, every: int, rng: Any, args: argparse.Namespace) -> None:
    """Train on all rows, print what the columns tell; train without some rows, print what that does."""
    steps = args.epochs * every
    dynamics, losses, seconds = trained(pool, held_out, model, steps, every, args)
    measured = dynamics.add_to(pool)
    found = as_numbers(measured, dynamics)
    print(f"{len(pool):,} rows, {args.epochs} epochs of {every} steps, seed {args.seed}; "
          f"{seconds:.0f} s with {torch.get_num_threads()} threads", flush=True)  # fmt: skip
    show(areas(found))
    keep = len(pool) - round(DROPPED * len(pool))
    confident = hf_dsel.select(measured, "top_k", k=keep, column="dynamics_confidence")
    kept = {"lowest confidence": confident.indices, "random rows": rng.permutation(len(pool))[:keep]}
    arms, last = {"none": losses}, {}
    dropped = {"none": found[:0]}
    for name, numbers in kept.items():
        numbers = np.sort(numbers)
        dropped[name] = found.drop(index=numbers)
        again, arms[name], _ = trained(pool.select(numbers), held_out, model, steps, every, args)
        last[name] = again.add_probe_to(held_out).to_pandas()["probe_loss_last"].to_numpy(float)
    print(f"\nMean NLL of {len(held_out):,} held-out untouched rows, nats a token, after so many steps:")
    show(
        [
            {
                "left out": name,
                "of them shuffled": f"{int((dropped[name]['kind'] == 'shuffled').sum())} of {len(dropped[name])}",
                **{str(i * every): f"{x:.3f}" for i, x in enumerate(line)},
            }
            for name, line in arms.items()
        ]
    )
    gap = last["lowest confidence"] - last["random rows"]
    error = gap.std(ddof=1) / len(gap) ** 0.5
    print(f"lowest confidence minus random rows, at the end: {gap.mean():+.4f} ± {error:.4f} "
          "(standard error over the held-out rows, of this one pair of trainings)")  # fmt: skip


if __name__ == "__main__":
    main()

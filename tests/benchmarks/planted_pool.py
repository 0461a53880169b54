"""Does the data map find planted faults? `python -m tests.benchmarks.planted_pool [--seeds 0 1 2] [--results FILE]`.

Needs the folder of data in HF_DSEL_DATA, with alpaca_52k.parquet. A pool of short Alpaca rows, of which 20 % have their
responses shuffled among themselves and 10 % are exact copies of others, is trained on by a stock SFTTrainer with
TrainingDynamics. Printed: for each column the area under the ROC curve for shuffled against untouched rows (0.5 is
chance; above it the shuffled rows have the higher values), and for rows that are there twice against untouched ones.

Then the rule of the map, fixed beforehand: the 20 % of lowest confidence are left out, against a random 20 %. Both are
trained on anew from the same weights, for as many steps as all rows would be; a row that both have comes up at the same
steps. What counts is the mean NLL of held-out untouched rows after the last step, and its difference from the random
rows' over the seeds; a seed is another pool, other held-out rows, another random drop and another order.

The map needs a training that learns its rows by heart: five epochs at 1e-4, after which the untouched rows have a loss
of 0.1 and held-out ones one that is 0.4 above its lowest (seed 0). Nobody would keep that model, so what a drop did is
measured after a training at TRL's learning rate and batch size, for as many steps as three epochs of all rows take.
Seeds 0 to 2, with 300 held-out rows and other random drops, were the trial of that (-0.010, -0.012 and -0.026 against
random rows); 17 to 28 were fixed before any of them was run, and count alone: -0.019 ± 0.003. Before, both were one
training (`--retrain-epochs 5 --retrain-batch-size 16 --retrain-learning-rate 1e-4 --held-out 200`): twelve seeds, 5 to
16, gave -0.018 ± 0.011.

`--arms shuffled random` leaves out just the shuffled rows instead, without a map: what a perfect one could win; `none`
trains on all rows, for as many steps; `--arms` alone only draws the map. One training takes 3 to 6 minutes on a core;
`--results` lets seeds and arms run one by one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import runpy
import tempfile
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
from hf_dsel.training.trajectories import learning_events, threshold
from tests.benchmarks.labels import ALPACA, auc
from tests.benchmarks.table import show

SHUFFLED, COPIED, DROPPED = 0.2, 0.1, 0.2
COLUMNS = (
    "loss_first", "loss_mean", "loss_last", "loss_drop", "confidence", "variability", "correctness", "el2n", "entropy",
)  # fmt: skip
THRESHOLDS = ("median", 0.5, 0.75, 0.9, 1.0, None)  # of token accuracy, from which a row counts as learned
KINDS = ("untouched", "shuffled", "twice")
ARMS = {"none": "none", "confidence": "lowest confidence", "random": "random rows", "shuffled": "the shuffled rows"}
SETTINGS = (
    "rows", "model", "held_out", "chars", "epochs", "batch_size", "learning_rate",
    "retrain_epochs", "retrain_batch_size", "retrain_learning_rate",
)  # fmt: skip


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


def in_places_of(order: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The kept rows, as many as `order` has: each at its place there, the others in the places that are left."""
    found = order.copy()
    found[~np.isin(order, kept)] = np.setdiff1d(kept, order)
    return found


def trainer_on(
    pool: Dataset, model: str, seed: int, *, steps: int, batch_size: int, learning_rate: float
) -> SFTTrainer:
    """A stock SFTTrainer on the pool; what else is set is for short rows on a CPU and for quiet."""
    options = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=16, learning_rate=learning_rate, lr_scheduler_type="linear", bf16=True,
        use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False, save_strategy="no", report_to="none",
        disable_tqdm=True, logging_steps=steps, seed=seed, max_length=256,
        model_init_kwargs={"dtype": "float32", "attn_implementation": "eager"},  # faster on a CPU with rows this short
    )  # fmt: skip
    trainer = SFTTrainer(model, args=options, train_dataset=pool.select_columns(["prompt", "completion", ROW]))
    trainer.remove_callback(PrinterCallback)
    return trainer


def held_out_losses(trainer: SFTTrainer, held_out: Dataset) -> tuple[np.ndarray, float]:
    """Train: the NLL of each held-out row after it, and the mean before."""
    probe = hf_dsel.TrainingDynamics(probe="steps", probe_every=trainer.args.max_steps, probe_on=held_out).bind(trainer)
    trainer.train()
    after = probe.add_probe_to(held_out).to_pandas()
    first = float((after["probe_loss_last"] + after["probe_loss_drop"]).mean())
    return after["probe_loss_last"].to_numpy(float), first


def as_numbers(pool: Dataset, dynamics: Any) -> pd.DataFrame:
    """The columns of the dynamics, the first loss, and forgetting by each threshold; null is NaN."""
    found = pool.to_pandas().rename(columns=lambda name: name.removeprefix("dynamics_"))
    found["loss_first"] = found["loss_last"] + found["loss_drop"]
    found["length"] = found["completion"].str.len()
    records = dynamics._recorder.records
    accuracy = records.trajectories(np.arange(len(pool)))["accuracy"]
    for at in THRESHOLDS:
        events = learning_events(accuracy, threshold(records, at))
        for name, column in (("forgetting_score", "score"), ("forgetting", "events"), ("first_learned", "first")):
            found[f"{column} {at}"] = np.where(events[name].valid, events[name].values.astype(float), np.nan)
        found[f"never {at}"] = (~events["first_learned"].valid).astype(float)
    return found


def signs() -> dict[str, str]:
    """The columns of `as_numbers` that are tried as signs of a fault, and what they are called."""
    names = {"length": "response length, characters"} | {name: name for name in COLUMNS}
    for at in THRESHOLDS:
        what = "any fall" if at is None else f"learned at {at}"
        names |= {f"score {at}": f"forgetting_score, {what}", f"events {at}": f"forgetting (events), {what}",
                  f"never {at}": f"never learned, {what}", f"first {at}": f"first_learned, {what}"}  # fmt: skip
    return names


def areas(found: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Each sign: its AUC for either fault and the standard error, its mean by kind; of the rows that have a value."""
    lines: dict[str, dict[str, Any]] = {}
    for name in signs():
        line: dict[str, Any] = {}
        for kind in KINDS[1:]:
            mine = found[found["kind"].isin([kind, "untouched"]) & found[name].notna()]
            if mine["kind"].nunique() == 2:
                line[kind] = auc(mine[name].to_numpy(float), (mine["kind"] == kind).to_numpy())
        by_kind = found.groupby("kind")[name].mean()
        lines[name] = line | {f"mean, {kind}": float(by_kind[kind]) for kind in KINDS}
    return lines


def one_seed(seed: int, rows: pd.DataFrame, model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Draw the map, train anew on all rows and without some; what the columns tell, and what the drops did."""
    rng = np.random.default_rng(seed)
    table, apart = planted(rows, args.rows, args.held_out, rng)
    pool = Dataset.from_pandas(table, preserve_index=False).add_column(ROW, np.arange(len(table)))
    held_out = Dataset.from_pandas(apart[["prompt", "completion"]], preserve_index=False)
    keep = len(pool) - round(DROPPED * len(pool))
    kept = {"none": np.arange(len(pool)), "random": np.sort(rng.permutation(len(pool))[:keep])}
    kept["shuffled"] = np.flatnonzero(table["kind"] != "shuffled")
    result: dict[str, Any] = {"seed": seed, "settings": {name: getattr(args, name) for name in SETTINGS}}
    if not args.arms or "confidence" in args.arms:
        steps = args.epochs * -(-len(pool) // args.batch_size)
        trainer = trainer_on(
            pool, model, seed, steps=steps, batch_size=args.batch_size, learning_rate=args.learning_rate
        )
        dynamics = hf_dsel.TrainingDynamics().bind(trainer)
        seconds = trainer.train().metrics["train_runtime"]
        measured = dynamics.add_to(pool)
        kept["confidence"] = hf_dsel.select(measured, "top_k", k=keep, column="dynamics_confidence").indices
        result["signs"] = areas(as_numbers(measured, dynamics))
        print(f"seed {seed}: {len(pool):,} rows, {args.epochs} epochs, {steps} steps, {seconds:.0f} s with "
              f"{torch.get_num_threads()} threads", flush=True)  # fmt: skip
        del dynamics, trainer
        gc.collect()  # they hold each other, and 2 GB
    steps = args.retrain_epochs * -(-len(pool) // args.retrain_batch_size)
    for arm in args.arms:
        numbers = np.asarray(kept[arm])
        if len(numbers) == keep:
            numbers = in_places_of(kept["random"], numbers)
        trainer = trainer_on(
            pool.select(numbers), model, seed,
            steps=steps, batch_size=args.retrain_batch_size, learning_rate=args.retrain_learning_rate,
        )  # fmt: skip
        losses, result["before"] = held_out_losses(trainer, held_out)
        left_out = table.drop(index=numbers)
        result[arm] = {"losses": losses.tolist(), "shuffled": int((left_out["kind"] == "shuffled").sum())}
        print(f"seed {seed}: {ARMS[arm]} left out, {result[arm]['shuffled']} of {len(left_out)} shuffled, held-out NLL "
              f"{losses.mean():.4f} ({result['before']:.4f} before), {steps} steps", flush=True)  # fmt: skip
        del trainer
        gc.collect()
    return result


def mean_and_error(numbers: list[float]) -> str:
    """The mean of those that are there, and from two on its standard error."""
    numbers = [x for x in numbers if not np.isnan(x)]
    if not numbers:
        return "-"
    error = f" ± {np.std(numbers, ddof=1) / len(numbers) ** 0.5:.3f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.3f}{error}"


def print_summary(results: list[dict[str, Any]]) -> None:
    """Two tables over the seeds: the signs, and the held-out NLL of each arm beside the random one's."""
    by_seed: dict[int, dict[str, Any]] = {}
    for found in results:  # a seed's arms may have been run one by one
        by_seed.setdefault(found["seed"], {}).update(found)
    results = list(by_seed.values())
    print(f"\nOver seeds {', '.join(str(r['seed']) for r in results)}; ± is a standard error of the mean over them.")
    mapped = [r["signs"] for r in results if "signs" in r]
    if mapped:
        lines = []
        for name, title in signs().items():
            line = {"column": title}
            for kind in KINDS[1:]:
                line[f"AUC, {kind}"] = mean_and_error([m[name][kind][0] for m in mapped if kind in m[name]])
            for kind in KINDS:
                line[f"mean, {kind}"] = mean_and_error([m[name][f"mean, {kind}"] for m in mapped]).split(" ")[0]
            lines.append(line)
        show(lines)
    before = mean_and_error([r["before"] for r in results if "before" in r])
    print(f"\nMean NLL of held-out untouched rows, nats a token; {before} before")
    lines = []
    for arm, title in ARMS.items():
        mine = [r for r in results if arm in r and "random" in r]
        if not mine:
            continue
        losses = [float(np.mean(r[arm]["losses"])) for r in mine]
        gaps = [x - float(np.mean(r["random"]["losses"])) for x, r in zip(losses, mine, strict=True)]
        lines.append({
            "left out": title,
            "of them shuffled": ", ".join(str(r[arm]["shuffled"]) for r in mine),
            "held-out NLL": mean_and_error(losses),
            "minus random rows'": "-" if arm == "random" else mean_and_error(gaps),
            "by seed": "-" if arm == "random" else ", ".join(f"{gap:+.3f}" for gap in gaps),
        })  # fmt: skip
    if lines:
        show(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=240, help="rows of the pool (default: 240)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=["confidence", "random"])
    parser.add_argument("--results", type=Path, help="a file of JSON lines: seeds of the same settings are added to it")
    parser.add_argument("--model", help="causal language model (default: SmolLM2-135M-Instruct from PyPI)")
    parser.add_argument("--held-out", type=int, default=600, help="untouched rows to measure on (default: 600)")
    parser.add_argument("--chars", type=int, default=50, help="longest answer (default: 50)")
    for name, what, numbers in (("", "for the map", (5, 16, 1e-4)), ("retrain-", "after a drop", (3, 8, 2e-5))):
        for option, number in zip(("epochs", "batch-size", "learning-rate"), numbers, strict=True):
            parser.add_argument(
                f"--{name}{option}", type=type(number), default=number, help=f"training {what} (default: {number})"
            )
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error(f"set HF_DSEL_DATA to the folder with {ALPACA}")
    datasets.disable_progress_bars()
    rows = short_rows(Path(os.environ["HF_DSEL_DATA"]), args.chars)
    results: list[dict[str, Any]] = []
    if args.results and args.results.exists():
        results = [json.loads(line) for line in args.results.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        made = runpy.run_path(str(Path(__file__).parents[2] / "recipes/quickstart/models.py"))
        model = args.model or made["smollm2"](Path(folder) / "SmolLM2-135M-Instruct")
        for seed in args.seeds:
            results.append(one_seed(seed, rows, model, args))
            if args.results:
                with args.results.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    settings = {name: getattr(args, name) for name in SETTINGS}
    print_summary([result for result in results if result["settings"] == settings])


if __name__ == "__main__":
    main()

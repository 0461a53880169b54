"""How near sparse affinity propagation is to the dense one: `python -m tests.benchmarks.sparse_messages`.

Spearman's correlation of the representation score (Eq. 7), and the share of the 5 % of rows with the highest score
that both have, by number of rows, neighbours and preference.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.sparse_affinity_propagation import sparse_affinity_propagation
from tests.benchmarks.data import describe, embeddings


def ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order; equal values share their mean place."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count + 1) / 2)[place]


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def shared_top(left: np.ndarray, right: np.ndarray, share: float = 0.05) -> float:
    """Which part of the rows with the highest values is the same; of equal values the lower row."""
    count = round(share * len(left))
    first, second = (set(np.argsort(-side, kind="stable")[:count].tolist()) for side in (left, right))
    return len(first & second) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 5000, 10_000])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[16, 64, 256])
    options = parser.parse_args()
    print(f"data: {describe()}")
    print("| rows | preference | neighbours | Spearman | top 5 % | exemplars (dense) | iterations | s (dense) |")
    print("|---|---|---|---|---|---|---|---|")
    for n in options.rows:
        x = embeddings(n).astype(np.float32)
        for preference in (0.0, "median"):
            start = time.perf_counter()
            dense = affinity_propagation(x, preference=preference, device="cpu")
            dense_s = time.perf_counter() - start
            for k in options.neighbours:
                start = time.perf_counter()
                found = sparse_affinity_propagation(x, neighbours=k, preference=preference, device="cpu")
                seconds = time.perf_counter() - start
                print(
                    f"| {n:,} | {preference} | {k} | {spearman(found.representation, dense.representation):.4f}"
                    f" | {shared_top(found.representation, dense.representation):.1%}"
                    f" | {len(found.exemplars):,} ({len(dense.exemplars):,}) | {found.iterations} ({dense.iterations})"
                    f" | {seconds:.1f} ({dense_s:.1f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

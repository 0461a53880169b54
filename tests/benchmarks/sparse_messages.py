"""How near sparse affinity propagation is to the dense one: `python -m tests.benchmarks.sparse_messages`.

Spearman's correlation of the representation score (Eq. 7), and the share of the 5 % of rows with the highest score
that both have, by number of rows, neighbours and preference. With `--large 100000` instead: time and memory of the
sparse one at that size, on the embeddings repeated with noise (memory is read from Linux).
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from hf_dsel.ops.affinity_propagation import affinity_propagation
from hf_dsel.ops.sparse_affinity_propagation import sparse_affinity_propagation, sparse_message_bytes
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


def large(n: int, k: int) -> None:
    """Seconds, and memory beyond the embeddings."""
    x = embeddings(52_002)[np.arange(n) % 52_002].astype(np.float32)
    x[52_002:] += np.random.default_rng(0).normal(0, 0.02, (max(0, n - 52_002), x.shape[1]))
    sparse_affinity_propagation(x[:500], neighbours=8, preference="median", iterations=2, device="cpu")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    marks = [time.perf_counter()]
    found = sparse_affinity_propagation(
        x, neighbours=k, preference="median", stop_after=None, iterations=100, device="cpu",
        progress=lambda t, _: marks.append(time.perf_counter()),
    )  # fmt: skip
    end, peak = time.perf_counter(), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{n:,} rows, {k} neighbours, 100 iterations: {found.edges:,} edges, {len(found.exemplars):,} exemplars; "
        f"{marks[1] - marks[0]:.1f} s to the first iteration's end, {(marks[-1] - marks[1]) / 99:.3f} s an iteration, "
        f"{end - marks[0]:.1f} s in all; {peak / 2**20:,.0f} MiB more at the most, stated "
        f"{sparse_message_bytes(n, x.shape[1], neighbours=k, device='cpu') / 2**20:,.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 5000, 10_000])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--large", type=int, metavar="ROWS")
    options = parser.parse_args()
    print(f"data: {describe()}")
    if options.large:
        large(options.large, 64)
        return
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

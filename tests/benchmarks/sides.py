"""What is timed: each function is one side of a row, run in a process of its own, and returns seconds and picks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np

from tests.benchmarks.data import clustered, embeddings

Result = dict[str, Any]


def _timed(work: Callable[[], Iterable[int]]) -> Result:
    start = time.perf_counter()
    picks = [int(row) for row in work()]
    return {"seconds": time.perf_counter() - start, "picks": picks}


def _median_of_five(work: Callable[[], Iterable[int]]) -> Result:
    """For work of a tenth of a second, after a first run that is not counted."""
    list(work())
    runs = [_timed(work) for _ in range(5)]
    return {"seconds": float(np.median([run["seconds"] for run in runs])), "picks": runs[0]["picks"]}


def _timed_gains(work: Callable[[], Iterable[tuple[int, float]]]) -> Result:
    start = time.perf_counter()
    found = list(work())
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "picks": [row for row, _ in found], "gains": [gain for _, gain in found]}


# --- facility location beside submodlib ---


def location_ours() -> Result:
    from hf_dsel.ops.facility_location import facility_location

    x = embeddings(20_000)
    return _timed_gains(lambda: islice(facility_location(x, similarity="shifted", device="cpu"), 1000))


def location_submodlib() -> Result:
    import submodlib

    x = embeddings(20_000)

    def work() -> Iterable[int]:
        unit = x.astype(np.float32)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        kernel = unit @ unit.T
        kernel += 1
        kernel /= 2
        peer = submodlib.FacilityLocationFunction(n=len(x), mode="dense", sijs=kernel, separate_rep=False)
        return [row for row, _ in peer.maximize(budget=1000, optimizer="LazyGreedy", show_progress=False)]

    return _timed(work)


# --- QDIT beside one product ---


def product() -> Result:
    """One N×N×d float32 product, in tiles, kept nowhere: the best of three."""
    import torch

    x = torch.from_numpy(embeddings(52_002).astype(np.float32))
    block, seconds = 2048, []
    for _ in range(3):
        out = torch.empty(block, len(x))
        start = time.perf_counter()
        for part in x.split(block):
            torch.mm(part, x.T, out=out[: len(part)])
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "picks": []}


def _qdit(weight: float, modular: np.ndarray | None, max_bytes: int | None) -> Result:
    from hf_dsel.ops.facility_location import facility_location

    x = embeddings(52_002)
    list(islice(facility_location(x[:3000], device="cpu", max_bytes=max_bytes), 50))  # loads the compiled loops

    def work() -> Iterable[tuple[int, float]]:
        found = facility_location(x, diversity_weight=weight, modular=modular, max_bytes=max_bytes, device="cpu")
        return islice(found, 3000)

    return _timed_gains(work)


def qdit_ours() -> Result:
    """α = 0.5, q uniform in [0, 1]: diversity decides nearly alone."""
    return _qdit(0.5, 0.5 * np.random.default_rng(0).random(len(embeddings(52_002))), None)


def qdit_ours_small() -> Result:
    """The same with room for few pairs."""
    return _qdit(0.5, 0.5 * np.random.default_rng(0).random(len(embeddings(52_002))), 500 << 20)


def qdit_mixed() -> Result:
    """α = 0.5, d divided by N, and q of its gains' size: both decide."""
    n = len(embeddings(52_002))
    return _qdit(0.5 / n, 0.5 * np.random.default_rng(0).random(n) * 1e-2, None)


def _dense(weight: float, modular: np.ndarray) -> Result:
    """Plain lazy greedy with every similarity stored: N×N float32."""
    import torch

    unit = torch.from_numpy(embeddings(52_002).astype(np.float32))
    unit /= unit.norm(dim=1, keepdim=True)
    n = len(unit)

    def work() -> Iterable[int]:
        similarity = torch.empty(n, n)
        for start in range(0, n, 2048):
            torch.mm(unit[start : start + 2048], unit.T, out=similarity[start : start + 2048])
        q = torch.from_numpy(modular)
        bound = torch.cat([weight * part.sum(1, dtype=torch.float64) for part in similarity.split(2048)]) + q
        picks, cover = [int(bound.argmax())], None
        cover = similarity[picks[0]].clone()
        taken = torch.zeros(n, dtype=torch.bool)
        taken[picks[0]] = True

        def gain(rows: torch.Tensor) -> torch.Tensor:
            part = similarity[rows] if len(rows) < n else similarity
            return weight * (part - cover).clamp_min_(0).sum(1).double() + q[rows]

        bound = torch.cat([gain(part) for part in torch.arange(n).split(2048)])
        while len(picks) < 3000:
            fresh = torch.zeros(n, dtype=torch.bool)
            bound[taken] = -torch.inf
            while True:
                top = bound.topk(32).indices
                if fresh[top[0]]:
                    break
                stale = top[~fresh[top]]
                bound[stale], fresh[stale] = gain(stale), True
            close = bound >= bound[top[0]] - 1e-6 * weight * max(1.0, float(bound[top[0]]) / weight)
            best = int(close.nonzero()[0]) if not bool((close & ~fresh).any()) else int(top[0])
            picks.append(best)
            taken[best] = True
            cover = torch.maximum(cover, similarity[best])
        return picks

    return _timed(work)


def qdit_dense() -> Result:
    return _dense(0.5, 0.5 * np.random.default_rng(0).random(52_002))


# --- near duplicates beside a loop ---


def _order(n: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(n)


def _first_come(threshold: float) -> Result:
    from hf_dsel.ops.near_duplicates import first_come

    x = embeddings(52_002)
    order = _order(len(x))

    def work() -> Iterable[int]:
        return (row for row, _ in islice(first_come(x, order=order, threshold=threshold, device="cpu"), 6000))

    return _median_of_five(work)


def _loop(threshold: float) -> Result:
    """One row at a time against the rows kept."""
    x = embeddings(52_002)
    order = _order(len(x))

    def work() -> Iterable[int]:
        unit = x.astype(np.float32)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        kept, picks = np.empty((6000, unit.shape[1]), np.float32), []
        for row in order:
            if not picks or (kept[: len(picks)] @ unit[row]).max() <= threshold:
                kept[len(picks)] = unit[row]
                picks.append(int(row))
                if len(picks) == 6000:
                    break
        return picks

    return _median_of_five(work)


def deita_09_ours() -> Result:
    return _first_come(0.9)


def deita_09_loop() -> Result:
    return _loop(0.9)


def deita_05_ours() -> Result:
    return _first_come(0.5)


def deita_05_loop() -> Result:
    return _loop(0.5)


# --- k-center and nearest neighbours ---


def k_center_ours() -> Result:
    from hf_dsel.ops.k_center import k_center

    x = embeddings(40_000)
    list(islice(k_center(x[:1000], device="cpu"), 50))  # threads and pages awake
    start = time.perf_counter()
    found = list(islice(k_center(x, device="cpu"), 1000))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "picks": [row for row, _ in found], "gains": [gain or 0.0 for _, gain in found]}


def k_center_loop() -> Result:
    """Every row beside every pick, in float32, one pick at a time."""
    x = embeddings(40_000)

    def work() -> Iterable[int]:
        points = x.astype(np.float32)
        size = (points**2).sum(1)
        picks = [0]
        nearest = np.full(len(points), np.inf, np.float32)
        while len(picks) < 1000:
            last = picks[-1]
            nearest = np.minimum(nearest, size - 2 * (points @ points[last]) + size[last])
            nearest[last] = -np.inf
            picks.append(int(nearest.argmax()))
        return picks

    return _timed(work)


def knn_ours() -> Result:
    from hf_dsel.ops.nearest_neighbours import neighbour_distances

    x = embeddings(40_000)
    neighbour_distances(x[:2000], device="cpu")

    def work() -> Iterable[tuple[int, float]]:
        distance = neighbour_distances(x, device="cpu")
        order = np.argsort(-distance, kind="stable")[:1000]
        return zip(order.tolist(), distance[order].tolist(), strict=True)

    return _timed_gains(work)


def knn_scikit_learn() -> Result:
    from sklearn.neighbors import NearestNeighbors

    x = embeddings(40_000)

    def work() -> Iterable[int]:
        fitted = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x.astype(np.float32))
        return np.argsort(-fitted.kneighbors()[0][:, 0], kind="stable")[:1000]

    return _timed(work)


# --- affinity propagation beside scikit-learn ---


def _messages(similarity: str, iterations: int) -> Result:
    """Seconds an iteration, and the memory taken beyond what was there, N = 10,000."""
    from hf_dsel.ops.affinity_propagation import affinity_propagation

    x = embeddings(10_000).astype(np.float32)
    options = {"similarity": similarity, "device": "cpu"}
    affinity_propagation(x[:300], preference="median", iterations=2, **options)  # loads the compiled loops

    def run(iterations: int) -> None:
        affinity_propagation(x, preference=-1.0, iterations=iterations, stop_after=None, **options)

    return _an_iteration(run, iterations)


def messages_ours() -> Result:
    return _messages("kept", 22)


def messages_recomputed() -> Result:
    return _messages("recomputed", 12)


def messages_product() -> Result:
    """One N×N×d float32 product, in tiles, kept nowhere: the best of ten."""
    import torch

    x = torch.from_numpy(embeddings(10_000).astype(np.float32))
    out, seconds = torch.empty(2048, len(x)), []
    for _ in range(10):
        start = time.perf_counter()
        for part in x.split(2048):
            torch.mm(part, x.T, out=out[: len(part)])
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "picks": []}


def messages_sklearn() -> Result:
    """The same similarities, made by us; its own float64 messages."""
    import warnings

    from scipy.spatial.distance import cdist
    from sklearn.cluster import affinity_propagation

    x = embeddings(10_000).astype(np.float32)
    s = np.concatenate([-cdist(x[i : i + 500], x).astype(np.float32) for i in range(0, len(x), 500)])
    warnings.simplefilter("ignore")  # so few iterations do not converge

    def run(iterations: int) -> None:
        affinity_propagation(s, preference=-1.0, max_iter=iterations, convergence_iter=iterations + 1, random_state=0)

    return _an_iteration(run, 6)


def _an_iteration(run: Callable[[int], None], iterations: int) -> Result:
    """A run of that length less a run of 2, the least of two such pairs; peak memory over the use before (Linux)."""
    import resource
    from pathlib import Path

    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    seconds = []
    for _ in range(2):
        times = [time.perf_counter()]
        for count in (2, iterations):
            run(count)
            times.append(time.perf_counter())
        short, long = np.diff(times)
        seconds.append((long - short) / (iterations - 2))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before
    return {"seconds": min(seconds), "picks": [], "more_mib": more}


# --- CUDA ---


def cuda_qdit() -> Result:
    """1,300,000 x 768 → 10,000 on one GPU."""
    import torch

    from hf_dsel.ops.facility_location import facility_location

    x = clustered(1_300_000, 768)
    torch.zeros(1, device="cuda")
    result = _timed_gains(lambda: islice(facility_location(x, device="cuda"), 10_000))
    return {**result, "gpu_mib": torch.cuda.max_memory_allocated() / 2**20}


# --- selecting from a million rows; scoring beside a loop ---


def random_million() -> Result:
    """`select_by` on a pool that lies on disk, as `load_dataset` leaves it."""
    import resource
    import tempfile

    from datasets import Dataset, disable_progress_bars, load_from_disk

    import hf_dsel

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        Dataset.from_dict({"text": [f"row {i} " + "word " * 40 for i in range(1_000_000)]}).save_to_disk(folder)
        pool = load_from_disk(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        found = _timed(lambda: [len(hf_dsel.select_by(pool, "random", k=6000))])
        return {**found, "before_mib": before, "pool_mib": pool.data.nbytes / 2**20}


def causal_lm() -> Result:
    from tests.scorers.bench_causal_lm import causal_lm_row

    rows = 128
    return {**causal_lm_row(rows), "rows": rows, "picks": []}


def deita_quality() -> Result:
    from tests.scorers.bench_deita import deita_row

    rows = 128
    return {**deita_row(rows), "rows": rows, "picks": []}


def cuda_deita() -> Result:
    """`DeitaQuality` on one GPU; the loop is on it too."""
    from tests.scorers.bench_deita import deita_row

    rows = 2048
    return {**deita_row(rows, device="cuda"), "rows": rows, "picks": []}

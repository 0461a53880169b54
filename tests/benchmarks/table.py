"""One table of timings beside peers measured in the same run: `python -m tests.benchmarks.table [--only NAME]`.

Every side of a row runs in a process of its own, so that its peak memory is its own.
To add a row: write its sides in `sides.py`, a function here that returns `_row(...)`, and name it in `ROWS`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_done: dict[str, dict[str, Any]] = {}


def measure(side: str) -> dict[str, Any]:
    """Seconds, picks and peak resident memory of one function of `sides.py`, in a new process; once a run."""
    if side not in _done:
        command = [sys.executable, "-m", "tests.benchmarks.table", "--side", side]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{side} failed:\n{done.stderr}")
        _done[side] = json.loads(done.stdout.splitlines()[-1])
    return _done[side]


def _row(name: str, size: str, ours: str, peer: str, target: str, *, picks_of: str | None = None) -> dict[str, Any]:
    """One line. The ratio is peer/ours where the target is a speed-up (≥), ours/peer where it is a cost (≤)."""
    left, right = measure(ours), measure(peer)
    ratio = right["seconds"] / left["seconds"] if target.startswith("≥") else left["seconds"] / right["seconds"]
    other = measure(picks_of)["picks"] if picks_of else right["picks"]
    same = _same(left, other) if other else "-"
    return {
        "name": name,
        "size": size,
        "ours s": f"{left['seconds']:.2f}",
        "peer s": f"{right['seconds']:.2f}",
        "ratio": f"{ratio:.2f}",
        "target": target,
        "ours MiB": f"{left['peak_mib']:.0f}",
        "peer MiB": f"{right['peak_mib']:.0f}",
        "same picks": same,
    }


def _same(left: dict[str, Any], theirs: list[int]) -> str:
    """Yes; or yes but for the order of picks of equal gain; or where they part."""
    ours = left["picks"]
    if ours == theirs:
        return "yes"
    apart = [at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    shared = len(set(ours) & set(theirs))
    gain_of = dict(zip(ours, left.get("gains", []), strict=False))
    if shared == len(ours) == len(theirs) and gain_of:
        # the row they take there has the gain of the row we take there, to float32's last digits
        gap = max(abs(gain_of[theirs[at]] - gain_of[ours[at]]) / max(1.0, gain_of[ours[at]]) for at in apart)
        if gap <= 1e-5:
            return f"yes; {len(apart)} equal gains in another order"
    return f"no: first at {min(apart, default=len(theirs))}, {shared} of {len(theirs)} shared"


def facility_location() -> dict[str, Any]:
    return _row(
        "facility location / submodlib", "20,000→1,000", "location_ours", "location_submodlib", "≥ 6, MiB ≤ half"
    )


def qdit() -> dict[str, Any]:
    return _row("qdit / one product", "52,002→3,000", "qdit_ours", "product", "≤ 1.5", picks_of="qdit_ours_small")


def qdit_mixed() -> dict[str, Any]:
    return _row("qdit, d/N + q / one product", "52,002→3,000", "qdit_mixed", "product", "≤ 1.5")


def qdit_bounded() -> dict[str, Any]:
    target = "≤ 6, ≤ 2048 MiB"
    return _row(
        "qdit, bounded / one product", "52,002→3,000", "qdit_ours_small", "product", target, picks_of="qdit_ours"
    )


def qdit_dense() -> dict[str, Any]:
    return _row("qdit / plain dense (10 GiB)", "52,002→3,000", "qdit_ours", "qdit_dense", "≥ 1")


def deita_09() -> dict[str, Any]:
    return _row("first_come 0.9 / numpy loop", "52,002→6,000", "deita_09_ours", "deita_09_loop", "≥ 10")


def deita_05() -> dict[str, Any]:
    return _row("first_come 0.5 / numpy loop", "52,002→6,000", "deita_05_ours", "deita_05_loop", "≥ 10")


def k_center() -> dict[str, Any]:
    return _row("k_center / numpy loop", "40,000→1,000", "k_center_ours", "k_center_loop", "≥ 1.5")


def knn() -> dict[str, Any]:
    return _row("knn / scikit-learn", "40,000", "knn_ours", "knn_scikit_learn", "≥ 1")


def messages() -> dict[str, Any]:
    """Affinity propagation, an iteration; memory beyond the embeddings (ours) or beyond those and S (scikit-learn)."""
    ours, peer = measure("messages_ours"), measure("messages_sklearn")
    r = 4 * 10_000**2 / 2**20
    return {
        "name": "affinity propagation / scikit-learn, an iteration",
        "size": "10,000",
        "ours s": f"{ours['seconds']:.3f}",
        "peer s": f"{peer['seconds']:.3f}",
        "ratio": f"{peer['seconds'] / ours['seconds']:.2f}",
        "target": "≥ 4, ≤ 1.6 × R",
        "ours MiB": f"{ours['more_mib']:.0f} more = {ours['more_mib'] / r:.2f} × R",
        "peer MiB": f"{peer['more_mib']:.0f} more = {peer['more_mib'] / r:.2f} × R",
        "same picks": "-",
    }


def messages_recomputed() -> dict[str, Any]:
    """An iteration with S made again, beside the product it needs; memory beyond the embeddings."""
    ours, peer = measure("messages_recomputed"), measure("messages_product")
    return {
        "name": "affinity propagation, S recomputed / one product, an iteration",
        "size": "10,000",
        "ours s": f"{ours['seconds']:.3f}",
        "peer s": f"{peer['seconds']:.3f}",
        "ratio": f"{ours['seconds'] / peer['seconds']:.2f}",
        "target": "≤ 1.5",
        "ours MiB": f"{ours['more_mib']:.0f} more = {ours['more_mib'] / (4 * 10_000**2 / 2**20):.2f} × R",
        "peer MiB": "-",
        "same picks": "-",
    }


def random_million() -> dict[str, Any]:
    found = measure("random_million")
    return {
        "name": 'select_by("random")',
        "size": "1,000,000→6,000",
        "ours s": f"{found['seconds']:.2f}",
        "peer s": "-",
        "ratio": "-",
        "target": "< 1 s, no copy of the pool",
        "ours MiB": f"{found['peak_mib'] - found['before_mib']:.0f} more",
        "peer MiB": f"{found['pool_mib']:.0f} (pool)",
        "same picks": "-",
    }


def causal_lm() -> dict[str, Any]:
    return _scoring("IFD, SmolLM2 / batch-1 float32 loop", "causal_lm", "≥ 2.5")


def deita_quality() -> dict[str, Any]:
    return _scoring("DeitaQuality, SmolLM2 / batch-1 float32 loop", "deita_quality", "≥ 2.5")


def cuda_deita() -> dict[str, Any]:
    return _scoring("DeitaQuality on one GPU / batch-1 float32 loop", "cuda_deita", "≥ 15")


def _scoring(name: str, side: str, target: str) -> dict[str, Any]:
    """One line for a scorer beside its loop, both timed in one process that takes turns."""
    found = measure(side)
    return {
        "name": name,
        "size": f"{found['rows']:,} rows",
        "ours s": f"{found['ours_s']:.1f}",
        "peer s": f"{found['peer_s']:.1f}",
        "ratio": f"{found['ratio']:.2f}",
        "target": target,
        "ours MiB": "-",
        "peer MiB": "-",
        "same picks": "-",
    }


def cuda_qdit() -> dict[str, Any]:
    found = measure("cuda_qdit")
    return {
        "name": "qdit on one GPU",
        "size": "1,300,000×768→10,000",
        "ours s": f"{found['seconds']:.1f}",
        "peer s": "565 (paper)",
        "ratio": f"{565 / found['seconds']:.1f}",
        "target": "≤ 60 s",
        "ours MiB": f"{found['gpu_mib']:.0f} (GPU)",
        "peer MiB": "-",
        "same picks": "-",
    }


ROWS: tuple[Callable[[], dict[str, Any]], ...] = (
    facility_location,
    qdit,
    qdit_mixed,
    qdit_bounded,
    deita_09,
    deita_05,
    k_center,
    knn,
    messages,
    messages_recomputed,
    causal_lm,
    deita_quality,
    random_million,
)
ON_REQUEST: tuple[Callable[[], dict[str, Any]], ...] = (qdit_dense,)  # 10 GiB: only with --only
CUDA_ROWS: tuple[Callable[[], dict[str, Any]], ...] = (cuda_qdit, cuda_deita)


def show(rows: list[dict[str, Any]]) -> None:
    """The table, as Markdown."""
    heads = list(rows[0])
    widths = [max(len(str(row[head])) for row in [*rows, dict(zip(heads, heads, strict=True))]) for head in heads]
    print("| " + " | ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)) + " |")
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[head]).ljust(width) for head, width in zip(heads, widths, strict=True)) + " |")


def run_side(name: str) -> None:
    """Run one side here, and print its result as one line of JSON."""
    import resource

    from tests.benchmarks import sides

    result = getattr(sides, name)()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({**result, "peak_mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {row.__name__: row for row in (*ROWS, *ON_REQUEST, *CUDA_ROWS)}
    parser.add_argument("--only", metavar="NAME", choices=known, action="append", help=", ".join(known))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the GPU size")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side)
        return
    from tests.benchmarks.data import describe

    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device here")
        print("data: clustered synthetic rows")
    else:
        print(f"data: {describe()}")
    chosen = [known[name] for name in options.only] if options.only else CUDA_ROWS if options.device == "cuda" else ROWS
    show([row() for row in chosen])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""The embeddings the timings run on: real ones from the folder in HF_DSEL_DATA, else clustered ones made here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

FILE = "alpaca_minilm.npy"  # 52,002 x 384 float16: MiniLM embeddings of the Alpaca instructions


def _file() -> Path | None:
    folder = os.environ.get("HF_DSEL_DATA")
    return Path(folder) / FILE if folder and (Path(folder) / FILE).exists() else None


def describe() -> str:
    """One line for the table's header."""
    found = _file()
    return f"{found.name} from HF_DSEL_DATA" if found else f"clustered synthetic rows (HF_DSEL_DATA has no {FILE})"


def embeddings(rows: int) -> np.ndarray:
    """`rows` embeddings: all of the file's in order, or a seeded sample of them; or synthetic ones."""
    found = _file()
    if found is None:
        return clustered(rows, 384)
    pool = np.load(found)
    if rows >= len(pool):
        return pool
    return pool[np.random.default_rng(0).permutation(len(pool))[:rows]]


def clustered(rows: int, dim: int) -> np.ndarray:
    """Float16 rows around 300 topics with 20 sub-topics each, of unequal sizes: uneven, like text."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((300, dim), dtype=np.float32)
    centres = np.repeat(topics, 20, axis=0) + 0.7 * rng.standard_normal((6000, dim), dtype=np.float32)
    share = rng.pareto(1.5, 6000) + 0.1
    out = np.empty((rows, dim), dtype=np.float16)
    for start in range(0, rows, 65536):
        size = min(65536, rows - start)
        which = rng.choice(6000, size=size, p=share / share.sum())
        out[start : start + size] = centres[which] + 0.8 * rng.standard_normal((size, dim), dtype=np.float32)
    return out

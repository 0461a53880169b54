"""What the gate keeps of real pools with junk in them: `python -m tests.benchmarks.gate [--rows 2000] [--unseen]`.

Needs the folder of data in HF_DSEL_DATA. Rows of Alpaca, GPTeacher, Dolly, LIMA and ShareGPT, of which a share is
broken in one of the ways of `hf_dsel.corruptions`, are the pool that the gate learns from. Printed:

- for each share of junk: the estimate, the AUC of the gate and of length, what it keeps and loses, and the
  junk among the best fifth by gate, by QDIT and DEITA behind the gate, and by the same without it;
- what the picks cost: how well they cover the unbroken rows, their length and sources, beside random's;
- for each kind of junk: its AUC against unbroken rows, and what of it is kept; with --unseen, by a gate that has not
  learned this kind;
- the AUC within fifths of equal length, where length cannot be the reason;
- AUC for labels that other people published, with --labels.

--ifd N adds IFD, with and without the gate, on the first N rows (about 3 s for ten).
"""

from __future__ import annotations

import argparse
import os
import runpy
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

import hf_dsel
from hf_dsel.corruptions import CORRUPTIONS
from hf_dsel.narrowing import MOST_JUNK, cut_for
from tests.benchmarks.gate_pools import MIXED, Pool, Remembered, planted, real_rows
from tests.benchmarks.labels import ALPACA, EXPERT, LABELS, auc, drawn, rows_of
from tests.benchmarks.table import show

PICKED = 0.2


class Measured:
    """A pool, the gate that it taught, and every row's numbers."""

    def __init__(
        self, pool: Pool, embed: Remembered, seed: int, gate: float | None, without: str = "", statistics: bool = False
    ) -> None:
        start = time.perf_counter()
        self.pool, self.data = pool, Dataset.from_dict({"messages": pool.messages})
        kinds = [kind for kind in CORRUPTIONS if kind.__name__ != without]
        self.gate = hf_dsel.Gate.fit(self.data, embedder=None if statistics else embed, corruptions=kinds, seed=seed)
        found = [self.gate(self.data[i : i + 1000]) for i in range(0, len(self.data), 1000)]
        values = [value for part in found for value in part["gate"]]
        self.sound = np.array([0.0 if value is None else value for value in values])  # no answer: left out
        self.reason = np.array([value for part in found for value in part["gate_reason"]])
        self.kept = self.sound >= (cut_for(self.sound, MOST_JUNK) if gate is None else gate)
        self.seconds = time.perf_counter() - start
        embed.keep()

    def of_kind(self, kind: str) -> tuple[str, str, str, str]:
        """How many, the AUC against unbroken rows, the shares kept by the threshold and among the picks."""
        mine, unbroken = np.array(self.pool.fault) == kind, ~self.pool.bad
        if mine.sum() < 5:
            return str(mine.sum()), "-", "-", "-"
        area, error = auc(self.sound[mine | unbroken], unbroken[mine | unbroken])
        best = np.isin(np.arange(len(mine)), top(self.sound))
        kept = self.kept[mine].mean()
        return str(mine.sum()), f"{area:.3f} ± {error:.3f}", f"{kept:.0%}", f"{best[mine].mean():.1%}"


def top(score: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """The best fifth of the pool, of those that are allowed; equal ones in a drawn order."""
    drawn_order = np.random.default_rng(0).random(len(score))
    allowed = np.arange(len(score)) if among is None else np.flatnonzero(among)
    order = np.lexsort((drawn_order[allowed], -score[allowed]))
    return allowed[order[: round(PICKED * len(score))]]


def qdit(pool: Pool, vectors: np.ndarray, among: np.ndarray) -> np.ndarray:
    """QDIT's picks among some rows; quality is the logarithm of the answers' length."""
    at = np.flatnonzero(among)
    data = Dataset.from_dict(
        {"row": at, "embedding": vectors[at].astype(np.float32), "quality": np.log1p(pool.chars()[at])}
    )
    k = min(len(at), round(PICKED * len(among)))
    return np.array(hf_dsel.select_by(data, "qdit", k=k, scale="minmax", compute=False)["row"][:])


def deita(pool: Pool, vectors: np.ndarray, among: np.ndarray) -> np.ndarray:
    """DEITA's picks among some rows; complexity and quality are logarithms of the prompts' and the answers' lengths."""
    at = np.flatnonzero(among)
    asked = np.array([sum(len(m["content"]) for m in talk if m["role"] == "user") for talk in pool.messages])
    data = Dataset.from_dict({
        "row": at, "embedding": vectors[at].astype(np.float32), "complexity": np.log1p(asked)[at],
        "quality": np.log1p(pool.chars()[at]),
    })  # fmt: skip
    k = min(len(at), round(PICKED * len(among)))
    return np.array(hf_dsel.select_by(data, "deita", k=k, compute=False)["row"][:])


def picks_of(found: Measured, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """The best fifth by each way."""
    pool, everything = found.pool, np.ones(len(found.sound), bool)
    random = np.random.default_rng(0).random(len(everything))
    kept = found.kept
    return {
        "random": top(random), "gate, random": top(random, kept), "gate": top(found.sound),
        "length": top(pool.chars().astype(float)), "gate, length": top(pool.chars().astype(float), kept),
        "qdit": qdit(pool, vectors, everything), "gate, qdit": qdit(pool, vectors, kept),
        "deita": deita(pool, vectors, everything), "gate, deita": deita(pool, vectors, kept),
    }  # fmt: skip


def gold(pool: Pool) -> np.ndarray:
    """Unbroken rows written with care by people."""
    return (np.array(pool.source) == "lima") & ~pool.bad


def summary(share: float, found: Measured, picks: dict[str, np.ndarray]) -> dict[str, Any]:
    """One line: a pool."""
    pool, bad = found.pool, found.pool.bad
    junk = found.gate.learned.junk
    kept = found.kept
    line: dict[str, Any] = {
        "junk": f"{share:.0%}",
        "estimate": f"{junk.share:.1%} ({junk.low:.1%} to {junk.high:.1%})",
        "AUC": f"{auc(found.sound, ~bad)[0]:.3f}" if bad.any() else "-",
        "AUC length": f"{auc(pool.chars(), ~bad)[0]:.3f}" if bad.any() else "-",
        "kept": f"{kept.mean():.1%}",
        "junk in it": f"{bad[kept].mean():.1%}",
        "unbroken lost": f"{(~kept[~bad]).mean():.1%}",
        "LIMA lost": f"{(~kept[gold(pool)]).mean():.1%} of {gold(pool).sum()}",
    }
    line |= {f"top 20 % {name}": f"{bad[at].mean():.1%}" for name, at in picks.items()}
    return line | {"s": f"{found.seconds:.0f}"}


def costs(share: float, found: Measured, vectors: np.ndarray, picks: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A line for each way; coverage is the mean cosine of the unbroken rows to the nearest unbroken pick."""
    pool, lines = found.pool, []
    unbroken = np.flatnonzero(~pool.bad)
    oracle = np.random.default_rng(1).permutation(unbroken)[: round(PICKED * len(vectors))]
    for name, at in {"random, unbroken": oracle, **picks}.items():
        good = at[~pool.bad[at]]
        close = (vectors[unbroken] @ vectors[good].T).max(1).mean()
        sources = Counter(pool.source[i] for i in at)
        line: dict[str, Any] = {"junk": f"{share:.0%}", "picks": name, "coverage": f"{close:.3f}"}
        line["median chars"] = f"{np.median(pool.chars()[good]):.0f}"
        lines.append(line | {source: f"{sources[source] / len(at):.1%}" for source in MIXED if source in pool.source})
    return lines


def within_lengths(share: float, found: Measured) -> dict[str, Any]:
    """The AUC within fifths of the pool by length of the answers."""
    chars, bad = found.pool.chars(), found.pool.bad
    bins = np.searchsorted(np.quantile(chars, [0.2, 0.4, 0.6, 0.8]), chars)
    line: dict[str, Any] = {"junk": f"{share:.0%}"}
    for i in range(5):
        mine = bins == i
        both = 0 < bad[mine].sum() < mine.sum()
        name = f"{chars[mine].min()} to {chars[mine].max()} chars" if mine.any() else f"fifth {i + 1}"
        line[f"fifth {i + 1}"] = f"{name}: {auc(found.sound[mine], ~bad[mine])[0]:.3f}" if both else f"{name}: -"
    return line


def kinds_table(
    found: Measured, embed: Remembered, seed: int, gate: float | None, unseen: bool
) -> list[dict[str, Any]]:
    """A line for each kind of junk in the pool."""
    lines = []
    for kind in (c.__name__ for c in CORRUPTIONS):
        n, area, kept, best = found.of_kind(kind)
        line: dict[str, Any] = {"kind": kind, "rows": n, "AUC": area, "kept": kept, "in top 20 %": best}
        if unseen and area != "-":
            other = Measured(found.pool, embed, seed, gate, without=kind)
            _, area, kept, best = other.of_kind(kind)
            line |= {"unseen: AUC": area, "unseen: kept": kept, "unseen: in top 20 %": best}
            bad = other.pool.bad
            line["unseen: all junk in top 20 %"] = f"{bad[top(other.sound)].mean():.1%}"
            line["unseen: all junk in what is kept"] = f"{bad[other.kept].mean():.1%} of {other.kept.mean():.0%}"
            print(" ".join(str(value) for value in line.values()), flush=True)
        elif unseen:
            line |= dict.fromkeys(("unseen: AUC", "unseen: kept", "unseen: in top 20 %"), "-")
            line |= dict.fromkeys(("unseen: all junk in top 20 %", "unseen: all junk in what is kept"), "-")
        lines.append(line)
    return lines


def ifd_table(found: Measured, rows: int) -> list[dict[str, Any]]:
    """Junk among the best fifth by the published rule, IFD below 1 and highest first, with and without the gate."""
    with tempfile.TemporaryDirectory() as folder:
        made = runpy.run_path(str(Path(__file__).parents[2] / "recipes/quickstart/models.py"))
        model = made["smollm2"](Path(folder) / "SmolLM2-135M-Instruct")
        scored = hf_dsel.score(found.data.select(range(rows)), hf_dsel.IFD(model, max_length=512))
    ifd = np.array([np.nan if value is None else value for value in scored["ifd"][:]], float)
    bad, sound = found.pool.bad[:rows], found.sound[:rows]
    rule, gated = np.where(ifd < 1, ifd, -1.0), found.kept[:rows]
    picks = {"random": np.arange(rows), "ifd": top(rule), "gate, ifd": top(rule, gated), "gate": top(sound)}
    return [{"rows": rows, "picks": name, "junk": f"{bad[at].mean():.1%}"} for name, at in picks.items()]


def labels_table(folder: Path, embed: Remembered, rows: int, seed: int, gate: float | None) -> list[dict[str, Any]]:
    """The AUC of a gate that learned from the very rows, without their labels."""
    tables, lines = {name: rows_of(folder, name) for name in (EXPERT, ALPACA)}, []
    for label, (name, of) in LABELS.items():
        truth = of(tables[name])
        at = drawn(truth, rows, seed)
        mine = tables[name].loc[at]
        pairs = zip(mine["prompt"], mine["completion"], strict=True)
        talks = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}] for p, c in pairs]
        found = Measured(Pool(talks, [name] * len(talks)), embed, seed, gate)
        yes = truth.loc[at].to_numpy(bool)
        area, error = auc(found.sound, yes)
        length, _ = auc(found.pool.chars(), yes)
        lost = ~found.kept
        line = {"label": label, "rows": len(at), "AUC gate": f"{area:.3f} ± {error:.3f}", "AUC length": f"{length:.3f}"}
        line["estimate"] = f"{found.gate.learned.junk.share:.1%}"
        lines.append(line | {"labelled lost": f"{lost[yes].mean():.1%}", "others lost": f"{lost[~yes].mean():.1%}"})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="of the pool (default: 2000)")
    parser.add_argument("--junk", type=float, nargs="+", default=[0.0, 0.1, 0.3, 0.6], help="shares to plant")
    parser.add_argument("--gate", type=float, help="lowest probability to keep (default: what gate=True keeps)")
    parser.add_argument("--source", choices=MIXED, help="one file alone (default: all of them)")
    parser.add_argument("--unseen", action="store_true", help="a gate more for each kind, that has not learned it")
    parser.add_argument("--statistics", action="store_true", help="a gate without embeddings")
    parser.add_argument("--labels", type=int, metavar="N", help="rows for each published label")
    parser.add_argument("--ifd", type=int, metavar="N", help="rows to score with SmolLM2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings between runs")
    args = parser.parse_args()
    if "HF_DSEL_DATA" not in os.environ:
        parser.error("set HF_DSEL_DATA to the folder with alpaca_52k.parquet and the others")
    datasets.disable_progress_bars()
    folder, embed = Path(os.environ["HF_DSEL_DATA"]), Remembered.open(args.cache, max_length=128)
    clean = real_rows(folder, args.rows, args.seed, {args.source: 1.0} if args.source else MIXED)
    vectors = np.asarray(embed({"text": clean.instructions()})[embed.column], np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    pools, prices, lengths, last = [], [], [], None
    for share in args.junk:
        last = Measured(planted(clean, share, CORRUPTIONS, embed, args.seed + 1), embed, args.seed, args.gate,
                        statistics=args.statistics)  # fmt: skip
        picks = picks_of(last, vectors)
        pools.append(summary(share, last, picks))
        prices += costs(share, last, vectors, picks)
        if share:
            lengths.append(within_lengths(share, last))
        print(" ".join(str(value) for value in pools[-1].values()), flush=True)
        if share:
            print(f"\n{share:.0%} junk, by kind")
            show(kinds_table(last, embed, args.seed, args.gate, args.unseen))
            print(flush=True)
            if args.ifd:
                show(ifd_table(last, min(args.ifd, len(last.sound))))
    rule = "gate=True" if args.gate is None else f"gate ≥ {args.gate}"
    print(f"\n{len(clean.messages):,} rows, seed {args.seed}; kept is {rule}")
    show(pools)
    print()
    show(prices)
    print("\nAUC within fifths of equal length")
    if lengths:
        show(lengths)
    if args.labels:
        print("\nlabels of other people")
        show(labels_table(folder, embed, args.labels, args.seed, args.gate))


if __name__ == "__main__":
    main()

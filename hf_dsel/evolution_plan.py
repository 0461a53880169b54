# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What an evolution would ask of the model, before it asks: requests, tokens, money."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from hf_dsel.endpoint import Endpoint, Request
from hf_dsel.evolution_prompts import filled
from hf_dsel.evolving import check_evolution, drawn_methods, rewriting
from hf_dsel.progress import count
from hf_dsel.rows import detect, text_columns
from hf_dsel.scorers.score_templates import Scores
from hf_dsel.seed_set import draw

BYTES_A_TOKEN = 4
A_ROUND = 27  # tokens that a rewriting adds: the 20 words of the prompts
A_LINE = 7  # tokens of a line of a ranking: [1] Score: 3
TAGS = 10


@dataclass(frozen=True)
class EvolutionPlan:
    """What would be asked. Tokens are estimated from the texts' lengths; replies asked for again come on top.

    `str()` gives it to a reader.
    """

    rows: int
    pool: int
    format: str
    methods: tuple[str, ...]
    rounds: int
    stored: int
    tokens_in: int
    tokens_out: int
    price_in: float | None
    price_out: float | None

    @property
    def requests(self) -> int:
        """M rewritings and a ranking for each row."""
        return self.rows * (self.rounds + 1)

    @property
    def cost(self) -> float | None:
        """In the money of the prices; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6

    def __str__(self) -> str:
        """One line each."""
        stored = f"{self.stored:,} of the {self.rows:,} answers of round 1 (those of later rounds are not looked up)"
        cost = f"about {self.cost:,.2f}" if self.cost is not None else "give price_in and price_out to see it"
        lines = [
            ("seed set", f"{self.rows:,} of {count(self.pool, 'row')}, read as {self.format}"),
            ("requests", f"{self.requests:,}: {self.rounds} x {self.rows:,} rewritings and {self.rows:,} rankings of "
                         f"{self.rounds + 1} variants"),
            ("methods", ", ".join(self.methods)),
            ("stored already", stored if self.stored else "nothing of round 1"),
            ("tokens", f"about {self.tokens_in:,} in and {self.tokens_out:,} out, estimated from the texts' lengths; "
                       "replies that are asked for again come on top"),
            ("cost", cost),
        ]  # fmt: skip
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def plan_evolution(
    dataset: Dataset,
    endpoint: Endpoint,
    *,
    scores: Scores = "complexity",
    k: int | None = None,
    rounds: int = 5,
    prompts: str | Path | None = None,
    template: str | None = None,
    seed: int = 42,
    asks: int = 3,
    max_tokens: int = 1024,
    temperature: float = 0.7,
) -> EvolutionPlan:
    """What `evolve` with the same arguments would ask. Nothing is sent.

    A variant is taken to grow by 27 tokens a round (the 20 words of the prompts), a token to be four bytes.

    Raises:
        ValueError, hf_dsel.evolution_prompts.BadPrompt: what `evolve` would raise for these options.
    """
    files = check_evolution(
        scores=scores, rounds=rounds, prompts=prompts, template=template, asks=asks, max_tokens=max_tokens,
        temperature=temperature,
    )  # fmt: skip
    chains = draw(dataset, scores=scores, k=k, seed=seed)
    first = [
        rewriting(
            files.methods[drawn_methods(files, seed, chain.seed_row, 1)[0]], chain, scores,
            max_tokens=max_tokens, temperature=temperature,
        )
        for chain in chains
    ]  # fmt: skip
    n_first = len(set(map(_content, first)))
    texts = sum(_tokens(chain.texts[0]) for chain in chains)  # of round 0, all chains together
    n, grown = len(chains), A_ROUND * rounds * (rounds + 1) // 2  # of one chain: 27 (1 + 2 + ... + M)
    rewriting_in = sum(_tokens(_content(r)) for r in first) * rounds + n * (grown - A_ROUND * rounds)
    ranking_in = sum(_tokens(filled(files.rank, instruction=c.instruction, variants="", lines="")) for c in chains)
    ranking_in += texts * (rounds + 1) + n * (grown + A_LINE * (rounds + 1) * 2)
    return EvolutionPlan(
        rows=n,
        pool=len(dataset),
        format=f"{detect(dataset.column_names)} ({', '.join(text_columns(dataset.column_names))})",
        methods=tuple(files.methods),
        rounds=rounds,
        stored=n_first - endpoint.forecast(first).requests,
        tokens_in=rewriting_in + ranking_in,
        tokens_out=(texts + n * TAGS) * rounds + n * grown + n * A_LINE * (rounds + 1),
        price_in=endpoint.price_in,
        price_out=endpoint.price_out,
    )


def _content(request: Request) -> str:
    return request.messages[0]["content"]


def _tokens(text: str) -> int:
    return len(text.encode()) // BYTES_A_TOKEN

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""DEITA's evolution: a seed set becomes variants of growing complexity or quality, ranked: data to train a scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from hf_dsel.endpoint import Answer, Endpoint, Request
from hf_dsel.evolution_prompts import TAG, Prompts, filled, load_prompts, read_rewritten, read_whole
from hf_dsel.progress import count, say
from hf_dsel.ranking import Ranked, rank
from hf_dsel.scorers import score_templates
from hf_dsel.scorers.deita import RELEASED_TEMPLATE
from hf_dsel.scorers.score_templates import Scores
from hf_dsel.seed_set import Chain, Variant, draw

FEATURES = Features(
    {
        "text": Value("string"), "score": Value("int32"), "score_status": Value("string"), "scores": Value("string"),
        "instruction": Value("string"), "response": Value("string"), "seed_row": Value("int64"),
        "round": Value("int32"), "method": Value("string"), "variant_status": Value("string"),
        "variants": List(Value("string")), "answer": Value("string"), "rank_answer": Value("string"),
        "template": Value("string"), "ranked_by": Value("string"),
    }
)  # fmt: skip


STUCK = Variant(None, None, "every method has failed on the variant before")


def evolve(
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
) -> Dataset:
    """Ranked variants of a seed set, as a dataset of (text, score) that `hf-dsel train-scorer` learns from.

    Round r asks the model for a harder instruction (scores="complexity") or a better response (scores="quality"), made
    from the variant before by a method drawn at random; after M rounds a sample has M + 1 variants. Then one request
    shows all variants of a sample, in an order drawn at random, and asks for a score of 1 to 6 for each.

    A variant that fails (a reply that cannot be read `asks` times over, a text that an earlier round had) is null with
    its reason in `variant_status`; the next round starts from the last variant there is, by another method, and the
    ranking leaves the failed one out. A sample whose ranking fails, or that has no variant, has null scores with a
    `score_status`.

    Every answer is stored by the endpoint at once: after a kill, or when a budget is spent, the same call asks only
    for what is missing. A larger k, or more rounds, repeats no rewriting.

    Args:
        dataset: the pool that the seed set is drawn from, in any format; of a conversation, the first turn counts.
        endpoint: the strong model.
        scores: "complexity" evolves instructions, "quality" responses.
        k: samples in the seed set, drawn at random; None is 2,000, the paper's, or the whole dataset when smaller.
        rounds: M.
        prompts: a folder of your own prompts, see `hf_dsel.evolution_prompts.load_prompts`.
        template: the scorer's input with {instruction} and, for quality, {response}; None is the released scorers'.
        seed: of the seed set, the methods and the order in the rankings.
        asks: requests for one variant or ranking, in all, while the replies cannot be read.
        max_tokens: of a reply.
        temperature: of the rewriting; rankings are asked for at 0.

    Returns:
        one row for each variant, by sample and round: `text` (the scorer's input), `score`, `score_status`, `scores`
        ("complexity" or "quality"), `instruction`, `response` (null beside an instruction that was evolved),
        `seed_row`, `round`, `method`, `variant_status`, `variants` (all of the sample's, by round), `answer` and
        `rank_answer` (the replies as they came), `template`, `ranked_by`.

    Raises:
        ValueError: an option outside its range, or no row that can be evolved.
        hf_dsel.evolution_prompts.BadPrompt: a prompt that is missing or lacks a placeholder.
        hf_dsel.endpoint.BudgetSpent, hf_dsel.endpoint.EndpointDown: see `Endpoint`; the answers so far are stored.

    Source: DEITA (Liu et al. 2024), Sections 2.3 and 2.4; M = 5, 2,000 rows of Alpaca there.
    Differs: the prompts are in our own words; the variants are shuffled before they are ranked.
    """
    files = check_evolution(
        scores=scores, rounds=rounds, prompts=prompts, template=template, asks=asks, max_tokens=max_tokens,
        temperature=temperature,
    )  # fmt: skip
    chains = draw(dataset, scores=scores, k=k, seed=seed)
    methods = [drawn_methods(files, seed, chain.seed_row, rounds) for chain in chains]
    for number in range(rounds):
        names = [_method(files, chain, of_chain[number]) for chain, of_chain in zip(chains, methods, strict=True)]
        going = [(chain, name) for chain, name in zip(chains, names, strict=True) if name is not None]
        requests = [
            rewriting(files.methods[name], chain, scores, max_tokens=max_tokens, temperature=temperature)
            for chain, name in going
        ]
        parsers = [read_rewritten if TAG in files.methods[name] else read_whole for _, name in going]
        answers = iter(_asked(endpoint, requests, parsers, asks, f"round {number + 1} of {rounds}"))
        for chain, name in zip(chains, names, strict=True):
            chain.variants.append(STUCK if name is None else _variant(chain, name, next(answers)))
    ranked = rank(
        [(chain.instruction, chain.texts) for chain in chains],
        endpoint,
        prompt=files.rank,
        seeds=[(seed, 1, chain.seed_row) for chain in chains],
        asks=asks,
        max_tokens=max_tokens,
    )
    _report(chains, ranked)
    used = template or RELEASED_TEMPLATE[scores]
    fixed = {"scores": scores, "template": used, "ranked_by": endpoint.model}
    table = [row | fixed for pair in zip(chains, ranked, strict=True) for row in _rows(*pair, scores, used)]
    return Dataset.from_list(table, features=FEATURES)


def check_evolution(
    *,
    scores: Scores,
    rounds: int = 5,
    prompts: str | Path | None = None,
    template: str | None = None,
    asks: int = 3,
    max_tokens: int = 1024,
    temperature: float = 0.7,
) -> Prompts:
    """The prompts, after a check of the options of `evolve` that need no data.

    Raises:
        ValueError: naming the option, its value and the range.
    """
    files = load_prompts(scores, prompts)
    for name, value in (("rounds", rounds), ("asks", asks), ("max_tokens", max_tokens)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}; it is a whole number, at least 1")
    if not (isinstance(temperature, int | float) and temperature >= 0):
        raise ValueError(f"temperature={temperature!r}; it is a number, at least 0")
    if template is not None:
        score_templates.check_template(template, scores)
    return files


def drawn_methods(files: Prompts, seed: int, seed_row: int, rounds: int) -> list[str]:
    """The method of each round. It hangs on the seed and the row alone, so a larger seed set changes none."""
    names = list(files.methods)
    return [names[i] for i in np.random.default_rng((seed, 0, seed_row)).integers(len(names), size=rounds)]


def _method(files: Prompts, chain: Chain, drawn: str) -> str | None:
    """The method drawn, or the next one that has not failed on the last variant yet: the same request would fail again.

    None when every method has failed on it.
    """
    names = list(files.methods)
    start = names.index(drawn)
    return next((name for name in names[start:] + names[:start] if name not in chain.failed), None)


def rewriting(template: str, chain: Chain, scores: Scores, *, max_tokens: int, temperature: float) -> Request:
    """The request for the next variant: I(r) from I(r-1), or R(r) from the same instruction and R(r-1).

    >>> chain = Chain(0, "Add 1 and 2.", None, [Variant(None, "Add 1 and 2."), Variant("more", "Add 1, 2 and 3.")])
    >>> rewriting("Harder: {instruction}", chain, "complexity", max_tokens=9, temperature=0).messages[0]["content"]
    'Harder: Add 1, 2 and 3.'
    """
    texts = {"instruction": chain.texts[-1]}
    if scores == "quality":
        texts = {"instruction": chain.instruction, "response": chain.texts[-1]}
    message = {"role": "user", "content": filled(template, **texts)}
    return Request(messages=(message,), max_tokens=max_tokens, temperature=temperature)


def _asked(
    endpoint: Endpoint, requests: Sequence[Request], parsers: Sequence[Callable[[str], str]], asks: int, what: str
) -> list[Answer[str]]:
    """The answers in order; requests with the same parser go out together."""
    answers: dict[int, Answer[str]] = {}
    for parse in dict.fromkeys(parsers):
        chosen = [i for i, of_request in enumerate(parsers) if of_request is parse]
        found = endpoint.ask([requests[i] for i in chosen], parse=parse, asks=asks, what=what)
        answers |= dict(zip(chosen, found, strict=True))
    return [answers[i] for i in range(len(requests))]


def _variant(chain: Chain, method: str, answer: Answer[str]) -> Variant:
    if answer.value is None:
        return Variant(method, None, answer.status, answer.text)
    if answer.value in {text.strip() for text in chain.texts}:
        return Variant(method, None, "the same text as an earlier variant", answer.text)
    return Variant(method, answer.value, answer=answer.text)


def _rows(chain: Chain, ranked: Ranked, scores: Scores, template: str) -> Iterator[dict[str, Any]]:
    given = iter(ranked.scores)
    for number, variant in enumerate(chain.variants):
        there = variant.text is not None
        instruction, response = chain.instruction if scores == "quality" else variant.text, chain.response
        if number:
            response = variant.text if scores == "quality" else None
        texts = {"instruction": instruction or "", "response": response or ""}
        yield {
            "text": score_templates.filled(template, texts) if there else None,
            "score": next(given) if there else None,
            "score_status": ranked.status if there else "no variant",
            "instruction": instruction,
            "response": response,
            "seed_row": chain.seed_row,
            "round": number,
            "method": variant.method,
            "variant_status": variant.status,
            "variants": [v.text for v in chain.variants],
            "answer": variant.answer,
            "rank_answer": ranked.answer,
        }


def _report(chains: Sequence[Chain], ranked: Sequence[Ranked]) -> None:
    asked = sum(len(chain.variants) - 1 for chain in chains)
    made = sum(len(chain.texts) - 1 for chain in chains)
    scored = sum(r.status == "ok" for r in ranked)
    say(f"{made:,} of {count(asked, 'new variant')} made; {scored:,} of {count(len(ranked), 'sample')} ranked")

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scores 1 to 6 for the variants of one sample, given by a strong model that sees all of them in one request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_dsel.endpoint import Answer, Endpoint, Malformed, Request
from hf_dsel.evolution_prompts import filled, without_thoughts

LOWEST, HIGHEST = 1, 6
ALONE = "no other variant to rank it with"
# A line of its own: [2] Score: 5, also without "Score:", with list marks, bold type, "Response 2", "5/6", a full stop
LINE = re.compile(
    r"^[ \t>*_`-]*\[ *+(?:response|instruction|variant)? *+(\d{1,9}) *\][ \t*_]*+(?:score)?[ \t*_]*+[:=]?[ \t*_`]*+"
    r"(-?\d{1,9}(?:[.,]\d+)?)(?: */ *6)?[ \t\r*_`.]*$",  # *+ gives nothing back: a line of 20,000 "_" takes no time
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Ranked:
    """The scores of one sample's variants, in the order given; None with the reason in `status`. `answer` is raw."""

    scores: tuple[int | None, ...]
    status: str
    answer: str | None = None


def rank(
    samples: Sequence[tuple[str, Sequence[str]]],
    endpoint: Endpoint,
    *,
    prompt: str,
    seeds: Sequence[Sequence[int]],
    asks: int = 3,
    max_tokens: int = 1024,
) -> list[Ranked]:
    """Scores of the variants of each sample, all variants of a sample in one request.

    The variants are shown in an order drawn from the sample's seed, so that no place in the list is favoured, and the
    scores are mapped back. A reply counts when it scores every variant exactly once with a whole number from 1 to 6;
    equal scores are allowed. Any other reply is asked for again, then all scores of the sample are None.

    Args:
        samples: instruction and variants of each. A sample of one variant is not ranked.
        endpoint: the strong model.
        prompt: see `load_prompts`.
        seeds: what the order of each sample is drawn from.
        asks: requests for one ranking, in all.
        max_tokens: of a reply.

    Returns:
        one `Ranked` for each sample.

    Source: DEITA (Liu et al. 2024), Sections 2.3 and 2.4, Tables 14 and 18.
    Differs: the paper shows the variants in the order of their evolution, in which a model may guess the scores from
        the place in the list.
    """
    orders = [np.random.default_rng(s).permutation(len(v)) for s, (_, v) in zip(seeds, samples, strict=True)]
    result = [Ranked((None,) * len(variants), ALONE) for _, variants in samples]
    for n in sorted({len(variants) for _, variants in samples if len(variants) > 1}):
        chosen = [i for i, (_, variants) in enumerate(samples) if len(variants) == n]
        requests = [_request(prompt, *samples[i], orders[i], max_tokens) for i in chosen]
        answers = endpoint.ask(requests, parse=partial(read_scores, n=n), asks=asks, what=f"rankings of {n} variants")
        for i, answer in zip(chosen, answers, strict=True):
            result[i] = _mapped_back(answer, orders[i])
    return result


def _request(
    prompt: str, instruction: str, variants: Sequence[str], order: npt.NDArray[Any], max_tokens: int
) -> Request:
    shown = "\n\n".join(f"[{place}]\n{variants[i]}" for place, i in enumerate(order, start=1))
    lines = "\n".join(f"[{place}] Score:" for place in range(1, len(order) + 1))
    text = filled(prompt, instruction=instruction, variants=shown, lines=lines, n=str(len(order)))
    return Request(messages=({"role": "user", "content": text},), max_tokens=max_tokens)


def _mapped_back(answer: Answer[tuple[int, ...]], order: npt.NDArray[Any]) -> Ranked:
    if answer.value is None:
        return Ranked((None,) * len(order), answer.status, answer.text)
    scores: list[int | None] = [None] * len(order)
    for i, score in zip(order, answer.value, strict=True):
        scores[int(i)] = score
    return Ranked(tuple(scores), "ok", answer.text)


def read_scores(text: str, *, n: int) -> tuple[int, ...]:
    """The scores of variants 1 to n, as the lines `[1] Score: 3` give them; other lines are ignored.

    Raises:
        Malformed: a variant without a score or with two, a variant that is not there, or a score that is not a whole
            number from 1 to 6.

    >>> read_scores("Here you are:\\n[2] Score: 5\\n[1] Score: 2", n=2)
    (2, 5)
    """
    scores: dict[int, int] = {}
    for number, word in LINE.findall(without_thoughts(text)):
        variant = int(number)
        if not 1 <= variant <= n:
            raise Malformed(f"a score for [{variant}], and there are [1] to [{n}]")
        if variant in scores:
            raise Malformed(f"two scores for [{variant}]")
        if not word.isdigit() or not LOWEST <= int(word) <= HIGHEST:
            raise Malformed(f"the score {word} of [{variant}] is no whole number from {LOWEST} to {HIGHEST}")
        scores[variant] = int(word)
    missing = [f"[{variant}]" for variant in range(1, n + 1) if variant not in scores]
    if missing:
        raise Malformed(f"no score for {', '.join(missing)}; a line reads [1] Score: 3")
    return tuple(scores[variant] for variant in range(1, n + 1))

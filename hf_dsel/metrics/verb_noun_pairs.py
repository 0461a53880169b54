# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Verb-noun pairs: how many different things instructions ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def verb_noun_pairs(parses: Iterable[Any]) -> list[tuple[str, str] | None]:
    """For each instruction its main verb and the noun that is the verb's direct object, as lemmas; None without both.

    "Write a short story." is (write, story). The number of distinct pairs of a set is a measure of its diversity; it
    grows with the set, so compare sets of one size.

    Args:
        parses: spaCy `Doc`s with lemmas, parts of speech and dependencies, as `nlp.pipe(texts)` gives them. Direct
            objects are called dobj (the English models) or obj (Universal Dependencies).

    Raises:
        ValueError: a parse without dependencies.

    Source: Self-Instruct (Wang et al. 2023), Sec. 3.3 and Fig. 3.

    Differs: the dependency parse of spaCy instead of the constituency parse of benepar; the first sentence whose root
        is a verb with such an object decides.
    """
    found: list[tuple[str, str] | None] = []
    for parse in parses:
        if not parse.has_annotation("DEP"):
            raise ValueError("a parse without dependencies has no verb-noun pair; use a pipeline with a parser")
        roots = (sentence.root for sentence in parse.sents)
        pairs = (
            (root.lemma_.lower(), child.lemma_.lower())
            for root in roots
            if root.pos_ == "VERB"
            for child in root.children
            if child.dep_ in ("dobj", "obj") and child.pos_ == "NOUN"
        )
        found.append(next(pairs, None))
    return found

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The flags of commands that ask a strong model."""

from __future__ import annotations

import argparse

from hf_dsel.scorer_specs import value


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Where the model is, how it is asked, and what may be spent."""
    group = parser.add_argument_group("the strong model, behind an OpenAI-compatible server")
    group.add_argument("--model", metavar="NAME", help="its name on the server")
    group.add_argument("--base-url", metavar="URL", help="such as http://localhost:8000/v1 (default: Hugging Face)")
    group.add_argument("--key-variable", metavar="NAME", help="the environment variable that holds the key; never the "
                       "key itself (default: HF_TOKEN)")  # fmt: skip
    group.add_argument("--concurrency", type=int, metavar="N", help="requests under way at a time (default: 8)")
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="for one reply (default: 120)")
    group.add_argument("--tries", type=int, metavar="N", help="how often a request is sent while the server fails "
                       "(default: 6)")  # fmt: skip
    group.add_argument("--store", metavar="DIR", help="folder of the answers, from which a killed run goes on "
                       "(default: in the datasets cache)")  # fmt: skip
    group.add_argument("--max-requests", type=int, metavar="N", help="stop after sending so many")
    group.add_argument("--max-total-tokens", type=int, metavar="N", help="stop when so many tokens are used")
    group.add_argument("--price-in", type=float, metavar="X", help="money for a million tokens of prompts")
    group.add_argument("--price-out", type=float, metavar="X", help="the same for replies; progress shows the cost")
    group.add_argument("--extra-body", type=value, metavar="YAML", help="more fields for every request, such as "
                       "'{reasoning_effort: low}'")  # fmt: skip

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The card of a repository that holds scores or a bank, put together as that of a selection."""

from __future__ import annotations

from datasets import Features

from hf_dsel.card_frame import framed
from hf_dsel.card_metadata import license_of
from hf_dsel.progress import say


def short_card(
    previous: str | None, *, repo_id: str, kind: str, part: str, license: str | None, rows: int, features: Features
) -> str:
    """The whole card: YAML metadata, a person's text as it is, and the generated part between its two comments.

    Args:
        previous: the README.md that is there; None or "" for a first push.
        repo_id: for the title.
        kind: a tag, such as "scores".
        part: the generated part, in Markdown.
        license: of what is published; None keeps the one that the card states, or says unknown.
        rows, features: of what `load_dataset` gives.

    Raises:
        CardEdited: a person wrote inside the generated part, or lost one of its comments.
        BrokenMetadata: metadata in `previous` that is no valid YAML.
    """
    stated = license or license_of(previous) or "unknown"
    if stated == "unknown":
        say("the card says license: unknown; name one with license=, such as cc-by-4.0")
    return framed(part, previous, repo_id=repo_id, name=kind, source=None, license=stated, rows=rows, features=features)

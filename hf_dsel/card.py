# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The dataset card (README.md) of a published selection: a part that hf_dsel writes, around it what a person wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Features

from hf_dsel.card_frame import CardEdited, framed
from hf_dsel.card_metadata import BrokenMetadata, license_of
from hf_dsel.card_sections import generated, strategy_name
from hf_dsel.description import Description

__all__ = ["BrokenMetadata", "CardEdited", "card_text", "license_of"]


def card_text(
    *,
    repo_id: str,
    record: dict[str, Any],
    description: Description | None,
    features: Features,
    rows: int,
    examples: Sequence[dict[str, Any]],
    pictures: Sequence[str],
    license: str,
    previous: str | None,
    license_origin: str | None = None,
) -> str:
    """The whole card: YAML metadata, the person's text, and between two comments the part that hf_dsel generates.

    Metadata that a person added stays, comments included; hf_dsel sets `license`, `size_categories` and its own entry
    of `configs`, and adds to `tags` and `source_datasets` (what an earlier push added there and no longer holds goes).
    Outside the two comments every byte stays. A card without the comments gets the part at its end. The same arguments
    give the same bytes.

    Args:
        repo_id: where it is published, for the title and the lines to paste.
        record: what hf_dsel.json holds: the fields of `Selection.to_json`; `origin`, a mapping of repo, revision,
            config and split, or None for a pool that was not on the Hub; `scorers`, for each column a mapping with
            scorer (its repr), model, revision and further settings.
        description: the table, from `hf_dsel.describe`; None leaves it out.
        features: of the published rows.
        rows: how many are published.
        examples: a row or two; long texts are cut.
        pictures: the names that `pictures.draw` gave, as paths in the repo.
        license: a licence id of the Hub, or the name of another. It replaces the one in the card: `license_of(card)`
            reads that one.
        previous: the README.md that is there; None or "" for a first push.
        license_origin: where the licence is from, for the reader, such as "carried over from the card of me/pool".

    Raises:
        CardEdited: text inside the generated part that hf_dsel did not write, or one of its two comments lost.
        BrokenMetadata: metadata in `previous` that is no valid YAML, with the line.
    """
    name, origin = strategy_name(record["strategy"]), (record.get("origin") or {}).get("repo")
    part = generated(
        repo_id=repo_id, record=record, description=description, features=features, rows=rows, examples=examples,
        pictures=pictures, license=license, license_origin=license_origin,
    )  # fmt: skip
    return framed(
        part, previous, repo_id=repo_id, name=name, source=origin, license=license, rows=rows, features=features,
        facts={"strategy": name, "source": origin},
    )  # fmt: skip

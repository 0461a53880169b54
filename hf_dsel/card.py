# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The dataset card (README.md) of a published selection: a part that hf_dsel writes, around it what a person wrote."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from datasets import Features

from hf_dsel.card_metadata import BrokenMetadata, license_of, merged, split
from hf_dsel.card_sections import generated, strategy_name
from hf_dsel.description import Description

__all__ = ["BrokenMetadata", "CardEdited", "card_text", "license_of"]

BEGIN = re.compile(r"^<!-- hf_dsel:begin(?P<facts>[^\n]*?)-->[ \t\r]*$", re.MULTILINE)
END = re.compile(r"^<!-- hf_dsel:end (?P<hash>[0-9a-f]{12}) -->[ \t\r]*$", re.MULTILINE)
FACT = re.compile(r"(strategy|source)=(\S+)")
INVITATION = (
    "<!-- Write about this dataset here, or below the generated part. Later pushes leave your text as it is. -->"
)


class CardEdited(ValueError):
    """A person wrote inside the part of the card that hf_dsel generates; the text says what to do."""


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
    name, before = strategy_name(record["strategy"]), (previous or "").removeprefix("\ufeff")
    origin = (record.get("origin") or {}).get("repo")
    block, body = split(before)
    head, old, tail = _parts(body, before.count("\n", 0, len(before) - len(body)))
    stale = dict(FACT.findall(old or ""))
    front = merged(block, name=name, source=origin, license=license, rows=rows, features=features, stale=stale)
    tail = "\n" if old is None else tail
    part = generated(
        repo_id=repo_id, record=record, description=description, features=features, rows=rows, examples=examples,
        pictures=pictures, license=license, license_origin=license_origin,
    )  # fmt: skip
    if not head.strip() and not tail.strip() and old is None:
        head = f"# {repo_id.rpartition('/')[2]}\n\n{INVITATION}\n\n"
    elif old is None:  # below what is there
        head += "\n" * (2 - min(2, len(head) - len(head.rstrip("\n"))))
    facts = "".join(f" {k}={v}" for k, v in (("strategy", name), ("source", origin)) if v)
    begin = f"<!-- hf_dsel:begin{facts} (written anew by every push; write above or below these two comments) -->"
    return f"{front}{head}{begin}\n{part}\n<!-- hf_dsel:end {_hash(part)} -->{tail}"


def _hash(part: str) -> str:
    """Of the text without the white space at line ends, which editors change by themselves."""
    lines = [line.rstrip() for line in part.strip().splitlines()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _parts(body: str, above: int) -> tuple[str, str | None, str]:
    """What stands before the generated part, its opening comment (None without the part), and what stands after it."""
    begins, ends = list(BEGIN.finditer(body)), list(END.finditer(body))
    if not begins and not ends:
        return body, None, ""

    def line(found: re.Match[str]) -> int:
        return above + body.count("\n", 0, found.start()) + 1

    remedy = (
        "Nothing was written. Put the two comments back as they were, or delete the whole part with both of them: the "
        "next push writes it anew at the end of the card."
    )
    if len(begins) != 1 or len(ends) != 1 or begins[0].end() > ends[0].start():
        seen = ", ".join(
            f"{what} in line {line(m)}" for what, found in (("an opening one", begins), ("a closing one", ends))
            for m in found
        )  # fmt: skip
        raise CardEdited(
            f"README.md should have one opening comment (<!-- hf_dsel:begin ... -->) and below it one closing comment "
            f"(<!-- hf_dsel:end ... -->); it has {seen}. {remedy}"
        )
    begin, end = begins[0], ends[0]
    inside = body[begin.end() : end.start()]
    if inside.strip() and _hash(inside) != end["hash"]:
        raise CardEdited(
            f"README.md was edited between its lines {line(begin)} and {line(end)}, the part that hf_dsel writes anew "
            "at every push. Nothing was written. Move your text above or below these two lines, delete what is between "
            "them, and push again: it is written anew."
        )
    return body[: begin.start()], begin["facts"], body[end.start() + len(end[0].rstrip()) :]

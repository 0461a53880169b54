# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A card's generated part between two comments: every push writes it anew, and what people wrote around it stays."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from datasets import Features

from hf_dsel.card_metadata import merged, split

BEGIN = re.compile(r"^<!-- hf_dsel:begin(?P<facts>[^\n]*?)-->[ \t\r]*$", re.MULTILINE)
END = re.compile(r"^<!-- hf_dsel:end (?P<hash>[0-9a-f]{12}) -->[ \t\r]*$", re.MULTILINE)
FACT = re.compile(r"(strategy|source)=(\S+)")
INVITATION = (
    "<!-- Write about this dataset here, or below the generated part. Later pushes leave your text as it is. -->"
)


class CardEdited(ValueError):
    """A person wrote inside the part of the card that hf_dsel generates; the text says what to do."""


def framed(
    part: str,
    previous: str | None,
    *,
    repo_id: str,
    name: str,
    source: str | None,
    license: str,
    rows: int,
    features: Features,
    facts: Mapping[str, str | None] | None = None,
) -> str:
    """The whole card: YAML metadata, the person's text byte by byte, and the part between its two comments.

    A card without the comments gets the part at its end.

    Args:
        part: the generated part, in Markdown.
        previous: the README.md that is there; None or "" for a first push.
        repo_id: for the title of a first card.
        name, source, license, rows, features: for the metadata; `name` is a tag.
        facts: what the opening comment remembers, so that the next push knows what it may take out of the metadata.

    Raises:
        CardEdited: text inside the part that hf_dsel did not write, or one of its two comments lost.
        BrokenMetadata: metadata in `previous` that is no valid YAML, with the line.
    """
    before = (previous or "").removeprefix("\ufeff")
    block, body = split(before)
    head, old, tail = _parts(body, before.count("\n", 0, len(before) - len(body)))
    stale = dict(FACT.findall(old or ""))
    front = merged(block, name=name, source=source, license=license, rows=rows, features=features, stale=stale)
    if old is None:
        tail = "\n"
        if not head.strip():
            head = f"# {repo_id.rpartition('/')[2]}\n\n{INVITATION}\n\n"
        else:  # below what is there
            head += "\n" * (2 - min(2, len(head) - len(head.rstrip("\n"))))
    remembered = "".join(f" {k}={v}" for k, v in (facts or {}).items() if v)
    begin = f"<!-- hf_dsel:begin{remembered} (written anew by every push; write above or below these two comments) -->"
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

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Text of any origin as Markdown that shows it and does nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARKER = re.compile(r"<!--(?=\s*hf_dsel:)")  # a row that shows our own comments must not look like one
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#&])")


def visible(text: str) -> str:
    """The text with what cannot be seen or printed written out: controls, changes of direction, half characters.

    >>> visible("a\\x00b\\u202ec")
    'a\\\\x00b\\\\u202ec'
    """
    text = text.replace("\r\n", "\n")
    return UNSEEN.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def plain(text: str) -> str:
    """One line of running text without any markup.

    >>> plain("a_b <c>")
    'a\\\\_b \\\\<c\\\\>'
    """
    return SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def code(text: str) -> str:
    """One line of text as a code span.

    >>> code("a`b")
    '``a`b``'
    """
    text = " ".join(visible(text).split()) or " "
    mark = "`" * (longest_run(text) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{mark}{pad}{MARKER.sub('<!- -', text)}{pad}{mark}"


def fenced(text: str, language: str = "text") -> str:
    """Lines of text in a block of code."""
    text = MARKER.sub("<!- -", visible(text))
    mark = "`" * max(3, longest_run(text) + 1)
    return f"{mark}{language}\n{text}\n{mark}"


def longest_run(text: str) -> int:
    """How many backticks stand in a row at most."""
    return max((len(run) for run in re.findall("`+", text)), default=0)


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """A table of cells that are Markdown already; `right` aligns all columns but the first to the right."""
    rule = ["---", *("---:" if right else "---" for _ in head[1:])]
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in (head, *body)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def cut(text: str, letters: int) -> str:
    """The beginning of a text, with a note of how long it is when something is missing.

    >>> cut("a long text", 6)
    'a long … (cut: 6 of 11 characters)'
    """
    if len(text) <= letters:
        return text
    return f"{text[:letters]} … (cut: {letters:,} of {len(text):,} characters)"

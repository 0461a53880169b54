# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The card of published scores: what they are, of which rows, and how to join them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Features

from hf_dsel.card_code import load_line, pip_line
from hf_dsel.card_markdown import code, fenced, plain
from hf_dsel.card_sections import scorers_table
from hf_dsel.short_card import short_card


def scores_card(
    record: Mapping[str, Any], features: Features, *, repo_id: str, license: str | None, previous: str | None
) -> str:
    """README.md for these scores; what a person wrote in the one that is there stays.

    Args:
        record: what hf_dsel_scores.json holds.
        features: of the published lines.
        repo_id, license, previous: as in `short_card`.
    """
    parts = [
        _what(record),
        "## Join\n\nTo any copy of the source: in another order, a part of it, with more rows, or in another of the "
        "formats that hf_dsel reads. Rows without a published score get null, and a status that says so.",
        fenced(pip_line(record["versions"]), "bash"),
        fenced(_lines(repo_id, record["origin"]), "python"),
        f"## Columns\n\n{_columns(record)}",
        f"## Key\n\n`key` is {record['key']['what']}. Text counts to the letter. The file `hf_dsel_scores.json` holds "
        "all of this for programs.",
    ]
    return short_card(
        previous, repo_id=repo_id, kind="scores", part="\n\n".join(parts), license=license, rows=record["rows"],
        features=features,
    )  # fmt: skip


def _what(record: Mapping[str, Any]) -> str:
    source, copies = record["source"], record["copies"]
    origin = record["origin"]
    name = code(origin["repo"]) if origin else "a dataset that is not on the Hub"
    columns = ", ".join(code(c) for c in source["columns"])
    text = [
        f"Scores of {record['rows']:,} distinct rows, without the rows. They were computed on {name}: "
        f"{source['rows']:,} rows, read as {source['format']}; a sample of their text ({columns}) has the SHA-256 "
        f"{code(source['sha256'])}."
    ]
    if copies["rows"]:
        text.append(f"{copies['rows']:,} rows say the same as another row and share its line.")
    for column, differ in copies["differ"].items():
        text.append(
            f"Of these, {differ['rows']:,} had another {code(column)}, by {differ['largest']:g} at most; the line "
            "of the copy with the most scores is kept, and of these the first."
        )
    for why, n in record["left_out"].items():
        text.append(f"{n:,} rows could not be read and have no line: {plain(why)}.")
    return " ".join(text)


def _lines(repo_id: str, origin: Mapping[str, Any] | None) -> str:
    return (
        f"import hf_dsel\nfrom datasets import load_dataset\n\n{load_line(origin)}\n"
        f'pool = hf_dsel.with_scores(pool, "{repo_id}")'
    )


def _columns(record: Mapping[str, Any]) -> str:
    makers = {name: column["made_by"] or {} for name, column in record["columns"].items()}
    return scorers_table({"scorers": makers})

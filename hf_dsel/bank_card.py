# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The card of a bank on the Hub: what it holds, what every round did, and how to go on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets import Dataset

from hf_dsel.bank_report import settings_that_count
from hf_dsel.bank_state import Round, Settings
from hf_dsel.card_code import pip_line
from hf_dsel.card_markdown import code, fenced, plain, table
from hf_dsel.progress import count
from hf_dsel.selection import installed_versions
from hf_dsel.short_card import short_card


def bank_card(
    settings: Settings,
    rounds: Sequence[Round],
    rows: Dataset,
    *,
    made_by: Mapping[str, str],
    repo_id: str,
    license: str | None,
    previous: str | None,
) -> str:
    """README.md for this bank; what a person wrote in the one that is there stays.

    Args:
        settings, rounds: of the bank.
        rows: as published.
        made_by: the scorers of its columns, as code.
        repo_id, license, previous: as in `short_card`.
    """
    parts = [
        f"A bank of {count(len(rows), 'row')} (at most {settings.size:,}), best first: the best rows of "
        f"{_sources(rounds)}, chosen in {count(len(rounds), 'round')}. Each new dataset competes with the rows that "
        f"are here{'' if settings.history is None else ', and with a memory of those that are not'}. The first b rows "
        "are the choice for any budget b.",
        fenced(_lines(repo_id, len(rows)), "python"),
        "`load_dataset` needs no hf_dsel. With it, anyone can let a further dataset compete:",
        fenced(pip_line(installed_versions()), "bash"),
        fenced(_update(repo_id), "python"),
        f"## Rounds\n\n{_history(rounds)}",
        f"## Rows by source\n\n{_by_source(rounds)}",
        f"## Settings\n\n{_settings(settings)}\n\n{_made_by(made_by)}",
        "The folder `bank/` holds what an update needs: the rows with their vectors, and the memory.",
    ]
    return short_card(
        previous, repo_id=repo_id, kind="bank", part="\n\n".join(parts), license=license, rows=len(rows),
        features=rows.features,
    )  # fmt: skip


def _sources(rounds: Sequence[Round]) -> str:
    names = [code(name) for name in dict.fromkeys(r.source for r in rounds)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _lines(repo_id: str, rows: int) -> str:
    b = min(2000, max(1, rows // 2))
    return f'from datasets import load_dataset\n\nbest = load_dataset("{repo_id}", split="train[:{b}]")'


def _update(repo_id: str) -> str:
    return (
        f'import hf_dsel\n\nbank = hf_dsel.Bank.from_hub("{repo_id}")\n'
        f'bank.update(dataset, source="its name")\nbank.push_to_hub("{repo_id}")'
    )


def _history(rounds: Sequence[Round]) -> str:
    head = ["round", "source", "given", "seen before", "left out", "new", "entered", "left", "kept", "rows"]
    body = []
    for r in rounds:
        numbers = (r.given, r.seen, sum(r.left_out.values()), r.candidates, r.entered, r.left, r.kept)
        body.append([str(r.number), code(r.source), *(f"{n:,}" for n in (*numbers, r.kept + r.entered))])
    reasons = [f"Round {r.number} left out {n:,}: {plain(why)}." for r in rounds for why, n in r.left_out.items()]
    return "\n\n".join([table(head, body, right=True), *reasons])


def _by_source(rounds: Sequence[Round]) -> str:
    last = rounds[-1].by_source
    total = sum(last.values())
    names = dict.fromkeys(r.source for r in rounds)
    body = [[code(n), f"{last.get(n, 0):,}", f"{last.get(n, 0) / total:.1%}"] for n in names]
    return table(["source", "rows", "of the bank"], body, right=True)


def _settings(settings: Settings) -> str:
    return table(["setting", "value"], [[code(n), code(repr(v))] for n, v in settings_that_count(settings).items()])


def _made_by(made_by: Mapping[str, str]) -> str:
    """What new rows must be scored with."""
    if not made_by:
        return "The columns that it reads came with the datasets; hf_dsel did not compute them."
    made = ", ".join(f"{code(name)} by {code(scorer)}" for name, scorer in sorted(made_by.items()))
    return f"hf_dsel computed {made}. New rows are scored with the same."

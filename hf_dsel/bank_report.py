# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a bank holds, as plain text: settings, sources, rounds, the best and the worst rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_dsel.bank import Bank
from hf_dsel.bank_state import Round, Settings
from hf_dsel.planning import size
from hf_dsel.progress import count
from hf_dsel.reporting import starts_of_prompts
from hf_dsel.shortage import reasons_to_read

ROUNDS = 12  # the last ones are shown
MEASURED = ("score", "representation", "quality")


def report(bank: Bank, *, every_round: bool = False, top: int = 5) -> str:
    """All of it, in blocks with a heading each.

    Args:
        every_round: all rounds, and the sources after each.
        top: how many of the first rows.

    >>> import hf_dsel
    >>> print(report(hf_dsel.Bank(size=10, gamma=0)))
    settings
      size        10
      embedding   embedding
      gamma       0.0
      preference  0.0
      history     sketch
      bits        3.0
      chunk       None
    """
    blocks = [f"settings\n{_lines(settings_that_count(bank.settings))}"]
    if len(bank):
        blocks.append(f"rows by source\n{_sources(bank)}")
        blocks.append(f"memory of what was seen\n  {_memory(bank)}")
        shown = bank.history if every_round else bank.history[-ROUNDS:]
        hidden = len(bank.history) - len(shown)
        more = f"  (the last {len(shown)} of {len(bank.history)}; --rounds for all)" if hidden else ""
        blocks.append(f"rounds{more}\n{_indented(rounds_table(shown))}")
        if every_round:
            blocks.append(f"rows in the bank after each round\n{_indented(_composition(shown))}")
        blocks.append(f"means\n{_indented(_tenths(bank))}")
        if top:
            blocks.append(f"the first rows\n{_indented(_first(bank, min(top, len(bank))))}")
    return "\n\n".join(blocks)


def settings_that_count(settings: Settings) -> dict[str, object]:
    """The settings that have an effect on this bank."""
    names = ["size", "quality", "embedding", "gamma", "combine", "preference"]
    if settings.gamma == 0:
        names = [n for n in names if n not in ("quality", "combine")]
    by_messages = settings.history in ("paper", "repository")
    if by_messages or not settings.by_neighbour:
        names += ["iterations", "damping"] if by_messages else ["neighbours", "iterations", "damping"]
    names += ["history"] + (["momentum", "decay"] if by_messages else [])
    names += (["bits"] if settings.history == "sketch" else []) + ["chunk"]
    return {name: getattr(settings, name) for name in names}


def rounds_table(rounds: Sequence[Round]) -> str:
    """A line for each round: what was given, what came, what went.

    >>> one = Round(number=1, source="a", given=9, seen=1, left_out={}, candidates=8, entered=5, left=0, kept=0,
    ...     by_source={"a": 5}, seconds=0.1)
    >>> print(rounds_table([one]))
    round  source  given  seen before  left out  new  entered  left  kept  rows
        1  a           9            1         0    8        5     0     0     5
    """
    head = ["round", "source", "given", "seen before", "left out", "new", "entered", "left", "kept", "rows"]
    body = []
    for r in rounds:
        out = sum(r.left_out.values())
        numbers = (r.given, r.seen, out, r.candidates, r.entered, r.left, r.kept, r.kept + r.entered)
        body.append([str(r.number), r.source, *(f"{n:,}" for n in numbers)])
    reasons = [
        f"round {r.number} left out {n:,}: {why}" for r in rounds for why, n in reasons_to_read(r.left_out).items()
    ]
    return "\n".join([table(head, body, left=("source",)), *reasons])


def table(head: Sequence[str], body: Sequence[Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """Aligned columns, numbers to the right and the columns in `left` to the left."""
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    sides = [str.ljust if name in left else str.rjust for name in head]
    lines = ["  ".join(side(c, w) for side, c, w in zip(sides, row, widths, strict=True)) for row in (head, *body)]
    return "\n".join(line.rstrip() for line in lines)


def _lines(values: dict[str, object]) -> str:
    width = max(map(len, values))
    shown = {name: f"{v:,}" if isinstance(v, int) else str(v) for name, v in values.items()}
    return "\n".join(f"  {name.ljust(width)}  {text}" for name, text in shown.items())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _sources(bank: Bank) -> str:
    last = bank.history[-1].by_source
    names = {r.source: last.get(r.source, 0) for r in bank.history}
    new = {name: sum(r.candidates for r in bank.history if r.source == name) for name in names}
    body = [[name, f"{n:,}", f"{n / len(bank):.1%}", f"{new[name]:,}"] for name, n in names.items()]
    return _indented(table(["source", "rows", "of the bank", "of new rows"], body, left=("source",)))


def _memory(bank: Bank) -> str:
    seen = sum(r.candidates for r in bank.history)
    bytes_ = bank.history_bytes
    if bank.settings.history == "sketch":
        return f"{count(seen - len(bank), 'row')} that {'is' if seen - len(bank) == 1 else 'are'} not in the bank, " \
               f"in {size(bytes_)}"  # fmt: skip
    return f"{count(seen, 'row')} seen; the messages of the last round, {size(bytes_)}" if bytes_ else "none"


def _composition(rounds: Sequence[Round]) -> str:
    names = list(dict.fromkeys(name for r in rounds for name in (*r.by_source, r.source)))
    blocks = []
    for start in range(0, len(rounds), ROUNDS):
        some = rounds[start : start + ROUNDS]
        body = [[name, *(f"{r.by_source.get(name, 0):,}" for r in some)] for name in names]
        blocks.append(table(["source", *(f"round {r.number}" for r in some)], body, left=("source",)))
    return "\n\n".join(blocks)


def _tenths(bank: Bank) -> str:
    rows = bank.dataset
    tenth = max(1, len(bank) // 10)
    head = ["", f"best {tenth:,}", f"worst {tenth:,}", f"all {len(bank):,}"]
    body = []
    for name in MEASURED:
        if name in rows.column_names:
            values = np.asarray(rows.with_format("numpy")[name][:], np.float64)
            body.append([name, *(f"{part.mean():,.3f}" for part in (values[:tenth], values[-tenth:], values))])
    return table(head, body, left=("",))


def _first(bank: Bank, n: int) -> str:
    rows = bank.top(n)
    measured = [name for name in MEASURED if name in rows.column_names]
    texts = starts_of_prompts(rows, np.arange(n))
    columns = rows.select_columns([*measured, "source", "source_row", "round"])[:]
    body = [
        [str(i), *(f"{columns[m][i]:,.3f}" for m in measured), columns["source"][i], f"{columns['source_row'][i]:,}",
         str(columns["round"][i]), texts[i]]
        for i in range(n)
    ]  # fmt: skip
    return table(["rank", *measured, "source", "row", "round", "text"], body, left=("source", "text"))

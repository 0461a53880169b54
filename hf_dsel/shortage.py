# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What to say when fewer rows are left than were asked for: how many, what took the others, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_dsel.gate_examples import on_a_line
from hf_dsel.progress import count

MOST, LONGEST = 5, 80  # reasons, and columns of one
BELOW = "a gate below "


def reasons_to_read(left_out: Mapping[str, int], most: int = MOST) -> dict[str, int]:
    """How many rows are left out by what they have, for a person: reasons short and on a line, rare ones together.

    Args:
        left_out: as in a record. The reasons may come out of a stranger's dataset.
        most: of many reasons the most frequent ones are named.

    >>> reasons_to_read({"no q (\x1b[31mred)": 1, "no q (b)": 3, "no q (c)": 1}, most=1)
    {'no q (b)': 3, '2 other reasons': 2}
    """
    named = list(left_out.items())
    if len(named) > most:
        named = sorted(named, key=lambda found: -found[1])[:most]
    shown: dict[str, int] = {}
    for why, n in named:
        line = on_a_line(why, LONGEST)
        shown[line] = shown.get(line, 0) + n
    rest = len(left_out) - len(named)
    return shown | ({count(rest, "other reason"): sum(left_out.values()) - sum(shown.values())} if rest else {})


def too_few(
    asked: Mapping[str, Any],
    rows: int | None,
    left: int,
    left_out: Mapping[str, int],
    taken: Mapping[str, int],
    rules: Mapping[str, Any],
) -> str:
    """The text of a `BudgetError`.

    Args:
        asked: the budget as it was given: `k`, `fraction`, `max_tokens`.
        rows: how many rows that is; None for tokens or an open budget.
        left: how many can be selected.
        left_out: how many cannot, by what they have.
        taken: how many of these `gate` and `dedup` took; the others have a null.
        rules: `gate` and `dedup` as they were given.

    >>> print(too_few({"k": 9}, 9, 8, {"no ifd": 1}, {}, {}))
    k=9 but only 8 rows can be selected; left out: 1 with no ifd. Ask for at most k=8; or see why 1 row has a null
    """
    wanted = "" if rows is None else f"k={rows:,} but " if asked.get("k") else f"fraction={asked['fraction']:g} but "
    some = f"only {count(left, 'row')}" if left else "no row"
    why = "; ".join(f"{n:,} with {reason}" for reason, n in reasons_to_read(left_out).items())
    steps = [f"ask for at most {f'k={left}' if asked.get('k') else count(left, 'row')}"] if rows and left else []
    gate, dedup = (f", which took {count(taken.get(name, 0), 'row')}" for name in ("gate", "dedup"))
    if taken.get("gate") and isinstance(rules["gate"], float):
        steps.append(f"lower gate={rules['gate']:g}{gate}, or leave it out")
    elif taken.get("gate"):
        steps.append(f"give the gate{gate}, a lower probability{_lower(left_out)}, or leave it out")
    if taken.get("dedup"):
        near = rules["dedup"] is not True
        steps.append(f"raise the cosine of dedup{dedup}, or leave it out" if near else f"leave dedup out{dedup}")
    if null := sum(left_out.values()) - sum(taken.values()):
        steps.append(f"see why {count(null, 'row')} ha{'s' if null == 1 else 've'} a null")
    text = "; or ".join(steps)
    return f"{wanted}{some} can be selected; left out: {why}. {text[:1].upper()}{text[1:]}"


def _lower(left_out: Mapping[str, int]) -> str:
    """How to say a threshold that is lower than the one that `gate=True` took; nothing where it dropped no row.

    >>> _lower({"a gate below 0.958": 4}), _lower({"a gate below 0.479": 4})
    (' than 0.958, such as gate=0.5', ' than 0.479, such as gate=0.2')
    """
    took = next((why.removeprefix(BELOW) for why in left_out if why.startswith(BELOW)), None)
    lower = None if took is None else next((x for x in (0.5, 0.2, 0.05) if x < float(took)), None)
    return "" if lower is None else f" than {took}, such as gate={lower:g}"

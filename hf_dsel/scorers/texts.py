# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Which text of a turn a scorer looks at."""

from __future__ import annotations

from typing import Literal

from hf_dsel.rows import Turn

Of = Literal["instruction", "response", "example"]


def instruction_of(turn: Turn) -> str:
    """The last user message; the whole text when the turn has no prompt (plain text).

    >>> instruction_of(Turn((), "Some text."))
    'Some text.'
    """
    return turn.instruction if turn.prompt else turn.response or ""


def parts_of(turn: Turn, of: Of) -> list[str]:
    """The texts that make up the instruction, the response, or both; none when the turn has no response to give."""
    response = [] if turn.response is None else [turn.response]
    if of == "response":
        return response
    if of == "instruction" or not turn.prompt:
        return [instruction_of(turn)]
    return [instruction_of(turn), *response]

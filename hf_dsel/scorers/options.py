# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The options that the model scorers share: checked when a scorer is made, hashed when it is cached."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, get_args

from hf_dsel import rows
from hf_dsel.scorers.models import DTYPES, pick_device, pick_dtype
from hf_dsel.scorers.turn_values import COMBINATIONS

HOW_IT_RUNS = ("on_rows", "batch_tokens", "device")  # no score depends on these, beyond rounding


def check_choice(option: str, value: Any, allowed: Collection[Any]) -> None:
    """Raise a ValueError that names the option, the value and what is allowed.

    >>> check_choice("side", "chosen", ("chosen", "rejected"))
    """
    if value not in allowed:
        raise ValueError(f"{option}={value!r}; it is one of {', '.join(map(repr, allowed))}")


def check_shared(
    scorer: Any, *, turns: Collection[Any] = get_args(rows.Which), sides: Collection[Any] = get_args(rows.Side)
) -> None:
    """Check whichever of the shared options a scorer has; `turns` and `sides` are the values that this one takes.

    Raises:
        ValueError: naming the option, its value and the range.
    """
    allowed = {
        "turns": turns, "side": sides, "combine": COMBINATIONS, "dtype": (*DTYPES, None),
    }  # fmt: skip
    for option, values in allowed.items():
        if hasattr(scorer, option):
            check_choice(option, getattr(scorer, option), values)
    for option, least in (("max_length", 2), ("batch_tokens", 1)):
        value = getattr(scorer, option, None)
        if value is not None and value < least:
            raise ValueError(f"{option}={value!r}; it is a number of tokens, at least {least}")


def check_rows(column_names: Sequence[str], side: str) -> None:
    """Check that the columns are in a known format, and that the side asked for exists.

    Raises:
        ValueError: with what was found and what is accepted.
    """
    found = rows.detect(column_names)
    if side != "chosen" and found != "preference":
        raise ValueError(
            f"side={side!r} needs the columns chosen and rejected; these are {found}: {sorted(column_names)}"
        )


def config_of(scorer: Any, algorithm: int) -> dict[str, Any]:
    """The pickled state of a scorer: its options and the version of its algorithm, never a model or a callback."""
    return {"algorithm": algorithm, **{f.name: getattr(scorer, f.name) for f in _options(scorer)}}


def restore(scorer: Any, state: dict[str, Any]) -> None:
    """Undo `config_of`."""
    scorer.__dict__.update({f.name: state[f.name] for f in _options(scorer)}, on_rows=None)


def settings_of(scorer: Any, algorithm: int) -> dict[str, Any]:
    """All that the scores depend on, as JSON. dtype=None becomes the precision of this machine."""
    state = {name: value for name, value in config_of(scorer, algorithm).items() if name not in HOW_IT_RUNS}
    if hasattr(scorer, "dtype"):
        state["dtype"] = str(pick_dtype(scorer.dtype, pick_device(scorer.device))).removeprefix("torch.")
    return {
        "scorer": type(scorer).__name__,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in state.items()},
    }


def _options(scorer: Any) -> list[Any]:
    return [f for f in fields(scorer) if f.name != "on_rows"]

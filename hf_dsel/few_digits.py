# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A number for a reader in as few digits as do the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Context


def in_few_digits(x: float, same: Callable[[float], bool], *, fewest: int = 3) -> str:
    """A number from 0 up, rounded down to three digits, or to as many more as it takes to be as good as itself.

    Args:
        x: the number.
        same: whether another one, not above it, does the same.
        fewest: digits to begin with.

    >>> in_few_digits(0.99967, lambda y: True), in_few_digits(0.99967, lambda y: y > 0.9995), in_few_digits(1.0, bool)
    ('0.999', '0.9996', '1')
    """
    for digits in range(fewest, 16):
        rounded = Context(prec=digits, rounding=ROUND_DOWN).create_decimal(repr(float(x)))
        text = f"{float(rounded):.{digits}g}"
        if same(float(text)):
            return text
    return repr(float(x))

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The seed of random choices, as a user gives it."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def check_seed(seed: Any) -> None:
    """Raise for what no seed can be.

    Raises:
        TypeError: no whole number.
        ValueError: below 0.

    >>> check_seed(-1)
    Traceback (most recent call last):
    ValueError: seed=-1 must be at least 0
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed={seed!r} must be a whole number, such as 42")
    if seed < 0:
        raise ValueError(f"seed={seed} must be at least 0")

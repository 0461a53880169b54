# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Loops that numba compiles, where there is a CPU and numba (`pip install 'hf-dsel[cpu]'`)."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch


@cache
def compiled_loops(name: str, device: torch.device) -> ModuleType | None:
    """The module of `hf_dsel.ops` with compiled loops; None elsewhere: torch does the same in more time.

    A numba that is installed and cannot be used is said once.
    """
    if device.type != "cpu":
        return None
    try:
        return importlib.import_module(f"hf_dsel.ops.{name}")
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        return None
    except (ImportError, RuntimeError) as error:  # a numpy that numba does not know yet; no place for its cache
        warnings.warn(f"numba cannot be used, so torch does its work in more time: {error}", stacklevel=3)
        return None

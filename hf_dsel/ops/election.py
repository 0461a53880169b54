# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What dense and sparse affinity propagation share: options and room checked, iterations until the exemplars stay."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch


def elect(
    iterate: Callable[[int], None],
    exemplars: Callable[[], torch.Tensor],
    *,
    iterations: int,
    stop_after: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, bool]:
    """Call `iterate` with 1, 2, …; how many were done, and whether the exemplars (one at least) had stayed the same."""
    before, same = None, 0
    for done in range(1, iterations + 1):
        iterate(done)
        elected = exemplars()
        same = same + 1 if before is not None and torch.equal(elected, before) else 1
        before, count = elected, int(elected.sum())
        if progress is not None:
            progress(done, count)
        if stop_after is not None and same >= stop_after and count > 0:
            return done, True
    return iterations, False


def check_options(n: int, preference: float | str, damping: float, **counts: int | None) -> None:
    """Rows, preference, damping, and counts that must be at least 1 or None."""
    if n < 2:
        raise ValueError("embeddings have 1 row; affinity propagation needs at least 2, which vote for each other")
    if preference != "median" and not (isinstance(preference, int | float) and np.isfinite(preference)):
        raise ValueError(f'preference is {preference!r}; expected a finite number or "median"')
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1")
    if not 0 <= damping < 1:
        raise ValueError(f"damping is {damping}; it must be at least 0 and below 1, e.g. 0.5")


def check_room(n: int, needed: int, max_bytes: int | None, device: torch.device, step: str) -> None:
    """Refuse more than `max_bytes`. Default: the free memory of a GPU; all memory of a CPU, whose free memory the
    system's file cache hides.
    """
    room = max_bytes
    if room is None and device.type == "cuda":
        room = int(torch.cuda.mem_get_info(device)[0])
    elif room is None:
        try:
            room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):  # not on this system
            return
    if needed > room:
        raise MemoryError(
            f"{n} rows need {needed / 2**30:.2f} GiB for the messages, and {room / 2**30:.2f} GiB is the limit; {step}"
            ", or raise max_bytes"
        )

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a waiting person sees: one line before something costly starts, and a bar while it runs.

Both obey `datasets.disable_progress_bars()` and HF_DATASETS_DISABLE_PROGRESS_BARS, and only the main process speaks.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from datasets.utils import are_progress_bars_disabled, tqdm


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun or accelerate started (or the only one)."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Write a line to standard error, above any bar."""
    if is_main_process() and not are_progress_bars_disabled():
        tqdm.write(f"hf_dsel: {text}", file=sys.stderr)


def bar(*, total: int | None, what: str, unit: str = "rows", done: int = 0) -> Any:
    """A progress bar with rate and time left.

    Args:
        total: rows to do, or None when nobody knows.
        what: what is being done, a few words.
        unit: what is counted.
        done: rows that an earlier run finished; the rate does not count them.
    """
    return tqdm(total=total, initial=done, desc=what, unit=f" {unit}", disable=not is_main_process())


def count(n: int, what: str) -> str:
    """A number with its noun.

    >>> count(1, "row"), count(52002, "row")
    ('1 row', '52,002 rows')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rules that leave rows out before a strategy sees the pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_dsel.copies import check_similarity, find_copies

# the rows still considered → which of them stay (bool), and how many go, by what they have
Rule = Callable[[Dataset], tuple[npt.NDArray[np.bool_], dict[str, int]]]
Read = tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64], dict[str, int]]
OPTIONS = ("similarity", "embedding", "quality")


def narrowed(dataset: Dataset, read: Read, rules: Sequence[Rule]) -> tuple[Read, int]:
    """What was read of the rows that are left by all rules, one after the other, and how many rows went.

    Args:
        dataset: all rows.
        read: columns of the usable rows, the usable rows' numbers, and why the others are out.
        rules: each sees what the ones before it left.
    """
    arrays, usable, left_out = read
    before = len(usable)
    for rule in rules:
        if len(usable) == 0:
            break
        stays, why = rule(dataset if len(usable) == len(dataset) else dataset.select(usable))
        if not stays.all():
            arrays = {name: values[stays] for name, values in arrays.items()}
            usable, left_out = usable[stays], {**left_out, **why}
    return (arrays, usable, left_out), before - len(usable)


def check_dedup(dedup: Any) -> None:
    """Raise for what `dedup` cannot be: None, True, False, a cosine as a float, or a mapping of options."""
    if dedup is None or isinstance(dedup, bool):
        return
    if isinstance(dedup, Mapping):
        unknown = [name for name in dedup if name not in OPTIONS]
        if unknown:
            raise ValueError(f"dedup has no option {unknown[0]!r}; it has {', '.join(OPTIONS)}")
        for name in ("embedding", "quality"):
            if not isinstance(dedup.get(name), str | None):
                raise TypeError(f"dedup: {name} must name a column, got {dedup[name]!r}")
        if dedup.get("similarity") is not None:
            check_similarity(dedup["similarity"])
    elif isinstance(dedup, float | np.floating):
        check_similarity(dedup)
    else:
        raise TypeError(
            f"dedup is {dedup!r}; it must be True (same text), a cosine such as 0.95 (near embeddings too), or a "
            f"mapping of {', '.join(OPTIONS)}"
        )


def recorded(dedup: Any) -> Any:
    """`dedup` as a record holds it: plain values, None where nothing was left out.

    >>> recorded(np.float32(0.5)), recorded(False), recorded({"similarity": 0.9, "quality": None})
    (0.5, None, {'similarity': 0.9})
    """
    if isinstance(dedup, Mapping):
        return {name: recorded(found) for name, found in dedup.items() if found is not None} or True
    return float(dedup) if isinstance(dedup, np.number) else dedup or None


def dedup_options(dedup: Any, strategy: Any) -> dict[str, Any] | None:
    """What `find_copies` is asked for, or None for nothing.

    True compares text alone. A cosine, alone or as `similarity`, compares the embeddings that the strategy reads as
    well, or those of the column `embedding`. `quality` is the one that the strategy reads as its quality, where no
    other column is named.

    Raises:
        ValueError: there is no embedding to compare: the strategy reads none, and none is named.
        TypeError: `dedup` is something else.
    """
    check_dedup(dedup)
    if dedup is None or dedup is False:
        return None
    given = {} if dedup is True else dict(dedup) if isinstance(dedup, Mapping) else {"similarity": float(dedup)}
    options: dict[str, Any] = {name: found for name, found in given.items() if found is not None}
    needs = strategy.needs()
    if "similarity" in options and "embedding" not in options:
        name = getattr(strategy, "embedding", None)
        if name not in needs:
            raise ValueError(
                f"dedup={dedup!r} compares the embeddings that the strategy reads, and {strategy} reads none; use "
                "dedup=True to compare text, or dedup={'similarity': 0.95, 'embedding': 'column'}"
            )
        options["embedding"] = name
    if "quality" not in options and (name := _quality(strategy)) in needs:
        options["quality"] = name
    return options


def dedup_rule(dedup: Any, strategy: Any) -> Rule | None:
    """The rule that leaves one row of each group of copies, or None; errors as for `dedup_options`."""
    options = dedup_options(dedup, strategy)
    if options is None:
        return None

    def rule(dataset: Dataset) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
        copies = find_copies(dataset, **options)
        return copies.stays, copies.left_out()

    return rule


def _quality(strategy: Any) -> Any:
    """The column of which the strategy wants large values: `quality`, or the one score that `top_k` ranks by."""
    if getattr(strategy, "largest", False) and isinstance(strategy.column, str) and strategy.ceiling is None:
        return strategy.column
    return getattr(strategy, "quality", None)

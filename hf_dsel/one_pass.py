# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Selecting from a stream, whose rows are seen once."""

from __future__ import annotations

import heapq
import warnings
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from datasets import Dataset, IterableDataset, Value

from hf_dsel.budget import BudgetError, rows_asked
from hf_dsel.columns import BadColumn, MissingColumn
from hf_dsel.progress import bar


class Shortfall(UserWarning):
    """A strategy's own rule ran dry before the budget was spent."""


def from_stream(dataset: IterableDataset, strategy: Any, budget: dict[str, Any], seed: int) -> Any:
    """One pass over a stream: a lazy filter, or the k best rows held while the rest go by."""
    name = type(strategy).__name__
    if not hasattr(strategy, "keys") and not callable(strategy):
        raise TypeError(
            f"{name} compares rows with the whole pool, and a stream shows each row once. One pass is enough for "
            "random, top_k and threshold. Load the dataset without streaming=True for the others."
        )
    missing = sorted(set(strategy.needs()) - set(dataset.column_names or strategy.needs()))
    if missing:
        raise MissingColumn(
            f"{name} reads {missing}, which the stream lacks; add it with dataset.map(scorer, batched=True)"
        )
    given = {n: v for n, v in budget.items() if v is not None}
    if not hasattr(strategy, "keys"):
        if getattr(strategy, "near_mean", None) is not None:
            raise TypeError(
                "near_mean needs the mean of the whole pool, which a stream does not show; give low= and high="
            )
        if given:
            raise BudgetError(f"{name} on a stream keeps what passes; use .take(n) on the result instead of {given}")
        return dataset.filter(strategy)
    if set(given) != {"k"}:
        raise BudgetError(f"a stream has no known length: give k (rows), got {given or 'no budget'}")
    k = rows_asked(**budget, pool=max(int(budget["k"]), 1) if isinstance(budget["k"], int) else 1, open_ended=False)
    return _best_of_stream(dataset, strategy, cast(int, k), seed)


def _best_of_stream(dataset: IterableDataset, strategy: Any, k: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    heap: list[tuple[float, int, float, dict[str, Any]]] = []  # smallest key first, of equal keys the later row
    seen = 0
    with bar(total=None, what=f"{type(strategy).__name__} over the stream") as progress:
        for batch in dataset.with_format(None).iter(batch_size=1000):
            n = len(next(iter(batch.values())))
            usable = [i for i in range(n) if all(batch[c][i] is not None for c in strategy.needs())]
            columns = {c: _finite(c, [batch[c][i] for i in usable], seen) for c in strategy.needs()}
            for i, key, gain in zip(usable, *strategy.keys(columns, len(usable), rng), strict=True):
                if np.isnan(key) or (len(heap) == k and (key, -(seen + i)) <= heap[0][:2]):
                    continue
                push = heapq.heappush if len(heap) < k else heapq.heapreplace
                push(heap, (float(key), -(seen + i), float(gain), {c: v[i] for c, v in batch.items()}))
            seen += n
            progress.update(n)
    if not heap:
        raise BudgetError(f"k={k:,}, but none of the stream's {seen:,} rows can be selected")
    if len(heap) < k:
        warnings.warn(f"{strategy} kept {len(heap):,} of {k:,} rows: the stream had no more", Shortfall, stacklevel=4)
    best = sorted(heap, key=lambda entry: (-entry[0], -entry[1]))
    subset = Dataset.from_list([row for *_, row in best], features=dataset.features)
    gains = [None if gain != gain else gain for _, _, gain, _ in best]
    subset = subset.remove_columns([c for c in ("selection_rank", "selection_gain") if c in subset.column_names])
    subset = subset.add_column("selection_rank", np.arange(len(best)), feature=Value("int64"))
    return subset.add_column("selection_gain", gains, feature=Value("float32"))


def _finite(name: str, values: list[Any], seen: int) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadColumn(f"column {name!r} has NaN or infinite values near row {seen:,} of the stream; filter them out")
    return array

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""One pass over the rows in a few numbers, for the trainer's logs."""

from __future__ import annotations

import numpy as np

from hf_dsel.training.records import Records
from hf_dsel.training.trajectories import LearnedAt, learned, threshold


def of_pass(records: Records, at: int, learned_at: LearnedAt) -> dict[str, float]:
    """Means over the rows seen in pass `at`, and how many of them were learned before and are not any more.

    Returns:
        `rows`, the mean of each number but the token count, `confidence`, and from the second pass on `forgotten`.
        Of answers also `learned_at`, where that is the median of the rows. Empty when nothing was seen.
    """
    if at not in records.passes or len(records.passes[at][0]) == 0:
        return {}
    rows, values = records.passes[at]
    found = {"rows": float(len(rows))}
    found |= {name: float(values[:, i].mean()) for i, name in enumerate(records.numbers) if name != "tokens"}
    seen = records.trajectories(rows)
    if "loss" in seen:
        found["confidence"] = float(np.exp(-seen["loss"][:, at]).mean())
        least = threshold(records, learned_at)
        state = learned(seen["accuracy"], least)
        if learned_at == "median" and least is not None:
            found["learned_at"] = least
    else:
        state = np.where(np.isnan(seen["margin"]), np.nan, (seen["margin"] > 0).astype(np.float64))
        found["reward_accuracy"] = float(state[:, at].mean())
    if at > 0:
        found["forgotten"] = float((state[:, at] < state[:, at - 1]).sum())
    return found

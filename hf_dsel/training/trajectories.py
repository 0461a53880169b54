# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The course of each row through training, as columns: dataset cartography, forgetting events, loss drop.

Source: Dataset Cartography (arXiv 2009.10795) for confidence, variability and correctness; the survey's Eq. 48, after
Toneva et al. (1812.05159), for forgetting; Eq. 10 for EL2N; Eq. 54 for GraNd.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_dsel.training.records import Records

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
LearnedAt = float | Literal["median"] | None
SEEN_ONCE = "seen once; this compares two"
NEVER = "never learned"


@dataclass(frozen=True)
class Course:
    """One column: `values` (rows,), of which those not `valid` mean nothing, and `reason` why, for all or for each."""

    values: npt.NDArray[Any]
    valid: BoolArray
    reason: str | npt.NDArray[np.str_] = ""


def of_answers(seen: Mapping[str, FloatArray], learned_at: float | None) -> dict[str, Course]:
    """The columns of rows with an answer, from each number (rows x passes, NaN where a row was not seen).

    With NLL_e and a_e the row's mean loss and token accuracy in pass e of the E in which it was seen:

    | column | value |
    |---|---|
    | `loss_mean`, `loss_last` | mean over e of NLL_e, nats a token; NLL_E |
    | `loss_drop` | NLL_1 − NLL_E |
    | `confidence` | mean over e of exp(−NLL_e), the geometric mean of the token probabilities |
    | `variability` | standard deviation over e of exp(−NLL_e), the sum divided by E |
    | `correctness` | mean over e of a_e |
    | `el2n`, `entropy` | mean over e |
    | `forgetting`, `forgetting_score`, `first_learned`, `unforgettable` | of `learning_events` |

    Args:
        seen: `loss`, `accuracy`, `el2n`, `entropy`; optionally `grand`, which becomes its mean.
        learned_at: a row is learned in pass e when a_e is at least this; None compares the accuracies themselves.

    Differs: cartography has one probability a row, that of its class; a response has one a token, and their geometric
        mean is the one that does not shrink with the length. Its correctness is the share of epochs with the right
        class.
    """
    p = np.exp(-seen["loss"])
    there = ~np.isnan(p)
    found = {
        "loss_mean": _mean(seen["loss"]),
        "loss_last": _last(seen["loss"]),
        "loss_drop": _twice(_first(seen["loss"]).values - _last(seen["loss"]).values, there),
        "confidence": _mean(p),
        "variability": _twice(_deviation(p), there),
        "correctness": _mean(seen["accuracy"]),
        **{name: _mean(seen[name]) for name in ("el2n", "entropy", "grand") if name in seen},
    }
    return found | learning_events(seen["accuracy"], learned_at)


def of_pairs(seen: Mapping[str, FloatArray]) -> dict[str, Course]:
    """The columns of preference pairs, from each number (rows x passes, NaN where a pair was not seen).

    With m_e the difference of the implicit rewards in pass e (`sequence_stats.of_pairs`):

    | column | value |
    |---|---|
    | `chosen_logp_mean`, `chosen_logp_last`, and of `rejected` | log-probability of the answer, nats, a sum |
    | `margin_mean`, `margin_last` | of m_e |
    | `reward_accuracy` | share of the passes with m_e > 0 |
    | `confidence`, `variability` | mean and standard deviation over e of σ(m_e), the probability of the preference |
    | `forgetting`, `forgetting_score`, `first_learned`, `unforgettable` | of `learning_events`; learned is m_e > 0 |
    """
    m = seen["margin"]
    there = ~np.isnan(m)
    p = 1 / (1 + np.exp(-np.clip(m, -500, 500)))
    right = np.where(there, (m > 0).astype(np.float64), np.nan)
    found: dict[str, Course] = {}
    for name in ("chosen_logp", "rejected_logp", "margin"):
        found |= {f"{name}_mean": _mean(seen[name]), f"{name}_last": _last(seen[name])}
    found |= {"reward_accuracy": _mean(right), "confidence": _mean(p), "variability": _twice(_deviation(p), there)}
    return found | learning_events(right, 1.0)


def learning_events(accuracy: FloatArray, learned_at: float | None) -> dict[str, Course]:
    """How often each row was forgotten, when it was learned first, and where that puts it among the others.

    s_e is `learned`, and s_0 = 0 before the first pass. A rise of s is a learning event, a fall a forgetting event.
    Passes in which a row was not seen are passed over.

    | | value |
    |---|---|
    | `forgetting` | forgetting events; null where there is no learning event, since nothing could be forgotten |
    | `first_learned` | the first e with a learning event, counted from 1; null where there is none |
    | `unforgettable` | learned, and never forgotten (survey Eq. 48) |
    | `forgetting_score` | to sort by: never learned > forgotten often > forgotten once > unforgettable, which is 0 |

    The score is `forgetting`, and the number of passes for a row that was never learned: no row is forgotten as often.

    Args:
        accuracy: rows x passes, NaN where a row was not seen.
        learned_at: as in `learned`.

    Source: Toneva et al. (arXiv 1812.05159), Section 3 and Algorithm 1. In 3.1 a row that was never learned counts as
        forgotten infinitely often when rows are sorted; in the authors' code, as often as there are passes.

    >>> found = learning_events(np.array([[0.2, 0.9, 0.4, 0.8], [0.6, 0.7, 0.7, 0.9], [0.1, 0.1, 0.2, 0.4]]), 0.5)
    >>> found["forgetting"].values, found["forgetting"].valid
    (array([1, 0, 0]), array([ True,  True, False]))
    >>> found["forgetting_score"].values, found["unforgettable"].values
    (array([1, 0, 4]), array([False,  True, False]))
    """
    n, passes = accuracy.shape
    s, before = learned(accuracy, learned_at), np.zeros(n)
    there = ~np.isnan(s)
    falls: npt.NDArray[np.int64] = np.zeros(n, np.int64)
    first: npt.NDArray[np.int64] = np.zeros(n, np.int64)
    for e in range(passes):
        falls += s[:, e] < before
        first[(s[:, e] > before) & (first == 0)] = e + 1
        before = np.where(there[:, e], s[:, e], before)
    ever, twice = first > 0, there.sum(1) >= 2
    return {
        "forgetting": Course(falls, ever & twice, np.where(twice, NEVER, SEEN_ONCE)),
        "forgetting_score": _twice(np.where(ever, falls, passes), there),
        "first_learned": Course(first, ever, NEVER),
        "unforgettable": _twice(ever & (falls == 0), there),
    }


def threshold(records: Records, learned_at: LearnedAt) -> float | None:
    """The token accuracy from which a row is learned: a number as it is, None as it is.

    "median" is what half of the rows reach in the last pass that saw them; None where no row was seen.
    """
    if learned_at != "median":
        return learned_at
    last = records.last("accuracy")
    return float(np.median(last)) if len(last) else None


def learned(accuracy: FloatArray, learned_at: float | None) -> FloatArray:
    """s_e: 1 where accuracy_e ≥ `learned_at`, else 0; NaN where a row was not seen.

    Args:
        accuracy: of any shape; float32 numbers, or float64.
        learned_at: the threshold; 1 asks for every token of a response to be the most likely one. None takes
            s_e = accuracy_e as Eq. 48 is printed, so that any fall of the token accuracy is a forgetting event.

    >>> learned(np.array([np.float32(0.7), 0.6, np.nan]), 0.7)
    array([ 1.,  0., nan])
    """
    if learned_at is None:
        return accuracy
    least = min(learned_at, float(np.float32(learned_at)))  # 7 of 10 tokens are 0.69999999 in float32
    return np.where(np.isnan(accuracy), np.nan, (accuracy >= least).astype(np.float64))


def _mean(x: FloatArray) -> Course:
    n: npt.NDArray[np.int64] = (~np.isnan(x)).sum(1)
    return Course(np.nansum(x, 1) / np.maximum(n, 1), n > 0)


def _deviation(p: FloatArray) -> FloatArray:
    # sqrt(1/E Σ (p_e − mean)²)
    centred = p - _mean(p).values[:, None]
    return np.sqrt(_mean(centred**2).values)


def _at(x: FloatArray, place: npt.NDArray[np.int64]) -> Course:
    valid = np.asarray((~np.isnan(x)).any(1), np.bool_)
    if x.shape[1] == 0:
        return Course(np.zeros(len(x)), valid)
    return Course(np.where(valid, x[np.arange(len(x)), place], 0.0), valid)


def _first(x: FloatArray) -> Course:
    return _at(x, (~np.isnan(x)).argmax(1) if x.shape[1] else np.zeros(len(x), np.int64))


def _last(x: FloatArray) -> Course:
    e = x.shape[1]
    return _at(x, e - 1 - (~np.isnan(x))[:, ::-1].argmax(1) if e else np.zeros(len(x), np.int64))


def _twice(values: Any, there: BoolArray) -> Course:
    """A column that needs two passes."""
    times: npt.NDArray[np.int64] = there.sum(1)
    return Course(values, times >= 2, SEEN_ONCE)

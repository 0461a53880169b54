# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How much of a pool looks like corrupted copies of it, of which kinds, and how likely each turn is sound."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
LEAST_SEEN, MOST_SEEN = 0.2, 0.8  # of a kind's copies lie beyond a threshold that counts
THRESHOLDS = 30
STEPS = 40  # of the curve from a joint score to a ratio of densities
ERRORS = 2  # standard errors that are added to a bound: a lower one that is less certain does not count
FEWEST_COPIES, MANY_COPIES = 20, 100
FLAT = 1.25
ANY = 0.05  # of the junk is taken to be of all kinds alike
DRAWS = 40
NARROW = 0.02
LEAST = 0.1
UNSURE, SURE = 0.5, 0.7  # the lower end of the interval, as a part of the estimate


@dataclass(frozen=True, eq=False)
class JunkKinds:
    """The share of junk in a pool, which kinds it is of, and from scores to the probability of being sound.

    `share`, `low`, `high`: of junk, and its 95 % interval. `weights`: float64 (kinds,), the parts of the junk.
    `shift`: float64 (kinds,), what makes a score a log ratio of densities. `at`, `ratio`: float64 (steps,), how much
    more frequent a joint score is among the copies than in the pool.
    """

    share: float
    low: float
    high: float
    weights: Doubles
    shift: Doubles
    at: Doubles
    ratio: Doubles

    def sound(self, scores: Doubles) -> Doubles:
        """P(sound | scores) = 1 − share · copies / pool, within [0, 1]."""
        joint = _joint(scores, self.weights, self.shift)
        return np.clip(1 - self.share * np.interp(joint, self.at, self.ratio), 0.0, 1.0)

    def kind(self, scores: Doubles) -> Ints:
        """The kind that each turn resembles most."""
        return np.argmax(scores + self.shift, axis=1)


def junk_kinds(pool: Doubles, copies: Doubles, kinds: Ints, *, seed: int = 0) -> JunkKinds:
    """The largest share of each kind of junk that the pool has room for, where nothing but that kind is seen.

        pool = (1 − Σ_k share_k) · sound + Σ_k share_k · copies_k
        ⇒  share_k ≤ P_pool(t_k ≥ c) / P_copies_k(t_k ≥ c)  for every c,   t_k = log P(kind k) − log P(anything else)

    The smallest bound counts, with two standard errors, among the thresholds that 20 % to 80 % of a kind's copies pass.
    P(anything else) has the other kinds in it, so that their junk is not counted twice. A kind of which most copies are
    taken for something else, such as answers to similar questions, would look frequent in every pool, and is not taken
    to be more frequent than the most frequent of the kinds that are told; unless its bound is nearly the same for every
    threshold, as that of a kind is that fills a part of the pool, up to half of it. Faults that resemble no kind do not
    count. The sum of the bounds is the share, or less where it is unsure (`_estimate`).

    The probability of being sound is that of the joint score, u = log Σ_k share_k · copies_k / pool by the classifier:
    copies, weighted by the shares, are compared with the pool in bins of u, and the ratio is made to rise with u.

    Args:
        pool: turns x kinds, log P(kind) / P(pool) by models that have not seen the turn.
        copies: the same of corrupted copies.
        kinds: the kind of each copy.
        seed: of the resampling that gives the interval.

    Source: the best-bin bound of Garg et al. 2021 (arXiv 2111.00980), with the copies of a kind as the known class.
    Differs: from theirs in that there are many known classes, each with a score of its own.
    """
    ours, theirs = _specific(pool), _specific(copies)
    shares, flat = _shares(ours, theirs, kinds)
    rng = np.random.default_rng(seed)
    drawn = np.empty(DRAWS)
    for i in range(DRAWS):
        rows, others = rng.integers(len(pool), size=len(pool)), rng.integers(len(copies), size=len(copies))
        drawn[i] = _shares(ours[rows], theirs[others], kinds[others], flat)[0].sum()
    bound = float(shares.sum())
    # the smallest of some noisy bounds is too small; of resampled ones it is once more by as much
    lost, scatter = max(0.0, bound - float(np.median(drawn))), np.quantile(drawn, [0.025, 0.975]) - np.median(drawn)
    low, high = min(max(bound + float(scatter[0]), 0.0), bound), bound + lost + float(scatter[1])
    share = _estimate(bound, low)
    many = np.bincount(kinds, minlength=pool.shape[1])
    shift = np.where(many > 0, np.log(len(pool) / np.maximum(many, 1)), -np.inf)
    usual = np.where(many > 0, 1.0 / max(1, int((many > 0).sum())), 0.0)
    weights = (1 - ANY) * shares / bound + ANY * usual if bound else usual
    at, ratio = _curve(
        _joint(pool, weights, shift), _joint(copies, weights, shift), (weights / np.maximum(many, 1))[kinds]
    )
    return JunkKinds(share, low, max(min(high, 1.0), bound), weights, shift, at, ratio)


def _estimate(bound: float, low: float) -> float:
    """The share: the bound where its interval is narrow, the lower end of the interval where it is wide.

    In a small pool the bounds of many kinds, each a little too large, add up: 600 rows with nothing planted in them had
    bounds of 1 to 7 %. A lower end of half the bound or less is taken instead of it, one of 70 % leaves it as it is. A
    tenth of the bound always stays, so that the probabilities tell rows apart.

    >>> _estimate(0.3, 0.24), _estimate(0.07, 0.03), round(_estimate(0.1, 0.06), 3), round(_estimate(0.02, 0.0), 3)
    (0.3, 0.03, 0.08, 0.002)
    """
    sure = (low / bound - UNSURE) / (SURE - UNSURE) if bound else 1.0
    return max(low + (bound - low) * min(max(sure, 0.0), 1.0), LEAST * bound)


def about_width(share: float, low: float, high: float) -> str:
    """What to add to an estimate and its interval, where the width of it has decided.

    >>> about_width(0.03, 0.03, 0.14), about_width(0.3, 0.25, 0.38), about_width(0.0, 0.0, 0.01)
    (', so wide that the lower end is taken', '', '')
    """
    wide = high - low > NARROW and share - low < LEAST * (high - low)
    return ", so wide that the lower end is taken" if wide else ""


def _specific(scores: Doubles) -> Doubles:
    """log P(kind) / P(anything else), from log P(kind) / P(pool)."""
    with_own = np.concatenate([scores, np.zeros((len(scores), 1))], 1)
    odds = np.exp(with_own - with_own.max(1, keepdims=True))
    rest = np.stack([np.delete(odds, k, 1).sum(1) for k in range(scores.shape[1])], 1)
    return np.asarray(np.log(np.maximum(odds[:, :-1], 1e-300)) - np.log(np.maximum(rest, 1e-300)))


def _shares(pool: Doubles, copies: Doubles, kinds: Ints, known: Bools | None = None) -> tuple[Doubles, Bools]:
    """The bound on each kind's share, at most 1 together; and which kinds' bounds are nearly the same everywhere.

    `known`: which they are, where it has been decided.
    """
    n_kinds = pool.shape[1]
    shares, middle, flat = np.zeros(n_kinds), np.full(n_kinds, np.nan), np.zeros(n_kinds, bool)
    for k in range(n_kinds):
        mine = np.sort(copies[kinds == k, k])
        if len(mine) >= FEWEST_COPIES:
            shares[k], at_most = _bound(np.sort(pool[:, k]), mine)
            filled = len(mine) >= MANY_COPIES and shares[k] <= 0.5 and at_most <= FLAT * shares[k]
            middle[k], flat[k] = float(np.median(mine)), filled if known is None else known[k]
    if np.isfinite(middle).any():
        told = flat | (middle >= min(0.0, float(np.nanmedian(middle))))
        shares = np.where(told, shares, np.minimum(shares, shares[told].max()))
    return np.asarray(shares / max(1.0, float(shares.sum()))), flat


def _bound(pool: Doubles, copies: Doubles) -> tuple[float, float]:
    """min over c of P_pool(t ≥ c) / P_copies(t ≥ c), of sorted scores; and the ratio for the lowest c."""
    cuts = np.quantile(copies, 1 - np.linspace(LEAST_SEEN, MOST_SEEN, THRESHOLDS))
    above = 1 - np.searchsorted(pool, cuts, "left") / len(pool)
    passed = 1 - np.searchsorted(copies, cuts, "left") / len(copies)
    bound = above / passed
    error = np.sqrt(np.maximum(above, 1 / len(pool)) / len(pool)) / passed
    error = error + bound * np.sqrt((1 - passed) / passed / len(copies))
    return float(min(bound[np.argmin(bound + ERRORS * error)], 1.0)), float(bound[-1])


def _joint(scores: Doubles, weights: Doubles, shift: Doubles) -> Doubles:
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp.reduce(scores + shift + np.log(weights), axis=1))


def _curve(pool: Doubles, copies: Doubles, each: Doubles) -> tuple[Doubles, Doubles]:
    """Joint scores, and how much more frequent they are among the weighted copies than in the pool, which rises."""
    order = np.argsort(copies, kind="stable")
    ours, theirs, mass = np.sort(pool), copies[order], np.cumsum(each[order]) / each.sum()
    # bins with the same number of turns and copies together: fine where there are many of either
    both = np.concatenate([ours, theirs])
    size = np.concatenate([np.full(len(ours), 1 / len(ours)), each[order] / each.sum()])
    order = np.argsort(both, kind="stable")
    whole = np.cumsum(size[order]) / 2
    both = both[order]
    edges = np.unique(both[np.minimum(np.searchsorted(whole, np.linspace(0, 1, STEPS + 1)[1:-1]), len(both) - 1)])
    edges = np.concatenate([[-np.inf], edges[edges > both[0]], [np.inf]])
    inside = np.diff(np.searchsorted(ours, edges, "left")) / len(ours)
    inside_copies = np.diff(np.concatenate([[0.0], mass])[np.searchsorted(theirs, edges, "left")])
    ratio = inside_copies / np.maximum(inside, 0.5 / len(ours))
    middle = np.array([np.median(both[a:b]) for a, b in pairwise(np.searchsorted(both, edges, "left"))])
    return middle, _rising(ratio, inside + inside_copies)


def _rising(values: Doubles, weights: Doubles) -> Doubles:
    """The rising sequence nearest to the values by weighted squares (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), np.maximum(weights, 1e-12).tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (v, x, n), (w, y, m) = blocks[-2], blocks[-1]
            blocks[-2:] = [((v * x + w * y) / (x + y), x + y, n + m)]
    return np.concatenate([np.full(n, v) for v, _, n in blocks])


def cut_for(sound: npt.NDArray[np.floating], most_junk: float) -> float:
    """The lowest probability to keep, so that among the rows from it on the expected share of junk is at most that.

    Rows of equal probability stay or go together. inf where no row can be kept, which is when even the best ones are
    too likely junk.

    >>> float(cut_for(np.array([1.0, 0.98, 0.9, 0.1]), 0.05))
    0.9
    >>> float(cut_for(np.array([1.0, 0.9, 0.9, 0.9]), 0.05))
    1.0
    """
    best_first = -np.sort(-np.asarray(sound, np.float64))
    junk = np.cumsum(1 - best_first) / np.arange(1, len(best_first) + 1)
    last_of_equals = np.append(best_first[1:] < best_first[:-1], True)
    fits = np.flatnonzero((junk <= most_junk) & last_of_equals)
    return float(best_first[fits[-1]]) if len(fits) else float("inf")

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How much of a pool looks like corrupted copies of it, of which kinds, and how likely each turn is sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
STEPS = 40  # thresholds looked at
LEAST_SEEN = 0.2  # of the copies lie beyond a threshold that counts
TAIL = 0.05  # of the pool, the least sound turns, say which kinds there are at first
ROUNDS = 4
ANY = 0.05  # of the junk is taken to be of all kinds alike
DRAWS = 40


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
        """P(sound | scores) = 1 − share · copies / pool, at least 0."""
        joint = _joint(scores, self.weights, self.shift)
        return np.clip(1 - self.share * np.interp(joint, self.at, self.ratio, left=0.0), 0.0, 1.0)

    def kind(self, scores: Doubles) -> Ints:
        """The kind that each turn resembles most."""
        return np.argmax(scores + self.shift, axis=1)


def junk_kinds(pool: Doubles, copies: Doubles, kinds: Ints, *, seed: int = 0) -> JunkKinds:
    """The largest share of junk that the pool has room for.

        pool = (1 − share) · sound + share · Σ_k weight_k copies_k
        ⇒  share ≤ P_pool(u ≥ c) / P_copies(u ≥ c)  for every c,   u = log Σ_k weight_k copies_k / pool

    The smallest bound counts, with its standard error, among the thresholds that a fifth of the weighted copies pass:
    where copies are most plainly copies. The weights begin with what the least sound 5 % of the pool resemble, and then
    follow from the rows that are probably junk. Kinds that cannot be told from sound rows, and faults that resemble no
    kind, do not count.

    Args:
        pool: turns x kinds, log P(kind) / P(pool) by models that have not seen the turn.
        copies: the same of corrupted copies.
        kinds: the kind of each copy.
        seed: of the resampling that gives the interval.

    Source: the best-bin bound of Garg et al. 2021 (arXiv 2111.00980), with the corrupted copies as the known class.
    """
    many = np.bincount(kinds, minlength=pool.shape[1])
    shift = np.log(len(pool) / np.maximum(many, 1))
    shift[many == 0] = -np.inf
    usual = np.where(many > 0, 1.0 / max(1, int((many > 0).sum())), 0.0)
    with np.errstate(divide="ignore"):
        tail = np.argsort(-_joint(pool, usual, shift), kind="stable")[: max(20, int(TAIL * len(pool)))]
        weights = _mixed(np.bincount(np.argmax(pool[tail] + shift, 1), minlength=len(many)), usual)
        for _ in range(ROUNDS):
            at, ratio, share = _fit(pool, copies, kinds, weights, shift, many)
            found = JunkKinds(share, share, share, weights, shift, at, ratio)
            junk = 1 - found.sound(pool)
            if junk.sum() < 5:
                break
            blame = pool + shift + np.log(weights)
            blame = np.exp(blame - blame.max(1, keepdims=True))
            weights = _mixed((junk[:, None] * blame / blame.sum(1, keepdims=True)).sum(0), usual)
        at, ratio, share = _fit(pool, copies, kinds, weights, shift, many)
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(DRAWS):
            rows, others = rng.integers(len(pool), size=len(pool)), rng.integers(len(copies), size=len(copies))
            drawn.append(_fit(pool[rows], copies[others], kinds[others], weights, shift, many)[2])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return JunkKinds(share, min(float(low), share), max(float(high), share), weights, shift, at, ratio)


def _joint(scores: Doubles, weights: Doubles, shift: Doubles) -> Doubles:
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp.reduce(scores + shift + np.log(weights), axis=1))


def _mixed(found: npt.NDArray[np.generic], usual: Doubles) -> Doubles:
    total = np.asarray(found, np.float64)
    total = np.where(usual > 0, total, 0.0)
    return np.asarray((1 - ANY) * (total / total.sum() if total.sum() else usual) + ANY * usual)


def _fit(
    pool: Doubles, copies: Doubles, kinds: Ints, weights: Doubles, shift: Doubles, many: Ints
) -> tuple[Doubles, Doubles, float]:
    """Joint scores, the densities' ratio there, which rises, and the share."""
    ours = np.sort(_joint(pool, weights, shift))
    theirs = _joint(copies, weights, shift)
    each = (weights / np.maximum(many, 1))[kinds]
    order = np.argsort(theirs, kind="stable")
    theirs, mass = theirs[order], np.cumsum(each[order]) / each.sum()
    count = 1 / float(((each / each.sum()) ** 2).sum())  # copies of equal weight that say as much
    edges = theirs[np.minimum(np.searchsorted(mass, np.linspace(0, 1, STEPS + 1)), len(theirs) - 1)]
    below = np.searchsorted(ours, edges, "left") / len(ours)
    below_copies = np.concatenate([[0.0], mass])[np.searchsorted(theirs, edges, "left")]
    above, above_copies = 1 - below, 1 - below_copies
    seen = above_copies >= LEAST_SEEN
    bound = above[seen] / above_copies[seen]
    error = np.sqrt(np.maximum(above[seen], 1 / len(ours)) / len(ours)) / above_copies[seen]
    error = error + bound * np.sqrt((1 - above_copies[seen]) / above_copies[seen] / count)
    share = float(np.clip(bound[np.argmin(bound + error)], 0.0, 1.0))
    inside = np.maximum(-np.diff(np.append(above, 0.0)), 0.5 / len(ours))
    inside_copies = -np.diff(np.append(above_copies, 0.0))
    at = edges + np.arange(len(edges)) * 1e-9
    return at, _rising(inside_copies / inside), share


def _rising(values: Doubles) -> Doubles:
    """The rising sequence nearest to the values by squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (v, n), (w, m) = blocks[-2], blocks[-1]
            blocks[-2:] = [((v * n + w * m) / (n + m), n + m)]
    return np.concatenate([np.full(n, v) for v, n in blocks])


def cut_for(sound: npt.NDArray[np.floating], most_junk: float) -> float:
    """The lowest probability to keep, so that among the rows from it on the expected share of junk is `most_junk`.

    inf where no row can be kept, which is when even the best one is too likely junk.

    >>> float(cut_for(np.array([1.0, 0.98, 0.9, 0.1]), 0.05))
    0.9
    """
    best_first = -np.sort(-np.asarray(sound, np.float64))
    junk = np.cumsum(1 - best_first) / np.arange(1, len(best_first) + 1)
    fits = np.flatnonzero(junk <= most_junk)
    return float(best_first[fits[-1]]) if len(fits) else float("inf")

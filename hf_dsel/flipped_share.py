# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How many of a pool's preference labels are flipped, and how likely each is, from scores that mirror exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
SLOPES = np.geomspace(0.02, 40.0, 45)  # of the log odds, at the median size of a score
BENDS = np.array([0.5, 0.7, 1.0, 1.4])  # the log odds grow as this power of the score
SHARES = np.linspace(0.0, 0.49, 99)
USUAL = 0.1  # the mean of the share before anything is seen
BINS = 200
STEPS = 129


@dataclass(frozen=True, eq=False)
class FlippedShare:
    """The share of flipped labels, and from scores to the probability that a label is flipped.

    `share`, `low`, `high`: the mean and the 95 % interval. `told`: the share of pairs whose labelled order the score
    agrees with. `at`, `odds`: float64 (steps,), scores, and the probability there; between them it is linear.
    """

    share: float
    low: float
    high: float
    told: float
    at: Doubles
    flipped: Doubles

    def of(self, scores: Doubles) -> Doubles:
        """P(flipped | score), which falls with the score."""
        return np.interp(scores, self.at, self.flipped)


def flipped_share(scores: Doubles) -> FlippedShare:
    """How many labels are flipped, where all that is known is that a mirrored pair has the score with the other sign.

    A share π of the labels is flipped, whatever the pair is. Of the pairs with a score of one size those labelled as
    the score has it are

        P(labelled as it is | s) = π + (1 − 2π) · σ(z(s)),   z(s) = slope · sign(s) · |s|^bend
        P(flipped | s)           = π · σ(−z(s)) / P(labelled as it is | s)

    Hard pairs get rarer the surer the score is; flipped ones do not, and that tells them apart. Where the score is
    never sure, both explain the same pool: then the interval is wide and hardly a pair is more likely flipped than not.
    The share, slope and bend are averaged over a grid, by how well each foretells the pool's labels times a prior:
    exponential with a mean of 10 % for the share, alike for the others.

    Args:
        scores: log odds, or any rising function of them that is odd, by models that have not seen the pair; positive
            where they agree with the label.

    Source: the psychometric function with a lapse rate, Wichmann & Hill 2001, Eq. 1, whose guesses and lapses are both
        π here.
    """
    size = np.abs(scores)
    unit = float(np.median(size)) or 1.0
    size = size / unit
    order = np.argsort(size, kind="stable")
    groups = np.array_split(order, min(BINS, len(order)))
    at = np.array([size[g].mean() for g in groups])
    agree = np.array([(scores[g] > 0).sum() + (scores[g] == 0).sum() / 2 for g in groups])
    many = np.array([len(g) for g in groups], np.float64)
    slopes, bends, shares = (a.ravel() for a in np.meshgrid(SLOPES, BENDS, SHARES, indexing="ij"))
    right = _right(at[None, :] ** bends[:, None] * slopes[:, None])
    p = np.clip(shares[:, None] + (1 - 2 * shares[:, None]) * right, 1e-12, 1 - 1e-12)
    level = np.log(p) @ agree + np.log1p(-p) @ (many - agree) - shares / USUAL
    weight = np.exp(level - level.max())
    weight /= weight.sum()
    by_share = np.array([weight[shares == v].sum() for v in SHARES])
    below = np.cumsum(by_share)
    low, high = (float(SHARES[min(int(np.searchsorted(below, q)), len(SHARES) - 1)]) for q in (0.025, 0.975))
    mean = float(by_share @ SHARES)
    knots = np.quantile(size, np.linspace(0, 1, STEPS // 2 + 1))
    knots = np.unique(np.concatenate([-knots, knots, [-2 * knots[-1], 2 * knots[-1]]]))
    keep = weight > weight.max() * 1e-6
    z = np.sign(knots) * np.abs(knots)[None, :] ** bends[keep, None] * slopes[keep, None]
    pi = shares[keep, None]
    chance = pi * _right(-z) / np.maximum(pi + (1 - 2 * pi) * _right(z), 1e-300)
    flipped = weight[keep] / weight[keep].sum() @ chance
    return FlippedShare(mean, min(low, mean), max(high, mean), float(agree.sum() / len(scores)), knots * unit, flipped)


def _right(z: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))

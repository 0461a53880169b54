"""The share of flipped labels: near the truth over seeds, the average that it says it is, and never a made-up flip."""

import numpy as np
import pytest

from hf_dsel.flipped_share import BENDS, SHARES, SLOPES, USUAL, flipped_share


def scores(n, middle, share, seed):
    """Normal scores, of which a share has the other sign; and which."""
    rng = np.random.default_rng(seed)
    bad = rng.random(n) < share
    right = rng.normal(middle, 1, n)
    return np.where(bad, -right, right), bad


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.25])
def test_near_the_truth_over_seeds(share):
    found, inside = [], 0
    for seed in range(20):
        given, bad = scores(2000, 2.0, share, seed)
        one = flipped_share(given)
        found.append(one.share)
        inside += one.low - 0.005 <= bad.mean() <= one.high
    assert abs(np.mean(found) - share) < 0.02 and inside >= 17


def test_the_average_over_all_that_is_possible():
    """With a bin for each pair, the same as loops over the grid."""
    given, _ = scores(60, 1.0, 0.2, 0)
    one = flipped_share(given)
    unit = np.median(np.abs(given))

    def right(slope, bend, s):
        return 1 / (1 + np.exp(-slope * np.sign(s) * abs(s / unit) ** bend))

    total, mean, chance = 0.0, 0.0, np.zeros(3)
    asked = one.at[[40, 64, 90]]
    for share in SHARES:
        prior = np.exp(-share / USUAL)
        for slope in SLOPES:
            for bend in BENDS:
                p = share + (1 - 2 * share) * right(slope, bend, given)
                weight = prior * np.prod(p)
                total += weight
                mean += weight * share
                there = share + (1 - 2 * share) * right(slope, bend, asked)
                chance += weight * share * right(slope, bend, -asked) / there
    assert one.share == pytest.approx(mean / total, rel=1e-6)
    np.testing.assert_allclose(one.flipped[[40, 64, 90]], chance / total, rtol=1e-3)


def test_the_probability_falls_with_the_score():
    for middle, share in ((0.0, 0.0), (0.5, 0.1), (2.0, 0.3)):
        one = flipped_share(scores(800, middle, share, 1)[0])
        assert (np.diff(one.flipped) <= 1e-12).all() and (one.flipped >= 0).all() and (one.flipped <= 1).all()
        assert one.of(np.array([-1e9]))[0] == one.flipped[0] and one.of(np.array([1e9]))[0] == one.flipped[-1]


@pytest.mark.parametrize("n", [300, 1000, 5000])
def test_scores_that_tell_nothing_drop_nothing(n):
    for seed in range(10):
        given, _ = scores(n, 0.0, 0.2, seed)
        assert (flipped_share(given).of(given) <= 0.5).all()


@pytest.mark.parametrize("middle", [0.4, 0.8, 1.5, 3.0])
def test_hard_pairs_are_not_taken_for_flipped_ones(middle):
    lost = []
    for seed in range(10):
        given, _ = scores(1200, middle, 0.0, seed)
        lost.append((flipped_share(given).of(given) > 0.5).mean())
    assert np.mean(lost) <= 0.005 and max(lost) <= 0.02


def test_scores_that_are_all_zero():
    one = flipped_share(np.zeros(400))
    assert one.told == 0.5 and (one.of(np.zeros(3)) < 0.5).all()

"""The share of junk: near the truth where it can be told, small where there is none, and probabilities that agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import junk_share
from hf_dsel.junk_share import FEWEST_COPIES, JunkKinds, cut_for, junk_kinds

PLACES = 6.0 * np.array([[np.cos(a), np.sin(a)] for a in (0.3, 1.9, 3.6, 5.1)])  # of four kinds, around the sound rows
NOISE = 0.5  # of a classifier that learned from few rows


def logs(points, places, own, prior):
    """log P(kind) / P(pool) by a classifier that knows the densities: unit Gaussians, and the pool as it is."""
    density = np.exp(-((points[:, None] - places) ** 2).sum(-1) / 2)
    pool = own[0] * np.exp(-(points**2).sum(-1) / 2) + density @ own[1:]
    return np.log(prior * np.maximum(density, 1e-12) / np.maximum(pool, 1e-12)[:, None])


def mixture(shares, *, separation=1.0, n=3000, each=400, seed=0):
    """Scores of a pool with these shares of four kinds, which rows are junk, scores of copies, and their kinds."""
    rng = np.random.default_rng(seed)
    places = PLACES * separation
    own = np.concatenate([[1 - sum(shares)], shares])
    label = rng.choice(5, n, p=own)
    middle = np.concatenate([np.zeros((1, 2)), places])
    points = middle[label] + rng.standard_normal((n, 2))
    kinds = np.repeat(np.arange(4), each)
    copies = places[kinds] + rng.standard_normal((len(kinds), 2))
    pool, theirs = (logs(x, places, own, each / n) for x in (points, copies))
    return pool + rng.normal(0, NOISE, pool.shape), label > 0, theirs + rng.normal(0, NOISE, theirs.shape), kinds


# --- the share ---


@pytest.mark.parametrize("total", [0.0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("parts", [(1, 1, 1, 1), (5, 4, 1, 0), (1, 1, 0, 0)])
def test_kinds_that_are_told_are_counted(total, parts):
    """The smallest of noisy bounds is a little too small; the interval says so."""
    shares = total * np.array(parts) / sum(parts)
    pool, bad, copies, kinds = mixture(shares, n=6000, each=800)
    found = junk_kinds(pool, copies, kinds)
    assert -0.2 * total - 0.002 <= found.share - total <= 0.05 * total + 0.01
    assert found.low <= bad.mean() <= found.high
    np.testing.assert_allclose(found.share * found.weights, shares, atol=0.01 + 0.15 * total)


def test_one_kind_alone_can_fill_a_part_of_the_pool():
    pool, _, copies, kinds = mixture(np.array([0.4, 0, 0, 0]))
    assert junk_kinds(pool, copies, kinds).share == pytest.approx(0.4, abs=0.07)
    few = np.arange(len(kinds)) % 8 == 0  # 50 copies of each are too few to say so
    assert junk_kinds(pool, copies[few], kinds[few]).share < 0.1


def test_the_interval_has_the_truth_most_times_and_narrows():
    wide, narrow, inside = [], [], 0
    for seed in range(20):
        pool, bad, copies, kinds = mixture(np.full(4, 0.05), n=500, each=80, seed=seed)
        found = junk_kinds(pool, copies, kinds, seed=seed)
        inside += found.low <= bad.mean() <= found.high
        wide.append(found.high - found.low)
        assert 0 <= found.low <= found.share <= found.high <= 1
    for seed in range(3):
        found = junk_kinds(*[mixture(np.full(4, 0.05), n=8000, each=800, seed=seed)[i] for i in (0, 2, 3)])
        narrow.append(found.high - found.low)
    assert inside >= 16 and np.mean(narrow) < 0.6 * np.mean(wide)


def bound_of(pool, copies, kinds):
    return junk_share._shares(junk_share._specific(pool), junk_share._specific(copies), kinds)[0].sum()


@pytest.mark.parametrize(("total", "n", "each"), [(0.0, 300, 60), (0.02, 300, 60), (0.3, 300, 60), (0.05, 6000, 800)])
def test_a_wide_interval_takes_its_lower_end(total, n, each):
    """In pools of a few hundred rows the bounds of kinds that are hardly told are far too large."""
    taken = 0
    for seed in range(8):
        pool, _, copies, kinds = mixture(np.full(4, total / 4), separation=0.7, n=n, each=each, seed=seed)
        found, bound = junk_kinds(pool, copies, kinds, seed=seed), bound_of(pool, copies, kinds)
        assert found.low <= found.share <= bound <= found.high
        if found.low >= 0.7 * bound:
            assert found.share == pytest.approx(bound)
        if found.low <= 0.5 * bound:
            assert found.share == max(found.low, 0.1 * bound)
            taken += 1
    assert (taken == 0) == (total in (0.3, 0.05)), "few rows, little junk: the lower end; many rows or much junk: not"


@given(st.floats(1e-6, 1), st.floats(0, 1))
def test_the_estimate_moves_without_a_step(bound, part):
    at, near = (junk_share._estimate(bound, bound * x) for x in (part, min(part + 1e-6, 1.0)))
    assert bound * part <= at * (1 + 1e-9) and at <= bound * (1 + 1e-9) and abs(near - at) <= 1e-5 * bound


@pytest.mark.parametrize("separation", [0.2, 0.35, 0.5, 0.7])
def test_the_less_a_kind_is_told_the_larger_its_bound(separation):
    """Which is an upper one: it is not below the truth, and above it where sound rows look like junk everywhere."""
    pool, _, copies, kinds = mixture(np.full(4, 0.05), separation=separation)
    assert junk_kinds(pool, copies, kinds).share >= 0.17
    near, far = (junk_kinds(*[mixture(np.zeros(4), separation=s)[i] for i in (0, 2, 3)]).share for s in (0.2, 1.0))
    assert near > 0.3 > 0.01 > far


def test_a_kind_that_is_not_told_does_not_outnumber_those_that_are():
    pool, _, copies, kinds = mixture(np.array([0.03, 0.03, 0.03, 0.0]))
    rng = np.random.default_rng(1)
    pool[:, 3], copies[:, 3] = rng.normal(-1, 0.3, len(pool)), rng.normal(-1, 0.3, len(copies))  # says nothing
    shares, _ = junk_share._shares(junk_share._specific(pool), junk_share._specific(copies), kinds)
    assert shares[3] <= shares[:3].max() < 0.05
    assert junk_share._bound(np.sort(pool[:, 3]), np.sort(copies[kinds == 3, 3]))[0] > 0.8


def test_a_kind_with_too_few_copies_is_left_out():
    pool, _, copies, kinds = mixture(np.full(4, 0.05))
    few = np.flatnonzero((kinds != 2) | (np.cumsum(kinds == 2) < FEWEST_COPIES))
    found = junk_kinds(pool, copies[few], kinds[few])
    assert found.share * found.weights[2] < 0.005 and found.share == pytest.approx(0.15, abs=0.02)
    none = kinds != 2
    found = junk_kinds(pool, copies[none], kinds[none])
    assert found.weights[2] == 0 and np.isfinite(found.sound(pool)).all() and set(found.kind(pool)) == {0, 1, 3}


def test_the_same_under_a_seed():
    pool, _, copies, kinds = mixture(np.full(4, 0.05), n=400, each=60)
    one, two, other = (junk_kinds(pool, copies, kinds, seed=seed) for seed in (1, 1, 2))
    assert (one.share, one.low, one.high) == (two.share, two.low, two.high)
    assert one.share == other.share and (one.low, one.high) != (other.low, other.high)


# --- the probabilities ---


@pytest.mark.parametrize("total", [0.0, 0.05, 0.3, 0.6])
def test_probabilities_agree_with_how_many_are_sound(total):
    pool, bad, copies, kinds = mixture(np.full(4, total / 4), separation=0.6, n=6000)
    found = junk_kinds(pool, copies, kinds)
    sound = found.sound(pool)
    assert sound.min() >= 0 and sound.max() <= 1 and (np.diff(found.ratio) >= 0).all() and (np.diff(found.at) > 0).all()
    assert sound.mean() == pytest.approx(1 - bad.mean(), abs=0.03 + 0.1 * total)
    for low, high in ((0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        mine = (sound >= low) & (sound < high)
        if mine.sum() > 100:
            assert (1 - bad[mine].mean()) == pytest.approx(sound[mine].mean(), abs=0.15)
    if total:
        assert sound[~bad].mean() > 0.9 - 0.4 * total and sound[bad].mean() < 0.45
        assert (found.kind(pool[bad]) == found.kind(copies)[0]).mean() < 0.5


def test_the_kind_is_that_of_the_junk():
    pool, bad, copies, kinds = mixture(np.array([0.1, 0.05, 0.02, 0.2]))
    found = junk_kinds(pool, copies, kinds)
    assert (found.kind(copies) == kinds).mean() > 0.95
    assert (np.argmax(pool[bad], 1) == found.kind(pool[bad])).mean() > 0.95


# --- parts ---


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.01, 10)), min_size=1, max_size=40))
def test_rising_is_isotonic_regression(pairs):
    isotonic_regression = pytest.importorskip("sklearn.isotonic", reason="pip install scikit-learn").isotonic_regression

    values, weights = np.round(pairs, 6).T
    expected = isotonic_regression(values, sample_weight=weights)
    np.testing.assert_allclose(junk_share._rising(values, weights), expected, atol=1e-9)


def test_the_curve_is_the_densities_ratio():
    rng = np.random.default_rng(0)
    pool, copies, each = rng.normal(0, 1, 20_000), rng.normal(1, 1, 10_000), rng.uniform(0.5, 1.5, 10_000)
    at, ratio = junk_share._curve(pool, copies, each)
    inside = (at > -1.5) & (at < 2.5)
    assert inside.sum() > 25
    np.testing.assert_allclose(ratio[inside], np.exp(at[inside] - 0.5), rtol=0.3)
    assert abs(np.log(ratio[inside] / np.exp(at[inside] - 0.5)).mean()) < 0.03
    at, ratio = junk_share._curve(np.zeros(50), np.zeros(30), np.ones(30))  # all the same
    assert np.interp(0.0, at, ratio) == pytest.approx(1.0)


@settings(max_examples=60)
@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 2**32))
def test_a_kind_against_everything_else(kinds, n, seed):
    odds = np.random.default_rng(seed).gamma(0.5, 1.0, (n, kinds + 1)) + 1e-6
    odds[0, 0] = 1e40  # beside it the others are nothing
    found = junk_share._specific(np.log(odds[:, :-1]) - np.log(odds[:, -1:]))
    for row, mine in zip(odds, found, strict=True):
        for k in range(kinds):
            rest = sum(value for j, value in enumerate(row) if j != k)
            assert mine[k] == pytest.approx(np.log(row[k] / rest), abs=1e-6)


@settings(max_examples=60)
@given(st.integers(20, 60), st.integers(20, 60), st.floats(0, 4), st.integers(0, 2**32))
def test_the_bound_is_one_of_the_ratios(n, m, apart, seed):
    rng = np.random.default_rng(seed)
    pool, copies = np.sort(rng.normal(0, 1, n)), np.sort(rng.normal(apart, 1, m))
    ratios = {1.0}
    for seen in np.linspace(0.2, 0.8, junk_share.THRESHOLDS):
        cut = np.quantile(copies, 1 - seen)
        ratios.add(round(sum(pool >= cut) / n / (sum(copies >= cut) / m), 9))
    found, at_most = junk_share._bound(pool, copies)
    assert round(at_most, 9) == round(sum(pool >= cut) / n / (sum(copies >= cut) / m), 9)
    assert 0 <= found <= 1 and round(found, 9) in ratios


def test_no_junk_and_only_junk():
    rng = np.random.default_rng(0)
    copies, kinds = rng.normal(5, 1, (200, 2)) * [[1, -1]], np.zeros(200, int)
    copies[100:], kinds[100:] = copies[100:, ::-1], 1
    clean = junk_kinds(np.full((300, 2), -20.0) + rng.normal(0, 1, (300, 2)), copies, kinds)
    assert clean.share == clean.low == clean.high == 0 and (clean.sound(copies) == 1).all()
    junk = junk_kinds(copies, copies, kinds)
    assert 0.8 < junk.share <= 1 and junk.high <= 1 and junk.sound(copies).mean() < 0.25
    assert isinstance(junk, JunkKinds)


@settings(max_examples=200)
@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0, 1))
def test_the_cut_is_the_lowest_that_fits(sound, most_junk):
    best = float("inf")
    for cut in sorted(sound, reverse=True):
        kept = [p for p in sorted(sound, reverse=True) if p >= cut]
        if sum(1 - p for p in kept) / len(kept) <= most_junk - 1e-12:
            best = min(best, cut)
    found = cut_for(np.array(sound), most_junk)
    kept = [p for p in sound if p >= found]
    assert found <= best
    assert not kept or sum(1 - p for p in kept) / len(kept) <= most_junk + 1e-9

"""The numbers in a scorer's report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.training.scorer_report import Agreement, ScorerReport, agreements, mean_ranks, spearman

numbers = st.integers(0, 5).map(float)


def slow_ranks(values):
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_spearman_is_pearson_of_the_ranks(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    assert mean_ranks(a).tolist() == slow_ranks(a)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert spearman(a, b) is None
        return
    ra, rb = np.array(slow_ranks(a)), np.array(slow_ranks(b))
    ra, rb = ra - ra.mean(), rb - rb.mean()
    assert spearman(a, b) == pytest.approx((ra @ rb) / np.sqrt((ra @ ra) * (rb @ rb)), abs=1e-9)


def test_spearman_without_ties_by_the_schoolbook():
    a, b = np.array([1.0, 5.0, 2.0, 9.0]), np.array([10.0, 20.0, 30.0, 40.0])
    d = np.array([1, 3, 2, 4]) - np.array([1, 2, 3, 4])
    assert spearman(a, b) == pytest.approx(1 - 6 * (d @ d) / (4 * 15))


def test_exact_and_within_one_round_half_up():
    predicted, scores = np.array([2.5, 3.49, 5.0, 1.2]), np.array([3.0, 3.0, 3.0, 2.0])
    line = Agreement.of("x", predicted, scores, [0, 0, 1, 1])
    assert (line.exact, line.within_one) == (0.5, 0.75)


def test_within_a_sample_is_the_mean_over_samples_that_have_an_order():
    predicted, scores = np.array([1.0, 2.0, 9.0, 8.0, 4.0, 5.0, 6.0]), np.array([1.0, 2.0, 1.0, 2.0, 3.0, 3.0, 1.0])
    assert Agreement.of("x", predicted, scores, list("aabbccd")).within == 0  # +1, -1; c has no order, d one row
    assert Agreement.of("x", predicted[4:], scores[4:], list("ccd")).within is None


def test_the_baselines_learn_from_the_training_rows():
    scorer, length, most = agreements(
        np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0, 1000.0]), [0, 0, 0],
        trained_scores=np.array([2.0, 2.0, 5.0]), trained_lengths=np.array([10.0, 10.0, 10000.0]),
    )  # fmt: skip
    assert (scorer.spearman, scorer.exact) == (1, 1)
    assert (length.spearman, length.exact, length.within_one) == (1, 0, 1)  # 2, 3 and 4: one for each power of ten
    assert (most.spearman, most.exact, most.within_one) == (None, 1 / 3, 1)


def test_texts_of_one_length_leave_the_mean():
    found = agreements(np.array([1.0]), np.array([3.0]), np.array([9.0]), [0], trained_scores=np.array([2.0, 4.0]),
                       trained_lengths=np.array([7.0, 7.0]))  # fmt: skip
    assert found[1].exact == 1 and found[1].spearman is None


def test_the_table():
    line = Agreement("scorer", 0.5, None, 0.25, 1.0)
    report = ScorerReport("quality", 10, 2, 4, 1, (line,))
    text = str(report)
    assert text.splitlines()[0] == "trained on 10 variants of 2 samples; held out: 4 variants of 1 sample"
    assert text.splitlines()[-1].split() == ["scorer", "0.500", "–", "25.0%", "100.0%"]
    assert report["scorer"] == line and str(ScorerReport("quality", 10, 2, 0, 0, ())).endswith("held out: none")
    with pytest.raises(KeyError, match="there are"):
        report["scores"]

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.distinct import distinct
from hf_dsel.metrics.words import word_numbers

texts = st.lists(st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join), min_size=1, max_size=8).filter(any)


def slow(texts, n):
    grams, total = set(), 0
    for text in texts:
        words = text.split()
        total += len(words)
        for i in range(len(words) - n + 1):
            grams.add(tuple(words[i : i + n]))
    return len(grams) / total


@given(texts=texts, n=st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_equals_the_loop(texts, n):
    assert distinct(*word_numbers(texts), n=n) == pytest.approx(slow(texts, n))


@given(texts=texts, n=st.integers(1, 3), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter_and_repeating_every_text_halves_it(texts, n, seed):
    value = distinct(*word_numbers(texts), n=n)
    shuffled = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]
    assert distinct(*word_numbers(shuffled), n=n) == pytest.approx(value)
    assert distinct(*word_numbers(texts + texts), n=n) == pytest.approx(value / 2)
    assert 0 <= value <= 1


def test_many_words_and_long_numbers():
    words = np.arange(100_000) * 10**12
    assert distinct(words, np.array([100_000])) == 1.0
    assert distinct(words, np.array([100_000]), n=3) == pytest.approx(1 - 2e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="no words"):
        distinct(*word_numbers(["", "1"]))
    with pytest.raises(ValueError, match="lengths sum to 3, but there are 2 words"):
        distinct(np.array([0, 1]), np.array([3]))
    with pytest.raises(ValueError, match="n is 0"):
        distinct(np.array([0]), np.array([1]), n=0)

"""TF-IDF beside a loop, and beside scikit-learn on text."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.ops.tf_idf import tf_idf
from hf_dsel.scorers.ngrams import ngram_numbers, words_of

ROWS = st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=12), max_size=8)


def by_loop(rows):
    """term → weight, for every row."""
    df = Counter(term for row in rows for term in set(row))
    found = []
    for row in rows:
        weights = {t: tf * (math.log((1 + len(rows)) / (1 + df[t])) + 1) for t, tf in Counter(row).items()}
        length = math.sqrt(sum(w * w for w in weights.values()))
        found.append({t: w / length for t, w in weights.items()})
    return found


@given(ROWS)
def test_as_a_loop(rows):
    found = tf_idf([np.array(row, np.uint64) for row in rows])
    known = sorted({t for row in rows for t in row})
    assert len(found.starts) == len(rows) + 1 and found.starts[-1] == len(found.terms) == len(found.weights)
    assert found.rows_with.tolist() == [sum(t in row for row in rows) for t in known]
    for i, expected in enumerate(by_loop(rows)):
        at = slice(found.starts[i], found.starts[i + 1])
        mine = {known[t]: w for t, w in zip(found.terms[at], found.weights[at], strict=True)}
        assert mine == pytest.approx(expected, rel=1e-12)


def test_text_as_scikit_learn_weighs_it():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    rng = np.random.default_rng(0)
    words = "the sea is blue and rain falls on 2 of 3 days in Paris".split()
    texts = [" ".join(rng.choice(words, size=rng.integers(1, 20))) for _ in range(60)]
    other = text.TfidfVectorizer(tokenizer=words_of, token_pattern=None, lowercase=False, ngram_range=(1, 3))
    expected = other.fit_transform(texts)
    numbers, text_of = ngram_numbers(texts, 3)
    found = tf_idf([numbers[text_of == i] for i in range(len(texts))])
    assert len(found.rows_with) == expected.shape[1]
    for i in range(len(texts)):
        mine = np.sort(found.weights[found.starts[i] : found.starts[i + 1]])
        np.testing.assert_allclose(mine, np.sort(expected[i].toarray()[0, expected[i].indices]), rtol=1e-12)

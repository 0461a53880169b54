import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.metrics.nearest import largest_cosine


def slow(queries, keys, skip=None):
    """Every pair, one by one, in float64."""
    found = []
    for i, q in enumerate(queries.astype(np.float64)):
        cosines = [
            -np.inf if skip is not None and skip[i] == j else q @ k / (np.linalg.norm(q) * np.linalg.norm(k))
            for j, k in enumerate(keys.astype(np.float64))
        ]
        found.append(max(cosines))
    return np.array(found)


def vectors(n, dim, seed, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block_elements", [1, 7, 100, 1 << 24])
def test_equals_the_loop(dtype, block_elements):
    queries, keys = vectors(23, 5, 0, dtype), vectors(11, 5, 1, dtype)
    found = largest_cosine(queries, keys, block_elements=block_elements)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slow(queries, keys), atol=2e-6)


@given(n=st.integers(2, 30), dim=st.integers(1, 8), block=st.integers(1, 200), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_without_the_row_itself(n, dim, block, seed):
    x = vectors(n, dim, seed)
    found = largest_cosine(x, x, skip=np.arange(n), block_elements=block)
    np.testing.assert_allclose(found, slow(x, x, np.arange(n)), atol=2e-6)
    assert (found >= -1).all() and (found <= 1).all()


def test_length_of_the_vectors_does_not_matter():
    x = vectors(6, 4, 0)
    np.testing.assert_allclose(largest_cosine(x * 1000, x[:2] / 1000), largest_cosine(x, x[:2]), atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_vectors_without_a_cosine_are_refused(bad):
    x = vectors(4, 3, 0)
    x[2] = bad
    with pytest.raises(ValueError, match=r"1 of 4.*\[2\]"):
        largest_cosine(vectors(2, 3, 1), x)
    with pytest.raises(ValueError, match="1 of 4"):
        largest_cosine(x, vectors(2, 3, 1))


def test_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no vectors to compare with"):
        largest_cosine(vectors(2, 3, 0), np.empty((0, 3), np.float32))


@pytest.mark.parametrize("key_block", [1, 4, 11, 100])
def test_keys_in_blocks(key_block):
    x = vectors(23, 5, 0)
    np.testing.assert_allclose(largest_cosine(x[:9], x[9:], key_block=key_block), slow(x[:9], x[9:]), atol=2e-6)
    own = np.arange(23)
    np.testing.assert_allclose(
        largest_cosine(x, x, skip=own, key_block=key_block, block_elements=13), slow(x, x, own), atol=2e-6
    )


def test_a_bad_key_of_a_later_block_is_named():
    x = vectors(9, 3, 0)
    x[7] = 0
    with pytest.raises(ValueError, match=r"of the rows from 5: 1 of 4.*\[2\]"):
        largest_cosine(x[:2], x, key_block=5)

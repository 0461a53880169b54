"""Star groups against a loop over rows and centres."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.ops.star_groups import star_groups


def slow_groups(vectors, order, similarity):
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centres, found = [], []
    for row in order:
        near = [c for c in centres if unit[row] @ unit[c] >= similarity - 1e-12]
        if not near:
            centres.append(row)
        found.append(near[0] if near else row)
    return np.array(found, np.int64)


def clustered(rng, n, dim, spread):
    centres = rng.standard_normal((max(1, n // 6), dim))
    return centres[rng.integers(len(centres), size=n)] + spread * rng.standard_normal((n, dim))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "dim", "block"), [(1, 3, None), (2, 1, 1), (70, 2, 7), (300, 16, None), (300, 16, 3)])
@pytest.mark.parametrize("similarity", [0.3, 0.8, 0.95, 1.0])
def test_as_in_a_loop(dtype, n, dim, block, similarity):
    rng = np.random.default_rng(n + dim)
    vectors = clustered(rng, n, dim, 0.3).astype(dtype)
    vectors[rng.integers(n, size=n // 4)] = vectors[rng.integers(n)]  # and exact copies
    order = rng.permutation(n)[: max(1, 3 * n // 4)]
    found = star_groups(vectors, order=order, similarity=similarity, block=block, device="cpu")
    assert found.tolist() == slow_groups(vectors, order, similarity).tolist()
    tensor = star_groups(torch.from_numpy(vectors), order=order, similarity=similarity, device="cpu")
    assert tensor.tolist() == found.tolist()


def test_many_centres_go_through_the_fast_filter():
    rng = np.random.default_rng(0)
    vectors = clustered(rng, 9000, 24, 0.25).astype(np.float32)
    order = rng.permutation(9000)
    found = star_groups(vectors, order=order, similarity=0.97, device="cpu")
    assert len(np.unique(found)) > 5000 and (found != order).sum() > 300
    assert found.tolist() == _by_matrix(vectors, order, 0.97).tolist()


def _by_matrix(vectors, order, similarity):
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit, found, centres = unit[order], order.copy(), np.zeros(len(order), bool)
    for i in range(len(order)):
        near = np.flatnonzero(centres[:i] & (unit[:i] @ unit[i] >= similarity - 1e-12))
        centres[i] = len(near) == 0
        found[i] = order[near[0]] if len(near) else order[i]
    return found


def test_a_cosine_equal_to_the_threshold_is_near():
    vectors = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])  # cosines 0.6, 0.8, 0
    assert star_groups(vectors, order=np.arange(3), similarity=0.6, device="cpu").tolist() == [0, 0, 2]
    assert star_groups(vectors, order=np.arange(3), similarity=0.600001, device="cpu").tolist() == [0, 1, 1]


def test_a_chain_of_near_rows_is_not_one_group():
    angles = np.deg2rad(np.arange(0, 100, 10))
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = star_groups(vectors, order=np.arange(10), similarity=float(np.cos(np.deg2rad(15))), device="cpu")
    assert found.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 4), st.floats(0.05, 1.0), st.integers(0, 10_000))
def test_every_row_is_near_its_centre_and_centres_are_apart(n, dim, similarity, seed):
    rng = np.random.default_rng(seed)
    vectors = clustered(rng, n, dim, 0.2)
    order = rng.permutation(n)
    found = star_groups(vectors, order=order, similarity=similarity, device="cpu")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, centres = unit @ unit.T, np.unique(found)
    assert all(
        row == centre or cosine[row, centre] >= similarity - 1e-9 for row, centre in zip(order, found, strict=True)
    )
    assert all(cosine[a, b] <= similarity + 1e-9 for a in centres for b in centres if a < b)
    again = star_groups(vectors, order=order[found == order], similarity=similarity, device="cpu")
    assert again.tolist() == order[found == order].tolist()


@pytest.mark.parametrize("similarity", [0, -0.1, 1.01, float("nan")])
def test_similarities_out_of_range(similarity):
    with pytest.raises(ValueError, match="similarity is .* above 0, at most 1"):
        star_groups(np.eye(2), order=np.arange(2), similarity=similarity)


def test_vectors_without_a_direction():
    with pytest.raises(ValueError, match="zero vectors"):
        star_groups(np.zeros((2, 2)), order=np.arange(2), similarity=0.5)

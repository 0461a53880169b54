"""QDIT:Cluster: equal numbers from each cluster by quality."""

from collections import Counter

import numpy as np
import pytest

from hf_dsel import select
from hf_dsel.strategies.qdit_cluster import QditCluster
from tests.strategies.reference import pool_of

RNG = np.random.default_rng(0)


def far_apart(sizes):
    """Well separated clusters of these sizes, so that k-means can only find these."""
    centres = np.eye(len(sizes))
    x = np.concatenate([centres[i] + 0.02 * RNG.standard_normal((n, len(sizes))) for i, n in enumerate(sizes)])
    return x.astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def test_equal_shares_best_first_remainder_to_the_better_and_small_clusters():
    x, truth = far_apart([30, 30, 2, 30])
    quality = RNG.permutation(92).astype(float)
    record = select(pool_of(x, quality=quality), "qdit_cluster", k=21, clusters=4)
    picked = record.indices
    assert sorted(Counter(truth[picked].tolist()).values()) == [2, 6, 6, 7]  # 2 are all the small one has
    for cluster in range(4):
        own = picked[truth[picked] == cluster]
        best = sorted(np.flatnonzero(truth == cluster), key=lambda i: -quality[i])[: len(own)]
        assert own.tolist() == best
    seventh = {c: sorted(quality[truth == c])[-7] for c in (0, 1, 3)}
    assert Counter(truth[picked].tolist())[max(seventh, key=seventh.get)] == 7
    assert len(set(zip(truth[picked], record.why["cluster"], strict=True))) == 4
    assert select(pool_of(x, quality=quality), "qdit_cluster", k=9, clusters=4).indices.tolist() == picked[:9].tolist()


def test_whole_pool_and_seed():
    x, _ = far_apart([5, 7])
    pool = pool_of(x, quality=RNG.random(12))
    assert sorted(select(pool, "qdit_cluster", k=12, clusters=3).indices) == list(range(12))
    assert (
        select(pool, "qdit_cluster", k=6, clusters=3, seed=5).indices.tolist()
        == select(pool, "qdit_cluster", k=6, clusters=3, seed=5).indices.tolist()
    )


def test_bad_numbers_of_clusters():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        QditCluster(clusters=0)
    x, _ = far_apart([5, 7])
    with pytest.raises(ValueError, match="100"):
        select(pool_of(x, quality=np.ones(12)), "qdit_cluster", k=3)

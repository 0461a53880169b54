"""Slow, obvious versions of the algorithms, and pools to try them on."""

import numpy as np
from datasets import Dataset, Features, List, Value


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def pool_of(embeddings, **columns):
    """A dataset with an `embedding` column and further columns of numbers."""
    embeddings = np.asarray(embeddings)
    kind = List(Value(str(embeddings.dtype)), length=embeddings.shape[1])
    features = Features({"embedding": kind, **{n: Value("float64") for n in columns}})
    return Dataset.from_dict({"embedding": list(embeddings), **columns}, features)


def clustered(n, d, seed, dtype="float32", clusters=8, noise=0.3):
    """Points around a few centres, with some exact duplicates."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, d))
    x = centres[rng.integers(clusters, size=n)] + noise * rng.standard_normal((n, d))
    x[rng.integers(n, size=n // 10)] = x[rng.integers(n, size=n // 10)]
    return x.astype(dtype)


def greedy_qdit(embeddings, quality, k, alpha, weight=1.0):
    """Algorithm 1 of QDIT, the whole objective evaluated for every candidate at every step."""
    similarity = unit(embeddings) @ unit(embeddings).T
    picked, gains = [], []
    cover = None
    for _ in range(k):
        best = None
        for a in range(len(similarity)):
            if a in picked:
                continue
            d = similarity[a].sum() if cover is None else np.maximum(cover, similarity[a]).sum() - cover.sum()
            f = (1 - alpha) * weight * d + alpha * quality[a]
            if best is None or f > best[0] + 1e-9:  # ties go to the lower row
                best = (f, a)
        gains.append(best[0])
        picked.append(best[1])
        cover = similarity[best[1]] if cover is None else np.maximum(cover, similarity[best[1]])
    return picked, gains


def best_first_loop(embeddings, score, threshold, k):
    """Algorithm 1 of DEITA, one row at a time against the kept ones."""
    x = unit(embeddings)
    kept = []
    for row in sorted(range(len(x)), key=lambda i: (-score[i], i)):
        if all(np.clip(x[row] @ x[other], -1, 1) <= threshold for other in kept):
            kept.append(row)
        if len(kept) == k:
            break
    return kept

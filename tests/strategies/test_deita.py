"""DEITA and QDIT:Threshold against the plain loop."""

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel import BadColumn, DeitaComplexity, DeitaQuality, Embed, MissingColumn, Shortfall, select, select_by
from hf_dsel.strategies import deita
from hf_dsel.strategies.deita import Deita
from tests.strategies.reference import best_first_loop, clustered, pool_of, unit


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 0.5, 0.9, 0.97, 1.0]), st.data())
@pytest.mark.filterwarnings("ignore::hf_dsel.Shortfall")
def test_same_rows_as_the_loop(n, seed, threshold, data):
    k = data.draw(st.integers(1, n))
    x = clustered(n, 6, seed)
    rng = np.random.default_rng(seed)
    complexity, quality = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, n).astype(float)  # many ties
    pool = pool_of(x, complexity=complexity, quality=quality)
    record = select(pool, "deita", k=k, threshold=threshold)
    assert record.indices.tolist() == best_first_loop(x, complexity * quality, threshold, k)
    np.testing.assert_allclose(record.gains, (complexity * quality)[record.indices])
    assert record.shortfall == k - len(record)
    only_quality = select(pool, "qdit_threshold", k=k, threshold=threshold)
    assert only_quality.indices.tolist() == best_first_loop(x, quality, threshold, k)
    longer = select(pool, "deita", k=n, threshold=threshold).indices.tolist()
    assert longer[: len(record)] == record.indices.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_larger_pools_of_both_widths(dtype):
    x = clustered(1500, 16, 5, dtype)
    score = np.random.default_rng(5).random(1500)
    pool = pool_of(x, complexity=score, quality=np.ones(1500))
    for threshold in (0.5, 0.9):
        record = select(pool, "deita", threshold=threshold)  # no budget: all that pass
        assert record.indices.tolist() == best_first_loop(x, score, threshold, 1500)


def test_similarity_is_to_the_rows_kept_before():
    x = clustered(200, 8, 1)
    record = select(pool_of(x, complexity=np.ones(200), quality=np.random.default_rng(0).random(200)), "deita", k=20)
    kept = unit(x)[record.indices]
    expected = [np.nan, *[max(kept[i] @ kept[j] for j in range(i)) for i in range(1, 20)]]
    np.testing.assert_allclose(record.why["similarity"], expected, atol=1e-5)


def test_equal_to_the_threshold_is_kept_and_the_shortfall_is_said():
    pool = pool_of(np.array([[1, 0], [0.6, 0.8], [0.6, 0.8]], np.float32), complexity=[3, 2, 1], quality=[1, 1, 1])
    with pytest.warns(Shortfall, match="2 of the 3 rows"):
        record = select(
            pool,
            "deita",
            k=3,
            threshold=float(np.float64(np.float32(0.6)) / np.hypot(np.float32(0.6), np.float32(0.8), dtype=np.float64)),
        )
    assert record.indices.tolist() == [0, 1]


def test_exact_duplicates_leave_one():
    x = np.repeat(clustered(5, 4, 0), 4, axis=0)
    with pytest.warns(Shortfall):
        record = select(pool_of(x, complexity=np.ones(20), quality=np.arange(20.0)), "deita", k=20, threshold=0.9999)
    assert record.indices.tolist() == best_first_loop(x, np.arange(20.0), 0.9999, 20)


def test_the_defaults_are_the_papers_models():
    with pytest.raises(MissingColumn, match=r"DeitaComplexity\(\).*DeitaQuality\(\).*Mistral-7B"):
        select(Dataset.from_dict({"text": ["a"]}), "deita", k=1, compute=False)
    with pytest.raises(MissingColumn, match=r"missing: \['mine'\]"):  # no model makes a column of that name
        select(Dataset.from_dict({"text": ["a"]}), "deita", k=1, complexity="mine")


def test_the_embedder_of_a_missing_embedding():
    with pytest.raises(MissingColumn, match="MiniLM"):
        select(pool_of(np.eye(2), complexity=[1, 2], quality=[1, 1]).remove_columns("embedding"), "deita", k=1,
               compute=False, embedder="minilm")  # fmt: skip
    with pytest.raises(ValueError, match="embedder='mini'; it is one of 'last_token', 'minilm'"):
        Deita(embedder="mini")


def test_a_raw_pool_is_scored_with_the_defaults(monkeypatch, tiny_qwen2, tiny_bert):
    """The one call on a raw pool, with small models in the place of the large ones."""
    monkeypatch.setattr(deita, "DeitaComplexity", lambda: DeitaComplexity(tiny_qwen2, template=TEMPLATE))
    monkeypatch.setattr(deita, "DeitaQuality", lambda: DeitaQuality(tiny_qwen2, template=TEMPLATE + " {response}:"))
    monkeypatch.setitem(deita.EMBEDDERS, "minilm", lambda: Embed(tiny_bert, of="example"))
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    pool = Dataset.from_dict({"messages": [talk, talk * 2, talk + talk[:1]]})
    subset = select_by(pool, "deita", k=1, embedder="minilm", threshold=1)
    row = subset[0]
    assert len(row["complexity_turns"]) == len(row["quality_turns"]) == 2
    expected = sum(c * q for c, q in zip(row["complexity_turns"], row["quality_turns"], strict=True))
    assert row["selection_gain"] == pytest.approx(expected, rel=1e-6) and row["messages"] == talk * 2


TEMPLATE = "Score {instruction}:"
TURNS = st.lists(st.one_of(st.none(), st.integers(1, 6).map(float)), min_size=0, max_size=4)


SAME_TURNS = TURNS.flatmap(
    lambda c: st.tuples(st.just(c), st.lists(st.sampled_from([None, 2.0, 5.0]), min_size=len(c), max_size=len(c)))
)


@settings(max_examples=50)
@given(
    rows=st.lists(SAME_TURNS, min_size=1, max_size=12),
    combine=st.sampled_from(["sum", "mean", "min", "max"]),
    view=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::hf_dsel.Shortfall")
def test_conversations_are_combined_over_their_turns(rows, combine, view):
    """The plain loop: turn by turn, a turn without one of the two left out, a row without any turn never kept."""
    how = {"sum": sum, "mean": lambda p: sum(p) / len(p), "min": min, "max": max}[combine]
    if view:
        rows = rows[::-1]
    expected = []
    for i, (complexity, quality) in enumerate(rows):
        products = [c * q for c, q in zip(complexity, quality, strict=True) if c is not None and q is not None]
        if products:
            expected.append((-how(products), i))
    number, numbers = Value("float64"), List(Value("float32"))
    pool = Dataset.from_dict(
        {
            "complexity": [1.0] * len(rows), "quality": [1.0] * len(rows),  # what the turns say wins
            "complexity_turns": [c for c, _ in rows], "quality_turns": [q for _, q in rows],
            "embedding": np.eye(12, dtype=np.float32)[: len(rows)],
        },
        Features({"complexity": number, "quality": number, "complexity_turns": numbers, "quality_turns": numbers,
                  "embedding": List(Value("float32"), length=12)}),
    )  # fmt: skip
    if view:
        pool = pool.select(range(len(rows)))
    record = select(pool, "deita", combine=combine)
    assert record.indices.tolist() == [i for _, i in sorted(expected)]
    np.testing.assert_allclose(record.gains, [-s for s, _ in sorted(expected)], rtol=1e-6)


def test_a_null_row_of_turns_is_not_considered():
    pool = pool_of(np.eye(3, dtype=np.float32), complexity=[1.0, 2.0, 3.0], quality=[1.0, 1.0, 1.0])
    pool = pool.add_column("complexity_turns", [[1.0], [2.0], None], feature=List(Value("float32")))
    assert select(pool, "deita").indices.tolist() == [1, 0]  # one of the two alone: the rows' own numbers, no turns
    pool = pool.add_column("quality_turns", [[1.0], [1.0], [1.0]], feature=List(Value("float32")))
    assert select(pool, "deita").indices.tolist() == [1, 0]


def test_turns_must_go_together():
    pool = pool_of(np.eye(2, dtype=np.float32), complexity=[1.0, 2.0], quality=[1.0, 1.0])
    pool = pool.add_column("complexity_turns", [[1.0, 2.0], [2.0]], feature=List(Value("float32")))
    pool = pool.add_column("quality_turns", [[1.0], [1.0]], feature=List(Value("float32")))
    with pytest.raises(ValueError, match=r"different numbers of turns in 1 rows \(the first: 2 and 1\)"):
        select(pool, "deita")
    with pytest.raises(ValueError, match="combine='product'; it is one of"):
        select(pool, "deita", combine="product")
    pool = pool.remove_columns("quality_turns").add_column("quality_turns", ["a", "b"])
    with pytest.raises(BadColumn, match="one a turn"):
        select(pool, "deita")


def test_permutation_equivariance():
    x, score = clustered(80, 6, 3), np.random.default_rng(3).random(80)
    order = np.random.default_rng(4).permutation(80)
    a = select(pool_of(x, quality=score), "qdit_threshold", threshold=0.8).indices
    b = select(pool_of(x[order], quality=score[order]), "qdit_threshold", threshold=0.8).indices
    assert order[b].tolist() == a.tolist()

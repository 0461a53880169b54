import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

import hf_dsel
from hf_dsel.planning import duration, plan, size
from hf_dsel.scorers import CausalLM, DeitaQuality, Embed, Length


def pool(n=40, dim=None):
    columns = {"instruction": [f"Question {i}" for i in range(n)], "output": ["word " * (1 + i % 7) for i in range(n)]}
    features = {"instruction": Value("string"), "output": Value("string")}
    if dim is not None:
        vectors = np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)
        columns |= {"embedding": vectors.tolist(), "quality": [float(i % 5) for i in range(n)]}
        features |= {"embedding": List(Value("float16"), length=dim), "quality": Value("float32")}
    return Dataset.from_dict(columns, Features(features))


def test_without_timing_nothing_is_loaded():
    class Untouchable(Length):
        def __call__(self, batch):
            raise AssertionError("it was run")

    found = plan(pool(), "top_k", scorers=[Untouchable(of="response")], k=5, column="response_chars", timed=False)
    assert [(w.columns, w.rows, w.seconds) for w in found.work] == [(("response_chars",), 40, None)]
    assert found.seconds is None and found.used == () and found.picks == 5
    assert "about" not in str(found)


def test_what_is_there_is_used_and_what_is_missing_is_computed(tiny_bert):
    found = plan(pool(), scorers=[Embed(tiny_bert)], timed=False)
    assert found.largest is not None and found.largest.shape == (40, 32) and found.largest.bytes == 40 * 32 * 4
    assert str(found.largest) == "embedding (float32): 40 x 32, 5.0 KiB"
    there = plan(pool(dim=8), "deita", k=3, complexity="quality", timed=False)
    assert there.work == () and set(there.used) == {"quality", "embedding"} and there.largest.shape == (40, 8)
    assert "nothing; every column is there" in str(there)


def test_vectors_of_variable_lists_have_a_size_too():
    rows = pool(dim=8).cast_column("embedding", List(Value("float32")))
    assert plan(rows, "qdit", k=3, timed=False).largest.shape == (40, 8)


def test_scorers_of_one_model_are_one_pass(tiny_qwen2):
    both = [hf_dsel.IFD(tiny_qwen2), CausalLM(tiny_qwen2, columns=("entropy",))]
    found = plan(pool(), scorers=both)
    assert [set(w.columns) for w in found.work] == [{"ifd", "entropy"}]
    assert found.work[0].sampled == 40 and 0 < found.seconds < 60
    assert found.largest.name in ("ifd", "entropy") and found.largest.shape == (40,)
    assert f"CausalLM(model={tiny_qwen2!r}, columns=('ifd', 'entropy'))" in str(found)


def test_the_strategy_is_tried_and_its_pairs_are_counted():
    found = plan(pool(600, dim=4), "qdit", k=20, scale="rank")
    assert 0 < found.picking_seconds < 60
    x = np.array(pool(600, dim=4)["embedding"][:], np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    first = hf_dsel.select(pool(600, dim=4), "qdit", k=4, alpha=0).indices
    above = (cosines > cosines[:, first].max(axis=1)[:, None]).sum()
    assert found.largest.name.startswith("pairs") and found.largest.shape[0] == pytest.approx(above, rel=0.05)
    assert "600, read as alpaca (instruction, output)" in str(found) and "20 rows with Qdit(scale='rank')" in str(found)


def test_stand_ins_replace_what_is_not_there_yet(tiny_bert):
    found = plan(
        pool(), "qdit", scorers=[Embed(tiny_bert), Length(of="response", unit="words")], k=5, quality="response_words"
    )
    assert len(found.work) == 2 and found.picking_seconds is not None and found.seconds >= found.picking_seconds


def test_one_value_a_turn_is_no_array(tiny_qwen2):
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    talks = Dataset.from_dict({"messages": [said * (1 + i % 3) for i in range(6)]})
    found = plan(talks, "top_k", scorers=[DeitaQuality(tiny_qwen2)], k=2)
    assert found.work[0].columns == ("quality", "quality_turns") and found.largest.name == "quality"
    assert plan(talks, scorers=[DeitaQuality(tiny_qwen2)], timed=False).largest.name == "quality"


@pytest.mark.parametrize(
    ("options", "error"),
    [({"strategy": "qdit", "k": 99}, hf_dsel.BudgetError), ({"strategy": "random"}, hf_dsel.BudgetError),
     ({"strategy": "qqq", "k": 1}, ValueError), ({"strategy": "qdit", "k": 1, "alpha": 7}, ValueError)],
)  # fmt: skip
def test_bad_requests_are_refused_as_by_select_by(options, error):
    with pytest.raises(error):
        plan(pool(dim=4), **options)


def test_sizes_and_times_for_readers():
    assert [size(n) for n in (0, 1023, 1024, 10 * 1024, 1.5 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "10 KiB",
        "1.5 GiB",
    ]
    assert [duration(s) for s in (0.4, 59, 60, 3599, 90_061)] == [
        "under a second", "about 59 s", "about 1 min 0 s", "about 59 min 59 s", "about 25 h 1 min"
    ]  # fmt: skip


def test_messages_of_all_pairs_are_stated_where_they_are_passed():
    rows = pool(60, dim=4)
    passed = plan(rows, "pibe", k=5, preference="median", iterations=3)
    assert passed.largest.shape == (60, 60) and passed.largest.bytes == 60 * 60 * 4
    for options in ({}, {"preference": "median", "neighbours": 8}):
        assert plan(rows, "pibe", k=5, iterations=3, **options).largest.shape == (60, 4)


def test_what_learns_first_is_announced_and_only_its_embedding_is_timed(tiny_bert):
    pytest.importorskip("lightgbm", reason="pip install lightgbm")
    gate = hf_dsel.Gate(tiny_bert, learn_from=300)
    found = plan(pool(400), "random", scorers=[gate], k=5)
    [work] = found.work
    assert work.columns == ("gate", "gate_reason") and work.rows == 400 and gate.learned is None
    assert str(work.learns) == f"first, from 300 of the 400 rows, with the embedder {tiny_bert}"
    assert 0 < work.seconds < 60 and work.seconds + found.picking_seconds == found.seconds
    assert "of embedding, timed on " in str(found)
    assert found.largest.name == "gate"  # and not the reasons, which are text
    assert "without loading models and without learning gate" in str(found) and "nothing" not in str(found)
    alone = plan(pool(400), scorers=[hf_dsel.Gate(embedder=None)])
    assert alone.work[0].seconds is None and alone.seconds is None
    assert "first, from 400 rows, by text statistics alone" in str(alone) and "time" not in str(alone)
    both = plan(pool(400), scorers=[hf_dsel.Gate(embedder=None), Length()])
    assert both.seconds is not None and "without loading models and without gate" in str(both)
    with pytest.raises(ValueError, match="Gate learns from at least 300 rows, and the dataset has 40; go without"):
        plan(pool(40), scorers=[hf_dsel.Gate(embedder=None)], timed=False)

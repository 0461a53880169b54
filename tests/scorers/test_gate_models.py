"""A gate's models: columns are read where they are right, and an embedder that knows nothing of a pool is refused."""

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel import Gate
from hf_dsel.corruptions import cut_short, other_answer, similar_answer, words_shuffled
from hf_dsel.gate_models import CannotTell
from hf_dsel.gate_rows import TooLittle
from hf_dsel.scorers.causal_lm import CausalLM
from tests.scorers.test_gate import clean

pytest.importorskip("lightgbm", reason="pip install lightgbm")
FEW = (cut_short, other_answer, similar_answer, words_shuffled)  # fewer copies to embed
GEORGIAN = {ord(c): 0x10D0 + i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}


@pytest.fixture(scope="module")
def lm(tiny_qwen2):
    return CausalLM(tiny_qwen2, columns=("nll", "ifd"), dtype="float32", template="plain")


@pytest.fixture(scope="module")
def plain():
    return Dataset.from_list(clean(320))


@pytest.fixture(scope="module")
def learned(plain, lm):
    return Gate.fit(plain, embedder=None, lm=lm, corruptions=FEW)


def test_likelihoods_are_among_the_numbers_and_in_the_file(plain, lm, learned, tmp_path):
    without = Gate.fit(plain, embedder=None, corruptions=FEW)
    widths = [g.learned.judges[0].trees.num_feature() for g in (without, learned)]
    assert widths[1] == widths[0] + 2
    learned.save(tmp_path / "gate.safetensors")
    loaded = Gate.load(tmp_path / "gate.safetensors")
    assert loaded.lm == lm
    np.testing.assert_allclose(loaded(plain[:40])["gate"], learned(plain[:40])["gate"], atol=1e-6)


def test_columns_of_the_lm_are_read_and_looked_at(plain, lm, learned):
    scored = plain.map(lm, batched=True)
    found = Gate.fit(scored, embedder=None, lm=lm, corruptions=FEW)
    said = found._models.likelihoods.known
    for row in scored.select(range(20)):
        assert said[row["instruction"], row["output"]].tolist() == [np.float32(row["nll"]), np.float32(row["ifd"])]
    np.testing.assert_allclose(found(scored[:])["gate"], learned(plain[:])["gate"], atol=0.05)
    shifted = scored.map(lambda row: {"nll": row["nll"] + 1})
    with pytest.raises(ValueError, match=r"the column 'nll' holds .* where the model .* says .* lm="):
        Gate.fit(shifted, embedder=None, lm=lm, corruptions=FEW)


def test_what_was_said_of_a_batch_is_forgotten(plain, learned):
    before = len(learned._models.likelihoods.known)
    assert before == len(plain)
    learned(clean_columns(30, seed=5))
    assert len(learned._models.likelihoods.known) == before


def clean_columns(n, seed):
    rows = clean(n, seed)
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_an_embedder_that_does_not_know_the_script(minilm):
    rows = [{key: text.lower().translate(GEORGIAN) for key, text in row.items()} for row in clean(320)]
    with pytest.raises(CannotTell, match=r"% of the tokens in 320 rows are unknown .* embedder=None"):
        Gate.fit(Dataset.from_list(rows), embedder=minilm)


def test_an_embedder_that_sees_nothing_in_common(minilm):
    rows, rng = clean(320), np.random.default_rng(0)
    answers = [row["output"] for row in rows]
    for share, seen in ((1.0, None), (0.4, "hardly tells")):
        moved = np.flatnonzero(rng.random(320) < share)
        mixed = [dict(row) for row in rows]
        for i, j in zip(moved, rng.permutation(moved), strict=True):
            mixed[i]["output"] = answers[j]
        if seen is None:
            with pytest.raises(CannotTell, match="sees no difference between an answer and the answer to another"):
                Gate.fit(Dataset.from_list(mixed), embedder=minilm, corruptions=FEW)
        else:
            with pytest.warns(UserWarning, match=seen):
                Gate.fit(Dataset.from_list(mixed), embedder=minilm, corruptions=FEW)


def test_texts_that_are_all_alike():
    same = Dataset.from_list(clean(1) * 400)
    with pytest.raises(TooLittle, match="here are 400 of 400, 1 different"):
        Gate.fit(same, embedder=None)
    yes = Dataset.from_list([{"instruction": f"Is {i} even?", "output": "yes" if i % 2 else "no"} for i in range(400)])
    with pytest.raises(TooLittle, match="the 400 answered rows here have only 2 different answers"):
        Gate.fit(yes, embedder=None)
    empty = Dataset.from_list([{"instruction": f"Is {i} even?", "output": " "} for i in range(400)])
    with pytest.raises(TooLittle, match="here are 0 of 400"):
        Gate.fit(empty, embedder=None)


def test_columns_beside_the_text_reach_it_through_score(minilm, tmp_path):
    pool = hf_dsel.score(Dataset.from_list(clean(320)), [hf_dsel.Embed(minilm)], cache_dir=tmp_path / "vectors")
    gate = Gate(minilm, embedding="embedding", corruptions=FEW)
    assert gate.also_reads(pool.column_names) == ["embedding"]
    scored = hf_dsel.score(pool, gate, cache_dir=tmp_path / "gate")
    assert len(hf_dsel.select_by(pool, "random", k=20, gate=gate)) == 20
    assert scored["gate"][:] == gate.fitted(pool)(pool[:])["gate"]
    turned = pool.map(lambda row: {"embedding": [0.99 * x for x in row["embedding"]]}, features=pool.features)
    with pytest.raises(hf_dsel.OtherScores, match="content"):  # other vectors, other scores
        hf_dsel.score(turned, gate, cache_dir=tmp_path / "gate")


def test_nan_in_a_column_is_no_number(plain, lm):
    half = plain.map(lm, batched=True).map(lambda row, i: {"nll": float("nan")} if i % 2 else {}, with_indices=True)
    found = Gate.fit(half, embedder=None, lm=lm, corruptions=FEW)
    numbers = np.stack(list(found._models.likelihoods.known.values()))
    assert np.isfinite(numbers).all() and len(numbers) == len(plain)


def test_vectors_that_are_none(minilm):
    pool = Dataset.from_list(clean(320)).map(hf_dsel.Embed(minilm), batched=True)
    broken = pool.map(
        lambda row, i: {"embedding": [float("nan")] * 384} if i == 300 else {},
        with_indices=True,
        features=pool.features,
    )
    with pytest.raises(ValueError, match="the column 'embedding' has 1 vectors that are NaN"):
        Gate.fit(broken, embedder=minilm, embedding="embedding")


def test_a_file_with_other_models_is_refused(learned, lm, tmp_path):
    learned.save(tmp_path / "gate.safetensors")
    with pytest.raises(ValueError, match="learned with lm=.* and lm=None was given"):
        Gate.load(tmp_path / "gate.safetensors", lm=None)
    with pytest.raises(
        ValueError, match="learned without embedder= and embedder='a/model' was given|without embedder="
    ):
        Gate.load(tmp_path / "gate.safetensors", embedder="a/model")

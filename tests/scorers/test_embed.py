from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value, load_from_disk
from datasets.fingerprint import Hasher
from transformers import AutoModel, AutoTokenizer

from hf_dsel.scorers import CausalLM, Embed, models
from hf_dsel.scorers.pooling import pool

TEXTS = ["Write a poem.", "What is the capital of France? " * 4, "Größe? 🌊", "a", "Explain how rain forms."]
BATCH = {"instruction": TEXTS, "input": [""] * 5, "output": ["The waves.", "Paris.", "groß", "b", "It falls."]}


def slow_vectors(folder, texts, how, *, special_tokens=True):
    """One text at a time, float32, all by hand."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=special_tokens)["input_ids"]])
        with torch.no_grad():
            hidden = model(ids)[0][0].numpy().astype(np.float64)
        weights = np.arange(1, len(hidden) + 1)
        vector = {
            "mean": lambda h, w: h.mean(0),
            "cls": lambda h, w: h[0],
            "last": lambda h, w: h[-1],
            "weighted_mean": lambda h, w: (h * w[:, None]).sum(0) / w.sum(),
        }[how](hidden, weights)
        vectors.append(vector / np.linalg.norm(vector))
    return np.array(vectors)


@pytest.mark.parametrize("how", ["mean", "cls", "last", "weighted_mean"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
@pytest.mark.parametrize("kind", ["tiny_bert", "tiny_qwen2", "tiny_llama"])
def test_equals_the_slow_loop(request, kind, how, batch_tokens):
    folder = request.getfixturevalue(kind)
    got = Embed(folder, pooling=how, store="float32", dtype="float32", batch_tokens=batch_tokens)(BATCH)
    assert got["embedding"].dtype == np.float32 and got["embedding_status"] == ["ok"] * 5
    np.testing.assert_allclose(got["embedding"], slow_vectors(folder, TEXTS, how), atol=2e-6)


@pytest.mark.parametrize("how", ["mean", "cls", "last", "weighted_mean"])
def test_padding_side_does_not_matter(how):
    torch.manual_seed(0)
    hidden = torch.randn(3, 6, 4)
    lengths = [6, 1, 4]
    right = torch.tensor([[1] * n + [0] * (6 - n) for n in lengths])
    left = right.flip(1)
    shifted = torch.stack([torch.cat([hidden[i, n:], hidden[i, :n]]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(pool(hidden, right, how), pool(shifted, left, how))
    alone = torch.cat([pool(hidden[i : i + 1, :n], torch.ones(1, n).long(), how) for i, n in enumerate(lengths)])
    torch.testing.assert_close(pool(hidden, right, how), alone)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_side_does_not_matter(tiny_qwen2, tmp_path, side):
    shutil.copytree(tiny_qwen2, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2, padding_side=side)
    tokenizer.save_pretrained(tmp_path / "model")
    got = Embed(str(tmp_path / "model"), pooling="last", store="float32", dtype="float32")(BATCH)
    np.testing.assert_allclose(got["embedding"], slow_vectors(tiny_qwen2, TEXTS, "last"), atol=2e-6)


def test_the_usual_pooling(tiny_qwen2, tiny_bert):
    exact = {"store": "float32", "dtype": "float32"}
    np.testing.assert_array_equal(
        Embed(tiny_qwen2, **exact)(BATCH)["embedding"], Embed(tiny_qwen2, pooling="last", **exact)(BATCH)["embedding"]
    )
    np.testing.assert_array_equal(
        Embed(tiny_bert, **exact)(BATCH)["embedding"], Embed(tiny_bert, pooling="mean", **exact)(BATCH)["embedding"]
    )


def test_what_is_embedded(tiny_qwen2):
    exact = {"pooling": "mean", "store": "float32", "dtype": "float32"}
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add 1 and 2."},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "And 4?"},
        {"role": "assistant", "content": "The sum is 7."},
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)

    def rendered(messages):
        return tokenizer.apply_chat_template(messages, tokenize=False)

    cases = [
        ({}, ["Add 1 and 2."]),
        ({"turns": "last"}, ["And 4?"]),
        ({"turns": "last", "history": True}, ["Be brief.\nAdd 1 and 2.\n3\nAnd 4?"]),
        ({"turns": "all"}, ["Add 1 and 2.", "And 4?"]),
        ({"of": "response"}, ["3"]),
        ({"of": "response", "turns": "all"}, ["3", "The sum is 7."]),
        ({"of": "example"}, [rendered(conversation)]),
        ({"of": "example", "turns": "first"}, [rendered(conversation[:3])]),
        ({"of": "example", "turns": "last"}, [rendered([conversation[0], *conversation[3:]])]),
        ({"prefix": "query: "}, ["query: Add 1 and 2."]),
    ]
    for options, texts in cases:
        got = Embed(tiny_qwen2, **exact, **options)({"messages": [conversation]})["embedding"]
        special = options.get("of") != "example"
        want = slow_vectors(tiny_qwen2, texts, "mean", special_tokens=special).mean(0)
        np.testing.assert_allclose(got[0], want / np.linalg.norm(want), atol=2e-6, err_msg=str(options))
    text = Embed(tiny_qwen2, **exact)({"text": ["The waves roll in."]})["embedding"]
    np.testing.assert_allclose(text, slow_vectors(tiny_qwen2, ["The waves roll in."], "mean"), atol=2e-6)


def test_long_texts_lose_their_end_and_say_so(tiny_bert):
    long = "the waves roll in " * 200
    got = Embed(tiny_bert, store="float32", dtype="float32")({"prompt": ["short", long]})
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    ids = tokenizer(long)["input_ids"]
    assert got["embedding_status"] == ["ok", f"text cut by {len(ids) - 128} of {len(ids)} tokens"]
    want = slow_vectors(tiny_bert, [tokenizer.decode(ids[:128])], "mean")
    np.testing.assert_allclose(got["embedding"][1:], want, atol=2e-6)


def test_rows_without_a_vector_are_null_with_a_reason(tiny_bert, tmp_path):
    pool_ = Dataset.from_dict({"messages": [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "the waves"}],
        [{"role": "user", "content": " "}, {"role": "assistant", "content": " "}],
        [{"role": "user", "content": "hi"}],
        [],
    ]})  # fmt: skip
    scorer = Embed(tiny_bert, of="response", store="float32")
    scored = pool_.map(scorer, batched=True, features=Features({**pool_.features, **scorer.features()}))
    assert [v is None for v in scored["embedding"]] == [False, True, True, True]
    assert scored["embedding_status"][:] == ["ok", "empty response", "no response", "the conversation is empty"]
    assert Embed(tiny_bert)(pool_[:])["embedding_status"][1] == "empty instruction"
    nothing = Embed(tiny_bert)({"prompt": ["", ""]})
    assert nothing == {"embedding": [None, None], "embedding_status": ["empty instruction"] * 2}


def test_columns_and_widths(tiny_bert):
    models.release()
    scorer = Embed(tiny_bert, column="vector", side="rejected", store="float16")
    assert scorer.features() == {
        "rejected_vector": List(Value("float16"), length=32),
        "rejected_vector_status": Value("string"),
    }
    assert not models._loaded  # read from the config
    pair = {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}
    assert scorer(pair)["rejected_vector"].dtype == np.float16


def test_vectors_as_they_are(tiny_bert):
    raw = Embed(tiny_bert, normalize=False, store="float32", dtype="float32")(BATCH)["embedding"]
    unit = Embed(tiny_bert, store="float32", dtype="float32")(BATCH)["embedding"]
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(raw / lengths, unit, atol=1e-6)


def test_map_caches(tiny_bert, tmp_path):
    Dataset.from_dict(BATCH).save_to_disk(tmp_path / "pool")
    scorer = Embed(tiny_bert)
    before = Hasher.hash(scorer)
    first = load_from_disk(tmp_path / "pool").map(scorer, batched=True)
    assert Hasher.hash(scorer) == before == Hasher.hash(Embed(tiny_bert))
    assert load_from_disk(tmp_path / "pool").map(Embed(tiny_bert), batched=True).cache_files == first.cache_files
    assert scorer.joined(Embed(tiny_bert)) == scorer and scorer.joined(Embed(tiny_bert, of="response")) is None


def test_progress_counts_every_row_once(tiny_bert):
    seen = []
    scorer = Embed(tiny_bert, batch_tokens=20)
    scorer.on_rows = seen.append
    scorer({"prompt": [*TEXTS, "", ""]})
    assert sum(seen) == 7 and len(seen) > 2


def test_a_causal_model_that_is_loaded_is_shared(tiny_qwen2):
    models.release()
    alone = Embed(tiny_qwen2, dtype="float32")(BATCH)["embedding"]
    models.release()
    CausalLM(tiny_qwen2, dtype="float32")(BATCH)
    np.testing.assert_array_equal(Embed(tiny_qwen2, dtype="float32")(BATCH)["embedding"], alone)
    assert len(models._loaded) == 1


def as_sentence_transformer(folder, target, pooling, *, more=(), text=None, prompts=None):
    """A copy of a model with the files that sentence-transformers writes."""
    shutil.copytree(folder, target)
    kinds = ["Transformer", "Pooling", *more]
    modules = [{"idx": i, "path": f"{i}_{k}" if i else "", "type": f"x.models.{k}"} for i, k in enumerate(kinds)]
    (target / "modules.json").write_text(json.dumps(modules))
    (target / "1_Pooling").mkdir()
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (target / "sentence_bert_config.json").write_text(json.dumps(text or {}))
    (target / "config_sentence_transformers.json").write_text(json.dumps(prompts or {}))
    return str(target)


def test_a_checkpoints_own_recipe(tiny_bert, tmp_path):
    exact = {"store": "float32", "dtype": "float32"}
    for i, pooling in enumerate([{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}]):
        folder = as_sentence_transformer(
            tiny_bert, tmp_path / str(i), pooling, more=["Normalize"],
            text={"max_seq_length": 8, "do_lower_case": True},
            prompts={"prompts": {"q": "ask: "}, "default_prompt_name": "q"},
        )  # fmt: skip
        got = Embed(folder, **exact)({"prompt": ["Hi", "HELLO " * 30]})
        want = Embed(tiny_bert, pooling="cls", prefix="ask: ", max_length=8, **exact)({"prompt": ["hi", "hello " * 30]})
        np.testing.assert_array_equal(got["embedding"], want["embedding"])
        assert got["embedding_status"][0] == "ok" and "cut by" in got["embedding_status"][1]


def test_a_recipe_that_is_not_done_here_is_named(tiny_bert, tmp_path):
    cases = [
        ({"pooling_mode": "max"}, [], "the pooling max"),
        ({"pooling_mode": ["mean", "cls"]}, [], r"mean \+ cls"),
        ({"pooling_mode": "mean"}, ["Dense"], "the module Dense"),
        ({"pooling_mode": "mean", "include_prompt": False}, [], "include_prompt"),
    ]
    for i, (pooling, more, text) in enumerate(cases):
        folder = as_sentence_transformer(tiny_bert, tmp_path / str(i), pooling, more=more)
        with pytest.raises(ValueError, match=text):
            Embed(folder)(BATCH)
        assert Embed(folder, pooling="mean")(BATCH)["embedding_status"] == ["ok"] * 5


def test_bad_options_are_named(tiny_bert):
    for options in [{"of": "input"}, {"pooling": "max"}, {"store": "int8"}, {"turns": "middle"}, {"column": ""}]:
        with pytest.raises(ValueError, match=str(next(iter(options.values())) or "empty")):
            Embed(tiny_bert, **options)
    with pytest.raises(ValueError, match="max_length=1000"):
        Embed(tiny_bert, max_length=1000)(BATCH)
    with pytest.raises(models.ModelNotLoaded, match="Check the path"):
        Embed("./no-such-folder").check(["text"])


def test_equals_sentence_transformers(minilm):
    st = pytest.importorskip("sentence_transformers")
    texts = [*TEXTS, "How do I bake bread? " * 80]  # the last one is over MiniLM's 256 tokens
    want = st.SentenceTransformer(minilm, device="cpu").encode(texts, normalize_embeddings=True)
    got = Embed(minilm, store="float32", dtype="float32")({"prompt": texts})
    np.testing.assert_allclose(got["embedding"], want, atol=1e-6)
    assert [s == "ok" for s in got["embedding_status"]] == [True] * 5 + [False]
    half = Embed(minilm)({"prompt": texts})["embedding"].astype(np.float32)
    assert np.min((half * want).sum(1)) > 0.999


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_positions_that_start_after_the_padding_id(family, tiny_sizes, tiny_tokenizer, tmp_path):
    """These models can take pad_token_id + 1 tokens fewer than max_position_embeddings says."""
    import transformers as tf

    tf.set_seed(4)
    config = {"roberta": tf.RobertaConfig, "mpnet": tf.MPNetConfig}[family](
        **{**tiny_sizes, "pad_token_id": 1, "max_position_embeddings": 34}
    )
    model = tf.AutoModel.from_config(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    texts = ["a b c " * 50, "the waves"]
    got = Embed(str(tmp_path), pooling="mean", store="float32", dtype="float32")({"prompt": texts})
    assert got["embedding_status"][0].startswith("text cut by") and got["embedding_status"][1] == "ok"
    np.testing.assert_allclose(got["embedding"][1:], slow_vectors(str(tmp_path), texts[1:], "mean"), atol=2e-6)

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers as tf
from datasets import Dataset, Features, Value, load_from_disk
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_dsel.scorers import IFD, NLL, CausalLM, Perplexity
from hf_dsel.scorers.causal_lm import COLUMNS
from hf_dsel.scorers.models import Checkpoint, ModelNotLoaded

ROWS = [
    ("Write a poem.", "", "The waves roll in and the waves roll out."),
    ("Add the numbers.", "12 and 30", "42"),
    ("What is the capital of France?", "", "The capital of France is Paris. " * 3),
    ("Explain how rain forms " * 30, "", "one sentence"),
    ("Größe? 🌊", "", "Sehr groß – ‘naïve’."),
]
BATCH = {
    "id": list(range(len(ROWS))),
    "instruction": [r[0] for r in ROWS],
    "input": [r[1] for r in ROWS],
    "output": [r[2] for r in ROWS],
}


def token_table(model, ids: list[int], n: int) -> dict[str, torch.Tensor]:
    """Log-probabilities and shape of the distribution at the last n tokens."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    log_p = torch.log_softmax(logits, -1)[len(ids) - n - 1 : -1]
    p = log_p.exp()
    y = torch.tensor(ids[-n:])
    onehot = torch.nn.functional.one_hot(y, p.shape[-1]).float()
    ordered = p.sort(-1, descending=True).values
    return {
        "log_p": log_p[torch.arange(n), y],
        "entropy": -(p * log_p).sum(-1),
        "margin": ordered[:, 0] - ordered[:, 1],
        "least_confidence": 1 - ordered[:, 0],
        "el2n": (p - onehot).norm(dim=-1),
    }


def slow_columns(model, prompt: list[int], response: list[int], start: int, window: int) -> dict[str, float]:
    """Every column of CausalLM for one turn."""
    n = len(response)
    given = token_table(model, prompt[-(window - n) :] + response, n)
    alone = token_table(model, [start, *response], n)
    nll, nll_alone = -given["log_p"].mean().item(), -alone["log_p"].mean().item()
    return {
        "nll": nll,
        "nll_alone": nll_alone,
        "perplexity": math.exp(nll),
        "ifd": nll / nll_alone,
        "ifd_ppl": math.exp(nll) / math.exp(nll_alone),
        "entropy": given["entropy"].mean().item(),
        "margin": given["margin"].mean().item(),
        "min_margin": given["margin"].min().item(),
        "least_confidence": given["least_confidence"].mean().item(),
        "log_confidence": given["log_p"].sum().item(),
        "el2n": given["el2n"].mean().item(),
    }


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(
        folder
    )


def expected(folder, template, window, batch_rows=ROWS):
    model, tokenizer = loaded(folder)
    result = []
    for instruction, more, output in batch_rows:
        user = f"{instruction}\n{more}" if more else instruction
        text = f"{user}\n"
        if template == "chat":
            messages = [{"role": "user", "content": user}]
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        response = tokenizer(output, add_special_tokens=False)["input_ids"]
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        result.append(slow_columns(model, prompt, response, start, window))
    return {name: np.array([row[name] for row in result]) for name in COLUMNS}


def assert_close(got, want, names=COLUMNS, rtol=1e-5):
    for name in names:
        np.testing.assert_allclose(
            np.array(got[name], dtype=np.float64), want[name], rtol=rtol, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("template", ["chat", "plain"])
@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_every_column_equals_the_slow_loop(tiny_qwen2, template, batch_tokens):
    scorer = CausalLM(tiny_qwen2, columns=COLUMNS, template=template, dtype="float32", batch_tokens=batch_tokens)
    got = scorer(BATCH)
    assert list(got) == list(scorer.features())
    assert_close(got, expected(tiny_qwen2, template, 512))
    assert all(status == "ok" for name in COLUMNS for status in got[f"{name}_status"])


def test_with_bos_and_a_small_window(tiny_llama):
    got = CausalLM(tiny_llama, columns=COLUMNS, dtype="float32")(BATCH)  # no chat template: plain
    assert_close(got, expected(tiny_llama, "plain", 64))
    assert got["nll_status"][3].startswith("instruction cut by ")
    assert got["nll_alone_status"][3] == "ok"
    assert [s for i, s in enumerate(got["ifd_status"]) if i != 3] == ["ok"] * 4


def test_a_smaller_window_cuts_the_instruction_and_never_the_response(tiny_qwen2):
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    lengths = [len(tokenizer(r[2])["input_ids"]) for r in ROWS]
    window = max(lengths)  # the longest response alone fills it
    got = CausalLM(tiny_qwen2, columns=COLUMNS, dtype="float32", max_length=window)(BATCH)
    longest = int(np.argmax(lengths))
    assert [v is None for v in got["nll"]] == [i == longest for i in range(len(ROWS))]
    assert got["ifd_status"][longest] == f"the response alone, {window} tokens, does not fit the window of {window}"
    kept = [i for i in range(len(ROWS)) if i != longest]
    want = expected(tiny_qwen2, "chat", window, [ROWS[i] for i in kept])
    assert_close({name: [got[name][i] for i in kept] for name in COLUMNS}, want)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=60), st.text(alphabet="the waves roll é🌊\n", min_size=1, max_size=60)),
        min_size=1, max_size=6,
    ),
    st.integers(1, 300),
)  # fmt: skip
def test_any_text_in_any_batch(tiny_qwen2, pairs, batch_tokens):
    batch = {"prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]}
    got = CausalLM(tiny_qwen2, columns=COLUMNS, dtype="float32", batch_tokens=batch_tokens)(batch)
    want = expected(tiny_qwen2, "chat", 512, [(p, "", c) for p, c in pairs])
    assert_close(got, want, rtol=1e-4)


@pytest.mark.parametrize("family", ["gemma3", "granite", "cohere", "gpt2", "opt", "mixtral", "phi3"])
def test_the_models_own_head_is_used(family, tmp_path, tiny_tokenizer, tiny_sizes):
    """Soft capping, logit scaling and biases of the output layer are the model's."""
    model, tokenizer = _family(family, tiny_sizes), tiny_tokenizer
    model.eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    got = CausalLM(str(tmp_path), columns=COLUMNS, dtype="float32")(BATCH)
    assert_close(got, expected(str(tmp_path), "chat", 512), rtol=1e-4)


def _family(family, common):
    tf.set_seed(3)
    config = {
        "gemma3": lambda: tf.Gemma3TextConfig(
            **common, head_dim=8, num_key_value_heads=2, final_logit_softcapping=2.0, sliding_window=8
        ),
        "granite": lambda: tf.GraniteConfig(**common, logits_scaling=4.0, embedding_multiplier=3.0),
        "cohere": lambda: tf.CohereConfig(**common, logit_scale=0.25),
        "gpt2": lambda: tf.GPT2Config(
            vocab_size=common["vocab_size"], n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3,
            bos_token_id=None, eos_token_id=common["eos_token_id"],
        ),
        "opt": lambda: tf.OPTConfig(
            vocab_size=common["vocab_size"], hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=512, word_embed_proj_dim=32, init_std=0.3, bos_token_id=None,
            eos_token_id=common["eos_token_id"], pad_token_id=common["pad_token_id"],
        ),
        "mixtral": lambda: tf.MixtralConfig(
            **common, num_key_value_heads=2, num_local_experts=4, output_router_logits=False
        ),
        "phi3": lambda: tf.Phi3Config(**common, num_key_value_heads=2),
    }[family]()  # fmt: skip
    return tf.AutoModelForCausalLM.from_config(config)


def test_rows_that_cannot_be_scored_are_null_with_a_reason(tiny_qwen2):
    batch = {
        "messages": [
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}],
            [{"role": "user", "content": "hi"}],
            None,
            [{"role": "robot", "content": "hi"}],
            [],
        ]
    }
    got = CausalLM(tiny_qwen2, columns=COLUMNS)(batch)
    for name in COLUMNS:
        assert [value is None for value in got[name]] == [False, True, True, True, True, True]
        status = got[f"{name}_status"]
        assert status[:3] == ["ok", "empty response", "no response"]
        assert "null" in status[3] and "robot" in status[4] and "empty" in status[5]


def test_a_batch_with_nothing_to_score(tiny_qwen2):
    got = IFD(tiny_qwen2)({"instruction": ["a", "b"], "output": ["", ""]})
    assert got == {"ifd": [None, None], "ifd_status": ["empty response"] * 2}
    assert IFD(tiny_qwen2)({"instruction": [], "output": []}) == {"ifd": [], "ifd_status": []}


def test_plain_text_has_a_loss_and_no_ifd(tiny_llama):
    text = "The capital of France is Paris."
    got = CausalLM(tiny_llama, columns=("nll", "nll_alone", "ifd", "entropy"), dtype="float32")({"text": [text]})
    model, tokenizer = loaded(tiny_llama)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    table = token_table(model, [tokenizer.bos_token_id, *ids], len(ids))
    want = -table["log_p"].mean().item()
    np.testing.assert_allclose([got["nll"][0], got["nll_alone"][0]], want, rtol=1e-5)
    np.testing.assert_allclose(got["entropy"][0], table["entropy"].mean().item(), rtol=1e-5)
    assert got["ifd"] == [None] and got["ifd_status"] == ["no instruction"]


CONVERSATION = [
    {"role": "user", "content": "Add 1 and 2."},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "The sum is 7."},
    {"role": "user", "content": "And 5?"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "Thanks."},
]


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("combine", ["mean", "sum", "min", "max"])
def test_turns_are_combined(tiny_qwen2, history, combine):
    options = {"columns": COLUMNS, "dtype": "float32"}
    got = CausalLM(tiny_qwen2, combine=combine, history=history, **options)({"messages": [CONVERSATION]})
    starts = [0, 2] if not history else [0, 0]
    singles = CausalLM(tiny_qwen2, turns="last", **options)(
        {"messages": [CONVERSATION[start:end] for start, end in zip(starts, [2, 4], strict=True)]}
    )
    how = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}[combine]
    for name in COLUMNS:
        np.testing.assert_allclose(got[name][0], how(np.array(singles[name], dtype=np.float64)), rtol=1e-5)
        assert got[f"{name}_status"] == ["turn 3 of 4 left out: empty response"]
    first = CausalLM(tiny_qwen2, turns="first", history=history, **options)({"messages": [CONVERSATION]})
    assert first["nll"] == pytest.approx(singles["nll"][:1], rel=1e-5) and first["nll_status"] == ["ok"]
    last = CausalLM(tiny_qwen2, turns="last", **options)({"messages": [CONVERSATION]})
    assert last["nll"] == [None] and last["nll_status"] == ["no response"]


def test_both_sides_of_a_pair(tiny_qwen2):
    pair = {"prompt": ["Add 1 and 2."], "chosen": ["The sum is 3."], "rejected": ["Nothing."]}
    chosen, rejected = CausalLM(tiny_qwen2, dtype="float32"), CausalLM(tiny_qwen2, side="rejected", dtype="float32")
    both = CausalLM(tiny_qwen2, dtype="float32")(
        {"prompt": pair["prompt"] * 2, "completion": [pair["chosen"][0], pair["rejected"][0]]}
    )
    assert chosen(pair)["ifd"] == pytest.approx(both["ifd"][:1], rel=1e-5)
    got = rejected(pair)
    assert got["rejected_ifd"] == pytest.approx(both["ifd"][1:], rel=1e-5)
    assert list(got) == list(rejected.features())
    with pytest.raises(ValueError, match="rejected"):
        rejected.check(["instruction", "output"])


def test_bfloat16_is_close(tiny_qwen2):
    exact = CausalLM(tiny_qwen2, columns=COLUMNS, dtype="float32")(BATCH)
    rough = CausalLM(tiny_qwen2, columns=COLUMNS, dtype="bfloat16")(BATCH)
    for name in ("nll", "nll_alone", "ifd", "entropy"):
        np.testing.assert_allclose(rough[name], exact[name], rtol=0.05)


def test_progress_counts_every_row_once(tiny_qwen2):
    seen = []
    scorer = CausalLM(tiny_qwen2, columns=("ifd", "entropy"), batch_tokens=50)
    scorer.on_rows = seen.append
    scorer({"instruction": ["a"] * 7, "output": ["b c d", "", "the waves", "x", "roll", "", "y " * 50]})
    assert sum(seen) == 7 and len(seen) > 2


def test_hash_and_pickle_hold_options_alone(tiny_qwen2):
    scorer = CausalLM(tiny_qwen2, columns=("ifd", "nll"))
    before = Hasher.hash(scorer)
    scorer.on_rows = print
    scorer(BATCH)
    assert Hasher.hash(scorer) == before
    assert Hasher.hash(CausalLM(tiny_qwen2, columns=["nll", "ifd"])) == before  # the order asked for does not matter
    assert Hasher.hash(CausalLM(tiny_qwen2, columns=("nll",))) != before
    code = (
        "from datasets.fingerprint import Hasher; from hf_dsel.scorers import CausalLM;"
        f"print(Hasher.hash(CausalLM({tiny_qwen2!r}, columns=('nll', 'ifd'))))"
    )
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert out.stdout.strip() == before
    copied = pickle.loads(pickle.dumps(scorer))
    assert copied == scorer and copied.on_rows is None


def test_map_caches(tiny_qwen2, tmp_path):
    Dataset.from_dict(BATCH).save_to_disk(tmp_path / "pool")
    pool = load_from_disk(tmp_path / "pool")
    first = pool.map(NLL(tiny_qwen2), batched=True, batch_size=2)
    again = load_from_disk(tmp_path / "pool").map(NLL(tiny_qwen2), batched=True, batch_size=2)
    assert first.cache_files == again.cache_files and first._fingerprint == again._fingerprint
    assert first.features["nll"] == Value("float32")
    assert pool.map(IFD(tiny_qwen2), batched=True).column_names == [*pool.column_names, "ifd", "ifd_status"]


def test_map_with_nulls_and_declared_features(tiny_qwen2):
    scorer = NLL(tiny_qwen2)
    pool = Dataset.from_dict({"prompt": ["a", "b", "c"], "completion": ["", "", "the waves"]})
    scored = pool.map(scorer, batched=True, batch_size=2, features=Features({**pool.features, **scorer.features()}))
    assert scored["nll"][:2] == [None, None] and math.isfinite(scored["nll"][2])


def test_joined(tiny_qwen2):
    both = NLL(tiny_qwen2).joined(IFD(tiny_qwen2))
    assert both == CausalLM(tiny_qwen2, columns=("nll", "ifd"))
    assert NLL(tiny_qwen2).joined(IFD(tiny_qwen2, dtype="float32")) is None
    assert NLL(tiny_qwen2).joined(object()) is None
    assert Perplexity(tiny_qwen2).columns == ("perplexity",)


def test_bad_options_are_named(tiny_qwen2, tiny_bert, tiny_llama):
    for options, text in [
        ({"columns": ("nll", "loss")}, "'loss'"),
        ({"columns": ()}, "empty"),
        ({"combine": "median"}, "'median'"),
        ({"turns": 3}, "turns=3"),
        ({"side": "left"}, "'left'"),
        ({"dtype": "fp8"}, "'fp8'"),
        ({"template": "alpaca"}, "'alpaca'"),
        ({"max_length": 0}, "max_length=0"),
        ({"batch_tokens": 0}, "batch_tokens=0"),
    ]:
        with pytest.raises(ValueError, match=text):
            CausalLM(tiny_qwen2, **options)
    with pytest.raises(TypeError):
        NLL(tiny_qwen2, temperature=1)
    with pytest.raises(ValueError, match=r"max_length=1000.*512"):
        CausalLM(tiny_qwen2, max_length=1000)(BATCH)
    with pytest.raises(ValueError, match="template='chat'"):
        CausalLM(tiny_llama, template="chat")(BATCH)
    with pytest.raises(ModelNotLoaded, match="BertModel"):
        NLL(tiny_bert)(BATCH)


def test_check_looks_at_columns_and_disk(tiny_qwen2, tmp_path):
    NLL(tiny_qwen2).check(["messages"])
    NLL("someone/some-model").check(["messages"])
    with pytest.raises(ValueError, match="no known format"):
        NLL(tiny_qwen2).check(["question"])
    with pytest.raises(ModelNotLoaded, match=r"no-such-folder.*Check the path"):
        NLL(f"{tmp_path}/no-such-folder").check(["messages"])
    with pytest.raises(ModelNotLoaded, match=r"config\.json"):
        NLL(str(tmp_path)).check(["messages"])
    with pytest.raises(ModelNotLoaded, match=r"Q4\.gguf"):
        NLL(f"{tmp_path}/model.Q4.gguf").check(["messages"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotLoaded, match="Next: "):
        NLL(str(tmp_path))(BATCH)


def test_settings_name_what_the_scores_depend_on(tiny_qwen2):
    settings = NLL(tiny_qwen2, batch_tokens=10).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["scorer"] == "CausalLM" and settings["algorithm"] >= 1 and settings["columns"] == ["nll"]
    assert settings["dtype"] in ("bfloat16", "float32")
    assert settings == NLL(tiny_qwen2, batch_tokens=20).settings()


@pytest.mark.slow
def test_a_real_gguf_model(smollm2):
    """SmolLM2 in float32: every column equals the slow loop, and a fitting answer has the smaller loss."""
    rows = [("What is the capital of France?", "", "The capital of France is Paris."),
            ("What is the capital of France?", "", "Bananas grow in a printer.")]  # fmt: skip
    batch = {"instruction": [r[0] for r in rows], "output": [r[2] for r in rows]}
    got = CausalLM(smollm2, columns=COLUMNS, dtype="float32")(batch)
    checkpoint = Checkpoint(smollm2)
    model, tokenizer = checkpoint.load("causal", dtype="float32"), checkpoint.tokenizer()
    for i, (instruction, _, output) in enumerate(rows):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": instruction}], add_generation_prompt=True, tokenize=False
        )
        prompt, response = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (text, output))
        want = slow_columns(model, prompt, response, tokenizer.bos_token_id, 8192)
        for name in COLUMNS:
            np.testing.assert_allclose(got[name][i], want[name], rtol=1e-3, atol=1e-6, err_msg=name)
    assert got["nll"][0] < got["nll"][1]

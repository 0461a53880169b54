from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
import transformers as tf
from datasets import Dataset
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

import hf_dsel
from hf_dsel.scorers import Reward
from hf_dsel.scorers.models import ModelNotLoaded
from tests.tiny_classifiers import CHAT, make_classifier

ROWS = [
    ("Write a poem.", "The waves roll in and the waves roll out."),
    ("Add the numbers.\n12 and 30", "42"),
    ("What is the capital of France?", "The capital of France is Paris. " * 4),
    ("Explain how rain forms " * 8, "one sentence"),
    ("Größe? 🌊", "Sehr groß – ‘naïve’ 1"),
]
BATCH = {"prompt": [r[0] for r in ROWS], "completion": [r[1] for r in ROWS]}
FAMILIES = ["qwen2", "llama", "mistral", "gpt2", "bert", "roberta", "deberta"]
ENCODERS = ["bert", "roberta", "deberta"]


def special(tokenizer, *, pair: bool, bos: bool = False):
    """A copy that puts special tokens around: [CLS] a [SEP] b [SEP] with segments, or BOS in front."""
    made = copy.deepcopy(tokenizer)
    inner = made.backend_tokenizer
    if pair:
        made.sep_token = made.cls_token = "<|im_end|>"
        ids = [("<|im_end|>", made.convert_tokens_to_ids("<|im_end|>"))]
        inner.post_processor = processors.TemplateProcessing(
            single="<|im_end|> $A <|im_end|>", pair="<|im_end|> $A <|im_end|> $B:1 <|im_end|>:1", special_tokens=ids
        )
    if bos:
        made.bos_token = "<|begin|>"
        ids = [("<|begin|>", made.convert_tokens_to_ids("<|begin|>"))]
        inner.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=ids)
    return made


def slow_logits(folder, inputs):
    """The model's logits for one sequence alone."""
    model = tf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for one in inputs:
        with torch.no_grad():
            found.append(model(**{name: torch.tensor([ids]) for name, ids in one.items()}).logits[0].tolist())
    return found


def chat_inputs(folder, rows=ROWS):
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    talks = [[{"role": "user", "content": p}, {"role": "assistant", "content": r}] for p, r in rows]
    return [{"input_ids": tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]} for talk in talks]


def pair_inputs(folder, rows=ROWS):
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    found = [dict(tokenizer(p, r)) for p, r in rows]
    return [{k: v for k, v in one.items() if k != "attention_mask"} for one in found]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory, tiny_tokenizer, tiny_sizes):
    """A function from a family to its folder; decoders have a chat template, encoders a separator and segments."""
    made = {}

    def folder(family):
        if family not in made:
            tokenizer = special(tiny_tokenizer, pair=True) if family in ENCODERS else tiny_tokenizer
            if family in ENCODERS:
                tokenizer.chat_template = None
            where = tmp_path_factory.mktemp(family)
            made[family] = make_classifier(family, tokenizer, tiny_sizes, where)
            if family == "bert":
                file = where / "tokenizer_config.json"
                names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
                file.write_text(json.dumps(json.loads(file.read_text()) | names))
        return made[family]

    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_equals_one_row_at_a_time(family, batch_tokens, classifiers):
    folder = classifiers(family)
    inputs = pair_inputs(folder) if family in ENCODERS else chat_inputs(folder)
    want = [logits[0] for logits in slow_logits(folder, inputs)]
    scorer = Reward(folder, dtype="float32", batch_tokens=batch_tokens)
    got = scorer(BATCH)
    np.testing.assert_allclose(np.array(got["reward"], float), want, atol=1e-4)
    assert np.ptp(want) > 0.01 and got["reward_status"] == ["ok"] * len(ROWS)
    assert list(got) == list(scorer.features()) == ["reward", "reward_status"]


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "llama"])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_without_a_pad_token_the_last_token_is_read(family, padding, tmp_path, tiny_tokenizer, tiny_sizes):
    """Whatever that token is: here it is the tokenizer's pad token, which has the number 0."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT.replace("<|im_end|>\n", "<|im_end|><|pad|>")
    tokenizer.padding_side = padding
    folder = make_classifier(family, tokenizer, tiny_sizes, tmp_path, pad=False)
    inputs = chat_inputs(folder)
    assert {one["input_ids"][-1] for one in inputs} == {tokenizer.pad_token_id} == {0}
    want = [logits[0] for logits in slow_logits(folder, inputs)]
    got = Reward(folder, dtype="float32")(BATCH)
    np.testing.assert_allclose(np.array(got["reward"], float), want, atol=1e-4)


def test_a_pad_token_that_ends_the_text_is_read_as_for_a_row_alone(tmp_path, tiny_tokenizer, tiny_sizes):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT.replace("<|im_end|>\n", "<|im_end|>")
    common = tiny_sizes | {"pad_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>")}
    folder = make_classifier("qwen2", tokenizer, common, tmp_path)
    want = [logits[0] for logits in slow_logits(folder, chat_inputs(folder))]
    np.testing.assert_allclose(np.array(Reward(folder, dtype="float32")(BATCH)["reward"], float), want, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=50), st.text(min_size=1, max_size=50).filter(str.strip)), min_size=1, max_size=5
    ),
    st.integers(1, 400),
)  # fmt: skip
def test_any_text_in_any_batch(classifiers, pairs, batch_tokens):
    batch = {"prompt": [p for p, _ in pairs], "completion": [r for _, r in pairs]}
    for family, inputs in (("qwen2", chat_inputs), ("bert", pair_inputs)):
        folder = classifiers(family)
        want = [logits[0] for logits in slow_logits(folder, inputs(folder, pairs))]
        got = Reward(folder, dtype="float32", batch_tokens=batch_tokens)(batch)
        np.testing.assert_allclose(np.array(got["reward"], float), want, atol=1e-4)


def test_segments_reach_the_model(classifiers):
    """Without them BERT would give another number."""
    folder = classifiers("bert")
    inputs = pair_inputs(folder)
    assert all(set(one["token_type_ids"]) == {0, 1} for one in inputs)
    without = slow_logits(folder, [{"input_ids": one["input_ids"]} for one in inputs])
    got = Reward(folder, dtype="float32")(BATCH)["reward"]
    assert min(abs(a - b[0]) for a, b in zip(got, without, strict=True)) > 1e-3


# --- templates ---


def test_plain_and_pair_texts(classifiers, tmp_path, tiny_tokenizer, tiny_sizes):
    tokenizer = special(tiny_tokenizer, pair=False, bos=True)
    tokenizer.chat_template = None
    folder = make_classifier("llama", tokenizer, tiny_sizes, tmp_path)
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add 1 and 2."}]
    batch = {"prompt": [said], "completion": ["3"]}
    loaded = tf.AutoTokenizer.from_pretrained(folder)
    ids = loaded("Be brief.\nAdd 1 and 2.\n3")["input_ids"]
    assert ids[0] == loaded.bos_token_id
    want = slow_logits(folder, [{"input_ids": ids}])[0][0]
    for template in (None, "plain"):  # no chat template and no separator
        assert Reward(folder, template=template, dtype="float32")(batch)["reward"] == [pytest.approx(want, abs=1e-4)]
    folder = classifiers("bert")
    [one] = pair_inputs(folder, [("Be brief.\nAdd 1 and 2.", "3")])
    want = slow_logits(folder, [one])[0][0]
    for template in (None, "pair"):
        assert Reward(folder, template=template, dtype="float32")(batch)["reward"] == [pytest.approx(want, abs=1e-4)]
    with pytest.raises(ValueError, match="template='chat'"):
        Reward(folder, template="chat")(batch)


def test_plain_text_is_read_alone(classifiers):
    """A classifier of texts, on texts."""
    for family in ("bert", "qwen2"):
        folder = classifiers(family)
        tokenizer = tf.AutoTokenizer.from_pretrained(folder)
        text = "The capital of France is Paris."
        want = slow_logits(folder, [{"input_ids": tokenizer(text)["input_ids"]}])[0][0]
        template = "plain" if family == "qwen2" else None
        assert Reward(folder, template=template, dtype="float32")({"text": [text]})["reward"] == [
            pytest.approx(want, abs=1e-4)
        ]


# --- several labels, and what is no reward model ---


def test_a_label_has_to_be_chosen_among_several(tmp_path, tiny_tokenizer, tiny_sizes):
    folder = make_classifier("qwen2", tiny_tokenizer, tiny_sizes, tmp_path, labels=3)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    names = {"bad": 0, "fair": 1, "good": 2}
    path.write_text(json.dumps(config | {"id2label": {str(i): n for n, i in names.items()}, "label2id": names}))
    want = slow_logits(folder, chat_inputs(folder))
    for label, index in (("good", 2), (1, 1), ("bad", 0)):
        got = Reward(folder, label=label, dtype="float32")(BATCH)
        np.testing.assert_allclose(np.array(got["reward"], float), [w[index] for w in want], atol=1e-4)
    several = r"3 labels.*label=, by name or number: 0 \(bad\), 1 \(fair\), 2 \(good\)"
    for run in (lambda: Reward(folder)(BATCH), lambda: Reward(folder).check(["messages"])):
        with pytest.raises(ValueError, match=several):
            run()
    for label in ("great", 3, -1, True):
        with pytest.raises(ValueError, match=f"label={label!r} is no label.*2 \\(good\\)"):
            Reward(folder, label=label).check(["messages"])


def test_one_label_may_be_named(classifiers):
    folder = classifiers("qwen2")
    assert Reward(folder, label=0)(BATCH) == Reward(folder)(BATCH) == Reward(folder, label="LABEL_0")(BATCH)


def test_a_model_without_a_trained_head_is_refused(tiny_qwen2, tiny_bert):
    """transformers would fill the head with random numbers."""
    for folder in (tiny_qwen2, tiny_bert):
        with pytest.raises(ModelNotLoaded, match=r"no trained classifier: the checkpoint lacks .*(score|classifier)"):
            Reward(folder, label=0)(BATCH)


# --- pairs ---

PAIRS = {
    "prompt": ["Add 1 and 2.", "Add 1 and 2.", "Name a colour.", "Again."],
    "chosen": ["The sum is 3.", "", "The waves.", "The waves roll in."],
    "rejected": ["Nothing.", "Nothing.", " ", "one or two"],
}


def test_both_sides_and_the_margin(classifiers):
    folder = classifiers("qwen2")
    scorer = Reward(folder, side="both", dtype="float32")
    got = scorer(PAIRS)
    names = ["reward", "rejected_reward", "reward_margin"]
    assert list(got) == list(scorer.features()) == [f"{n}{end}" for n in names for end in ("", "_status")]
    for column, answers in (("reward", PAIRS["chosen"]), ("rejected_reward", PAIRS["rejected"])):
        wanted = [i for i, text in enumerate(answers) if text.strip()]
        want = slow_logits(folder, chat_inputs(folder, [(PAIRS["prompt"][i], answers[i]) for i in wanted]))
        assert [i for i, value in enumerate(got[column]) if value is not None] == wanted
        np.testing.assert_allclose([got[column][i] for i in wanted], [w[0] for w in want], atol=1e-4)
    for i in (0, 3):
        assert got["reward_margin"][i] == pytest.approx(got["reward"][i] - got["rejected_reward"][i], abs=1e-5)
    assert got["reward_margin"][1:3] == [None, None]
    status = ["ok", "chosen: empty response", "rejected: empty response", "ok"]
    assert got["reward_margin_status"] == status
    for side, column in (("chosen", "reward"), ("rejected", "rejected_reward")):
        alone = Reward(folder, side=side, dtype="float32")(PAIRS)
        assert list(alone) == [column, f"{column}_status"]
        assert alone[f"{column}_status"] == got[f"{column}_status"]
        assert [v is None for v in alone[column]] == [v is None for v in got[column]]
    for side in ("both", "rejected"):
        with pytest.raises(ValueError, match=f"side='{side}' needs the columns chosen and rejected"):
            Reward(folder, side=side).check(["instruction", "output"])


# --- conversations ---

CONVERSATION = [
    {"role": "user", "content": "Add 1 and 2."}, {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"}, {"role": "assistant", "content": "The sum is 7."},
    {"role": "user", "content": "And 5?"}, {"role": "assistant", "content": ""},
    {"role": "user", "content": "Thanks."},
]  # fmt: skip


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("combine", ["mean", "sum", "min", "max"])
def test_turns_are_combined(classifiers, history, combine):
    folder = classifiers("qwen2")
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    talks = [CONVERSATION[:2], CONVERSATION[0 if history else 2 : 4]]
    inputs = [{"input_ids": tokenizer.apply_chat_template(t, return_dict=True)["input_ids"]} for t in talks]
    want = [logits[0] for logits in slow_logits(folder, inputs)]
    got = Reward(folder, history=history, combine=combine, dtype="float32")({"messages": [CONVERSATION]})
    how = {"mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max}[combine]
    assert got["reward"] == [pytest.approx(how(want), abs=1e-4)]
    assert got["reward_status"] == ["turn 3 of 4 left out: empty response"]
    first = Reward(folder, turns="first", dtype="float32")({"messages": [CONVERSATION]})
    assert first["reward"] == [pytest.approx(want[0], abs=1e-4)]


def test_rows_without_a_reward_say_why(classifiers):
    said = lambda role, text: {"role": role, "content": text}  # noqa: E731
    batch = {"messages": [[said("user", "hi"), said("assistant", "hello")], [said("user", "hi")], None,
                          [said("user", "hi"), said("assistant", " ")], [said("robot", "hi")]]}  # fmt: skip
    got = Reward(classifiers("qwen2"))(batch)
    assert [v is None for v in got["reward"]] == [False, True, True, True, True]
    assert got["reward_status"][:2] + got["reward_status"][3:4] == ["ok", "no response", "empty response"]
    assert "null" in got["reward_status"][2] and "robot" in got["reward_status"][4]
    assert Reward(classifiers("qwen2"))({"prompt": ["hi"]}) == {"reward": [None], "reward_status": ["no response"]}


def test_a_template_that_refuses_a_conversation(tmp_path, tiny_tokenizer, tiny_sizes):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
    )
    folder = make_classifier("qwen2", tokenizer, tiny_sizes, tmp_path)
    talk = CONVERSATION[:2]
    batch = {"messages": [talk, [{"role": "system", "content": "x"}, *talk], talk[::-1][:1] + talk]}
    got = Reward(folder, turns="last", history=True)(batch)
    assert [v is None for v in got["reward"]] == [False, True, False] and "no system" in got["reward_status"][1]


# --- too long ---


@pytest.mark.parametrize("kind", ["chat", "chat and BOS", "plain", "pair"])
@pytest.mark.parametrize("window", [40, 64])
def test_the_prompt_is_cut_at_its_left_and_the_response_never(kind, window, tmp_path, tiny_tokenizer, tiny_sizes):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    if kind != "chat":
        tokenizer = special(tiny_tokenizer, pair=kind == "pair", bos=kind != "pair")
        tokenizer.chat_template = CHAT if kind == "chat and BOS" else None
    folder = make_classifier("bert" if kind == "pair" else "qwen2", tokenizer, tiny_sizes, tmp_path)
    rows = [("Explain how rain forms " * 20, "one sentence"), ("hi", "The waves roll in."), ("hi", "the sky " * 40)]
    inputs = pair_inputs(folder, rows) if kind == "pair" else chat_inputs(folder, rows) if "chat" in kind else None
    if inputs is None:
        inputs = [{"input_ids": tf.AutoTokenizer.from_pretrained(folder)(f"{p}\n{r}")["input_ids"]} for p, r in rows]
    over = len(inputs[0]["input_ids"]) - window
    assert over > 0 >= len(inputs[1]["input_ids"]) - window
    front = 0 if kind == "chat" else 1
    cut = {k: v[:front] + v[front + over :] for k, v in inputs[0].items()}
    assert all(len(v) == window for v in cut.values())
    want = [logits[0] for logits in slow_logits(folder, [cut, inputs[1]])]
    got = Reward(folder, dtype="float32", max_length=window)({"prompt": [r[0] for r in rows],
                                                              "completion": [r[1] for r in rows]})  # fmt: skip
    np.testing.assert_allclose(got["reward"][:2], want, atol=1e-4)
    assert got["reward"][2] is None and f"does not fit the window of {window}" in got["reward_status"][2]
    assert got["reward_status"][0].startswith(f"instruction cut by {over} of ") and got["reward_status"][1] == "ok"


def test_what_a_response_and_its_template_take_is_counted(classifiers):
    """One token of the prompt is the least that stays."""
    folder = classifiers("qwen2")
    prompt, answer = "Explain how rain forms", "The waves roll in and the waves roll out."
    [one] = chat_inputs(folder, [(prompt, answer)])
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    before = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                           return_dict=True)["input_ids"]  # fmt: skip
    rest, batch = len(one["input_ids"]) - len(before), {"prompt": [prompt], "completion": [answer]}
    assert Reward(folder, max_length=rest)(batch)["reward_status"] == [
        f"the response alone, {rest} tokens, does not fit the window of {rest}"
    ]
    got = Reward(folder, max_length=rest + 1)(batch)
    assert got["reward_status"] == [f"instruction cut by {len(before) - 1} of {len(before)} tokens"]
    with pytest.raises(ValueError, match=r"max_length=1000.*512"):
        Reward(folder, max_length=1000)(batch)


# --- the house contract ---


def test_score_writes_the_columns(classifiers, tmp_path):
    pool = Dataset.from_dict(PAIRS)
    made = Reward(classifiers("qwen2"), side="both", dtype="float32")
    scored = hf_dsel.score(pool, made, cache_dir=tmp_path, shard_rows=3)
    assert scored.column_names == [*pool.column_names, *made.features()]
    assert scored["reward_margin"][1:3] == [None, None]
    np.testing.assert_allclose(
        np.array(scored["reward_margin"][:], float), np.array(made(pool[:])["reward_margin"], float), atol=1e-4
    )


def test_hash_pickle_join_progress_and_settings(classifiers):
    folder = classifiers("qwen2")
    scorer, seen = Reward(folder, side="both", batch_tokens=60), []
    before = Hasher.hash(scorer)
    scorer.on_rows = seen.append
    scorer(PAIRS)
    assert sum(seen) == 4 and len(seen) > 1
    assert Hasher.hash(scorer) == before and Hasher.hash(Reward(folder)) != before
    copied = pickle.loads(pickle.dumps(scorer))
    assert copied == scorer and copied.on_rows is None
    assert Reward(folder).joined(Reward(folder)) is not None and Reward(folder).joined(scorer) is None
    found = scorer.settings()
    assert json.loads(json.dumps(found)) == found and found["scorer"] == "Reward" and found["side"] == "both"
    assert found == Reward(folder, side="both").settings()


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"template": "alpaca"}, "'alpaca'.*'chat', 'pair', 'plain', None"), ({"side": "left"}, "'left'.*'both'"),
     ({"combine": "median"}, "'median'"), ({"turns": 3}, "turns=3"), ({"dtype": "fp8"}, "'fp8'"),
     ({"max_length": 0}, "max_length=0"), ({"batch_tokens": 0}, "batch_tokens=0")],
)  # fmt: skip
def test_bad_options_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        Reward("gpt2", **bad)


def test_check_looks_at_columns_and_disk(classifiers, tmp_path):
    Reward(classifiers("qwen2")).check(["messages"])
    Reward("someone/some-model").check(["messages"])
    with pytest.raises(ValueError, match="no known format"):
        Reward(classifiers("qwen2")).check(["question"])
    with pytest.raises(ModelNotLoaded, match="Check the path"):
        Reward(f"{tmp_path}/nowhere").check(["messages"])


def test_bfloat16_is_close(classifiers):
    exact, rough = (Reward(classifiers("qwen2"), dtype=d)(BATCH)["reward"] for d in ("float32", "bfloat16"))
    np.testing.assert_allclose(np.array(rough, float), np.array(exact, float), atol=0.1)


@pytest.mark.slow
def test_a_real_encoder(minilm, tmp_path):
    """A classifier on all-MiniLM-L6-v2 with BERT's own tokenizer, [CLS], [SEP] and segments."""
    tf.set_seed(8)
    model = tf.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=1, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    tf.AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    want = [logits[0] for logits in slow_logits(tmp_path, pair_inputs(tmp_path))]
    got = Reward(str(tmp_path), dtype="float32")(BATCH)
    np.testing.assert_allclose(np.array(got["reward"], float), want, atol=1e-4)

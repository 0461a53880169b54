from __future__ import annotations

import pytest
from datasets import Dataset, Value
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hf_dsel.scorers import Length
from hf_dsel.scorers.models import ModelNotLoaded

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1 and 2."},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "The sum is 7."},
    {"role": "user", "content": "Thanks."},
]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_characters_and_words(pairs):
    batch = {"prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]}
    assert Length(of="instruction")(batch)["instruction_chars"] == [len(p) for p, _ in pairs]
    assert Length(of="response", unit="words")(batch)["response_words"] == [len(c.split()) for _, c in pairs]
    assert Length(of="example")(batch)["example_chars"] == [len(p) + len(c) for p, c in pairs]


def test_tokens(tiny_qwen2):
    texts = ["The waves roll in.", "Größe 🌊", "x"]
    got = Length(of="response", unit="tokens", tokenizer=tiny_qwen2)({"prompt": ["?"] * 3, "completion": texts})
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    assert got["response_tokens"] == [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"of": "instruction"}, 4 + 2 + 1),
        ({"of": "response"}, 1 + 4),
        ({"of": "example"}, 4 + 1 + 2 + 4 + 1),
        ({"of": "response", "combine": "max"}, 4),
        ({"of": "response", "combine": "mean"}, 2.5),
        ({"of": "response", "turns": "first"}, 1),
        ({"of": "response", "turns": "last"}, None),
        ({"of": "instruction", "turns": "last"}, 1),
    ],
)
def test_turns(options, value):
    got = Length(unit="words", **options)({"messages": [CONVERSATION]})
    assert got[f"{options['of']}_words"] == [value]
    assert got[f"{options['of']}_words_status"] == ["no response" if value is None else "ok"]


def test_text_pairs_and_bad_rows():
    assert Length()({"text": ["four"]})["instruction_chars"] == [4]
    assert Length(of="example")({"text": ["four"]})["example_chars"] == [4]
    pair = {"prompt": ["p"], "chosen": ["abc"], "rejected": ["de"]}
    assert Length(of="response", side="rejected")(pair) == {
        "rejected_response_chars": [2], "rejected_response_chars_status": ["ok"]
    }  # fmt: skip
    got = Length(of="response")({"instruction": ["a", None, "c"], "output": ["", "x", None]})
    assert got["response_chars"] == [0, None, None]
    assert got["response_chars_status"] == ["ok", "instruction is null, not a string", "no response"]


def test_map_and_hash():
    pool = Dataset.from_dict({"instruction": ["a"], "output": ["b c"]})
    scored = pool.map(Length(of="response", unit="words"), batched=True)
    assert (
        scored.features["response_words"]
        == Value("int64")
        == Length(of="response", unit="words").features()["response_words"]
    )
    assert Hasher.hash(Length()) == Hasher.hash(Length()) != Hasher.hash(Length(unit="words"))
    assert Length().joined(Length()) == Length() and Length().joined(Length(unit="words")) is None


def test_bad_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="tokenizer="):
        Length(unit="tokens")
    with pytest.raises(ValueError, match="uses no tokenizer"):
        Length(tokenizer="gpt2")
    with pytest.raises(ValueError, match="'lines'"):
        Length(unit="lines")
    with pytest.raises(ValueError, match="'reply'"):
        Length(of="reply")
    with pytest.raises(ValueError, match="no known format"):
        Length().check(["question"])
    with pytest.raises(ModelNotLoaded, match="no-such"):
        Length(unit="tokens", tokenizer=f"{tmp_path}/no-such").check(["text"])

from __future__ import annotations

import pytest
from datasets import Dataset, List, Value
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st

import hf_dsel
from hf_dsel.scorers import NGrams
from hf_dsel.scorers.ngrams import words_of

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1 and 2."},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "And 4?"},
    {"role": "assistant", "content": "The sum is 7."},
]
SHORT = st.text("ab .é1", max_size=12)


def grams(text, longest):
    """The n-grams of a text as tuples of words."""
    words = words_of(text)
    return [tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1)]


@given(st.lists(SHORT, max_size=6), st.integers(1, 4))
def test_equal_ngrams_have_equal_numbers_and_others_do_not(texts, longest):
    batch = {"prompt": [""] * len(texts), "completion": texts}
    found = NGrams(longest=longest)(batch)["response_ngrams"]
    assert [len(row) for row in found] == [len(grams(text, longest)) for text in texts]
    pairs = {(gram, int(number)) for row, text in zip(found, texts, strict=True)
             for gram, number in zip(grams(text, longest), row, strict=True)}  # fmt: skip
    assert len(pairs) == len({gram for gram, _ in pairs}) == len({number for _, number in pairs})


def test_the_numbers_do_not_hang_on_the_batch():
    texts = ["the sea is blue", "two and two", "the sea"]
    whole = NGrams()({"prompt": ["?"] * 3, "completion": texts})["response_ngrams"]
    for text, row in zip(texts, whole, strict=True):
        assert NGrams()({"prompt": ["?"], "completion": [text]})["response_ngrams"][0].tolist() == row.tolist()
    assert whole[2][-1] == 7712553262809998459  # as stored shards of other machines have it


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({}, ["3", "The sum is 7."]),
        ({"turns": "first"}, ["3"]),
        ({"of": "instruction"}, ["Add 1 and 2.", "And 4?"]),
        ({"of": "example", "turns": "last"}, ["And 4?", "The sum is 7."]),
    ],
)
def test_turns_and_parts(options, texts):
    [row] = NGrams(**options)({"messages": [CONVERSATION]})[f"{options.get('of', 'response')}_ngrams"]
    apart = [NGrams()({"prompt": ["?"], "completion": [text]})["response_ngrams"][0].tolist() for text in texts]
    assert sorted(row.tolist()) == sorted(number for row in apart for number in row)


def test_pairs_bad_rows_and_empty_ones():
    pair = {"prompt": ["p"], "chosen": ["a b c"], "rejected": ["de"]}
    found = NGrams(side="rejected")(pair)
    assert len(found["rejected_response_ngrams"][0]) == 1 and found["rejected_response_ngrams_status"] == ["ok"]
    found = NGrams()({"instruction": ["a", None, "c", "d"], "output": ["", "x", None, "🌊!"]})
    assert [row if row is None else len(row) for row in found["response_ngrams"]] == [0, None, None, 0]
    assert found["response_ngrams_status"] == ["ok", "instruction is null, not a string", "no response", "ok"]
    assert NGrams()({"prompt": [], "completion": []}) == {"response_ngrams": [], "response_ngrams_status": []}
    assert len(NGrams()({"prompt": ["?"], "completion": ["\ud800 x"]})["response_ngrams"][0]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Größe: 3.5 km/h", ["größe", "3", "5", "km", "h"]),
        ("x_1 = f(y)", ["x", "1", "f", "y"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("你好，世界", ["你好", "世界"]),
        ("a\u00a0b\u200bc\n", ["a", "b", "c"]),
    ],
)
def test_words_of_other_languages(text, words):
    assert words_of(text) == words


def test_map_score_and_hash(tmp_path):
    pool = Dataset.from_dict({"instruction": ["a", "b"], "output": ["b c", "d"]})
    mapped = pool.map(NGrams(), batched=True)
    scored = hf_dsel.score(pool, NGrams(), cache_dir=tmp_path)
    assert scored.features["response_ngrams"] == List(Value("uint64")) == NGrams().features()["response_ngrams"]
    assert scored["response_ngrams"][:] == [list(row) for row in mapped["response_ngrams"][:]]
    assert [len(row) for row in scored["response_ngrams"]] == [3, 1]
    assert Hasher.hash(NGrams()) == Hasher.hash(NGrams()) != Hasher.hash(NGrams(longest=2))
    assert NGrams().joined(NGrams()) == NGrams() and NGrams().joined(NGrams(of="example")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"of": "reply"}, "'reply'"), ({"longest": 0}, "longest=0"), ({"longest": True}, "longest=True"),
     ({"turns": "some"}, "'some'"), ({"side": "left"}, "'left'")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NGrams(**options)
    with pytest.raises(ValueError, match="no known format"):
        NGrams().check(["question"])

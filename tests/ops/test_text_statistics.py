"""Text statistics: every number against a loop over the characters, and no text knows of its neighbours."""

import itertools
import math
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_dsel.ops import text_statistics as module
from hf_dsel.ops.text_statistics import WINDOW, Familiar, Texts, overlap, text_statistics

STEP, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
SAMPLES = [
    "", " ", "\n", "a", "A", "é", "1", ".", "月", "🙂", "\ud83d", "Hello, world.", "hello WORLD", "ÉTÉ été Straße",
    "月亮绕着地球转。它很亮！", "Да, это так. НЕТ", "def f(a):\n    return [a, {1: 2}]\n", "x" * 300, "ab " * 200,
    "\x00\x07 bad \ufffd", "“quoted” – it’s", "  leading and trailing  ", "a\u00a0b\tc", "هل هذا سؤال؟", "हाँ। नहीं।",
    "İstanbul", "12 34, 12 34, 12 34",
]  # fmt: skip
LISTS = st.lists(
    st.one_of(st.sampled_from(SAMPLES), st.text(max_size=60), st.text(alphabet="ab .", max_size=150)), max_size=6
)
BRIEF = st.one_of(st.sampled_from(SAMPLES), st.text(alphabet="abc é月", max_size=12))


# --- the slow way ---


def class_of(character):
    point, found = ord(character), "else"
    for name, ranges in module._RANGES.items():
        if any(first <= point <= last for first, last in ranges):
            found = name
    return found


def words_of(text):
    words, inside = [], False
    for character in text:
        kind = class_of(character)
        if kind not in module._WORDS:
            inside = False
            continue
        lower = character.lower() if ord(character) < 0x600 and len(character.lower()) == 1 else character
        if kind == "ideograph" or not inside:
            words.append("")
        words[-1] += lower
        inside = kind != "ideograph"
    return words


def pairs_of(items):
    return list(itertools.pairwise(items))


def hashed(word):
    """A word's number, in whole numbers of any size."""
    total = sum((ord(c) + 1) * pow(0x100000001B3, i % 256 + 1, 1 << 64) for i, c in enumerate(word))
    total = total * STEP & MASK
    return (total ^ total >> 32) * STEP & MASK


def slot_of_three(text, i):
    a, b, c = (ord(x) for x in text[i : i + 3])
    return (((a * STEP + b) * STEP + c) * STEP & MASK) >> 44


def slot_of_pair(a, b):
    return (((hashed(a) * STEP & MASK) ^ hashed(b)) * STEP & MASK) >> 44


def threes(text):
    return [slot_of_three(text, i) for i in range(len(text) - 2)]


def mean(values, empty=0.0):
    return sum(values) / len(values) if values else empty


def slow_statistics(text):
    kinds, words = [class_of(c) for c in text], words_of(text)
    of = Counter(kinds)
    n, solid = len(text), [k for k in kinds if k not in ("space", "line")]
    out = {"chars": math.log(1 + n), "words": math.log(1 + len(words))}
    out["word_chars"] = sum(k in module._WORDS for k in kinds) / (len(words) + 1)
    out |= {f"share_{name}": of[name] / max(n, 1) for name in module._NAMES}
    out["unbalanced"] = abs(of["opening"] - of["closing"]) / (1 + of["opening"] + of["closing"])
    out["stops"] = of["stop"] / (len(words) + 1)
    for name in ("stop", "pause", "closing", "quote", "digit", "lower", "mark"):
        out[f"ends_{name}"] = solid[-1:] == [name]
    for name in ("upper", "lower", "digit", "stop", "pause", "closing"):
        out[f"starts_{name}"] = solid[:1] == [name]
    out["ends_blank"] = kinds[-1:] in (["space"], ["line"])
    out["squeezed"] = len(zlib.compress(text[:4000].encode("utf-8", "surrogatepass")[:4000], 1)) / (min(n, 4000) + 20)
    out["distinct_words"] = len(set(words)) / (len(words) + 1)
    out["distinct_pairs"] = (len(set(pairs_of(words))) + 1) / (max(len(words) - 1, 0) + 1)
    out["short_chars"] = max(0, 8 - out["chars"]) ** 2 / 8
    out["short_words"] = max(0, 6 - out["words"]) ** 2 / 6
    return out


def slow_familiar(of, text):
    """The numbers of one text by how often things occur in some texts."""
    grams, words, pairs = Counter(), Counter(), Counter()
    for other in of:
        grams.update(threes(other))
        words.update(hashed(w) >> 44 for w in words_of(other))
        pairs.update(slot_of_pair(a, b) for a, b in pairs_of(words_of(other)))
    level = [math.log((grams[g] + 0.5) / (grams.total() + 1)) for g in threes(text)]
    mine = [words[hashed(w) >> 44] for w in words_of(text)]
    windows = [mean(level[i : i + WINDOW]) for i in range(len(level) - WINDOW + 1)]
    nothing = math.log(0.5 / (grams.total() + 1))
    return [
        mean(level, nothing),
        min(windows) if windows else mean(level, nothing),
        mean([math.log((w + 0.5) / (words.total() + 1)) for w in mine], math.log(0.5 / (words.total() + 1))),
        mean([w < 1 for w in mine], 1.0),
        mean([pairs[slot_of_pair(a, b)] > 0 for a, b in pairs_of(words_of(text))]),
    ]


def shared(of, among):
    """The share of the words of one text that another has."""
    there = set(words_of(among))
    return mean([w in there for w in words_of(of)])


# --- compared ---


@settings(max_examples=150, deadline=None)
@given(texts=LISTS)
@example(texts=[])
@example(texts=[""])
@example(texts=["", "", "a", ""])
@example(texts=SAMPLES)
@example(texts=SAMPLES[::-1])
@example(texts=["x", "y", "z"])
def test_statistics_are_those_of_a_loop(texts):
    found, names = text_statistics(Texts.of(texts), texts)
    assert found.shape == (len(texts), len(names)) and found.dtype == np.float32 and len(set(names)) == len(names)
    for row, text in zip(found, texts, strict=True):
        expected = slow_statistics(text)
        assert list(expected) == list(names)
        np.testing.assert_allclose(
            row, [float(expected[name]) for name in names], rtol=2e-6, atol=1e-7, err_msg=repr(text)
        )


@settings(max_examples=100, deadline=None)
@given(texts=LISTS)
@example(texts=SAMPLES)
@example(texts=["", "a", "", "b c", ""])
def test_words_threes_and_pairs_are_those_of_each_text_alone(texts):
    read = Texts.of(texts)
    assert len(read) == len(texts) and read.words.dtype == np.uint64 and read.starts.dtype == np.int64
    grams, at = read.trigrams()
    pairs, pairs_at = read.word_pairs()
    assert grams.dtype == pairs.dtype == at.dtype == pairs_at.dtype == np.int64
    for i, text in enumerate(texts):
        words = words_of(text)
        assert read.words[read.word_starts[i] : read.word_starts[i + 1]].tolist() == [hashed(w) for w in words]
        assert grams[at[i] : at[i + 1]].tolist() == threes(text)
        assert pairs[pairs_at[i] : pairs_at[i + 1]].tolist() == [slot_of_pair(a, b) for a, b in pairs_of(words)]
    assert at[-1] == len(grams) and pairs_at[-1] == len(pairs) and read.word_starts[-1] == len(read.words)


@settings(max_examples=60, deadline=None)
@given(of=LISTS, texts=LISTS)
@example(of=[], texts=SAMPLES)
@example(of=SAMPLES, texts=SAMPLES)
@example(of=SAMPLES, texts=[])
@example(of=["abc abd"], texts=["abc abd " * 9, "q" * (WINDOW + 1), "q" * (WINDOW + 2), "x" * 60 + "abc abd " * 9])
def test_how_familiar_a_text_is(of, texts):
    found = Familiar.of(Texts.of(of)).of_texts(Texts.of(texts))
    assert found.shape == (len(texts), 5) and found.dtype == np.float32
    for row, text in zip(found, texts, strict=True):
        np.testing.assert_allclose(row, slow_familiar(of, text), rtol=1e-5, atol=1e-6, err_msg=repr(text))


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(BRIEF, BRIEF), max_size=6))
@example(pairs=[])
@example(pairs=[("", ""), ("a b", ""), ("", "a b"), ("a b a", "A c"), ("c", "c")])
def test_overlap_is_that_of_sets(pairs):
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    found = overlap(Texts.of(left), Texts.of(right))
    assert found.shape == (len(pairs), 2)
    expected = [[shared(b, a), shared(a, b)] for a, b in pairs]
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 2)), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(texts=LISTS, before=st.sampled_from(SAMPLES), after=st.sampled_from(SAMPLES))
def test_a_text_is_the_same_between_others(texts, before, after):
    known = Familiar.of(Texts.of(SAMPLES))
    around = [before, *texts, after]
    alone, between = Texts.of(texts), Texts.of(around)
    np.testing.assert_array_equal(text_statistics(alone, texts)[0], text_statistics(between, around)[0][1:-1])
    np.testing.assert_allclose(known.of_texts(alone), known.of_texts(between)[1:-1], rtol=1e-5)
    np.testing.assert_array_equal(overlap(alone, alone), overlap(between, between)[1:-1])


# --- single facts ---


@pytest.mark.parametrize(
    ("characters", "name"),
    [("az", "lower"), ("AZ", "upper"), ("09", "digit"), (" \t\u00a0", "space"), ("\n\r", "line"),
     (".!?。！？।؟…", "stop"), (",;:-、，", "pause"), ("([{", "opening"), (")]}", "closing"), ("'\"`‘’“”", "quote"),
     ("<>&\\/#|_", "mark"), ("+*=%$@^~", "operator"), ("éÀßő", "accented"), ("\u0092©«–—•™", "odd"),
     ("\x00\x1f\x7f\ud800\udfff\ufffd\ue000", "bad"), ("яΩאعह", "other_script"), ("月亮が字", "ideograph"),
     ("한글🙂", "other_script")],
)  # fmt: skip
def test_the_class_of_a_character(characters, name):
    assert {module._NAMES[module._TABLE[ord(c)]] for c in characters} == {name}


def test_words_are_compared_without_case_in_any_alphabet():
    assert len(set(Texts.of(["Straße STRASSE É é Ω ω Д д A a"]).words.tolist())) == 2 + 4
    assert Texts.of(["a b"]).words.tolist() != Texts.of(["b a"]).words.tolist()


def test_many_words_have_numbers_of_their_own():
    words = [f"{a}{b}{c}" for a in "abcdefghijklmnop" for b in "qrstuvwxyzabcdef" for c in range(100)]
    found = Texts.of([" ".join(words)])
    assert len(set(found.words.tolist())) == len(words)
    slots = np.bincount((found.words >> np.uint64(44)).astype(np.int64), minlength=1 << 20)
    assert slots.max() <= 6 and abs((slots > 0).sum() - (1 << 20) * (1 - math.exp(-len(words) / 2**20))) < 300


def test_a_text_of_one_long_word_and_many_texts_keep_whole_numbers():
    texts = ["a" * 5000, *["b c"] * 3000]
    read = Texts.of(texts)
    assert read.words[0] == hashed("a" * 5000)
    assert set(read.words[1:].tolist()) == {hashed("b"), hashed("c")}
    found, names = text_statistics(read, texts)
    assert (found[1:] == found[1]).all() and found[1, names.index("distinct_words")] == np.float32(2 / 3)


def test_other_strings_than_the_texts_are_refused():
    with pytest.raises(ValueError, match="1 texts and 2 strings"):
        text_statistics(Texts.of(["a"]), ["a", "b"])

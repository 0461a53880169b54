"""Texts in other dress have one plain form; texts that say something else have not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.ops.plain_words import plain_words


@pytest.mark.parametrize(
    "texts",
    [
        ("Write a poem.", "write  a\tpoem", "WRITE A POEM!!!", "Please write a poem", "Could you please write a poem?",
         "Hello, can you write a poem, thank you very much in advance!", "write a\n\npoem.\n", "“Write a poem”",
         "Ｗｒｉｔｅ　ａ　ｐｏｅｍ！", "write a\u200b poem\ufeff", "Write a poem …",
         "I would like you to write a poem. Many thanks."),
        ("Sure! Here is the answer: 42", "the answer 42", "Of course. Here's the answer: 42.",
         "Here’s the answer: ４２"),
        ("don't", "don’t", "DONT"),
        ("- milk\n- eggs", "* milk\n* eggs", "milk eggs", "• milk\n• eggs"),
        ("你好，世界。", "你好,世界", "你好 世界！"),
        ("Straße", "STRASSE"),
        ("café", "cafe\u0301"),
        ("ﬁne", "fine"),
        ("¿Qué hora es?", "qué hora es"),
    ],
)  # fmt: skip
def test_the_same_in_other_dress(texts):
    assert len({plain_words(text) for text in texts}) == 1


@pytest.mark.parametrize(
    "texts",
    [
        ("5 - 3", "5 + 3", "5 / 3", "5 * 3", "53"),
        ("3.5", "35", "3,5"),
        ("x != y", "x = y", "x == y"),
        ("a[1:2]", "a[1,2]", "a[12]"),
        ("!x", "x"),
        ("C++", "C", "C#"),
        ("café", "cafe"),
        ("", "?", "Please", "Sure!", "Thanks", "Thank you very much."),
        ("Write a thank you letter", "Write a letter"),
        ("wait...what", "wait what"),
    ],
)
def test_what_says_something_else_stays_apart(texts):
    assert len({plain_words(text) for text in texts}) == len(texts)


@given(st.text())
def test_case_and_spacing_never_matter_and_nothing_readable_becomes_nothing(text):
    form = plain_words(text)
    assert form == " ".join(form.split())
    assert plain_words(f"  {text}\n") == form
    hidden = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e"
    assert bool(form) == any(not c.isspace() for c in text if c not in hidden)


@given(st.text(st.characters(codec="ascii")))
def test_upper_case_is_lower_case(text):
    assert plain_words(text.upper()) == plain_words(text.lower())


@pytest.mark.parametrize(
    "part", ["!", "thanks ", "sure ", "- ", "please ", "\n- ", " ", "é.", "“", "...x", "hi! ", "\ud800", "thank you "]
)
def test_long_odd_texts_take_time_in_proportion(part):
    """No pattern looks at a text once for each of its letters: 300,000 letters would take hours."""
    text = part * (300_000 // len(part)) + "x"
    assert plain_words(text)

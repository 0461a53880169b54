import pytest

from hf_dsel.metrics.words import split_words, word_numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" 12 -- ", []),
        ("A state-of-the-art idea", ["a", "stateoftheart", "idea"]),  # dashes deleted, the halves joined
        ("pages 3\u20135 of B2B", ["pages", "of", "bb"]),  # digits and the en dash deleted
        ("it's, well... fine_print", ["it", "s", "well", "fine", "print"]),  # other punctuation becomes a space
        ("ÉCOLE\nнова\tΣΩ", ["école", "нова", "σω"]),
        ("1 + 1 = $2", []),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are no punctuation
    ],
)
def test_split(text, words):
    assert split_words(text) == words


def test_numbers_give_the_words_back():
    texts = ["b a b", "", "c a"]
    words, lengths = word_numbers(texts)
    assert words.tolist() == [0, 1, 0, 2, 1] and lengths.tolist() == [3, 0, 2]
    assert all(len(a) == 0 for a in word_numbers([]))

"""Corruptions: each is the fault that it says, breaks one answer and nothing else, and is the same under a seed."""

import copy
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hf_dsel import corruptions
from hf_dsel.corruptions import CORRUPTIONS

BY_NAME = {function.__name__: function for function in CORRUPTIONS}
PROSE = (
    "The moon moves around the earth in about 27 days. Its light is that of the sun; the dark part lies in shadow. "
    "Tides rise where it pulls at the sea, and fall again (twice a day). Nobody has been there since 1972."
)
CODE = "def add(a, b):\n    if (a > b):\n        return {a: [b]}\n    total = sum((a, b))\n    return total\nadd(1, 2);"
CHINESE = "月亮大约每二十七天绕地球一周。它的光来自太阳，暗的部分处在阴影之中。潮水因此涨落。"
GERMAN = "Der Mond ist klein und die Erde ist nicht viel größer, aber das ist eine andere Frage. Es gibt viele davon."


class Borrowed:
    """Two fixed rows to borrow from."""

    def __init__(self, far, near):
        self._far, self._near = far, near

    def far(self):
        return self._far

    def near(self):
        return self._near


def talk(*contents, system=None):
    """A conversation, user first."""
    said = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return ([{"role": "system", "content": system}] if system else []) + said


FAR = talk("How is bread made?", "From flour, water, salt and yeast.", "And cake?", "With eggs and sugar, too.")
NEAR = talk("What is the sun made of?", "Of hydrogen and helium.")
OTHERS = Borrowed(FAR, NEAR)
ROW = talk("What does the moon do?", PROSE)


def broken(name, messages, seed, others=OTHERS):
    return BY_NAME[name](messages, others, np.random.default_rng(seed))


def answers(messages):
    return [m["content"] for m in messages if m["role"] == "assistant"]


def every(name, answer=PROSE, asked="What does the moon do?", n=60):
    """The broken answers that come of n seeds, without the seeds for which it does not apply."""
    found = [broken(name, talk(asked, answer), seed) for seed in range(n)]
    return [out[-1]["content"] for out in found if out is not None]


TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet=st.characters(categories=["Cs", "So", "Zs", "Lu", "Cc"]), max_size=40),
    st.text(alphabet="ab .\n", max_size=60),
    st.sampled_from([PROSE, CODE, CHINESE, GERMAN, "", " ", "Yes", "\ud83d", "🙂 🙃", "a b c d e f g"]),
)
CONVERSATIONS = st.one_of(
    st.lists(TEXTS, min_size=2, max_size=6).map(lambda said: talk(*said)),
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": TEXTS}),
        max_size=5,
    ),
)


# --- what holds for all of them ---


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=40, deadline=None)
@given(messages=CONVERSATIONS, far=CONVERSATIONS, near=CONVERSATIONS, seed=st.integers(0, 2**32))
@example(messages=[], far=[], near=[], seed=0)
@example(messages=talk("Q", "..."), far=[], near=[], seed=0)
@example(messages=talk("Q", "word"), far=talk("Q", "word"), near=talk("Q", "word "), seed=0)
def test_one_answer_changes_and_nothing_else(name, messages, far, near, seed):
    others = Borrowed(far, near)
    before = copy.deepcopy((messages, far, near))
    out = broken(name, messages, seed, others)
    assert (messages, far, near) == before
    assert broken(name, messages, seed, others) == out
    if out is None:
        return
    assert [m["role"] for m in out] == [m["role"] for m in messages]
    changed = [i for i, (was, now) in enumerate(zip(messages, out, strict=True)) if was != now]
    assert len(changed) == (2 if name == "turns_swapped" else 1)
    for i in changed:
        assert messages[i]["role"] == "assistant" and isinstance(out[i]["content"], str)
        assert "" != messages[i]["content"].strip() != out[i]["content"].strip()
        assert out[i] is not messages[i]
        assert name == "placeholder" or out[i]["content"].strip()


@pytest.mark.parametrize("name", BY_NAME)
def test_it_applies_to_a_usual_row(name):
    row = {"code_damaged": talk("Add.", CODE), "turns_swapped": FAR}.get(name, ROW)
    found = [broken(name, row, seed) for seed in range(20)]
    assert sum(out is not None for out in found) >= 12
    if name not in ("turns_swapped", "similar_answer"):  # which know only one way here
        assert len({str(out) for out in found}) > 1


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("row", [[], talk("Only a question"), talk("Q", ""), talk("Q", " \n"), talk(system="Be kind.")])
def test_without_an_answer_there_is_nothing_to_break(name, row):
    assert all(broken(name, row, seed) is None for seed in range(10))


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"turns_swapped"}))
def test_each_answer_of_a_conversation_has_its_turn(name):
    row = talk("Q1", f"{CODE} {PROSE} {CODE}", "Q2", f"{PROSE} {CODE} {CODE}", system="Be kind.")
    found = [broken(name, row, seed) for seed in range(40)]
    at = Counter(i for out in found if out for i in range(len(row)) if out[i] != row[i])
    assert set(at) == {2, 4} and min(at.values()) >= 5


def test_the_list_has_every_function_of_the_file():
    made = {
        n for n, f in vars(corruptions).items() if callable(f) and getattr(f, "__module__", "") == corruptions.__name__
    }
    assert set(BY_NAME) == {name for name in made if name.islower() and not name.startswith("_")}
    assert all(function.__doc__ and "\n" not in function.__doc__ for function in CORRUPTIONS)


# --- each is the fault that it says ---


def test_another_answer_is_one_of_the_other_row():
    assert set(every("other_answer")) == set(answers(FAR))
    assert set(every("similar_answer")) == set(answers(NEAR))
    same = Borrowed(ROW, talk("Another question", f" {PROSE}\n"))
    assert broken("other_answer", ROW, 0, same) is None and broken("similar_answer", ROW, 0, same) is None


@pytest.mark.parametrize("answer", [PROSE, CODE, CHINESE, GERMAN])
def test_a_cut_answer_is_the_start_and_stops_within_a_sentence(answer):
    for text in every("cut_short", answer):
        assert answer.startswith(text) and 0.1 * len(answer) <= len(text) <= 0.9 * len(answer)
        assert text[-1] not in ".!?。" and not answer[len(text) :].startswith((".", "。", "\n"))
        assert text == text.rstrip()


@pytest.mark.parametrize("answer", [PROSE, CODE, CHINESE, GERMAN])
def test_an_answer_without_its_start_is_the_rest_and_begins_within_a_sentence(answer):
    for text in every("start_lost", answer):
        lost = answer[: len(answer) - len(text)]
        assert answer.endswith(text) and 0.1 * len(answer) <= len(lost) <= 0.8 * len(answer)
        assert not lost.rstrip(" ").endswith((".", "!", "?", "。", "\n")) and text == text.lstrip()


@pytest.mark.parametrize("name", ["cut_short", "start_lost"])
def test_too_little_to_cut(name):
    assert every(name, "Yes, I do.") == [] and every(name, "1. 2. 3. 4. 5. 6. 7.") == []


def test_repeated_says_some_words_at_least_four_times():
    for text in every("repeated"):
        assert re.search(r"(?:^| )(\S(?:.*?\S)?)(?: \1){3}(?: |$)", text)
        assert set(text.split(" ")) <= set(PROSE.split(" ")) and len(text) > len(PROSE) / 5
    assert every("repeated", "Yes") == [] and all(text.split() != ["a", "b"] for text in every("repeated", "a     b"))


@pytest.mark.parametrize("answer", [PROSE, CODE, GERMAN])
def test_shuffled_words_are_the_same_words_with_the_same_space_between(answer):
    for text in every("words_shuffled", answer):
        assert Counter(text.split()) == Counter(answer.split()) and text.split() != answer.split()
        assert re.findall(r"\s+", text) == re.findall(r"\s+", answer)
    assert every("words_shuffled", "no no no no no no") == [] and every("words_shuffled", "one two three four") == []


def test_damaged_letters_leave_most_letters():
    for text in every("letters_damaged"):
        share = sum((Counter(PROSE) & Counter(text)).values()) / len(PROSE)
        assert 0.5 < share and 0.6 < len(text) / len(PROSE) < 1.6
        assert sum(word in text.split() for word in PROSE.split()) < len(PROSE.split())
    assert every("letters_damaged", "Yes") == []


def test_boilerplate_stands_in_place_of_the_answer_or_around_it():
    known = {*corruptions._REFUSALS, *corruptions._PAGE}
    kinds = set()
    for text in every("boilerplate", n=100):
        kinds.add((text in corruptions._REFUSALS, text.startswith(PROSE), text.endswith(PROSE)))
        rest = text.replace(PROSE, "")
        for piece in known:
            rest = rest.replace(piece, "")
        assert rest.strip() == "" and text != PROSE
    assert kinds == {(True, False, False), (False, False, False), (False, True, False), (False, False, True)}


def test_markup_comes_off_again():
    escaped = {"&lt;": "<", "&gt;": ">", "&#39;": "'", "&quot;": '"', "<br/>": "\n", "&amp;": "&"}
    answer = 'He said "no" & left.\nIsn\'t 3 < 4?'
    seen = set()
    for text in every("markup_left", answer, n=200):
        bare = re.sub(r"</?(?:p|b|span|div|a)(?: [^>]*)?>|\[/?url[^]]*\]|\{\{|\}\}|&nbsp;", "", text)
        if bare != answer:
            bare = text
            for code, character in escaped.items():
                bare = bare.replace(code, character)
        if bare != answer:
            bare = text.replace("\\u2019", "'").replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
        assert bare == answer
        seen.add("<br/>" in text)
    assert seen == {True, False}


def test_a_wrong_encoding_can_be_read_back_or_has_marks_of_loss():
    junk = ("�", "Ã©", "â€™", "Â", "ï¿½", "\x00", "\\x92", "?")
    back = 0
    for text in every("encoding_damaged", "It's a café - “really”, isn't it?"):
        if any(mark in text for mark in ("\x00", "\\x92", "ï¿½", "?")) and "Ã©" not in text:
            assert any(mark in text for mark in junk)
        back += "cafÃ©" in text and "Itâ€™s" in text
    assert back >= 10
    assert len(every("encoding_damaged", "plain words without any accent whatever")) > 30  # the second way is left


@pytest.mark.parametrize(
    ("asked", "answer", "not_in"),
    [("What does the moon do?", PROSE, "That is a good question"), ("Was macht der Mond?", GERMAN, "Das ist eine gute"),
     ("月亮做什么？", CHINESE, "这是一个很好"), ("add(1, 2)", "3", "That is a good question")],
)  # fmt: skip
def test_another_language_is_not_the_question_s(asked, answer, not_in):
    own = next(text for text in corruptions._LANGUAGES if text.startswith(not_in))
    mine = {sentence.strip() for sentence in re.split(r"(?<=[.。।])", own)} - {""}
    found = every("other_language", answer, asked, n=150)
    assert len(found) == 150
    assert not [text for text in found if any(sentence in text for sentence in mine)]
    languages = [t for t in corruptions._LANGUAGES if any(out[-12:] in t for out in found)]
    assert len(languages) >= len(corruptions._LANGUAGES) - 4


def test_the_question_comes_back():
    asked = "What does the moon do?"
    kinds = {text.replace(asked, "Q").replace(PROSE, "A") for text in every("prompt_echoed")}
    assert kinds == {"Q", "Q Q", "Q\nA", "### Instruction:\nQ\n\n### Response:\nA"}
    row = talk("First?", "One.", "Second?", "Two.")
    for seed in range(40):
        out = broken("prompt_echoed", row, seed)
        i = next(i for i in range(len(row)) if row[i] != out[i])
        assert row[i - 1]["content"] in out[i]["content"] and row[(i + 2) % 4 - 1]["content"] not in out[i]["content"]
    assert broken("prompt_echoed", talk(" ", "An answer"), 0) is None


def test_it_goes_on_with_a_question_of_the_other_row():
    for text in every("run_on"):
        assert text.startswith(PROSE) and FAR[0]["content"] in text[len(PROSE) :]
    assert broken("run_on", ROW, 0, Borrowed(talk(" "), [])) is None


def test_a_placeholder_is_short_and_can_be_nothing():
    found = every("placeholder", n=200)
    assert max(map(len, found)) < 30 and "" in found and len(set(found)) > 10


def test_code_loses_characters_and_prose_is_left_alone():
    for text in every("code_damaged", CODE):
        lost = Counter("".join(CODE.split())) - Counter("".join(text.split()))
        assert sum(lost.values()) >= 3 and set(lost) <= set("()[]{}\"'`=+-*/<>;:,")
        assert re.sub(r"\w", "", re.sub(r"\s", "", text)) != re.sub(r"\w", "", re.sub(r"\s", "", CODE))
    assert every("code_damaged", PROSE) == [] and every("code_damaged", f"{PROSE} {PROSE} {PROSE} (a) (b) (c)") == []


def test_swapped_answers_are_the_same_answers():
    row = talk("Q1", "A1", "Q2", "A2", "Q3", "A3", "Q4", "", system="Be kind.")
    seen = set()
    for seed in range(60):
        out = broken("turns_swapped", row, seed)
        assert Counter(answers(out)) == Counter(answers(row)) and answers(out)[3] == ""
        seen.add(tuple(answers(out)))
    assert len(seen) == 3
    assert broken("turns_swapped", talk("Q1", "same", "Q2", "same "), 0) is None
    assert broken("turns_swapped", ROW, 0) is None

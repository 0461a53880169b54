# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Faults of real pools, made on purpose: each function breaks one row in one way, so that a classifier can learn it.

A corruption takes the messages of a sound row, `others` (rows to borrow from) and a numpy generator, and returns broken
messages, or None where the fault cannot happen to this row. It changes what the assistant says and leaves the rest.
Your own is any function of that form.

Chosen and rejected flipped is a fault of a preference pair, not of an answer: `hf_dsel.flipped_pairs.flipped` makes it,
and `hf_dsel.FlippedLabels` finds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

Messages = list[dict[str, str]]


class Others(Protocol):
    """Rows to borrow from: another one of the pool, anywhere or with a similar instruction."""

    def far(self) -> Messages:
        """The messages of any other row."""

    def near(self) -> Messages:
        """The messages of a row whose instruction is among the most similar ones."""


Corruption = Callable[[Messages, Others, np.random.Generator], Messages | None]


def other_answer(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The answer to another question: columns that slipped by a row, a join on the wrong key."""
    return _changed(messages, rng, lambda answer: _another(answer, _an_answer(others.far(), rng)))


def similar_answer(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The answer to a question on the same subject: a cache hit that was none, a near duplicate merged wrongly."""
    return _changed(messages, rng, lambda answer: _another(answer, _an_answer(others.near(), rng)))


# a word, or one character of a script that puts no spaces between words
_PIECE = re.compile(
    r"[\u2e80-\ud7ff\uf900-\ufaff\U00010000-\U0010ffff]|[^\s\u2e80-\ud7ff\uf900-\ufaff\U00010000-\U0010ffff]+"
)
_STOPS = ".!?…。！？।؟"


def cut_short(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The answer stops in the middle of a sentence: the writer's token limit."""

    def cut(answer: str) -> str | None:
        ends = [m.end() for m in _PIECE.finditer(answer)]
        inside = [
            end for end in ends[:-1] if answer[end - 1] not in _STOPS and answer[end : end + 1] not in (*_STOPS, "\n")
        ]
        inside = [end for end in inside if 0.1 * len(answer) <= end <= 0.9 * len(answer)]
        return answer[: _one(inside, rng)] if len(ends) >= 6 and inside else None

    return _changed(messages, rng, cut)


def start_lost(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The answer begins in the middle of a sentence: a split at the wrong place, a chunk out of a longer text."""

    def lose(answer: str) -> str | None:
        starts = [m.start() for m in _PIECE.finditer(answer)]
        inside = [at for at in starts[1:] if not answer[:at].rstrip(" \"'”’)").endswith((*_STOPS, ":", "\n"))]
        inside = [at for at in inside if 0.1 * len(answer) <= at <= 0.8 * len(answer)]
        return answer[_one(inside, rng) :] if len(starts) >= 6 and inside else None

    return _changed(messages, rng, lose)


def repeated(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """A part said again and again: a decoder that fell into a loop."""

    def repeat(answer: str) -> str | None:
        words = answer.split(" ")
        if len(words) < 2:
            return None
        size = min(len(words), int(rng.integers(1, 15)))
        start = int(rng.integers(0, len(words) - size + 1))
        if not any(words[start : start + size]):
            return None
        loop = words[start : start + size] * int(rng.integers(3, 12))
        return " ".join(words[: start + size] + loop + (words[start + size :] if rng.random() < 0.3 else []))

    return _changed(messages, rng, repeat)


def words_shuffled(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Word salad: text put together from columns of a page, or a broken tokenizer."""

    def shuffle(answer: str) -> str | None:
        pieces = re.split(r"(\s+)", answer)  # words at even places, what is between them at odd ones
        words = pieces[::2]
        if len(answer.split()) < 5:
            return None
        span = int(rng.integers(3, max(4, len(words)) + 1))  # all of it, or within stretches
        for at in range(0, len(words), span):
            part = words[at : at + span]
            words[at : at + span] = [part[i] for i in rng.permutation(len(part))]
        if words == pieces[::2]:
            return None
        pieces[::2] = words
        return "".join(pieces)

    return _changed(messages, rng, shuffle)


def letters_damaged(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Letters swapped, lost or doubled: bad character recognition."""

    def damage(answer: str) -> str | None:
        letters = list(answer)
        at = np.flatnonzero(rng.random(len(letters)) < rng.uniform(0.08, 0.4))
        if len(letters) < 8 or not len(at):
            return None
        for i in at:
            kind = rng.integers(4)
            if kind == 0 and i + 1 < len(letters):
                letters[i], letters[i + 1] = letters[i + 1], letters[i]
            elif kind == 1:
                letters[i] = ""
            elif kind == 2:
                letters[i] *= 2
            elif letters[i].isalpha():
                letters[i] = chr(ord("a") + int(rng.integers(26)))
        return "".join(letters)

    return _changed(messages, rng, damage)


_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As a language model I have no access to that kind of information.",
    "Sorry, I do not understand the question. Could you say it in other words?",
    "I apologize, but I am unable to do this. Please ask something else.",
    "It depends on many factors, so there is no single answer to this.",
    "This question is outside of what I know. Please consult a specialist.",
    "I am only a program and have no opinion about this.",
    "Unfortunately I cannot complete this request at the moment.",
)
_PAGE = (
    "We use cookies to improve your visit. Accept all. Read our privacy policy.",
    "Click here to read more. Share this on your favourite network.",
    "Subscribe to our newsletter to get the latest news every week.",
    "All rights reserved. Reproduction without permission is prohibited.",
    "Home | About | Contact | Terms of use | Sitemap",
    "Log in or sign up to leave a comment. Posted by admin in Uncategorized.",
    "If you have any further questions, feel free to ask. I hope this helps! Have a great day!",
    "Related articles: 10 things that you did not know. Advertisement.",
)


def boilerplate(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """A refusal or the furniture of a web page in the answer's place, or around it: scraping, a model that gave up."""

    def wrap(answer: str) -> str:
        page = [_PAGE[i] for i in rng.permutation(len(_PAGE))[: int(rng.integers(1, 5))]]
        kind = rng.random()
        if kind < 0.4:
            return _one(_REFUSALS, rng)
        if kind < 0.6:
            return " ".join(page)
        return "\n".join([*page, answer]) if kind < 0.8 else "\n".join([answer, *page])

    return _changed(messages, rng, wrap)


def markup_left(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Tags, entities and escapes among the words: a page that was never rendered, text that was encoded twice."""

    def mark(answer: str) -> str | None:
        kind = rng.random()
        text = answer
        if kind < 0.3:
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;")
            text = text.replace('"', "&quot;").replace("\n", "<br/>")
        elif kind < 0.45:
            text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"').replace("'", "\\u2019")
        if text != answer:
            return text
        words = answer.split(" ")
        tags = [("<p>", "</p>"), ("<b>", "</b>"), ("<span class='text'>", "</span>"), ("<div>", "</div>"),
                ("[url=#]", "[/url]"), ("{{", "}}"), ("<a href='#'>", "</a>"), ("&nbsp;", "&nbsp;")]  # fmt: skip
        for i in np.flatnonzero(rng.random(len(words)) < rng.uniform(0.1, 0.5)):
            opening, closing = tags[int(rng.integers(len(tags)))]
            words[i] = f"{opening}{words[i]}{closing}"
        text = " ".join(words)
        return f"<div>{text}</div>" if text == answer else text

    return _changed(messages, rng, mark)


def encoding_damaged(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """UTF-8 read as another encoding, or characters replaced because they could not be read."""

    def damage(answer: str) -> str | None:
        fancy = answer.replace("'", "’").replace('"', "”").replace(" - ", " – ")
        text = fancy.encode("utf-8", "replace").decode("cp1252", "replace")
        if rng.random() < 0.5 and text != answer:
            return text
        letters = list(answer)
        junk = ("�", "Ã©", "â€™", "Â", "ï¿½", "\x00", "\\x92", "?")
        at = np.flatnonzero(rng.random(len(letters)) < rng.uniform(0.03, 0.2))
        for i in at:
            letters[i] = junk[int(rng.integers(len(junk)))]
        return "".join(letters) if len(at) else None

    return _changed(messages, rng, damage)


_LANGUAGES = (
    "That is a good question. First you have to understand what it is about. There are many reasons for it, "
    "and not all of them are of the same weight. In the end it depends on what you want to do. Many people "
    "see this in another way.",
    "Das ist eine gute Frage. Man muss zuerst verstehen, worum es geht. Es gibt viele Gründe dafür, und nicht "
    "alle sind gleich wichtig. Am Ende hängt alles davon ab, was man erreichen will. Viele Menschen denken "
    "anders darüber.",
    "C'est une bonne question. Il faut d'abord comprendre de quoi il s'agit. Il y a plusieurs raisons à cela, "
    "et elles ne sont pas toutes aussi importantes. Tout dépend de ce que l'on veut faire. Beaucoup de gens "
    "pensent autrement.",
    "Es una buena pregunta. Primero hay que entender de qué se trata. Hay muchas razones para ello, y no "
    "todas son igual de importantes. Al final todo depende de lo que se quiera hacer. Muchas personas piensan "
    "de otra manera.",
    "È una buona domanda. Prima bisogna capire di che cosa si tratta. Ci sono molte ragioni, e non tutte "
    "hanno la stessa importanza. Alla fine dipende da quello che si vuole fare. Molte persone la pensano "
    "diversamente.",
    "Это хороший вопрос. Сначала нужно понять, о чём идёт речь. Для этого есть много причин, и не все они "
    "одинаково важны. В конце концов всё зависит от того, чего вы хотите достичь. Многие люди думают иначе.",
    "这是一个很好的问题。首先要弄清楚我们在谈什么。这样做有很多原因，但并不是所有的原因都同样重要。最后，"
    "一切都取决于你想做什么。很多人有不同的看法。",
    "これは良い質問です。まず、何の話なのかを理解しなければなりません。理由はたくさんありますが、"
    "すべてが同じように重要なわけではありません。",
    "यह एक अच्छा प्रश्न है। पहले यह समझना होगा कि बात किसकी है। इसके कई कारण हैं, और सभी समान रूप से "
    "महत्वपूर्ण नहीं हैं। बहुत से लोग अलग सोचते हैं।",
    "هذا سؤال جيد. يجب أولا أن نفهم ما هو الموضوع. هناك أسباب كثيرة لذلك، وليست كلها مهمة بنفس القدر. كثير من "
    "الناس يفكرون بشكل مختلف.",
    "Bu iyi bir soru. Önce neyden söz edildiğini anlamak gerekir. Bunun birçok nedeni var ve hepsi aynı "
    "derecede önemli değil. Sonunda her şey ne yapmak istediğinize bağlıdır. Birçok insan farklı düşünüyor.",
)  # fmt: skip


def other_language(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """An answer in a language that the question is not in: a multilingual dump, a failed translation."""
    own = _language_words("\n".join(m["content"] for m in messages if m["role"] in ("user", "assistant")))
    alike = [len(own & words) / max(1, len(own)) for words in _LANGUAGE_WORDS]
    mine = max(range(len(alike)), key=alike.__getitem__)  # English where no language is seen: code, a name
    possible = [text for i, text in enumerate(_LANGUAGES) if i != mine and alike[i] < 0.08]
    if not possible:
        return None

    def foreign(answer: str) -> str:
        sentences = re.findall(r"[^.。।]+[.。।]\s*", _one(possible, rng))
        said = [sentences[i] for i in rng.permutation(len(sentences))[: int(rng.integers(1, len(sentences) + 1))]]
        return "".join(said).strip() if rng.random() < 0.7 else f"{answer[: len(answer) // 2]} {''.join(said)}"

    return _changed(messages, rng, foreign)


def _language_words(text: str) -> set[str]:
    """Words in lower case; single characters where a script puts no spaces between words."""
    return {
        piece.casefold()
        for piece in re.findall(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\W\d_\u2e80-\u9fff\uf900-\ufaff]+", text)
    }


_LANGUAGE_WORDS = tuple(_language_words(text) for text in _LANGUAGES)


def prompt_echoed(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The question instead of an answer, or again in front of it: a base model that was not stripped."""

    def echo(answer: str, before: Messages) -> str | None:
        asked = next((m["content"] for m in reversed(before) if m["role"] == "user"), "")
        if not asked.strip():
            return None
        kind = rng.random()
        if kind < 0.4:
            return asked
        if kind < 0.6:
            return f"### Instruction:\n{asked}\n\n### Response:\n{answer}"
        return f"{asked}\n{answer}" if kind < 0.8 else f"{asked} {asked}"

    at = _answers(messages)
    return _replaced(messages, i := _one(at, rng), echo(messages[i]["content"], messages[:i])) if at else None


def run_on(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """The answer goes on with somebody else's question: a stop token that was not seen."""
    other = others.far()
    asked = next((m["content"] for m in other if m["role"] == "user" and m["content"].strip()), None)
    if asked is None:
        return None
    heads = (("\n\nUser: ", "\nAssistant: "), ("\n### Instruction:\n", "\n### Response:\n"), ("\nQ: ", "\nA: "),
             ("\n\n", "\n\n"), ("<|im_start|>user\n", "<|im_end|>\n"))  # fmt: skip
    before, between = heads[int(rng.integers(len(heads)))]
    return _changed(messages, rng, lambda answer: f"{answer}{before}{asked}{between}{_an_answer(other, rng) or ''}")


def placeholder(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Nothing, or a mark where the answer should be: a template that was never filled."""
    marks = ("", "N/A", "None", "null", "...", "-", "TODO", "<noinput>", "[insert answer here]", "Output:", "nan",
             "test", "see above", "ok", "asdf", "{answer}", "Error: request timed out", "#REF!", "0")  # fmt: skip
    return _changed(messages, rng, lambda _: _one(marks, rng))


def code_damaged(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Code or formulas without their brackets, quotes, operators or line ends: a cleaning step that went too far."""

    def strip(answer: str) -> str | None:
        if len(re.findall(r"[()\[\]{}<>=;]", answer)) < max(6, len(answer) / 30):  # prose
            return None
        lost = ("()[]{}", "()[]{}\"'`", "=+-*/<>", ";:,()")[int(rng.integers(4))]
        text = answer.translate({ord(c): None for c in lost})
        if len(answer) - len(text) < 3:
            return None
        return re.sub(r"\s*\n\s*", " ", text) if rng.random() < 0.5 else text

    return _changed(messages, rng, strip)


def turns_swapped(messages: Messages, others: Others, rng: np.random.Generator) -> Messages | None:
    """Two answers of a conversation in each other's place: messages sorted by the wrong key."""
    at = _answers(messages)
    if len(at) < 2:
        return None
    i, j = (at[k] for k in rng.permutation(len(at))[:2])
    one, two = messages[i]["content"], messages[j]["content"]
    if _another(one, two) is None:
        return None
    return [{**m, "content": two if k == i else one if k == j else m["content"]} for k, m in enumerate(messages)]


CORRUPTIONS: tuple[Corruption, ...] = (
    other_answer, similar_answer, cut_short, start_lost, repeated, words_shuffled, letters_damaged, boilerplate,
    markup_left, encoding_damaged, other_language, prompt_echoed, run_on, placeholder, code_damaged, turns_swapped,
)  # fmt: skip


def _changed(messages: Messages, rng: np.random.Generator, change: Callable[[str], str | None]) -> Messages | None:
    """The messages with one answer changed, at random among the answers; None where it cannot be, or does nothing."""
    at = _answers(messages)
    return _replaced(messages, i := _one(at, rng), change(messages[i]["content"])) if at else None


def _replaced(messages: Messages, at: int, new: str | None) -> Messages | None:
    if new is None or new.strip() == messages[at]["content"].strip():
        return None
    return [{**m, "content": new if i == at else m["content"]} for i, m in enumerate(messages)]


def _answers(messages: Messages) -> list[int]:
    return [i for i, m in enumerate(messages) if m["role"] == "assistant" and m["content"].strip()]


def _an_answer(messages: Messages, rng: np.random.Generator) -> str | None:
    at = _answers(messages)
    return messages[_one(at, rng)]["content"] if at else None


def _another(answer: str, other: str | None) -> str | None:
    """The other one, if it says something else."""
    return None if other is None or other.split() == answer.split() else other


_Item = TypeVar("_Item")


def _one(items: Sequence[_Item], rng: np.random.Generator) -> _Item:
    return items[int(rng.integers(len(items)))]

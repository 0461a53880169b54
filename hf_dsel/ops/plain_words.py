# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a text says, without what changes nothing: case, spacing, sentence marks, quotes, courtesy."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_BULLETS = re.compile(r"^[ \t]*[-*•#]+[ \t]+", re.MULTILINE)
_QUOTES = re.compile("[\"'`´‘-‟«»‹›]")
_MARKS = re.compile(
    r"[。、؟،؛۔।¿¡…]|(?<=[^\x00-\x7f])[.,;:!?]+|[.,;:!?]+(?=[\s)\]}]|[^\x00-\x7f]|\Z)"
)  # inside 3.5, a[1:2], x!=y or user.name they mean something
_ANYWHERE = re.compile(r"(?:(?<=\s)|^)(?:please|kindly)(?=\s|$)")
_FIRST = re.compile(
    r"(?:(?:hi|hello|hey|(?:can|could|would|will) you|i (?:would|want) (?:like )?you to|thank you|thanks|ok|okay|"
    r"sure(?: thing)?|certainly|absolutely|of course|here(?:s| is| are)|great question)(?:\s|$))+"
)
_LAST = re.compile(r"(?:(?:\s|^)(?:thank you|thanks|many thanks)(?: a lot| (?:very|so) much)?(?: in advance)?)+$")


def plain_words(text: str) -> str:
    """The words of a text in one plain form; texts with the same form say the same in other dress.

    Unicode NFKC and case folding; invisible characters, quotes, bullets at the start of a line, and sentence marks
    (`. , ; : ! ?` and those of other scripts) that end a word are dropped; white space becomes one space; "please"
    and "kindly" are dropped anywhere, other courtesy only at the start ("hello", "can you", "sure", "here is") or the
    end ("thank you very much in advance"). Operators, brackets and marks inside a word stay, since `5 - 3` is not
    `5 / 3` and `3.5` is not `35`. Where nothing would be left, less is dropped.

    >>> plain_words("Sure! Here's the “Answer”:  3.5"), plain_words("the answer 3.5")
    ('the answer 3.5', 'the answer 3.5')
    >>> plain_words("Thanks!"), plain_words("?!")
    ('thanks', '?!')
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
        text = unicodedata.normalize("NFKC", text.casefold()).replace("–", "-").replace("—", "-")
    else:
        text = text.lower()
    words = " ".join(_MARKS.sub(" ", _QUOTES.sub("", _BULLETS.sub("", text))).split())
    if not words:
        return " ".join(text.split())
    bare = " ".join(_ANYWHERE.sub("", words).split())
    start = _FIRST.match(bare)
    bare = _LAST.sub("", bare[start.end() :] if start else bare).strip()
    return bare or words

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a text says, without what changes nothing: case, spacing, sentence marks, quotes, courtesy."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_BULLETS = re.compile(r"^[ \t]*[-*•#]+[ \t]+", re.MULTILINE)
_QUOTES = re.compile("[\"'`´‘-‟«»‹›]")
_RUN = r"(?<![.,;:!?])[.,;:!?]++"  # inside 3.5, a[1:2], x!=y or user.name marks mean something
_ASCII_MARKS = re.compile(_RUN + r"(?=[\s)\]}]|\Z)")
_MARKS = re.compile(rf"[。、؟،؛۔।¿¡…]|(?<=[^\x00-\x7f])[.,;:!?]++|{_RUN}(?=[\s)\]}}]|[^\x00-\x7f]|\Z)")
_ANYWHERE = re.compile(r"(?:(?<=\s)|^)(?:please|kindly)(?=\s|$)")
_MUCH = r"(?: a lot| (?:very|so) much)?(?: in advance)?"
_FIRST = re.compile(
    r"(?:(?:hi|hello|hey|(?:can|could|would|will) you|i (?:would|want) (?:like )?you to|ok|okay|sure(?: thing)?|"
    rf"certainly|absolutely|of course|here(?:s| is| are)|great question|(?:thank you|thanks){_MUCH})(?:\s|$))+"
)
_LAST = re.compile(rf"(?:\s|^)(?:many thanks|thank you|thanks){_MUCH}\Z")
_LONGEST = 40  # letters of the longest of these


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
    if text.isascii():
        text = text.lower()
        words = _ASCII_MARKS.sub(" ", _BULLETS.sub("", text).replace('"', "").replace("'", "").replace("`", ""))
    else:
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
        text = unicodedata.normalize("NFKC", text.casefold()).replace("–", "-").replace("—", "-")
        words = _MARKS.sub(" ", _QUOTES.sub("", _BULLETS.sub("", text)))
    words = " ".join(words.split())
    if not words:
        return " ".join(text.split())
    bare = words
    if "please" in bare or "kindly" in bare:
        bare = " ".join(_ANYWHERE.sub("", bare).split())
    first = _FIRST.match(bare)
    start, end = first.end() if first else 0, len(bare)
    while last := _LAST.search(bare, max(start, end - _LONGEST), end):
        end = last.start()
    return bare[start:end].strip() or words

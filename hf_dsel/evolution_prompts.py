# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The prompts of `evolve`: plain files in `hf_dsel/prompts/`, one for each method and one for the ranking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_dsel.endpoint import Malformed
from hf_dsel.scorers.score_templates import TEXTS, Scores

OURS = Path(__file__).parent / "prompts"
RANK = "rank"  # the file that is no method
NEEDED_TO_RANK = ("{variants}",)
PLACE = re.compile(r"\{(instruction|response|variants|lines|n)\}")
TAG = "<rewritten>"
TAGGED = re.compile(r"<rewritten>(.*?)</rewritten>", re.DOTALL)
THOUGHT = re.compile(r"\A(?:\s*<think>.*?|(?:(?!<think>).)*?)</think>", re.DOTALL)  # some servers keep <think> back


class BadPrompt(ValueError):
    """A prompt file that is not there or lacks a placeholder; the text names the file and what it needs."""


@dataclass(frozen=True)
class Prompts:
    """The text of each method's file, by the file's name, and that of the ranking."""

    methods: Mapping[str, str]
    rank: str


def load_prompts(scores: Scores, folder: str | Path | None = None) -> Prompts:
    """The prompts that evolve and rank complexity or quality.

    A file `NAME.txt` is a method of that name; `rank.txt` is the ranking. Placeholders: `{instruction}` and, for
    quality, `{response}` in a method; `{variants}` in the ranking, where `{lines}` (the form of the reply), `{n}` (how
    many) and `{instruction}` may stand too. A method that mentions `<rewritten>` is answered between `<rewritten>` and
    `</rewritten>`, so that a preamble is left out and a reply that was cut off is noticed; without the mention, the
    whole reply is taken, cut off or not.

    Args:
        scores: "complexity" or "quality".
        folder: your files. Its methods replace all of ours, and its `rank.txt` ours; what it lacks is ours.

    Raises:
        BadPrompt: no such folder, no .txt file in it, or a placeholder that is missing.

    >>> sorted(load_prompts("complexity").methods)
    ['concretising', 'constraint', 'deepening', 'reasoning']
    >>> sorted(load_prompts("quality").methods)
    ['creativity', 'depth', 'detail', 'helpfulness', 'relevance']
    """
    if scores not in TEXTS:
        raise ValueError(f"scores={scores!r}; it is one of {', '.join(map(repr, TEXTS))}")
    ours = OURS / scores
    files = {path.stem: path for path in sorted(ours.glob("*.txt"))}
    if folder is not None:
        place = Path(folder).expanduser()
        yours = {path.stem: path for path in sorted(place.glob("*.txt"))}
        if not yours:
            what = "has no .txt file" if place.is_dir() else "is no folder"
            raise BadPrompt(f"prompts={str(folder)!r} {what}; put NAME.txt for each method there, as in {ours}")
        files = {RANK: files[RANK]} | yours if set(yours) - {RANK} else files | yours
    needed = tuple(f"{{{name}}}" for name in TEXTS[scores])
    texts = {name: _checked(path, NEEDED_TO_RANK if name == RANK else needed) for name, path in files.items()}
    return Prompts({name: text for name, text in sorted(texts.items()) if name != RANK}, texts[RANK])


def _checked(path: Path, needed: Sequence[str]) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadPrompt(f"the prompt {path} is not UTF-8: {error}") from error
    missing = [place for place in needed if place not in text]
    if missing:
        raise BadPrompt(f"the prompt {path} lacks {' and '.join(missing)}, which the text is written into")
    return text


def filled(template: str, **values: str) -> str:
    """The template with its placeholders replaced, in one pass: braces in the values stay as they are.

    >>> filled("{instruction} / {response} / {other}", instruction="say {response}", response="a")
    'say {response} / a / {other}'
    """
    return PLACE.sub(lambda found: values.get(found[1], found[0]), template)


def read_rewritten(text: str) -> str:
    """What stands between `<rewritten>` and `</rewritten>`.

    Raises:
        Malformed: nothing does, or more than one text.

    >>> read_rewritten("Sure!\\n<rewritten>\\nName two capitals.\\n</rewritten>")
    'Name two capitals.'
    """
    said = without_thoughts(text)
    found = TAGGED.findall(said)
    if len(found) == 1 and TAG not in found[0]:
        return _not_empty(found[0])
    if found:
        raise Malformed(f"{said.count(TAG)} texts between <rewritten> and </rewritten>; one is wanted")
    if TAG in text:
        raise Malformed("no </rewritten> after <rewritten>: the reply was cut off")
    raise Malformed("the reply holds no <rewritten>")


def read_whole(text: str) -> str:
    """The whole reply, without white space around it.

    Raises:
        Malformed: it is empty.
    """
    return _not_empty(without_thoughts(text))


def without_thoughts(text: str) -> str:
    """The reply without the `<think>` part that reasoning models begin with.

    >>> without_thoughts("<think>hm</think> yes").strip()
    'yes'
    """
    return THOUGHT.sub("", text, count=1)


def _not_empty(text: str) -> str:
    if not text.strip():
        raise Malformed("the new text is empty")
    return text.strip()

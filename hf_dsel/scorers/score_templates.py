# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The text that a scorer model reads: which template, where the labels stand, and what is cut when it is too long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hf_dsel.scorers.models import Checkpoint, ModelNotLoaded
from hf_dsel.scorers.windows import token_ids, window_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Scores = Literal["complexity", "quality"]
LABELS = ("1", "2", "3", "4", "5", "6")
SETTINGS_FILE = "hf_dsel_scorer.json"  # in the model's folder: "scores", "template" and an id of the "training"
RELEASED: dict[str, Scores] = {
    "hkust-nlp/deita-complexity-scorer": "complexity",
    "hkust-nlp/deita-quality-scorer": "quality",
}
TEXTS: dict[Scores, tuple[str, ...]] = {"complexity": ("instruction",), "quality": ("instruction", "response")}
PLACE = re.compile(r"\{(instruction|response)\}")
FIRST_PROBE = 256  # characters


class LabelNotOneToken(ValueError):
    """A label is not one token after the template's ending; the text says what to change."""


class WrongScorer(ValueError):
    """A model was trained for the other score, or its settings file cannot be used."""


def filled(template: str, texts: Mapping[str, str]) -> str:
    """The template with its places filled; braces inside the texts are left as they are.

    >>> filled("Query: {instruction} Score:", {"instruction": "Explain {response}."})
    'Query: Explain {response}. Score:'
    """
    return PLACE.sub(lambda place: texts[place[1]], template)


def check_template(template: str, scores: Scores, *, where: str = "template") -> None:
    """Check that a template has each of its places once, and text after the last.

    Args:
        template: with `{instruction}`, and for a quality `{response}`.
        scores: "complexity" or "quality".
        where: how the message calls it.

    Raises:
        ValueError: naming the place that is wrong.
    """
    if not isinstance(template, str):
        raise ValueError(f"{where} is {type(template).__name__}, not a string")
    found, wanted = PLACE.findall(template), TEXTS[scores]
    if sorted(found) != sorted(wanted):
        places = " and ".join(f"{{{name}}}" for name in wanted)
        raise ValueError(f"{where}={template!r}: a {scores} template has {places} once each, and no other place")
    if PLACE.split(template)[-1] == "":
        raise ValueError(f"{where}={template!r} ends with a place; it needs an ending, after which the label is read")


def template_of(checkpoint: Checkpoint, scores: Scores, given: str | None, released: str) -> str:
    """The template asked for; else the one saved with the model; else the one of the released scorers.

    Raises:
        WrongScorer: the model scores the other thing, or its settings file is damaged.
        ModelNotLoaded: the Hub cannot be asked whether the model has a settings file.
    """
    if given is not None:
        return given
    if checkpoint.model in RELEASED:
        _must_score(scores, RELEASED[checkpoint.model], checkpoint)
        return released
    path = settings_path(checkpoint)
    if path is None:
        return released
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongScorer(f"{path} is not JSON ({error}); write it again, or pass template=") from None
    if not isinstance(saved, dict) or saved.get("scores") not in TEXTS:
        known = " or ".join(map(repr, TEXTS))
        raise WrongScorer(f"{path} must hold {{'scores': {known}, 'template': '...'}}, and holds {saved!r}")
    _must_score(scores, saved["scores"], checkpoint)
    if saved.get("template") is None:
        return released
    try:
        check_template(saved["template"], scores, where="its template")
    except ValueError as error:
        raise WrongScorer(f"{path}: {error}") from None
    return str(saved["template"])


def settings_path(checkpoint: Checkpoint) -> str | None:
    """The local path of the model's settings file, or None when it is sure that there is none."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    path = checkpoint.file(SETTINGS_FILE)
    if path is not None or Path(checkpoint.folder).is_dir():
        return path
    known = try_to_load_from_cache(checkpoint.folder, SETTINGS_FILE, revision=checkpoint.revision)
    if known is _CACHED_NO_EXIST:
        return None
    raise ModelNotLoaded(
        f"cannot see whether model={checkpoint.model!r} has a {SETTINGS_FILE}, which holds its template.\n"
        "Next: check the spelling and the connection (HF_HUB_OFFLINE?), download the model with `hf download`, or pass "
        "template= (that of the released scorers is hf_dsel.scorers.deita.COMPLEXITY or .QUALITY)."
    )


def training_of(checkpoint: Checkpoint) -> str | None:
    """What tells one training into the model's folder from another, as the settings file there has it, or None."""
    path = Path(checkpoint.folder) / SETTINGS_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["training"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _must_score(wanted: Scores, found: Scores, checkpoint: Checkpoint) -> None:
    if wanted != found:
        right = {"complexity": "DeitaComplexity", "quality": "DeitaQuality"}[found]
        raise WrongScorer(f"model={checkpoint.model!r} was trained to score {found}, not {wanted}; use {right} with it")


@dataclass(frozen=True)
class Reading:
    """How one tokenizer reads one template, in a window of `window` tokens."""

    tokenizer: PreTrainedTokenizerBase
    template: str
    window: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, template: str, max_length: int | None) -> Reading:
        """The reading of a checkpoint's tokenizer; the window is checked.

        Raises:
            ValueError: max_length over the model's window, or with no room beside the template.
        """
        tokenizer = checkpoint.tokenizer()
        reading = cls(tokenizer, template, window_of(checkpoint.config(), tokenizer, max_length))
        [alone] = reading.encode([dict.fromkeys(("instruction", "response"), "")])
        if len(alone) >= reading.window:
            raise ValueError(
                f"the template alone takes {len(alone)} tokens and the window is {reading.window}; "
                + (f"max_length={max_length} is too small" if max_length else "use a shorter template")
            )
        return reading

    @cached_property
    def start(self) -> list[int]:
        """The special tokens that the tokenizer puts in front, such as BOS. Those it puts behind are left off."""
        [plain] = token_ids(self.tokenizer, [self._sample])
        full = list(self.tokenizer(self._sample, verbose=False)["input_ids"])
        for n in range(len(full) - len(plain) + 1):
            if full[n : n + len(plain)] == plain:
                return full[:n]
        raise ValueError(f"{self.tokenizer.name_or_path} puts special tokens inside a text; it cannot be scored so")

    @cached_property
    def label_ids(self) -> list[int]:
        """The token that each label is after the template's ending.

        Raises:
            LabelNotOneToken: tokens(text + label) are not tokens(text) and one more.
        """
        after = {label: self._label_tokens(self._sample, label) for label in LABELS}
        wrong = {label: tokens for label, tokens in after.items() if tokens is None or len(tokens) != 1}
        ids = [tokens[0] for tokens in after.values() if tokens]
        if wrong or len(set(ids)) < len(LABELS) or self.tokenizer.unk_token_id in ids:
            raise LabelNotOneToken(self._advice(next(iter(wrong), LABELS[0])))
        return ids

    @property
    def _sample(self) -> str:
        return filled(self.template, {"instruction": "Say hello.", "response": "Hello."})

    def _label_tokens(self, text: str, label: str) -> list[int] | None:
        """The tokens that a label adds to a text, or None when it changes tokens of the text."""
        before, both = token_ids(self.tokenizer, [text, text + label])
        return both[len(before) :] if both[: len(before)] == before else None

    def _advice(self, label: str) -> str:
        ending = PLACE.split(self.template)[-1]
        shown = self.tokenizer.convert_ids_to_tokens(token_ids(self.tokenizer, [ending + label])[0])[-4:]
        text = (
            f"after the template's ending {ending!r} the tokenizer of {self.tokenizer.name_or_path} does not read the "
            f"label {label!r} as one token of its own (the text ends in {shown}), so its logit cannot be read. "
        )
        stripped = self.template.rstrip()
        sample = self._sample.rstrip()
        if (
            stripped != self.template
            and PLACE.split(stripped)[-1]
            and all(len(self._label_tokens(sample, x) or ()) == 1 for x in LABELS)
        ):
            return text + (
                "Without the white space at the end every label is one: train on and pass such a template, "
                f"template={stripped!r}."
            )
        return text + "Train on and pass a template= with another ending, or use a model with another tokenizer."

    def encode(self, texts: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """The token ids of the filled template, whole, for each set of texts."""
        found = token_ids(self.tokenizer, [filled(self.template, each) for each in texts])
        return [[*self.start, *ids] for ids in found]

    def cut(self, texts: Mapping[str, str]) -> tuple[list[int] | None, str]:
        """The token ids of a text that is too long, after cutting it to the window.

        Every text keeps its first c characters, c as large as fits. So the longer one is cut first, and a short
        instruction beside a long response stays whole. The template is never cut.

        Returns:
            the ids and what was cut; or None and why nothing is left.
        """

        def shortened(c: int) -> list[int]:
            return self.encode([{name: text[:c] for name, text in texts.items()}])[0]

        c = longest(lambda c: len(shortened(c)) <= self.window, max(map(len, texts.values())))
        if c == 0:
            return None, f"not one character fits beside the template in the window of {self.window} tokens"
        lost = {name: len(text) - c for name, text in texts.items() if len(text) > c}
        return shortened(c), ", ".join(f"{k} cut by {n} of {len(texts[k])} characters" for k, n in lost.items())


def longest(fits: Callable[[int], bool], too_many: int) -> int:
    """The largest number below `too_many` that fits, found by halving; 0 when none does.

    >>> longest(lambda c: c <= 700, too_many=100_000)
    700
    """
    low, high, probe = 0, too_many, FIRST_PROBE
    while probe < high:
        low, high = (probe, high) if fits(probe) else (low, probe)
        probe *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low

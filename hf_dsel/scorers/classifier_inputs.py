# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A prompt and its response as a sequence classifier reads them: token ids, segments, and what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_dsel.rows import Message, Turn
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.windows import CannotRender, pick_template, render, token_ids, window_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PairTemplate = Literal["chat", "pair", "plain"]


@dataclass(slots=True)
class Encoded:
    """One sequence: its ids and segments (None where the tokenizer has none); a remark, or why there is none."""

    ids: list[int]
    segments: list[int] | None = None
    remark: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Inputs:
    """How one tokenizer puts prompt and response together, in a window of `window` tokens."""

    tokenizer: PreTrainedTokenizerBase
    template: PairTemplate
    window: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, template: PairTemplate | None, max_length: int | None) -> Inputs:
        """The template asked for, or the one that suits the tokenizer; see `Reward`.

        Raises:
            ValueError: "chat" without a chat template; max_length over the model's window.
        """
        tokenizer = checkpoint.tokenizer()
        if template == "chat" or (template is None and tokenizer.chat_template):
            template = "chat" if pick_template(tokenizer, "chat") else None
        elif template is None:
            template = "pair" if tokenizer.sep_token_id is not None else "plain"
        assert template is not None
        return cls(tokenizer, template, window_of(checkpoint.config(), tokenizer, max_length))

    def encode(self, turns: Sequence[Turn]) -> list[Encoded]:
        """The sequence of each turn, which has a response; with no prompt the response stands alone."""
        results: list[Encoded | None] = [None] * len(turns)
        texts: list[str] = [""] * len(turns)
        for i, turn in enumerate(turns):
            try:
                texts[i] = self._whole(turn)
            except CannotRender as error:
                results[i] = Encoded([], reason=str(error))
        todo = [i for i, result in enumerate(results) if result is None]
        for paired in (True, False):  # a tokenizer takes either pairs or single texts
            chosen = [i for i in todo if self._is_pair(turns[i]) == paired]
            if not chosen:
                continue
            first = [_first_text(turns[i]) if paired else texts[i] for i in chosen]
            second = [[turns[i].response or "" for i in chosen]] if paired else []
            found = self.tokenizer(first, *second, add_special_tokens=self.template != "chat", verbose=False)
            segments = found.get("token_type_ids") if paired else None
            for k, i in enumerate(chosen):
                one = Encoded(list(found["input_ids"][k]), None if segments is None else list(segments[k]))
                results[i] = self._fitted(one, turns[i], texts[i])
        return [result for result in results if result is not None]

    def _is_pair(self, turn: Turn) -> bool:
        return self.template == "pair" and bool(turn.prompt)

    def _whole(self, turn: Turn) -> str:
        """Prompt and response as one text."""
        answer = turn.response or ""
        if self.template == "chat":
            messages = (*turn.prompt, Message("assistant", answer))
            return render(self.tokenizer, messages, generation_prompt=False, template="chat")
        return turn.plain_prompt + answer

    def _fitted(self, one: Encoded, turn: Turn, text: str) -> Encoded:
        """The sequence, cut at the left of its prompt when it is longer than the window."""
        over = len(one.ids) - self.window
        if over <= 0:
            return one
        start, n_prompt = self._prompt_span(one.ids, turn, text)
        if over >= n_prompt:  # at least one token of the prompt stays
            rest = len(one.ids) - n_prompt
            one.reason = f"the response alone, {rest} tokens, does not fit the window of {self.window}"
            return one
        keep = [*range(start), *range(start + over, len(one.ids))]
        one.ids = [one.ids[i] for i in keep]
        one.segments = None if one.segments is None else [one.segments[i] for i in keep]
        one.remark = f"instruction cut by {over} of {n_prompt} tokens"
        return one

    def _prompt_span(self, ids: list[int], turn: Turn, text: str) -> tuple[int, int]:
        """Where the prompt begins, after the special tokens in front, and how many tokens it has."""
        if self._is_pair(turn):
            [prompt] = token_ids(self.tokenizer, [_first_text(turn)])
            return _find(prompt, ids), len(prompt)
        if self.template == "plain" or not turn.prompt:
            [prompt], [plain] = (token_ids(self.tokenizer, [t]) for t in (turn.plain_prompt, text))
            return _find(plain, ids), len(prompt)
        prompt_text = self._rendered_prompt(turn, text)
        start = 1 if ids[0] == self.tokenizer.bos_token_id else 0
        return start, max(0, len(token_ids(self.tokenizer, [prompt_text])[0]) - start)

    def _rendered_prompt(self, turn: Turn, text: str) -> str:
        """The part of a rendered conversation that stands before the response; "" where it cannot be told."""
        for generation_prompt in (True, False):
            try:
                found = render(self.tokenizer, turn.prompt, generation_prompt=generation_prompt, template="chat")
            except CannotRender:
                continue
            if text.startswith(found):
                return found
        return ""


def _first_text(turn: Turn) -> str:
    return turn.plain_prompt.removesuffix("\n")


def _find(part: list[int], ids: list[int]) -> int:
    """Where a part begins inside the ids; their beginning when it is not found."""
    return next((i for i in range(len(ids) - len(part) + 1) if ids[i : i + len(part)] == part), 0)


def columns_of(group: Sequence[Encoded]) -> dict[str, Any]:
    """The ids and, where any sequence has a second segment, the segments of all."""
    columns: dict[str, Any] = {"input_ids": [one.ids for one in group]}
    if any(one.segments is not None and any(one.segments) for one in group):
        columns["token_type_ids"] = [one.segments or [0] * len(one.ids) for one in group]
    return columns

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Prompts and responses as token ids that fit a model's window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from hf_dsel.rows import Message, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

Template = Literal["chat", "plain"]
COUNT_FROM_PAD = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
)  # first position: pad + 1
A_DATE = "26 Jul 2024"  # Llama's templates would write today's date, and scores would change overnight
NO_LIMIT = 1_000_000  # tokenizers write 1e30 for "unknown"


class CannotRender(ValueError):
    """A chat template refuses a conversation; the text is the reason for the status column."""


def pick_template(tokenizer: PreTrainedTokenizerBase, template: Template | None) -> Template:
    """ "chat" or "plain"; None is "chat" where the tokenizer has a chat template.

    Raises:
        ValueError: "chat" was asked for and there is no template.
    """
    if template == "chat" and not tokenizer.chat_template:
        raise ValueError(
            f"template='chat', but the tokenizer of {tokenizer.name_or_path} has none; use template='plain'"
        )
    return template or ("chat" if tokenizer.chat_template else "plain")


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation_prompt: bool, template: Template
) -> str:
    """A conversation as text: by the chat template, or each message and a newline.

    Raises:
        CannotRender: the template refuses these roles or contents.
    """
    from jinja2 import TemplateError

    if template == "plain":
        return Turn(tuple(messages), None).plain_prompt
    try:
        text = tokenizer.apply_chat_template(
            [m.as_dict() for m in messages], add_generation_prompt=generation_prompt, tokenize=False, date_string=A_DATE
        )
    except (TemplateError, TypeError, KeyError, ValueError) as error:
        raise CannotRender(f"the chat template refuses the row: {error}") from None
    return str(text)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Each text as ids, without special tokens of the tokenizer's own."""
    if not texts:
        return []
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def window_of(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """Tokens that the model can take at once.

    Args:
        config: its `max_position_embeddings` is the window. Without one it is the tokenizer's `model_max_length`.
        tokenizer: see config.
        max_length: the user's own limit, or None.

    Raises:
        ValueError: max_length is over the model's window.
    """
    text = config.get_text_config()
    own = getattr(text, "max_position_embeddings", None) or tokenizer.model_max_length
    if text.model_type in COUNT_FROM_PAD and own < NO_LIMIT:
        own -= int(text.pad_token_id) + 1
    if max_length is None:
        return min(int(own), NO_LIMIT)
    if max_length > own:
        raise ValueError(f"max_length={max_length}; the window of {tokenizer.name_or_path} is {own} tokens")
    return max_length


def start_id(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands before a document: BOS of the tokenizer, of the config, or else EOS.

    Raises:
        ValueError: the model has none of them.
    """
    for candidate in (tokenizer.bos_token_id, config.get_text_config().bos_token_id, tokenizer.eos_token_id):
        if isinstance(candidate, int):
            return candidate
    raise ValueError(
        f"{tokenizer.name_or_path} has neither a BOS nor an EOS token, so a response cannot be scored alone; "
        "set tokenizer.bos_token and save it, or ask for columns other than nll_alone, ifd and ifd_ppl"
    )


def fit(prompt: list[int], n_response: int, window: int) -> tuple[list[int], str | None]:
    """The prompt's last tokens that fit beside a response, and what was cut.

    Args:
        prompt: at least one id.
        n_response: tokens of the response; at most window - 1.
        window: tokens in all.

    >>> fit([1, 2, 3, 4], n_response=3, window=5)
    ([3, 4], 'instruction cut by 2 of 4 tokens')
    """
    room = window - n_response
    if len(prompt) <= room:
        return prompt, None
    return prompt[-room:], f"instruction cut by {len(prompt) - room} of {len(prompt)} tokens"

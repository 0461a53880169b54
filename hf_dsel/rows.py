# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Rows in any common format, read as turns.

One reader serves every scorer, so a dataset never has to be rewritten before it is scored. The formats, in the order in
which they are looked for:

| format | columns |
|---|---|
| preference | `chosen` and `rejected`, with `prompt` or with the prompt inside both |
| messages | `messages`: a list of `{"role", "content"}` |
| ShareGPT | `conversations`: a list of `{"from", "value"}` (or role/content) |
| prompt-completion | `prompt` and `completion`, strings or lists of messages |
| Alpaca | `instruction`, optional `input`, `output` (Dolly's `context` and `response` too) |
| prompt only | `prompt` |
| plain text | `text` |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

Side = Literal["chosen", "rejected"]
Which = Literal["all", "first", "last"]

ROLES = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "assistant": "assistant",
    "model": "assistant", "function_call": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "function_response": "tool", "observation": "tool",
}  # fmt: skip

ACCEPTED = (
    "chosen + rejected (with or without prompt) | messages | conversations | prompt + completion | "
    "instruction (+ input) + output | prompt | text"
)


class UnknownFormat(ValueError):
    """The dataset's columns match no format that hf_dsel reads."""


class BadRow(ValueError):
    """A row cannot be read; the text is the reason that ends up in the status column."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, with its role normalised to user, assistant, system or tool."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        """The message as chat templates take it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Turn:
    """One response and everything before it.

    `response` is None when the conversation ends without an answer, and "" when the answer is empty. Plain text is a
    turn without a prompt.
    """

    prompt: tuple[Message, ...]
    response: str | None

    @property
    def instruction(self) -> str:
        """The last user message before the response ("" when there is none)."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")

    @property
    def plain_prompt(self) -> str:
        """The prompt without a chat template: each message on lines of its own, a newline at the end."""
        return "".join(f"{m.content}\n" for m in self.prompt)

    def without_history(self) -> Turn:
        """The same turn with only the system messages and what follows the last user message, that message included."""
        users = [i for i, m in enumerate(self.prompt) if m.role == "user"]
        start = users[-1] if users else 0
        system = tuple(m for m in self.prompt[:start] if m.role == "system")
        return Turn((*system, *self.prompt[start:]), self.response)


@dataclass(frozen=True, slots=True)
class Row:
    """The turns of one row, or why it could not be read."""

    turns: tuple[Turn, ...]
    problem: str | None = None

    def chosen_turns(self, which: Which, *, history: bool) -> tuple[Turn, ...]:
        """The turns that a scorer's `turns=` and `history=` options ask for."""
        turns = {"all": self.turns, "first": self.turns[:1], "last": self.turns[-1:]}[which]
        return turns if history else tuple(t.without_history() for t in turns)


def detect(columns: Iterable[str]) -> str:
    """The name of the format that these columns are in.

    Raises:
        UnknownFormat: with the columns found and the ones accepted.

    >>> detect(["id", "output", "instruction", "input"])
    'alpaca'
    """
    names = set(columns)
    if {"chosen", "rejected"} <= names:
        return "preference"
    if "messages" in names:
        return "messages"
    if "conversations" in names:
        return "sharegpt"
    if {"prompt", "completion"} <= names:
        return "prompt_completion"
    if "instruction" in names and names & {"output", "response"}:
        return "alpaca"
    if "prompt" in names:
        return "prompt"
    if "text" in names:
        return "text"
    raise UnknownFormat(
        f"no known format in the columns {sorted(names)}. Accepted: {ACCEPTED}. "
        "Rename yours, for example dataset.rename_columns({'question': 'prompt', 'answer': 'completion'})."
    )


def text_columns(columns: Iterable[str]) -> list[str]:
    """The columns, among these, that hold the text of a row; all of them when the format is unknown."""
    names = list(columns)
    try:
        wanted = {
            "preference": {"prompt", "chosen", "rejected"}, "messages": {"messages"}, "sharegpt": {"conversations"},
            "prompt_completion": {"prompt", "completion"}, "prompt": {"prompt"}, "text": {"text"},
            "alpaca": {"instruction", "input", "output", "context", "response", "system"},
        }[detect(names)]  # fmt: skip
    except UnknownFormat:
        return sorted(names)
    return sorted(wanted & set(names))


def read(batch: Mapping[str, Sequence[Any]], *, side: Side = "chosen") -> list[Row]:
    """The rows of a batch, as `Dataset.map(batched=True)` gives it.

    Args:
        batch: column name to list of values. Columns that are not part of the format are ignored.
        side: which answer of a preference pair to read. It has no meaning for other formats, and `"rejected"` there is
            an error.

    Returns:
        one `Row` for each row. A row that is malformed has a `problem` and no turns.

    Raises:
        UnknownFormat: when no format fits the columns.

    >>> [row] = read({"instruction": ["Add."], "input": ["1 2"], "output": ["3"]})
    >>> row.turns[0].instruction, row.turns[0].response
    ('Add.\\n1 2', '3')
    """
    format_name = detect(batch)
    if side == "rejected" and format_name != "preference":
        raise ValueError(f"side='rejected' needs a dataset with chosen and rejected columns; this one is {format_name}")
    columns = {name: batch[name] for name in text_columns(batch)}
    rows = []
    for values in zip(*columns.values(), strict=True):
        try:
            rows.append(Row(_turns(format_name, dict(zip(columns, values, strict=True)), side)))
        except BadRow as problem:
            rows.append(Row((), str(problem)))
    return rows


def messages_of(value: Any, name: str) -> tuple[Message, ...]:
    """A list of messages in either spelling (role/content or from/value), normalised.

    Raises:
        BadRow: when it is no list of messages, naming the first message that is wrong.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise BadRow(f"{name} is a string and not JSON ({error.msg} at character {error.pos})") from None
    if not isinstance(value, Sequence):
        raise BadRow(f"{name} is {'null' if value is None else type(value).__name__}, not a list of messages")
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(value))


def _message(item: Any, name: str) -> Message:
    if not isinstance(item, Mapping):
        raise BadRow(f"{name} is not a message but {type(item).__name__}")
    role = item.get("role") or item.get("from")
    if role not in ROLES:
        raise BadRow(f"{name} has the role {role!r}; known roles: {', '.join(sorted(ROLES))}")
    content = item["content"] if item.get("content") is not None else item.get("value")
    return Message(ROLES[role], _content(content, item, name))


def _content(content: Any, item: Mapping[str, Any], name: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):  # typed parts
        kinds = {part.get("type") for part in content}
        if kinds - {"text"}:
            raise BadRow(f"{name} has parts that are not text: {', '.join(sorted(str(k) for k in kinds - {'text'}))}")
        return "".join(part.get("text") or "" for part in content)
    if content is None and item.get("tool_calls"):
        return json.dumps(item["tool_calls"], ensure_ascii=False)
    raise BadRow(f"{name} has no content")


def _turns(format_name: str, row: dict[str, Any], side: Side) -> tuple[Turn, ...]:
    if format_name == "preference":
        return _split(*pair_of(row, side))
    if format_name == "messages":
        return _split((), messages_of(row["messages"], "messages"))
    if format_name == "sharegpt":
        return _split((), messages_of(row["conversations"], "conversations"))
    if format_name == "prompt_completion":
        prompt = _prompt(row["prompt"], "prompt")
        return (
            (Turn(prompt, None),)
            if row["completion"] is None
            else _split(prompt, _answer(row["completion"], "completion"))
        )
    if format_name == "prompt":
        return (Turn(_prompt(row["prompt"], "prompt"), None),)
    if format_name == "alpaca":
        return _alpaca(row)
    return (Turn((), _string(row["text"], "text")),)


def _split(before: tuple[Message, ...], messages: tuple[Message, ...]) -> tuple[Turn, ...]:
    """One turn for each assistant message, and one without a response when the conversation ends unanswered."""
    turns = []
    for i, message in enumerate(messages):
        if message.role == "assistant":
            turns.append(Turn((*before, *messages[:i]), message.content))
    if not turns or messages[-1].role == "user":
        turns.append(Turn((*before, *messages), None))
    if not before and not messages:
        raise BadRow("the conversation is empty")
    return tuple(turns)


def _prompt(value: Any, name: str) -> tuple[Message, ...]:
    return (Message("user", value),) if isinstance(value, str) else messages_of(value, name)


def _answer(value: Any, name: str) -> tuple[Message, ...]:
    return (Message("assistant", value),) if isinstance(value, str) else messages_of(value, name)


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name} is {'null' if value is None else type(value).__name__}, not a string")
    return value


def _alpaca(row: dict[str, Any]) -> tuple[Turn, ...]:
    instruction = _string(row["instruction"], "instruction")
    extra = row.get("input") or row.get("context") or ""
    answer = "output" if "output" in row else "response"
    system = (Message("system", row["system"]),) if row.get("system") else ()
    user = Message("user", f"{instruction}\n{extra}" if extra else instruction)
    return (Turn((*system, user), None if row[answer] is None else _string(row[answer], answer)),)


def pair_of(row: Mapping[str, Any], side: Side) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The prompt of a preference pair and the messages that answer it.

    Raises:
        BadRow: when a side or the prompt is no text and no list of messages.
    """
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        answer = row[side]
        if row.get("prompt") is not None:
            return _prompt(row["prompt"], "prompt"), (Message("assistant", answer),)
        shared = common_prefix(chosen, rejected)
        return (Message("user", shared.rstrip()),) if shared else (), (Message("assistant", answer[len(shared) :]),)
    both = messages_of(chosen, "chosen"), messages_of(rejected, "rejected")
    answer = both[0] if side == "chosen" else both[1]
    if row.get("prompt") is not None and not holds_prompt(both[0]):
        return _prompt(row["prompt"], "prompt"), answer
    n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False)))
    n_shared = min(n_shared, len(both[0]) - 1, len(both[1]) - 1)  # each side keeps an answer to the same prompt
    return answer[:n_shared], answer[n_shared:]


def holds_prompt(messages: Sequence[Message]) -> bool:
    """Whether the messages of one side of a pair begin with the prompt itself."""
    return any(m.role == "user" for m in messages[:2])


def common_prefix(a: str, b: str) -> str:
    """The text that two strings share from the start, cut back to the last white space so that no word is split.

    >>> common_prefix("Q: hi A: yes", "Q: hi A: no")
    'Q: hi A: '
    """
    n = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    if n == len(a) == len(b):
        n -= 1
    return a[: next((i for i in range(n, 0, -1) if a[i - 1].isspace()), 0)]

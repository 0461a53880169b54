# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""How long a row is: the baseline that every other score has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Self, get_args

from datasets import Value

from hf_dsel import rows
from hf_dsel.scorers import options
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.texts import Of, parts_of
from hf_dsel.scorers.turn_values import Combine, TurnValues, row_value
from hf_dsel.scorers.windows import token_ids

ALGORITHM = 1
Unit = Literal["chars", "words", "tokens"]


@dataclass
class Length:
    """Length of the instruction, the response, or both, in characters, words or tokens.

    Writes the column `<of>_<unit>`, for example `response_words`, and its status. Characters are Unicode code points;
    words are separated by white space; tokens are counted without special tokens and without a chat template.

    Args:
        of: "instruction" (the last user message before a response; the whole text of a plain-text row), "response",
            or "example", their sum. System messages do not count.
        unit: "chars", "words" or "tokens".
        tokenizer: folder or Hub id; for tokens only.
        turns: "all", "first" or "last".
        combine: how turns are put together: "sum", "mean", "min" or "max".
        side: which response of a preference pair; the column of the rejected one is `rejected_<of>_<unit>`.
        revision, trust_remote_code: of the tokenizer, as in transformers.

    Raises:
        ValueError: an option outside its range; unit="tokens" without a tokenizer, or another unit with one.

    An empty response has length 0. A row without any response has no response length (null, "no response").

    >>> Length(of="response", unit="words")({"prompt": ["Hi!"], "completion": ["Hello to you."]})
    {'response_words': [3], 'response_words_status': ['ok']}
    """

    _: KW_ONLY
    of: Of = "instruction"
    unit: Unit = "chars"
    tokenizer: str | None = None
    turns: rows.Which = "all"
    combine: Combine = "sum"
    side: rows.Side = "chosen"
    revision: str | None = None
    trust_remote_code: bool = False
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        options.check_choice("of", self.of, get_args(Of))
        options.check_choice("unit", self.unit, get_args(Unit))
        options.check_shared(self)
        if self.unit == "tokens" and self.tokenizer is None:
            raise ValueError("unit='tokens' needs tokenizer=, the folder or Hub id of a tokenizer or model")
        if self.unit != "tokens" and self.tokenizer is not None:
            raise ValueError(f"unit={self.unit!r} uses no tokenizer; did you mean unit='tokens'?")

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the lengths depend on, as JSON."""
        return options.settings_of(self, ALGORITHM)

    def features(self) -> dict[str, Value]:
        """The columns that it writes: whole numbers, or float64 for a mean."""
        kind = Value("float64" if self.combine == "mean" else "int64")
        return {self._column: kind, f"{self._column}_status": Value("string")}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None: there is no pass to share."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns, and the disk for a tokenizer, before anything is loaded."""
        options.check_rows(column_names, self.side)
        if self.tokenizer is not None:
            self._checkpoint(self.tokenizer).check(needs=None)

    @property
    def _column(self) -> str:
        return f"{'rejected_' if self.side == 'rejected' else ''}{self.of}_{self.unit}"

    def _checkpoint(self, tokenizer: str) -> Checkpoint:
        return Checkpoint(tokenizer, self.revision, self.trust_remote_code)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        table = rows.read(batch, side=self.side)
        turns = [row.chosen_turns(self.turns, history=True) for row in table]
        parts = [[parts_of(turn, self.of) for turn in of_row] for of_row in turns]
        lengths = iter(self._count([text for of_row in parts for of_turn in of_row for text in of_turn]))
        pairs = []
        for row, of_row in zip(table, parts, strict=True):
            values = [
                TurnValues({self._column: sum(next(lengths) for _ in of_turn)}, answered=bool(of_turn))
                for of_turn in of_row
            ]
            pairs.append(row_value(self._column, values, self.combine, row.problem))
        if self.on_rows is not None:
            self.on_rows(len(table))
        whole = float if self.combine == "mean" else int
        return {
            self._column: [None if value is None else whole(value) for value, _ in pairs],
            f"{self._column}_status": [status for _, status in pairs],
        }

    def _count(self, texts: Sequence[str]) -> list[int]:
        if self.tokenizer is not None:
            return [len(ids) for ids in token_ids(self._checkpoint(self.tokenizer).tokenizer(), texts)]
        return [len(text) if self.unit == "chars" else len(text.split()) for text in texts]

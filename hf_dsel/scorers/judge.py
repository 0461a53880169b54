# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scores that a language model gives when it is asked for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
from datasets import Value

from hf_dsel import rows
from hf_dsel.endpoint import Answer, Endpoint, Forecast, Request
from hf_dsel.scorers import options
from hf_dsel.scorers.batching import RowCount
from hf_dsel.scorers.criteria import Criterion, as_json, prompt_of, read_criterion, values_of
from hf_dsel.scorers.texts import instruction_of
from hf_dsel.scorers.turn_values import Combine, TurnValues, row_value

ALGORITHM = 1
OF_ENDPOINT = (
    "model", "base_url", "key_variable", "concurrency", "timeout", "tries", "store", "max_requests",
    "max_total_tokens", "price_in", "price_out", "extra_body",
)  # fmt: skip
SCORES_DEPEND_ON = ("model", "extra_body", "turns", "history", "combine", "side", "asks", "max_tokens", "temperature")


@dataclass
class Judge:
    """What a strong model says about each row when it is asked to rate it, one number a criterion.

    One request a turn, through any OpenAI-compatible server (`hf_dsel.endpoint.Endpoint`): answers are stored as they
    come, so a killed run, or one that a budget stopped, goes on without paying twice.

    | column | value |
    |---|---|
    | `<criterion>` | the number, float32; turns put together by `combine` |
    | `<criterion>_status` | "ok", a remark, or why there is none |
    | `<criterion>_raw` | the text of the last answer that could not be read, else null |

    An answer is read strictly: one line "<criterion>: number" for each criterion (a bare number will do for a single
    one), on the scale. Anything else is asked again, with a note, `asks` times in all; then the score is null and the
    text is kept. A row whose requests failed for good is null as well, and nothing is stored for it: score again into a
    new `cache_dir`, and only such rows are sent.

    Args:
        criterion: "accuracy" and "helpfulness" (0 to 5, AlpaGasus), "complexity" (1 to 10, of the instruction; the
            direct scoring that DEITA compares with), the path of a YAML file of your own (its fields are those of
            `scorers.criteria.Criterion`), or a list: several are asked in one request.
        model, base_url, key_variable, concurrency, timeout, tries, store, max_requests, max_total_tokens, price_in,
        price_out, extra_body: see `Endpoint`.
        turns, history: which responses of a conversation, and whether the judge sees what came before.
        combine: how the turns' values become the row's; those that have none are left out and named in the status.
        side: which response of a preference pair; the rejected one's columns have `rejected_` in front.
        asks: how often a request is sent for the sake of a readable answer.
        max_tokens: of an answer. Models that think before they answer need thousands.
        temperature: None leaves it to the server, which some models insist on.

    Raises:
        ValueError: an option outside its range, two criteria of one name, or one with its own prompt among several.
        BadCriterion: no such criterion, or a file that cannot be read.
        BudgetSpent, EndpointDown: while scoring; see `Endpoint.ask`.

    Source: AlpaGasus (arXiv 2307.08701) Sec. 2 for accuracy and helpfulness; DEITA (2312.15685) Sec. 2.2 for direct
        scoring of complexity.
    Differs: the prompts are in our own words. AlpaGasus' code reads the answer's first line as a number, or else the
        one character after "Score:", checks no scale, and writes -1 for a failure; here such an answer is asked again,
        and the score is null in the end.

    >>> Judge(["accuracy", "complexity"], model="gpt-x", base_url="http://localhost:8000/v1").features().keys()
    dict_keys(['accuracy', 'accuracy_status', 'accuracy_raw', 'complexity', 'complexity_status', 'complexity_raw'])
    """

    criterion: str | os.PathLike[str] | Criterion | Sequence[str | os.PathLike[str] | Criterion]
    _: KW_ONLY
    model: str
    base_url: str | None = None
    key_variable: str = "HF_TOKEN"
    turns: rows.Which = "all"
    history: bool = True
    combine: Combine = "mean"
    side: rows.Side = "chosen"
    asks: int = 3
    max_tokens: int | None = 256
    temperature: float | None = 0.0
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 6
    store: str | os.PathLike[str] | None = None
    max_requests: int | None = None
    max_total_tokens: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    extra_body: Mapping[str, Any] | None = None
    criteria: tuple[Criterion, ...] = field(default=(), init=False, repr=False)
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        one = isinstance(self.criterion, str | os.PathLike | Criterion)
        asked = (self.criterion,) if one else tuple(self.criterion)  # type: ignore[arg-type]
        self.criterion = asked[0] if one else asked  # type: ignore[assignment]
        self.criteria = tuple(read_criterion(source) for source in asked)  # type: ignore[arg-type]
        names = [c.name for c in self.criteria]
        if not names:
            raise ValueError("criterion is empty; name one, such as 'accuracy', or give a .yaml file")
        if len({*names}) < len(names):
            raise ValueError(f"criterion={names}; two have the same name, and would write one column")
        whole = [c.name for c in self.criteria if c.prompt is not None]
        if whole and len(names) > 1:
            raise ValueError(f"{whole[0]} has a prompt of its own and is asked alone; make a second Judge for it")
        options.check_shared(self)
        for option in ("asks", "max_tokens"):
            value = getattr(self, option)
            if (value is None and option == "asks") or (value is not None and (type(value) is not int or value < 1)):
                raise ValueError(f"{option}={value!r}; it is a whole number, at least 1")
        warm = self.temperature
        if warm is not None and not (isinstance(warm, int | float) and warm >= 0):
            raise ValueError(f"temperature={self.temperature!r}; it is a number, at least 0, or None")
        _ = self.endpoint  # checks the rest

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the scores depend on, as JSON: the criteria in full, and no address, budget or key."""
        state = {name: getattr(self, name) for name in SCORES_DEPEND_ON}
        state["extra_body"] = dict(self.extra_body or {})
        criteria = [as_json(c) for c in self.criteria]
        return {"scorer": type(self).__name__, "algorithm": ALGORITHM, "criteria": criteria, **state}

    def features(self) -> dict[str, Value]:
        """The columns that it writes."""
        kinds = {"": "float32", "_status": "string", "_raw": "string"}
        return {self._column(c) + end: Value(kind) for c in self.criteria for end, kind in kinds.items()}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None: other criteria in a request would change its answer."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and at the key's variable before anything is sent."""
        options.check_rows(column_names, self.side)
        self.endpoint.check()

    @property
    def endpoint(self) -> Endpoint:
        """The client, with what was sent and used so far."""
        if "_endpoint" not in self.__dict__:
            self.__dict__["_endpoint"] = Endpoint(**{name: getattr(self, name) for name in OF_ENDPOINT})
        return self.__dict__["_endpoint"]

    def forecast(self, batch: Mapping[str, Sequence[Any]]) -> Forecast:
        """What scoring these rows would take, without sending anything."""
        table = rows.read(batch, side=self.side)
        turns = [turn for row in table for turn in row.chosen_turns(self.turns, history=self.history)]
        wanted = [self._wanted(turn) for turn in turns]
        return self.endpoint.forecast([self._request(c, t) for c, t in zip(wanted, turns, strict=True) if c])

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        table = rows.read(batch, side=self.side)
        turns = [row.chosen_turns(self.turns, history=self.history) for row in table]
        owners = [i for i, of_row in enumerate(turns) for _ in of_row]
        judged = iter(self._judge([turn for of_row in turns for turn in of_row], owners, len(table)))
        of_rows = [[next(judged) for _ in of_row] for of_row in turns]
        result: dict[str, list[Any]] = {}
        for c in self.criteria:
            pairs = [
                row_value(c.name, [values[c.name] for values, _ in mine], self.combine, row.problem)
                for row, mine in zip(table, of_rows, strict=True)
            ]
            raw = [
                [text for values, text in mine if text is not None and values[c.name].reason is not None]
                for mine in of_rows
            ]
            result[self._column(c)] = [None if value is None else np.float32(value) for value, _ in pairs]
            result[f"{self._column(c)}_status"] = [status for _, status in pairs]
            result[f"{self._column(c)}_raw"] = ["\n\n".join(texts) if texts else None for texts in raw]
        return result

    def _judge(
        self, turns: Sequence[rows.Turn], owners: Sequence[int], n_rows: int
    ) -> list[tuple[dict[str, TurnValues], str | None]]:
        """The values of each turn by criterion, and the text of an answer that could not be read."""
        wanted = [self._wanted(turn) for turn in turns]
        values = [{c.name: self._unasked(c, turn) for c in self.criteria} for turn in turns]
        texts: list[str | None] = [None] * len(turns)
        jobs = [i for i, criteria in enumerate(wanted) if criteria]
        rows_done = RowCount([owners[i] for i in jobs], n_rows, self.on_rows)
        order = {i: n for n, i in enumerate(jobs)}
        for criteria in dict.fromkeys(wanted):  # all of them, and those that need no response
            mine = [i for i in jobs if wanted[i] == criteria]
            if not mine:
                continue
            answers: list[Answer[dict[str, float]]] = self.endpoint.ask(
                [self._request(criteria, turns[i]) for i in mine],
                parse=partial(values_of, criteria),
                asks=self.asks,
                what=" ".join(c.name for c in criteria),
                on_done=lambda done, mine=mine: rows_done.done(order[mine[n]] for n in done),  # type: ignore[misc]
            )
            for i, answer in zip(mine, answers, strict=True):
                for c in criteria:
                    found = TurnValues(reason=answer.status) if answer.value is None else TurnValues(answer.value)
                    values[i][c.name] = found
                texts[i] = answer.text if answer.value is None else None
        return list(zip(values, texts, strict=True))

    def _wanted(self, turn: rows.Turn) -> tuple[Criterion, ...]:
        """The criteria that the turn has the text for."""
        return tuple(c for c in self.criteria if _missing(c, turn) is None)

    def _unasked(self, criterion: Criterion, turn: rows.Turn) -> TurnValues:
        """No value, because a text is missing."""
        answered = criterion.judges == "instruction" or turn.response is not None
        return TurnValues(reason=_missing(criterion, turn), answered=answered)

    def _request(self, criteria: Sequence[Criterion], turn: rows.Turn) -> Request:
        message = {"role": "user", "content": prompt_of(criteria, turn)}
        return Request((message,), max_tokens=self.max_tokens, temperature=self.temperature)

    def _column(self, criterion: Criterion) -> str:
        return f"{'rejected_' if self.side == 'rejected' else ''}{criterion.name}"


def _missing(criterion: Criterion, turn: rows.Turn) -> str | None:
    """Why there is nothing to ask, or None."""
    if criterion.judges == "response":
        if turn.response is None:
            return "no response"
        if not turn.response.strip():
            return "empty response"
        if not turn.prompt:
            return "no instruction"
    return None if instruction_of(turn).strip() else "empty instruction"

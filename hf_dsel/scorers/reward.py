# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The score that a reward model gives each response; on preference pairs, of both sides and their difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from datasets import Value

from hf_dsel import rows
from hf_dsel.scorers import options
from hf_dsel.scorers.batching import RowCount, tokens_a_batch
from hf_dsel.scorers.classifier_inputs import Inputs, PairTemplate
from hf_dsel.scorers.classifier_logits import classifier_logits
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.turn_values import Combine, TurnValues, row_value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ALGORITHM = 1
Sides = Literal["chosen", "rejected", "both"]


@dataclass
class Reward:
    """The number that a reward model gives to each response, given what came before it.

    r = the logit of a sequence classifier over the conversation up to and including the response.

    Columns: `reward` and `reward_status`. On preference pairs, side="rejected" writes `rejected_reward` instead, and
    side="both" writes both and `reward_margin` = `reward` − `rejected_reward` (null when either is), each with its
    status. A status is "ok", what was cut or left out, or why the value is null.

    Longer than the window: the prompt loses tokens on its left (special tokens in front stay) and the status says how
    many of how many. A response that does not fit is never cut: its reward is null. Plain text is read alone.

    bfloat16 rounds a reward to about three digits and makes ties; dtype="float32" does not.

    Args:
        model: anything that `AutoModelForSequenceClassification` loads with its trained head: folder or Hub id.
        label: for a classifier with several labels, the one whose logit is the reward: its name or its number. None is
            for models with a single one, as reward models have.
        template: "chat" (the tokenizer's chat template, without a generation prompt), "pair" (the prompt's messages,
            each on lines of its own, and the response as the two texts of a tokenizer call), "plain" (each message
            and a newline, then the response). The last two with the tokenizer's special tokens. None: chat where the
            tokenizer has a template, else pair where it has a separator token (BERT, DeBERTa), else plain.
        turns, history: which responses of a conversation, and whether what came before the last user message is shown.
        combine: how the turns' rewards become the row's.
        side: "chosen", "rejected" or "both" of a preference pair.
        revision, trust_remote_code, dtype, device, max_length, batch_tokens: see `CausalLM`.

    Raises:
        ValueError: an option outside its range; several labels and none chosen; template="chat" without one.
        hf_dsel.scorers.models.ModelNotLoaded: the model cannot be had, or has no trained head.

    Source: QDIT (Bukharin et al. 2024, arXiv 2311.14736) takes a reward model's score as the quality of an example.

    >>> list(Reward("some/reward-model", side="both").features())[::2]
    ['reward', 'rejected_reward', 'reward_margin']
    """

    model: str
    _: KW_ONLY
    label: str | int | None = None
    template: PairTemplate | None = None
    turns: rows.Which = "all"
    history: bool = True
    combine: Combine = "mean"
    side: Sides = "chosen"
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str | None = None
    device: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        options.check_choice("template", self.template, (*get_args(PairTemplate), None))
        options.check_shared(self, sides=get_args(Sides))

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the rewards depend on, as JSON; the precision as it will be on this machine."""
        return options.settings_of(self, ALGORITHM)

    def features(self) -> dict[str, Value]:
        """The columns that it writes."""
        names = [*(_column(side) for side in self._sides), *(("reward_margin",) if self.side == "both" else ())]
        return {f"{name}{end}": Value(kind) for name in names for end, kind in (("", "float32"), ("_status", "string"))}

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        options.check_rows(column_names, self.side)
        self._checkpoint.check()
        if Path(self._checkpoint.folder).is_dir():
            label_index(self._checkpoint.config(), self.label, self.model)

    @property
    def _sides(self) -> tuple[rows.Side, ...]:
        return ("chosen", "rejected") if self.side == "both" else (self.side,)

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.model, self.revision, self.trust_remote_code)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        tables = {side: rows.read(batch, side=side) for side in self._sides}
        turns = [
            (i, turn)
            for table in tables.values()
            for i, row in enumerate(table)
            for turn in row.chosen_turns(self.turns, history=self.history)
        ]
        n_rows = len(next(iter(tables.values())))
        scored = iter(self._score([turn for _, turn in turns], [i for i, _ in turns], n_rows))
        found: dict[str, list[tuple[float | None, str]]] = {}
        for side, table in tables.items():
            of_rows = [[next(scored) for _ in row.chosen_turns(self.turns, history=self.history)] for row in table]
            found[_column(side)] = [
                row_value("reward", mine, self.combine, row.problem) for row, mine in zip(table, of_rows, strict=True)
            ]
        if self.side == "both":
            found["reward_margin"] = list(map(_margin, found["reward"], found["rejected_reward"]))
        return {
            name: values
            for column, pairs in found.items()
            for name, values in (
                (column, [None if value is None else np.float32(value) for value, _ in pairs]),
                (f"{column}_status", [status for _, status in pairs]),
            )
        }

    def _score(self, turns: Sequence[rows.Turn], owners: Sequence[int], n_rows: int) -> list[TurnValues]:
        """The reward of each turn, or why it has none; `owners` is the row that each belongs to."""
        results = [_without_reward(turn) for turn in turns]
        wanted = [i for i, result in enumerate(results) if result.answered and result.reason is None]
        jobs, encoded = [], []
        if wanted:
            config = self._checkpoint.config()
            label = label_index(config, self.label, self.model)
            inputs = Inputs.of(self._checkpoint, self.template, self.max_length)
            for i, one in zip(wanted, inputs.encode([turns[i] for i in wanted]), strict=True):
                results[i].remark, results[i].reason = one.remark, one.reason
                if one.reason is None:
                    jobs.append(i)
                    encoded.append(one)
        count = RowCount([owners[i] for i in jobs], n_rows, self.on_rows)
        if jobs:
            model = self._checkpoint.load("classifier", dtype=self.dtype, device=self.device)
            logits = classifier_logits(
                model, encoded, batch_tokens=tokens_a_batch(self.batch_tokens, model.device), on_done=count.done
            )
            for i, of_labels in zip(jobs, logits, strict=True):
                results[i].values["reward"] = float(of_labels[label])
        return results


def label_index(config: PreTrainedConfig, label: str | int | None, model: str) -> int:
    """Which logit of a classifier is the reward.

    Raises:
        ValueError: with the labels that there are.
    """
    names = [str(name) for _, name in sorted((config.id2label or {}).items(), key=lambda item: int(item[0]))]
    if label is None and len(names) == 1:
        return 0
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return label
    shown = ", ".join(f"{i} ({name})" for i, name in enumerate(names[:20]))
    if label is None:
        raise ValueError(
            f"model={model!r} has {len(names)} labels and a reward is one number; choose the one whose logit counts "
            f"with label=, by name or number: {shown}"
        )
    raise ValueError(f"label={label!r} is no label of model={model!r}; it has {shown}")


def _column(side: rows.Side) -> str:
    return "rejected_reward" if side == "rejected" else "reward"


def _without_reward(turn: rows.Turn) -> TurnValues:
    """A turn before it is scored, with the reason when it cannot be."""
    empty = turn.response is not None and not turn.response.strip()
    return TurnValues(answered=turn.response is not None, reason="empty response" if empty else None)


def _margin(chosen: tuple[float | None, str], rejected: tuple[float | None, str]) -> tuple[float | None, str]:
    """The difference of both sides, and the status of either where it is not "ok"."""
    status = [f"{side}: {s}" for side, (_, s) in (("chosen", chosen), ("rejected", rejected)) if s != "ok"]
    if chosen[0] is None or rejected[0] is None:
        return None, "; ".join(status)
    return chosen[0] - rejected[0], "; ".join(status) or "ok"

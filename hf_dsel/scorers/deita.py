# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""DEITA's two scores: how complex an instruction is, and how good a response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from datasets import List, Value

from hf_dsel import rows
from hf_dsel.scorers import options
from hf_dsel.scorers.batching import RowCount, tokens_a_batch
from hf_dsel.scorers.label_expectation import expected_labels
from hf_dsel.scorers.models import Checkpoint
from hf_dsel.scorers.score_templates import TEXTS, Reading, Scores, check_template, template_of, training_of
from hf_dsel.scorers.turn_values import Combine, TurnValues, row_value

ALGORITHM = 1
COMPLEXITY = (
    "You are a helpful assistant. Please identify the complexity score of the following user query. \n"
    "##Query: {instruction}  \n##Complexity: "
)
QUALITY = (
    "You are a helpful assistant. Please identify the quality score of the Response corresponding to the Question. \n"
    " #Question#:\n{instruction}\n#Response#:\n{response} \n##Quality: "
)
RELEASED_TEMPLATE: dict[Scores, str] = {"complexity": COMPLEXITY, "quality": QUALITY}


@dataclass
class DeitaComplexity:
    """How complex each instruction is, from 1 to 6, as a scorer model expects it.

    c = Σ_{i=1..6} i · softmax(z)_i, with z the model's logits of the tokens "1" … "6" after the template that holds the
    instruction, and the softmax over these six alone. One forward pass; nothing is generated.

    Columns: `complexity`, the turns' scores combined; `complexity_turns`, one score a turn, null where a turn has none;
    `complexity_status`: "ok", what was cut or left out, or why the score is null. A turn's instruction is its last user
    message, without the history; a response is not needed. An instruction that is too long loses its end, never the
    template its own; the status says how many characters. Plain text has no instruction and is null.

    The score means something only for a model that was trained for it: the released one, or one of
    `hf-dsel train-scorer`.

    bfloat16 rounds the logits to about three digits, so scores move by a few hundredths; dtype="float32" does not.

    Args:
        model: a causal language model trained on the template: folder, Hub id, or either with a `.gguf` file behind it.
        template: the text that the model reads, with `{instruction}`; the label is read after it. None is the one in
            the model's `hf_dsel_scorer.json`, or else that of the released scorer, `COMPLEXITY`.
        turns: "all", "first" or "last".
        combine: how the turns' scores become the row's: "sum" (the paper's), "mean", "min" or "max".
        side: which side of a preference pair; the columns of the rejected one begin with `rejected_`.
        revision, trust_remote_code, dtype, device, max_length, batch_tokens: see `CausalLM`.

    Raises:
        ValueError: an option outside its range; a template without its place or its ending; a window with no room.
        hf_dsel.scorers.score_templates.LabelNotOneToken: the tokenizer joins a label with the template's ending.
        hf_dsel.scorers.score_templates.WrongScorer: the model was trained for the other score.
        hf_dsel.scorers.models.ModelNotLoaded: the model cannot be had.

    Source: DEITA (Liu et al. 2024, arXiv 2312.15685), Section 2.2; templates of the released scorers.
    Differs: the authors' code knows the label tokens of two tokenizers by number, gives 3.0 where it finds none, and
        never cuts; here they come from the tokenizer in context, and what has no score is null.

    >>> DeitaComplexity("some/model", combine="max").features()["complexity"].dtype  # no model is loaded yet
    'float32'
    """

    model: str = "hkust-nlp/deita-complexity-scorer"
    _: KW_ONLY
    template: str | None = None
    turns: rows.Which = "all"
    combine: Combine = "sum"
    side: rows.Side = "chosen"
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str | None = None
    device: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_options(self, "complexity")

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the scores depend on, as JSON; the precision as it will be on this machine."""
        return _settings(self, "complexity")

    def features(self) -> dict[str, Any]:
        """The columns that it writes."""
        return _features(self, "complexity")

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None: each score has a model of its own."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        _check(self, "complexity", column_names)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        return _columns(self, "complexity", batch)


@dataclass
class DeitaQuality:
    """How good each response is, from 1 to 6, as a scorer model expects it.

    q = Σ_{i=1..6} i · softmax(z)_i, with z the model's logits of the tokens "1" … "6" after the template that holds the
    instruction and the response, and the softmax over these six alone. One forward pass; nothing is generated.

    Columns: `quality`, the turns' scores combined; `quality_turns`, one score a turn, null where a turn has none;
    `quality_status`: "ok", what was cut or left out, or why the score is null. Each turn is scored without the history.
    Too long: instruction and response keep their first c characters each, c as large as fits, so the longer one loses
    its end first; the template is never cut; the status says how many characters. A turn without a response, or with
    an empty one, is null.

    DEITA's score of a conversation is the sum over its turns of complexity × quality: `complexity_turns` and
    `quality_turns` of a row have one entry a turn each.

    Args:
        template: the text that the model reads, with `{instruction}` and `{response}`; the label is read after it. None
            is the one in the model's `hf_dsel_scorer.json`, or else that of the released scorer, `QUALITY`.
        model, turns, combine, side, revision, trust_remote_code, dtype, device, max_length, batch_tokens: see
            `DeitaComplexity`, also for what is raised.

    Source: DEITA (Liu et al. 2024, arXiv 2312.15685), Section 2.3; templates of the released scorers.
    Differs: as `DeitaComplexity`; and the authors' code scores a question without an answer with the empty response.

    >>> list(DeitaQuality("some/model", side="rejected").features())
    ['rejected_quality', 'rejected_quality_turns', 'rejected_quality_status']
    """

    model: str = "hkust-nlp/deita-quality-scorer"
    _: KW_ONLY
    template: str | None = None
    turns: rows.Which = "all"
    combine: Combine = "sum"
    side: rows.Side = "chosen"
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str | None = None
    device: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    on_rows: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_options(self, "quality")

    def __getstate__(self) -> dict[str, Any]:
        return options.config_of(self, ALGORITHM)

    def __setstate__(self, state: dict[str, Any]) -> None:
        options.restore(self, state)

    def settings(self) -> dict[str, Any]:
        """Everything that the scores depend on, as JSON; the precision as it will be on this machine."""
        return _settings(self, "quality")

    def features(self) -> dict[str, Any]:
        """The columns that it writes."""
        return _features(self, "quality")

    def joined(self, other: Any) -> Self | None:
        """Itself when the other is the same, else None: each score has a model of its own."""
        return self if other == self else None

    def check(self, column_names: Sequence[str]) -> None:
        """Look at the columns and the disk before anything is loaded."""
        _check(self, "quality", column_names)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The new columns for a batch of rows, in order."""
        return _columns(self, "quality", batch)


Scorer = DeitaComplexity | DeitaQuality


def _checkpoint(scorer: Scorer) -> Checkpoint:
    return Checkpoint(scorer.model, scorer.revision, scorer.trust_remote_code)


def _name(scorer: Scorer, scores: Scores) -> str:
    return f"rejected_{scores}" if scorer.side == "rejected" else scores


def _template(scorer: Scorer, scores: Scores) -> str:
    return template_of(_checkpoint(scorer), scores, scorer.template, RELEASED_TEMPLATE[scores])


def _check_options(scorer: Scorer, scores: Scores) -> None:
    options.check_shared(scorer)
    if scorer.template is not None:
        check_template(scorer.template, scores)


def _settings(scorer: Scorer, scores: Scores) -> dict[str, Any]:
    found = options.settings_of(scorer, ALGORITHM)
    if Path(_checkpoint(scorer).folder).is_dir():  # the template that lies beside the weights counts too
        found["template"] = _template(scorer, scores)
        if (training := training_of(_checkpoint(scorer))) is not None:  # a scorer trained anew into the same folder
            found["training"] = training
    return found


def _features(scorer: Scorer, scores: Scores) -> dict[str, Any]:
    name = _name(scorer, scores)
    return {name: Value("float32"), f"{name}_turns": List(Value("float32")), f"{name}_status": Value("string")}


def _check(scorer: Scorer, scores: Scores, column_names: Sequence[str]) -> None:
    options.check_rows(column_names, scorer.side)
    checkpoint = _checkpoint(scorer)
    checkpoint.check()
    if Path(checkpoint.folder).is_dir():
        _template(scorer, scores)


def _columns(scorer: Scorer, scores: Scores, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    table = rows.read(batch, side=scorer.side)
    turns = [row.chosen_turns(scorer.turns, history=False) for row in table]
    owners = [i for i, of_row in enumerate(turns) for _ in of_row]
    scored = iter(_score(scorer, scores, [turn for of_row in turns for turn in of_row], owners, len(table)))
    of_rows = [[next(scored) for _ in of_row] for of_row in turns]
    pairs = [row_value(scores, mine, scorer.combine, row.problem) for row, mine in zip(table, of_rows, strict=True)]
    name = _name(scorer, scores)
    return {
        name: [None if value is None else np.float32(value) for value, _ in pairs],
        f"{name}_turns": [
            None if row.problem is not None else [_turn_value(turn, scores) for turn in mine]
            for row, mine in zip(table, of_rows, strict=True)
        ],
        f"{name}_status": [status for _, status in pairs],
    }


def _turn_value(turn: TurnValues, scores: Scores) -> np.float32 | None:
    return np.float32(turn.values[scores]) if turn.answered and turn.problem(scores) is None else None


def _score(
    scorer: Scorer, scores: Scores, turns: Sequence[rows.Turn], owners: Sequence[int], n_rows: int
) -> list[TurnValues]:
    """The score of each turn, or why it has none; `owners` is the row that each belongs to."""
    results = [_without_score(turn, scores) for turn in turns]
    jobs = [i for i, result in enumerate(results) if result.answered and result.reason is None]
    sequences: list[list[int]] = []
    if jobs:
        checkpoint = _checkpoint(scorer)
        reading = Reading.of(checkpoint, _template(scorer, scores), scorer.max_length)
        label_ids = reading.label_ids  # before any weight is loaded
        texts = [{name: str(getattr(turns[i], name)) for name in TEXTS[scores]} for i in jobs]
        encoded = list(zip(jobs, texts, reading.encode(texts), strict=True))
        jobs = []
        for i, of_turn, ids in encoded:
            kept: list[int] | None = ids
            if len(ids) > reading.window:
                kept, results[i].remark = reading.cut(of_turn)
            if kept is None:
                results[i].reason = results[i].remark
            else:
                jobs.append(i)
                sequences.append(kept)
    count = RowCount([owners[i] for i in jobs], n_rows, scorer.on_rows)
    if jobs:
        model = checkpoint.load("causal", dtype=scorer.dtype, device=scorer.device)
        found = expected_labels(
            model,
            sequences,
            label_ids,
            batch_tokens=tokens_a_batch(scorer.batch_tokens, model.device),
            on_done=count.done,
        )
        for i, value in zip(jobs, found, strict=True):
            results[i].values[scores] = value
    return results


def _without_score(turn: rows.Turn, scores: Scores) -> TurnValues:
    """A turn before it is scored, with the reason when it cannot be."""
    result = TurnValues(answered=scores == "complexity" or turn.response is not None)
    if not turn.prompt:
        result.reason = "no instruction"
    elif not turn.instruction.strip():
        result.reason = "empty instruction"
    elif scores == "quality" and turn.response is not None and not turn.response.strip():
        result.reason = "empty response"
    return result

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The rows that a scorer is trained on, checked, as texts in its template, with samples held out whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from hf_dsel.progress import count, say
from hf_dsel.scorers.deita import RELEASED_TEMPLATE
from hf_dsel.scorers.score_templates import LABELS, PLACE, TEXTS, Scores, check_template, filled


class BadTrainingData(ValueError):
    """A dataset that no scorer can be trained on; the text names the column or row, and what it needs."""


@dataclass(frozen=True)
class Examples:
    """Scored texts: what fills the template's places, the score, and the sample that each is a variant of."""

    texts: tuple[dict[str, str], ...]
    scores: tuple[int, ...]
    samples: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, kept: Sequence[int]) -> Examples:
        """The examples at these places."""

        def take(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in kept)

        return Examples(take(self.texts), take(self.scores), take(self.samples))

    def filled(self, template: str) -> list[str]:
        """Each example as the model reads it."""
        return [filled(template, texts) for texts in self.texts]


@dataclass(frozen=True)
class ScorerData:
    """What a scorer learns: which score, in which template, from which examples, and those held out."""

    scores: Scores
    template: str
    training: Examples
    held_out: Examples
    ranked_by: str | None = None


def scorer_data(
    dataset: Dataset,
    *,
    scores: Scores | None = None,
    template: str | None = None,
    held_out: float = 0.1,
    seed: int = 42,
) -> ScorerData:
    """The training and held-out examples of a dataset that `evolve` made, or of one with the same columns.

    Columns: `text`, the scorer's input; `score`, a whole number from 1 to 6, rows where it is null are left out;
    `scores` ("complexity" or "quality") and `template`, one value for all rows, unless given as options; `seed_row`,
    which rows are variants of one sample (without it, each row is a sample of its own). All variants of a sample are
    on the same side. A training row whose text is also held out is left out.

    Args:
        dataset: see above.
        scores, template: in the place of the columns of that name; the template is the released scorer's where there
            is neither.
        held_out: part of the samples, in [0, 1).
        seed: of the draw of these samples.

    Raises:
        BadTrainingData: a column that is missing, a score outside 1 to 6, a text that is not in the template, too few
            samples.
        ValueError: an option outside its range.
        TypeError: no `Dataset`.

    >>> rows = {"text": ["Q: a S:", "Q: b S:"], "score": [1, 4], "scores": ["complexity"] * 2}
    >>> data = scorer_data(Dataset.from_dict(rows), template="Q: {instruction} S:", held_out=0.5)
    >>> len(data.training), len(data.held_out)
    (1, 1)
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"the rows are a {type(dataset).__name__}; give one datasets.Dataset, such as one split")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out!r}; it is a part of the samples, at least 0 and below 1")
    missing = [name for name in ("text", "score") if name not in dataset.column_names]
    if missing:
        raise BadTrainingData(
            f"no column {' and '.join(missing)}; train on what hf-dsel evolve wrote, or on columns text (in the "
            f"template) and score (1 to 6). There are: {dataset.column_names}"
        )
    kind = scores or _constant(dataset, "scores")
    if kind not in TEXTS:
        raise BadTrainingData(f"scores={kind!r}: give scores=, one of {', '.join(map(repr, TEXTS))} (--scores)")
    used = template or _constant(dataset, "template") or RELEASED_TEMPLATE[kind]
    check_template(used, kind)
    examples = _examples(dataset, used)
    training, apart = _split(examples, held_out, seed)
    return ScorerData(kind, used, training, apart, _constant(dataset, "ranked_by", several=True))


def _constant(dataset: Dataset, column: str, *, several: bool = False) -> str | None:
    """The one value of a column of constants; None without the column, or, where several are allowed, several."""
    if column not in dataset.column_names:
        return None
    values = dataset.unique(column)
    if len(values) == 1:
        return None if values[0] is None else str(values[0])
    if several:
        return ", ".join(sorted(str(v) for v in values if v is not None)) or None
    raise BadTrainingData(
        f"the column {column} has {len(values)} values ({values[:2]} ...); one scorer has one of them"
    )


def _examples(dataset: Dataset, template: str) -> Examples:
    """The rows with a score."""
    form = _form(template)
    texts, scores, samples = [], [], []
    seed_rows: Sequence[Any] = dataset["seed_row"][:] if "seed_row" in dataset.column_names else range(len(dataset))
    for i, (text, score, sample) in enumerate(zip(dataset["text"][:], dataset["score"][:], seed_rows, strict=True)):
        if text is None or score is None:
            continue
        found = form.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            shown = text if not isinstance(text, str) or len(text) <= 80 else f"{text[:40]} ... {text[-40:]}"
            raise BadTrainingData(f"text of row {i} is not in the template {template!r}; it is {shown!r}")
        texts.append(found.groupdict())
        scores.append(_score(score, i))
        if sample is None:
            raise BadTrainingData(f"seed_row of row {i} is null; it tells which rows are variants of one sample")
        samples.append(sample)
    if not texts:
        raise BadTrainingData(f"none of the {count(len(dataset), 'row')} has a score; see the column score_status")
    if len(texts) < len(dataset):
        say(f"{count(len(dataset) - len(texts), 'row')} without a score left out")
    return Examples(tuple(texts), tuple(scores), tuple(samples))


def _form(template: str) -> re.Pattern[str]:
    """What a filled template looks like. The first place ends at the first chance; the whole is the same either way."""
    parts = PLACE.split(template)
    form = "".join(f"(?P<{part}>.*?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(form, re.DOTALL)


def _score(value: Any, row: int) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if number not in range(1, len(LABELS) + 1):
        raise BadTrainingData(f"score of row {row} is {value!r}; a label is a whole number from 1 to {len(LABELS)}")
    return int(number)


def _split(examples: Examples, held_out: float, seed: int) -> tuple[Examples, Examples]:
    """Training and held-out examples: whole samples, and no text on both sides."""
    samples = sorted(set(examples.samples))
    n = max(1, round(held_out * len(samples))) if held_out else 0
    if n >= len(samples):
        raise BadTrainingData(
            f"{count(len(samples), 'sample')} with scores, and {n} of them would be held out; evolve more rows, "
            "or set held_out=0"
        )
    apart = {samples[i] for i in np.random.default_rng(seed).permutation(len(samples))[:n]}
    held = [i for i, sample in enumerate(examples.samples) if sample in apart]
    of_held = {tuple(examples.texts[i].items()) for i in held}
    rest = [i for i, sample in enumerate(examples.samples) if sample not in apart]
    kept = [i for i in rest if tuple(examples.texts[i].items()) not in of_held]
    if len(kept) < len(rest):
        say(f"{count(len(rest) - len(kept), 'training row')} left out, whose text is held out too")
    if not kept:
        raise BadTrainingData("every training text is held out too: the samples are copies of each other")
    return examples.only(kept), examples.only(held)

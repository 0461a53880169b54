# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The README.md of a trained scorer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hf_dsel.scorers.models import looks_like_hub_id
from hf_dsel.training.scorer_data import ScorerData
from hf_dsel.training.scorer_report import ScorerReport

CARD = """---
{front}---
# A scorer of {scores}

It reads {what} and gives a number from 1 to 6, the expectation over the label tokens at the next position, as in DEITA
(Liu et al. 2024). Trained with `hf-dsel train-scorer` from `{base}`{ranked_by}.

```python
import hf_dsel

pool = hf_dsel.score(pool, hf_dsel.{scorer}("this/folder"))  # columns {scores}, {scores}_turns, {scores}_status
```

## Agreement on held-out samples

{report}

Spearman's correlation is over all held-out rows; "within a sample" is its mean over the variants of each sample.
"exact" and "within one" are the parts of the rows whose rounded number is the score, or next to it. "length" is a
straight line on the logarithm of the text's length.

## Input

The template, white space included (also in `hf_dsel_scorer.json`):

```json
{template}
```

## Training

{options}
"""


def card(report: ScorerReport, data: ScorerData, model: str, options: Mapping[str, Any]) -> str:
    """The card's text: how to use the scorer, how well it agrees, what it was trained on.

    Args:
        report: what was measured.
        data: the template and which score; the texts are not written down.
        model: the model that the training began with. Of a folder only the name is given.
        options: of the training.
    """
    base = model if not Path(model).expanduser().exists() and looks_like_hub_id(model) else Path(model).name
    front: dict[str, Any] = {
        "library_name": "transformers",
        "tags": ["hf_dsel", "deita", "data-selection", data.scores],
    }
    if base == model:
        front["base_model"] = model
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        scores=data.scores,
        what="an instruction" if data.scores == "complexity" else "an instruction and a response",
        base=base,
        ranked_by=f" on rankings by `{data.ranked_by}`" if data.ranked_by else "",
        scorer="DeitaComplexity" if data.scores == "complexity" else "DeitaQuality",
        report=_markdown(report),
        template=json.dumps(data.template, ensure_ascii=False),
        options=", ".join(f"{name} = {value}" for name, value in options.items()) + ".",
    )


def _markdown(report: ScorerReport) -> str:
    sentence = report.what[0].upper() + report.what[1:] + "."
    if not report.lines:
        return sentence
    head, *body = (f"| {' | '.join(row)} |" for row in report.cells())
    return "\n".join([sentence, "", head, "|---|" + "---:|" * (len(report.cells()[0]) - 1), *body])

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The sections of the generated part of a dataset card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from datasets import Features, Value

from hf_dsel.card_code import (
    again_lines,
    arguments,
    changed,
    known_class,
    local_name,
    paragraphs,
    parsed,
    pip_line,
    select_lines,
    strategy_name,
)
from hf_dsel.card_markdown import code, cut, fenced, plain, table
from hf_dsel.description import Description
from hf_dsel.opening import HUB_ID
from hf_dsel.rows import text_columns
from hf_dsel.selection import is_vector

LETTERS = 600  # shown of a text
MESSAGES = 8  # shown of a conversation
PAPERS = {
    "DEITA": "2312.15685", "QDIT": "2311.14736", "InsBank": "2502.11419", "Cherry LLM": "2308.12032",
    "Alpagasus": "2307.08701", "Sener & Savarese": "1708.00489", "Hacohen and Weinshall": "1904.03626",
    "survey": "2408.02085",
}  # fmt: skip
PICTURES = {
    "scores": "How the scores are distributed in the pool, in the picked rows and in a random subset of the same size",
    "map": "The embeddings of the pool in two dimensions, with the picked rows marked",
    "texts": "How long the responses are and which sources the rows are from, in the pool and in the picked rows",
}
OURS = {
    "selection_rank": "place in the order of picking, 0 first",
    "selection_gain": "what the row added when it was picked; null where the strategy defines nothing",
}


def generated(
    *,
    repo_id: str,
    record: Mapping[str, Any],
    description: Description | None,
    features: Features,
    rows: int,
    examples: Sequence[Mapping[str, Any]],
    pictures: Sequence[str],
    license: str,
    license_origin: str | None,
) -> str:
    """All sections. The arguments are those of `card_text`."""
    sections = {
        "How these rows were chosen": _chosen(record, rows),
        "Before and after": _before_and_after(description),
        "Pictures": _pictures(pictures),
        "Example rows" if len(examples) > 1 else "An example row": _examples(examples, features),
        "Columns": _columns(features, record),
        "Scorers": scorers_table(record),
        "Make these rows again": _again(repo_id, record),
        "Licence and papers": _licence(record, license, license_origin),
    }
    return "\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text) + "\n"


def _chosen(record: Mapping[str, Any], rows: int) -> str:
    made = str(record["strategy"])
    name, options = strategy_name(made), parsed(made)[1]
    options = changed(options, known_class(made)) if options else None
    settings = f" ({code(cut(arguments(options), LETTERS))})" if options else ""
    what, _ = paragraphs(made)
    what = f": it {what[0].lower()}{what[1:]}" if what else ", a strategy that is not part of hf_dsel."
    pool, origin = record["source"]["rows"], record.get("origin") or {}
    where = "a dataset that was not on the Hub"
    if origin.get("repo"):
        at = f"/tree/{origin['revision']}" if origin.get("revision") else ""
        where = f"[{plain(str(origin['repo']))}](https://huggingface.co/datasets/{quote(str(origin['repo']) + at)})"
        parts = [f"{k} {code(str(origin[k]))}" for k in ("config", "split") if origin.get(k)]
        revision = f"revision {code(str(origin['revision'])[:12])}" if origin.get("revision") else "revision unknown"
        where += f" ({', '.join([*parts, revision])})"
    lines = [
        f"{rows:,} of the {_rows(pool)} of {where}. hf_dsel chose them with {code(name)}{settings}{_md(what)} "
        f"Asked for: {_budget(record['budget'])}. Seed: {record['seed']}."
    ]
    reads = [c for c in record.get("columns") or ()]
    if reads:
        lines[0] += f" The choice was made from {'the column' if len(reads) == 1 else 'the columns'} "
        lines[0] += f"{', '.join(code(str(c)) for c in reads)}."
    left_out = record.get("left_out") or {}
    if left_out:
        why = "; ".join(f"{n:,} {'has' if n == 1 else 'have'} {plain(str(r))}" for r, n in left_out.items())
        lines.append(f"{_rows(sum(left_out.values()))} of the source could not be considered: {why}.")
    else:
        lines.append("Every row of the source was considered.")
    if record.get("shortfall"):
        lines.append(
            f"That is {_rows(record['shortfall'])} fewer than asked for, because no more rows passed the strategy's "
            "rule."
        )
    return "\n\n".join([" ".join(lines), "The rows are in the order of picking."])


def _md(sentence: str) -> str:
    """A docstring's sentence, whose code spans stay."""
    parts = sentence.split("`")
    return "".join(code(p) if i % 2 else re.sub(r"([*_<>|])", r"\\\1", p) for i, p in enumerate(parts))


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def _budget(budget: Mapping[str, float]) -> str:
    if budget.get("k"):
        return _rows(int(budget["k"]))
    if budget.get("fraction"):
        return f"{100 * budget['fraction']:g} % of the rows"
    if budget.get("max_tokens"):
        return f"at most {int(budget['max_tokens']):,} tokens"
    return "all rows that pass the strategy's rule"


def _before_and_after(description: Description | None) -> str:
    if description is None:
        return ""
    cells = description.cells()
    head, heads = list(cells[0]), {"whole pool": "source (before)", "subset": "these rows (after)"}
    order = [0, *(head.index(h) for h in ("whole pool", "subset") if h in head)]
    order += [i for i in range(len(head)) if i not in order]
    body = [[plain(row[i]) for i in order] for row in cells[1:]]
    below = []
    if any(h.startswith("random") for h in head):
        below.append("Random: as many rows of the source, drawn by chance.")
    if any(m.spread for m in description.metrics):
        below.append(
            "± is the standard deviation between such draws; where the number of these rows is several of it away, the "
            "choice made a difference."
        )
    if any(m.diverse for m in description.metrics):
        below.append("↑ higher is more diverse, ↓ lower is.")
    if any(e is not None and e.low is not None for m in description.metrics for e in (m.subset, m.pool)):
        below.append("[a, b] is the 95 % interval of a number that was computed on a sample.")
    notes = [f"- {plain(note)}" for note in description.notes]
    notes += [f"- not computed: {plain(what)}" for what in description.left_out]
    made = table([heads.get(head[i], plain(head[i])) for i in order], body, right=True)
    return "\n\n".join(text for text in (made, " ".join(below), "\n".join(notes)) if text)


def _pictures(pictures: Sequence[str]) -> str:
    if not pictures:
        return ""
    there = {path.rpartition("/")[2].removesuffix(".png"): path for path in pictures}
    shown = [f"![{PICTURES.get(kind, plain(kind))}]({path.replace(' ', '%20')})" for kind, path in there.items()]
    missing = {
        "scores": "No picture of the scores: there is no column of scores.",
        "map": "No map of the embeddings: there is no column of embeddings, or they are too few or all alike.",
    }
    shown += [text for kind, text in missing.items() if kind not in there]
    return "\n\n".join(shown)


def _examples(examples: Sequence[Mapping[str, Any]], features: Features) -> str:
    known = text_columns(list(features))
    texts = [t for t, f in features.items() if t in known and not is_vector(f) and not _number(f)]
    blocks = []
    for row in examples:
        numbers = [
            f"{code(n)} {v:,.4g}" if isinstance(v, float) else f"{code(n)} {v:,}"
            for n, v in row.items()
            if n not in texts and isinstance(v, int | float) and not isinstance(v, bool)
        ]
        parts = [f"{name}:\n{_shown(row[name])}" for name in texts if row.get(name) not in (None, "", [])]
        blocks.append("\n\n".join([*([", ".join(numbers)] if numbers else []), fenced("\n\n".join(parts))]))
    return "\n\n".join(blocks)


def _number(feature: Any) -> bool:
    return isinstance(feature, Value) and str(feature.dtype).startswith(("int", "uint", "float", "bool"))


def _shown(value: Any) -> str:
    """A text, or the messages of a conversation, cut where long."""
    if isinstance(value, str):
        return cut(value, LETTERS)
    if isinstance(value, Sequence) and value and all(isinstance(m, Mapping) for m in value):
        pairs = [(m.get("role") or m.get("from"), m.get("content", m.get("value"))) for m in value]
        if all(role for role, _ in pairs):
            said = [f"{role}: {_shown(text)}" for role, text in pairs[:MESSAGES]]
            more = [f"… (cut: {MESSAGES} of {len(pairs)} messages)"] if len(pairs) > MESSAGES else []
            return "\n".join([*said, *more])
    return cut(json.dumps(value, ensure_ascii=False, default=str), LETTERS)


def _columns(features: Features, record: Mapping[str, Any]) -> str:
    scorers = record.get("scorers") or {}
    body = []
    for name, feature in features.items():
        read = name in (record.get("columns") or ())
        what = "read by the strategy; how it was made is not recorded" if read else "came with the source"
        if name in record["source"]["columns"]:
            what = "text of the source"
        elif name in scorers:
            what = f"a score by {code(parsed(str(scorers[name].get('scorer') or 'unknown'))[0])}"
        elif name in OURS:
            what = OURS[name]
        elif name.startswith("selection_"):
            what = "a further number on why the row was picked; null where there is none"
        body.append([code(name), code(_type(feature)), what])
    return table(["column", "type", "what it holds"], body)


def _type(feature: Any) -> str:
    """A column's type in a few words."""
    if isinstance(feature, Value):
        return str(feature.dtype)
    if isinstance(feature, Mapping):
        return cut("{" + ", ".join(f"{k}: {_type(v)}" for k, v in feature.items()) + "}", 120)
    inner = getattr(feature, "feature", None)
    if inner is not None:
        length = getattr(feature, "length", -1)
        return f"list of {f'{length:,} ' if length and length > 0 else ''}{_type(inner)}"
    return type(feature).__name__


def scorers_table(record: Mapping[str, Any]) -> str:
    """What made each column that was read: the scorer, its model and revision, its settings.

    Args:
        record: `scorers`, for each column what made it; `columns`, which of them were read, known or not.
    """
    scorers = {str(c): dict(how) for c, how in (record.get("scorers") or {}).items()}
    for column in record.get("columns") or ():
        scorers.setdefault(str(column), {})
    if not scorers:
        return "The choice reads no scores."
    body = []
    for column, how in scorers.items():
        made, model, revision = (how.pop(k, None) for k in ("scorer", "model", "revision"))
        name, options = parsed(str(made)) if made else ("", None)
        settings = how or {k: v for k, v in (options or {}).items() if k not in ("model", "revision")}
        rest = ", ".join(f"{k}={v!r}" for k, v in settings.items() if v is not None)
        body.append([
            code(column),
            code(name) if name else "unknown: the column was there before, or nobody recorded how it was made",
            _model(str(model)) if model else "none" if name and "model" not in (options or {}) else "unknown",
            code(str(revision)) if revision else "unknown" if model or not name else "none",
            code(cut(rest, 300)) if rest else "unknown" if not name else "defaults",
        ])  # fmt: skip
    return table(["column", "scorer", "model", "revision", "settings"], body)


def _model(model: str) -> str:
    return code(model) if HUB_ID.fullmatch(model) else f"{code(local_name(model))}, a local one"


def _again(repo_id: str, record: Mapping[str, Any]) -> str:
    source = record["source"]
    columns = ", ".join(code(str(c)) for c in source["columns"])
    pool = (
        f"The source has {_rows(source['rows'])}. A sample of its text ({columns}) has the SHA-256 "
        f"{code(source['sha256'])}; `apply` refuses a source with another."
    )
    return "\n\n".join(
        [
            fenced(pip_line(record.get("versions") or {}), "bash"),
            pool,
            fenced(again_lines(repo_id, record.get("origin")), "python"),
            "Whether the published rows are what the record (`hf_dsel.json`) says:",
            fenced(f"hf-dsel verify {repo_id}{'' if record.get('origin') else ' --source path/to/the/pool'}", "bash"),
            "The choice from the start, with the scores computed anew where the record says by what:",
            fenced(select_lines(record), "python"),
        ]
    )


def _licence(record: Mapping[str, Any], license: str, license_origin: str | None) -> str:
    origin = (record.get("origin") or {}).get("repo")
    said = f"Licence: {plain(license)}"
    if license_origin:
        said += f", {plain(license_origin)}."
    elif origin:
        said += f". The rows are from {plain(str(origin))}, whose terms hold for them too."
    else:
        said += ". The rows are from a dataset that was not on the Hub, whose terms hold for them too."
    _, source = paragraphs(str(record["strategy"]))
    if not source:
        return said
    text = _md(source)
    for title, number in PAPERS.items():
        text = re.sub(rf"\b{title}\b", f"[{title}](https://arxiv.org/abs/{number})", text, count=1, flags=re.IGNORECASE)
    return f"{said}\n\nMethod: {text}"

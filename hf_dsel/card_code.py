# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The lines of a card that make the published rows again, and what a record's reprs stand for."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from hf_dsel.opening import HUB_ID
from hf_dsel.strategies import strategy_class

Options = dict[str, Any]


def parsed(made: str) -> tuple[str, Options | None]:
    """The class and the options in a repr such as `TopK(column='ifd')`; None when they are no plain values.

    >>> parsed("TopK(column='ifd', floor=None)")
    ('TopK', {'column': 'ifd', 'floor': None})
    >>> parsed("<my.plugin.Best object at 0x7f>")
    ('Best', None)
    """
    name = re.search(r"\w+(?=\W|$)(?!\.\w)", made)
    try:
        call = ast.parse(made.strip(), mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            return call.func.id, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return name[0] if name else made[:40], None


def strategy_name(made: str) -> str:
    """What `select_by` calls the strategy of a repr.

    >>> strategy_name("KCenter(start=0)")
    'k_center'
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", parsed(made)[0]).lower()
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "unknown"


def local_name(model: str) -> str:
    """The last part of a path; where a model lies on somebody's machine is nobody else's business.

    >>> local_name("/home/me/scorer/")
    'scorer'
    """
    return re.split(r"[/\\\\]", model.rstrip("/\\"))[-1] or "model"


def known_class(made: str) -> type[Any] | None:
    """The strategy's class, if it is installed here under its name."""
    try:
        cls = strategy_class(strategy_name(made))
    except (ValueError, ImportError, AttributeError):
        return None
    return cls if isinstance(cls, type) and cls.__name__ == parsed(made)[0] else None


def paragraphs(made: str) -> tuple[str, str]:
    """The first sentence of a strategy's docstring and its source; "" where there is none."""
    text = inspect.getdoc(known_class(made)) or ""
    first = " ".join(text.split("\n\n")[0].split())
    source = re.search(r"^Source: (.*?)(?=^Differs:|^Raises:|^$|\Z)", text, re.DOTALL | re.MULTILINE)
    return first, " ".join(source[1].split()) if source else ""


def changed(options: Options, cls: type[Any] | None) -> Options:
    """The options that are not the class's defaults."""
    if cls is None or not dataclasses.is_dataclass(cls):
        return options
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    return {k: v for k, v in options.items() if k not in defaults or v != defaults[k]}


def arguments(options: Mapping[str, Any]) -> str:
    """Options as they stand in a call."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items())


def pip_line(versions: Mapping[str, str]) -> str:
    """The packages with their versions; a build such as +cpu is left out, since PyPI has none."""
    packages = [f'"{name}=={str(v).partition("+")[0]}"' for name, v in versions.items() if name != "python"]
    python = f"# Python {versions['python']}\n" if "python" in versions else ""
    return f"{python}pip install {' '.join(packages or ['hf-dsel'])}"


def load_line(origin: Mapping[str, Any] | None) -> str:
    """How the pool is loaded."""
    if not origin or not origin.get("repo"):
        return 'pool = load_dataset("path/to/the/pool", split="train")  # it was not on the Hub: see above what it was'
    given = [repr(str(origin["repo"]))]
    if origin.get("config") and origin["config"] != "default":
        given.append(repr(str(origin["config"])))
    given += [f"{k}={str(origin[k])!r}" for k in ("split", "revision") if origin.get(k)]
    unknown = "" if origin.get("revision") else "  # its revision is unknown"
    return f"pool = load_dataset({', '.join(given)}){unknown}"


def again_lines(repo_id: str, origin: Mapping[str, Any] | None) -> str:
    """The published rows, and the same rows picked out of the source by number."""
    return "\n".join(
        [
            "import hf_dsel",
            "from datasets import load_dataset",
            "",
            f"subset = hf_dsel.load({repo_id!r})  # the rows of this repository, with their record",
            load_line(origin),
            "again = hf_dsel.selection_of(subset).apply(pool)  # the same rows, out of the source",
        ]
    )


def select_lines(record: Mapping[str, Any]) -> str:
    """The scores computed anew and the rows chosen anew."""
    import hf_dsel

    lines, made, seen = [], [], set()
    for column, how in (record.get("scorers") or {}).items():
        text = str(how.get("scorer") or "")
        if not text or text in seen:
            continue
        seen.add(text)
        name, options = parsed(text)
        cls = getattr(hf_dsel, name, None)
        if options is None or not isinstance(cls, type):
            lines.append(f"# {_comment(column)} is by a scorer that cannot be written here: {_comment(text)}")
            continue
        taken = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        exact = {k: str(how[k]) for k in ("model", "revision") if how.get(k) and k in taken}
        if "model" in exact and not HUB_ID.fullmatch(exact["model"]):
            exact["model"] = f"path/to/{local_name(exact['model'])}"
        options = {k: v for k, v in exact.items() if k == "model"} | changed(options, cls) | exact  # model comes first
        made.append(f"    hf_dsel.{name}({arguments(options)}),")
    if made:
        lines += ["pool = hf_dsel.score(pool, [", *made, "])"]
    if record.get("where"):
        conditions = ", ".join(f"Condition.of({str(text)!r})" for text in record["where"])
        lines += ["from hf_dsel.conditions import Condition, rows_where", ""]
        lines += [f"pool = pool.select(rows_where(pool, [{conditions}])[0])  # only these were considered"]
    first = {name: record[name] for name in ("gate", "dedup") if record.get(name)}
    strategy, cls = str(record["strategy"]), known_class(str(record["strategy"]))
    name, options = parsed(strategy)
    budget = {k: int(v) if k != "fraction" else v for k, v in record["budget"].items()}
    if cls is None or options is None:
        lines += [f"# import {name} from where it is defined; as recorded: {_comment(strategy)}"]
        call = budget | {"seed": record["seed"]} | first
        head = f"hf_dsel.select_by(pool, {name}({'...' if options is None else arguments(options)})"
    else:
        call = budget | {"seed": record["seed"]} | first | changed(options, cls)
        head = f"hf_dsel.select_by(pool, {strategy_name(strategy)!r}"
    lines.append(f"subset = {head}, {arguments(call)})")
    return "\n".join(lines)


def _comment(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + " … (cut; in full in hf_dsel.json)"

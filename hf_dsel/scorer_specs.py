# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Scorers from words: `IFD:model=gpt2,turns=last` on a command line, `{name: IFD, model: gpt2}` in a YAML file."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import yaml

from hf_dsel import scorers


class Yaml(yaml.SafeLoader):
    """YAML whose numbers may be 2e-5 and 1.5e3 as well, which YAML 1.1 reads as texts. What is in quotes is a text.

    So is 123456e7, which is rather the beginning of a commit.
    """


Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d{1,3}[eE]\d{1,2}|\d+[eE][-+]\d+|(?:\d+\.\d*|\.\d+)[eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


class BadSpec(ValueError):
    """A scorer or an option that cannot be read or does not exist; the text names it and the nearest known one."""


def make_scorer(spec: str | Mapping[str, Any]) -> Any:
    """The scorer that a specification names.

    Args:
        spec: `"Name"`, `"Name:option=value,option=value"`, or a mapping with `name` and the options. A value is read as
            YAML, so `[a, b]` is a list, `true` a truth value, `null` none. A name with dots is imported, so
            `my_package.MyScorer` works.

    Raises:
        BadSpec: no such scorer, no such option, or a value that the scorer refuses.

    >>> make_scorer("Length:of=response") == make_scorer({"name": "Length", "of": "response"})
    True
    """
    name, options = _read(spec)
    cls = _class(name)
    known = _options(cls)
    for option in options:
        if option not in known:
            raise BadSpec(
                f"scorer {name} has no option {option!r}; {nearest(option, known)}Options: {', '.join(known)}"
            )
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise BadSpec(f"scorer {name}: {error}") from error


def scorer_names() -> list[str]:
    """The scorers that have a short name."""
    return sorted(n for n in scorers.__all__ if n[0].isupper())


def value(text: str) -> Any:
    """A value from a command line, read as YAML.

    >>> value("0.7"), value("[nll, 1e-3]"), value("1e-3"), value("word")
    (0.7, ['nll', 0.001], 0.001, 'word')
    """
    try:
        return yaml.load(text, Yaml)
    except yaml.YAMLError:
        return text


def nearest(word: str, known: list[str]) -> str:
    """'did you mean ...? ' when one of the known words is near, and nothing otherwise."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def _read(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, Mapping):
        if not isinstance(spec.get("name"), str):
            raise BadSpec(f"a scorer needs a name, for example {{name: IFD, model: gpt2}}; got {dict(spec)}")
        return spec["name"], {k: v for k, v in spec.items() if k != "name"}
    if not isinstance(spec, str):
        raise BadSpec(f"a scorer is written 'Name:option=value' or {{name: Name, option: value}}; got {spec!r}")
    name, _, rest = spec.partition(":")
    options = {}
    for part in re.split(r",(?![^\[]*\])", rest) if rest else []:
        key, equals, text = part.partition("=")
        if not equals:
            raise BadSpec(f"{part!r} in {spec!r} is no option; write option=value, for example 'IFD:model=gpt2'")
        options[key.strip()] = value(text)
    return name.strip(), options


def _options(make: Any) -> list[str]:
    """The options of a scorer; a short form of `CausalLM` passes on those of it that it does not set itself."""
    parameters = inspect.signature(make).parameters
    known = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    if len(known) < len(parameters):
        known += [n for n in inspect.signature(scorers.CausalLM).parameters if n not in (*known, "columns")]
    return [n for n in known if n != "on_rows"]


def _class(name: str) -> Any:
    if name in scorer_names():
        return getattr(scorers, name)
    module, dot, attribute = name.rpartition(".")
    if dot:
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise BadSpec(f"scorer {name!r} cannot be imported: {error}") from error
    raise BadSpec(f"unknown scorer {name!r}; {nearest(name, scorer_names())}Known: {', '.join(scorer_names())}")

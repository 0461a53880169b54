# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Strategies: columns in, picks out. One file each; the file's name is the string that `select_by` takes.

A strategy is a frozen dataclass with two methods::

    @dataclass(frozen=True, kw_only=True)
    class Shortest:
        '''Keeps the rows with the shortest responses.'''

        column: str = "response_words"

        def needs(self):                                # columns, and for each the scorer that can make it (or None)
            return {self.column: Length(of="response", unit="words")}

        def pick(self, columns, budget, rng):           # arrays in, picks out; no dataset, no model, no file
            order = budget.fitting(np.argsort(columns[self.column], kind="stable"))
            return Picks(order, -columns[self.column][order])

`select_by(Shortest(), k=1000)` takes the instance. To give it a name, put it in the entry-point group
`hf_dsel.strategies` of your package. `open_ended = True` on the class says that it can do without a budget. A method
`turn_columns()` names columns with a list of numbers a row, one a turn, that `pick` gets as well where the dataset has
them: objects, each a float64 array, NaN where a turn has no number.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hf_dsel.budget import Budget, FloatArray, Picks

GROUP = "hf_dsel.strategies"
Columns = Mapping[str, npt.NDArray[Any]]


@runtime_checkable
class Strategy(Protocol):
    """What `select_by` asks of a strategy.

    `needs()` names the columns it reads and, for each, the scorer that makes it, or None. `pick` gets those columns as
    arrays of equal length without nulls (numbers float64, text objects, vectors rows x dim), the budget, and a seeded
    generator. It returns row numbers within these arrays, in pick order.
    """

    def needs(self) -> dict[str, Any]:
        """Column names, and for each the scorer that makes it, or None."""
        ...

    def pick(self, columns: Columns, budget: Budget, rng: np.random.Generator) -> Picks:
        """Row numbers within the arrays, in pick order, with their gains."""
        ...


def numbers(columns: Columns, name: str) -> FloatArray:
    """A column of numbers.

    Raises:
        TypeError: the column holds text or vectors.
    """
    values = columns[name]
    if values.ndim != 1 or values.dtype == object:
        raise TypeError(
            f"column {name!r} holds {'text or lists' if values.ndim == 1 else 'vectors'}; a score is one number a row"
        )
    return np.asarray(values, np.float64)


def vectors(columns: Columns, name: str) -> npt.NDArray[Any]:
    """A column of vectors, rows x dim.

    Raises:
        TypeError: the column holds numbers or text.
    """
    values = columns[name]
    if values.ndim != 2:
        raise TypeError(
            f"column {name!r} holds single values, not embeddings; name the embedding column, or drop this one"
        )
    return values


def terms(columns: Columns, name: str) -> npt.NDArray[Any]:
    """A column of lists of terms, such as n-grams: objects, each a uint64 array.

    Raises:
        TypeError: the column holds numbers, text or vectors.
    """
    values = columns[name]
    if values.ndim != 1 or values.dtype != object or not all(isinstance(v, np.ndarray) for v in values):
        raise TypeError(
            f"column {name!r} holds no lists of terms; name the column of the n-grams, which hf_dsel.NGrams() writes"
        )
    return values


def strategy_names() -> list[str]:
    """The names that `select_by` knows: the package's own and the installed plug-ins'."""
    own = [m.name for m in pkgutil.iter_modules(__path__)]
    return sorted({*own, *(e.name for e in entry_points(group=GROUP))})


def strategy_class(name: str) -> type[Any]:
    """The class behind a name.

    Raises:
        ValueError: no such strategy; the text lists all and the nearest.

    >>> strategy_class("top_k").__name__
    'TopK'
    """
    if name in {m.name for m in pkgutil.iter_modules(__path__)}:
        module = importlib.import_module(f"{__name__}.{name}")
        return getattr(module, "".join(part.capitalize() for part in name.split("_")))
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()
    near = difflib.get_close_matches(name.lower().replace("-", "_"), strategy_names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown strategy {name!r}; {hint}Known: {', '.join(strategy_names())}")


def make_strategy(strategy: str | Strategy, params: Mapping[str, Any]) -> Strategy:
    """An instance from a name and its options, or the instance itself.

    Raises:
        TypeError: an option that the strategy does not have, or options beside an instance.
        ValueError: an unknown name, or a value that the strategy refuses.
    """
    if not isinstance(strategy, str):
        if isinstance(strategy, type) or not isinstance(strategy, Strategy):
            raise TypeError(
                f"strategy must be a name ({', '.join(strategy_names())}) or an instance with needs() and pick(); "
                f"got {strategy!r}"
            )
        if params:
            raise TypeError(f"set {', '.join(params)} on the {type(strategy).__name__} instance, not on the call")
        return strategy
    cls = strategy_class(strategy)
    options = [f.name for f in dataclasses.fields(cls) if f.init]
    for name in params:
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            listed = f"Options: {', '.join(options)}" if options else "It has no options"
            raise TypeError(f"strategy {strategy!r} has no option {name!r}; {hint}{listed}.")
    return cls(**params)

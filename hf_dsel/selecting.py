# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""From a dataset and a strategy to a selection and a subset; and what `import hf_dsel` attaches to `datasets`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hf_dsel.budget import Budget, BudgetError, Picks, rows_asked
from hf_dsel.columns import MissingColumn, first, read_column, read_turns
from hf_dsel.narrowing import (
    dedup_options,
    dedup_rule,
    flip_columns,
    gate_columns,
    gate_rule,
    narrowed,
    recorded,
    recorded_gate,
    say_what_is_read,
    score_by_gates,
)
from hf_dsel.one_pass import Shortfall, from_stream
from hf_dsel.origin import Origin
from hf_dsel.progress import count, say
from hf_dsel.scorer_marks import scorers_of
from hf_dsel.scorers.gate import Gate
from hf_dsel.scoring import described, score
from hf_dsel.seeds import check_seed
from hf_dsel.selection import Selection, Source, remember_pool
from hf_dsel.shortage import reasons_to_read, too_few
from hf_dsel.strategies import Strategy, make_strategy

TOKENS = "example_tokens"
Dedup = bool | float | Mapping[str, Any] | None


def select_by(
    dataset: Any,
    strategy: str | Strategy,
    k: int | None = None,
    *,
    fraction: float | None = None,
    max_tokens: int | None = None,
    seed: int = 42,
    compute: bool = True,
    keep_vectors: bool = False,
    gate: bool | float | Gate | None = None,
    dedup: Dedup = None,
    **params: Any,
) -> Any:
    """The best rows of a dataset, best first.

    The columns that the strategy reads and the dataset lacks are computed with the strategy's default scorers, which is
    announced first; a column that is there is used as it is. The result has all your columns, `selection_rank` (0 is
    the first pick), `selection_gain`, the strategy's reasons and the scores. Where the strategy is greedy the first m
    rows are its choice for budget m. Rows with a null in a column that is read are not considered; their number is
    reported.

    Args:
        dataset: a `Dataset`; a `DatasetDict`, each split by itself; or an `IterableDataset`, for the strategies that
            need one pass (`random`, `top_k`, which return a `Dataset`, and `threshold`, which returns a stream).
        strategy: a name (a file in `hf_dsel/strategies/`) or an instance.
        k: rows to pick; or
        fraction: the part of the pool to pick, in (0, 1]; or
        max_tokens: picks are taken in order as long as their tokens (column `example_tokens`) fit.
        seed: of all random choices.
        compute: False makes a missing column an error.
        keep_vectors: keep the columns of embeddings and n-grams in the result.
        gate: leave out rows that are probably junk first (`hf_dsel.Gate`; the column `gate` where there is one). True
            or a `Gate`: those of highest probability to be sound stay, as long as the expected share of junk among them
            is at most 2 %. A number: the lowest probability that stays. For pairs both answers (`rejected_gate` too)
            and the labels (`hf_dsel.FlippedLabels`, `gate_flipped`): True or a `Gate` leaves out the pairs that are
            more likely flipped than not.
        dedup: leave one row of each group of copies to the strategy (`hf_dsel.find_copies`). True: rows with the same
            text but for case, spacing, sentence marks and courtesy. A cosine such as 0.95: rows whose embeddings, in
            the column that the strategy reads, are at least that similar too. A mapping: `similarity`, `embedding` and
            `quality`, the columns that are compared and that say which copy is best (default: the strategy's quality,
            after `gate` where there is such a column). A `fraction` is then one of the rows that are left. Splits are
            compared with themselves alone.
        **params: the strategy's own options; an unknown one is an error.

    Returns:
        the subset, a plain `Dataset` in pick order. `selection_of(subset)` gives the record.

    Raises:
        ValueError: an unknown strategy, a bad option, seed or budget, an empty dataset, a column with NaN, infinite or
            zero vectors.
        TypeError: an unknown option; `gate` or `dedup` of a stream.
        MissingColumn: a column is missing and cannot or may not be computed.

    >>> pool = Dataset.from_dict({"text": ["a", "b", "c"], "quality": [1.0, 3.0, 2.0]})
    >>> select_by(pool, "top_k", k=2)["text"][:]
    ['b', 'c']
    """
    check_seed(seed)
    made = make_strategy(strategy, params)
    budget: dict[str, Any] = {"k": k, "fraction": fraction, "max_tokens": max_tokens}
    how: dict[str, Any] = {"seed": seed, "compute": compute, "gate": gate, "dedup": dedup}
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        splits = {}
        for name, split in dataset.items():
            with _naming(name):
                splits[name] = select_by(split, made, **budget, **how, keep_vectors=keep_vectors)
        streams = all(isinstance(split, IterableDataset) for split in splits.values())
        return IterableDatasetDict(splits) if streams else DatasetDict(splits)
    if isinstance(dataset, IterableDataset):
        if gate_columns(gate, ("text",)):
            raise TypeError(
                "gate looks at the whole pool first; load the dataset without streaming=True, or leave gate out"
            )
        if dedup_options(dedup, made) is not None:
            raise TypeError(
                "dedup compares each row with all others, and a stream shows each row once; load the dataset without "
                "streaming=True, or leave dedup out"
            )
        return from_stream(dataset, made, budget, seed)
    scored, selection = _select(dataset, made, budget, **how)
    return remember_pool(selection.apply(scored, keep_vectors=keep_vectors, strict=False), dataset)


def select(
    dataset: Any,
    strategy: str | Strategy,
    k: int | None = None,
    *,
    fraction: float | None = None,
    max_tokens: int | None = None,
    seed: int = 42,
    compute: bool = True,
    gate: bool | float | Gate | None = None,
    dedup: Dedup = None,
    **params: Any,
) -> Any:
    """The record of a selection, without the subset: `Selection.apply(dataset)` makes it.

    Arguments and errors as for `select_by`. A `DatasetDict` gives a dict of records.

    >>> pool = Dataset.from_dict({"text": ["a", "b", "c"], "quality": [1.0, 3.0, 2.0]})
    >>> select(pool, "top_k", k=2).indices
    array([1, 2])
    """
    check_seed(seed)
    made = make_strategy(strategy, params)
    budget: dict[str, Any] = {"k": k, "fraction": fraction, "max_tokens": max_tokens}
    how: dict[str, Any] = {"seed": seed, "compute": compute, "gate": gate, "dedup": dedup}
    if isinstance(dataset, DatasetDict):
        records = {}
        for name, split in dataset.items():
            with _naming(name):
                records[name] = select(split, made, **budget, **how)
        return records
    if isinstance(dataset, IterableDataset):
        raise TypeError("a stream cannot be selected again by row number; use select_by, or load it without streaming")
    return _select(dataset, made, budget, **how)[1]


class _naming:
    """Adds the split's name to an error raised inside."""

    def __init__(self, split: str) -> None:
        self.split = split

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            error.add_note(f"(in the split {self.split!r})")


def _select(
    dataset: Dataset, strategy: Strategy, budget: dict[str, Any], *, seed: int, compute: bool, gate: Any, dedup: Dedup
) -> tuple[Dataset, Selection]:
    if not isinstance(dataset, Dataset):
        raise TypeError(f"select_by takes a Dataset, DatasetDict or IterableDataset, got {type(dataset).__name__}")
    if len(dataset) == 0:
        raise ValueError("the dataset is empty: there is nothing to select from")
    open_ended = bool(getattr(strategy, "open_ended", False))
    rows = rows_asked(**budget, pool=len(dataset), open_ended=open_ended)
    gates = {**gate_columns(gate, dataset.column_names), **flip_columns(gate, dataset.column_names)}
    copies = dedup_rule(dedup, strategy, [*dataset.column_names, *gates])
    rules = {"gate": gate_rule(gate, tuple(gates)), "dedup": copies}
    source, origin = Source.of(dataset), Origin.of(dataset)
    say_what_is_read(gate, dataset)
    dataset = _with_gates(dataset, gates, compute=compute)
    dataset = with_columns(dataset, strategy, compute=compute)
    if budget["max_tokens"] is not None and TOKENS not in dataset.column_names:
        raise MissingColumn(
            f"max_tokens needs the column {TOKENS!r}. Add it with the tokenizer that you train with: dataset = "
            "dataset.map(hf_dsel.Length(of='example', unit='tokens', tokenizer='your/model'), batched=True)"
        )
    turns = [n for n in getattr(strategy, "turn_columns", lambda: ())() if n in dataset.column_names]
    names = [*strategy.needs(), *([TOKENS] if budget["max_tokens"] is not None else []), *turns]
    todo = {name: rule for name, rule in rules.items() if rule is not None}
    (arrays, usable, left_out), gone = narrowed(dataset, read_needed(dataset, names, turns), list(todo.values()))
    if any(gone) and len(usable) and budget["fraction"] is not None:
        rows = rows_asked(**budget, pool=len(dataset) - sum(gone), open_ended=open_ended)
    if len(usable) == 0 or (rows is not None and rows > len(usable)):
        taken = dict(zip(todo, gone, strict=True))
        raise BudgetError(too_few(budget, rows, len(usable), left_out, taken, {"gate": gate, "dedup": dedup}))
    spendable = _budget(rows, budget["max_tokens"], arrays, usable)
    columns = {n: arrays[n] for n in (*strategy.needs(), *turns)}
    picks = strategy.pick(columns, spendable, np.random.default_rng(seed))
    _check_picks(picks, spendable, strategy)
    shortfall = max(rows - len(picks.indices), 0) if rows is not None else 0
    asked = {n: v for n, v in budget.items() if v is not None}
    if shortfall:
        warnings.warn(
            f"{strategy} kept {len(picks.indices):,} of the {rows:,} rows asked for: no more rows pass its rule. "
            "Loosen its threshold or bounds, or ask for fewer rows.",
            Shortfall,
            stacklevel=3,
        )
    elif len(picks.indices) == 0:
        warnings.warn(
            f"{strategy} kept no row{'; the first one does not fit' if asked else ''}", Shortfall, stacklevel=3
        )
    if left_out:
        reasons = reasons_to_read(left_out)
        say("not considered: " + "; ".join(f"{count(n, 'row')} with {why}" for why, n in reasons.items()))
    return dataset, Selection(
        indices=usable[picks.indices],
        gains=np.asarray(picks.gains, np.float32),
        strategy=repr(strategy),
        seed=seed,
        budget=asked,
        source=source,
        columns=tuple(names),
        why={n: np.asarray(v, np.float32) for n, v in picks.why.items()},
        shortfall=shortfall,
        left_out=left_out,
        scorers={n: how for n, how in scorers_of(dataset).items() if n in (*names, *gates)},
        origin=None if origin is None else origin.to_dict(),
        dedup=recorded(dedup),
        gate=recorded_gate(gate),
    )


def _with_gates(dataset: Dataset, gates: Mapping[str, Any], *, compute: bool) -> Dataset:
    """The dataset with the columns of the gate; one that is there is used as it is."""
    missing = [name for name in gates if name not in dataset.column_names]
    if missing and not compute:
        makers = ", ".join(f"hf_dsel.{described(gates[name])}" for name in missing)
        raise MissingColumn(
            f"the gate reads {list(gates)}; missing: {missing}. Add it: dataset = hf_dsel.score(dataset, "
            f"{makers if len(missing) == 1 else f'[{makers}]'}). The dataset has {dataset.column_names}."
        )
    return score_by_gates(dataset, [gates[name] for name in missing]) if missing else dataset


def with_columns(dataset: Dataset, strategy: Strategy, *, compute: bool, cache_dir: Any = None) -> Dataset:
    """The dataset with the missing columns computed, as far as the strategy names a scorer for them."""
    needs = strategy.needs()
    missing = [n for n in needs if n not in dataset.column_names]
    impossible = [n for n in missing if needs[n] is None]
    if impossible or (missing and not compute):
        lines = [_how_to_add(n, needs[n]) for n in (impossible or missing)]
        raise MissingColumn(
            f"{type(strategy).__name__} reads {list(needs)}; missing: {impossible or missing}. {' '.join(lines)} "
            f"The dataset has {dataset.column_names}."
        )
    if missing:
        scorers = [needs[n] for n in missing]
        for name, scorer in zip(missing, scorers, strict=True):
            say(f"computing {name!r} for {count(len(dataset), 'row')} with {described(scorer)}")
        dataset = score(dataset, scorers, cache_dir=cache_dir)
    return dataset


def _how_to_add(name: str, scorer: Any) -> str:
    if scorer is not None:
        return f"Add it: dataset = hf_dsel.score(dataset, hf_dsel.{described(scorer)})."
    return (
        f"Name the column that you have (an option of the strategy), or add one: dataset = hf_dsel.score(dataset, "
        f"hf_dsel.IFD('your/model')) writes 'ifd'; dataset.add_column({name!r}, values) takes any list of numbers."
    )


def read_needed(
    dataset: Dataset, names: list[str], turns: list[str]
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64], dict[str, int]]:
    """The columns without the rows that have a null in any of them, those rows' numbers, and why the others are out."""
    read = {name: (read_turns if name in turns else read_column)(dataset, name) for name in names}
    valid = np.ones(len(dataset), np.bool_)
    left_out: Counter[str] = Counter()
    for name, column in read.items():
        newly = np.flatnonzero(valid & ~column.valid)
        if len(newly):
            left_out.update(_reasons(dataset, name, newly))
        valid &= column.valid
    usable = np.flatnonzero(valid)
    if valid.all():
        return {n: c.values for n, c in read.items()}, usable, {}
    return {n: c.values[usable] for n, c in read.items()}, usable, dict(left_out.most_common())


def _reasons(dataset: Dataset, name: str, rows: npt.NDArray[np.int64]) -> Counter[str]:
    status = f"{name}_status"
    if status not in dataset.column_names:
        return Counter({f"no {name}": len(rows)})
    reasons = dataset.select_columns([status]).with_format(None).select(rows)[status][:]
    return Counter(f"no {name} ({reason})" for reason in reasons)


def _budget(
    rows: int | None,
    max_tokens: int | None,
    arrays: Mapping[str, npt.NDArray[Any]],
    usable: npt.NDArray[np.int64],
) -> Budget:
    costs = None
    if max_tokens is not None:
        costs = np.asarray(arrays[TOKENS], np.int64)
        if (costs < 1).any():
            raise ValueError(f"{TOKENS!r} must be at least 1; it is not in the rows {first(usable[costs < 1])}")
        if max_tokens < costs.min():
            raise BudgetError(f"max_tokens={max_tokens:,} is less than the shortest row's {costs.min():,} tokens")
    return Budget(pool=len(usable), rows=rows, tokens=max_tokens, costs=costs)


def _check_picks(picks: Picks, budget: Budget, strategy: Strategy) -> None:
    """Hold any strategy, also a stranger's, to the contract."""
    rows = np.asarray(picks.indices)
    wrong = None
    if rows.ndim != 1 or len(rows) != len(picks.gains) or any(len(v) != len(rows) for v in picks.why.values()):
        wrong = "indices, gains and reasons of different lengths"
    elif len(rows) and (rows.min() < 0 or rows.max() >= budget.pool):
        wrong = f"row {rows.max() if rows.min() >= 0 else rows.min()} of a pool of {budget.pool}"
    elif len(np.unique(rows)) != len(rows):
        wrong = "a row twice"
    elif len(rows) > budget.at_most:
        wrong = f"{len(rows)} rows for a budget of {budget.at_most}"
    if wrong:
        raise RuntimeError(f"{type(strategy).__name__}.pick returned {wrong}")


def attach() -> None:
    """Make `select_by` a method of the four dataset classes, once, never over somebody else's attribute.

    Raises:
        RuntimeError: another package has put a `select_by` there.
    """
    for cls in (Dataset, DatasetDict, IterableDataset, IterableDatasetDict):
        there = cls.__dict__.get("select_by")
        if there is not None and there is not select_by and getattr(there, "__module__", "") != __name__:
            raise RuntimeError(
                f"{cls.__name__}.select_by exists already, from {there.__module__}; hf_dsel does not replace it. Call "
                "hf_dsel.select_by(dataset, ...) after HF_DSEL_ATTACH=0."
            )
        cls.select_by = select_by

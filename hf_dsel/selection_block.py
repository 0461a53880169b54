# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What to select, as it stands in a file: the `selection:` block of `hf-dsel sft | dpo`, keys of `hf-dsel select`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from hf_dsel.budget import BudgetError, rows_asked
from hf_dsel.columns import MissingColumn, read_column
from hf_dsel.conditions import Condition, rows_where
from hf_dsel.joined_scores import with_scores
from hf_dsel.narrowing import dedup_options, flip_columns, gate_columns, score_by_gates
from hf_dsel.progress import count, is_main_process, say
from hf_dsel.reporting import Comparison, compare
from hf_dsel.scorer_specs import Yaml, make_scorer, nearest
from hf_dsel.scorers.gate import Gate
from hf_dsel.scoring import written
from hf_dsel.seeds import check_seed
from hf_dsel.selecting import TOKENS, select
from hf_dsel.selection import Selection, Source, is_terms
from hf_dsel.strategies import Strategy, make_strategy


class BadConfig(ValueError):
    """A configuration that cannot be read, or a key that does not exist."""


@dataclass(frozen=True, kw_only=True)
class SelectionBlock:
    """A strategy, its options, its budget, and the scores to compute first.

    Args:
        strategy: a name, as `select_by` takes it.
        k, fraction, max_tokens: the budget, one of them; a fraction is one of the rows that `where`, `gate` and `dedup`
            leave.
        seed: of all random choices.
        params: the strategy's options.
        scorers: what to compute first, as `hf_dsel.scorer_specs.make_scorer` reads it.
        scores_from: published scores to join before that, as `with_scores` takes them: a repository or a folder.
        where: conditions on columns, such as `ifd < 1`; the other rows are not considered.
        gate: true or the lowest probability of being sound that stays, as `select_by` takes it; scorers may hold a Gate
            with options of its own.
        dedup: which copies are left out first, as `select_by` takes it: true (same text), a cosine (near embeddings
            too), or a mapping of similarity, embedding and quality.
        cache_dir: folder of the scores; a killed run goes on from there. The default is in the `datasets` cache.
        compare: print the numbers beside those of random subsets.
    """

    strategy: str
    k: int | None = None
    fraction: float | None = None
    max_tokens: int | None = None
    seed: int = 42
    params: dict[str, Any] = field(default_factory=dict)
    scorers: tuple[Any, ...] = ()
    scores_from: str | None = None
    where: tuple[Any, ...] = ()
    gate: Any = None
    dedup: Any = None
    cache_dir: str | None = None
    compare: bool = True

    @classmethod
    def of(cls, found: Any, where: str) -> SelectionBlock:
        """The block that a mapping describes; the strategy and the scorers are made, so their options are checked.

        Raises:
            BadConfig: no mapping, an unknown key, a value of another type.
            ValueError, TypeError: what the strategy or a scorer refuses.
        """
        if not isinstance(found, Mapping):
            raise BadConfig(f"{where} must be a mapping such as {{strategy: random, k: 1000}}, got {found!r}")
        known = [f.name for f in dataclasses.fields(cls)]
        refuse_unknown(found, known, where)
        if not isinstance(found.get("strategy"), str):
            raise BadConfig(f"{where} needs a strategy, for example strategy: qdit; got {found.get('strategy')!r}")
        values = {k: v for k, v in found.items() if v is not None}
        for key in ("scorers", "where"):
            if not isinstance(values.setdefault(key, []), list | tuple):
                raise BadConfig(f"{where}: {key} must be a list, got {values[key]!r}")
            values[key] = tuple(values[key])
        if not isinstance(values.get("params", {}), Mapping):
            raise BadConfig(f"{where}: params must be a mapping such as {{alpha: 0.7}}, got {values['params']!r}")
        if not isinstance(values.get("scores_from", ""), str):
            raise BadConfig(f"{where}: scores_from must name a repository or a folder, got {values['scores_from']!r}")
        block = cls(**values)
        check_seed(block.seed)
        _ = block.rule, block.first_scorers, block.conditions, block.copies
        return block

    @cached_property
    def rule(self) -> Strategy:
        """The strategy itself."""
        return make_strategy(self.strategy, self.params)

    @cached_property
    def first_scorers(self) -> list[Any]:
        """The scorers asked for."""
        return [make_scorer(spec) for spec in self.scorers]

    @cached_property
    def conditions(self) -> list[Condition]:
        """The conditions of `where`."""
        return [Condition.of(text) for text in self.where]

    @cached_property
    def copies(self) -> dict[str, Any] | None:
        """What `find_copies` is asked for; None where copies may stay."""
        return dedup_options(self.dedup, self.rule)

    def gates(self, column_names: list[str]) -> dict[str, Any]:
        """The columns that `gate` reads, and what makes each: a Gate among the scorers, or the default."""
        own = next((scorer for scorer in self.first_scorers if isinstance(scorer, Gate)), None)
        gate = own if own is not None and self.gate else self.gate
        return {**gate_columns(gate, column_names), **flip_columns(gate, column_names)}

    def all_scorers(self, column_names: list[str]) -> list[Any]:
        """The scorers asked for, and the defaults of the columns that the strategy reads and nobody makes."""
        made = {name for scorer in self.first_scorers for name in written(scorer)} | set(column_names)
        needed = {**self.gates(column_names), **self.rule.needs()}
        return self.first_scorers + [s for n, s in needed.items() if n not in made and s is not None]

    @cached_property
    def _joins(self) -> list[Dataset]:
        """What `joined` was given last, and what it made of it."""
        return []

    def joined(self, dataset: Dataset) -> Dataset:
        """The dataset with the scores of `scores_from`; given again, or given what it returned, nothing is done.

        Raises:
            NotFetched, NothingJoined, ValueError: as `with_scores`.
        """
        if self.scores_from is None:
            return dataset
        if not any(dataset is known for known in self._joins):
            self._joins[:] = [dataset, with_scores(dataset, self.scores_from)]
        return self._joins[1]

    def check(self, dataset: Dataset) -> None:
        """Find what would go wrong, before any model is loaded.

        Raises:
            BudgetError: no budget, or more than the pool.
            MissingColumn: a column that is not there and that no scorer makes.
            BadColumn: a column that is there holds NaN, infinite values, zero vectors or several widths.
            ValueError, TypeError: what a scorer's own check finds.
        """
        dataset = self.joined(dataset)
        open_ended = bool(getattr(self.rule, "open_ended", False))
        rows_asked(self.k, self.fraction, self.max_tokens, pool=len(dataset), open_ended=open_ended)
        scorers = self.all_scorers(dataset.column_names)
        there = {name for scorer in scorers for name in written(scorer)} | set(dataset.column_names)
        missing = [n for n in self.rule.needs() if n not in there]
        if missing:
            raise MissingColumn(
                f"{self.strategy} reads {missing}, which the dataset lacks and no scorer writes. Point the strategy to "
                f"another column (an option of it), or add a scorer. There will be: {sorted(there)}"
            )
        for condition in self.conditions:
            if condition.column not in there:
                raise MissingColumn(f"where: {condition}: there is no such column; there will be {sorted(there)}")
        for name in (n for option, n in (self.copies or {}).items() if option != "similarity"):
            if name not in there:
                raise MissingColumn(f"dedup: there is no column {name!r}; there will be {sorted(there)}")
        if self.max_tokens is not None and TOKENS not in there:
            raise MissingColumn(
                f"max_tokens needs the column {TOKENS!r}; add the scorer "
                "{name: Length, of: example, unit: tokens, tokenizer: the/model/you/train}"
            )
        for scorer in scorers:
            if hasattr(scorer, "check"):
                scorer.check(dataset.column_names)
        for name in {*self.rule.needs(), *(c.column for c in self.conditions)} & set(dataset.column_names):
            read_column(dataset, name)

    def scored(self, dataset: Dataset) -> Dataset:
        """The dataset with every column that the strategy and the comparison read; ranks share the work."""
        dataset = self.joined(dataset)
        self.check(dataset)
        scorers = self.all_scorers(dataset.column_names)
        return score_by_gates(dataset, scorers, cache_dir=self.cache_dir) if scorers else dataset

    def pick(self, scored: Dataset) -> Selection:
        """The selection, made on the main process and given to all."""
        return Selection.from_json(from_main_process(lambda: self._picked(scored).to_json()))

    def _picked(self, scored: Dataset) -> Selection:
        budget: dict[str, Any] = {"k": self.k, "fraction": self.fraction, "max_tokens": self.max_tokens}
        options: dict[str, Any] = {**budget, "seed": self.seed, "compute": False, **self.params}
        options |= {"gate": self.gate, "dedup": self.dedup}
        if not self.conditions:
            return select(scored, self.strategy, **options)
        kept, failed = rows_where(scored, self.conditions)
        said = " and ".join(map(str, self.conditions))
        say(f"{count(len(kept), 'row')} fulfil{'s' * (len(kept) == 1)} {said}")
        if len(kept) == 0:
            raise BadConfig(f"no row fulfils {said}")
        if self.k is not None and self.k > len(kept):
            raise BudgetError(
                f"k={self.k:,} but only {len(kept):,} of {count(len(scored), 'row')} fulfil {said}; ask for at most "
                f"k={len(kept)}, or loosen where"
            )
        try:
            record = select(scored.select(kept), self.strategy, **options)
        except BudgetError as error:
            error.add_note(f"(considered: the {count(len(kept), 'row')} that fulfil {said})")
            raise
        left_out = {**failed, **record.left_out}
        where = tuple(map(str, self.conditions))
        return replace(record, indices=kept[record.indices], source=Source.of(scored), left_out=left_out, where=where)

    def comparison(self, scored: Dataset, record: Selection) -> Comparison:
        """The table for this selection: the columns that the strategy read and those that the scorers wrote."""
        numeric = {n for n, f in scored.features.items() if str(getattr(f, "dtype", "")).startswith(("int", "float"))}
        names = [*record.columns, *(n for s in self.first_scorers for n in written(s))]
        others = [n for n in names if n in scored.column_names and n not in numeric and not n.endswith("_status")]
        vectors = [n for n in others if not is_terms(scored.features[n])]
        columns = [n for n in dict.fromkeys(names) if n in numeric]
        return compare(scored, record, columns=columns, embedding=vectors[0] if vectors else "embedding")


def from_main_process(make: Callable[[], str]) -> str:
    """What `make` returns on the main process, on every process; its error too, so that no rank waits for ever."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return make()
    parcel: list[Any] = [None, None]
    if is_main_process():
        try:
            parcel[0] = make()
        except Exception as error:
            parcel[1] = error
    dist.broadcast_object_list(parcel, src=0)
    if parcel[1] is not None:
        raise parcel[1]
    return str(parcel[0])


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; 2e-5 is a number in it.

    Raises:
        BadConfig: no such file, not YAML, or no mapping.
    """
    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), Yaml)
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"--config {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise BadConfig(f"--config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise BadConfig(f"--config {path} must hold 'key: value' lines, got {type(found).__name__}")
    return found


def refuse_unknown(found: Mapping[str, Any], known: list[str], where: str) -> None:
    """Raise on the first key that is not known, with the nearest one.

    >>> refuse_unknown({"stratgy": "qdit"}, ["strategy", "k"], "x.yaml")
    Traceback (most recent call last):
    hf_dsel.selection_block.BadConfig: x.yaml: unknown key 'stratgy'; did you mean 'strategy'? Known: strategy, k
    """
    for key in found:
        if key not in known:
            raise BadConfig(f"{where}: unknown key {key!r}; {nearest(str(key), known)}Known: {', '.join(known)}")


def merged(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """A file's keys and the flags given on the command line; flags win.

    A budget flag replaces the file's budget whatever its unit, and another strategy leaves the file's params behind,
    since they are options of the strategy in the file.

    >>> merged({"strategy": "qdit", "k": 9, "params": {"alpha": 0.5}}, {"strategy": "random", "fraction": 0.1})
    {'strategy': 'random', 'fraction': 0.1}
    >>> merged({"strategy": "qdit", "params": {"alpha": 0.5}}, {"params": {"scale": "rank"}})["params"]
    {'alpha': 0.5, 'scale': 'rank'}
    """
    budgets = {"k", "fraction", "max_tokens"}
    dropped = budgets if budgets & set(flags) else set()
    if flags.get("strategy", file.get("strategy")) != file.get("strategy"):
        dropped = dropped | {"params"}
    result = {k: v for k, v in file.items() if k not in dropped} | dict(flags)
    if isinstance(file.get("params"), Mapping) and "params" in flags and "params" not in dropped:
        result["params"] = {**file["params"], **flags["params"]}
    return result

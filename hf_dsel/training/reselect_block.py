# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The `reselect:` block of `hf-dsel sft | dpo`: what to train on, chosen again in each round."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from hf_dsel.opening import open_dataset
from hf_dsel.selection_block import BadConfig, merged, refuse_unknown
from hf_dsel.strategies.random import Random
from hf_dsel.training import mates as of_mates
from hf_dsel.training.mates import Mates
from hf_dsel.training.pacing import Pacing
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.skill_it import SkillIt, check_options

KINDS = ("strategy", "pacing", "skill_it", "mates")
OPTIONS = {"pacing": Pacing, "skill_it": SkillIt, "mates": Mates}
OPENED = {"skill_it": "held_out", "mates": "reference"}  # the option that names a dataset


@dataclass(frozen=True, kw_only=True)
class ReselectBlock:
    """The options of `Reselect`, as a file writes them.

    Args:
        strategy: a name, with its options in `params`; or
        pacing: the options of `Pacing`; or
        skill_it: the options of `SkillIt`, with `held_out` a dataset as `open_dataset` reads it; or
        mates: the options of `Mates`, with `reference` a dataset as `open_dataset` reads it.
        k, every, score, narrow, order, seed: as in `Reselect`; `score` is a column of `CausalLM` or a list of them.
    """

    k: int
    strategy: str | None = None
    pacing: Mapping[str, Any] | None = None
    skill_it: Mapping[str, Any] | None = None
    mates: Mapping[str, Any] | None = None
    every: Any = "epoch"
    score: Any = None
    narrow: float | None = None
    order: str = "random"
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 42

    @classmethod
    def of(cls, found: Any, where: str) -> ReselectBlock:
        """The block that a mapping describes, its options checked.

        Raises:
            BadConfig: no mapping, an unknown key, or a value out of range.
        """
        if not isinstance(found, Mapping):
            raise BadConfig(f"{where} must be a mapping such as {{strategy: random, k: 1000}}, got {found!r}")
        refuse_unknown(found, [f.name for f in dataclasses.fields(cls)], where)
        given = [name for name in KINDS if found.get(name) is not None]
        if len(given) != 1 or found.get("k") is None:
            raise BadConfig(f"{where} needs k and one of {', '.join(KINDS)}; it has {', '.join(found) or 'nothing'}")
        for name, plan in OPTIONS.items():
            if name not in given:
                continue
            if not isinstance(found[name], Mapping):
                raise BadConfig(f"{where}: {name} must be a mapping such as {{column: ifd}}, got {found[name]!r}")
            refuse_unknown(found[name], [f.name for f in dataclasses.fields(plan) if f.init], f"{where}: {name}")
        for name, option in OPENED.items():
            if name in given and not isinstance(found[name].get(option), str):
                raise BadConfig(f"{where}: {name} needs {option}, the file, folder or Hub id of held-out rows")
        if not isinstance(found.get("score"), str | list | None):
            raise BadConfig(f"{where}: score must be a column or a list of columns, got {found['score']!r}")
        block = cls(**found)
        try:
            if block.skill_it is not None:
                defaults = {"eta": SkillIt.eta, "window": SkillIt.window, "graph": None}
                check_options(**{name: block.skill_it.get(name, value) for name, value in defaults.items()})
            if block.mates is not None:
                defaults = {"probe": Mates.probe, "temperature": Mates.temperature, "penalty": None}
                of_mates.check_options(**{name: block.mates.get(name, value) for name, value in defaults.items()})
            block._made(block._rule(None) if block._opened() is None else Random())
        except (ValueError, TypeError) as error:
            raise BadConfig(f"{where}: {error}") from error
        return block

    def make(self) -> Reselect:
        """The callback; a dataset of `held_out` or `reference` is opened.

        Raises:
            ValueError: a dataset that does not go with the options of `skill_it` or `mates`.
        """
        path = self._opened()
        return self._made(self._rule(None if path is None else open_dataset(path)))

    def _opened(self) -> str | None:
        """The path of the dataset that the plan needs."""
        return next((of[option] for name, option in OPENED.items() if (of := getattr(self, name)) is not None), None)

    def _rule(self, held_out: Dataset | None) -> Any:
        if self.pacing is not None:
            return Pacing(**self.pacing)
        if self.skill_it is not None:
            return SkillIt(**{**self.skill_it, "held_out": held_out})
        if self.mates is not None:
            return Mates(**{**self.mates, "reference": held_out})
        return self.strategy

    def _made(self, rule: Any) -> Reselect:
        names = ("every", "score", "narrow", "order", "params", "seed")
        return Reselect(rule, self.k, **{name: getattr(self, name) for name in names})


def with_flags(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """A file's keys and the flags; flags win. Another strategy leaves the file's params and scores behind.

    >>> with_flags({"strategy": "top_k", "params": {"column": "ifd"}, "score": "ifd", "k": 9}, {"strategy": "random"})
    {'k': 9, 'strategy': 'random'}
    """
    if flags.get("strategy", file.get("strategy")) != file.get("strategy"):
        file = {name: v for name, v in file.items() if name not in (*KINDS, "params", "score", "narrow")}
    return merged(file, flags)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Models trained on random subsets as `hf-dsel sft` trains, and what each makes of every row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

from hf_dsel.opening import open_dataset
from hf_dsel.progress import count, say
from hf_dsel.selection import Source
from hf_dsel.selection_block import BadConfig
from hf_dsel.training import experiment as sft
from hf_dsel.training import sequence_stats
from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.memorization import Estimate, influence, memorization, most_influential
from hf_dsel.training.row_numbers import ROW, RowCollator

Measure = Literal["probability", "accuracy"]
MEASURES: tuple[Measure, ...] = ("probability", "accuracy")
SUBSETS, HELD_OUT = "subsets", "held_out"
NOT_SETTINGS = ("output_dir", "logging_dir", "run_name")


class OtherSubsets(ValueError):
    """A folder holds models of another run."""


@dataclass(frozen=True, kw_only=True)
class SubsetModels:
    """Models of random subsets, each measured on every row; what is finished in `out` is not trained again.

    Subset s holds round(fraction · rows) rows drawn by the seed of the training and s, so that a larger `n` keeps the
    first ones. A model is measured by its mean probability of a row's response tokens (survey Eq. 49) and by the share
    of them that it holds for the most likely, without dropout.

    Args:
        arguments: what `hf-dsel sft` would be called with; its `selection:` and `reselect:` blocks are not applied,
            and of `dynamics:` only `pack_to`.
        n: models, from 2 on.
        fraction: of the rows that a model is trained on, in (0, 1).
        out: the folder. It gets `subsets/*.npz`, one a model: `member`, and `probability` and `accuracy` of the rows
            and of the held-out rows.
        held_out: a dataset as `open_dataset` reads it; None is the one that the file evaluates on, if any.
        keep_models: leave the weights in `out/subsets/`.

    Raises:
        BadConfig: an option out of range, or what `hf-dsel sft` refuses.
        OtherSubsets: `out` holds models of other rows, another fraction or other settings.
    """

    arguments: Sequence[str]
    n: int
    fraction: float
    out: Path
    held_out: str | None = None
    keep_models: bool = False
    pool: Dataset = field(init=False)
    tests: Dataset | None = field(init=False)

    def __post_init__(self) -> None:
        if self.n < 2:
            raise BadConfig(f"n={self.n}; it is at least 2, and at least 4 for standard errors")
        if not 0 < self.fraction < 1:
            raise BadConfig(
                f"fraction={self.fraction}; it is above 0 and below 1: every row must be left out sometimes"
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise BadConfig("the models are trained one after the other in one process; start it without torchrun")
        experiment = self._experiment(0)
        for name in ("push_to_hub", "resume_from_checkpoint"):
            if getattr(experiment.training, name):
                raise BadConfig(f"{name} is for one model, and this trains {self.n}; leave it out")
        pool, tests = sft.opened(experiment)
        if self.held_out is not None:
            tests = open_dataset(self.held_out)
        object.__setattr__(self, "pool", pool)
        object.__setattr__(self, "tests", tests)
        if not 0 < self.size < len(pool):
            raise BadConfig(f"fraction={self.fraction} of {count(len(pool), 'row')} is {self.size}; subsets need some "
                            "rows and must leave some out")  # fmt: skip
        for s in range(self.n):
            if self._file(s).exists():
                self._read(s)

    @property
    def size(self) -> int:
        """Rows of a subset."""
        return round(self.fraction * len(self.pool))

    @property
    def finished(self) -> list[int]:
        """The subsets whose models are trained and measured."""
        return [s for s in range(self.n) if self._file(s).exists()]

    def member(self, s: int) -> npt.NDArray[np.bool_]:
        """Which rows subset s holds."""
        rng = np.random.default_rng([self._experiment(s).training.seed, s])
        inside = np.zeros(len(self.pool), np.bool_)
        inside[rng.permutation(len(self.pool))[: self.size]] = True
        return inside

    def train(self) -> None:
        """Train and measure the models that are not finished."""
        for s in range(self.n):
            if self._file(s).exists():
                continue
            inside = self.member(s)
            say(f"model {s + 1} of {self.n}: {count(int(inside.sum()), 'row')}")
            experiment = self._experiment(s)
            subset = self.pool.select(np.flatnonzero(inside))
            tests = None if self.tests is None else sft.for_trl(self.tests)
            wanted = [self.pool] if self.tests is None else [self.pool, self.tests]
            measuring = _Measuring([sft.for_trl(rows) for rows in wanted], self._pack_to(experiment))
            ready: Any = replace(experiment, dynamics=measuring, rows=subset)  # type: ignore[arg-type]
            evaluated = tests if experiment.training.eval_strategy != "no" else None
            sft.train(ready, sft.for_trl(subset), evaluated)
            self._write(s, inside, measuring.found)
            if not self.keep_models:
                shutil.rmtree(experiment.training.output_dir)

    def measured(self, measure: Measure) -> tuple[npt.NDArray[np.bool_], Any, Any]:
        """`member` (models x rows), the values of the rows and, or None, those of the held-out rows."""
        found = [self._read(s) for s in range(self.n)]
        tests = None if self.tests is None else np.stack([f[f"test_{measure}"] for f in found])
        return np.stack([f["member"] for f in found]), np.stack([f[f"row_{measure}"] for f in found]), tests

    def _experiment(self, s: int) -> sft.Experiment:
        folder = self.out / SUBSETS / f"{s:04d}"
        found = sft.parsed("sft", [*self.arguments, "--dynamics.map", "false", "--output_dir", str(folder)])
        return replace(found, block=None, reselect=None)

    @staticmethod
    def _pack_to(experiment: sft.Experiment) -> int | None:
        return None if experiment.dynamics is None else experiment.dynamics.pack_to

    def _file(self, s: int) -> Path:
        return self.out / SUBSETS / f"{s:04d}.npz"

    def _identity(self, s: int) -> str:
        """Everything that the numbers of a model depend on, hashed."""
        experiment = self._experiment(s)
        settings = {k: v for k, v in experiment.training.to_dict().items() if k not in NOT_SETTINGS}
        sources = [dataclasses.asdict(Source.of(rows)) for rows in (self.pool, self.tests) if rows is not None]
        known = [settings, dataclasses.asdict(experiment.model), sources, self.fraction]
        if self._pack_to(experiment) is not None:
            known.append({"pack_to": self._pack_to(experiment)})
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()

    def _write(
        self, s: int, inside: npt.NDArray[np.bool_], found: list[dict[Measure, npt.NDArray[np.float64]]]
    ) -> None:
        arrays: dict[str, Any] = {"member": inside, "identity": np.array(self._identity(s))}
        for kind, values in zip(("row", "test"), found, strict=False):
            arrays |= {f"{kind}_{name}": column for name, column in values.items()}
        path = self._file(s)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def _read(self, s: int) -> dict[str, Any]:
        with np.load(self._file(s)) as found:
            arrays = dict(found)
        if str(arrays["identity"]) != self._identity(s):
            raise OtherSubsets(
                f"{self._file(s)} is of other rows, another fraction or other settings of the training; give another "
                "--out, or the options of that run"
            )
        return arrays


@dataclass
class _Measuring:
    """In the place of a dynamics block: measures some datasets with the model that was just trained."""

    datasets: list[Dataset]
    pack_to: int | None = None
    found: list[dict[Measure, npt.NDArray[np.float64]]] = field(default_factory=list)

    def make(self) -> _Measuring:
        return self

    def bind(self, trainer: Any) -> Any:
        if self.pack_to is not None:
            TrainingDynamics(pack_to=self.pack_to).bind(trainer)
        return trainer

    def write(self, trainer: Any, rows: Dataset, output_dir: str) -> list[str]:
        self.found = [measured(trainer, dataset) for dataset in self.datasets]
        return []


def measured(trainer: Any, dataset: Dataset) -> dict[Measure, npt.NDArray[np.float64]]:
    """The mean over each row's response tokens of their probability, and of whether each is the most likely one.

    Args:
        trainer: an SFTTrainer, after its training.
        dataset: in TRL's format; it is tokenised as the training set was.

    Returns:
        name → (rows,), NaN where a row has no token to measure.
    """
    import torch

    raw = dataset.add_column(ROW, np.arange(len(dataset)))
    rows = trainer._prepare_dataset(
        raw, trainer.processing_class, trainer.args, False, trainer._formatting_func, "measured"
    ).with_format(None)
    collate = RowCollator(trainer.data_collator)
    found = np.full((len(dataset), len(MEASURES)), np.nan)
    size, model = trainer.args.per_device_eval_batch_size, trainer.model
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast():
        for start in range(0, len(rows), size):
            inputs = trainer._prepare_inputs(collate([rows[i] for i in range(start, min(start + size, len(rows)))]))
            numbers = inputs.pop(ROW)
            values = sequence_stats.of_tokens(model(**inputs, use_cache=False, fused_lm_head=True), inputs)
            found[numbers.cpu().numpy()] = values.double().cpu().numpy()
    return {name: found[:, i] for i, name in enumerate(MEASURES)}


def with_columns(models: SubsetModels, measure: Measure, top: int) -> tuple[Dataset, Dataset | None]:
    """The pool with `memorization`, and the held-out rows with their most influential rows of the pool.

    | column | value |
    |---|---|
    | `memorization`, `memorization_se` | `memorization.memorization` and its standard error |
    | `influence`, `influence_se` | of the row on the mean of the held-out rows |
    | of the held-out rows: `influential_rows` | row numbers of the pool, the most influential first |
    | `influential_by`, `influential_se` | `memorization.influence` of each, and its standard error |

    A column of the pool has a `..._status`, with the reason where it is null.

    Args:
        models: all trained.
        measure: the values that are compared.
        top: rows to name for each held-out row.
    """
    member, values, tests = models.measured(measure)
    pool = _added(models.pool, "memorization", memorization(member, values))
    if tests is None or models.tests is None:
        return pool, None
    there = ~np.isnan(tests)
    mean = np.where(there, tests, 0).sum(1, keepdims=True) / there.sum(1, keepdims=True)
    of_mean = influence(member, mean)
    pool = _added(pool, "influence", Estimate(of_mean.values[:, 0], of_mean.errors[:, 0],
                                              (of_mean.models[0][:, 0], of_mean.models[1][:, 0])))  # fmt: skip
    named = most_influential(member, tests, top=top)
    table = pa.table(
        {
            "influential_rows": pa.array([rows.tolist() for rows, _, _ in named], pa.list_(pa.int64())),
            "influential_by": pa.array([_nulls(by) for _, by, _ in named], pa.list_(pa.float32())),
            "influential_se": pa.array([_nulls(error) for _, _, error in named], pa.list_(pa.float32())),
        }
    )
    return pool, concatenate_datasets([models.tests, Dataset(InMemoryTable(table))], axis=1)


def _added(dataset: Dataset, name: str, found: Estimate) -> Dataset:
    columns = {}
    for column, values, reasons in (
        (name, found.values, found.reasons),
        (f"{name}_se", found.errors, found.error_reasons),
    ):
        columns[column] = pa.array(_nulls(values), pa.float32())
        columns[f"{column}_status"] = pa.array([reason or "ok" for reason in reasons], pa.string())
    return concatenate_datasets([dataset, Dataset(InMemoryTable(pa.table(columns)))], axis=1)


def _nulls(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in values]

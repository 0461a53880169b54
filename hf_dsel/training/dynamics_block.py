# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The `dynamics:` block of `hf-dsel sft | dpo`: what to record while training, and what is written after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_dsel.opening import open_dataset
from hf_dsel.progress import say
from hf_dsel.selection_block import BadConfig, refuse_unknown
from hf_dsel.training.dynamics import TrainingDynamics
from hf_dsel.training.trajectories import LearnedAt
from hf_dsel.trl_format import to_trl

FOLDER = "dynamics"


@dataclass(frozen=True, kw_only=True)
class DynamicsBlock:
    """The options of `TrainingDynamics`, as a file writes them.

    Args:
        learned_at, probe, probe_every, gradients, pack_to: as in `TrainingDynamics`.
        probe_on: row numbers among the rows trained on, or a dataset as `open_dataset` reads it.
        map: draw the data map, for which matplotlib is needed.
    """

    learned_at: LearnedAt = "median"
    probe: str | None = None
    probe_every: int | None = None
    probe_on: Any = None
    gradients: str | None = None
    pack_to: int | None = None
    map: bool = True

    @classmethod
    def of(cls, found: Any, where: str) -> DynamicsBlock:
        """The block that a mapping (or `true`, for the defaults) describes, its options checked.

        Raises:
            BadConfig: no mapping, an unknown key, or a value out of range.
        """
        if found is True:
            found = {}
        if not isinstance(found, Mapping):
            raise BadConfig(f"{where} must be true or a mapping such as {{probe: epoch}}, got {found!r}")
        refuse_unknown(found, [f.name for f in dataclasses.fields(cls)], where)
        block = cls(**found)
        if not isinstance(block.map, bool):
            raise BadConfig(f"{where}: map must be true or false, got {block.map!r}")
        on = block.probe_on
        if not (on is None or isinstance(on, str) or (isinstance(on, list) and all(type(n) is int for n in on))):
            raise BadConfig(f"{where}: probe_on must be a dataset or a list of row numbers, got {on!r}")
        try:
            block._made([0] if isinstance(on, str) else on)
        except (ValueError, TypeError) as error:
            raise BadConfig(f"{where}: {error}") from error
        return block

    def make(self) -> TrainingDynamics:
        """The callback; a dataset of `probe_on` is opened."""
        on = self.probe_on
        return self._made(to_trl(open_dataset(on)) if isinstance(on, str) else on)

    def _made(self, on: Any) -> TrainingDynamics:
        options: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del options["map"]
        return TrainingDynamics(**{**options, "probe_on": on})

    def write(self, dynamics: TrainingDynamics, rows: Dataset, output_dir: str) -> list[str]:
        """Write the rows with their columns, and the map where two epochs give one; what was written where.

        Args:
            dynamics: after the training.
            rows: what the trainer was given, with all columns.
            output_dir: the trainer's.
        """
        folder = Path(output_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        old = [n for n in rows.column_names if n.startswith(("dynamics_", "probe_"))]
        if old:
            say(f"{', '.join(old[:3])}{' ...' if len(old) > 3 else ''} of an earlier training are replaced in {folder}")
        dynamics.add_to(rows.remove_columns(old)).to_parquet(folder / "train.parquet")
        written = [f"rows and columns: {folder}"]
        if isinstance(self.probe_on, str):
            probed = dynamics.add_probe_to(open_dataset(self.probe_on))
            (folder / "probe").mkdir(exist_ok=True)
            probed.to_parquet(folder / "probe/train.parquet")
            written.append(f"probed rows: {folder / 'probe'}")
        if self.map:
            try:
                dynamics.map_figure().savefig(folder / "map.png")
                written.append(f"data map: {folder / 'map.png'}")
            except (ModuleNotFoundError, RuntimeError) as reason:
                written.append(f"no data map: {reason}")
        return written

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What was seen of each row in each pass: a table that ranks share and checkpoints keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
NO_TOKEN, NOT_FINITE = "no_token", "not_finite"
BATCHES = 64  # kept on the device before they are fetched in one go


@dataclass
class Records:
    """For each pass (an epoch of training, or a probe) the rows seen and their numbers.

    A row counts once a pass, with what was seen first: ranks fill up the last batch of an epoch with rows from its
    start. Memory: 4 bytes a number and 8 a row, each pass.

    Args:
        numbers: what each row has, in order.
        passes: pass → rows (ascending) and values (rows x numbers); the same on every rank.
        lost: `NO_TOKEN` or `NOT_FINITE` → rows (ascending) that came by without numbers for this reason.
    """

    numbers: tuple[str, ...]
    passes: dict[int, tuple[IntArray, FloatArray]] = field(default_factory=dict)
    lost: dict[str, IntArray] = field(default_factory=dict)
    _new: list[tuple[int, int, torch.Tensor, torch.Tensor]] = field(default_factory=list, repr=False)
    _fetched: list[tuple[int, int, IntArray, FloatArray]] = field(default_factory=list, repr=False)

    def add(self, rows: torch.Tensor, values: torch.Tensor, *, at: int, step: int) -> None:
        """Keep a batch of pass `at`, without waiting for the device.

        Raises:
            RuntimeError: another number of rows than of sequences.
        """
        if len(rows) != len(values):
            raise RuntimeError(
                f"the batch has {len(rows)} rows and the model saw {len(values)} sequences, so they cannot be matched; "
                "please report the trainer's arguments"
            )
        self._new.append((at, step, rows, values))
        if len(self._new) >= BATCHES:
            self._fetch()

    def _fetch(self) -> None:
        import torch

        if not self._new:
            return
        rows = torch.cat([rows for _, _, rows, _ in self._new]).cpu().numpy().astype(np.int64)
        values = torch.cat([values for *_, values in self._new]).cpu().numpy().astype(np.float32)
        ends = np.cumsum([len(rows) for _, _, rows, _ in self._new])[:-1]
        for (at, step, *_), r, v in zip(self._new, np.split(rows, ends), np.split(values, ends), strict=True):
            self._fetched.append((at, step, r, v))
        self._new.clear()

    def settle(self, ranks: int) -> None:
        """Merge what all ranks added. Every rank calls it, and every rank has all records after it."""
        self._fetch()
        mine = {at: _joined([new for new in self._fetched if new[0] == at]) for at in {new[0] for new in self._fetched}}
        self._fetched.clear()
        parts = [mine]
        if ranks > 1:
            from accelerate.utils import gather_object

            parts = gather_object([mine])
        for at in sorted({at for part in parts for at in part}):
            found = [part[at] for part in parts if at in part]
            steps, rows, values = (np.concatenate([f[i] for f in found]) for i in range(3))
            order = np.argsort(steps, kind="stable")  # at one step the lower rank first
            rows, values = rows[order], values[order]
            seen, silent = np.isfinite(values).all(1), np.isnan(values[:, 0])
            for why, which in ((NO_TOKEN, silent), (NOT_FINITE, ~seen & ~silent)):
                self.lost[why] = np.union1d(self.lost.get(why, np.empty(0, np.int64)), rows[which])
            if at in self.passes:
                rows = np.concatenate([self.passes[at][0], rows[seen]])
                values = np.concatenate([self.passes[at][1], values[seen]])
            else:
                rows, values = rows[seen], values[seen]
            rows, earliest = np.unique(rows, return_index=True)
            self.passes[at] = rows, values[earliest]

    def trajectories(self, rows: IntArray) -> dict[str, npt.NDArray[np.float64]]:
        """Each number as an array (rows x passes from 0 to the last), NaN where a row was not seen."""
        found = {name: np.full((len(rows), max(self.passes, default=-1) + 1), np.nan) for name in self.numbers}
        for at, (seen, values) in self.passes.items():
            place = np.searchsorted(seen, rows)
            there = place < len(seen)
            there[there] = seen[place[there]] == rows[there]
            for j, name in enumerate(self.numbers):
                found[name][there, at] = values[place[there], j]
        return found

    def last(self, name: str) -> FloatArray:
        """A number of each row that was seen, from the last pass that saw it."""
        size = max((int(rows[-1]) + 1 for rows, _ in self.passes.values() if len(rows)), default=0)
        found = np.full(size, np.nan, np.float32)
        for at in sorted(self.passes):
            rows, values = self.passes[at]
            found[rows] = values[:, self.numbers.index(name)]
        return found[~np.isnan(found)]

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Everything that is settled, as named arrays."""
        found: dict[str, npt.NDArray[Any]] = {}
        for at, (rows, values) in self.passes.items():
            found |= {f"{prefix}/{at}/rows": rows, f"{prefix}/{at}/values": values}
        return found | {f"{prefix}-lost/{why}": rows for why, rows in self.lost.items()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> None:
        """Take what `arrays` made, in the place of what is here."""
        self._new.clear()
        self._fetched.clear()
        found = sorted({int(name.split("/")[1]) for name in arrays if name.startswith(f"{prefix}/")})
        lost = f"{prefix}-lost/"
        self.lost = {name.removeprefix(lost): rows for name, rows in arrays.items() if name.startswith(lost)}
        self.passes = {at: (arrays[f"{prefix}/{at}/rows"], arrays[f"{prefix}/{at}/values"]) for at in found}


def _joined(batches: list[tuple[int, int, IntArray, FloatArray]]) -> tuple[IntArray, IntArray, FloatArray]:
    """The steps, rows and values of some batches, each in one array."""
    steps = np.concatenate([np.full(len(rows), step, np.int64) for _, step, rows, _ in batches])
    return steps, np.concatenate([b[2] for b in batches]), np.concatenate([b[3] for b in batches])

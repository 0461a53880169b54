# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The greedy itself: which row is next, while knowing as few of the N² similarities as possible."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch

from hf_dsel.ops.uncovered_pairs import SLACK, UncoveredPairs, estimate, kernels
from hf_dsel.ops.unit_rows import true_float32

TIE = 1e-6  # gains this close (relative to the diversity part, absolute under 1) tie: float32 similarities say no more
ALLOWANCE = 0.1  # share of all rows that may be computed one by one before a pass over all pairs pays
GROUPS = 4  # groups of like cover in the moment bound
SHORT = 512  # mean length of the lists of pairs from which on each pick walks them
COLUMNS = 8192  # similarities of a row computed at a time


class GreedyCover:
    """One run over unit rows. Positions are into `unit`, which gets sorted; `row` maps them to the caller's rows.

    `gain` is Δd(a|A) = Σ_v max(cos(a, v) − m_v, 0): exact where `fresh`, elsewhere an upper bound, since Δd only falls.
    """

    def __init__(
        self,
        unit: torch.Tensor,
        weight: float,
        modular: torch.Tensor,
        *,
        shifted: bool,
        max_bytes: int | None,
        block: int | None,
    ) -> None:
        n, device = len(unit), unit.device
        self.unit = unit
        self.modular = modular.to(device)  # −inf once picked
        self.weight = weight / 2 if shifted else weight  # sim = (1 + cos)/2 halves every gain,
        self.first_extra = float(n) if shifted else 0.0  # and the first pick sees N more ones
        self.row = torch.arange(n, device=device)
        self.cover = torch.full((n,), -1.0, device=device)
        self.gain = torch.full((n,), math.inf, dtype=torch.float64, device=device)
        self.fresh = torch.zeros(n, dtype=torch.bool, device=device)
        self.max_bytes = free_bytes(device) // 2 if max_bytes is None else max_bytes
        if block is None:  # at most 64 blocks; on CPUs tiles that fit the cache
            block = max(16384 if device.type == "cuda" else 3072, -(-n // 64))
        self.block = min(block, n)
        self._loops = kernels(device)
        self.computed = 0  # rows computed one by one since the last pass over all pairs

    # --- the two drivers ---

    def picks(self) -> Iterator[tuple[int, float]]:
        """Exact greedy."""
        n = len(self.unit)
        if self.weight == 0:
            order = torch.argsort(self.modular, descending=True, stable=True)
            yield from zip(order.tolist(), self.modular[order].tolist(), strict=True)
            return
        best, row, gain = self._first(None)
        yield row, gain
        self._cover_with(best)
        allowance = int(ALLOWANCE * n)
        moments = n >= 32 * self.unit.shape[1]  # else N·d² is no longer small beside N²·d
        pairs: UncoveredPairs | None = None
        for step in range(1, n):
            if moments and step <= 3:
                self._bound_by_moments(self._rivals() if step > 1 else torch.arange(n, device=self.unit.device))
            found = self._lazy(None, allowance) if moments or step > 1 else None
            if found is None:  # too many rows compete: renew all gains
                if pairs is not None:
                    pairs.rebuild()
                    self.gain.copy_(pairs.gains)
                elif self._pairs_fit():
                    pairs = UncoveredPairs(self.unit, self.cover, block=self.block, expected=self.expected)
                    self.gain.copy_(pairs.gains)
                else:
                    self._refresh()
                self.fresh.fill_(True)
                self.computed = 0
                if pairs is not None:
                    if pairs.used < SHORT * n:
                        yield from self._walk(pairs, n - step)
                        return
                    allowance = min(allowance, pairs.used // 50_000)  # by what a row and a pair cost
                found = self._choose(None)
            best, row, gain = found
            yield row, gain
            self._cover_with(best)

    def sampled_picks(self, size: int, rng: np.random.Generator) -> Iterator[tuple[int, float]]:
        """Stochastic greedy: at each step the best of `size` rows drawn from those not picked yet."""
        n = len(self.unit)
        remaining = np.arange(n)
        for step in range(n):
            at = rng.choice(len(remaining), size=min(size, len(remaining)), replace=False, shuffle=False)
            outside = torch.ones(n, dtype=torch.bool, device=self.unit.device)
            outside[torch.from_numpy(remaining[at]).to(outside.device)] = False
            found = self._lazy(outside, n) if step and self.weight else self._first(outside)
            best, row, gain = found or self._choose(outside)
            yield row, gain
            remaining = np.delete(remaining, np.searchsorted(remaining, row))
            self._cover_with(best)

    # --- choosing ---

    def _score(self, outside: torch.Tensor | None) -> torch.Tensor:
        """weight · Δd + modular, −inf for rows that cannot be picked."""
        score = torch.add(self.modular, self.gain, alpha=self.weight)
        return score if outside is None else score.masked_fill_(outside, -math.inf)

    def _choose(self, outside: torch.Tensor | None) -> tuple[int, int, float]:
        """The largest score among the fresh rows; ties to the lower row. (position, row, score)."""
        score = self._score(outside).masked_fill_(~self.fresh, -math.inf)
        return self._lowest_of_ties(score)

    def _lowest_of_ties(self, score: torch.Tensor) -> tuple[int, int, float]:
        top = score.argmax()
        close = score >= score[top] - self._tie(self.gain[top])
        best = torch.where(close, self.row, len(self.row)).argmin()
        position, row, value = torch.stack([best.double(), self.row[best].double(), score[best]]).tolist()
        return int(position), int(row), value

    def _tie(self, gain: torch.Tensor) -> torch.Tensor:
        return TIE * self.weight * gain.abs().clamp_min(1.0)

    def _first(self, outside: torch.Tensor | None) -> tuple[int, int, float]:
        """Σ_v cos(a, v) = x_a · Σ_v x_v for all a: no product of rows with rows is needed."""
        if self.weight:
            total = torch.zeros(self.unit.shape[1], dtype=torch.float64, device=self.unit.device)
            for part in self.unit.split(COLUMNS):
                total += part.double().sum(0)
            self.gain = torch.cat([part.double() @ total for part in self.unit.split(COLUMNS)]) + self.first_extra
        else:
            self.gain.zero_()
        found = self._lowest_of_ties(self._score(outside))
        if self.weight:
            self.gain.fill_(math.inf)
        return found

    def _cover_with(self, best: int) -> None:
        """A ← A ∪ best: m_v ← max(m_v, cos(best, v)). All gains are upper bounds now."""
        self.modular[best] = -math.inf
        if self.weight:
            with true_float32():
                torch.maximum(self.cover, self.unit @ self.unit[best], out=self.cover)
        self.fresh.zero_()

    # --- gains, one by one, bounded, or all ---

    def _lazy(self, outside: torch.Tensor | None, allowance: int) -> tuple[int, int, float] | None:
        """Compute the most promising rows until no bound reaches the best; None if that takes over `allowance` rows."""
        score = self._score(outside)
        batch = 64
        while True:
            known = score.masked_fill(~self.fresh, -math.inf)
            top = known.argmax()
            floor = known[top] - self._tie(self.gain[top]) if bool(self.fresh[top]) else known.new_tensor(-math.inf)
            rivals = ((score >= floor) & ~self.fresh & (score > -math.inf)).nonzero().view(-1)
            if len(rivals) == 0:
                return self._lowest_of_ties(known)
            if batch > 64 and self.computed + len(rivals) > allowance:  # judged after a first batch
                return None
            if len(rivals) > batch:
                rivals = rivals[score[rivals].topk(batch).indices]
            self.gain[rivals] = self._exact(rivals)
            self.fresh[rivals] = True
            score[rivals] = torch.add(self.modular[rivals], self.gain[rivals], alpha=self.weight)
            self.computed += len(rivals)
            batch = min(2 * batch, 1024)

    def _exact(self, rows: torch.Tensor) -> torch.Tensor:
        """Δd(a|A) = Σ_v max(cos(a, v) − m_v, 0) for some rows."""
        left = self.unit[rows]
        total = torch.zeros(len(rows), dtype=torch.float64, device=left.device)
        with true_float32():
            for columns, cover in zip(self.unit.split(COLUMNS), self.cover.split(COLUMNS), strict=True):
                above = (left @ columns.T).sub_(cover)
                total += torch.threshold_(above, SLACK, 0.0).sum(1)
        return total

    def _rivals(self) -> torch.Tensor:
        """The rows whose bound reaches the best of the 64 rows of largest bounds, computed exactly."""
        score = self._score(None)
        first = score.topk(min(64, len(score))).indices
        first = first[torch.isfinite(score[first])]
        self.gain[first] = self._exact(first)
        self.fresh[first] = True
        self.computed += len(first)
        known = self._score(None)
        return ((known >= known[first].max()) & ~self.fresh).nonzero().view(-1)

    def _bound_by_moments(self, rows: torch.Tensor) -> None:
        """Upper bounds for some rows from moments, O(N·d²): with z_v = cos(a, v) − m_v over a group G of rows v,

        Σ max(z, 0) = (Σ z + Σ |z|)/2 ≤ (Σ z + √(|G| Σ z²))/2, and Σ cos² = xᵀ (Σ x_v x_vᵀ) x.
        Groups of like m make it tight.
        """
        bound = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        with true_float32():
            groups = [self._moments(group) for group in self.cover.argsort().chunk(GROUPS)]
            for start in range(0, len(rows), COLUMNS):
                x = self.unit[rows[start : start + COLUMNS]]
                for size, first, second, cross, m_sum, m_square in groups:
                    z = (x @ first).double() - m_sum
                    square = (x @ second).mul_(x).sum(1).double() - 2 * (x @ cross).double() + m_square
                    square.clamp_min_(0).add_(1e-5 * size)  # float32 noise, rounded up
                    bound[start : start + COLUMNS] += (z + 1e-5 * size + (size * square).sqrt()) / 2
        self.gain[rows] = torch.minimum(self.gain[rows], bound)

    def _moments(self, group: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor, torch.Tensor, float, float]:
        """|G|, Σ x_v, Σ x_v x_vᵀ, Σ m_v x_v, Σ m_v and Σ m_v² over a group of rows."""
        cover = self.cover[group]
        second = torch.zeros(self.unit.shape[1], self.unit.shape[1], device=self.unit.device)
        first, cross = torch.zeros_like(second[0]), torch.zeros_like(second[0])
        for part, m in zip(group.split(COLUMNS), cover.split(COLUMNS), strict=True):
            x = self.unit[part]
            second += x.T @ x
            first += x.sum(0)
            cross += m @ x
        return len(group), first, second, cross, float(cover.double().sum()), float(cover.double().square().sum())

    def _refresh(self) -> None:
        """All gains, exact, in one pass over half of the products: a tile serves a in I, v in J and the reverse."""
        self.gain.zero_()
        b = self.block
        with true_float32():
            for i in range(0, len(self.unit), b):
                rows = slice(i, i + b)
                for j in range(i, len(self.unit), b):
                    columns = slice(j, j + b)
                    tile = self.unit[rows] @ self.unit[columns].T
                    above = torch.threshold_(tile - self.cover[columns], SLACK, 0.0)
                    self.gain[rows] += above.sum(1)
                    if j > i:
                        tile -= self.cover[rows, None]
                        self.gain[columns] += torch.threshold_(tile, SLACK, 0.0).sum(0)

    # --- all pairs ---

    def _pairs_fit(self) -> bool:
        """Sort by cover, as `UncoveredPairs` wants it, and count how much it would store."""
        order = self.cover.argsort(stable=True)
        for name in ("unit", "modular", "row", "cover", "gain", "fresh"):
            setattr(self, name, getattr(self, name)[order])
        self.expected = estimate(self.unit, self.cover)
        lists = 12 * -(-len(self.unit) // self.block) * len(self.unit)
        return 8.4 * self.expected + lists <= self.max_bytes

    def _walk(self, pairs: UncoveredPairs, steps: int) -> Iterator[tuple[int, float]]:
        """The remaining picks, every gain exact at every step."""
        if self._loops is not None:
            yield from self._walk_compiled(pairs, steps, self._loops)
            return
        n = len(self.unit)
        self.gain = pairs.gains
        most = max(8, min(256, (1 << (31 if self.unit.is_cuda else 26)) // (4 * n)))
        guess, hits = min(32, most), 0
        rows_at: dict[int, int] = {}
        for step in range(steps):
            score = self._score(None)
            best, row, gain = self._lowest_of_ties(score)
            yield row, gain
            if step == steps - 1:
                return
            if best not in rows_at:  # its similarities to all, and those of the likely next picks, in one product
                guess = min(most, max(16, 2 * hits)) if rows_at else guess
                score[best] = math.inf
                likely = score.topk(min(guess, n)).indices
                with true_float32():
                    rows = self.unit[likely] @ self.unit.T
                rows_at, hits = {p: at for at, p in enumerate(likely.tolist())}, 0
            hits += 1
            self.modular[best] = -math.inf
            pairs.raise_cover(rows[rows_at[best]])

    def _walk_compiled(self, pairs: UncoveredPairs, steps: int, loops: ModuleType) -> Iterator[tuple[int, float]]:
        """The same by compiled loops: which v a pick covers is read from the pairs."""
        pairs.join_lists()
        gains, modular, row = pairs.gains.numpy(), self.modular.numpy(), self.row.numpy()
        for step in range(steps):
            best, score = loops.choose(gains, modular, self.weight, row, TIE)
            yield int(row[best]), score
            if step == steps - 1:
                return
            modular[best] = -math.inf
            pairs.cover_with(best)


def free_bytes(device: torch.device) -> int:
    """Memory that is free now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return 4 << 30

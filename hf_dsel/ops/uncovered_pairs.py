# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The pairs that still count in a facility-location greedy, stored once, so that every gain stays exact and cheap.

The cover m_v = max_{a in A} cos(a, v) only grows. After t picks only pairs with cos(a, v) > m_v can ever add to a gain
again, about N²/t of N² or fewer. They are found in one pass over half of the products (a tile serves both of its
sides) and listed by v. A pick then changes some m_v, and walking just those lists keeps every gain exact.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch

from hf_dsel.ops.compiled_loops import compiled_loops
from hf_dsel.ops.unit_rows import true_float32

SLACK = 1e-6  # a similarity this close to the cover counts as covered: float32 noise, e.g. between equal rows
PRUNE_FROM = 1 << 20  # pairs walked before covered ones are first dropped
_STEP = 1 << 17  # pairs handled at a time: small enough for a cache


def estimate(unit: torch.Tensor, cover: torch.Tensor, *, sample: int = 512, block: int = 8192) -> int:
    """About how many pairs have cos(a, v) > m_v, from evenly spaced rows v. Rows sorted by cover make it sharp."""
    rows = torch.linspace(0, len(unit) - 1, min(sample, len(unit)), dtype=torch.float64, device=unit.device).long()
    limit = cover[rows][:, None] + SLACK
    left, found = unit[rows], 0
    with true_float32():
        for start in range(0, len(unit), block):
            found += int((left @ unit[start : start + block].T > limit).sum())
    return round(found * len(unit) / len(rows))


class UncoveredPairs:
    """Every (a, v) with cos(a, v) > m_v, by v, and the exact gain Σ_v max(cos(a, v) − m_v, 0) of every row a.

    Args:
        unit: `rows x dim` float32 unit rows, **sorted by ascending cover**: then m_i ≤ m_j in every tile right of the
            diagonal, and one comparison with m_i finds the pairs of both directions.
        cover: m_v, float32, same order. Updated in place by `raise_cover`.
        block: edge of a tile, in rows.
        expected: pairs to make room for; more is found out and made room for.
    """

    def __init__(self, unit: torch.Tensor, cover: torch.Tensor, *, block: int, expected: int) -> None:
        n, device = len(unit), unit.device
        self._kernels = kernels(device)
        self.cover = cover
        self.gains = torch.zeros(n, dtype=torch.float64, device=device)
        self.block = min(block, n)
        blocks = -(-n // self.block)
        # the list of v is cut by a's block: start[v, b], length[v, b]
        self.start = torch.zeros(n, blocks, dtype=torch.int64, device=device)
        self.length = torch.zeros(n, blocks, dtype=torch.int32, device=device)
        room = max(int(expected * 1.05), 1024)
        self.partner = torch.empty(room, dtype=torch.int32, device=device)
        self.similarity = torch.empty(room, dtype=torch.float32, device=device)
        self.used = 0
        self.walked = 0  # pairs looked at since the last pruning
        self._runs: list[tuple[int, slice, int]] = []  # in storage order: a's block, the v's, how many pairs
        with true_float32():
            self._fill(unit)

    def _fill(self, unit: torch.Tensor) -> None:
        if self._kernels is not None:
            self._fill_compiled(unit, self._kernels)
            return
        n, b = len(unit), self.block
        limit = self.cover + SLACK
        tile_space = torch.empty(b * b, dtype=torch.float32, device=unit.device)
        mask_space = torch.empty(b * b, dtype=torch.bool, device=unit.device)
        short = torch.int16 if b <= 32767 else torch.int32  # small keys sort faster
        for i0 in range(0, n, b):
            rows = slice(i0, min(i0 + b, n))
            for j0 in range(i0, n, b):
                cols = slice(j0, min(j0 + b, n))
                height, width = rows.stop - i0, cols.stop - j0
                tile = tile_space[: height * width].view(height, width)
                mask = mask_space[: height * width].view(height, width)
                torch.mm(unit[rows], unit[cols].T, out=tile)
                torch.gt(tile, limit[rows, None], out=mask)  # cos > m_i: v = i, a = j
                flat = mask.view(-1).nonzero().view(-1)
                j = flat & (width - 1) if width & (width - 1) == 0 else flat % width
                similarity = tile.view(-1)[flat]
                ends = torch.searchsorted(flat, torch.arange(1, height + 1, device=flat.device) * width)
                self._append(ends, j, similarity, v=rows, a=cols)
                if j0 > i0:  # cos > m_j is a subset, since m_i ≤ m_j: v = j, a = i
                    both = (similarity > limit[cols][j]).nonzero().view(-1)
                    by_j, order = j[both].to(short).sort(stable=True)
                    both = both[order]
                    ends = torch.searchsorted(by_j, torch.arange(width, device=by_j.device, dtype=short), right=True)
                    i = torch.div(flat[both], width, rounding_mode="floor")
                    self._append(ends, i, similarity[both], v=cols, a=rows)

    def _append(self, ends: torch.Tensor, a_of: torch.Tensor, similarity: torch.Tensor, *, v: slice, a: slice) -> None:
        """Store pairs of one tile, sorted by v: where each v's pairs end, and their a (0 is the slice's start)."""
        count = ends.diff(prepend=ends.new_zeros(1))
        end = self.used + len(a_of)
        self._make_room(end)
        self.partner[self.used : end] = a_of + a.start
        self.similarity[self.used : end] = similarity
        block = a.start // self.block
        self.length[v, block] = count.int()
        self.start[v, block] = ends - count + self.used
        self._runs.append((block, v, len(a_of)))
        self.used = end
        excess = similarity.double() - torch.repeat_interleave(self.cover[v].double(), count, output_size=len(a_of))
        self.gains[a].index_add_(0, a_of, excess)

    def _make_room(self, end: int) -> None:
        if end > len(self.partner):
            room = max(end, len(self.partner) * 5 // 4) - len(self.partner)
            self.partner = torch.cat([self.partner, self.partner.new_empty(room)])
            self.similarity = torch.cat([self.similarity, self.similarity.new_empty(room)])

    def _fill_compiled(self, unit: torch.Tensor, loops: ModuleType) -> None:
        """The same; each tile is counted and then stored, its rows shared out among threads."""
        n, b = len(unit), self.block
        space = torch.empty(b * b, dtype=torch.float32)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for i0 in range(0, n, b):
                for j0 in range(i0, n, b):
                    rows, cols = slice(i0, min(i0 + b, n)), slice(j0, min(j0 + b, n))
                    tile = space[: (rows.stop - i0) * (cols.stop - j0)].view(rows.stop - i0, -1)
                    torch.mm(unit[rows], unit[cols].T, out=tile)
                    self._store(tile.numpy(), rows, cols, pool, loops)

    def _store(self, tile: np.ndarray, rows: slice, cols: slice, pool: ThreadPoolExecutor, loops: ModuleType) -> None:
        height, width = tile.shape
        apart = cols.start > rows.start
        workers = 4 * torch.get_num_threads()  # more parts than threads: one that is held up does less
        cover, gains = self.cover.numpy(), self.gains.numpy()
        limit = (self.cover + SLACK).numpy()
        cuts = [height * t // workers for t in range(workers + 1)]
        parts = [slice(low, high) for low, high in pairwise(cuts)]
        long_i = np.zeros(height, np.int64)
        long_j = np.zeros((workers, width), np.int32)  # by thread, so that none waits for another

        def count(t: int) -> None:
            mine = parts[t]
            loops.count(tile[mine], limit[rows][mine], limit[cols], apart, long_i[mine], long_j[t])

        list(pool.map(count, range(workers)))
        middle = self.used + int(long_i.sum())
        end = middle + int(long_j.sum())
        self._make_room(end)
        at_i = self.used + long_i.cumsum() - long_i
        by_j = long_j.T.reshape(-1).astype(
            np.int64
        )  # the list of j: what each thread found for it, one after the other
        at_j = np.ascontiguousarray((middle + by_j.cumsum() - by_j).reshape(width, workers).T)
        self._list(at_i, long_i, v=rows, a=cols)
        if apart:
            self._list(at_j[0].copy(), long_j.sum(0), v=cols, a=rows)
        partner, similarity = self.partner.numpy(), self.similarity.numpy()
        more = np.zeros((workers, width))

        def store(t: int) -> None:
            mine = parts[t]
            loops.store(
                tile[mine], limit[rows][mine], limit[cols], cover[rows][mine], cover[cols], apart, at_i[mine], at_j[t],
                rows.start + mine.start, cols.start, partner, similarity, gains[rows][mine], more[t],
            )  # fmt: skip

        list(pool.map(store, range(workers)))
        gains[cols] += more.sum(0)
        self.used = end

    def _list(self, start: np.ndarray, length: np.ndarray, *, v: slice, a: slice) -> None:
        block = a.start // self.block
        self.start[v, block] = torch.from_numpy(start)
        self.length[v, block] = torch.from_numpy(length).int()
        self._runs.append((block, v, int(length.sum())))

    def raise_cover(self, row: torch.Tensor) -> None:
        """Take a row into A: m_v ← max(m_v, row_v), and every gain follows.

        Args:
            row: cos(pick, v) for all v, float32.
        """
        changed = (row > self.cover + SLACK).nonzero().view(-1)
        old, new = self.cover[changed], row[changed]
        self.cover[changed] = new
        length = self.length[changed].long()  # changed x blocks
        start = self.start[changed]
        total = length.sum(1).cumsum(0)
        ends = total.tolist() if len(changed) else []
        if not ends or ends[-1] == 0:
            return
        first = 0
        while first < len(ends):  # some lists at a time, to bound the memory
            before = ends[first - 1] if first else 0
            last = first + 1
            if ends[-1] - before > _STEP:
                while last < len(ends) and ends[last] - before <= _STEP:
                    last += 1
            else:
                last = len(ends)
            part = slice(first, last)
            self._lower(
                start[part].reshape(-1), length[part].reshape(-1), old[part], new[part], ends[last - 1] - before
            )
            first = last
        self.walked += ends[-1]
        self._prune()

    def _prune(self) -> None:
        if self.walked > max(self.used, PRUNE_FROM):
            self.rebuild()

    def _lower(
        self, start: torch.Tensor, length: torch.Tensor, old: torch.Tensor, new: torch.Tensor, total: int
    ) -> None:
        """Gains lose min(cos, m_new) − m_old on each pair of the lists given."""
        if total == 0:
            return
        blocks = self.start.shape[1]
        shift = start - (length.cumsum(0) - length)
        at = torch.repeat_interleave(shift, length, output_size=total)
        at += torch.arange(total, device=at.device)
        per_v = length.view(-1, blocks).sum(1)
        old = torch.repeat_interleave(old, per_v, output_size=total)
        new = torch.repeat_interleave(new, per_v, output_size=total)
        similarity = self.similarity[at]
        alive = (similarity > old + SLACK).nonzero().view(-1)  # the others were covered before
        old, new, similarity = old[alive], new[alive], similarity[alive]
        still = torch.where(similarity > new + SLACK, new, similarity).double()
        self.gains.index_add_(0, self.partner[at[alive]].long(), old.double() - still)

    def join_lists(self) -> None:
        """Make every list one piece, give the spare room back, and list the pairs by a as well. Compiled loops only."""
        loops = self._loops()
        start, length = self.start.numpy(), self.length.numpy()
        old = self.partner.numpy(), self.similarity.numpy()
        self._begin = np.zeros(len(start) + 1, np.int64)
        self._v_of, self._similarity_of = np.empty(self.used, np.int32), np.empty(self.used, np.float32)
        loops.turn(start, length, *old, self._begin, self._v_of, self._similarity_of)
        partner, similarity = self.partner.new_empty(self.used), self.similarity.new_empty(self.used)
        loops.join(start, length, *old, partner.numpy(), similarity.numpy())
        self.partner, self.similarity = partner, similarity
        self.start, self.length = self.start[:, :1].contiguous(), self.length[:, :1].contiguous()
        self._runs = [(0, slice(0, len(self.start)), self.used)]

    def cover_with(self, pick: int) -> None:
        """Take a row into A: `raise_cover` without any product, after `join_lists`."""
        its = slice(self._begin[pick], self._begin[pick + 1])
        self.walked += self._loops().lower(
            self._v_of[its], self._similarity_of[its], self.cover.numpy(), np.float32(SLACK), self.start[:, 0].numpy(),
            self.length[:, 0].numpy(), self.partner.numpy(), self.similarity.numpy(), self.gains.numpy(),
        )  # fmt: skip
        self._prune()

    def _loops(self) -> ModuleType:
        if self._kernels is None:
            raise RuntimeError("this needs the compiled loops")
        return self._kernels

    def rebuild(self) -> None:
        """Drop the pairs that are covered by now, and sum all gains anew; the storage is packed in place."""
        read = write = 0
        self.gains.zero_()
        runs = []
        for block, v, count in self._runs:
            if self._kernels is not None:
                kept = self._kernels.pack(
                    read, write, self.cover[v].numpy(), np.float32(SLACK), self.start[v, block].numpy(),
                    self.length[v, block].numpy(), self.partner.numpy(), self.similarity.numpy(), self.gains.numpy(),
                ) - write  # fmt: skip
                runs.append((block, v, kept))
                read, write = read + count, write + kept
                continue
            length = self.length[v, block].long()
            similarity = self.similarity[read : read + count]
            cover = torch.repeat_interleave(self.cover[v], length, output_size=count)
            which = (similarity > cover + SLACK).nonzero().view(-1)
            similarity, partner = similarity[which], self.partner[read : read + count][which]
            self.gains.index_add_(0, partner.long(), similarity.double() - cover[which].double())
            ends = torch.cat([length.new_zeros(1), length.cumsum(0)])
            bounds = torch.searchsorted(which, ends)  # kept pairs before each list's end
            kept = len(which)
            self.similarity[write : write + kept] = similarity
            self.partner[write : write + kept] = partner
            self.length[v, block] = bounds.diff().int()
            self.start[v, block] = bounds[:-1] + write
            runs.append((block, v, kept))
            read, write = read + count, write + kept
        self._runs, self.used, self.walked = runs, write, 0


def kernels(device: torch.device) -> ModuleType | None:
    """The compiled loops over pairs, or None."""
    return compiled_loops("pair_kernels", device)

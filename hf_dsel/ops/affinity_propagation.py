# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Affinity propagation on embeddings that holds R and little more: A follows from R and its column sums."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from types import ModuleType
from typing import Literal

import numpy as np
import torch

from hf_dsel.ops.compiled_loops import compiled_loops
from hf_dsel.ops.election import check_options, check_room, elect
from hf_dsel.ops.negative_distances import NegativeDistances, block_rows, kept_numbers
from hf_dsel.ops.unit_rows import check_floats, pick_device, true_float32

History = torch.Tensor | Callable[[slice], torch.Tensor]
Similarity = Literal["kept", "half", "recomputed"]
_WORK = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}  # of arithmetic
_CHUNK = 16  # rows that a thread makes and uses while they are in its cache


@dataclass(frozen=True, eq=False)
class Messages:
    """What the iterations ended with.

    Args:
        responsibility: R, `n x n`, on the device. Column k says how well k would serve row i.
        representation: Eq. 7, float64, one a row: Σ_i F[i, k] − Σ_i F[k, i] + F[k, k] with F = A + R. Not divided by n.
        exemplars: rows k with A[k, k] + R[k, k] > 0, ascending, int64.
        iterations: how many were done.
        converged: whether it stopped because the exemplars stayed the same.
        preference: the number that was put on the diagonal of S.
    """

    responsibility: torch.Tensor
    representation: np.ndarray
    exemplars: np.ndarray
    iterations: int
    converged: bool
    preference: float
    _state: _State = field(repr=False)

    def availability(self, rows: slice = slice(None)) -> torch.Tensor:
        """Some rows of A (all of them by default): a new tensor, computed from R unless A was damped too."""
        start, stop, _ = rows.indices(len(self.responsibility))
        return self._state.availability(start, max(start, stop)).clone()


def message_bytes(
    n: int,
    dim: int,
    *,
    dtype: torch.dtype = torch.float32,
    similarity: Similarity = "kept",
    damp_both: bool = False,
    block: int | None = None,
    device: str | torch.device | None = None,
) -> int:
    """About how many bytes `affinity_propagation` allocates for n rows of this width, given the same options.

    R counts n² numbers, the kept half of S n²/2, a damped A n²; the rest is blocks. A history given as a tensor is not
    counted.

    >>> round(message_bytes(10_000, 384, device="cpu") / (4 * 10_000**2), 1)  # as a share of R
    1.5
    """
    where, size = pick_device(device), _WORK[dtype].itemsize
    b = block_rows(n, block, where, kept=similarity != "recomputed")
    stored = 0 if similarity == "recomputed" else kept_numbers(n, b) * (2 if similarity == "half" else size)
    embedded = size * n * dim
    blocks = size * b * n * (1 if _kernels(where) is not None and not damp_both else 2 if dtype == _WORK[dtype] else 3)
    messages = n * n * dtype.itemsize * (1 + int(damp_both)) + blocks
    return 64 * n + (embedded + messages if stored == 0 else stored + max(embedded + blocks, messages))


def affinity_propagation(
    embeddings: np.ndarray | torch.Tensor,
    *,
    preference: float | Literal["median"] = 0.0,
    iterations: int = 200,
    stop_after: int | None = 15,
    damping: float = 0.5,
    damp_both: bool = False,
    history: History | None = None,
    momentum: float = 0.5,
    decay: float = 0.99,
    similarity: Similarity = "kept",
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    block: int | None = None,
    max_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Messages:
    """Messages by which rows elect the rows that represent them, and the score of each row in that election.

        S[i, k] = −‖x_i − x_k‖, and S[k, k] = preference
        R[i, k] ← S[i, k] − max_{k' ≠ k} (A[i, k'] + S[i, k'])                               Eq. 3
        A[i, k] ← min(0, R[k, k] + Σ_{i' ∉ {i, k}} max(0, R[i', k])),  A[k, k] ← Σ_{i' ≠ k} max(0, R[i', k])
        R_t ← α_t · H + (1 − α_t) · ((1 − damping) · R + damping · R_{t−1}),  α_t = momentum · decay^t   Eq. 6

    R = A = 0 at the start; there is no noise. A is computed from the damped and mixed R. One pass over R serves an
    iteration. With `preference=0` no other row is as similar as the row itself: every A[i, k] off the diagonal stays 0
    (without history), all rows are exemplars, and the score follows distances to nearest neighbours alone.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64, at least two rows. Distances are on the vectors as given.
        preference: the diagonal of S: a number, or "median" for the median similarity of two rows. Higher is more
            exemplars.
        iterations: at most so many.
        stop_after: stop once the exemplars (one at least) stayed the same for so many iterations. None: never.
        damping: share of the old message that is kept, in [0, 1).
        damp_both: damp A as well. It is then stored: as much memory again as R.
        history: H of Eq. 6: an `n x n` tensor, or a function from a slice of rows to those rows of H.
        momentum: α of the first iteration, in [0, 1]. Read with `history` alone, as is `decay`.
        decay: λ, in [0, 1]: α is multiplied by it after each iteration.
        similarity: "kept" holds one half of the symmetric S, n²/2 numbers; "half" the same in float16; "recomputed"
            holds none and makes it in blocks, one `n x n x dim` product an iteration.
        dtype: of R (and a damped A): `torch.float32`, `torch.float64`, or `torch.bfloat16` with arithmetic in float32.
            While exemplars still change, messages magnify every rounding: with "median", after 30 iterations on 200
            rows, float32 was off by 2e-5 to 6e-2 by the data. What half precision costs is below.
        device: default `cuda` if there is one, else the CPU.
        block: rows handled at a time; changes speed and memory alone.
        max_bytes: refuse to start if `message_bytes` is more. Default: the free memory of a GPU, all memory of a CPU.
        progress: called after each iteration with its number (from 1) and the number of exemplars.

    Returns:
        `Messages`: R, any rows of A, the representation score and the exemplars.

    Raises:
        ValueError: an argument out of range, fewer than two rows, or NaN or infinite embeddings or history.
        MemoryError: more than `max_bytes`.

    Half precision beside float64, on 2,000 rows of Alpaca with MiniLM, 200 iterations: Spearman's correlation of the
    score, and the part of the 5 % of rows with the highest score that is the same (30 iterations: the same to 1e-4;
    `python -m tests.benchmarks.half_messages`):

        R, S                 bytes      preference 0       "median"
        float32, float32     6 n²       1.0000  100 %      1.0000  100 %
        float32, float16     5 n²       1.0000   99 %      0.9988  100 %
        bfloat16, float32    4 n²       0.9999   97 %      0.9936   99 %
        bfloat16, float16    3 n²       0.9999   98 %      0.9959  100 %

    Source: PIBE (InsBank) §3, Eqs. 3, 6 and 7, App. A; Frey & Dueck 2007.
    Differs: `damping` weighs the old message, as in Frey & Dueck; β of Eq. 6 weighs the new one (0.5 in both). The
        authors' code damps A too and adds noise to S. Ties need no noise here: equal rivals get equal messages.
        scikit-learn moves each exemplar to the middle of its cluster in the end; these are the elected ones.

    >>> x = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    >>> affinity_propagation(x, preference="median", device="cpu").exemplars.tolist()
    [1, 4]
    """
    check_floats(embeddings)
    n, dim, where = len(embeddings), embeddings.shape[1], pick_device(device)
    _check(n, preference, iterations, stop_after, damping, momentum, decay, similarity, dtype, block, history)
    needed = message_bytes(n, dim, dtype=dtype, similarity=similarity, damp_both=damp_both, block=block, device=where)
    smaller = 'similarity="recomputed" needs less' if similarity == "kept" else "give it fewer rows at a time"
    check_room(n, needed, max_bytes, where, smaller)
    with true_float32():
        kept = {"kept": _WORK[dtype], "half": torch.float16, "recomputed": None}[similarity]
        r = torch.zeros(n, n, dtype=dtype, device=where)
        near = NegativeDistances(embeddings, kept=kept, dtype=_WORK[dtype], device=where, block=block, room=r)
        near.preference = near.median() if preference == "median" else float(preference)
        state = _State(near, r, damping=damping, damp_both=damp_both)

        def iterate(t: int) -> None:
            state.iterate(history, 0.0 if history is None else momentum * decay ** (t - 1), check=t == 1)

        done, converged = elect(
            iterate, state.exemplars, iterations=iterations, stop_after=stop_after, progress=progress
        )
        score = state.finish()
    exemplars = state.exemplars().nonzero().view(-1).cpu().numpy()
    return Messages(state.r, score, exemplars, done, converged, near.preference, state)


class _State:
    """R, the column sums that A follows from, and one iteration in one pass over R."""

    def __init__(self, near: NegativeDistances, r: torch.Tensor, *, damping: float, damp_both: bool) -> None:
        self.near, self.keep, self.block = near, damping, near.block
        n, like = near.n, near.points
        self.r = r
        self.a = torch.zeros_like(r) if damp_both else None  # one iteration behind R, until `finish`
        self.diagonal = like.new_zeros(n)  # R[k, k]
        self.column = torch.zeros(n, dtype=torch.float64, device=like.device)  # Σ_{i ≠ k} max(0, R[i, k])
        self.own = like.new_zeros(n)  # A[k, k]
        self._pool = ThreadPoolExecutor(torch.get_num_threads())  # starts no thread until it is used
        self._space = like.new_empty(2 if self._loops() is None else 1, self.block, n)

    def _loops(self) -> ModuleType | None:
        return _kernels(self.r.device) if self.a is None else None

    def exemplars(self) -> torch.Tensor:
        """A[k, k] + R[k, k] > 0."""
        return self.own + self.diagonal > 0

    def _bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(c, min(0, c)), c = R[k, k] + Σ max(0, R): A[i, k] = min(0, c − max(0, R[i, k])) = min(min(0, c), c − R)."""
        ceiling = (self.column + self.diagonal).to(self.diagonal.dtype)
        return ceiling, ceiling.clamp_max(0)

    def availability(self, start: int, stop: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Rows of A, Eq. 3, from R as it is now; as stored where A is damped."""
        if self.a is not None:
            return self.a[start:stop].to(self.own.dtype)
        return self._undamped(start, stop, out)

    def _undamped(self, start: int, stop: int, out: torch.Tensor | None) -> torch.Tensor:
        ceiling, floor = self._bounds()
        a = torch.sub(ceiling, self.r[start:stop], out=out)
        torch.minimum(a, floor, out=a)
        itself = torch.arange(stop - start, device=a.device)
        a[itself, start + itself] = self.column[start:stop].to(a.dtype)
        return a

    def iterate(self, history: History | None, alpha: float, *, check: bool) -> None:
        """Eq. 3 for R and then A, Eq. 6."""
        n, column, diagonal = self.near.n, torch.zeros_like(self.column), torch.empty_like(self.diagonal)
        bounds, loops = self._bounds(), self._loops()
        for start in range(0, n, self.block):
            stop = min(start + self.block, n)
            space = self._space[0, : stop - start]
            h = _rows_of_history(history, slice(start, stop), space, check=check) if alpha > 0 else None
            if loops is None:
                self._update(start, stop, self.near.rows(start, space), h, alpha, column, diagonal)
            else:
                self._update_compiled(loops, start, stop, space, h, alpha, bounds, column, diagonal)
        self.column, self.diagonal = column, diagonal
        own = column.to(self.own.dtype)
        self.own = own if self.a is None else self.keep * self.own + (1 - self.keep) * own

    def _update(
        self, start: int, stop: int, s: torch.Tensor, h: torch.Tensor | None, alpha: float, column: torch.Tensor,
        diagonal: torch.Tensor,
    ) -> None:  # fmt: skip
        r, v = self.r[start:stop].to(s.dtype), self._space[1, : stop - start]
        self._undamped(start, stop, v)
        self._damp(start, stop, v)
        v += s
        most, where = v.max(1, keepdim=True)
        v.scatter_(1, where, -torch.inf)
        other = v.amax(1, keepdim=True)
        torch.sub(s, most, out=v)  # Eq. 3: the largest of the others is the second where k itself is the largest
        v.scatter_(1, where, s.gather(1, where) - other)
        r.lerp_(v, 1 - self.keep)
        if h is not None:
            r.lerp_(h, alpha)  # Eq. 6
        if self.r.dtype != r.dtype:
            r.copy_(self.r[start:stop].copy_(r))  # rounded, so that column sums are those of R as it is kept
        itself = torch.arange(stop - start, device=r.device)
        diagonal[start:stop] = r[itself, start + itself]
        torch.clamp_min(r, 0, out=v)
        v[itself, start + itself] = 0
        column += v.sum(0)

    def _damp(self, start: int, stop: int, a: torch.Tensor) -> None:
        """Rows of A as Eq. 3 has them → as damped, if they are; these are stored."""
        if self.a is None:
            return
        old = self.a[start:stop]
        torch.add(self.keep * old.to(a.dtype), a, alpha=1 - self.keep, out=a)
        a.copy_(old.copy_(a))

    def _update_compiled(
        self, loops: ModuleType, start: int, stop: int, s: torch.Tensor, h: torch.Tensor | None, alpha: float,
        bounds: tuple[torch.Tensor, torch.Tensor], column: torch.Tensor, diagonal: torch.Tensor,
    ) -> None:  # fmt: skip
        threads, near = torch.get_num_threads(), s.numpy()
        kind, fill = near.dtype.type, self.near.filler(loops, start, s)
        cuts = sorted({(stop - start) * t // threads for t in range(threads + 1)})
        own, into = self.own.numpy(), diagonal.numpy()
        numbers = kind(self.keep), kind(1 - self.keep), kind(alpha)
        past = near if h is None else h.numpy()
        short = self.r.dtype == torch.bfloat16
        r = self.r[start:stop].view(torch.int16).numpy() if short else self.r[start:stop].numpy()

        def work(part: tuple[int, int]) -> np.ndarray:
            sums = np.zeros(self.near.n, kind)
            ceiling, floor = (bound.numpy().copy() for bound in bounds)
            bits = np.empty((0, 0), np.int32)
            for low in range(*part, _CHUNK):
                high = min(low + _CHUNK, part[1])
                fill(low, high)
                rows = r[low:high]
                if short:
                    bits = np.empty(rows.shape, np.int32)
                    loops.widen(rows, bits)
                    rows = bits.view(np.float32)
                loops.update_rows(
                    rows, near[low:high], past[low:high], start + low, ceiling, floor, own, *numbers, sums, into, bits
                )
                if short:
                    loops.narrow(bits, r[low:high])
            return sums

        for sums in self._pool.map(work, pairwise(cuts)):
            column += torch.from_numpy(sums)

    def finish(self) -> np.ndarray:
        """The representation score, Eq. 7: column sum − row sum + diagonal of A + R. A damped A catches up with R."""
        n = self.near.n
        columns, rows = torch.zeros_like(self.column), torch.zeros_like(self.column)
        out = self._space[0]
        for start in range(0, n, self.block):
            stop = min(start + self.block, n)
            both = self._undamped(start, stop, out[: stop - start])
            self._damp(start, stop, both)
            both += self.r[start:stop]
            for low in range(0, stop - start, _CHUNK):  # sums in float64 make a copy
                part = both[low : low + _CHUNK]
                columns += part.sum(0, dtype=torch.float64)
                rows[start + low : start + low + len(part)] = part.sum(1, dtype=torch.float64)
        self._space = self._space.new_empty(0)
        self._pool.shutdown()
        self.near.forget()
        return (columns - rows + self.own.double() + self.diagonal.double()).cpu().numpy()


def _rows_of_history(history: History | None, rows: slice, like: torch.Tensor, *, check: bool) -> torch.Tensor:
    assert history is not None
    part = history[rows] if isinstance(history, torch.Tensor) else history(rows)
    if part.shape != like.shape:
        raise ValueError(
            f"history has shape {tuple(part.shape)} for rows {rows.start} to {rows.stop}; expected {tuple(like.shape)}"
        )
    part = part.to(device=like.device, dtype=like.dtype).contiguous()
    if check and not bool(torch.isfinite(part).all()):
        raise ValueError(f"history is NaN or infinite in rows {rows.start} to {rows.stop}; drop it or repair it")
    return part


def _check(
    n: int, preference: float | str, iterations: int, stop_after: int | None, damping: float, momentum: float,
    decay: float, similarity: str, dtype: torch.dtype, block: int | None, history: History | None,
) -> None:  # fmt: skip
    check_options(n, preference, damping, iterations=iterations, stop_after=stop_after, block=block)
    for name, share in (("momentum", momentum), ("decay", decay)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it must be between 0 and 1")
    if similarity not in ("kept", "half", "recomputed"):
        raise ValueError(f'similarity is {similarity!r}; expected "kept", "half" or "recomputed"')
    if dtype not in _WORK:
        raise ValueError(f"dtype is {dtype}; expected torch.float32, torch.float64 or torch.bfloat16")
    if isinstance(history, torch.Tensor) and tuple(history.shape) != (n, n):
        raise ValueError(
            f"history has shape {tuple(history.shape)}; expected {(n, n)}, a row and a column an embedding"
        )


def _kernels(device: torch.device) -> ModuleType | None:
    """The compiled loops over messages, or None."""
    return compiled_loops("message_kernels", device)

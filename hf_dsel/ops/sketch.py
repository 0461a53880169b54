# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A compact memory of vectors that still answers how near the nearest of them is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.unit_rows import check_floats, pick_device, rows_of, true_float32

_ROWS = 4096  # rows decoded, and rows compared, at a time
_MOST_BITS = 8  # of one coordinate
_PRIOR_ROWS = 32  # rows' worth of equal variance mixed into the first rows' covariance: later data may differ
_FIT_ROWS = 100_000

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sketch:
    """Vectors in a few bits a dimension, with what the coding lost.

        x ≈ y = mean + B z,  z_j one of 2^{b_j} levels,  and e = ‖x − y‖ is kept
        ‖c − x‖² ≈ ‖c − y‖² + e²

    B holds the principal axes of the first vectors, in 8 bits a number (what that costs is in e too). Bits go to the
    axes one at a time, each to the axis where it takes the most from the expected squared error; axes that get none are
    left out. Levels are the best ones for a normal distribution. The term that is left out, 2 (c − y)·(x − y), has mean
    0 over directions for a c far from x; with MiniLM's 384 dimensions and 3 bits its standard deviation is about 1 % of
    ‖c − x‖². For a c at x it is 2 e², so where the codes of c and x agree in 99 % of their bits, the distance between
    the codes is taken: a vector that is in memory is at 0. In between, up to about 2 e, distances come out too large.

    Args:
        mean: float32 `dim`.
        axes: int8 `dim x axes`; times `scales` (float32 `axes`) it is B.
        deviations: float32 `axes`, the standard deviation along each axis.
        bits: uint8 `axes`, b_j, from 1 to 8.
        codes: uint8 `rows x bytes`, the levels' numbers packed, ceil(Σ b_j / 8) bytes a row.
        lost: float16 `rows`, e.

    Source: reverse water-filling of a Gaussian source (Cover & Thomas, Elements of Information Theory, 10.3); Max 1960
    for the levels.

    >>> x = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    >>> sketch = Sketch.of(x, bits=4).extended(x)
    >>> bool(abs(sketch.nearest(x[:1] + 9, device="cpu")[0] - np.linalg.norm(x - x[0] - 9, axis=1).min()) < 0.1)
    True
    >>> sketch.bytes_a_row
    10
    """

    mean: npt.NDArray[np.float32]
    axes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    deviations: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.uint8]
    lost: npt.NDArray[np.float16]

    @classmethod
    def of(cls, embeddings: np.ndarray, *, bits: float = 3.0) -> Sketch:
        """An empty memory, its axes and bits fitted to these vectors.

        Args:
            embeddings: `rows x dim`, float16, float32 or float64.
            bits: bits a dimension on average, above 0 and at most 8.

        Raises:
            ValueError: bits out of range, or NaN or infinite vectors.
        """
        check_bits(bits)
        check_floats(embeddings)
        step = max(1, -(-len(embeddings) // _FIT_ROWS))
        points = np.asarray(embeddings[::step], np.float64)
        mean = points.mean(0)
        points -= mean
        rows, dim = points.shape
        spread = float(np.square(points).sum() / max(rows, 1) / dim) or 1.0
        covariance = torch.from_numpy(points.T @ points + _PRIOR_ROWS * spread * np.eye(dim)) / (rows + _PRIOR_ROWS)
        variances, axes = torch.linalg.eigh(covariance)
        share = _shares(variances.numpy(), max(1, round(bits * dim)))
        used = share > 0
        deviations = variances.clamp_min(0).sqrt().numpy()
        scales = axes.abs().amax(0).numpy()[used] / 127
        return cls(
            mean.astype(np.float32),
            np.ascontiguousarray(np.rint(axes.numpy()[:, used] / scales), np.int8),
            scales.astype(np.float32),
            deviations[used].astype(np.float32),
            share[used],
            np.zeros((0, -(-int(share.sum()) // 8)), np.uint8),
            np.zeros(0, np.float16),
        )

    def __len__(self) -> int:
        """Vectors in it."""
        return len(self.codes)

    @property
    def bytes_a_row(self) -> int:
        """What one more vector takes."""
        return self.codes.shape[1] + 2

    @property
    def nbytes(self) -> int:
        """What it takes as a whole, axes included."""
        return sum(
            part.nbytes
            for part in (self.mean, self.axes, self.scales, self.deviations, self.bits, self.codes, self.lost)
        )

    def extended(self, embeddings: np.ndarray) -> Sketch:
        """This memory and these vectors after it.

        Raises:
            ValueError: another width, or NaN or infinite vectors.
        """
        self._check(embeddings)
        codes, lost = [self.codes], [self.lost]
        for start in range(0, len(embeddings), _ROWS):
            x = np.asarray(embeddings[start : start + _ROWS], np.float32)
            packed = self._coded(x)
            missed = np.linalg.norm((x - self._restored(packed)).astype(np.float64), axis=1)
            if (missed > np.finfo(np.float16).max).any():
                row = start + int(missed.argmax())
                raise ValueError(
                    f"row {row} is {missed.max():.3g} away from the nearest code, more than float16 holds: "
                    "vectors are too long, or far longer than the first ones. Scale all to length 1 and begin again"
                )
            codes.append(packed)
            lost.append(missed.astype(np.float16))
        return replace(self, codes=np.concatenate(codes), lost=np.concatenate(lost))

    def blocks(self) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """The vectors as restored, and what each lost, some thousand rows at a time."""
        for start in range(0, len(self), _ROWS):
            part = slice(start, start + _ROWS)
            yield self._restored(self.codes[part]), self.lost[part].astype(np.float32)

    def nearest(self, embeddings: np.ndarray, *, device: str | torch.device | None = None) -> FloatArray:
        """About how far each of these vectors is from the nearest one in memory.

        Args:
            embeddings: `rows x dim`.
            device: default `cuda` if there is one, else the CPU.

        Returns:
            float64, a Euclidean distance a row; infinity while the memory is empty.

        Raises:
            ValueError: another width, or NaN or infinite vectors.
        """
        self._check(embeddings)
        where = pick_device(device)
        points = rows_of(embeddings, slice(None)).to(where, torch.float32) - torch.from_numpy(self.mean).to(where)
        lengths = points.square().sum(1)
        best = torch.full((len(points),), torch.inf, device=where)
        which = torch.zeros(len(points), dtype=torch.int64, device=where)
        first = 0
        with true_float32():
            for restored, lost in self.blocks():
                y = torch.from_numpy(restored - self.mean).to(where)
                other = y.square().sum(1) + torch.from_numpy(lost).to(where).square()
                for start in range(0, len(points), _ROWS):
                    part = slice(start, start + _ROWS)
                    squared, at = torch.addmm(other, points[part], y.T, alpha=-2).min(1)
                    nearer = squared + lengths[part] < best[part]
                    best[part] = torch.where(nearer, squared + lengths[part], best[part])
                    which[part] = torch.where(nearer, at + first, which[part])
                first += len(y)
        found = best.clamp_min_(0).double().cpu().numpy()
        if len(self):
            for start in range(0, len(found), _ROWS):
                part = slice(start, start + _ROWS)
                self._copies(np.asarray(embeddings[part], np.float32), which[part].cpu().numpy(), found[part])
        return np.sqrt(found)

    def _copies(
        self, x: npt.NDArray[np.float32], nearest: npt.NDArray[np.int64], squared: npt.NDArray[np.float64]
    ) -> None:
        """Lower the squared distances, in place, where the vector has the code of its nearest, but for 1 % of the bits.

        Copies have it, but for numbers that rounding puts on the other side of a level's edge.
        """
        mine, theirs = self._coded(x), self.codes[nearest]
        other_bits = np.unpackbits(mine ^ theirs, axis=1).sum(1)
        close = other_bits <= int(self.bits.sum(dtype=np.int64)) // 100
        apart = (self._restored(mine[close]) - self._restored(theirs[close])).astype(np.float64)
        squared[close] = np.minimum(squared[close], np.square(apart).sum(1))

    def _coded(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        along = (x - self.mean) @ (self.axes * self.scales) / self.deviations
        numbers = np.empty(along.shape, np.uint8)
        for b in np.unique(self.bits):
            these = self.bits == b
            levels = normal_levels(int(b))
            numbers[:, these] = np.searchsorted((levels[1:] + levels[:-1]) / 2, along[:, these])
        return self._packed(numbers)

    def _check(self, embeddings: np.ndarray) -> None:
        check_floats(embeddings)
        if embeddings.shape[1] != len(self.mean):
            raise ValueError(f"embeddings have {embeddings.shape[1]} dimensions, the memory {len(self.mean)}")

    def _packed(self, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        places = np.concatenate([np.arange(int(b) - 1, -1, -1, dtype=np.uint8) for b in self.bits])
        return np.packbits((np.repeat(numbers, self.bits, axis=1) >> places) & 1, axis=1)

    def _restored(self, packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        digits = np.unpackbits(packed, axis=1, count=int(self.bits.sum(dtype=np.int64)))
        ends = np.cumsum(self.bits, dtype=np.int64)
        along = np.empty((len(packed), len(self.bits)), np.float32)
        for b in np.unique(self.bits):
            these = self.bits == b
            number = np.zeros((len(packed), int(these.sum())), np.uint8)
            for place in range(int(b)):
                number |= digits[:, ends[these] - 1 - place] << np.uint8(place)
            along[:, these] = normal_levels(int(b))[number]
        return (along * (self.deviations * self.scales)) @ self.axes.T.astype(np.float32) + self.mean


def check_bits(bits: float) -> None:
    """Refuse what is no number of bits."""
    if not 0 < bits <= _MOST_BITS:
        raise ValueError(f"bits is {bits}; it must be above 0 and at most {_MOST_BITS} a dimension, e.g. 3")


@cache
def normal_levels(bits: int) -> npt.NDArray[np.float32]:
    """The 2^bits levels that code a standard normal number with the least mean squared error, ascending.

    >>> normal_levels(1).round(3)
    array([-0.798,  0.798], dtype=float32)
    """
    return _lloyd_max(bits)[0].astype(np.float32)


@cache
def _lloyd_max(bits: int) -> tuple[FloatArray, float]:
    """The levels, and the mean squared error: in turn, cells end half-way, and levels are the means of their cells."""
    edge = torch.special.ndtri((torch.arange(1, 2**bits, dtype=torch.float64)) / 2**bits)
    far = torch.tensor([torch.inf], dtype=torch.float64)

    def density(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-x.square() / 2) / (2 * torch.pi) ** 0.5

    levels = edge
    for _ in range(4000):
        cuts = torch.cat([-far, edge, far])
        weight = torch.special.ndtr(cuts[1:]) - torch.special.ndtr(cuts[:-1])
        levels = (density(cuts[:-1]) - density(cuts[1:])) / weight  # the mean of a normal within each cell
        moved = (levels[1:] + levels[:-1]) / 2
        done = bool((moved - edge).abs().max() < 1e-10) if len(edge) else True
        edge = moved
        if done:
            break
    return levels.numpy(), float(1 - (weight * levels.square()).sum())


def _shares(variances: FloatArray, total: int) -> npt.NDArray[np.uint8]:
    """`total` bits over the axes, each to the axis whose expected squared error it lowers most."""
    left = [1.0] + [_lloyd_max(b)[1] for b in range(1, _MOST_BITS + 1)]
    gain = [left[b] - left[b + 1] for b in range(_MOST_BITS)]
    shares = np.zeros(len(variances), np.uint8)
    queue = [(-float(v) * gain[0], axis) for axis, v in enumerate(variances)]
    heapq.heapify(queue)
    for _ in range(min(total, _MOST_BITS * len(variances))):
        _, axis = heapq.heappop(queue)
        shares[axis] += 1
        if shares[axis] < _MOST_BITS:
            heapq.heappush(queue, (-float(variances[axis]) * gain[shares[axis]], axis))
    return shares

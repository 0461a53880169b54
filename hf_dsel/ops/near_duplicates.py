# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The sequential near-duplicate rule, row by row in meaning and a matrix product in speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from hf_dsel.ops.half_products import HalfRows, Likely, half_is_fast
from hf_dsel.ops.unit_rows import check_rows, divide, pick_device, rows_of, true_float32

NEAR = 1e-5  # similarities this close to the threshold are computed again in float64
EQUAL = 1e-12  # and this close to it they are equal
_KEPT = 1024  # kept rows multiplied at a time
_KEPT_CUDA = 16384
_HALF_FROM = 512  # with this many kept rows bfloat16 products begin to pay, where they are fast


def first_come(
    embeddings: np.ndarray | torch.Tensor,
    *,
    order: np.ndarray | torch.Tensor | list[int],
    threshold: float,
    device: str | torch.device | None = None,
    block: int | None = None,
) -> Iterator[tuple[int, float | None]]:
    """Rows, in the given order, that are not too similar to any row already kept.

        keep the first; keep a row  ⇔  max_{r kept before it} cos(row, r) ≤ threshold   (equal is kept)

    Dropped rows are forgotten: nothing is compared with them. It is an iterator, and computes little beyond the rows
    that are taken from it: blocks start small and grow.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; normalised here.
        order: row numbers, best first, none twice; it may leave rows out.
        threshold: largest cosine similarity allowed, in [−1, 1]. DEITA: 0.9.
        device: default `cuda` if there is one, else the CPU.
        block: rows looked at together. Default: 64 at first, up to 512 later. It changes the time alone.

    Yields:
        (row, largest cosine similarity to the rows kept before it; None for the first).

    Raises:
        ValueError: threshold out of range, bad row numbers, or embeddings that are NaN, infinite or zero.

    Source: Liu et al. 2024, DEITA, Algorithm 1.

    Differs: compares with kept rows only, as the algorithm says; the authors' code compares with dropped rows too.
        Similarities within 1e-5 of the threshold are decided in float64.

    >>> pool = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> list(first_come(pool, order=[0, 1, 2], threshold=0.9, device="cpu"))
    [(0, None), (2, 0.0)]
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a cosine similarity is between -1 and 1 (DEITA uses 0.9)")
    if block is not None and block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 row")
    queue = np.asarray(order.cpu() if isinstance(order, torch.Tensor) else order)
    if queue.size == 0:
        queue = queue.astype(np.int64)
    if queue.ndim != 1 or queue.dtype.kind not in "iu":
        raise ValueError(f"order has shape {queue.shape} and type {queue.dtype}; expected row numbers, best first")
    norms = check_rows(embeddings)
    n = len(norms)
    if len(queue) and (int(queue.min()) < 0 or int(queue.max()) >= n):
        raise ValueError(f"order runs from {int(queue.min())} to {int(queue.max())}; there are rows 0 to {n - 1}")
    named = np.zeros(n, dtype=bool)
    named[queue] = True
    if (twice := len(queue) - np.count_nonzero(named)) > 0:
        raise ValueError(f"order names {twice} rows more than once; each may come once")
    return _walk(embeddings, norms, queue.astype(np.int64), float(threshold), pick_device(device), block)


def _walk(
    embeddings: np.ndarray | torch.Tensor,
    norms: torch.Tensor,
    queue: np.ndarray,
    threshold: float,
    device: torch.device,
    block: int | None,
) -> Iterator[tuple[int, float | None]]:
    kept = torch.empty(min(16384, len(queue)), embeddings.shape[1], dtype=torch.float32, device=device)
    kept_rows: list[int] = []
    half = HalfRows(embeddings.shape[1]) if half_is_fast(device) else None
    half_from = _HALF_FROM
    exact = partial(exact_cosines, embeddings)
    most = block or 512
    space = torch.empty(most * max(most, _chunk(device)), device=device)  # similarities of one product
    not_earlier = torch.full((most, most), -math.inf, device=device).tril_()  # −inf where i does not come before j
    at = 0
    while at < len(queue):
        size = block or min(512, max(64, len(kept_rows) // 2))
        rows = queue[at : at + size]
        at += len(rows)
        unit = divide(rows_of(embeddings, rows), norms[torch.from_numpy(rows)]).to(device)
        # against the rows kept from earlier blocks
        before, likely = kept[: len(kept_rows)], None
        if half is not None and len(kept_rows) >= half_from:
            likely = half.likely_largest(unit, threshold=threshold, margin=2 * NEAR)
            if likely is None:  # try again when there is more to gain
                half_from = 2 * len(kept_rows)
        found = _few_pairs(unit, before, threshold, likely) if likely else _all_pairs(unit, before, threshold, space)
        best, over = _decided(found, rows, kept_rows, threshold, exact)
        left = np.flatnonzero(~over)
        rows, best, unit = rows[left], best[left], unit.index_select(0, torch.from_numpy(left).to(device))
        # within the block, in order
        with true_float32():
            inside = torch.mm(unit, unit.T, out=_space(space, len(unit), len(unit))).clamp_(-1, 1)
        inside += not_earlier[: len(unit), : len(unit)]
        similarity = inside.cpu().numpy()
        i, j = np.divmod(np.flatnonzero(similarity > threshold - NEAR), max(1, len(rows)))
        unclear = similarity[i, j] < threshold + NEAR
        above = np.zeros_like(similarity, dtype=bool)
        above[i, j] = True
        i, j = i[unclear], j[unclear]
        similarity[i, j] = decided = exact(rows[i], rows[j])
        above[i, j] = decided > threshold + EQUAL
        dropped = np.zeros(len(rows), dtype=bool)
        for here in np.flatnonzero(above.any(1)):
            if not dropped[here]:
                dropped |= above[here]
        new = np.flatnonzero(~dropped)
        similarity[dropped] = -math.inf  # forgotten
        best = np.maximum(best, similarity.max(0, initial=-math.inf))[new]
        for row, top in zip(rows[new].tolist(), best.tolist(), strict=True):
            yield row, None if top == -math.inf else top
        needed = len(kept_rows) + len(new)
        if needed > len(kept):  # grows geometrically
            kept = torch.cat([kept[: len(kept_rows)], kept.new_empty(max(needed, len(kept)), kept.shape[1])])
        torch.index_select(unit, 0, torch.from_numpy(new).to(device), out=kept[len(kept_rows) : needed])
        if half is not None:
            half.append(kept[len(kept_rows) : needed])
        kept_rows.extend(rows[new].tolist())


def exact_cosines(embeddings: np.ndarray | torch.Tensor, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """cos of pairs of rows in float64, clipped to [−1, 1]; some pairs at a time."""
    out = np.empty(len(left))
    for at in range(0, len(left), 4096):
        pair = slice(at, at + 4096)
        sides = []
        for rows in (left[pair], right[pair]):
            x = rows_of(embeddings, rows).cpu().double().numpy()
            x /= np.abs(x).max(1, keepdims=True)  # no overflow in the squares
            sides.append(x / np.linalg.norm(x, axis=1, keepdims=True))
        out[pair] = np.clip((sides[0] * sides[1]).sum(1), -1.0, 1.0)
    return out


# each row's largest similarity to the kept rows (−inf without any), and the pairs (row, kept row) near the threshold
_Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def _all_pairs(unit: torch.Tensor, kept: torch.Tensor, threshold: float, space: torch.Tensor) -> _Found:
    """By float32 products with all kept rows; rows surely above the threshold are compared no further."""
    best = torch.full((len(unit),), -math.inf, device=unit.device)
    open_rows = torch.arange(len(unit), device=unit.device)
    close: list[tuple[np.ndarray, np.ndarray]] = []
    chunk = _chunk(unit.device)
    with true_float32():
        for start in range(0, len(kept), chunk):
            part = kept[start : start + chunk]
            similarity = torch.mm(unit, part.T, out=_space(space, len(unit), len(part)))
            top = similarity.amax(1)
            best[open_rows] = torch.maximum(best[open_rows], top)
            unclear = ((top - threshold).abs() < NEAR).nonzero().view(-1)
            if len(unclear):
                i, j = ((similarity[unclear] - threshold).abs() < NEAR).nonzero(as_tuple=True)
                close.append((open_rows[unclear[i]].cpu().numpy(), j.cpu().numpy() + start))
            stays = (top < threshold + NEAR).nonzero().view(-1)
            if len(stays) == 0:
                break
            if len(stays) < 0.9 * len(unit):  # else the copy costs more than it saves
                open_rows, unit = open_rows[stays], unit[stays]
    ours, theirs = (np.concatenate(side) for side in zip(*close, strict=True)) if close else np.zeros((2, 0), np.intp)
    return best.cpu().numpy(), ours, theirs


def _few_pairs(unit: torch.Tensor, kept: torch.Tensor, threshold: float, likely: Likely) -> _Found:
    """By float32 products of the likely pairs alone; rows known to be above the threshold have a similarity of inf."""
    above, ours, theirs = likely
    left, right = torch.from_numpy(ours), torch.from_numpy(theirs)
    similarity = np.empty(len(ours), np.float32)
    for at in range(0, len(ours), 4096):
        part = slice(at, at + 4096)  # index_select is several times as fast as indexing
        pair = unit.index_select(0, left[part]), kept.index_select(0, right[part])
        similarity[part] = torch.linalg.vecdot(*pair).numpy()
    best = np.full(len(unit), -math.inf, np.float32)
    np.maximum.at(best, ours, similarity)
    best[above] = math.inf
    close = np.flatnonzero(np.abs(similarity - threshold) < NEAR)
    return best, ours[close], theirs[close]


def _decided(
    found: _Found,
    rows: np.ndarray,
    kept_rows: list[int],
    threshold: float,
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's largest similarity, and whether it is above the threshold: in float64 where float32 cannot tell."""
    best, ours, theirs = found
    largest = best.astype(np.float64)
    clear = np.abs(largest - threshold) >= NEAR
    unsure = ~clear[ours]
    if unsure.any():
        ours, theirs = ours[unsure], theirs[unsure]
        largest[~clear] = -1.0
        np.maximum.at(largest, ours, exact(rows[ours], np.asarray(kept_rows)[theirs]))
    over = largest > threshold + EQUAL
    return np.minimum(largest, 1.0), over


def _chunk(device: torch.device) -> int:
    return _KEPT_CUDA if device.type == "cuda" else _KEPT


def _space(space: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Part of memory that is used again and again: fresh pages cost more than the comparison."""
    return space[: height * width].view(height, width)

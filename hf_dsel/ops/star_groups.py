# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Groups of near rows around the best row of each, so that every row of a group is near that one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.near_duplicates import EQUAL, NEAR, exact_cosines, first_come
from hf_dsel.ops.unit_rows import check_rows, divide, pick_device, rows_of, true_float32

_ROWS = 512
_CENTRES = 4096


def star_groups(
    embeddings: np.ndarray | torch.Tensor,
    *,
    order: npt.NDArray[np.int64],
    similarity: float,
    device: str | torch.device | None = None,
    block: int | None = None,
) -> npt.NDArray[np.int64]:
    """The centre of each row's group: rows that are near a better row go to it, the others are centres.

        for row in order:  row goes to the first centre c, best first, with cos(row, c) ≥ similarity;
                           where there is none, it is a centre

    Centres are pairwise less similar than that, and every row is that similar to its centre. Groups by transitive
    closure (union-find) promise neither: a chain of near pairs ties its two ends together, however far apart they are.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; normalised here.
        order: row numbers, best first, none twice; it may leave rows out.
        similarity: the cosine from which on two rows are near, in (0, 1]; equal is near.
        device: default `cuda` if there is one, else the CPU.
        block: rows compared at a time. It changes the time alone.

    Returns:
        For each row of `order` the row number of its centre; a centre's own is its own. No array of pairs of rows is
        made: blocks of rows are multiplied with the centres.

    Raises:
        ValueError: similarity out of range, bad row numbers, or embeddings that are NaN, infinite or zero.

    >>> pool = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> star_groups(pool, order=np.array([1, 0, 2]), similarity=0.9, device="cpu")
    array([1, 1, 2])
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity is {similarity}; a cosine from which on rows are near is above 0, at most 1")
    threshold = similarity - 2 * EQUAL  # first_come keeps what is equal to its threshold
    where = pick_device(device)
    kept = first_come(embeddings, order=order, threshold=threshold, device=where, block=block)
    centres = np.fromiter((row for row, _ in kept), np.int64)
    centre_of = order.copy()
    others = np.flatnonzero(~np.isin(order, centres))
    norms = check_rows(embeddings) if len(others) else torch.empty(0)

    def unit(rows: npt.NDArray[np.int64]) -> torch.Tensor:
        return divide(rows_of(embeddings, rows), norms[torch.from_numpy(rows)]).to(where)

    for first in range(0, len(centres), _CENTRES):
        some = centres[first : first + _CENTRES]
        if len(others) == 0:
            break
        those, left = unit(some), []
        for start in range(0, len(others), block or _ROWS):
            at = others[start : start + (block or _ROWS)]
            with true_float32():
                cosines = (unit(order[at]) @ those.T).cpu().numpy()
            i, j = np.nonzero(cosines > threshold - NEAR)  # in the order of rows, then of centres
            unclear = np.flatnonzero(cosines[i, j] < threshold + NEAR)
            near = np.ones(len(i), np.bool_)
            near[unclear] = exact_cosines(embeddings, order[at[i[unclear]]], some[j[unclear]]) > threshold + EQUAL
            found, place = np.unique(i[near], return_index=True)
            centre_of[at[found]] = some[j[near][place]]
            left.append(np.delete(at, found))
        others = np.concatenate(left)
    return centre_of

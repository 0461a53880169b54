# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What one round's responsibilities tell the next: the history matrix H of PIBE, as published and as in its code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hf_dsel.ops.unit_rows import pick_device, true_float32, unit_rows

Estimate = Literal["paper", "repository"]
Float32Array = npt.NDArray[np.float32]
_NEW_ROWS = 1024  # new rows whose weights are held at a time


@dataclass(frozen=True, eq=False)
class Carried:
    """The part of a round that Eqs. 4 and 5 read in the next one. n candidates, of which m were selected.

    Args:
        from_bank: R_t[B, :], `m x n`, the selected rows in rank order.
        to_bank: R_t[:, B], `n x m`.
        members: int64 `m`, which candidates were selected, in rank order.
        embeddings: of all candidates, `n x dim`.
        median: of all n² responsibilities.
    """

    from_bank: Float32Array
    to_bank: Float32Array
    members: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.floating]
    median: float

    @classmethod
    def of(cls, r: torch.Tensor, members: npt.NDArray[np.int64], embeddings: npt.NDArray[np.floating]) -> Carried:
        """From all responsibilities of a round, `n x n`."""
        picked = torch.from_numpy(members).to(r.device)
        return cls(
            r.index_select(0, picked).cpu().numpy().astype(np.float32),
            np.ascontiguousarray(r.index_select(1, picked).cpu().numpy(), np.float32),
            members,
            embeddings,
            median_of(r),
        )

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return sum(part.nbytes for part in (self.from_bank, self.to_bank, self.members, self.embeddings)) + 8


def history_rows(
    carried: Carried, new: np.ndarray, *, estimate: Estimate, device: str | torch.device | None = None
) -> Callable[[slice], torch.Tensor]:
    """H_t over the bank's rows and then the new ones, a function from a slice of rows to these rows of H.

        "paper":       w[j, k] = Sim[j, k]² / Σ_l Sim[l, k],  Sim the cosine of old candidate j and new row k
                       H[i, k] = Σ_j w[j, k] R_t[i, j]                   bank to new     Eq. 4
                       H[i, k] = Σ_j w[j, i] R_t[j, k]                   new to bank     Eq. 5
                       bank to bank R_t, new to new 0; then min(median R_t, 0) is added to all columns of new rows
        "repository":  w[j, k] = (1 − Sim[j, k]) / Σ_l (1 − Sim[l, k]), so that far rows weigh more; the same sums;
                       new to new the median of the three other blocks; nothing is added

    Read literally, "paper" favours the bank: its estimates shrink towards 0 (Σ_j w[j, k] is far below 1, and R_t is
    negative), and only the columns of new rows are lowered again. A bank row gains the difference from each new row,
    a new row loses it to each bank row, whatever its embedding says.

    Args:
        carried: of the round before.
        new: embeddings of the new rows, `new x dim`.
        estimate: whose rule.
        device: default `cuda` if there is one, else the CPU.

    Returns:
        A function for `affinity_propagation(history=...)`: rows of an `(m + new) x (m + new)` matrix. It holds m² +
        2 · m · new numbers.

    Raises:
        ValueError: another width, or similarities that sum to 0 for a new row (Eq. 4 divides by the sum). Below 0 it is
            a warning: the formula has a value then, though no sense.

    Source: InsBank (PIBE) §3.2, Eqs. 4 and 5 and the correction after them; the authors' code for "repository".
    """
    if new.shape[1] != carried.embeddings.shape[1]:
        raise ValueError(f"the new rows have {new.shape[1]} dimensions, the old ones {carried.embeddings.shape[1]}")
    where = pick_device(device)
    with true_float32():
        old, fresh = unit_rows(carried.embeddings, device=where), unit_rows(new, device=where)
        r_bank, r_all = torch.from_numpy(carried.from_bank).to(where), torch.from_numpy(carried.to_bank).to(where)
        to_new, from_new = [], []
        for start in range(0, len(fresh), _NEW_ROWS):
            w = _weights(old @ fresh[start : start + _NEW_ROWS].T, estimate, start)
            to_new.append(r_bank @ w)  # Eq. 4
            from_new.append(w.T @ r_all)  # Eq. 5
    within = r_bank[:, torch.from_numpy(carried.members).to(where)]
    right, left = torch.cat(to_new, 1), torch.cat(from_new)
    if estimate == "paper":
        rest = min(carried.median, 0.0)  # the correction, of the whole right half
        right += rest
    else:
        rest = median_of(within, right, left)
    m, n = len(within), len(within) + len(fresh)

    def rows(part: slice) -> torch.Tensor:
        start, stop, _ = part.indices(n)
        out = within.new_full((stop - start, n), rest)
        cut = min(max(m, start), stop)  # the first row that is a new one
        out[: cut - start, :m], out[: cut - start, m:] = within[start:cut], right[start:cut]
        out[cut - start :, :m] = left[cut - m : stop - m] if cut < stop else left[:0]
        return out

    return rows


def _weights(sim: torch.Tensor, estimate: Estimate, first: int) -> torch.Tensor:
    """w, `old x new`."""
    if estimate == "repository":
        far = (1 - sim).clamp_min(0)  # of a row with itself, rounding leaves less than 0
        alike = (far.sum(0) == 0).nonzero().view(-1)
        if len(alike):
            raise ValueError(
                f"new row {first + int(alike[0])} has the direction of every old candidate, so the weights of "
                "history='repository' are 0/0; use history='sketch'"
            )
        return far / far.sum(0)
    total = sim.sum(0)
    low = int((total <= 0).sum())
    if low:
        warnings.warn(
            f"the cosines of {low} new rows with all old candidates sum to 0 or less, and Eq. 4 divides by the sum: "
            "the history of these rows is large and of the wrong sign. history='sketch' has no such rows",
            stacklevel=4,
        )
        if bool((total == 0).any()):
            raise ValueError(
                f"the cosines of new row {first + int((total == 0).nonzero()[0])} with all old candidates sum to 0, "
                "and Eq. 4 divides by the sum; use history='sketch'"
            )
    return sim.square() / total


def median_of(*parts: torch.Tensor) -> float:
    """The median of all numbers in some float32 matrices, exactly; the mean of the two in the middle.

    >>> median_of(torch.tensor([[3.0, -1.0], [7.0, 2.0]]))
    2.5
    """
    size = sum(part.numel() for part in parts)
    low = _ranked(parts, (size - 1) // 2)
    return low if size % 2 else (low + _ranked(parts, size // 2)) / 2


def _ranked(parts: tuple[torch.Tensor, ...], rank: int) -> float:
    """The number with so many smaller ones, by two counts of 16 bits each, in blocks."""
    known = 0
    for shift in (16, 0):
        counts = torch.zeros(1 << 16, dtype=torch.int64, device=parts[0].device)
        for part in parts:
            for block in part.float().split(max(1, (1 << 22) // max(1, part.shape[1]))):
                bits = block.reshape(-1).view(torch.int32).long()
                ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (1 << 31)  # as integers in float order
                digits = ordered >> shift
                counts += torch.bincount(digits[(digits >> 16) == known] & 0xFFFF, minlength=1 << 16)
        total = counts.cumsum(0)
        digit = int(torch.searchsorted(total, rank, right=True))
        rank -= int(total[digit - 1]) if digit else 0
        known = (known << 16) | digit
    whole = known - (1 << 31)
    bits = torch.tensor(whole if whole >= 0 else -whole - (1 << 31), dtype=torch.int64).to(torch.int32)
    return float(bits.view(torch.float32))

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Embeddings of any float type → checked, L2-normalised float32 rows on a device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_AT_ONCE = 1024  # rows whose norms are taken at a time: they stay in the cache
_ROWS = 8192  # rows converted at a time, so that no second copy of the pool is made


@contextmanager
def true_float32() -> Iterator[None]:
    """Products in full float32 inside the block: no tf32 on CUDA, no bf16 on CPUs, whatever the caller set."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else `cuda` if there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rows_of(embeddings: np.ndarray | torch.Tensor, rows: slice | np.ndarray) -> torch.Tensor:
    """Some rows as a tensor of their own type, where they are; a slice shares their memory, to be read alone."""
    if isinstance(embeddings, torch.Tensor):
        return embeddings[rows if isinstance(rows, slice) else torch.as_tensor(rows, device=embeddings.device)].detach()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(embeddings[rows]))


def check_rows(embeddings: np.ndarray | torch.Tensor) -> torch.Tensor:
    """The float64 L2 norm of every row, after checking that it is finite and above zero.

    Args:
        embeddings: `rows x dim`, float16, bfloat16 (tensors), float32 or float64.

    Returns:
        Norms, float64, on the CPU.

    Raises:
        ValueError: wrong shape or type; NaN, infinite or all-zero rows (how many, first indices).
    """
    _check_shape(embeddings)
    parts: list[torch.Tensor] = []
    wide = None  # used again and again: fresh pages cost more than the norms
    for start in range(0, embeddings.shape[0], _AT_ONCE):
        part = rows_of(embeddings, slice(start, start + _AT_ONCE))
        if part.dtype not in (torch.float32, torch.float64):
            wide = part.float() if wide is None else wide[: len(part)].copy_(part)
            part = wide
        parts.append(torch.linalg.vector_norm(part, dim=1))
    norms = torch.cat(parts).double().cpu()
    odd = torch.nonzero(~torch.isfinite(norms) | (norms < 1e-15)).view(-1)  # overflow and underflow: look closer
    for some in odd.split(_AT_ONCE):
        far = rows_of(embeddings, some.numpy()).cpu().double()
        peak = far.abs().amax(1, keepdim=True)
        norms[some] = torch.linalg.vector_norm(far / peak.clamp_min(1e-300), dim=1) * peak.view(-1)
    _refuse(~torch.isfinite(norms), "NaN or infinite", "embed these rows again or drop them")
    _refuse(norms == 0, "zero vectors", "they have no direction: embed these rows again or drop them")
    return norms


def unit_rows(embeddings: np.ndarray | torch.Tensor, *, device: str | torch.device | None = None) -> torch.Tensor:
    """Rows divided by their L2 norm, float32, on the device.

    Args:
        embeddings: `rows x dim`, float16, float32 or float64; read-only arrays are fine.
        device: where to; default `cuda` if there is one, else the CPU.

    Returns:
        A new `rows x dim` float32 tensor.

    Raises:
        ValueError: see `check_rows`.

    >>> unit_rows(np.array([[3.0, 4.0]]), device="cpu")
    tensor([[0.6000, 0.8000]])
    """
    norms = check_rows(embeddings)
    unit = torch.empty(tuple(embeddings.shape), dtype=torch.float32, device=pick_device(device))
    for start in range(0, len(norms), _ROWS):
        part = slice(start, start + _ROWS)
        unit[part] = divide(rows_of(embeddings, part), norms[part]).to(unit.device)
    return unit


def divide(rows: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """`rows / norms` as float32 on the rows' device; norms outside float32's comfort are divided in float64."""
    norms = norms.to(rows.device)
    if rows.dtype == torch.float64 or not bool(((norms > 1e-15) & (norms < 1e15)).all()):
        return (rows.double() / norms[:, None]).float()
    norms = norms.float()[:, None]
    return rows.float().div_(norms) if rows.dtype != torch.float32 else rows / norms


def check_floats(embeddings: np.ndarray | torch.Tensor) -> None:
    """Shape, type and finiteness of embeddings that are used as they are; zero vectors are fine."""
    _check_shape(embeddings)
    parts = [slice(start, start + _ROWS) for start in range(0, embeddings.shape[0], _ROWS)]
    finite = [torch.isfinite(rows_of(embeddings, part).float()).all(1).cpu() for part in parts]
    _refuse(~torch.cat(finite), "NaN or infinite", "embed these rows again or drop them")


def _check_shape(embeddings: np.ndarray | torch.Tensor) -> None:
    if embeddings.ndim != 2 or embeddings.shape[0] == 0 or embeddings.shape[1] == 0:
        shape = tuple(embeddings.shape)
        raise ValueError(f"embeddings have shape {shape}; expected rows x dim, with at least one of each")
    kind = embeddings.dtype
    known = kind.is_floating_point if isinstance(kind, torch.dtype) else kind.kind == "f"
    if not known:
        raise ValueError(f"embeddings have type {kind}; expected float16, float32 or float64: convert them first")


def _refuse(bad: torch.Tensor, what: str, step: str) -> None:
    if bad.any():
        first = torch.nonzero(bad).view(-1)[:5].tolist()
        raise ValueError(f"{int(bad.sum())} of {len(bad)} embeddings are {what} (first rows: {first}); {step}")

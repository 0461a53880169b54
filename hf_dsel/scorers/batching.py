# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Sequences of token ids in micro-batches of like length, padded on the right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
CPU_TOKENS, GPU_TOKENS = 2048, 32_768  # padded tokens a micro-batch, where the user does not say


def micro_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions of the sequences, longest first, in groups of at most `batch_tokens` tokens after padding.

    A sequence longer than `batch_tokens` is a group of its own. Ties keep their order.

    >>> list(micro_batches([2, 9, 3, 4], batch_tokens=8))
    [[1], [3, 2], [0]]
    """
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if group and (len(group) + 1) * lengths[group[0]] > batch_tokens:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def padded(
    sequences: Sequence[Sequence[int]], device: torch.device, *, pad: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids (sequences x longest, `pad` after the last) and the mask (1 where there is a token), both int64."""
    import torch

    lengths = torch.tensor([len(s) for s in sequences])
    ids = torch.full((len(sequences), int(lengths.max())), pad)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.as_tensor(sequence)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def in_halves(run: Callable[[list[int]], list[Result]], group: list[int], what: str) -> list[Result]:
    """`run(group)`; when the device has no room for it, its halves one after the other, down to single sequences.

    Raises:
        MemoryError: one sequence alone is too much.
    """
    import torch

    try:
        return run(group)
    except torch.OutOfMemoryError as error:
        if len(group) == 1:
            raise MemoryError(
                f"no room on the device for one sequence of {what}; lower max_length, use a smaller model, "
                "or free the memory that other processes hold"
            ) from error
    torch.cuda.empty_cache()
    half = len(group) // 2
    return in_halves(run, group[:half], what) + in_halves(run, group[half:], what)


def tokens_a_batch(asked: int | None, device: torch.device) -> int:
    """The user's `batch_tokens`, or what suits the device."""
    return asked or (CPU_TOKENS if device.type == "cpu" else GPU_TOKENS)


class RowCount:
    """Turns finished sequences into finished rows and reports them.

    Args:
        owners: the row of each sequence.
        n_rows: rows in all. Those without a sequence are reported at once.
        report: called with a number of rows, or None.
    """

    def __init__(self, owners: Sequence[int], n_rows: int, report: Callable[[int], None] | None) -> None:
        self._owners, self._report = owners, report
        self._left = Counter(owners)
        self._tell(n_rows - len(self._left))

    def done(self, sequences: Iterable[int]) -> None:
        """Take note that these sequences are finished."""
        n = 0
        for i in sequences:
            self._left[self._owners[i]] -= 1
            n += self._left[self._owners[i]] == 0
        self._tell(n)

    def _tell(self, n: int) -> None:
        if n and self._report is not None:
            self._report(n)

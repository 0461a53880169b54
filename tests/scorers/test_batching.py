from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.scorers.batching import RowCount, in_halves, micro_batches, padded


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_micro_batches(lengths, batch_tokens):
    groups = list(micro_batches(lengths, batch_tokens))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= batch_tokens
    order = [lengths[i] for group in groups for i in group]
    assert order == sorted(lengths, reverse=True)
    for group in groups[:-1]:  # none could have taken one more
        assert (len(group) + 1) * lengths[group[0]] > batch_tokens


def test_padded():
    ids, mask = padded([[5, 6, 7], [8]], torch.device("cpu"), pad=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_batch_too_large_for_the_device_is_halved():
    tried = []

    def run(group):
        tried.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError("full")
        return [i * i for i in group]

    assert in_halves(run, [3, 1, 4, 1, 5], "9 tokens") == [9, 1, 16, 1, 25]
    assert tried == [5, 2, 3, 1, 2]


def test_one_sequence_too_large_for_the_device_is_an_error():
    def run(group):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(MemoryError, match="9 tokens"):
        in_halves(run, [1, 2], "9 tokens")


def test_row_count():
    seen = []
    count = RowCount([0, 0, 2], 4, seen.append)
    assert seen == [2]  # rows 1 and 3 have no sequence
    count.done([0])
    assert seen == [2]
    count.done([1, 2])
    assert seen == [2, 2]

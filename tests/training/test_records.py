"""The table of records against a plain dict."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_dsel.training.records import BATCHES, Records

VISIT = st.tuples(st.integers(0, 2), st.lists(st.integers(0, 12), min_size=1, max_size=4), st.booleans())


def add(records, visits, slow, *, start=0):
    """Add batches in the order of their steps, and to the dict what was seen first."""
    for step, (at, rows, known) in enumerate(visits, start):
        values = [[float(10 * step + i), float(row) if known else np.nan] for i, row in enumerate(rows)]
        records.add(torch.tensor(rows), torch.tensor(values), at=at, step=step)
        for row, value in zip(rows, values, strict=True):
            if known:
                slow.setdefault((at, row), value)


def check(records, slow):
    found = records.trajectories(np.arange(14))
    for (at, row), value in slow.items():
        assert [found["a"][row, at], found["b"][row, at]] == value
    assert (~np.isnan(found["a"])).sum() == len(slow)
    last = {row: value[0] for (_, row), value in sorted(slow.items())}
    assert sorted(records.last("a")) == sorted(last.values())


@given(st.lists(VISIT, max_size=8), st.lists(VISIT, max_size=8))
def test_what_is_seen_first_counts(before, after):
    records, slow = Records(("a", "b")), {}
    add(records, before, slow)
    records.settle(1)
    check(records, slow)
    copy = Records(("a", "b"))
    copy.restore(records.arrays("train") | {"probe/9/rows": np.zeros(1)}, "train")
    for mine in (records, copy):
        seen = dict(slow)
        add(mine, after, seen, start=len(before))
        mine.settle(1)
        check(mine, seen)


def test_more_batches_than_are_kept_on_the_device():
    records, slow = Records(("a", "b")), {}
    add(records, [(i % 3, [i % 11], True) for i in range(3 * BATCHES + 5)], slow)
    records.settle(1)
    check(records, slow)

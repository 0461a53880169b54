# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""The courses of rows written into a dataset: a column and its status for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

from hf_dsel.training.records import NO_TOKEN, NOT_FINITE, IntArray, Records
from hf_dsel.training.row_numbers import ROW, Numbering
from hf_dsel.training.trajectories import Course

DROPPED = "left out by the trainer: no token to learn from"
COUNTS = ("forgetting", "forgetting_score", "first_learned")
TYPES = dict.fromkeys(COUNTS, pa.int32()) | {"unforgettable": pa.bool_()}


def add_columns(
    dataset: Dataset,
    courses: Mapping[str, Course],
    *,
    prefix: str,
    times: str,
    times_seen: npt.NDArray[np.int64],
    unseen: npt.NDArray[Any],
) -> Dataset:
    """The dataset with `<prefix>_<name>` and `<prefix>_<name>_status` for each course.

    Args:
        dataset: one row for each of the courses'.
        courses: name → course.
        prefix: of the columns.
        times: the name of the column that holds `times_seen`.
        times_seen: in how many passes each row was seen.
        unseen: why a row was never seen; it means nothing for the others.

    Raises:
        ValueError: the dataset has one of the columns.
    """
    never = times_seen == 0
    columns: dict[str, Any] = {f"{prefix}_{times}": pa.array(times_seen, pa.int32())}
    columns[f"{prefix}_{times}_status"] = pa.array(np.where(never, unseen, "ok"), pa.string())
    for name, course in courses.items():
        kind = TYPES.get(name, pa.float32())
        values = course.values.astype(kind.to_pandas_dtype())
        columns[f"{prefix}_{name}"] = pa.array(values, kind, mask=~course.valid)
        status = np.where(course.valid, "ok", np.where(never, unseen, course.reason))
        columns[f"{prefix}_{name}_status"] = pa.array(status, pa.string())
    there = [name for name in columns if name in dataset.column_names]
    if there:
        raise ValueError(
            f"the dataset already has the column {there[0]!r}; drop the earlier ones first: "
            f"pool.remove_columns([c for c in pool.column_names if c.startswith('{prefix}_')])"
        )
    return concatenate_datasets([dataset, Dataset(InMemoryTable(pa.table(columns)))], axis=1)


def reasons_unseen(numbering: Numbering, numbers: IntArray, records: Records, pack_to: int | None) -> npt.NDArray[Any]:
    """Why each row, if it was never seen in training, was not.

    Args:
        numbering: of the training set.
        numbers: of the rows.
        records: of the training.
        pack_to: tokens that a longer row was cut to.
    """
    absent = "not in the training set" if numbering.given else DROPPED
    inside = np.isin(numbers, numbering.trained)
    found = with_losses(
        np.where(inside, "not seen: not drawn while the training was recorded", absent), numbers, records
    )
    if pack_to is not None and len(records.lost.get(NO_TOKEN, ())):
        prepared = numbering.dataset.with_format(None)
        own = np.asarray(prepared[ROW][:], np.int64)
        mine = prepared.select(np.flatnonzero(np.isin(own, records.lost[NO_TOKEN])))
        cut = [n for n, ids in zip(mine[ROW][:], mine["input_ids"][:], strict=True) if len(ids) > pack_to]
        found[np.isin(numbers, cut)] = f"cut away: pack_to={pack_to} leaves no token to learn from"
    return found


def with_losses(reasons: npt.NDArray[Any], numbers: IntArray, records: Records) -> npt.NDArray[Any]:
    """The reasons, and in their place for rows that came by without numbers, why those have none."""
    found = reasons.astype(object)
    for why, text in ((NO_TOKEN, "no token to learn from"), (NOT_FINITE, "the loss was not finite")):
        found[np.isin(numbers, records.lost.get(why, []))] = text
    return found

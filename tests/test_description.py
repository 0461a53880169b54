import json

import pytest

from hf_dsel.description import Description, Estimate, Metric


def table(draws=2):
    return Description(
        (
            Metric("rows", Estimate(10), 10.0, 0.0, Estimate(2000), 0),
            Metric("spread", Estimate(0.5), 0.25, 0.125, Estimate(12.0, 11.5, 12.5, 100), 2, "higher", "Eq. 1"),
            Metric("alike", None, 7.0, None, Estimate(0.1), 1, "lower"),
        ),
        draws,
        0,
        ("a note",),
        ("something; add it",),
    )


def test_the_table():
    assert str(table()).splitlines() == [
        "          subset  random (mean of 2)  whole pool",
        "----------------------------------------------------------",
        "rows          10    10                2,000",
        "spread ↑    0.50  0.25 ± 0.12         12.00 [11.50, 12.50]",
        "alike ↓        -   7.0                  0.1",
        "  ↑ higher is more diverse, ↓ lower is",
        "  [a, b] 95 % interval of a number that was computed on a sample",
        "  a note",
        "  left out: something; add it",
    ]


def test_columns_without_a_number_are_left_out():
    lone = Description((Metric("rows", None, None, None, Estimate(3), 0),), 0, 0)
    assert str(lone).splitlines() == ["      whole pool", "----------------", "rows           3"]


def test_lines_by_name_and_as_mappings():
    found = table()
    assert found["spread"].pool.sample == 100
    with pytest.raises(KeyError, match="no line 'width'; there are .*'spread'"):
        found["width"]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["metrics"] == json.loads(json.dumps(found.rows()))
    assert plain["metrics"][1]["pool"] == {"value": 12.0, "low": 11.5, "high": 12.5, "sample": 100}
    assert plain["metrics"][1]["diverse"] == "higher" and plain["metrics"][2]["subset"] is None
    assert plain["notes"] == ["a note"] and plain["left_out"] == ["something; add it"] and plain["draws"] == 2

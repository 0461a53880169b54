"""When rules leave too few rows, the error says how many each took and what to do about it."""

import re

import pytest
from datasets import Dataset

from hf_dsel import BudgetError, select
from hf_dsel.selection_block import SelectionBlock
from hf_dsel.shortage import LONGEST, MOST, reasons_to_read

# 10 rows: two copies, two junk, one without a quality.
POOL = Dataset.from_dict(
    {
        "text": ["a", "A.", "a!", *"bcdefgh"],
        "quality": [1.0, 2.0, 3.0, 4.0, None, 6.0, 7.0, 8.0, 9.0, 10.0],
        "gate": [0.9] * 5 + [0.2, 0.3] + [0.9] * 3,
    }
)


def refused(**options):
    with pytest.raises(BudgetError) as error:
        select(POOL, **options)
    return " ".join([str(error.value), *getattr(error.value, "__notes__", [])])


@pytest.mark.parametrize(
    ("options", "left", "texts", "not_there"),
    [({"gate": 0.5}, 8, ["lower gate=0.5, which took 2 rows, or leave it out"], ["dedup", "null"]),
     ({"dedup": True}, 8, ["leave dedup out, which took 2 rows"], ["gate", "null", "cosine"]),
     ({"gate": 0.5, "dedup": True, "strategy": "top_k"}, 5,
      ["lower gate=0.5, which took 2 rows", "leave dedup out, which took 2 rows", "see why 1 row has a null"], [])],
)  # fmt: skip
def test_what_took_the_rows_and_what_to_do(options, left, texts, not_there):
    said = refused(**{"strategy": "random", "k": 10} | options)
    assert said.startswith(f"k=10 but only {left} rows can be selected; left out: ")
    assert f". Ask for at most k={left}; or " in said
    assert all(text in said for text in texts)
    advice = said.partition(". Ask")[2]
    assert not any(text in advice for text in not_there)
    assert len(select(POOL, **{"strategy": "random"} | options, k=left)) == left  # and that much works


def test_nothing_left_at_all():
    for budget in ({"k": 1}, {"fraction": 0.5}, {"fraction": 0.1}):
        said = refused(strategy="random", gate=0.95, **budget)
        assert (
            "no row can be selected; left out: 10 with a gate below 0.95. Lower gate=0.95, which took 10 rows" in said
        )
    said = refused(strategy="top_k", fraction=1.0)  # a fraction is one of all rows, nulls too
    assert said.startswith("fraction=1 but only 9 rows") and "Ask for at most 9 rows; or see why 1 row has" in said


def test_a_gate_that_decides_for_itself():
    sure = POOL.remove_columns("gate").add_column("gate", [0.999] * 4 + [0.1] * 6)
    with pytest.raises(BudgetError, match=r"gate, which took 6 rows, a lower .* than 0.999, such as gate=0.5, or l"):
        select(sure, "random", k=5, gate=True)
    doubtful = POOL.remove_columns("gate").add_column("gate", [0.999] * 9 + [0.4])
    with pytest.raises(BudgetError, match=r"a lower probability than 0.999, such as gate=0.5, or leave it out"):
        select(doubtful, "random", k=10, gate=True)
    many = Dataset.from_dict({"text": ["a"] * 100, "gate": [1.0] * 97 + [0.4, 0.1, 0.1]})
    with pytest.raises(BudgetError, match=r"a lower probability than 0.4, such as gate=0.2, or leave it out") as error:
        select(many, "random", k=100, gate=True)
    assert "2 with a gate below 0.4" in str(error.value)
    near = POOL.add_column("embedding", [[1.0, i / 100] for i in range(10)])
    with pytest.raises(BudgetError, match="raise the cosine of dedup, which took 9 rows, or leave it out"):
        select(near, "random", k=5, dedup={"similarity": 0.9, "embedding": "embedding"})


def test_where_is_named_too():
    def block(**keys):
        return SelectionBlock.of({"strategy": "random", "where": ["quality < 8"], **keys}, "x.yaml")

    with pytest.raises(
        BudgetError, match=re.escape("k=8 but only 6 of 10 rows fulfil quality < 8; ask for at most k=6")
    ):
        block(k=8).pick(POOL)
    with pytest.raises(BudgetError, match="k=6 but only 4 rows can be selected; .*gate=0.5, which took 2") as error:
        block(k=6, gate=0.5).pick(POOL)
    assert error.value.__notes__ == ["(considered: the 6 rows that fulfil quality < 8)"]
    assert len(block(k=4, gate=0.5).pick(POOL)) == 4


def test_reasons_of_a_stranger_are_short_and_do_nothing(capsys):
    reasons = [f"\x1b[31m{i}\x1b[0m\n\u202e" + "long " * 100 for i in range(20)]
    pool = Dataset.from_dict({"text": ["a"] * 21, "q": [None] * 20 + [1.0], "q_status": [*reasons, "ok"]})
    record = select(pool, "top_k", column="q", k=1)
    printed = capsys.readouterr().err
    with pytest.raises(BudgetError) as error:
        select(pool, "top_k", column="q", k=2)
    assert set(record.left_out) == {f"no q ({reason})" for reason in reasons}  # the record has them as they are
    for text in (printed.strip(), str(error.value)):
        assert text.isprintable() and "\\x1b[31m" in text and len(text) < 250 + MOST * (LONGEST + 20)
        assert "15 rows with 15 other reasons" in text or "; 15 with 15 other reasons. Ask" in text


def test_all_rows_are_in_the_reasons_that_are_shown():
    many = {f"reason {i}": 1 + i % 4 for i in range(30)} | {"the most": 50}
    shown = reasons_to_read(many)
    assert next(iter(shown)) == "the most" and len(shown) == MOST + 1 and sum(shown.values()) == sum(many.values())
    few = {"b": 1, "a": 3}
    assert list(reasons_to_read(few).items()) == [("b", 1), ("a", 3)]
    alike = {"x" * 200 + str(i) + "y" * 200: 1 for i in range(3)}
    assert list(reasons_to_read(alike).values()) == [3]

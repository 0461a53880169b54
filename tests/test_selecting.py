"""select_by: what it returns, what it attaches, what it refuses."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, IterableDatasetDict, List, Value

import hf_dsel
from hf_dsel import BadColumn, BudgetError, MissingColumn, Picks, select, select_by
from hf_dsel.strategies import make_strategy

POOL = Dataset.from_dict(
    {
        "instruction": [f"Do {i}" for i in range(20)],
        "output": [f"Done {i} " * (i % 4 + 1) for i in range(20)],
        "quality": [float(i % 5) for i in range(20)],
    }
)


def test_the_subset_is_in_pick_order_with_the_users_columns():
    subset = POOL.select_by("top_k", k=6)
    assert type(subset) is Dataset
    assert subset["quality"][:] == [4, 4, 4, 4, 3, 3]
    assert subset["instruction"][:] == ["Do 4", "Do 9", "Do 14", "Do 19", "Do 3", "Do 8"]
    assert subset["selection_rank"][:] == list(range(6))
    assert subset.features["selection_gain"] == Value("float32")
    assert set(POOL.column_names) < set(subset.column_names)
    assert POOL.info.description == ""


def test_a_view_of_a_dataset_is_a_pool_like_any_other():
    view = POOL.shuffle(seed=0).select(range(5, 15))
    record = select(view, "top_k", k=4)
    assert view.select(record.indices)["quality"][:] == sorted(view["quality"][:], reverse=True)[:4]
    assert record.apply(view)["instruction"][:] == select_by(view, "top_k", k=4)["instruction"][:]


def test_missing_columns_are_computed_with_the_default_scorer_and_announced(capsys):
    @dataclass(frozen=True, kw_only=True)
    class Shortest:
        column: str = "response_words"

        def needs(self):
            return {self.column: hf_dsel.Length(of="response", unit="words")}

        def pick(self, columns, budget, rng):
            order = budget.fitting(np.argsort(columns[self.column], kind="stable"))
            return Picks(order, -columns[self.column][order])

    subset = select_by(POOL, Shortest(), k=5)
    assert subset["response_words"][:] == [2] * 5
    assert "computing 'response_words' for 20 rows with Length(" in capsys.readouterr().err
    with pytest.raises(MissingColumn, match=r"missing: \['response_words'\]. Add it: .*hf_dsel.score"):
        select_by(POOL, Shortest(), k=5, compute=False)
    mine = POOL.add_column("response_words", list(range(20, 0, -1)))
    assert select_by(mine, Shortest(), k=1)["instruction"][:] == ["Do 19"]  # yours wins


def test_nulls_are_left_out_and_counted(capsys):
    scores = [None, 1.0, None, 3.0]
    pool = Dataset.from_dict({"q": scores, "q_status": ["empty response", "ok", "no response", "ok"]})
    record = select(pool, "top_k", k=2, column="q")
    assert record.indices.tolist() == [3, 1]
    assert record.left_out == {"no q (empty response)": 1, "no q (no response)": 1}
    assert "not considered: 1 row with no q (empty response)" in capsys.readouterr().err
    with pytest.raises(BudgetError, match="k=3 but only 2 rows can be selected; left out: .*empty response"):
        select(pool, "top_k", k=3, column="q")


def test_fraction_and_tokens():
    assert len(select(POOL, "random", fraction=0.25)) == 5
    pool = POOL.add_column("example_tokens", [10] * 20)
    assert len(select(pool, "top_k", max_tokens=45)) == 4
    assert select(pool, "top_k", max_tokens=45).indices.tolist() == select(pool, "top_k", k=4).indices.tolist()
    with pytest.raises(BudgetError, match="max_tokens=9 is less than the shortest row's 10"):
        select(pool, "top_k", max_tokens=9)
    with pytest.raises(MissingColumn, match="example_tokens.*Length"):
        select(POOL, "top_k", max_tokens=45)


def test_every_split_of_a_dict():
    splits = DatasetDict(a=POOL, b=POOL.select(range(8)))
    chosen = splits.select_by("top_k", k=3)
    assert isinstance(chosen, DatasetDict) and {n: len(d) for n, d in chosen.items()} == {"a": 3, "b": 3}
    assert set(select(splits, "top_k", k=3)) == {"a", "b"}
    with pytest.raises(BudgetError) as error:
        splits.select_by("top_k", k=9)
    assert error.value.__notes__ == ["(in the split 'b')"]


def test_streams():
    stream = POOL.to_iterable_dataset()
    assert stream.select_by("top_k", k=3)["instruction"][:] == select_by(POOL, "top_k", k=3)["instruction"][:]
    both = IterableDatasetDict(a=stream).select_by("threshold", low=3)
    assert isinstance(both, IterableDatasetDict) and len(list(both["a"])) == 4
    with pytest.raises(TypeError, match="One pass is enough for random, top_k and threshold"):
        stream.select_by("stratified", k=2, column="quality")
    with pytest.raises(BudgetError, match="no known length: give k"):
        stream.select_by("random", fraction=0.5)
    with pytest.raises(BudgetError, match="at least 1, got -1"):
        stream.select_by("random", k=-1)
    with pytest.raises(MissingColumn, match=r"\['ifd'\], which the stream lacks; add it with dataset.map"):
        stream.select_by("top_k", k=2, column="ifd")
    with pytest.raises(BadColumn, match="near row 0"):
        Dataset.from_dict({"quality": [1.0, float("nan")]}).to_iterable_dataset().select_by("top_k", k=1)
    with pytest.warns(hf_dsel.Shortfall, match="20 of 50"):
        assert len(stream.select_by("random", k=50)) == 20


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: select(POOL, "topk", k=1),
            ValueError,
            "unknown strategy 'topk'; did you mean 'top_k'.*Known: ",
        ),
        (lambda: select(POOL, "magic", k=1), ValueError, "unknown strategy 'magic'; Known"),
        (lambda: select(POOL, "top_k", k=1, colum="q"), TypeError, "no option 'colum'; did you mean 'column'.*Options"),
        (lambda: select(POOL, 3, k=1), TypeError, "must be a name .* got 3"),
        (lambda: select(POOL, make_strategy("random", {}), k=1, x=2), TypeError, "set x on the Random instance"),
        (lambda: select(POOL, "random", k=21), BudgetError, "k=21 is more than the 20 rows"),
        (lambda: select(POOL, "random", k=0), BudgetError, "at least 1, got 0"),
        (lambda: select(POOL, "random"), BudgetError, "give one of k"),
        (lambda: select(POOL, "random", k=1, fraction=0.5), BudgetError, "got k=1, fraction=0.5"),
        (lambda: select(POOL.select([]), "random", k=1), ValueError, "empty"),
        (lambda: select(POOL, "top_k", k=1, column="ifd"), MissingColumn, r"missing: \['ifd'\].*add_column\('ifd'"),
        (lambda: select(POOL, "qdit", k=1, alpha=1.2), ValueError, r"alpha must be in \[0, 1\].*got 1.2"),
        (lambda: select(POOL, "deita", k=1, threshold=2), ValueError, r"\[-1, 1\], got 2"),
        (lambda: select([{"text": "x"}], "random", k=1), TypeError, "got list"),
    ],
)
def test_what_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize(
    ("vectors", "text"),
    [
        ([[1.0, 2.0], [float("nan"), 1.0]], "NaN or infinite values in 1 of 2 rows, first 1"),
        ([[0.0, 0.0], [1.0, 1.0]], "only zeros in 1 of 2 rows, first 0"),
        ([[1.0], [1.0, 2.0]], "several widths"),
    ],
)
def test_bad_embeddings_are_refused(vectors, text):
    pool = Dataset.from_dict(
        {"quality": [1.0, 2.0], "embedding": vectors},
        Features({"quality": Value("float64"), "embedding": List(Value("float32"))}),
    )
    with pytest.raises(BadColumn, match=text):
        select(pool, "qdit", k=1)


@dataclass(frozen=True)
class Wrong:
    rows: tuple

    def needs(self):
        return {}

    def pick(self, columns, budget, rng):
        return Picks(np.asarray(self.rows), np.zeros(2))


@pytest.mark.parametrize(
    ("rows", "text"), [((1, 1), "a row twice"), ((0, 20), "row 20 of a pool of 20"), ((0,), "lengths")]
)
def test_a_strangers_strategy_is_held_to_the_contract(rows, text):
    with pytest.raises(RuntimeError, match=text):
        select(POOL, Wrong(rows), k=2)


def test_attaching_is_idempotent_and_replaces_nobody():
    code = """
import datasets
datasets.Dataset.select_by = lambda self: "theirs"
try:
    import hf_dsel
except RuntimeError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Dataset.select_by exists already" in said and "HF_DSEL_ATTACH=0" in said
    hf_dsel.selecting.attach()
    assert Dataset.select_by is select_by
    code = (
        "import os; os.environ['HF_DSEL_ATTACH'] = '0'\n"
        "import datasets, hf_dsel; print(hasattr(datasets.Dataset, 'select_by'))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_importing_is_light():
    heavy = ("transformers.models", "trl", "sklearn", "faiss")
    code = f"import sys, hf_dsel; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

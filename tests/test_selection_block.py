import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.selection_block import BadConfig, SelectionBlock, merged, read_yaml
from hf_dsel.strategies.top_k import TopK

POOL = Dataset.from_dict(
    {
        "instruction": [f"Say {i}" for i in range(20)],
        "output": ["word " * (1 + i % 5) for i in range(20)],
        "quality": [float(i) for i in range(20)],
    }
)


def block(**keys):
    return SelectionBlock.of(keys, "x.yaml: selection")


def test_the_pick_is_that_of_select_by(tmp_path):
    made = block(strategy="top_k", k=4, params={"column": "response_words"}, cache_dir=str(tmp_path),
                 scorers=["Length:of=response,unit=words"])  # fmt: skip
    assert made.rule == TopK(column="response_words")
    scored = made.scored(POOL)
    assert scored["response_words"][:] == [1 + i % 5 for i in range(20)]
    assert made.pick(scored).indices.tolist() == [4, 9, 14, 19]
    assert [line.name for line in made.comparison(scored, made.pick(scored)).lines] == [
        "rows", "response_words, mean", "repeated instructions"
    ]  # fmt: skip


def test_nulls_are_defaults_and_lists_may_be_missing():
    assert block(strategy="random", k=3, params=None, fraction=None).params == {}
    assert block(strategy="random", k=3).seed == 42


def test_where_leaves_rows_out_and_the_record_still_fits_the_source():
    made = block(strategy="top_k", k=3, where=["quality < 12", "quality != 10"])
    record = made.pick(made.scored(POOL))
    assert record.indices.tolist() == [11, 9, 8] and record.left_out == {"not quality < 12": 8, "not quality != 10": 1}
    assert record.apply(POOL)["quality"][:] == [11.0, 9.0, 8.0]  # strict: the source is the whole pool
    half = block(strategy="random", fraction=0.5, where=["quality < 10"])
    assert len(half.pick(POOL)) == 5
    with pytest.raises(BadConfig, match="no row fulfils quality > 99"):
        block(strategy="random", k=1, where=["quality > 99"]).pick(POOL)


def test_copies_are_left_out_after_where():
    pool = Dataset.from_dict({"text": ["a b", "A b.", "a  B", "c", "d"], "quality": [9.0, 1.0, 2.0, 3.0, 4.0]})
    made = block(strategy="top_k", fraction=1.0, where=["quality < 5"], dedup=True)
    record = made.pick(made.scored(pool))
    assert record.indices.tolist() == [4, 3, 2] and record.dedup is True
    assert record.left_out == {"not quality < 5": 1, "a better copy (text)": 1}
    for dedup, error, text in (
        (0.9, ValueError, "reads none"),
        ("yes", TypeError, "dedup is 'yes'"),
        ({"similar": 1}, ValueError, "no option 'similar'"),
    ):
        with pytest.raises(error, match=text):
            block(strategy="top_k", k=1, dedup=dedup)
    with pytest.raises(hf_dsel.MissingColumn, match="dedup: there is no column 'vectors'; there will be"):
        block(strategy="top_k", k=1, dedup={"embedding": "vectors"}).check(pool)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [({}, BadConfig, "selection needs a strategy"), ({"strategy": 3}, BadConfig, "got 3"),
     ({"stratgy": "qdit"}, BadConfig, "x.yaml: selection: unknown key 'stratgy'; did you mean 'strategy'"),
     ({"strategy": "qdit", "scorers": "IFD"}, BadConfig, "scorers must be a list, got 'IFD'"),
     ({"strategy": "qdit", "params": ["alpha"]}, BadConfig, "params must be a mapping"),
     ({"strategy": "qditt"}, ValueError, "unknown strategy 'qditt'; did you mean 'qdit'"),
     ({"strategy": "qdit", "params": {"alfa": 1}}, TypeError, "no option 'alfa'; did you mean 'alpha'"),
     ({"strategy": "qdit", "params": {"alpha": 2}}, ValueError, r"alpha must be in \[0, 1\].*got 2"),
     ({"strategy": "qdit", "scorers": ["IDF:model=x"]}, ValueError, "unknown scorer 'IDF'; did you mean 'IFD'"),
     ({"strategy": "random", "where": ["quality"]}, ValueError, "'quality' is no condition"),
     ({"strategy": "random", "where": "ifd < 1"}, BadConfig, "where must be a list")],
)  # fmt: skip
def test_bad_blocks(keys, error, message):
    with pytest.raises(error, match=message):
        block(**keys)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [({"strategy": "random"}, hf_dsel.BudgetError, "give one of k"),
     ({"strategy": "random", "k": 21}, hf_dsel.BudgetError, "k=21 is more than the 20 rows"),
     ({"strategy": "random", "k": 0}, hf_dsel.BudgetError, "at least 1, got 0"),
     ({"strategy": "random", "k": 3, "fraction": 0.1}, hf_dsel.BudgetError, "give one of .* got k=3, fraction=0.1"),
     ({"strategy": "random", "k": "many"}, TypeError, "whole number, got 'many'"),
     ({"strategy": "random", "max_tokens": 9}, hf_dsel.MissingColumn, "add the scorer .*unit: tokens"),
     ({"strategy": "top_k", "k": 2, "params": {"column": "a"}}, hf_dsel.MissingColumn, r"reads \['a'\].*quality"),
     ({"strategy": "random", "k": 2, "where": ["a < 1"]}, hf_dsel.MissingColumn, "where: a < 1: there is no such"),
     ({"strategy": "random", "k": 2, "scorers": ["IFD:model=./nosuch"]}, RuntimeError, "no such folder")],
)  # fmt: skip
def test_what_does_not_fit_the_dataset_is_found_before_anything_is_computed(keys, error, message):
    with pytest.raises(error, match=message):
        block(**keys).scored(POOL)


def test_defaults_are_computed_only_for_what_nobody_makes(tiny_bert):
    made = block(strategy="qdit", k=2)
    assert [s.column for s in made.all_scorers(POOL.column_names)] == ["embedding"]
    assert made.all_scorers([*POOL.column_names, "embedding"]) == []
    own = block(strategy="qdit", k=2, scorers=[f"Embed:model={tiny_bert},of=response"])
    own_only = own.all_scorers(["quality", "embedding"])
    assert len(own_only) == 1 and own_only[0].model == tiny_bert


def test_a_token_budget_with_its_column():
    counted = POOL.add_column("example_tokens", np.arange(1, 21))
    record = block(strategy="top_k", max_tokens=39).pick(counted)
    assert record.indices.tolist() == [19, 18]


def test_flags_win_over_the_file():
    file = {"strategy": "qdit", "k": 5, "seed": 1, "params": {"alpha": 0.5, "scale": "rank"}}
    assert merged(file, {}) == file
    assert merged(file, {"seed": 2})["seed"] == 2
    assert merged(file, {"fraction": 0.1}) == {**{k: v for k, v in file.items() if k != "k"}, "fraction": 0.1}
    assert merged(file, {"params": {"alpha": 1}})["params"] == {"alpha": 1, "scale": "rank"}
    assert "params" not in merged(file, {"strategy": "random"})
    assert merged(file, {"strategy": "deita", "params": {"threshold": 0.5}})["params"] == {"threshold": 0.5}
    assert merged(file, {"strategy": "qdit"})["params"] == file["params"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "--config .*x.yaml: No such file"), ("a: [1", "is not YAML: .*line 1"),
     ("- a", "must hold 'key: value' lines, got list"), ("", "got NoneType")],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadConfig, match=message):
        read_yaml(tmp_path / "x.yaml")


def test_numbers_and_quotes_in_a_file(tmp_path):
    (tmp_path / "x.yaml").write_text("gate: 5e-1\nparams: {alpha: 1e-3}\nname: '1.10'\nlicense: \"5e-1\"\n")
    found = read_yaml(tmp_path / "x.yaml")
    assert found == {"gate": 0.5, "params": {"alpha": 0.001}, "name": "1.10", "license": "5e-1"}


@pytest.mark.parametrize(
    ("seed", "error", "text"),
    [(-1, ValueError, "seed=-1 must be at least 0"), (1.5, TypeError, "seed=1.5 must be a whole number, such as 42"),
     (True, TypeError, "seed=True must be"), ("7", TypeError, "seed='7' must be")],
)  # fmt: skip
def test_seeds_that_cannot_be(seed, error, text):
    with pytest.raises(error, match=text):
        block(strategy="random", k=1, seed=seed)
    for choose in (hf_dsel.select, hf_dsel.select_by):
        with pytest.raises(error, match=text):
            choose(POOL, "random", k=1, seed=seed)
    with pytest.raises(error, match=text):
        hf_dsel.select_by(POOL.to_iterable_dataset(), "random", k=1, seed=seed)
    with pytest.raises(error, match=text):
        hf_dsel.gate_report(POOL, seed=seed)
    assert len(hf_dsel.select(POOL, "random", k=1, seed=np.int64(3))) == 1

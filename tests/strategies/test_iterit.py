"""IterIT beside its formula written out, from text to picks."""

import warnings

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.columns import BadColumn, MissingColumn, read_column
from hf_dsel.scorers.ngrams import words_of
from tests.ops.test_fading_terms import every_gain_at_every_step

WORDS = "the sea is blue and rain falls on 2 of 3 days in Paris so take a coat or sing with me at night".split()


def pool(n, seed=0):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 25))) for _ in range(n)]
    return Dataset.from_dict(
        {"instruction": [f"Say {i}." for i in range(n)], "output": texts, "ifd": rng.uniform(0.2, 1.2, n)}
    )


def by_formula(rows, k, *, ceiling=1.0, decay=0.1):
    inside = [i for i, c in enumerate(rows["ifd"][:]) if ceiling is None or c < ceiling]
    words = [words_of(rows["output"][i]) for i in inside]
    grams = [[tuple(w[i : i + n]) for n in (1, 2, 3) for i in range(len(w) - n + 1)] for w in words]
    found = every_gain_at_every_step(grams, [rows["ifd"][i] for i in inside], decay)[:k]
    return [inside[i] for i, _ in found], [gain for _, gain in found]


@pytest.mark.parametrize("options", [{}, {"decay": 0.5}, {"decay": 0, "ceiling": 0.7}, {"decay": 1, "ceiling": None}])
def test_picks_of_the_formula(options):
    rows = pool(60)
    expected, gains = by_formula(rows, 20, **options)
    found = hf_dsel.select(rows, "iterit", k=20, **options)
    assert found.indices.tolist() == expected
    assert found.gains == pytest.approx(gains, rel=1e-6)
    complexity = np.array(rows["ifd"][:])[expected]
    assert found.why["diversity"] == pytest.approx(np.array(gains) / complexity, rel=1e-6)


def test_the_first_picks_are_the_choice_for_a_smaller_budget():
    rows = pool(50)
    found = hf_dsel.select(rows, "iterit", k=30).indices.tolist()
    assert hf_dsel.select(rows, "iterit", k=7).indices.tolist() == found[:7]


def test_without_fading_it_is_top_k_of_the_product():
    rows = hf_dsel.score(pool(40), hf_dsel.NGrams())
    found = hf_dsel.select(rows, "iterit", k=40, ceiling=None, decay=1)
    rows = rows.add_column("sum", (found.why["diversity"][np.argsort(found.indices)]).astype(float))
    assert found.indices.tolist() == hf_dsel.select(rows, "top_k", k=40, column=["ifd", "sum"]).indices.tolist()


def test_rows_without_a_score_or_an_answer_are_left_out():
    rows = [{"instruction": "a", "output": out, "ifd": c} for out, c in [("x y", 0.9), ("x y", None), (None, 0.9),
            ("", 0.5), ("z", 1.0)]]  # fmt: skip
    with pytest.warns(hf_dsel.Shortfall, match="2 of the 3 rows"):
        found = hf_dsel.select(Dataset.from_list(rows), "iterit", k=3)
    assert found.indices.tolist() == [0, 3] and found.gains[1] == 0
    assert found.left_out == {"no ifd": 1, "no response_ngrams (no response)": 1}


def test_zero_complexity_gives_no_diversity():
    rows = pool(3).remove_columns("ifd").add_column("ifd", [0.0, 0.5, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hf_dsel.select(rows, "iterit", k=3)
    assert found.indices.tolist() == [1, 0, 2] and np.isnan(found.why["diversity"][1:]).all()


def test_tokens_as_budget():
    rows = pool(30).add_column("example_tokens", [7] * 30)
    found = hf_dsel.select(rows, "iterit", max_tokens=36).indices.tolist()
    assert found == hf_dsel.select(rows, "iterit", k=5).indices.tolist()


def test_other_columns_and_wrong_ones():
    rows = pool(20)
    ask = hf_dsel.select_by(rows, "iterit", k=5, ngrams="instruction_ngrams")
    assert "instruction_ngrams" not in ask.column_names and "ifd" in ask.column_names
    kept = rows.select_by("iterit", k=5, ngrams="instruction_ngrams", keep_vectors=True)
    assert "instruction_ngrams" in kept.column_names and kept["ifd"][:] == ask["ifd"][:]
    with pytest.raises(MissingColumn, match="my_ngrams"):
        rows.select_by("iterit", k=5, ngrams="my_ngrams")
    with pytest.raises(TypeError, match=r"'output' holds no lists of terms.*NGrams\(\)"):
        rows.select_by("iterit", k=5, ngrams="output")
    with pytest.raises(ValueError, match=r"complexity='ifd' has -1"):
        rows.map(lambda row: {"ifd": -1.0}).select_by("iterit", k=5)
    with pytest.raises(ValueError, match="decay=2"):
        rows.select_by("iterit", k=5, decay=2)
    scored = hf_dsel.score(rows, hf_dsel.NGrams())
    with pytest.raises(TypeError, match="'response_ngrams' holds text or lists"):
        scored.select_by("top_k", k=5, column="response_ngrams")
    with pytest.raises(TypeError, match="not embeddings"):
        scored.select_by("k_center", k=5, embedding="response_ngrams")


def test_lists_of_terms_in_every_view():
    scored = hf_dsel.score(pool(30), hf_dsel.NGrams())
    lists = scored["response_ngrams"][:]
    views = {"as it is": (scored, range(30)), "slice": (scored.select(range(5, 9)), range(5, 9)),
             "picked": (scored.select([7, 3, 3]), [7, 3, 3]), "one": (scored.select([4]), [4])}  # fmt: skip
    for name, (view, rows) in views.items():
        column = read_column(view, "response_ngrams")
        assert [row.tolist() for row in column.values] == [lists[i] for i in rows], name
        assert all(row.dtype == np.uint64 for row in column.values) and column.valid.all()
    kind = Features({"t": List(Value("uint64"))})
    broken = Dataset.from_dict({"t": [[1, None], [2]]}, features=kind)
    with pytest.raises(BadColumn, match="null among their terms"):
        read_column(broken, "t")


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = pool(30)
    rows.to_parquet("pool.parquet")
    line = "select pool.parquet --strategy iterit --k 6 --param decay=0.2 --out out"
    assert main([*line.split(), "--dry-run"]) == 0
    assert "compute        response_ngrams of 30 rows" in capsys.readouterr().out
    assert main(line.split()) == 0
    found = hf_dsel.Selection.load("out/selection.json")
    assert found.indices.tolist() == by_formula(rows, 6, decay=0.2)[0]
    written = Dataset.from_parquet("out/train.parquet")
    assert "selection_diversity" in written.column_names and "response_ngrams" not in written.column_names
    assert main("score pool.parquet --scorer NGrams:longest=2 --out scored".split()) == 0
    assert main([*line.replace("pool.parquet", "scored").split(), "--dry-run", "--overwrite"]) == 0
    assert "response_ngrams (uint64)" in capsys.readouterr().out
    assert main("describe scored --subset out".split()) == 0

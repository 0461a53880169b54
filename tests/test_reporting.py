import numpy as np
import pytest
from datasets import Dataset, Features, List, Value

import hf_dsel
from hf_dsel import reporting
from hf_dsel.metrics.coverage import coverage
from hf_dsel.metrics.nearest_neighbour_distance import nearest_neighbour_distance
from hf_dsel.reporting import brief, compare, first_picks
from hf_dsel.scorers import CausalLM, Length
from hf_dsel.strategies.qdit import Qdit


@pytest.fixture
def pool():
    n = 60
    x = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    columns = {
        "instruction": [f"Question {i % 50}" for i in range(n)],  # the last ten repeat the first
        "output": ["word " * (1 + i % 7) for i in range(n)],
        "quality": [float(i % 11) for i in range(n)],
        "embedding": x.tolist(),
    }
    text = {"instruction": Value("string"), "output": Value("string"), "quality": Value("float32")}
    return Dataset.from_dict(columns, Features(text | {"embedding": List(Value("float32"), length=6)}))


def test_every_number_is_what_it_says(pool):
    record = hf_dsel.select(pool, "top_k", k=12)
    found = compare(pool, record, random_draws=3, seed=1)
    x, rows = np.array(pool["embedding"][:], np.float32), record.indices
    rng = np.random.default_rng(1)
    draws = [rng.choice(60, 12, replace=False) for _ in range(3)]
    quality, words = np.array(pool["quality"][:]), np.array([len(t.split()) for t in pool["output"][:]])

    def repeats(r):
        return len(r) - len(set(np.array(pool["instruction"][:])[r]))

    for name, number, whole in (
        ("rows", len, 60),
        ("quality, mean", lambda r: quality[r].mean(), quality.mean()),
        ("response words, mean", lambda r: words[r].mean(), words.mean()),
        ("repeated instructions", repeats, 10),
        ("coverage of the pool", lambda r: coverage(x, r), 1),
        ("distance to nearest neighbour", lambda r: nearest_neighbour_distance(x, r), nearest_neighbour_distance(x)),
    ):
        line = found[name]
        assert line.subset == pytest.approx(number(rows)), name
        assert line.random == pytest.approx(np.mean([number(d) for d in draws])), name
        assert line.pool == pytest.approx(whole), name
        if name != "rows":
            assert line.spread == pytest.approx(np.std([number(d) for d in draws], ddof=1)), name
    assert found.lines[0].name == "rows" and len(found.lines) == 6 and found.notes == ()


def test_the_same_seed_draws_the_same_rows(pool):
    rows = np.arange(5)
    assert str(compare(pool, rows, seed=3)) == str(compare(pool, rows, seed=3))
    assert str(compare(pool, rows, seed=3)) != str(compare(pool, rows, seed=4))


def test_draws_of_ones_own(pool):
    found = compare(pool, np.arange(5), columns=["quality"], random_draws=[np.array([7, 8])])
    assert (found["rows"].random, found["quality, mean"].random, found["quality, mean"].spread) == (2, 7.5, None)
    assert "mean of" not in str(found)


def test_the_table_is_aligned_and_shows_what_is_missing(pool):
    scored = pool.remove_columns("quality").add_column("quality", [1.0] * 9 + [None] * 51, feature=Value("float32"))
    found = compare(
        scored.remove_columns("embedding"), np.arange(4), columns=["quality"], random_draws=[np.arange(20, 24)]
    )
    assert found["quality, mean"].pool is None and found["quality, mean"].random is None
    lines = str(found).splitlines()
    table = lines[: 2 + len(found.lines)]
    assert len({len(line) for line in table}) == 1
    assert next(line for line in table if line.startswith("quality")).split() == ["quality,", "mean", "1.000", "-", "-"]
    assert lines[-1].strip() == "quality: the mean of the rows that have one, 9 of 60 in the pool"


def test_large_pools_are_sampled_and_it_is_said(pool, monkeypatch):
    monkeypatch.setattr(reporting, "TEXTS", 20)
    big = Dataset.from_dict(
        {
            "instruction": [str(i) for i in range(3000)],
            "output": ["a b"] * 3000,
            "embedding": np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32).tolist(),
        },
        Features(
            {"instruction": Value("string"), "output": Value("string"), "embedding": List(Value("float32"), length=4)}
        ),
    )
    monkeypatch.setattr(reporting, "PAIRS", 1)
    found = compare(big, np.arange(1500), random_draws=1)
    assert found["response words, mean"].pool == 2
    exact = compare(big, np.arange(1500), random_draws=1)["coverage of the pool"].subset
    assert found["coverage of the pool"].subset == pytest.approx(exact, abs=0.05)
    assert [note.split(":")[0] for note in found.notes] == [
        "words and repeats of the whole pool", "coverage", "distance in the whole pool"
    ]  # fmt: skip


def test_preference_pairs_and_unknown_formats():
    pairs = Dataset.from_dict({"prompt": ["a", "a"], "chosen": ["x y", "z"], "rejected": ["n", "n"]})
    assert compare(pairs, np.array([0, 1]), random_draws=0)["repeated instructions"].subset == 1
    plain = Dataset.from_dict({"question": ["a", "b"], "quality": [1, 2]})
    found = compare(plain, np.array([0]), columns=["quality"])
    assert [line.name for line in found.lines] == ["rows", "quality, mean"] and "no known format" in found.notes[0]


def test_what_cannot_be_compared(pool):
    with pytest.raises(ValueError, match="empty"):
        compare(pool, np.array([], np.int64))
    with pytest.raises(ValueError, match="'instruction' holds no numbers"):
        compare(pool, np.arange(3), columns=["instruction"])
    with pytest.raises(hf_dsel.MissingColumn, match="nosuch"):
        compare(pool, np.arange(3), columns=["nosuch"])
    with pytest.raises(KeyError, match="no line 'x'"):
        compare(pool, np.arange(3))["x"]


def test_the_first_picks_say_why(pool):
    record = hf_dsel.select(pool, "qdit", k=9, scale="rank")
    lines = first_picks(pool, record, n=3).splitlines()
    assert lines[0].split() == ["rank", "row", "gain", "diversity", "quality", "text"] and len(lines) == 4
    for i, line in enumerate(lines[1:]):
        rank, row, gain, diversity, quality, *text = line.split()
        assert (int(rank), int(row)) == (i, record.indices[i])
        assert float(gain) == pytest.approx(record.gains[i], abs=6e-4)
        assert float(diversity) == pytest.approx(record.why["diversity"][i], abs=6e-4)
        assert float(quality) == pool[int(row)]["quality"] and " ".join(text) == pool[int(row)]["instruction"]


def test_long_texts_are_cut_to_one_line(pool):
    wide = Dataset.from_dict({"prompt": ["one\ntwo " + "x" * 200], "completion": ["y"]})
    shown = first_picks(wide, hf_dsel.select(wide, "random", k=1), width=20).splitlines()
    assert len(shown) == 2 and shown[1].endswith("one two xxxxxxxxxxx…")


def test_texts_of_the_pool_do_not_act_on_a_terminal():
    bad = Dataset.from_dict({"prompt": ["red \x1b[31m\x07 and \u202eback\nnext\x9b2J"], "completion": ["x"]})
    shown = first_picks(bad, hf_dsel.select(bad, "random", k=1)).splitlines()
    assert len(shown) == 2 and shown[1].isprintable()
    assert shown[1].endswith("red \\x1b[31m\\x07 and \\u202eback next\\x9b2J")


def test_brief_is_code_with_what_differs_from_the_default():
    assert brief(Qdit(alpha=0.5)) == "Qdit(alpha=0.5)"
    assert eval(brief(CausalLM("gpt2", turns="last"))) == CausalLM("gpt2", turns="last")
    assert brief(Length()) == "Length()" and brief(len) == "<built-in function len>"

"""The bank against one written with plain lists, and what must hold after any updates."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_dsel
from hf_dsel import Bank, OtherKind, WrongBank

HISTORIES = ["sketch", "paper", "repository", None]


def pool(n, seed=0, dim=6, begin=0, quality=None, **columns):
    """Plain texts with vectors of length 1 and distinct qualities."""
    rng = np.random.default_rng([seed, begin])
    x = rng.standard_normal((n, dim)) + 0.7  # around a common direction, as embeddings of text are
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    features = {"text": Value("string"), "quality": Value("float64"), "embedding": List(Value("float32"), length=dim)}
    rows = {"text": [f"text {seed} {begin + i}" for i in range(n)], "embedding": list(x)}
    rows["quality"] = rng.permutation(n) + rng.random(n) if quality is None else quality
    return Dataset.from_dict(rows | columns, Features(features | {c: Value("string") for c in columns}))


def held(bank):
    """What is in it, without where from."""
    rows = bank.dataset
    return [rows[n][:] for n in ("text", "score", "representation", "quality")]


def slow_bank(parts, size, remember):
    """preference=0 in loops: the distance to the nearest row, of the candidates or of all rows seen, then Eqs. 8-10."""
    bank, seen = [], []
    for part in parts:
        new = sorted(zip(part["text"][:], part["quality"][:], np.array(part["embedding"][:], float), strict=True),
                     key=lambda row: row[0])  # fmt: skip
        candidates = bank + new
        others = seen + new if remember else candidates
        near = [min(np.linalg.norm(x - y) for t, _, y in others if t != text) for text, _, x in candidates]
        quality = [q for _, q, _ in candidates]
        score = [
            (1 + (d - min(near)) / (max(near) - min(near))) * (1 + (q - min(quality)) / (max(quality) - min(quality)))
            for d, q in zip(near, quality, strict=True)
        ]
        seen += new
        order = sorted(range(len(candidates)), key=lambda i: -score[i])[:size]
        bank = [candidates[i] for i in order]
        last = [(candidates[i][0], score[i], near[i], quality[i]) for i in order]
    return last


def test_without_history_it_equals_the_slow_bank():
    parts = [pool(40), pool(30, begin=40), pool(50, begin=70)]
    bank = Bank(size=20, history=None)
    for number, part in enumerate(parts):
        bank.update(part, source=f"part {number}")
    for ours, slow in zip(held(bank), zip(*slow_bank(parts, 20, remember=False), strict=True), strict=True):
        assert ours == (pytest.approx(list(slow), rel=1e-6) if isinstance(slow[0], float) else list(slow))


def test_with_a_sketch_it_equals_the_slow_bank_that_forgets_nothing():
    parts = [pool(40), pool(30, begin=40), pool(50, begin=70)]
    bank = Bank(size=20, bits=8)
    for number, part in enumerate(parts):
        bank.update(part, source=f"part {number}")
    slow = {text: numbers for text, *numbers in slow_bank(parts, 20, remember=True)}
    ours = {text: numbers for text, *numbers in zip(*held(bank), strict=True)}
    assert ours.keys() == slow.keys()
    for text, (score, representation, quality) in ours.items():
        assert slow[text] == pytest.approx([score, representation, quality], rel=0.02)
    exact = slow_bank(parts, 20, remember=False)
    assert {text for text, *_ in exact} != slow.keys()  # the past makes a difference here


def test_the_first_round_is_the_strategy():
    data = pool(60)
    for options in ({}, {"preference": "median"}, {"gamma": 0.0}, {"combine": "add", "gamma": 2.0}):
        for history in HISTORIES:
            bank = Bank(size=15, history=history, iterations=15, **options)
            bank.update(data, source="a")
            chosen = hf_dsel.select_by(data, "pibe", k=15, iterations=15, **options)
            if options.get("gamma") != 0:  # two rows nearest to each other tie, and the bank decides by the text
                assert bank.dataset["text"][:] == chosen["text"][:], (options, history)
            np.testing.assert_allclose(bank.dataset["score"][:], chosen["selection_gain"][:], rtol=1e-4)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("preference", [0.0, "median"])
def test_rounds_are_told(history, preference):
    bank = Bank(size=25, history=history, preference=preference, iterations=10)
    assert len(bank) == 0 and bank.history == () and bank.history_bytes == 0
    [first] = bank.update(pool(20), source="a")
    assert (first.entered, first.left, first.kept, first.by_source) == (20, 0, 0, {"a": 20}) and len(bank) == 20
    [second] = bank.update(pool(30, begin=20), source="b")
    assert second.entered + second.kept == len(bank) == 25 and second.left == 20 - second.kept
    assert sum(second.by_source.values()) == 25 and second.by_source["b"] == second.entered
    assert bank.history == (first, second) and "round 2, b: " in str(second)
    rows = bank.dataset
    assert rows["score"][:] == sorted(rows["score"][:], reverse=True) and len(set(rows["text"][:])) == 25
    for text, source, at, number in zip(rows["text"][:], rows["source"][:], rows["source_row"][:], rows["round"][:],
                                        strict=True):  # fmt: skip
        assert text == f"text 0 {at + (20 if source == 'b' else 0)}" and number == {"a": 1, "b": 2}[source]
    assert bank.top(4)["text"][:] == rows["text"][:4] and (bank.history_bytes > 0) == (history is not None)
    assert bank.embeddings.shape == (25, 6)


@pytest.mark.filterwarnings("ignore:the cosines of")
@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(2, 25), min_size=1, max_size=4), st.integers(1, 30), st.sampled_from(HISTORIES),
       st.sampled_from([0.0, -1.0]), st.integers(0, 100))  # fmt: skip
def test_any_updates(sizes, size, history, preference, seed):
    options = {"size": size, "history": history, "preference": preference, "iterations": 8}
    rng = np.random.default_rng(seed)
    first, second, begin = Bank(**options), Bank(**options), 0
    for number, n in enumerate(sizes):
        part = pool(n, seed=seed, begin=begin)
        first.update(part, source=str(number))
        second.update(part.select(rng.permutation(n)), source=str(number))  # the order of rows has no influence
        assert held(first) == held(second)
        begin += n
        texts = first.dataset["text"][:]
        assert len(texts) == len(set(texts)) <= size and len(texts) == min(size, len(texts) + 0)
    before = held(first), first.history
    assert first.update(pool(5).select([]), source="empty") == ()
    rows = first.dataset
    again = rows.remove_columns(["score", "representation", "source", "source_row", "round"])
    again = again.add_column("embedding", list(first.embeddings), feature=List(Value("float32"), length=6))
    assert first.update(again, source="again") == ()
    assert (held(first), first.history) == before


def test_a_dataset_can_come_twice():
    bank = Bank(size=10)
    both = pool(40), pool(30, begin=40)
    for part in both:
        bank.update(part, source="a")
    before = held(bank)
    for part in both:
        assert bank.update(part, source="again") == ()
    [mixed] = bank.update(concatenate_datasets([both[0], pool(1, seed=9)]), source="one more")
    assert (mixed.given, mixed.seen, mixed.candidates) == (41, 40, 1)
    assert set(held(bank)[0]) - set(before[0]) <= {"text 9 0"}


def test_copies_count_once_and_the_best_is_taken():
    data = pool(12, quality=list(range(12)))
    twice = concatenate_datasets([data, data.remove_columns("quality").add_column("quality", [20.0] * 3 + [0.5] * 9)])
    bank = Bank(size=24)
    [only] = bank.update(twice, source="a")
    assert (only.given, only.seen, only.candidates) == (24, 12, 12)
    quality = dict(zip(bank.dataset["text"][:], bank.dataset["quality"][:], strict=True))
    assert [quality[f"text 0 {i}"] for i in range(12)] == [20.0] * 3 + list(map(float, range(3, 12)))


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("preference", [0.0, -1.0])
def test_saved_and_loaded_it_goes_on_as_if_it_had_not_been(history, preference, tmp_path):
    options = {"size": 12, "history": history, "preference": preference, "iterations": 10}
    one, parts = Bank(**options), [pool(20), pool(25, begin=20), pool(15, begin=45)]
    one.save(tmp_path / "bank")
    for number, part in enumerate(parts):
        one.update(part, source=f"{number}")
        two = Bank.load(tmp_path / "bank", size=12, history=history)
        two.update(part, source=f"{number}")
        assert held(one) == held(two) and one.history_bytes == two.history_bytes
        assert [r.by_source for r in one.history] == [r.by_source for r in two.history]
        two.save(tmp_path / "bank")
        assert sorted(p.name[:5] for p in (tmp_path / "bank").iterdir()) == [".lock", "bank.", "state"]
    assert Bank.load(tmp_path / "bank").settings == one.settings


@pytest.mark.parametrize("options", [{}, {"preference": -1.0}, {"preference": -1.0, "neighbours": 5}])
def test_chunks(options):
    data = pool(50)
    bank = Bank(size=10, chunk=20, iterations=5, **options)
    rounds = bank.update(data, source="a")
    assert [r.candidates for r in rounds] == [20, 20, 10] and [r.given for r in rounds] == [50, 0, 0]
    turned = Bank(size=10, chunk=20, iterations=5, **options)
    turned.update(data.select(range(49, -1, -1)), source="a")
    assert held(bank) == held(turned)


def test_the_past_counts_with_a_sketch_alone():
    crowd = pool(30)
    double = crowd.remove_columns("text").add_column("text", [f"other {i}" for i in range(30)])  # the same vectors
    far = {}
    for history in ("sketch", None):
        bank = Bank(size=5, history=history, gamma=0.0)
        bank.update(crowd, source="crowd")
        evicted = double.select([i for i in range(30) if f"text 0 {i}" not in bank.dataset["text"][:]])
        for i in range(len(evicted)):  # one at a time, so that it is alone in its round
            bank.update(evicted.select([i]), source="doubles")
        far[history] = sum(source == "doubles" for source in bank.dataset["source"][:])
    assert far["sketch"] == 0 < far[None]


@pytest.mark.parametrize("preference", ["median", -0.8])
def test_the_memory_votes_where_rows_compete(preference):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 16)) * np.geomspace(0.2, 1, 16)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    data = Dataset.from_dict({"text": [str(i) for i in range(400)], "embedding": list(x)})
    options = {"size": 40, "gamma": 0.0, "preference": preference, "iterations": 40}
    whole = Bank(**options)
    whole.update(data, source="all")
    found = {}
    for history in ("sketch", None):
        bank = Bank(history=history, **options)
        for part in range(4):
            bank.update(data.select(range(100 * part, 100 * part + 100)), source=str(part))
        found[history] = len(set(bank.dataset["text"][:]) & set(whole.dataset["text"][:]))
    assert found["sketch"] > found[None]


def test_the_top_is_better_than_the_bottom():
    bank = Bank(size=60)
    for part in range(4):
        bank.update(pool(100, begin=100 * part), source=str(part))
    rows = bank.dataset
    for b in range(1, 31):
        for name in ("quality", "representation"):
            values = np.array(rows[name][:])
            if b >= 10:  # the mean of a few rows is a matter of luck
                assert values[:b].mean() > values[-b:].mean(), (name, b)
        assert np.mean(rows["score"][:][:b]) >= np.mean(rows["score"][:][-b:])


def test_formats_become_messages():
    n = 6
    vectors = {"embedding": np.eye(n, dtype=np.float32).tolist(), "quality": list(range(n))}
    alpaca = Dataset.from_dict(
        {"instruction": [f"q{i}" for i in range(n)], "input": ["x"] * n, "output": ["a"] * (n - 2) + ["", None]}
        | vectors
    )
    sharegpt = Dataset.from_dict(
        {"conversations": [[{"from": "human", "value": f"h{i}"}, {"from": "gpt", "value": "b"}] for i in range(n)],
         "id": list(range(n))} | vectors
    )  # fmt: skip
    same = [[{"role": "user", "content": "q0\nx"}, {"role": "assistant", "content": "a"}]]
    bank = Bank(size=50)
    [first] = bank.update(alpaca, source="alpaca")
    assert first.left_out == {"no answer": 2} and first.candidates == 4
    bank.update(sharegpt, source="sharegpt")
    assert (
        bank.update(Dataset.from_dict({"messages": same, "embedding": [[1.0] * n], "quality": [9.0]}), source="x") == ()
    )
    rows = bank.dataset
    assert rows.column_names == ["messages", "score", "representation", "quality", "source", "source_row", "round"]
    assert sorted(m[0]["content"] for m in rows["messages"][:]) == sorted(
        [f"q{i}\nx" for i in range(4)] + [f"h{i}" for i in range(6)]
    )
    pairs = Dataset.from_dict(
        {"prompt": ["p"], "chosen": ["yes"], "rejected": ["no"]} | {"embedding": [[1.0] * n], "quality": [1]}
    )
    with pytest.raises(OtherKind, match="bank holds conversations, and pairs preference pairs"):
        bank.update(pairs, source="pairs")
    prompts = Dataset.from_dict({"prompt": ["p"]})
    with pytest.raises(OtherKind, match="no answers"):
        bank.update(prompts, source="prompts")


def test_preference_pairs():
    n = 8
    data = Dataset.from_dict(
        {"prompt": [f"p{i}" for i in range(n)], "chosen": ["yes"] * n, "rejected": ["no"] * n,
         "embedding": np.eye(n, dtype=np.float32).tolist(), "quality": list(range(n))}
    )  # fmt: skip
    bank = Bank(size=3)
    bank.update(data, source="a")
    assert bank.dataset[0]["prompt"] == [{"role": "user", "content": "p7"}]
    assert bank.dataset[0]["rejected"] == [{"role": "assistant", "content": "no"}]
    broken = Dataset.from_dict(
        {"chosen": [None, "a b"], "rejected": ["x", "a c"], "embedding": [[1.0] * n] * 2, "quality": [1, 2]}
    )
    [second] = bank.update(broken, source="b")
    assert second.candidates == 1 and sum(second.left_out.values()) == 1


def test_nulls_are_left_out_with_a_reason():
    data = pool(10)
    quality = [None, None, *data["quality"][2:]]
    data = data.remove_columns("quality").add_column("quality", quality)
    data = data.add_column("quality_status", ["empty response", "too long", *["ok"] * 8])
    [only] = Bank(size=4).update(data, source="a")
    assert only.left_out == {"no quality (empty response)": 1, "no quality (too long)": 1} and only.candidates == 8


def test_a_failed_update_changes_nothing():
    bank = Bank(size=5, preference=-1.0, chunk=10)
    bank.update(pool(20), source="a")
    before = held(bank), bank.history
    with pytest.raises(ValueError, match=r"embeddings of b have 7 dimensions, those of the bank 6"):
        bank.update(pool(10, dim=7), source="b")
    with pytest.raises(hf_dsel.BadColumn, match="NaN"):
        bank.update(pool(10, begin=50, quality=[float("nan")] * 10), source="b")
    with pytest.raises(hf_dsel.MissingColumn, match="quality"):
        bank.update(pool(10, begin=50).remove_columns("quality"), source="b", compute=False)
    with pytest.raises(TypeError, match="one split"):
        bank.update({"train": pool(3)}, source="b")
    with pytest.raises(ValueError, match="give the dataset a name"):
        bank.update(pool(3), source="")
    assert (held(bank), bank.history) == before


def test_bad_input():
    for name, value in (
        ("size", 0), ("size", 2.5), ("size", True), ("history", "all"), ("momentum", 1.5), ("decay", -0.1), ("bits", 0),
        ("chunk", 1), ("gamma", -1), ("gamma", 1e4), ("preference", "mean"), ("neighbours", 0), ("damping", 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            Bank(**{name: value})
    with pytest.raises(ValueError, match="leave neighbours out"):
        Bank(history="paper", neighbours=8)
    bank = Bank(size=4)
    with pytest.raises(ValueError, match="the bank is empty"):
        _ = bank.dataset
    with pytest.raises(ValueError, match=r"'quality' is 2 in all 5 rows"):
        bank.update(pool(5, quality=[2.0] * 5), source="a")
    with pytest.raises(ValueError, match="at least 2 rows"):
        bank.update(pool(1), source="a")
    bank.update(pool(5), source="a")
    for b in (0, 5):
        with pytest.raises(ValueError, match="ask for 1 to 4"):
            bank.top(b)
    assert repr(bank) == "Bank(4 of 4 rows after 1 round, history='sketch')"


def test_a_quality_that_has_become_constant_is_told():
    bank = Bank(size=2, gamma=50)
    bank.update(pool(4, quality=[5.0, 5.0, 1.0, 1.0]), source="a")
    assert bank.dataset["quality"][:] == [5.0, 5.0]
    with pytest.warns(UserWarning, match="'quality' is 5 in all 5 candidates"):
        bank.update(pool(3, begin=4, quality=[5.0] * 3), source="b")


def test_damaged_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bank in"):
        Bank.load(tmp_path / "none")
    bank = Bank(size=4)
    bank.update(pool(9), source="a")
    place = tmp_path / "bank"
    bank.save(place)
    with pytest.raises(WrongBank, match=r"was made with gamma=1.0, not 2"):
        Bank.load(place, gamma=2)
    with pytest.raises(TypeError, match="no setting 'colour'"):
        Bank.load(place, colour="red")
    [rows] = place.glob("state-*/rows.parquet")
    whole = rows.read_bytes()
    rows.write_bytes(whole[:-10])
    with pytest.raises(WrongBank, match="rows.parquet is damaged"):
        Bank.load(place)
    rows.unlink()
    with pytest.raises(WrongBank, match="rows.parquet is missing"):
        Bank.load(place)
    rows.write_bytes(whole)
    index = place / "bank.json"
    record = json.loads(index.read_text())
    index.write_text(json.dumps(record | {"hf_dsel_bank": 0}))
    with pytest.raises(WrongBank, match=r"was made by hf-dsel .* \(format 0"):
        Bank.load(place)
    index.write_text(index.read_text()[:50])
    with pytest.raises(WrongBank, match="bank.json is damaged"):
        Bank.load(place)
    for damage in ({"files": None}, {"rounds": [{}]}, {"settings": record["settings"] | {"colour": 1}}):
        index.write_text(json.dumps(record | damage))
        with pytest.raises(WrongBank, match="bank.json is damaged"):
            Bank.load(place)
    index.write_bytes(b"\xff\xfe")
    with pytest.raises(WrongBank, match="bank.json is damaged"):
        Bank.load(place)
    index.unlink()
    with pytest.raises(FileNotFoundError, match="interrupted first save"):
        Bank.load(place)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds 'thesis.tex' and no bank"):
        bank.save(tmp_path / "mine")


@pytest.mark.parametrize("at", ["rows", "index"])
def test_a_killed_save_leaves_the_old_bank(at, tmp_path):
    """A real kill, in the middle of writing the files or just before the index is replaced."""
    bank = Bank(size=6)
    bank.update(pool(12), source="a")
    bank.save(tmp_path / "bank")
    script = f"""
        import os, signal, sys
        import pyarrow.parquet as pq
        from pathlib import Path
        from tests.test_bank import pool
        from hf_dsel import Bank
        bank = Bank.load({str(tmp_path / "bank")!r})
        bank.update(pool(12, begin=12), source="b")
        stop = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
        write = pq.write_table
        def half(table, path):
            write(table, path)
            os.truncate(path, 100)
            stop()
        if {at!r} == "rows": pq.write_table = half
        else: Path.replace = stop
        bank.save({str(tmp_path / "bank")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == -9 and len(list((tmp_path / "bank").glob("state-*"))) == 2
    again = Bank.load(tmp_path / "bank")
    assert held(again) == held(bank) and len(again.history) == 1
    again.update(pool(12, begin=12), source="b")
    again.save(tmp_path / "bank")
    assert len(list((tmp_path / "bank").glob("state-*"))) == 1 and len(Bank.load(tmp_path / "bank").history) == 2


def test_missing_columns_are_computed_by_one_scorer(minilm):
    text = Dataset.from_dict({"text": [f"Explain {w} to a child." for w in "wind rain snow fog ice".split()]})
    bank = Bank(size=3, gamma=0.0, embedding="vector")
    with pytest.raises(hf_dsel.MissingColumn):
        bank.update(text, source="a", compute=False)
    scored = hf_dsel.score(text, hf_dsel.Embed(minilm, of="example"))
    bank = Bank(size=3, gamma=0.0)
    bank.update(scored, source="a")
    assert len(bank) == 3 and bank.embeddings.shape == (3, 384)
    more = Dataset.from_dict({"text": ["Explain hail to a child."]})
    bank.update(more, source="b", scorers=[hf_dsel.Embed(minilm, of="example")])
    more = Dataset.from_dict({"text": ["Explain dew to a child."]})
    bank.update(more, source="c", scorers=[hf_dsel.Embed(minilm, of="example", batch_tokens=64)])  # the same vectors
    with pytest.raises(ValueError, match="was made by Embed.*would now be made by"):
        bank.update(more, source="d", scorers=[hf_dsel.Embed(minilm, of="response")])


def test_a_bank_that_is_not_full_says_so(capsys):
    bank = Bank(size=30)
    bank.update(pool(12), source="a")
    assert "12 rows in the bank" in (said := capsys.readouterr().err) and "18 places are free" in said
    bank.update(pool(40, begin=12), source="b")
    assert "places are free" not in capsys.readouterr().err and len(bank) == 30


@pytest.mark.skipif("HF_DSEL_DATA" not in os.environ, reason="reads Alpaca from the folder in HF_DSEL_DATA")
def test_fig_4_on_alpaca():
    """The first b rows beside the last b, for every b: quality and representation are both higher."""
    from tests.benchmarks.bank_overlap import alpaca

    bank, data = Bank(size=1000), alpaca(20_000, 0)
    for number, at in enumerate(np.array_split(np.arange(len(data)), 4)):
        bank.update(data.select(at), source=str(number))
    for name in ("quality", "representation"):
        values = np.array(bank.dataset[name][:])
        for b in range(1, 501):
            assert values[:b].mean() > values[-b:].mean(), (name, b)


def test_a_bank_that_another_one_was_saved_over(tmp_path):
    place = tmp_path / "bank"
    Bank(size=9).save(place)
    first, second = Bank.load(place), Bank.load(place)
    first.update(pool(12), source="a")
    first.save(place)
    second.update(pool(12, begin=12), source="b")
    with pytest.raises(WrongBank, match="not the one that this one came from"):
        second.save(place)
    with pytest.raises(WrongBank, match="not the one that this one came from"):
        Bank(size=3).save(place)
    assert [r.source for r in Bank.load(place).history] == ["a"]
    first.update(pool(12, begin=30), source="c")
    first.save(place)  # it came from there
    second.save(place, overwrite=True)
    assert [r.source for r in Bank.load(place).history] == ["b"]


def test_two_processes_that_save_at_once(tmp_path):
    Bank(size=9).save(tmp_path / "bank")
    script = f"""
        import sys
        from tests.test_bank import pool
        from hf_dsel import Bank, WrongBank
        saved = 0
        for number in range(15):
            bank = Bank.load({str(tmp_path / "bank")!r})
            bank.update(pool(12, begin=1000 * int(sys.argv[1]) + 12 * number), source=sys.argv[1])
            try:
                bank.save({str(tmp_path / "bank")!r})
                saved += 1
            except WrongBank as error:
                assert "another process" in str(error)
        print(saved)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    quiet = os.environ | {"PYTHONPATH": os.getcwd(), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    both = [subprocess.Popen([*command, name], env=quiet, stdout=subprocess.PIPE, text=True) for name in "12"]
    saved = [int(one.communicate()[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0] and sum(saved) >= 15
    last = Bank.load(tmp_path / "bank")
    assert len(last.history) == sum(saved) and len(list((tmp_path / "bank").glob("state-*"))) == 1


def rows_of(messages, n=4, **more):
    vectors = {"embedding": np.eye(n, dtype=np.float32)[: len(messages)].tolist()}
    return Dataset.from_dict({"messages": messages, "quality": list(range(len(messages)))} | vectors | more)


def test_rows_that_a_bank_cannot_keep_as_they_are():
    ok = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    half = json.dumps([{"role": "user", "content": "hi \ud83d"}, {"role": "assistant", "content": "ok"}])
    called = json.dumps(
        [{"role": "user", "content": "c"}, {"role": "assistant", "content": "", "tool_calls": [{"f": 1}]}]
    )
    bank = Bank(size=9)
    [only] = bank.update(rows_of([json.dumps(ok), json.dumps([*ok, *ok]), half, called]), source="a")
    assert only.left_out == {
        "half a character (a lone surrogate) in the text": 1,
        "tool calls, which a bank does not keep": 1,
    }
    assert len(bank) == 2
    calls = [[m | {"tool_calls": None} for m in ok], [ok[0] | {"tool_calls": None}, ok[1] | {"tool_calls": [{"f": 1}]}]]
    [second] = Bank(size=9).update(
        rows_of([*calls, [m | {"tool_calls": None} for m in [ok[0], ok[1], ok[1]]]]), source="b"
    )
    assert second.left_out == {"tool calls, which a bank does not keep": 1} and second.candidates == 2


def test_a_side_that_the_other_one_begins_with():
    turn = lambda role, text: {"role": role, "content": text}  # noqa: E731
    short, long = [turn("user", "q"), turn("assistant", "a")], [turn("user", "r"), turn("assistant", "z")]
    data = Dataset.from_dict(
        {
            "chosen": [short, short + long],
            "rejected": [short + long, short],
            "quality": [1, 2],
            "embedding": [[1.0, 0.0], [0.0, 1.0]],
        }
    )
    bank = Bank(size=2)
    bank.update(data, source="a")
    for row in bank.dataset:
        assert row["prompt"] == short[:1]
        assert sorted(map(len, (row["chosen"], row["rejected"]))) == [1, 3]
        assert row["chosen"][0] == row["rejected"][0] == short[1]


def test_columns_of_another_kind():
    for options, text in (
        ({"embedding": "quality"}, "'quality' holds single values"),
        ({"embedding": "text"}, "'text' holds single values"),
        ({"quality": "embedding"}, "'embedding' holds vectors"),
    ):
        with pytest.raises(TypeError, match=text):
            Bank(size=3, **options).update(pool(5), source="a")


@pytest.mark.parametrize("kind", [List(Value("float32")), List(Value("float32"), length=6), Value("null")])
def test_nothing_was_embedded(kind):
    data = pool(3).remove_columns("embedding")
    data = data.add_column("embedding", [None] * 3, feature=kind)
    bank = Bank(size=4)
    assert bank.update(data, source="a") == () and len(bank) == 0
    bank.update(pool(9, dim=7), source="b")
    assert bank.update(data, source="a") == () and len(bank) == 4


def test_copies_with_other_vectors_in_any_order():
    x = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.5, 0.5]]
    data = Dataset.from_dict({"text": list("aabc"), "quality": [1.0, 1.0, 2.0, 3.0], "embedding": x})
    one, two = Bank(size=3), Bank(size=3)
    one.update(data, source="a")
    two.update(data.select([1, 0, 2, 3]), source="a")
    assert held(one) == held(two)


def test_a_row_with_the_direction_of_all_others():
    same = lambda texts: Dataset.from_dict(  # noqa: E731
        {"text": texts, "quality": list(range(len(texts))), "embedding": [[1.0, 0.0]] * len(texts)}
    )
    bank = Bank(size=3, history="repository")
    bank.update(same(list("abcd")), source="a")
    with pytest.raises(ValueError, match="history='repository' are 0/0"):
        bank.update(same(list("efgh")), source="b")


def test_vectors_are_to_be_read_alone_and_numpy_numbers_are_numbers():
    bank = Bank(size=np.int64(3), gamma=np.float32(1), preference=np.float32(-0.5), chunk=np.int32(20))
    bank.update(pool(9), source="a")
    with pytest.raises(ValueError, match="read-only"):
        bank.embeddings[:] = 0
    for b in (True, 2.5):
        with pytest.raises(ValueError, match="ask for 1 to 3"):
            bank.top(b)
    for source in ("  ", "\ud800"):
        with pytest.raises(ValueError, match="give the dataset a name"):
            bank.update(pool(3), source=source)


def test_scores_are_kept_where_asked(minilm, tmp_path, monkeypatch):
    from hf_dsel.strategies import pibe

    monkeypatch.setattr(pibe, "Embed", lambda: hf_dsel.Embed(minilm, of="example"))
    text = Dataset.from_dict({"text": [f"Explain {w} to a child." for w in "wind rain snow fog ice".split()]})
    Bank(size=3, gamma=0.0).update(text, source="a", cache_dir=tmp_path / "scores")
    assert list((tmp_path / "scores").rglob("*.json"))

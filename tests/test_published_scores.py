"""Scores apart from rows: keys of what rows say, files without text, and the join to any copy of the source."""

import hashlib
import json
import re
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, DatasetDict, Features, List, Value, concatenate_datasets, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_dsel.cli import main
from hf_dsel.columns import BadColumn, MissingColumn
from hf_dsel.fetching import NotFetched
from hf_dsel.joined_scores import NONE, NothingJoined, with_scores
from hf_dsel.published_scores import push_scores, save_scores
from hf_dsel.publishing import NotPublished
from hf_dsel.row_keys import hex_keys, places, row_keys
from hf_dsel.rows import UnknownFormat
from hf_dsel.scorer_marks import scorers_of
from hf_dsel.scorers import Length
from hf_dsel.scoring import score
from hf_dsel.selection import Selection
from hf_dsel.selection_block import BadConfig, SelectionBlock

from .hub_stand_in import READ

SECRET = "Zebra quokka"


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def pool(n=12, begin=0, **columns):
    """Alpaca rows with scores as scorers write them, vectors and a text that must not leak."""
    numbers = range(begin, begin + n)
    rows = {
        "id": [f"id-{i}" for i in numbers],
        "instruction": [f"{SECRET} {i}?" for i in numbers],
        "input": ["" if i % 2 else f"with {i}" for i in numbers],
        "output": [f"Answer {i} é 漢" for i in numbers],
        "ifd": [None if i % 5 == 4 else i / 7 for i in numbers],
        "ifd_status": ["the response is empty" if i % 5 == 4 else "ok" for i in numbers],
        "quality": [float(i) for i in numbers],
        "quality_turns": [[float(i)] * (i % 3) for i in numbers],
        "quality_status": ["ok" for _ in numbers],
        "embedding": [[float(i), 1.0, -1.0] for i in numbers],
    }
    kinds = {"ifd": Value("float32"), "quality": Value("float64"), "quality_turns": List(Value("float32"))}
    kinds |= {"embedding": List(Value("float32"), length=3)}
    return Dataset.from_dict(
        rows | columns,
        Features({n: kinds.get(n, Value("string")) for n in rows} | {n: Value("string") for n in columns}),
    )


def keys(dataset):
    found = row_keys(dataset)
    digits = hex_keys(found, np.arange(len(dataset))).to_pylist()
    return [d if ok else None for d, ok in zip(digits, found.readable, strict=True)]


def chat(*texts, system=None):
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *messages] if system else messages


def plain(dataset):
    return dataset.select_columns(["instruction", "input", "output"])


def as_messages(dataset):
    return Dataset.from_dict(
        {
            "messages": [
                chat(f"{a}\n{b}" if b else a, c)
                for a, b, c in zip(*(dataset[n][:] for n in ("instruction", "input", "output")), strict=True)
            ]
        }
    )


def test_a_key_is_the_hash_that_the_card_describes():
    said = json.dumps([[["user", "Hé?\nx"], ["assistant", "Yes"]], [1]], ensure_ascii=False, separators=(",", ":"))
    assert keys(Dataset.from_dict({"instruction": ["Hé?"], "input": ["x"], "output": ["Yes"]})) == [
        hashlib.sha256(said.encode()).hexdigest()[:32]
    ]


def test_the_same_turns_have_the_same_key_in_every_format():
    same = [
        {"instruction": ["Hi"], "output": ["Yo"], "id": ["a"]},
        {"instruction": ["Hi"], "input": [""], "output": ["Yo"]},
        {"instruction": ["Hi"], "context": [""], "response": ["Yo"]},
        {"messages": [chat("Hi", "Yo")]},
        {"messages": [json.dumps(chat("Hi", "Yo"))]},
        {"conversations": [[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]]},
        {"prompt": ["Hi"], "completion": ["Yo"]},
        {"prompt": [chat("Hi")], "completion": [[{"role": "assistant", "content": "Yo"}]]},
    ]
    assert len({keys(Dataset.from_dict(rows))[0] for rows in same}) == 1
    pairs = [
        {"prompt": ["Hi"], "chosen": ["Yo"], "rejected": ["No"]},
        {"prompt": [chat("Hi")], "chosen": [[chat("", "Yo")[1]]], "rejected": [[chat("", "No")[1]]]},
        {"chosen": [chat("Hi", "Yo")], "rejected": [chat("Hi", "No")]},
        {"prompt": ["Hi"], "chosen": [chat("Hi", "Yo")], "rejected": [chat("Hi", "No")]},
    ]
    assert len({keys(Dataset.from_dict(rows))[0] for rows in pairs}) == 1


def test_other_text_other_turns_other_sides_have_other_keys():
    others = [
        {"messages": [chat("Hi", "Yo")]},
        {"messages": [chat("Hi", "Yo", system="Be kind")]},
        {"messages": [chat("Hi ", "Yo")]},
        {"messages": [chat("Hi", "Yo", "And", "No")]},
        {"prompt": [chat("Hi", "Yo", "And")], "completion": ["No"]},  # one turn, not two: other scores
        {"messages": [chat("Hi", "Yo", "And")]},
        {"prompt": ["Hi"]},
        {"prompt": ["Hi"], "completion": [""]},
        {"prompt": ["HiYo"]},
        {"text": ["Hi"]},
        {"prompt": ["Hi"], "chosen": ["Yo"], "rejected": ["No"]},
        {"prompt": ["Hi"], "chosen": ["No"], "rejected": ["Yo"]},
    ]
    found = [keys(Dataset.from_dict(rows))[0] for rows in others]
    assert len(set(found)) == len(others) and None not in found


def test_rows_that_cannot_be_read_have_no_key_and_a_reason():
    found = row_keys(Dataset.from_dict({"messages": [chat("Hi", "Yo"), [], [{"role": "oracle", "content": "x"}]]}))
    assert found.readable.tolist() == [True, False, False]
    assert sum(found.problems.values()) == 2 and "the conversation is empty" in found.problems


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), max_size=40), st.lists(st.integers(0, 30), min_size=1, max_size=31, unique=True))
def test_places_equals_a_dictionary(rows, published):
    ours = row_keys(Dataset.from_dict({"text": [f"t{i}" for i in rows]}, Features({"text": Value("string")})))
    theirs = row_keys(Dataset.from_dict({"text": [f"t{i}" for i in published]}))
    slow = {number: place for place, number in enumerate(published)}
    assert places(ours, theirs.high, theirs.low).tolist() == [slow.get(i, -1) for i in rows]


def test_places_tells_keys_apart_that_share_a_half():
    ours = row_keys(Dataset.from_dict({"text": ["a", "b", "c"]}))
    ours.high[:] = 7
    low = ours.low[[2, 0]].copy()
    assert places(ours, np.array([7, 7], np.uint64), low).tolist() == [1, -1, 0]


def test_saved_and_joined_to_the_same_rows(tmp_path):
    full = pool(30)
    save_scores(full, tmp_path / "scores", source="me/pool", license="mit")
    joined = with_scores(plain(full), tmp_path / "scores")
    names = ["ifd", "ifd_status", "quality", "quality_status", "quality_turns"]
    assert sorted(set(joined.column_names) - {"instruction", "input", "output"}) == names
    for name in names:
        assert joined[name][:] == full[name][:]
        assert joined.features[name] == full.features[name]


@pytest.mark.parametrize("copy", ["other order", "a part", "more rows", "messages", "a file", "a view", "twice"])
def test_joined_to_any_copy(tmp_path, copy):
    full = pool(30)
    slow = {f"{a}|{b}|{c}": x for a, b, c, x in zip(*(full[n][:] for n in ("instruction", "input", "output", "ifd")),
                                                    strict=True)}  # fmt: skip
    save_scores(full, tmp_path / "scores", ["ifd"])
    at = np.random.default_rng(0).permutation(30)
    other = {
        "other order": lambda: Dataset.from_dict(plain(full).select(at)[:]),
        "a part": lambda: plain(full).select([7, 3, 4]),
        "more rows": lambda: plain(pool(50, begin=-10)),
        "messages": lambda: plain(full),
        "a file": lambda: (plain(full).to_json(tmp_path / "a.jsonl"), load_dataset(
            "json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / "cache")))[1],
        "a view": lambda: plain(full).shuffle(seed=1).select(range(9)),
        "twice": lambda: plain(full).select([5, 5, 1]),
    }[copy]()  # fmt: skip
    expected = [slow.get(f"{r['instruction']}|{r['input']}|{r['output']}", "none") for r in other]
    joined = with_scores(as_messages(other) if copy == "messages" else other, tmp_path / "scores")
    assert joined["ifd"][:] == [None if x == "none" else x for x in expected]
    for x, status in zip(expected, joined["ifd_status"][:], strict=True):
        assert status == (NONE if x == "none" else "the response is empty" if x is None else "ok")
    assert len(joined) == len(other) and (copy != "more rows" or expected.count("none") == 20)


def test_vectors_when_they_are_named(tmp_path):
    full = pool(9)
    save_scores(full, tmp_path / "scores", ["embedding", "ifd"])
    joined = with_scores(plain(full).select([8, 2]), tmp_path / "scores", ["embedding"])
    assert joined["embedding"][:] == [[8, 1, -1], [2, 1, -1]]
    assert joined.features["embedding"] == full.features["embedding"] and "ifd" not in joined.column_names
    more = with_scores(plain(pool(3, begin=8)), tmp_path / "scores", ["embedding"])
    assert more["embedding"][:] == [[8, 1, -1], None, None] and more["embedding_status"][:] == ["ok", NONE, NONE]


def test_no_text_of_the_source_is_in_any_file(tmp_path):
    quoting = [f"the reply is '{SECRET} x', not a number", *["ok"] * 11]
    full = pool().remove_columns("ifd_status").add_column("ifd_status", quoting)
    folder = save_scores(full, tmp_path / "scores", ["ifd", "quality", "embedding"], source="me/pool")
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) == 3
    for path in files:
        if path.suffix == ".parquet":
            text = json.dumps(pq.read_table(path).to_pydict(), ensure_ascii=False) + str(pq.read_schema(path).metadata)
        else:
            text = path.read_text()
        for word in ("Zebra", "quokka", "Answer", "漢", "id-1"):
            assert word not in text, (path, word)
    assert with_scores(plain(full), folder)["ifd_status"][0] == "the reply is '...', not a number"
    for column in ("output", "id", "ifd_status"):
        with pytest.raises(ValueError, match="never text"):
            save_scores(full, tmp_path / "other", ["ifd", column])
    assert not (tmp_path / "other").exists()


def test_reasons_lose_what_they_quote(tmp_path):
    texts = [chat("Hi", "Yo"), [{"role": f"{SECRET} 1", "content": "x"}], [{"role": f"{SECRET} 2's", "content": "x"}]]
    folder = save_scores(Dataset.from_dict({"messages": texts, "s": [1, 2, 3]}), tmp_path / "scores", ["s"])
    record = json.loads((folder / "hf_dsel_scores.json").read_text())
    assert record["rows"] == 1 and sum(record["left_out"].values()) == 2
    assert not any("Zebra" in p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


def test_other_types_and_formats(tmp_path):
    full = plain(pool(6)).add_column("n", [1, None, 3, 4, 5, 6]).add_column("yes", [True, False] * 3)
    full = full.add_column("n_status", [None] * 6)
    save_scores(full.with_format("torch"), tmp_path / "scores", ["n", "yes"])
    joined = with_scores(plain(pool(6)).with_format("numpy").select([1, 0]), tmp_path / "scores").with_format(None)
    assert joined["n"][:] == [None, 1] and joined["yes"][:] == [False, True]
    assert joined["n_status"][:] == [None, None] and joined["yes_status"][:] == ["ok", "ok"]


def test_copies_of_a_row_have_one_line_by_a_rule(tmp_path, capfd):
    full = pool(4)
    text = plain(full).select([0, 1, 0, 2, 1, 3, 0])
    numbers = [None, 1.0, 5.0, 2.0, 1.0, 3.0, 5.5]
    status = ["timed out", *["ok"] * 6]
    full = text.add_column("s", numbers).add_column("s_status", status)
    record = json.loads((save_scores(full, tmp_path / "scores") / "hf_dsel_scores.json").read_text())
    assert record["rows"] == 4 and record["copies"]["rows"] == 3
    assert record["copies"]["differ"] == {"s": {"rows": 2, "largest": 0.5}}
    assert "s: other than published in 2 copies" in capfd.readouterr().err
    joined = with_scores(text, tmp_path / "scores")
    assert joined["s"][:] == [5.0, 1.0, 5.0, 2.0, 1.0, 3.0, 5.0]  # the first of the copies that have a score
    assert "2 had another" in (tmp_path / "scores" / "README.md").read_text()


def test_what_made_the_columns_is_recorded(tmp_path):
    scored = score(plain(pool()), Length(of="response", unit="words"), cache_dir=tmp_path / "cache")
    record = json.loads((save_scores(scored, tmp_path / "a") / "hf_dsel_scores.json").read_text())
    assert record["columns"]["response_words"]["made_by"]["unit"] == "words"
    read_back = Dataset.from_dict(scored[:])
    named = save_scores(read_back, tmp_path / "b", scorers=Length(of="response", unit="words"))
    again = json.loads((named / "hf_dsel_scores.json").read_text())
    assert again["columns"] == record["columns"] and again["source"]["sha256"] == record["source"]["sha256"]
    joined = with_scores(plain(pool()), named)
    assert scorers_of(joined) == scorers_of(scored) and len(scorers_of(joined)) == 1
    nobody = json.loads((save_scores(read_back, tmp_path / "c") / "hf_dsel_scores.json").read_text())
    assert nobody["columns"]["response_words"]["made_by"] is None
    assert "nobody recorded" in (tmp_path / "c" / "README.md").read_text()


def test_what_cannot_be_saved(tmp_path):
    full, place = pool(), tmp_path / "scores"
    with pytest.raises(ValueError, match="name the columns"):
        save_scores(plain(full), place)
    with pytest.raises(MissingColumn, match="no column 'idf'"):
        save_scores(full, place, ["idf"])
    with pytest.raises(ValueError, match="give a list of names"):
        save_scores(full, place, "ifd")
    with pytest.raises(BadColumn, match="NaN"):
        save_scores(plain(full).add_column("s", [float("nan")] * 12), place, ["s"])
    with pytest.raises(UnknownFormat):
        save_scores(full.select_columns(["ifd", "ifd_status"]), place)
    with pytest.raises(ValueError, match="none of the 2 rows can be read: 2 x the conversation is empty"):
        save_scores(Dataset.from_dict({"messages": [[], []], "s": [1.0, 2.0]}), place, ["s"])
    with pytest.raises(TypeError, match="one split"):
        save_scores({"train": full}, place)
    assert not any(tmp_path.iterdir())
    place.mkdir()
    (place / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds mine.txt already; give a new or empty"):
        save_scores(full, place, overwrite=True)
    save_scores(full, tmp_path / "b")
    with pytest.raises(ValueError, match="or overwrite=True"):
        save_scores(full, tmp_path / "b")
    save_scores(pool(3), tmp_path / "b", overwrite=True)
    assert json.loads((tmp_path / "b" / "hf_dsel_scores.json").read_text())["rows"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "scores"]


def test_what_cannot_be_joined(tmp_path):
    full = pool()
    place = save_scores(full, tmp_path / "scores")
    with pytest.raises(ValueError, match=r"has ifd, ifd_status already.*remove_columns.*columns=\['quality'"):
        with_scores(full.select_columns(["instruction", "output", "ifd", "ifd_status"]), place)
    with pytest.raises(MissingColumn, match="no score 'idf'; it has ifd, quality"):
        with_scores(plain(full), place, ["idf"])
    with pytest.raises(NothingJoined, match=r"none of the 12 rows \(read as text, from text\).*read as alpaca"):
        with_scores(Dataset.from_dict({"text": full["output"][:]}), place)
    for gone in ("./nowhere", "nowhere.parquet", "~nobody/scores", "a b", "", Path("nowhere"), tmp_path / "x"):
        with pytest.raises(
            NotFetched, match="^there is no folder .*; scores are joined from a folder that save_scores"
        ):
            with_scores(plain(full), gone)
    with pytest.raises(NotFetched, match=r"scores.json' is a file, and scores are joined from .*: give .*/scores$"):
        with_scores(plain(full), place / "hf_dsel_scores.json")
    (tmp_path / "pool.parquet").write_text("")
    with pytest.raises(NotFetched, match=r"pool.parquet' is a file, .* such as me/scores$"):
        with_scores(plain(full), str(tmp_path / "pool.parquet"))
    with pytest.raises(TypeError, match="takes a folder or the id of a repository, got 5"):
        with_scores(plain(full), 5)
    with pytest.raises(NothingJoined, match="holds no hf_dsel_scores.json"):
        with_scores(plain(full), tmp_path)
    next((place / "data").iterdir()).unlink()
    with pytest.raises(NothingJoined, match="is missing"):
        with_scores(plain(full), place)
    (place / "hf_dsel_scores.json").write_text('{"hf_dsel_scores": 1')
    with pytest.raises(NothingJoined, match="is damaged"):
        with_scores(plain(full), place)


def test_pushed_loaded_and_joined(hub):
    full = pool(20)
    made = push_scores(full, "user/scores", source="me/pool", license="cc-by-4.0")
    repo = hub.repos["dataset", "user/scores"]
    assert repo.private and len(repo.commits) == 2 and repo.head.oid == made.oid
    assert repo.head.title == "hf_dsel: ifd, quality, quality_turns of 20 rows"
    lines = load_dataset("user/scores", split="train")
    assert lines.column_names[0] == "key" and len(lines) == 20 and lines.features["ifd"] == Value("float32")
    card = repo.head.files["README.md"].decode()
    assert "license: cc-by-4.0" in card and 'with_scores(pool, "user/scores")' in card and "me/pool" in card
    hub.make("user/scores", {"README.md": card.replace("# scores\n", "# My scores\n").encode()})
    more = full.map(lambda row: {"quality": row["quality"] * 2})
    push_scores(more, "user/scores")
    assert (
        "# My scores\n" in repo.head.files["README.md"].decode()
        and "cc-by-4.0" in repo.head.files["README.md"].decode()
    )
    assert with_scores(plain(full), "user/scores")["quality"][:] == more["quality"][:]
    old = with_scores(plain(full), "user/scores", ["quality"], revision=made.oid)
    assert old["quality"][:] == full["quality"][:]
    assert not any(SECRET.encode() in body for body in hub.sent)


def test_a_push_takes_nothing_away_unasked(hub):
    push_scores(pool(20), "user/scores")
    before = hub.files("user/scores")
    with pytest.raises(ValueError, match="ifd, which these do not have and which would be lost"):
        push_scores(pool(20), "user/scores", ["quality", "quality_turns"])
    with pytest.raises(ValueError, match="the scores of 20 rows, these are of 5"):
        push_scores(pool(5), "user/scores")
    hub.make("user/data", {"data/train.csv": b"a,b"})
    with pytest.raises(ValueError, match=r"holds data/train.csv and no hf_dsel_scores"):
        push_scores(pool(5), "user/data")
    assert hub.files("user/scores") == before and set(hub.files("user/data")) == {"data/train.csv"}
    push_scores(pool(5), "user/scores", ["quality"], replace=True)
    assert with_scores(plain(pool(5)), "user/scores").column_names[3:] == ["quality", "quality_status"]


def test_a_push_that_breaks_changes_nothing(hub):
    push_scores(pool(5), "user/scores")
    before, commits = hub.files("user/scores"), len(hub.repos["dataset", "user/scores"].commits)
    hub.break_upload = hub.uploads + 1
    with pytest.raises(NotPublished, match="Nothing was changed"):
        push_scores(pool(9), "user/scores")
    hub.break_upload = None
    hub.meanwhile = lambda: hub.make("user/scores", {"notes.txt": b"x"})
    with pytest.raises(NotPublished, match="somebody else changed"):
        push_scores(pool(9), "user/scores")
    assert len(hub.repos["dataset", "user/scores"].commits) == commits + 1
    assert {n: f for n, f in hub.files("user/scores").items() if n != "notes.txt"} == before
    hub.sign_in(None)
    with pytest.raises(NotPublished, match="needs a token"):
        push_scores(pool(9), "user/scores")
    hub.sign_in(READ)
    with pytest.raises(NotPublished, match="role read"):
        push_scores(pool(9), "user/other")
    assert ("dataset", "user/other") not in hub.repos


def test_what_cannot_be_fetched(hub):
    push_scores(pool(5), "user/scores")
    hub.sign_in(None)
    with pytest.raises(NotFetched, match="on the Hub that this token may read"):
        with_scores(plain(pool(5)), "user/scores")
    hub.sign_in(READ)
    with pytest.raises(NotFetched, match="no dataset 'user/nothing'"):
        with_scores(plain(pool(5)), "user/nothing")
    with pytest.raises(NotFetched, match="no revision 'v9'"):
        with_scores(plain(pool(5)), "user/scores", revision="v9")


def test_the_commands(hub, tmp_path, capsys):
    plain(pool(20)).to_parquet(str(tmp_path / "pool.parquet"))
    as_messages(pool(20, begin=5)).to_parquet(str(tmp_path / "chat.parquet"))
    scored, chat_file, out = str(tmp_path / "scored"), str(tmp_path / "chat.parquet"), str(tmp_path / "out")
    scorer = ["--scorer", "Length:of=response,unit=words", "--cache-dir", str(tmp_path / "cache")]
    assert main(["score", str(tmp_path / "pool.parquet"), *scorer, "--out", scored]) == 0
    assert main(["push", scored, "user/scores", "--scores-only", "--license", "mit", "--source", "me/pool"]) == 0
    assert "--scores-from user/scores" in capsys.readouterr().out
    record = json.loads(hub.files("user/scores")["hf_dsel_scores.json"])
    assert record["columns"]["response_words"]["made_by"]["unit"] == "words" and record["origin"]["repo"] == "me/pool"
    top = ["--strategy", "top_k", "--k", "4", "--param", "column=response_words"]
    assert main(["select", chat_file, "--scores-from", "user/scores", *top, "--out", out]) == 0
    chosen = load_dataset("parquet", data_files=f"{out}/train.parquet", split="train")
    assert len(chosen) == 4 and None not in chosen["response_words"][:]
    again = re.search(r"again: hf-dsel (.*) --out DIR", capsys.readouterr().out)[1].split()
    assert "--scores-from=user/scores" in again and main([*again, "--out", f"{out}3"]) == 0
    copy = load_dataset("parquet", data_files=f"{out}3/train.parquet", split="train")
    assert copy.to_dict() == chosen.to_dict()
    assert json.loads((tmp_path / "out" / "selection.json").read_text())["scorers"]["response_words"]["unit"] == "words"
    assert main(["score", chat_file, "--scores-from", "user/scores", "--out", str(tmp_path / "joined")]) == 0
    joined = load_dataset("parquet", data_files=str(tmp_path / "joined" / "train.parquet"), split="train")
    assert joined["response_words_status"][:].count(NONE) == 5
    capsys.readouterr()
    for arguments, text in (
        (["score", chat_file, "--out", out], "add --scorer"),
        (["score", chat_file, "--scores-from", "user/nothing", "--out", f"{out}2"], "no dataset 'user/nothing'"),
        (["push", scored, "user/scores", "--scores-only", "--no-pool"], "--no-pool has no meaning"),
        (["push", scored, "user/scores", "--column", "ifd"], "--column is for --scores-only"),
        (["push", scored, "user/scores", "--scores-only", "--column", "output"], "never text"),
    ):
        assert main(arguments) == 2
        assert text in capsys.readouterr().err


def test_splits_are_joined_one_by_one(tmp_path, capfd):
    full = pool(20)
    place = save_scores(full, tmp_path / "scores", ["ifd"])
    splits = DatasetDict(
        {"train": plain(full).select([3, 1]), "test": as_messages(pool(4, begin=18)), "new": plain(pool(3, begin=90))}
    )
    joined = with_scores(splits, place)
    assert type(joined) is DatasetDict and list(joined) == ["train", "test", "new"]
    assert joined["train"]["ifd"][:] == [full["ifd"][3], full["ifd"][1]]
    assert joined["test"]["ifd"][:] == [full["ifd"][18], full["ifd"][19], None, None]
    assert joined["new"]["ifd"][:] == [None] * 3 and set(joined["new"]["ifd_status"][:]) == {NONE}
    said = capfd.readouterr().err
    assert "2 of 4 rows of the split 'test' have" in said and "0 of 3 rows of the split 'new' have" in said
    with pytest.raises(NothingJoined, match="split 'new': none of the 3 rows"):
        with_scores(DatasetDict({"new": splits["new"]}), place)
    with pytest.raises(ValueError, match="has ifd, ifd_status already"):
        with_scores(joined, place)
    with pytest.raises(TypeError, match="IterableDataset; a stream is loaded without streaming=True first"):
        with_scores(plain(full).to_iterable_dataset(), place)


def test_an_empty_split_has_the_columns_of_the_others(tmp_path):
    full = pool(20)
    place = save_scores(full, tmp_path / "scores")
    rows = plain(full)
    splits = DatasetDict({"train": rows, "none": rows.select([]), "gone": rows.filter(lambda _: False)})
    joined = with_scores(splits, place)
    for name in ("none", "gone"):
        assert len(joined[name]) == 0 and joined[name].features == joined["train"].features
        assert joined[name].column_names == joined["train"].column_names
    assert len(concatenate_datasets(list(joined.values()))) == 20
    joined["none"].to_parquet(str(tmp_path / "none.parquet"))
    assert pq.read_table(tmp_path / "none.parquet").column_names == joined["train"].column_names
    with pytest.raises(ValueError, match="^split 'test': the dataset has ifd, ifd_status"):
        with_scores(DatasetDict({"train": rows, "test": full.remove_columns(["quality", "quality_status"])}), place)
    with pytest.raises(UnknownFormat, match="^split 'test': "):
        with_scores(DatasetDict({"train": rows, "test": Dataset.from_dict({"a": [1]})}), place)


def test_a_block_joins_scores_once(tmp_path, capfd):
    full = pool(20)
    place = str(save_scores(full, tmp_path / "scores", ["quality"]))
    block = SelectionBlock.of({"strategy": "top_k", "k": 3, "scores_from": place, "where": ["quality < 15"]}, "x.yaml")
    rows = plain(full)
    block.check(rows)
    scored = block.scored(rows)
    assert block.scored(scored) is scored and capfd.readouterr().err.count("have a published score") == 1
    assert block.pick(scored).indices.tolist() == [14, 13, 12]
    with pytest.raises(BadConfig, match=r"x.yaml: scores_from must name a repository or a folder, got \['a'\]"):
        SelectionBlock.of({"strategy": "random", "k": 1, "scores_from": ["a"]}, "x.yaml")


def test_training_on_published_scores_is_one_file(hub, tmp_path, monkeypatch, tiny_qwen2, capsys):
    monkeypatch.chdir(tmp_path)
    push_scores(pool(20), "user/scores", ["quality"])
    plain(pool(20)).to_parquet("pool.parquet")
    file = {
        "model_name_or_path": tiny_qwen2, "dataset_name": "pool.parquet", "output_dir": "out", "dtype": "float32",
        "max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False, "report_to": "none",
        "save_strategy": "no", "max_length": 64, "logging_steps": 1,
        "selection": {"strategy": "top_k", "k": 4, "scores_from": "user/scores", "compare": False},
    }  # fmt: skip
    Path("x.yaml").write_text(yaml.safe_dump(file))
    assert main(["sft", "--config", "x.yaml"]) == 0
    record = Selection.load("out/selection.json")
    assert record.indices.tolist() == [19, 18, 17, 16] and "train_loss" in capsys.readouterr().out
    assert main(["sft", "--config", "x.yaml", "--selection.scores-from", "user/gone"]) == 2
    assert "hf-dsel sft: error: there is no folder 'user/gone'" in capsys.readouterr().err


def test_a_dry_run_of_a_push_uploads_nothing(hub, tmp_path, capsys):
    pool(20).to_parquet(str(tmp_path / "scored.parquet"))
    push = ["push", str(tmp_path / "scored.parquet"), "user/scores", "--scores-only"]
    assert main([*push, "--dry-run", "--license", "mit"]) == 0
    said = capsys.readouterr().out
    assert ("dataset", "user/scores") not in hub.repos
    assert "user/scores, as a new repository, in one commit: hf_dsel: ifd, quality, quality_turns of 20 rows" in said
    assert "data/train-00000-of-00001.parquet" in said and "hf_dsel_scores.json" in said
    card = Path(re.search(r"the card is in (\S+)", said)[1]).read_text()
    assert "license: mit" in card and 'with_scores(pool, "user/scores")' in card
    assert main([*push, "--license", "mit"]) == 0
    before = hub.files("user/scores")
    assert card == before["README.md"].decode()
    capsys.readouterr()
    assert main([*push, "--dry-run", "--column", "ifd"]) == 2  # and it refuses what the push would refuse
    assert "which these do not have and which would be lost" in capsys.readouterr().err
    assert main([*push, "--dry-run", "--column", "ifd", "--replace"]) == 0
    said = capsys.readouterr().out
    assert "on top of " in said and "hf_dsel: ifd of 20 rows" in said and hub.files("user/scores") == before
    hub.sign_in(None)
    assert main([*push, "--dry-run", "--license", "mit"]) == 0

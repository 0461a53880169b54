"""A subset goes to the Hub with its record and comes back; a person's text stays; tampering shows. All on loopback."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, load_dataset

import hf_dsel
from hf_dsel.card import BrokenMetadata, CardEdited
from hf_dsel.row_digests import difference, row_digests

from .hub_stand_in import READ, STRANGER, WRITE

N = 60


def rows():
    rng = np.random.default_rng(0)
    return {
        "instruction": [f"Explain the number {i} — 数 {i}" for i in range(N)],
        "input": ["" if i % 2 else f"context {i}" for i in range(N)],
        "output": [f"It is {'very ' * (i % 4)}{i}." for i in range(N)],
        "quality": [None if i == 7 else float(i % 9) / 3 for i in range(N)],
        "embedding": rng.standard_normal((N, 6)).astype(np.float32).tolist(),
    }


FEATURES = Features(
    {"instruction": Value("string"), "input": Value("string"), "output": Value("string"), "quality": Value("float32"),
     "embedding": List(Value("float32"), length=6)}
)  # fmt: skip


def parquet(dataset):
    file = io.BytesIO()
    dataset.to_parquet(file)
    return file.getvalue()


@pytest.fixture
def source(hub):
    """A pool on the Hub, with a licence in its card; its commit."""
    data = parquet(Dataset.from_dict(rows(), FEATURES))
    return hub.make("user/pool", {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n", "data/train-0.parquet": data})


@pytest.fixture
def pool(hub, source):
    return load_dataset("user/pool", split="train")


@pytest.fixture
def published(hub, pool):
    subset = pool.select_by("top_k", k=10, column="quality")
    hf_dsel.push_to_hub(subset, "user/best", pictures=False)
    return subset


def card_of(hub, repo="user/best"):
    return hub.files(repo)["README.md"].decode()


def test_push_and_read_back(hub, pool, source):
    subset = pool.select_by("qdit", k=10, quality="quality")
    made = hf_dsel.push_to_hub(subset, "best")
    repo = hub.repos["dataset", "user/best"]
    assert repo.private and len(repo.commits) == 2 and made.oid == repo.head.oid
    assert repo.head.title == "10 of 60 rows, chosen by qdit"
    pictures = {"hf_dsel/scores.png", "hf_dsel/map.png", "hf_dsel/texts.png"}
    assert set(repo.head.files) == {
        ".gitattributes", "README.md", "hf_dsel.json", "data/train-00000-of-00001.parquet", *pictures
    }  # fmt: skip
    assert all(repo.head.files[name].startswith(b"\x89PNG") for name in pictures)
    plain = load_dataset("user/best", split="train")
    assert plain.features == subset.features and plain.to_dict() == subset.to_dict()
    stream = list(load_dataset("user/best", split="train", streaming=True))
    assert [row["output"] for row in stream] == subset["output"][:]
    again = hf_dsel.load("user/best")
    record = hf_dsel.selection_of(again)
    assert again.to_dict() == subset.to_dict()
    assert record.to_json() == hf_dsel.selection_of(subset).to_json()
    assert record.origin == {"repo": "user/pool", "revision": source, "config": None, "split": "train"}
    assert record.apply(pool).to_dict() == subset.to_dict()
    assert record.left_out == {"no quality": 1}
    card = card_of(hub)
    assert "license: cc-by-nc-4.0" in card and "carried over from the card of user/pool" in card
    assert source in card and "random (mean of 5)" in card and "hf-dsel verify user/best" in card
    assert not any(WRITE.encode() in content for content in repo.head.files.values())


def test_second_push_keeps_what_a_person_wrote_and_drops_old_shards(hub, pool, published, monkeypatch):
    card = card_of(hub)
    edited = card.replace("# best\n", "# My best rows\n\nRead by me, all of them.\n") + "\n## Thanks\n\nto you 🙂\n"
    edited = edited.replace("license: cc-by-nc-4.0", "license: cc-by-4.0\npretty_name: Mine")
    assert edited.count("My best rows") == 1 and "pretty_name" in edited
    hub.make("user/best", {"README.md": edited.encode(), "data/test-0.parquet": b"somebody's"})
    monkeypatch.setattr("hf_dsel.publication.SHARD_BYTES", 1500)
    second = pool.select_by("random", k=20)
    hf_dsel.push_to_hub(second, "user/best", private=True, message="more")
    files = hub.files("user/best")
    shards = sorted(name for name in files if name.startswith("data/train-"))
    assert len(shards) > 1 and shards[-1].endswith(f"-of-{len(shards):05d}.parquet")
    assert "data/train-00000-of-00001.parquet" not in files and files["data/test-0.parquet"] == b"somebody's"
    card = card_of(hub)
    assert "Read by me, all of them." in card and card.endswith("\n## Thanks\n\nto you 🙂\n")
    assert "pretty_name: Mine" in card and "license: cc-by-4.0" in card and "`random`" in card
    assert hf_dsel.load("user/best").to_dict() == second.to_dict()
    first = hub.repos["dataset", "user/best"].commits[1].oid
    old = hf_dsel.load("user/best", revision=first)
    assert old.to_dict() == published.to_dict() and hf_dsel.selection_of(old).strategy.startswith("TopK")
    assert hf_dsel.verify("user/best", revision=first) and hf_dsel.verify("user/best")


def test_text_inside_the_generated_part_stops_the_push(hub, pool, published):
    hub.make("user/best", {"README.md": card_of(hub).replace("## How these", "Hello.\n\n## How these").encode()})
    with pytest.raises(CardEdited, match="edited between its lines"):
        hf_dsel.push_to_hub(pool.select_by("random", k=5), "user/best", pictures=False)
    assert "Hello." in card_of(hub)


def test_broken_metadata_stops_the_push_and_names_the_line(hub, pool, published):
    hub.make("user/best", {"README.md": card_of(hub).replace("license: cc", "license: [cc").encode()})
    with pytest.raises(BrokenMetadata, match="no valid YAML in line"):
        hf_dsel.push_to_hub(pool.select_by("random", k=5), "user/best", pictures=False)


def test_edit_by_hand_while_pushing_is_not_overwritten(hub, pool, published):
    hub.meanwhile = lambda: hub.make("user/best", {"README.md": b"by hand"})
    with pytest.raises(hf_dsel.NotPublished, match="somebody else changed"):
        hf_dsel.push_to_hub(pool.select_by("random", k=5), "user/best", pictures=False)
    assert card_of(hub) == "by hand"


def test_upload_that_breaks_leaves_the_old_subset_whole(hub, pool, published, monkeypatch):
    monkeypatch.setattr("hf_dsel.publication.SHARD_BYTES", 1500)
    before = hub.repos["dataset", "user/best"].head.oid
    hub.break_upload = hub.uploads + 2
    with pytest.raises(hf_dsel.NotPublished, match="Nothing was changed in the repository; run the same again"):
        hf_dsel.push_to_hub(pool.select_by("random", k=30), "user/best", pictures=False)
    assert hub.repos["dataset", "user/best"].head.oid == before and hf_dsel.verify("user/best")


def test_verify_holds_and_says_what_it_looked_at(hub, published, source):
    found = hf_dsel.verify("user/best")
    assert found and found.holds
    text = str(found)
    assert "the rows are what the record produces" in text and f"user/pool@{source[:8]}" in text
    assert "every row has the hash" in text and "nobody recorded how" not in text
    assert "can be run again: TopK(" in text


def test_verify_finds_a_changed_row(hub, published):
    rows = hf_dsel.load("user/best")
    tampered = rows.map(
        lambda row, i: {"output": row["output"] + " Buy it!" if i == 3 else row["output"]}, with_indices=True
    )
    hub.make("user/best", {"data/train-00000-of-00001.parquet": parquet(tampered)})
    found = hf_dsel.verify("user/best")
    assert not found and "row 3 was changed after publishing" in str(found)
    record = json.loads(hub.files("user/best")["hf_dsel.json"])  # and whoever forges the hashes too
    record["rows"]["digests"] = row_digests(tampered)
    hub.make("user/best", {"hf_dsel.json": json.dumps(record).encode()})
    found = hf_dsel.verify("user/best")
    assert not found and "row 3 differs in 'output'" in str(found) and "Buy it!" in str(found)


def test_verify_finds_changed_scores_missing_rows_and_another_source(hub, published, pool):
    file = "data/train-00000-of-00001.parquet"
    good = hub.files("user/best")[file]
    rows = hf_dsel.load("user/best")
    hub.make("user/best", {file: parquet(rows.select(range(9)))})
    assert "there are 9 rows; 10 were published" in str(hf_dsel.verify("user/best"))
    hub.make("user/best", {file: parquet(rows.remove_columns("selection_gain"))})
    assert "columns were added or taken away" in str(hf_dsel.verify("user/best"))
    hub.make("user/best", {file: good})
    assert hf_dsel.verify("user/best")
    found = hf_dsel.verify("user/best", source=pool.select(range(50)))
    assert not found and "this dataset has 50" in str(found)
    assert not hf_dsel.verify("user/best", source=pool.shuffle(seed=3))


def test_source_that_is_not_on_the_hub(hub, tmp_path):
    place = tmp_path / "pool.parquet"
    pool = Dataset.from_dict(rows(), FEATURES)
    pool.to_parquet(str(place))
    subset = pool.select_by("random", k=6)
    with pytest.raises(hf_dsel.CannotPublish, match=r"under which licence\? The pool was not on the Hub.*license="):
        hf_dsel.push_to_hub(subset, "user/local", pictures=False)
    assert hub.repos == {}
    hf_dsel.push_to_hub(subset, "user/local", license="apache-2.0", pictures=False, private=False)
    assert "license: apache-2.0" in card_of(hub, "user/local") and not hub.repos["dataset", "user/local"].private
    with pytest.raises(hf_dsel.CannotVerify, match="give it: source="):
        hf_dsel.verify("user/local")
    assert hf_dsel.verify("user/local", source=place) and hf_dsel.verify("user/local", source=str(place))
    assert hf_dsel.verify("user/local", source=pool)
    hf_dsel.push_to_hub(subset, "user/local", pictures=False)  # the licence of the card that is there


def test_source_that_a_person_names(hub, source):
    subset = Dataset.from_dict(rows(), FEATURES).select_by("random", k=6)
    with pytest.raises(hf_dsel.CannotPublish, match="pass pool="):
        hf_dsel.push_to_hub(subset, "user/named", source=f"user/pool@{source}")
    with pytest.raises(OSError, match="no dataset 'user/pol' on the Hub"):
        hf_dsel.push_to_hub(subset, "user/named", pool=False, source="user/pol", license="mit")
    hf_dsel.push_to_hub(subset, "user/named", pool=False, source="user/pool@main", private=False)
    assert f'"revision": "{source}"' in hub.files("user/named")["hf_dsel.json"].decode()
    hub.sign_in(None)  # public: anyone can read and check it
    assert "license: cc-by-nc-4.0" in card_of(hub, "user/named") and "Pictures" not in card_of(hub, "user/named")
    assert "before" not in card_of(hub, "user/named")
    assert hf_dsel.verify("user/named") and hf_dsel.load("user/named").num_rows == 6


def test_rows_that_the_record_does_not_give_are_refused(hub, pool):
    subset = pool.select_by("random", k=6)
    with pytest.raises(hf_dsel.CannotPublish, match="5 rows and a record of 6"):
        hf_dsel.push_to_hub(subset.select(range(5)), "user/x")
    with pytest.raises(hf_dsel.CannotPublish, match="row 0 differs in 'output'"):
        hf_dsel.push_to_hub(subset.map(lambda row: {"output": "spam"}), "user/x")
    with pytest.raises(hf_dsel.WrongSource):
        hf_dsel.push_to_hub(subset, "user/x", pool=pool.shuffle(seed=1))
    with pytest.raises(hf_dsel.CannotPublish, match="nothing says how these rows were chosen"):
        hf_dsel.push_to_hub(pool, "user/x")
    assert ("dataset", "user/x") not in hub.repos
    hub.make("user/theirs", {"data/train-0.parquet": b"theirs"})
    with pytest.raises(hf_dsel.CannotPublish, match="holds rows that hf_dsel did not publish"):
        hf_dsel.push_to_hub(subset, "user/theirs")


def test_trl_rows_can_be_published_and_verified(hub, pool):
    hf_dsel.push_to_hub(hf_dsel.to_trl(pool.select_by("random", k=6)), "user/trl", pool=pool, pictures=False)
    assert "prompt" in hf_dsel.load("user/trl").column_names and hf_dsel.verify("user/trl")


def test_scores_that_select_by_computes_are_in_the_record_and_the_table(hub, pool, monkeypatch, tiny_bert):
    bare = pool.remove_columns("embedding")
    embedder = hf_dsel.Embed(tiny_bert)
    monkeypatch.setattr("hf_dsel.strategies.k_center.KCenter.needs", lambda self: {"embedding": embedder})
    subset = bare.select_by("k_center", k=5)
    hf_dsel.push_to_hub(subset, "user/spread", pictures=False)
    card = card_of(hub, "user/spread")
    assert "coverage" in card and "`Embed`" in card
    how = json.loads(hub.files("user/spread")["hf_dsel.json"])["scorers"]["embedding"]
    assert how["model"] == Path(tiny_bert).name and how["algorithm"] >= 1


def test_scorers_that_a_person_names(hub, pool):
    known = hf_dsel.DeitaQuality("me/scorer", template="{instruction} {response} is")
    hf_dsel.push_to_hub(pool.select_by("top_k", k=5, column="quality"), "user/named", scorers=known, pictures=False)
    how = json.loads(hub.files("user/named")["hf_dsel.json"])["scorers"]
    assert how["quality"]["model"] == "me/scorer" and "me/scorer" in card_of(hub, "user/named")
    assert "quality by DeitaQuality(" in str(hf_dsel.verify("user/named"))


def test_private_repository_and_rights(hub, pool, published):
    hub.sign_in(STRANGER)
    for call in (hf_dsel.load, hf_dsel.verify):
        with pytest.raises(OSError, match="no dataset 'user/best' on the Hub that this token may read"):
            call("user/best")
    assert len(hf_dsel.load("user/best", token=READ)) == 10
    subset = pool.select_by("random", k=6)
    with pytest.raises(hf_dsel.NotPublished, match="needs write access to user"):
        hf_dsel.push_to_hub(subset, "user/mine", license="mit")
    hub.sign_in(READ)
    with pytest.raises(hf_dsel.NotPublished, match="has the role read"):
        hf_dsel.push_to_hub(subset, "user/best")
    hub.sign_in(None)
    with pytest.raises(hf_dsel.NotPublished, match="hf auth login"):
        hf_dsel.push_to_hub(subset, "user/best")


def test_no_record_there(hub, source, tmp_path):
    with pytest.raises(hf_dsel.NoRecord, match=r"user/pool holds no hf_dsel.json"):
        hf_dsel.load("user/pool")
    hub.make("user/other", {"hf_dsel.json": b'{"a": 1}'})
    with pytest.raises(hf_dsel.NoRecord, match="user/other: hf_dsel.json is no record of a selection: not a selection"):
        hf_dsel.load("user/other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(hf_dsel.NoRecord, match="nothing says how it was chosen"):
        hf_dsel.load(tmp_path / "empty")
    with pytest.raises(OSError, match="no revision"):
        hf_dsel.load("user/pool", revision="elsewhere")
    for gone in ("user/gone", "./gone", "/gone/x"):
        with pytest.raises(OSError, match="no folder"):
            hf_dsel.load(gone)


def test_digests_do_not_depend_on_parquet_or_the_order_of_columns(tmp_path):
    mixed = Dataset.from_dict(
        {"messages": [[{"role": "user", "content": "é\n"}], []], "x": [float("nan"), None], "b": [b"\xff", b""]}
    )
    mixed.to_parquet(str(tmp_path / "mixed.parquet"))
    back = Dataset.from_parquet(str(tmp_path / "mixed.parquet"), cache_dir=str(tmp_path))
    assert row_digests(mixed) == row_digests(back.select_columns(["b", "x", "messages"]))
    assert difference(mixed, back, ["messages"]) == (None, ["messages", "x", "b"])
    half = Dataset.from_dict(
        {"v": [[0.5, 1.25]], "text": ["a"]}, Features({"v": List(Value("float16"), length=2), "text": Value("string")})
    )
    assert len(set(row_digests(half) + row_digests(half.select_columns("text")) + row_digests(mixed))) == 4


def test_pairs_conditions_and_a_clone_in_a_folder(hub, tmp_path, monkeypatch):
    from hf_dsel.selection_block import SelectionBlock

    said = {"prompt": ["a?", "b?", "c?", "d?"], "chosen": ["yes"] * 4, "rejected": ["no", "nö", "non", "нет"]}
    pairs = Dataset.from_dict(said | {"margin": [1.0, 0.5, float("nan"), 2.0]}).map(
        lambda row: {"margin": None if row["margin"] != row["margin"] else row["margin"]}
    )
    block = SelectionBlock.of(
        {"strategy": "top_k", "k": 2, "params": {"column": "margin"}, "where": ["margin < 1.5"]}, "x"
    )
    record = block.pick(pairs)
    assert record.where == ("margin < 1.5",) and record.indices.tolist() == [0, 1]
    hf_dsel.push_to_hub(record.apply(pairs), "user/pairs", pool=pairs, license="mit", pictures=False)
    assert "among the rows with margin < 1.5" in str(hf_dsel.verify("user/pairs", source=pairs))
    lines = card_of(hub, "user/pairs").rpartition("```python\n")[2].partition("```")[0]
    assert "Condition.of('margin < 1.5')" in lines
    names = {"hf_dsel": hf_dsel, "pool": pairs}
    exec(lines, names)
    assert names["subset"]["rejected"][:] == record.apply(pairs)["rejected"][:]
    clone = tmp_path / "clone"
    for name, content in hub.files("user/pairs").items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes(content)
    hub.sign_in(None)
    assert hf_dsel.load(clone).to_dict() == record.apply(pairs).to_dict()
    assert hf_dsel.verify(clone, source=pairs)


def test_a_pool_that_is_gone_is_not_held(hub, source):
    import gc

    pool = load_dataset("user/pool", split="train")
    subset = pool.select_by("random", k=3).map(lambda row: {"more": 1})
    assert hf_dsel.selection.pool_of(subset) is pool
    del pool
    gc.collect()
    with pytest.raises(hf_dsel.CannotPublish, match="pass pool="):
        hf_dsel.push_to_hub(subset, "user/best")


def test_not_a_dataset(hub, pool):
    with pytest.raises(TypeError, match="push one split"):
        hf_dsel.push_to_hub(DatasetDict(train=pool), "user/best")
    assert hub.requests[-1][1] != "/api/repos/create"


def test_without_matplotlib_the_way_out_is_said(hub, pool, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(hf_dsel.CannotPublish, match=r"pip install.*pictures=False"):
        hf_dsel.push_to_hub(pool.select_by("random", k=5), "user/best")
    assert ("dataset", "user/best") not in hub.repos


def test_hub_that_goes_away(hub, published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for call in (hf_dsel.verify, hf_dsel.load):
        with pytest.raises(OSError, match="could not be fetched from the Hub"):
            call("user/other")


def test_no_path_of_this_machine_is_published(hub, pool, tiny_qwen2):
    scored = hf_dsel.score(pool, hf_dsel.NLL(tiny_qwen2))
    subset = scored.select_by("top_k", k=5, column="nll")
    hf_dsel.push_to_hub(subset, "user/scored", pool=scored, pictures=False)
    hf_dsel.push_scores(scored, "user/scores", license="mit")
    found = json.loads(hub.files("user/scored")["hf_dsel.json"])["scorers"]["nll"]
    scores = json.loads(hub.files("user/scores")["hf_dsel_scores.json"])["columns"]["nll"]["made_by"]
    assert found["model"] == scores["model"] == Path(tiny_qwen2).name
    for repo in ("user/scored", "user/scores"):
        assert not [name for name, content in hub.files(repo).items() if tiny_qwen2.encode() in content]
    assert hf_dsel.verify("user/scored")

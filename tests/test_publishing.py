"""Publishing to a Hub on loopback: one commit or nothing, and errors that say what to do and show no token."""

import io
import logging
import traceback
from contextlib import redirect_stderr, redirect_stdout

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi

from hf_dsel.publishing import NotPublished, publish

from .hub_stand_in import READ, STRANGER, WRITE

FILES = {"README.md": b"# rows\n", "hf_dsel.json": b"{}"}


@pytest.fixture
def shards(tmp_path):
    places = {}
    for i in range(3):
        path = tmp_path / f"{i}.parquet"
        Dataset.from_dict({"text": [f"row {i}", "é 漢"], "score": [i / 3, None]}).to_parquet(str(path))
        places[f"data/train-{i:05d}-of-00003.parquet"] = path
    return places


def spoken(call):
    """The error of a call as text: the message, the traceback with its causes, and all that was printed and logged."""
    out, log = io.StringIO(), io.StringIO()
    handler, root = logging.StreamHandler(log), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(out), redirect_stderr(out), pytest.raises((NotPublished, ValueError)) as caught:
            call()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    trace = "".join(traceback.format_exception(caught.value))
    for token in (WRITE, READ, STRANGER):
        assert token not in trace + out.getvalue() + log.getvalue() + repr(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    return str(caught.value)


def test_new_repository_in_one_commit_and_read_back(hub, shards):
    made = publish(FILES | shards, "user/rows", message="hf_dsel: 6 rows", description="all")
    repo = hub.repos["dataset", "user/rows"]
    assert repo.private and len(repo.commits) == 2 and repo.head.oid == made.oid and made.oid in made.commit_url
    assert (repo.head.title, repo.head.description) == ("hf_dsel: 6 rows", "all")
    assert set(repo.head.files) == {".gitattributes", *FILES, *shards}
    assert all(repo.head.files[n] == p.read_bytes() for n, p in shards.items())
    assert not any(WRITE.encode() in body for body in [*hub.sent, *repo.head.files.values()])
    rows = load_dataset("user/rows", split="train")
    assert rows["text"][:] == ["row 0", "é 漢", "row 1", "é 漢", "row 2", "é 漢"]
    stream = load_dataset("user/rows", split="train", streaming=True)
    assert [row["score"] for row in stream] == rows["score"][:]


def test_second_push_deletes_old_shards_and_the_first_revision_stays(hub, shards):
    first = publish(FILES | shards, "rows", message="three shards", private=False)
    one = {"data/train-00000-of-00001.parquet": shards["data/train-00001-of-00003.parquet"]}
    publish(one | {"README.md": b"# again\n"}, "user/rows", message="one shard", delete=["data/train-*.parquet"])
    assert set(hub.files("user/rows")) == {".gitattributes", "hf_dsel.json", "README.md", *one}
    assert len(hub.repos["dataset", "user/rows"].commits) == 3
    assert load_dataset("user/rows", split="train")["text"][:] == ["row 1", "é 漢"]
    assert len(load_dataset("user/rows", split="train", revision=first.oid)) == 6
    assert not hub.repos["dataset", "user/rows"].private


def test_same_files_again_make_no_commit(hub, shards):
    first = publish(FILES | shards, "user/rows", message="once")
    uploads = hub.uploads
    again = publish(FILES | shards, "user/rows", message="twice", delete=["data/train-*.parquet"])
    assert again.oid == first.oid and hub.uploads == uploads
    assert len(hub.repos["dataset", "user/rows"].commits) == 2


def test_an_upload_that_breaks_half_way_changes_nothing(hub, shards):
    first = publish(FILES, "user/rows", message="before")
    hub.break_upload = 2
    text = spoken(lambda: publish(FILES | shards, "user/rows", message="after"))
    assert "Nothing was changed" in text and "run the same again" in text
    assert hub.repos["dataset", "user/rows"].head.oid == first.oid
    assert "new repository is empty" in spoken(lambda: publish(FILES | shards, "user/other", message="after"))
    assert set(hub.files("user/other")) == {".gitattributes"}
    hub.break_upload, uploads = None, hub.uploads
    publish(FILES | shards, "user/rows", message="after")
    assert hub.uploads - uploads == 2  # the first one had arrived
    assert set(shards) < set(hub.files("user/rows"))


@pytest.mark.parametrize("fault", [500, "before"])
def test_a_commit_that_fails_changes_nothing(hub, fault):
    first = publish(FILES, "user/rows", message="before")
    hub.break_commit = fault
    text = spoken(lambda: publish({"README.md": b"other"}, "user/rows", message="after"))
    assert "Nothing was changed" in text and ("status 500" in text) == (fault == 500)
    assert hub.repos["dataset", "user/rows"].head.oid == first.oid


def test_a_commit_whose_answer_is_lost_is_said_to_be_there(hub):
    publish(FILES, "user/rows", message="before")
    hub.break_commit = "after"
    text = spoken(lambda: publish({"README.md": b"other"}, "user/rows", message="after"))
    assert hub.repos["dataset", "user/rows"].head.oid[:8] in text and "Nothing was changed" not in text


def test_somebody_elses_commit_in_between_is_not_overwritten(hub):
    first = publish(FILES, "user/rows", message="before")
    hub.meanwhile = lambda: hub.make("user/rows", {"README.md": b"by hand"})
    assert "somebody else changed user/rows" in spoken(lambda: publish({"README.md": b"2"}, "user/rows", message="2"))
    assert hub.files("user/rows")["README.md"] == b"by hand"
    text = spoken(lambda: publish({"README.md": b"2"}, "user/rows", message="2", parent=first.oid))
    assert "somebody else" in text and hub.files("user/rows")["README.md"] == b"by hand"


def test_no_token(hub):
    hub.sign_in(None)
    text = spoken(lambda: publish(FILES, "user/rows", message="x"))
    assert "hf auth login" in text and "HF_TOKEN" in text and hub.requests == []


@pytest.mark.parametrize(
    ("token", "repo_id", "said"),
    [
        (READ, "user/rows", "has the role read"),
        ("hf_revoked", "user/rows", "does not accept the token"),
        (STRANGER, "user/rows", "needs write access to user"),
        (STRANGER, "user/public", "needs write access to user"),
        (WRITE, "elsewhere/rows", "needs write access to elsewhere"),
    ],
)
def test_a_token_without_rights(hub, shards, token, repo_id, said):
    hub.make("user/public", {"README.md": b"mine"})
    before = {name: repo.head.oid for name, repo in hub.repos.items()}
    text = spoken(lambda: publish(FILES | shards, repo_id, message="x", token=token))
    assert said in text and "Nothing was changed" in text
    assert {name: repo.head.oid for name, repo in hub.repos.items()} == before and hub.uploads == 0


def test_token_of_a_call_wins_and_an_organisation_works(hub):
    hub.sign_in(READ)
    publish(FILES, "org/rows", message="x", token=WRITE)
    assert ("dataset", "org/rows") in hub.repos


def test_private_repository_is_hidden_from_others(hub):
    publish(FILES, "user/rows", message="x")
    assert HfApi(token=READ).repo_exists("user/rows", repo_type="dataset")
    assert not HfApi(token=STRANGER).repo_exists("user/rows", repo_type="dataset")
    assert not HfApi(token=False).repo_exists("user/rows", repo_type="dataset")


def test_public_repository_stays_public_and_says_so(hub, capsys):
    hub.make("user/rows", {"README.md": b""}, private=False)
    publish(FILES, "user/rows", message="x")
    assert "is public; it stays public" in capsys.readouterr().err


def test_hub_that_is_not_there(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "connection to http://127.0.0.1:9 failed" in spoken(lambda: publish(FILES, "user/rows", message="x"))


def test_bad_arguments(hub, tmp_path):
    with pytest.raises(ValueError, match="no name of a repository"):
        publish(FILES, "a/b/c", message="x")
    with pytest.raises(ValueError, match="no files"):
        publish({}, "user/rows", message="x")
    with pytest.raises(ValueError, match="no file .*gone"):
        publish({"a": tmp_path / "gone"}, "user/rows", message="x")
    assert "holds your token" in spoken(lambda: publish({"a.json": WRITE.encode()}, "user/rows", message="x"))
    assert hub.repos == {}

"""A bank on the Hub: a commit an update, best rows first, updated elsewhere as it would be here, never overwritten."""

import json

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, load_dataset

import hf_dsel
from hf_dsel import Bank, WrongBank
from hf_dsel.cli import main
from hf_dsel.fetching import NotFetched
from hf_dsel.publishing import NotPublished

from .hub_stand_in import READ


def pool(n, begin=0, dim=6):
    """Plain texts with vectors of length 1 and distinct qualities."""
    rng = np.random.default_rng([0, begin])
    x = rng.standard_normal((n, dim)) + 0.7
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    features = {"text": Value("string"), "quality": Value("float64"), "embedding": List(Value("float32"), length=dim)}
    rows = {"text": [f"text é {begin + i}" for i in range(n)], "quality": rng.random(n), "embedding": list(x)}
    return Dataset.from_dict(rows, Features(features))


def filled(*parts, size=20, **settings):
    bank = Bank(size=size, **settings)
    for number, part in enumerate(parts):
        bank.update(part, source=f"part {number}")
    return bank


def rows(bank):
    return bank.dataset[:]


def test_one_commit_an_update_and_the_best_rows_first_in_each(hub):
    bank = filled(pool(40))
    first = bank.push_to_hub("user/bank", license="cc-by-4.0")
    repo = hub.repos["dataset", "user/bank"]
    assert repo.private and len(repo.commits) == 2 and repo.head.oid == first.oid
    assert repo.head.title == "hf_dsel bank, round 1 (part 0): 20 rows entered; 20 rows"
    before = rows(bank)
    bank.update(pool(30, begin=40), source="part 1")
    bank.update(pool(30, begin=70), source="part 2")
    bank.push_to_hub("user/bank")
    assert len(repo.commits) == 3 and repo.head.title.startswith("hf_dsel bank, rounds 2 to 3 (part 1, part 2): ")
    best = load_dataset("user/bank", split="train[:7]")
    assert best[:] == bank.top(7)[:] and best["score"][:] == sorted(best["score"][:], reverse=True)
    assert load_dataset("user/bank", split="train")[:] == rows(bank)
    assert load_dataset("user/bank", split="train", revision=first.oid)[:] == before
    names = [n for n in repo.head.files if n.startswith("bank/")]
    assert sorted(n.rpartition("/")[2] for n in names) == ["bank.json", "memory.safetensors", "rows.parquet"]
    card = repo.head.files["README.md"].decode()
    assert "license: cc-by-4.0" in card and "| 3 | `part 2` | 30 |" in card and "path: data/train-*" in card
    assert [r["text"] for r in load_dataset("user/bank", split="train", streaming=True).take(2)] == best["text"][:2]


@pytest.mark.parametrize("history", ["sketch", "paper", None])
def test_updated_elsewhere_it_is_what_it_would_be_here(hub, history):
    here = filled(pool(40), history=history)
    pushed = here.push_to_hub("user/bank")
    there = Bank.from_hub("user/bank", size=20)
    assert rows(there) == rows(here) and there.history == here.history and there.settings == here.settings
    for bank in (here, there):
        bank.update(pool(30, begin=40), source="more")
    assert rows(there) == rows(here) and len(there.history) == 2
    there.push_to_hub("user/bank")
    assert rows(Bank.from_hub("user/bank")) == rows(here)
    assert len(Bank.from_hub("user/bank", revision=pushed.oid).history) == 1


def test_through_a_folder_it_stays_the_same_bank(hub, tmp_path):
    bank = filled(pool(40))
    bank.save(tmp_path / "bank")
    Bank.load(tmp_path / "bank").push_to_hub("user/bank")
    again = Bank.load(tmp_path / "bank")
    again.update(pool(30, begin=40), source="more")
    again.save(tmp_path / "bank")
    Bank.load(tmp_path / "bank").push_to_hub("user/bank")
    assert rows(Bank.from_hub("user/bank")) == rows(again)
    moved = Bank.from_hub("user/bank")
    moved.save(tmp_path / "elsewhere")
    assert rows(Bank.load(tmp_path / "elsewhere")) == rows(again)


def test_another_bank_is_refused(hub):
    bank = filled(pool(40))
    bank.push_to_hub("user/bank")
    ahead = Bank.from_hub("user/bank")
    ahead.update(pool(30, begin=40), source="more")
    ahead.push_to_hub("user/bank")
    before, commits = hub.files("user/bank"), len(hub.repos["dataset", "user/bank"].commits)
    with pytest.raises(WrongBank, match=r"after 2 rounds, this one after 1, and they share 1.*from_hub\('user/bank'\)"):
        bank.push_to_hub("user/bank")
    bank.update(pool(30, begin=70), source="more")  # the same beginning, another second round
    with pytest.raises(WrongBank, match="share 1"):
        bank.push_to_hub("user/bank")
    with pytest.raises(WrongBank, match="made with size=20, not 10"):
        filled(pool(40), size=10).push_to_hub("user/bank")
    twin = filled(pool(40).select(range(39, -1, -1)).map(lambda row: {"text": row["text"] + "!"}))
    with pytest.raises(WrongBank, match="share 0"):
        twin.push_to_hub("user/bank")
    hub.make("user/data", {"data/train-00000-of-00001.parquet": b"PAR1"})
    with pytest.raises(ValueError, match=r"holds 'data/train-00000-of-00001.parquet' and no bank"):
        bank.push_to_hub("user/data")
    hub.make("user/broken", {"bank/bank.json": b'{"hf_dsel_bank": 1'})
    with pytest.raises(WrongBank, match="is damaged"):
        bank.push_to_hub("user/broken")
    assert hub.files("user/bank") == before and len(hub.repos["dataset", "user/bank"].commits) == commits


def test_a_push_that_breaks_leaves_the_bank_that_was_there(hub):
    bank = filled(pool(40))
    bank.push_to_hub("user/bank")
    before, then = hub.files("user/bank"), rows(bank)
    bank.update(pool(30, begin=40), source="more")
    hub.break_upload = hub.uploads + 2
    with pytest.raises(NotPublished, match="Nothing was changed"):
        bank.push_to_hub("user/bank")
    hub.break_upload = None
    assert hub.files("user/bank") == before and rows(Bank.from_hub("user/bank")) == then
    other = Bank.from_hub("user/bank")
    other.update(pool(9, begin=90), source="other")
    hub.meanwhile = lambda: hub.make("user/bank", {"notes.txt": b"x"})
    with pytest.raises(NotPublished, match="somebody else changed"):
        bank.push_to_hub("user/bank")
    bank.push_to_hub("user/bank")
    with pytest.raises(WrongBank, match="share 1"):
        other.push_to_hub("user/bank")
    assert rows(Bank.from_hub("user/bank")) == rows(bank)


def test_the_card_keeps_what_a_person_wrote(hub):
    bank = filled(pool(40))
    bank.push_to_hub("user/bank")
    card = hub.files("user/bank")["README.md"].decode()
    hub.make("user/bank", {"README.md": (card.replace("---\n", "---\npretty_name: Ours\n", 1) + "\nMine.\n").encode()})
    bank.update(pool(30, begin=40), source="a|b `c`")
    bank.push_to_hub("user/bank", message="round two")
    card = hub.files("user/bank")["README.md"].decode()
    assert "pretty_name: Ours" in card and card.rstrip().endswith("Mine.") and "a\\|b" in card
    assert hub.repos["dataset", "user/bank"].head.title == "round two"
    commits = len(hub.repos["dataset", "user/bank"].commits)
    bank.push_to_hub("user/bank", license="mit")  # the bank is there already: only the card changes
    bank.push_to_hub("user/bank")  # and now nothing does
    assert len(hub.repos["dataset", "user/bank"].commits) == commits + 1
    assert "license: mit" in hub.files("user/bank")["README.md"].decode()


def test_the_card_names_the_scorers_that_new_rows_need(hub):
    bank = Bank(size=20, quality="example_words", history=None)
    words = hf_dsel.Length(of="example", unit="words")
    some = pool(30).map(lambda row, i: {"text": row["text"] + " more" * i}, with_indices=True)
    bank.update(some, source="a", scorers=[words])
    bank.push_to_hub("user/bank")
    card = hub.files("user/bank")["README.md"].decode()
    assert "`example_words` by `Length(of='example', unit='words')`" in card
    assert "chosen in 1 round." in card and "a memory of those" not in card
    with pytest.raises(ValueError, match="was made by Length"):
        other = hf_dsel.Length(of="example", unit="words", combine="mean")
        Bank.from_hub("user/bank").update(pool(9, begin=60), source="b", scorers=[other])


def test_what_cannot_be_pushed_or_loaded(hub):
    with pytest.raises(ValueError, match="the bank is empty"):
        Bank(size=3).push_to_hub("user/bank")
    assert not hub.requests
    hub.make("user/data", {"README.md": b"# x"})
    with pytest.raises(NotFetched, match="user/data holds no bank"):
        Bank.from_hub("user/data")
    with pytest.raises(NotFetched, match="no dataset 'user/nothing'"):
        Bank.from_hub("user/nothing")
    with pytest.raises(NotFetched, match="must be the id of a repository"):
        Bank.from_hub("bank")
    bank = filled(pool(40))
    bank.push_to_hub("user/bank")
    with pytest.raises(WrongBank, match="made with size=20, not 6000"):
        Bank.from_hub("user/bank", size=6000)
    with pytest.raises(NotFetched, match="no revision 'v9'"):
        Bank.from_hub("user/bank", revision="v9")
    rows_file = next(n for n in hub.files("user/bank") if n.endswith("rows.parquet"))
    hub.make("user/bank", {rows_file: b"PAR1"})
    with pytest.raises(WrongBank, match="is damaged"):
        Bank.from_hub("user/bank")
    bank.push_to_hub("user/secret")
    hub.sign_in(READ)
    with pytest.raises(NotPublished, match="role read"):
        bank.push_to_hub("user/other")
    hub.sign_in(None)
    with pytest.raises(NotFetched, match="token may read"):
        Bank.from_hub("user/secret")


def test_a_bank_that_older_versions_saved_is_loaded(tmp_path):
    filled(pool(40)).save(tmp_path / "bank")
    index = tmp_path / "bank" / "bank.json"
    record = json.loads(index.read_text())
    del record["rounds"][0]["keys"]
    index.write_text(json.dumps(record))
    assert Bank.load(tmp_path / "bank").history[0].keys == ""


def test_rounds_of_other_rows_are_told_apart():
    one, other = filled(pool(40)), filled(pool(40, begin=1))
    assert one.history[0].keys != other.history[0].keys and len(one.history[0].keys) == 16
    assert one.history[0].keys == filled(pool(40)).history[0].keys


def test_the_commands(hub, tmp_path, capsys):
    pool(40).to_parquet(str(tmp_path / "one.parquet"))
    pool(30, begin=40).to_parquet(str(tmp_path / "two.parquet"))
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    assert main(["bank", "init", here, "--size", "20"]) == 0
    assert main(["bank", "push", here, "user/bank"]) == 2
    assert "the bank is empty" in capsys.readouterr().err and ("dataset", "user/bank") not in hub.repos
    assert main(["bank", "update", here, str(tmp_path / "one.parquet")]) == 0
    assert main(["bank", "push", here, "user/bank", "--license", "mit", "--message", "first"]) == 0
    assert "load_dataset('user/bank', split=\"train[:20]\")" in capsys.readouterr().out
    assert hub.repos["dataset", "user/bank"].private and hub.repos["dataset", "user/bank"].head.title == "first"
    assert main(["bank", "pull", there, "user/bank"]) == 0
    assert main(["bank", "pull", there, "user/bank"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["bank", "update", there, str(tmp_path / "two.parquet")]) == 0
    assert main(["bank", "push", there, "user/bank"]) == 0
    assert len(Bank.from_hub("user/bank").history) == 2
    assert main(["bank", "push", here, "user/bank"]) == 2
    assert "they share 1" in capsys.readouterr().err
    assert main(["bank", "push", here, "user/public", "--public"]) == 0
    assert not hub.repos["dataset", "user/public"].private
    for arguments, text in ((["push", here], "which repository?"), (["pull"], "which bank?")):
        assert main(["bank", *arguments]) == 2
        assert text in capsys.readouterr().err

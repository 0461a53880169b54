"""The scoring engine: shards, resume after a real kill, ranks, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, List, Value

from hf_dsel import OtherScores, score

POOL = Dataset.from_dict({"text": [f"row {i} " * (i % 7 + 1) for i in range(103)]})


class Letters:
    """Counts letters; remembers the sizes of the batches it saw."""

    def __init__(self, column="letters", by=1):
        self.column, self.by, self.seen = column, by, []

    def features(self):
        return {self.column: Value("int64"), f"{self.column}_vector": List(Value("float16"), length=2)}

    def settings(self):
        return {"class": "Letters", "by": self.by}

    def __call__(self, batch):
        self.seen.append(len(batch["text"]))
        counts = [len(t) * self.by for t in batch["text"]]
        return {self.column: counts, f"{self.column}_vector": np.asarray([[c, 1] for c in counts], np.float16)}


def expected():
    return [len(t) for t in POOL["text"][:]]


@pytest.mark.parametrize("shard_rows", [1, 10, 103, 1000, None])
def test_columns_are_the_same_for_every_shard_size(tmp_path, shard_rows):
    scorer = Letters()
    scored = score(POOL, scorer, cache_dir=tmp_path, shard_rows=shard_rows)
    assert scored.column_names == ["text", "letters", "letters_vector"]
    assert scored["letters"][:] == expected() and scored["text"][:] == POOL["text"][:]
    assert scored.features["letters_vector"] == List(Value("float16"), length=2)
    np.testing.assert_array_equal(np.asarray(scored["letters_vector"][:])[:, 0], expected())
    size = min(shard_rows or 103, 103)
    assert scorer.seen == [min(size, 103 - s) for s in range(0, 103, size)]
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_engine_and_map_agree(tmp_path):
    assert score(POOL, Letters(), cache_dir=tmp_path)["letters"][:] == POOL.map(Letters(), batched=True)["letters"][:]


def test_views_and_plain_functions(tmp_path):
    view = POOL.shuffle(seed=0).select(range(20))

    def shout(batch):
        return {"loud": [t.upper() for t in batch["text"]]}

    scored = score(view, shout, cache_dir=tmp_path, shard_rows=7)
    assert scored["loud"][:] == [t.upper() for t in view["text"][:]]
    assert scored["text"][:] == view["text"][:]


def test_finished_shards_are_not_scored_again(tmp_path):
    score(POOL, Letters(), cache_dir=tmp_path, shard_rows=10)
    (tmp_path / "letters+letters_vector" / "shard-00004.arrow").unlink()
    again = Letters()
    assert score(POOL, again, cache_dir=tmp_path, shard_rows=10)["letters"][:] == expected()
    assert again.seen == [10]


def test_the_default_folder_is_found_again():
    unique = Dataset.from_dict({"text": [f"{os.getpid()} {time.time()} {i}" for i in range(5)]})
    one, two = Letters(), Letters()
    assert score(unique, one)["letters"][:] == score(unique, two)["letters"][:]
    assert one.seen == [5] and two.seen == []


def test_other_settings_other_data_and_other_shards_are_refused(tmp_path):
    score(POOL, Letters(), cache_dir=tmp_path, shard_rows=10)
    with pytest.raises(OtherScores, match="scorer.by: 1 there, 2 now.*another cache_dir"):
        score(POOL, Letters(by=2), cache_dir=tmp_path, shard_rows=10)
    with pytest.raises(OtherScores, match="shard_rows: 10 there, 20 now"):
        score(POOL, Letters(), cache_dir=tmp_path, shard_rows=20)
    with pytest.raises(OtherScores, match="content"):
        score(POOL.map(lambda r: {"text": r["text"] + "!"}), Letters(), cache_dir=tmp_path, shard_rows=10)
    unrelated = POOL.add_column("quality", [1.0] * 103)
    assert score(unrelated, Letters(), cache_dir=tmp_path, shard_rows=10)["letters"][:] == expected()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: score(POOL.select([]), Letters()), ValueError, "no rows"),
        (lambda: score(POOL, [Letters(), Letters(by=2)]), ValueError, "writes it too"),
        (
            lambda: score(POOL.add_column("letters", [0] * 103), Letters()),
            ValueError,
            "already has it; remove or rename",
        ),
        (lambda: score(POOL, "ifd"), TypeError, "a scorer is a callable"),
        (lambda: score(POOL, Letters(), shard_rows=0), ValueError, "at least 1, got 0"),
        (lambda: score(POOL.to_iterable_dataset(), Letters()), TypeError, "got IterableDataset"),
        (lambda: score(POOL, lambda batch: {"x": [1]}), ValueError, "{'x': 1} values for 103 rows"),
    ],
)
def test_what_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_failing_scorer_is_not_swallowed(tmp_path):
    def broken(batch):
        raise ZeroDivisionError("of row 3")

    with pytest.raises(ZeroDivisionError, match="row 3"):
        score(POOL, broken, cache_dir=tmp_path)


def test_every_split(tmp_path):
    scored = score(DatasetDict(a=POOL, b=POOL.select(range(5))), Letters(), cache_dir=tmp_path)
    assert scored["b"]["letters"][:] == expected()[:5]
    assert (tmp_path / "a").is_dir() and (tmp_path / "b").is_dir()


SLOW = """
import sys, time, os
sys.path.insert(0, {tests!r})
import test_scoring as t

class Slow(t.Letters):
    def __call__(self, batch):
        time.sleep(0.15)
        open({log!r}, "a").write(f"{{os.environ.get('RANK', '0')}} {{len(batch['text'])}}\\n")
        return super().__call__(batch)

scored = t.score(t.POOL, Slow(), cache_dir={cache!r}, shard_rows=10)
assert scored["letters"][:] == t.expected()
print("done", os.environ.get("RANK", "0"), len(scored), flush=True)
"""


def script(tmp_path):
    path = tmp_path / "run.py"
    tests = str(Path(__file__).parent)
    path.write_text(SLOW.format(tests=tests, log=str(tmp_path / "log"), cache=str(tmp_path / "cache")))
    return path


def test_a_killed_run_loses_at_most_one_shard(tmp_path):
    run = script(tmp_path)
    process = subprocess.Popen([sys.executable, run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "cache" / "letters+letters_vector"
    deadline = time.monotonic() + 120
    while len(list(folder.glob("shard-*.arrow"))) < 4:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished, started = len(list(folder.glob("*.arrow"))), len((tmp_path / "log").read_text().splitlines())
    assert 4 <= finished < 11 and started - finished <= 1
    (folder / "shard-00009.arrow.1.tmp").write_bytes(b"half a shard")  # as a kill in the middle of a write leaves it
    second = subprocess.run([sys.executable, run], capture_output=True, text=True, check=True)
    assert "done 0 103" in second.stdout and f"{finished * 10} rows scored before" in second.stderr
    assert len((tmp_path / "log").read_text().splitlines()) == started + 11 - finished
    assert not list(folder.glob("*.tmp"))


@pytest.mark.distributed
def test_two_ranks_share_the_shards_and_both_get_all_columns(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", script(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "done 0 103" in done.stdout and "done 1 103" in done.stdout
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert sorted(lines) == ["0 10"] * 5 + ["0 3"] + ["1 10"] * 5
    manifest = json.loads((tmp_path / "cache" / "letters+letters_vector" / "manifest.json").read_text())
    assert manifest["rows"] == 103 and manifest["scorer"] == {"class": "Letters", "by": 1}

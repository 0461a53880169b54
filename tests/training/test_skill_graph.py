"""A learned skills graph: beside a slow loop, resumable, and a planted dependency that it finds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.training.learned_graph import LearnedGraph
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.skill_graph import OtherGraph, SkillRuns, learn_graph
from hf_dsel.training.skill_it import SkillIt
from tests.conftest import save
from tests.training.tiny_runs import sft

SAID = {"a": "the sea and the sun", "b": "the sun", "c": "Paris"}  # whoever learns a learns how b ends


def skills(n, seed=0):
    asked = [(s, f"{'abcdefghij'[(i + seed) % 10]}{'klmnopqrst'[i // 10]}") for i in range(n) for s in SAID]
    return Dataset.from_list(
        [{"instruction": f"Of {w}.", "input": "", "output": SAID[s], "skill": s} for s, w in asked]
    )  # fmt: skip


def maker(seen, **options):
    def make_trainer(rows):
        seen.append(rows["skill"][:])
        return sft(rows.remove_columns("skill"), **{"max_steps": 6, "learning_rate": 3e-3} | options)

    return make_trainer


def slow_losses(trainer, held_out, folder):
    """skill → mean of the rows' losses, by a saved copy of the model."""
    path = save(trainer.model, trainer.processing_class, folder)
    nll = hf_dsel.score(held_out, hf_dsel.NLL(path, dtype="float32"))["nll"][:]
    of = {s: [x for x, name in zip(nll, held_out["skill"][:], strict=True) if name == s] for s in "abc"}
    return {s: sum(values) / len(values) for s, values in of.items()}


def test_edges_beside_a_slow_loop(tmp_path):
    rows, held_out, seen = skills(6), skills(2, seed=5), []
    graph = learn_graph(maker(seen), rows, held_out, "skill", folder=tmp_path / "runs", pairs=True)
    assert [sorted(set(s)) for s in seen] == [["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["b", "c"]]
    assert [len(s) for s in seen] == [6, 6, 6, 12, 12, 12]
    after = {}
    make = maker([])
    for i, j in [(i, j) for i in "abc" for j in "abc" if i <= j]:
        some = rows.filter(lambda row, pair=(i, j): row["skill"] in pair)
        trainer = make(some)
        before = slow_losses(trainer, held_out, tmp_path / f"before-{i}{j}")
        trainer.train()
        after[i, j] = after[j, i] = slow_losses(trainer, held_out, tmp_path / f"after-{i}{j}")
    assert graph.before == pytest.approx(before, rel=1e-4)
    for i in "abc":
        for j in "abc":
            drop = before[j] - after[i, i][j] if i == j else after[j, j][j] - after[i, j][j]
            assert graph.edges[i][j] == pytest.approx(max(0, drop), abs=2e-3)
            alone = LearnedGraph(before=graph.before, alone=graph.alone, relative=True).edges[i][j]
            assert alone == pytest.approx(max(0, before[j] - after[i, i][j]) / before[j], abs=1e-3)


def test_a_planted_dependency(tmp_path):
    graph = learn_graph(maker([], max_steps=20), skills(8), skills(3, seed=5), "skill", folder=tmp_path)
    edges = graph.edges
    assert edges["a"]["b"] > 2 * edges["a"]["c"]
    assert edges["b"]["b"] > edges["c"]["b"] and edges["c"]["c"] > edges["a"]["c"]
    plan = SkillIt("skill", skills(3), graph=edges)
    assert plan.shares([])["a"] > plan.shares([])["c"]


def test_finished_runs_are_not_trained_again(tmp_path):
    rows, held_out, seen = skills(4), skills(2, seed=5), []
    graph = learn_graph(maker(seen), rows, held_out, "skill", folder=tmp_path)
    assert learn_graph(maker(seen), rows, held_out, "skill", folder=tmp_path) == graph and len(seen) == 3
    (tmp_path / "0001.json").unlink()
    again = learn_graph(maker(seen), rows, held_out, "skill", folder=tmp_path)
    assert seen[3:] == [["b"] * 4] and again.alone["b"] == pytest.approx(graph.alone["b"], rel=1e-5)
    assert learn_graph(maker(seen), rows, held_out, "skill", folder=tmp_path, pairs=True).alone == again.alone
    assert len(seen) == 7
    for other in ({"rows": rows.select(range(9))}, {"held_out": skills(3)}, {"settings": {"lr": 1}}, {"seed": 7}):
        how = {"rows": rows, "held_out": held_out} | other
        with pytest.raises(OtherGraph, match="other rows, or with another seed or other settings"):
            learn_graph(maker(seen), **how, column="skill", folder=tmp_path)
    assert len(seen) == 7


def test_one_model_for_all_runs_is_noticed(tmp_path):
    kept = []

    def make_trainer(rows):
        kept.append(sft(rows, model=kept[0].model if kept else None, max_steps=6))
        return kept[-1]

    with pytest.raises(OtherGraph, match="each trainer must start from the same model, loaded anew"):
        learn_graph(make_trainer, skills(4), skills(2), "skill", folder=tmp_path)


def test_pairs_are_balanced(tmp_path):
    rows = skills(9).filter(lambda row: row["skill"] != "b" or row["instruction"][3] in "abcd")
    runs = SkillRuns.of(rows, skills(1), "skill", tmp_path, pairs=True, seed=1, settings=None)
    drawn = {run: runs.rows_of(run)["skill"][:] for run in runs.runs}
    assert {run: [s.count(x) for x in "abc"] for run, s in drawn.items()} == {
        ("a",): [9, 0, 0], ("b",): [0, 4, 0], ("c",): [0, 0, 9],
        ("a", "b"): [4, 4, 0], ("a", "c"): [9, 0, 9], ("b", "c"): [0, 4, 4],
    }  # fmt: skip


def test_skills_of_numbers_and_null_and_other_held_out_ones(tmp_path):
    number = {"a": 1, "b": 2, "c": None}
    rows = skills(4).map(lambda row: {"skill": number[row["skill"]]})
    held_out = skills(2).map(lambda row: {"skill": {"a": 1, "b": None, "c": 7}[row["skill"]]})
    graph = learn_graph(maker([]), rows, held_out, "skill", folder=tmp_path)
    assert {i: list(taught) for i, taught in graph.edges.items()} == {"1": ["1", "7"], "2": ["1", "7"]}
    assert set(SkillIt("skill", held_out, graph=graph.edges).shares([])) == {"1", "2"}
    with pytest.raises(ValueError, match="pairs: no row has the held-out skill '7'"):
        learn_graph(maker([]), rows, held_out, "skill", folder=tmp_path, pairs=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"column": "task"}, "rows: no column 'task'"),
     ({"rows": skills(3).filter(lambda row: row["skill"] == "a")}, "has 1 skills"),
     ({"held_out": skills(1).map(lambda row: {"output": ""})}, "no held-out row of the skill 'a' can be scored")],
)  # fmt: skip
def test_what_gives_no_graph(tmp_path, change, message):
    how = {"rows": skills(3), "held_out": skills(1), "column": "skill"} | change
    with pytest.raises(ValueError, match=message):
        learn_graph(maker([]), **how, folder=tmp_path / "runs")


def test_a_file_that_skill_it_takes(tmp_path):
    graph = LearnedGraph(before={"b": 2.0, "ü": 1.0}, alone={"a": {"b": 1.5, "ü": 2.0}, "b": {"b": 1.0, "ü": 0.5}})
    graph.save(tmp_path / "deep" / "graph.json")
    assert LearnedGraph.load(tmp_path / "deep" / "graph.json") == graph
    held_out = skills(2).map(lambda row: {"skill": {"a": "b", "b": "ü", "c": "b"}[row["skill"]]})
    plan = SkillIt("skill", held_out, graph=str(tmp_path / "deep" / "graph.json"))
    assert plan.edges == graph.edges == {"a": {"b": 0.5, "ü": 0.0}, "b": {"b": 1.0, "ü": 0.5}}
    (tmp_path / "cut.json").write_text('{"hf_dsel')
    (tmp_path / "other.json").write_text('{"a": {"b": 1}}')
    for name in ("cut.json", "other.json", "none.json"):
        with pytest.raises(ValueError, match="no skills graph"):
            SkillIt("skill", held_out, graph=str(tmp_path / name))


STEPS = {
    "dtype": "float32", "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False, "report_to": "none",
    "save_strategy": "no", "learning_rate": 3e-3, "max_length": 64, "disable_tqdm": True,
}  # fmt: skip
COMMAND = ["dynamics", "graph", "--config", "x.yaml", "--column", "skill", "--held-out", "held_out.parquet", "--steps"]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_qwen2):
    monkeypatch.chdir(tmp_path)
    skills(8).to_parquet("pool.parquet")
    skills(2, seed=5).to_parquet("held_out.parquet")
    skill_it = {"column": "skill", "held_out": "held_out.parquet", "graph": "graph.json"}
    file = {"model_name_or_path": tiny_qwen2, "dataset_name": "pool.parquet", "output_dir": "sft", "max_steps": 4,
            "reselect": {"skill_it": skill_it, "k": 8, "every": 2}, **STEPS}  # fmt: skip
    Path("x.yaml").write_text(yaml.safe_dump(file))
    return tmp_path


def test_from_one_file_to_graph_and_training(place, capsys):
    assert main(["sft", "--config", "x.yaml"]) == 2
    assert "graph.json is no skills graph" in capsys.readouterr().err
    assert main([*COMMAND, "3", "--out", "graph.json"]) == 0
    said = capsys.readouterr().out
    graph = LearnedGraph.load("graph.json")
    assert str(graph) in said and "graph.json" in said
    assert sorted(path.name for path in Path("graph.json.runs").iterdir()) == [f"000{i}.json" for i in range(3)]
    assert main(["sft", "--config", "x.yaml"]) == 0 and not Path("sft/checkpoint-4").exists()
    assert len(list(Path("sft/selections").iterdir())) == 2
    assert main([*COMMAND, "3", "--out", "graph.json"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    before = [path.stat().st_mtime_ns for path in sorted(Path("graph.json.runs").iterdir())]
    assert main([*COMMAND, "3", "--out", "graph.json", "--overwrite", "--relative", "--pairs"]) == 0
    now = [path.stat().st_mtime_ns for path in sorted(Path("graph.json.runs").iterdir())]
    assert len(now) == 6 and set(before) < set(now)
    assert LearnedGraph.load("graph.json").relative and LearnedGraph.load("graph.json").together
    assert main([*COMMAND, "4", "--out", "graph.json", "--overwrite"]) == 2
    assert "other settings of the training" in capsys.readouterr().err


def test_killed_and_started_again(place):
    assert main([*COMMAND, "3", "--out", "whole.json"]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_dsel", *COMMAND, "3", "--out", "graph.json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    first, end = Path("graph.json.runs/0000.json"), time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stored = first.stat().st_mtime_ns
    assert main([*COMMAND, "3", "--out", "graph.json", "--overwrite"]) == 0 and first.stat().st_mtime_ns == stored
    one, other = (json.loads(Path(name).read_text()) for name in ("whole.json", "graph.json"))
    for i, taught in one["graph"].items():
        assert other["graph"][i] == pytest.approx(taught, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--steps", "0"], "--steps 0 must be 1 or more"), (["--colum", "x"], "--colum"), (["--column", "task"], "'task'"),
     (["--held-out", "none.parquet"], "none.parquet"), (["--push_to_hub", "true"], "push_to_hub is for one model")],
)  # fmt: skip
def test_refused_before_any_training(place, flags, message, capsys):
    assert main([*COMMAND, "3", "--out", "graph.json", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("graph.json").exists()


def test_what_is_missing_is_said(place, capsys):
    for flags, message in (
        (["--column", "skill"], "--out"),
        (["--out", "g.json"], "--column"),
        (["--out", "g.json", "--column", "skill"], "--held-out"),
    ):
        assert main(["dynamics", "graph", "--config", "x.yaml", *flags]) == 2
        assert message in capsys.readouterr().err
    assert main(["dynamics", "graph", "--help"]) == 0
    assert "hf-dsel dynamics graph --config" in capsys.readouterr().out


def test_the_graph_of_a_run_goes_into_reselect(tmp_path):
    rows, held_out = skills(4), skills(2, seed=5)
    graph = learn_graph(maker([]), rows, held_out, "skill", folder=tmp_path)
    trainer = sft(rows, max_steps=4)
    reselect = Reselect(SkillIt("skill", held_out, graph=graph.edges), 6, every=2).bind(trainer, rows)
    trainer.train()
    assert [len(s) for s in reselect.selections.values()] == [6, 6]

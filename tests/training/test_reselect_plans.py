"""Plans: a curriculum in rounds, and Skill-it beside a plain version of its algorithm."""

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.columns import MissingColumn
from hf_dsel.training.pacing import Pacing
from hf_dsel.training.reselect import Reselect
from hf_dsel.training.skill_it import SkillIt
from tests.training.tiny_runs import sft

GRAPH = {"a": {"a": 1, "b": 0.5}, "b": {"b": 1}, "c": {"c": 1, "a": 0.25}}


def skills(n):
    """Three skills whose answers are three words; `hard` counts the rows."""
    said = {"a": "the sea", "b": "the sum", "c": "Paris"}
    rows = [(skill, f"{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}") for i in range(n) for skill in said]
    return Dataset.from_list(
        [{"instruction": f"Of {w}.", "input": "", "output": f"{said[s]} {w}", "skill": s, "hard": float(i)}
         for i, (s, w) in enumerate(rows)]
    )  # fmt: skip


def test_skill_it_beside_its_algorithm(tmp_path):
    pool, held_out = skills(12), skills(3)
    trainer = sft(pool, output_dir=str(tmp_path), max_steps=10, per_device_train_batch_size=3, save_strategy="steps",
                  save_steps=2)  # fmt: skip
    reselect = Reselect(SkillIt("skill", held_out, graph=GRAPH, eta=0.3, window=2), 6, every=2).bind(trainer, pool)
    trainer.train()

    names, a = ["a", "b", "c"], np.array([[1, 0.5, 0], [0, 1, 0], [0.25, 0, 1]])
    power, losses = 0.3 * a.sum(1), []
    for number in range(5):
        if number:
            folder = str(tmp_path / f"checkpoint-{2 * number}")
            nll = np.array(hf_dsel.score(held_out, hf_dsel.NLL(folder, dtype="float32"))["nll"][:])
            losses.append([nll[[s == name for s in held_out["skill"][:]]].mean() for name in names])
            power = 0.3 * a @ np.sum(losses[-2:], axis=0)
        shares = np.exp(power) / np.exp(power).sum()
        log = next(log for log in trainer.state.log_history if log.get("reselect/round") == number)
        assert [log[f"reselect/weights/{name}"] for name in names] == pytest.approx(shares, rel=1e-5)
        if number:
            assert [log[f"reselect/losses/{name}"] for name in names] == pytest.approx(losses[-1], rel=1e-5)
        drawn = pool.select(reselect.selections[number].indices)["skill"][:]
        assert all(abs(drawn.count(name) - 6 * share) <= 1 for name, share in zip(names, shares, strict=True))
    assert len(losses) == 4 and losses[3][0] < losses[0][0]

    again = sft(pool, output_dir=str(tmp_path / "again"), max_steps=10, per_device_train_batch_size=3)
    resumed = Reselect(SkillIt("skill", held_out, graph=GRAPH, eta=0.3, window=2), 6, every=2).bind(again, pool)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    for number in (3, 4):
        assert resumed.selections[number].indices.tolist() == reselect.selections[number].indices.tolist()
        assert resumed.selections[number].strategy == reselect.selections[number].strategy


def test_skill_it_without_a_graph_prefers_what_is_not_learned():
    plan = SkillIt("skill", skills(2))
    assert plan.shares([]) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    found = plan.shares([{"a": 3.0, "b": 1.0, "c": 1.0}])
    assert found["a"] == pytest.approx(np.exp(0.5 * 3) / (np.exp(0.5 * 3) + 2 * np.exp(0.5)))
    assert plan.shares([{"a": 9000.0, "b": 1.0, "c": 1.0}])["a"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "task"}, "held_out has no column 'task'"),
        ({"graph": {"a": {"z": 1}}}, "no row of the skill 'z'"),
        ({"eta": 0}, "eta is above 0"),
        ({"window": 0}, "a whole number from 1 on"),
        ({"eta": "big"}, "eta='big'"),
        ({"eta": float("nan")}, "eta=nan"),
        ({"graph": {"a": ["b"]}}, r"skill → skill → weight.* got \['b'\]"),
        ({"graph": {"a": {"b": "much"}}}, "skill → skill → weight"),
    ],
)
def test_skill_it_options(options, message):
    with pytest.raises(ValueError, match=message):
        SkillIt(**{"column": "skill", "held_out": skills(2)} | options)


@pytest.mark.parametrize(
    ("plan", "score", "error", "message"),
    [
        (Pacing("nope"), None, MissingColumn, r"Pacing reads \['nope'\]; \['nope'\] is in neither the pool nor"),
        (Pacing("nll"), "ifd", MissingColumn, r"the score makes \[.*'ifd'"),
        (Pacing("skill"), None, TypeError, "'skill' holds text"),
        (SkillIt("hard", skills(3)), None, ValueError, "no row of the pool has the skill '6'"),
        (SkillIt("task", skills(2).rename_column("skill", "task")), None, MissingColumn, r"\['task'\] is in neither"),
        (SkillIt("skill", skills(2), graph={"d": {"a": 1}}), None, ValueError, "no row of the pool has the skill 'd'"),
        (SkillIt("skill", skills(2).select_columns(["instruction", "skill"])), None, ValueError, "instruction"),
    ],
)
def test_a_plan_is_checked_at_bind(plan, score, error, message):
    trainer = sft(skills(4).select(range(6) if plan.column == "hard" else range(12)))
    with pytest.raises(error, match=message):
        Reselect(plan, 4, score=score).bind(trainer)


def test_a_column_that_the_score_makes_is_not_missed_at_bind():
    Reselect(Pacing("ifd"), 4, score="ifd").bind(sft(skills(4)))
    Reselect(Pacing("mine"), 4, score=lambda model, tokenizer, rows: {"mine": [0.0] * len(rows)}).bind(sft(skills(4)))


def test_a_skill_that_cannot_be_scored_is_named():
    rows = skills(2).map(lambda row: {"output": "" if row["skill"] == "b" else row["output"]})
    trainer = sft(skills(4), num_train_epochs=2)
    Reselect(SkillIt("skill", rows), 6).bind(trainer, skills(4))
    with pytest.raises(ValueError, match="no held-out row of the skill 'b' can be scored"):
        trainer.train()


def test_pacing_opens_the_pool_from_the_easy_end():
    pool = skills(10)
    trainer = sft(pool, num_train_epochs=4, per_device_train_batch_size=3)
    reselect = Reselect(Pacing("hard", start=0.3, full_at=0.75, power=1), 6).bind(trainer, pool)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "reselect/round" in log]
    parts = [0.3, 0.3 + 0.7 / 3, 0.3 + 1.4 / 3, 1]
    assert [log["reselect/part"] for log in logs] == pytest.approx(parts)
    for number, part in enumerate(parts):
        rows = reselect.selections[number].indices
        assert rows.max() < np.ceil(part * 30 - 1e-9) and len(rows) == 6
    assert reselect.selections[3].indices.max() >= 23


@pytest.mark.parametrize(
    ("options", "message"),
    [({"start": 0}, "start=0"), ({"full_at": 1.5}, "full_at=1.5"), ({"power": 0.5}, "power=0.5"),
     ({"hardest": "up"}, "hardest='up'"), ({"start": "low"}, "start='low'"), ({"power": float("nan")}, "power=nan")],
)  # fmt: skip
def test_pacing_options(options, message):
    with pytest.raises(ValueError, match=message):
        Pacing("hard", **options)

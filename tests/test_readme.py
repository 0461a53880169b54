"""The README's code runs, with small local stand-ins for the Hub's names."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from trl import SFTConfig, SFTTrainer

import hf_dsel
from hf_dsel.scorer_specs import scorer_names

from .scripted_server import ScriptedServer
from .strong_model import strong_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def pool():
    n = 24
    words = ["add", "write", "explain", "list", "compare"]
    return Dataset.from_dict(
        {
            "instruction": [f"Please {words[i % 5]} the number {i}." for i in range(n)],
            "input": [""] * n,
            "output": [f"The answer to {i} is {'long ' * (i % 3)}{i + 1}." for i in range(n)],
            "embedding": np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32).tolist(),
            "quality": [float(i % 5) for i in range(n)],
        },
        Features(
            {"instruction": Value("string"), "input": Value("string"), "output": Value("string"),
             "embedding": List(Value("float32"), length=8), "quality": Value("float64")}
        ),
    )  # fmt: skip


def test_there_are_nine_blocks():
    assert len(BLOCKS) == 9


def test_the_one_call_example(pool, tiny_qwen2, tmp_path):
    pool.to_parquet(str(tmp_path / "alpaca" / "train.parquet"))
    code = BLOCKS[0].replace("tatsu-lab/alpaca", str(tmp_path / "alpaca")).replace("k=3000", "k=6")
    code = code.replace("HuggingFaceTB/SmolLM2-135M-Instruct", tiny_qwen2).replace("Qwen/Qwen2.5-0.5B", tiny_qwen2)
    settings = f"output_dir={str(tmp_path / 'out')!r}, max_steps=1, use_cpu=True, bf16=False, report_to='none'"
    code = code.replace("SFTConfig()", f"SFTConfig({settings})")
    assert code.count(str(tmp_path)) == 2 and code.count(tiny_qwen2) == 2
    names: dict = {}
    exec(code, names)
    assert len(names["subset"]) == 6 and "ifd" in names["subset"].column_names


def test_a_scorer_of_your_own(pool, tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with ScriptedServer(strong_model) as server:
        code = BLOCKS[1].replace("http://localhost:8000/v1", server.url).replace("Qwen/Qwen2.5-0.5B", tiny_qwen2)
        code = code.replace("max_requests=20_000", "store='answers'").replace("k=2000", "k=6, rounds=2")
        assert code.count(server.url) == code.count(tiny_qwen2) == code.count("k=6") == code.count("store=") == 1
        names = {"pool": pool.remove_columns("quality"), "hf_dsel": hf_dsel}
        exec(code, names)
    assert len(names["evolved"]) == 18
    assert all(1 <= value <= 6 for value in names["pool"]["quality"][:])


def test_why_and_replay(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"pool": pool, "hf_dsel": hf_dsel}
    exec(BLOCKS[2].replace("k=1000", "k=7"), names)
    assert len(names["record"]) == 7 and (tmp_path / "selection.json").exists()


def test_your_own_strategy(pool):
    names = {"pool": pool, "__name__": "yours"}
    exec(BLOCKS[3].replace("k=100", "k=8"), names)
    assert names["subset"]["response_words"][:] == [6] * 8


def test_a_bank(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dolly = pool.map(lambda row: {"instruction": f"Now {row['instruction']}"}).rename_column("output", "response")
    names = {"pool": pool, "dolly": dolly, "hf_dsel": hf_dsel}
    exec(BLOCKS[4].replace("size=6000", "size=10").replace("top(2000)", "top(4)"), names)
    assert len(names["top"]) == 4 and len(names["bank"].history) == 2 and "messages" in names["top"].column_names


def test_dynamics(pool, tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SFTConfig(output_dir="out", use_cpu=True, bf16=False, report_to="none", num_train_epochs=2)
    trainer = SFTTrainer(tiny_qwen2, args=config, train_dataset=hf_dsel.to_trl(pool))
    names = {"pool": pool, "trainer": trainer, "hf_dsel": hf_dsel}
    exec(BLOCKS[5], names)
    assert names["pool"]["dynamics_epochs"][:] == [2] * 24 and (tmp_path / "map.png").exists()
    for name in re.findall(r"dynamics_\w+", BLOCKS[5]):
        assert name in names["pool"].column_names


def test_reselect(pool, tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SFTConfig(output_dir="out", use_cpu=True, bf16=False, report_to="none", num_train_epochs=2)
    trainer = SFTTrainer(tiny_qwen2, args=config, train_dataset=hf_dsel.to_trl(pool))
    names = {"pool": pool, "trainer": trainer, "hf_dsel": hf_dsel}
    exec(BLOCKS[6].replace("k=6000", "k=5").replace('"ceiling": 1', '"ceiling": 9'), names)
    assert [len(s) for s in names["reselect"].selections.values()] == [5, 5]
    assert len(list((tmp_path / "out" / "selections").iterdir())) == 2


def test_publish(hub, pool, capsys):
    names = {"pool": pool, "subset": pool.select_by("random", k=5), "hf_dsel": hf_dsel}
    exec(BLOCKS[7].replace("me/", "user/"), names)
    assert names["again"].to_dict() == names["subset"].to_dict() and "hf_dsel/map.png" in hub.files("user/alpaca-1k")
    assert "the rows are what the record produces" in capsys.readouterr().out


def test_scores_and_a_bank_on_the_hub(hub, pool):
    pool = hf_dsel.score(pool, hf_dsel.Length(of="response", unit="words"))
    bank = hf_dsel.Bank(size=10)
    bank.update(pool, source="alpaca")
    names = {
        "pool": pool,
        "chats": hf_dsel.to_trl(pool.select_columns(["instruction", "input", "output"])),
        "bank": bank,
    }
    exec(BLOCKS[8].replace("me/", "user/"), names | {"hf_dsel": hf_dsel}, found := {})
    assert found["chats"]["response_words"][:] == pool["response_words"][:] and "prompt" in found["chats"].column_names
    assert len(found["bank"]) == 10 and found["bank"] is not bank


def test_every_strategy_has_a_row_and_every_scorer_is_named():
    for name in hf_dsel.strategy_names():
        assert f"| `{name}` |" in README
    for name in scorer_names():
        assert f"`{name}(" in README and hasattr(hf_dsel, name)


def test_the_commands_name_things_that_exist():
    assert (ROOT / re.search(r"python (recipes/\S+)", README).group(1)).exists()
    for path in re.findall(r"--config (\S+)", README):
        assert (ROOT / path).exists(), path
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"\.\[(\w+)\]", README):
        assert extra in extras

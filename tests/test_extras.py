"""Without a package that an extra brings, every command says in one line what to install; faults are shown whole."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.extras import MissingExtra, need

# Python reads this file when it starts. The packages are not found, as if they had never been installed.
SITECUSTOMIZE = """
import sys
from importlib.machinery import PathFinder

class Hiding:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        hidden = name.partition(".")[0] in ("lightgbm", "matplotlib", "spacy")
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""
# One program for all commands, for it takes seconds to start. A traceback would end it.
PROGRAM = """
import json, sys
from hf_dsel.cli import main
for command in json.loads(sys.argv[1]):
    print("$", main(command.split()), command, file=sys.stderr)
"""
COMMANDS = {
    "select pool.parquet --strategy random -k 3 --gate --out o": "the gate needs lightgbm: pip install 'hf-dsel[gate]'",
    "select pool.parquet --strategy random -k 3 --gate 0.5 --dry-run": "pip install 'hf-dsel[gate]'",
    "score pool.parquet --scorer Gate:embedder=null --out o": "pip install 'hf-dsel[gate]'",
    "score pool.parquet --scorer Length --scorer Gate:embedder=null --dry-run": "pip install 'hf-dsel[gate]'",
    "score pairs.parquet --scorer FlippedLabels:embedder=null --out o": "pip install 'hf-dsel[gate]'",
    "gate pool.parquet --text-only": "pip install 'hf-dsel[gate]'",
    "sft --config sft.yaml": "pip install 'hf-dsel[gate]'",
    "bank update bank pool.parquet --scorer Gate:embedder=null": "pip install 'hf-dsel[gate]'",
    "bank show bank --picture bank.png": "a bank's picture needs matplotlib: pip install 'hf-dsel[reporting]'",
    "push best me/best --pool pool.parquet --license mit --dry-run": "pip install 'hf-dsel[reporting]'. Or leave",
    "describe pool.parquet --parser en_core_web_sm": "en_core_web_sm needs spacy: pip install 'hf-dsel[parser]'"
    ", and the pipeline: python -m spacy download en_core_web_sm",
}


def test_each_command_says_it_in_one_line(tmp_path, tiny_qwen2):
    pool = Dataset.from_dict(
        {
            "instruction": [f"Say {i}." for i in range(9)], "output": [f"Well, {i}." for i in range(9)],
            "embedding": np.eye(9, dtype=np.float32).tolist(), "quality": [float(i) for i in range(9)],
        }
    )  # fmt: skip
    pool.to_parquet(str(tmp_path / "pool.parquet"))
    pairs = {"prompt": list("abc"), "chosen": list("def"), "rejected": list("ghi")}
    Dataset.from_dict(pairs).to_parquet(str(tmp_path / "pairs.parquet"))
    bank = hf_dsel.Bank(size=4, gamma=0)
    bank.update(pool, source="pool")
    bank.save(tmp_path / "bank")
    line = "select {0}/pool.parquet --strategy random -k 4 --no-compare --out {0}/best"
    assert main(line.format(tmp_path).split()) == 0
    (tmp_path / "sft.yaml").write_text(
        f"model_name_or_path: {tiny_qwen2}\ndataset_name: pool.parquet\noutput_dir: out\nuse_cpu: true\nbf16: false\n"
        "selection: {strategy: random, k: 3, gate: true}\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    places = [str(tmp_path / "site"), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"}
    environment |= {"PYTHONPATH": os.pathsep.join(places), "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(COMMANDS))], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    said: list[str] = []
    for printed in done.stderr.splitlines():
        said.append(printed)
        if printed.startswith("$ "):
            code, command = printed.split(" ", 2)[1:]
            errors = [text for text in said if text.startswith("hf-dsel ") and ": error: " in text]
            assert code == "2" and len(errors) == 1 and COMMANDS[command] in errors[0], "\n".join(said)
            said = []
    assert done.stderr.count("\n$ ") + done.stderr.startswith("$ ") == len(COMMANDS)
    assert not any((tmp_path / name).exists() for name in ("o", "out", "bank.png"))


def test_a_fault_of_somebodys_package_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_scorers.py").write_text(
        "class Broken:\n    def __call__(self, batch):\n        import no_such_package_of_theirs\n"
    )
    Dataset.from_dict({"text": ["a", "b"]}).to_parquet("pool.parquet")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_of_theirs"):
        main("score pool.parquet --scorer their_scorers.Broken --out o".split())
    (tmp_path / "their_package.py").write_text("import no_such_package_of_theirs\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package_of_theirs'") as found:
        need("their_package", "the gate", extra="gate")  # installing it again would not help
    assert not isinstance(found.value, MissingExtra)

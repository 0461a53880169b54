"""`hf-dsel sft | dpo`: one file is the whole experiment. Real TRL steps on tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM

import hf_dsel
from hf_dsel.cli import main
from hf_dsel.training.experiment import parsed

STEPS = {
    "dtype": "float32", "max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False,
    "report_to": "none", "save_strategy": "no", "learning_rate": "1e-3", "max_length": 64, "logging_steps": 1,
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n = 24
    rows = [{"instruction": f"Say number {i}.", "input": "", "output": f"It is {i} " * (1 + i % 4)} for i in range(n)]
    Dataset.from_list([row | {"quality": float(i)} for i, row in enumerate(rows)]).to_parquet("pool.parquet")
    pairs = [
        {
            "prompt": f"Question {i}?",
            "chosen": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": f"Good {i}"}],
            "rejected": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": "Bad"}],
            "score_chosen": float(i % 7),
            "score_rejected": float(i % 3),
        }
        for i in range(n)
    ]
    Dataset.from_list(pairs).to_parquet("pairs.parquet")
    return tmp_path


def write(name, model, selection, **more):
    file = {"model_name_or_path": model, "output_dir": "out", **STEPS, **more}
    if selection is not None:
        file["selection"] = selection
    Path(name).write_text(yaml.safe_dump(file))


def weights(folder):
    return {n: p for n, p in AutoModelForCausalLM.from_pretrained(folder).named_parameters()}


def test_sft_scores_selects_and_trains(place, tiny_qwen2, tiny_bert, capsys):
    selection = {
        "strategy": "qdit",
        "k": 6,
        "params": {"quality": "ifd", "scale": "rank"},
        "scorers": [{"name": "IFD", "model": tiny_qwen2}, f"Embed:model={tiny_bert}"],
        "cache_dir": "scores",
    }
    write("x.yaml", tiny_qwen2, selection, dataset_name="pool.parquet")
    assert main(["sft", "--config", "x.yaml"]) == 0
    record = hf_dsel.Selection.load("out/selection.json")
    pool = hf_dsel.score(
        Dataset.from_parquet("pool.parquet"), [hf_dsel.IFD(tiny_qwen2), hf_dsel.Embed(tiny_bert)], cache_dir="scores"
    )
    expected = hf_dsel.select(pool, "qdit", k=6, quality="ifd", scale="rank")
    assert record.indices.tolist() == expected.indices.tolist()
    before, after = weights(tiny_qwen2), weights("out")
    assert any((before[n] != after[n]).any() for n in before)
    printed = capsys.readouterr().out
    for text in ("6 of 24 rows, recorded in out/selection.json", "ifd, mean", "the first picks", "'loss'"):
        assert text in printed


def test_dpo_trains_on_the_pairs(place, tiny_qwen2, capsys):
    selection = {
        "strategy": "top_k",
        "k": 6,
        "params": {"column": ["score_chosen", "score_rejected"], "weights": [1, -1]},
    }
    write("d.yaml", tiny_qwen2, selection, dataset_name="pairs.parquet")
    assert main(["dpo", "--config", "d.yaml", "--selection.k", "4", "--beta", "0.5", "--output_dir", "other"]) == 0
    record = hf_dsel.Selection.load("other/selection.json")
    assert record.budget == {"k": 4} and record.gains.tolist() == [6, 5, 5, 4]
    assert "train_loss" in capsys.readouterr().out and not Path("out").exists()


def test_evaluation_and_mixtures_of_trl(place, tiny_qwen2, capsys):
    data = Dataset.from_parquet("pool.parquet")
    data.select(range(20)).to_parquet("both/train.parquet")
    data.select(range(20, 24)).to_parquet("both/test.parquet")
    write("x.yaml", tiny_qwen2, {"strategy": "random", "k": 4, "compare": False}, dataset_name="both",
          eval_strategy="steps", eval_steps=1)  # fmt: skip
    assert main(["sft", "--config", "x.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "'eval_loss'" in printed and "random (mean" not in printed
    write("m.yaml", tiny_qwen2, {"strategy": "random", "k": 30}, datasets=[{"path": "both"}, {"path": "both"}])
    assert main(["sft", "--config", "m.yaml"]) == 0
    assert hf_dsel.Selection.load("out/selection.json").source.rows == 40


def test_flags_and_the_file_meet(place, tiny_qwen2):
    write("x.yaml", tiny_qwen2, {"strategy": "qdit", "k": 5, "params": {"alpha": 0.5}}, dataset_name="pool.parquet",
          env={"HF_DSEL_TEST_ENV": 7})  # fmt: skip
    found = parsed("sft", ["--config", "x.yaml", "--selection.params.alpha=0.25", "--max_steps", "9"])
    assert found.block.rule.alpha == 0.25 and found.block.k == 5
    assert (found.training.max_steps, found.training.learning_rate) == (9, 1e-3)
    assert os.environ.pop("HF_DSEL_TEST_ENV") == "7"
    found = parsed("sft", ["--config=x.yaml", "--selection.strategy", "random", "--selection.fraction=1e-1"])
    assert found.block.rule == hf_dsel.strategies.strategy_class("random")()
    assert (found.block.k, found.block.fraction) == (None, 0.1)
    nothing_but_flags = ["--selection.strategy", "random", "--selection.max-tokens", "9", "--use_cpu"]
    assert parsed("dpo", nothing_but_flags).block.max_tokens == 9


@pytest.mark.parametrize(
    ("command", "change", "flags", "message"),
    [("sft", {"selection": None}, "", "no selection: block in x.yaml; to train on every row use trl sft"),
     ("sft", {"selection": ["qdit"]}, "", "selection: must be a mapping"),
     ("sft", {"selection": {"strategy": "qdit", "kk": 3}}, "", "x.yaml: selection: unknown key 'kk'; did you mean 'k'"),
     ("sft", {"selection": {"strategy": "qdt", "k": 3}}, "", "unknown strategy 'qdt'; did you mean 'qdit'"),
     ("sft", {"selection": {"strategy": "random", "k": 99}}, "", "k=99 is more than the 24 rows"),
     ("sft", {"learning_rat": 1}, "", "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
     ("sft", {"num_processes": 2}, "", "accelerate launch --num_processes 2 -m hf_dsel sft --config x.yaml"),
     ("sft", {"max_steps": "many"}, "", "invalid int value: 'many'"),
     ("sft", {"dataset_name": None}, "", "which dataset? Give dataset_name"),
     ("sft", {"dataset_name": "nosuch.json"}, "", "no file or folder 'nosuch.json'"),
     ("sft", {"dataset_name": "pairs.parquet"}, "", "sft needs a dataset with answers; this one is read as preference"),
     ("dpo", {}, "", "dpo needs a dataset with chosen and rejected; this one is read as alpaca"),
     ("sft", {"dataset_streaming": True}, "", "leave streaming out"),
     ("sft", {"model_name_or_path": None}, "", "model_name_or_path is missing"),
     ("sft", {"model_name_or_path": "./nosuch"}, "", "model='./nosuch': no such folder"),
     ("sft", {}, "--max_stepps 3", "unknown argument '--max_stepps'; did you mean 'max_steps'"),
     ("sft", {}, "--selection.k", "--selection.k needs a value"),
     ("sft", {}, "--selection.kay 3", "unknown key 'kay'; did you mean 'k'"),
     ("dpo", {"dataset_name": "pairs.parquet"}, "--selection.where [score_chosen>99]", "no row fulfils")],
)  # fmt: skip
def test_bad_input_is_one_line(place, tiny_qwen2, capsys, command, change, flags, message):
    file = {"selection": {"strategy": "random", "k": 3}, "dataset_name": "pool.parquet"} | change
    write("x.yaml", **({"model": tiny_qwen2, "selection": file.pop("selection")} | file))
    capsys.readouterr()
    assert main([command, "--config", "x.yaml", *flags.split()]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-dsel ")]
    assert len(lines) == 1 and message in lines[0] and not Path("out/model.safetensors").exists()


def test_a_model_without_a_chat_template_is_noticed_before_scoring(place, tiny_llama, tiny_qwen2, capsys):
    selection = {"strategy": "random", "k": 4, "scorers": [f"IFD:model={tiny_qwen2}"], "cache_dir": "scores"}
    write("x.yaml", tiny_llama, selection, dataset_name="pool.parquet")
    assert main(["sft", "--config", "x.yaml"]) == 2
    assert "has no chat template to write them with; set chat_template_path" in capsys.readouterr().err
    assert not Path("scores").exists()
    assert main(["sft", "--config", "x.yaml", "--chat_template_path", tiny_qwen2]) == 0


def test_errors_of_the_training_itself_are_shown_whole(place, tiny_qwen2):
    write(
        "x.yaml",
        tiny_qwen2,
        {"strategy": "random", "k": 4},
        dataset_name="pool.parquet",
        resume_from_checkpoint="nosuch",
    )
    with pytest.raises(ValueError, match="nosuch"):
        main(["sft", "--config", "x.yaml"])


def trl(command, place, **more):
    Path("t.yaml").write_text(yaml.safe_dump({"output_dir": "plain", "num_processes": 1, **STEPS, **more}))
    environment = os.environ | {"TRL_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    line = [str(Path(sys.executable).with_name("trl")), command, "--config", "t.yaml"]
    return subprocess.run(line, capture_output=True, text=True, cwd=place, env=environment)


@pytest.mark.parametrize(("command", "pool"), [("sft", "pool.parquet"), ("dpo", "pairs.parquet")])
def test_plain_trl_takes_what_select_wrote(place, tiny_qwen2, command, pool):
    assert main(["select", pool, "--strategy", "random", "-k", "4", "--out", "subset"]) == 0
    found = trl(command, place, model_name_or_path=tiny_qwen2, datasets=[{"path": "subset"}])
    assert found.returncode == 0, found.stderr[-2000:]
    assert "Training completed" in found.stdout and (place / "plain/model.safetensors").exists()
    assert len(load_dataset("subset", split="train")) == 4


@pytest.mark.distributed
def test_two_ranks_share_the_scoring_and_train_on_one_selection(place, tiny_qwen2):
    Path("probe.py").write_text(
        "import json, os, sys\n"
        "import torch.distributed\n"
        "from hf_dsel.training import experiment\n"
        "train = experiment.train\n"
        "def told(what, subset, held_out):\n"
        "    rows = [str(row) for row in subset]\n"
        "    rank = os.environ['RANK']\n"
        "    facts = {'rows': rows, 'world': torch.distributed.get_world_size()}\n"
        "    open(f'rank-{rank}.json', 'w').write(json.dumps(facts))\n"
        "    train(what, subset, held_out)\n"
        "experiment.train = told\n"
        "from hf_dsel.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    selection = {"strategy": "top_k", "k": 5, "params": {"column": "ifd"}, "scorers": [f"IFD:model={tiny_qwen2}"],
                 "cache_dir": "scores"}  # fmt: skip
    write("x.yaml", tiny_qwen2, selection, dataset_name="pool.parquet")
    line = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--standalone",
        "probe.py",
        "sft",
    ]
    found = subprocess.run([*line, "--config", "x.yaml"], capture_output=True, text=True, timeout=240,
                           env=os.environ | {"OMP_NUM_THREADS": "1", "TRL_DISABLE_TELEMETRY": "1"})  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    ranks = [json.loads(Path(f"rank-{r}.json").read_text()) for r in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0]["world"] == 2 and len(ranks[0]["rows"]) == 5
    assert found.stdout.count("the first picks") == 1 and Path("out/model.safetensors").exists()

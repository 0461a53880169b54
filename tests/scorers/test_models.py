from __future__ import annotations

import shutil

import pytest
import torch

from hf_dsel.scorers import models
from hf_dsel.scorers.models import Checkpoint, ModelNotLoaded, pick_device, pick_dtype


def test_one_load_for_one_model_and_two_models_at_most(tiny_qwen2, tiny_llama, tiny_bert):
    models.release()
    first = Checkpoint(tiny_qwen2).load("causal", dtype="float32")
    assert Checkpoint(tiny_qwen2).load("causal", dtype="float32") is first
    assert Checkpoint(tiny_qwen2).load("backbone", dtype="float32") is first.base_model
    assert Checkpoint(tiny_qwen2).load("causal", dtype="bfloat16") is not first
    Checkpoint(tiny_llama).load("causal")
    Checkpoint(tiny_bert).load("backbone")
    assert len(models._loaded) == models.KEPT_MODELS
    assert not any(p.requires_grad for p in first.parameters()) and not first.training


def test_the_precision(tiny_qwen2):
    assert Checkpoint(tiny_qwen2).load("causal", dtype="bfloat16").dtype == torch.bfloat16
    assert pick_dtype("float32", torch.device("cpu")) == torch.float32
    assert pick_dtype(None, torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert pick_dtype(None, torch.device("meta")) == torch.float32
    with pytest.raises(ValueError, match="int4"):
        pick_dtype("int4", torch.device("cpu"))
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
def test_each_rank_has_its_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))  # one more than there are: starts again at 0
    assert pick_device(None) == torch.device("cuda", 0)


def test_gguf_names():
    assert Checkpoint("a/b/c.gguf").folder == "a/b" and Checkpoint("a/b/c.gguf").gguf_file == "c.gguf"
    assert Checkpoint("a/b").gguf_file is None


def test_a_file_that_is_no_gguf(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelNotLoaded, match=r"model\.gguf.*\n?Next: "):
        Checkpoint(str(tmp_path / "model.gguf")).load("causal")


def test_damaged_weights(tiny_qwen2, tmp_path):
    shutil.copytree(tiny_qwen2, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ModelNotLoaded, match="cannot read the weights"):
        Checkpoint(str(tmp_path / "model")).load("causal")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelNotLoaded, match=r"(?s)weights.*Next: check that the folder"):
        Checkpoint(str(tmp_path / "model")).load("causal")


@pytest.mark.parametrize("name", ["gpt2", "user/name", "user/name-1.5_x"])
def test_hub_ids(name):
    assert models.looks_like_hub_id(name)
    Checkpoint(name).check()


@pytest.mark.parametrize("name", ["./model", "../model", "/a/b", "a/b/c", "~/model"])
def test_paths_that_are_not_there(name):
    with pytest.raises(ModelNotLoaded, match="Check the path"):
        Checkpoint(name).check()


def test_a_folder_that_was_written_anew_is_read_anew_after_release(tiny_qwen2, tiny_llama, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen2, folder)
    checkpoint = Checkpoint(str(folder))
    before = checkpoint.tokenizer().bos_token, checkpoint.config().model_type
    shutil.rmtree(folder)
    shutil.copytree(tiny_llama, folder)
    models.release()
    assert before == (None, "qwen2")
    assert (checkpoint.tokenizer().bos_token, checkpoint.config().model_type) == ("<|begin|>", "llama")

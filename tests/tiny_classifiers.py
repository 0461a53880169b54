"""Random sequence classifiers of a few thousand weights, saved with their head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers as tf

CHAT = (
    "{{ bos_token or '' }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_classifier(
    family: str,
    tokenizer: Any,
    common: dict[str, Any],
    folder: Path,
    *,
    labels: int = 1,
    pad: bool = True,
    seed: int = 7,
) -> str:
    """Save a random classifier of a family and the tokenizer to a folder, and give the folder back as a string.

    Args:
        common: arguments of the config, as the fixture `tiny_sizes` has them.
        labels: how many logits it has.
        pad: whether its config has a pad token.
    """
    tf.set_seed(seed)
    common = common | {"num_labels": labels, "pad_token_id": common["pad_token_id"] if pad else None}
    short = {k: common[k] for k in ("vocab_size", "pad_token_id", "eos_token_id", "bos_token_id", "num_labels")}
    config = {
        "qwen2": lambda: tf.Qwen2Config(**common, num_key_value_heads=2),
        "llama": lambda: tf.LlamaConfig(**common, num_key_value_heads=4),
        "mistral": lambda: tf.MistralConfig(**common, num_key_value_heads=2, sliding_window=16),
        "gpt2": lambda: tf.GPT2Config(**short, n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3),
        "bert": lambda: tf.BertConfig(**common),
        "roberta": lambda: tf.RobertaConfig(**(common | {"max_position_embeddings": 514})),
        "deberta": lambda: tf.DebertaV2Config(
            **common, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0
        ),
    }[family]()
    model = tf.AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)

# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Numbers of our own in a TRL trainer's logs, where wandb, trackio and TensorBoard find them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any


def log(trainer: Any, numbers: Mapping[str, float]) -> None:
    """A record of its own; the means that TRL is gathering stay for the trainer's next one, which is still due."""
    if not numbers:
        return
    means, due = trainer._metrics["train"], trainer.control.should_log
    trainer._metrics["train"] = defaultdict(list)
    try:
        trainer.log(dict(numbers))
    finally:
        trainer._metrics["train"] = means
        trainer.control.should_log = due

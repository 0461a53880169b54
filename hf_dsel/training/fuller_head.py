# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""More numbers a token out of a bound trainer's model, while it trains and no longer."""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

from hf_dsel.training.sequence_stats import PER_TOKEN, language_model


@dataclass
class FullerHead:
    """Has the forward pass return Σ_v p_v² too (`PER_TOKEN`), from the tiles that it goes through anyway.

    `on` and `off` change the model's forward pass and put it back. What wraps it meanwhile, as accelerate does for
    bfloat16, stays around a forward pass that is the stock one again.

    Args:
        model: a bound trainer's, with adapters or not.
    """

    model: Any
    _stock: Any = None
    _fuller: Any = None
    _ours: Any = None
    _is_on: bool = False

    def on(self) -> None:
        """From now on."""
        model = language_model(self.model)
        if self._ours is None or (model.forward is not self._ours and not self._is_within(model)):
            self._install(model)
        self._is_on = True

    def off(self) -> None:
        """As before `on`."""
        self._is_on = False
        model = language_model(self.model)
        if self._ours is not None and model.forward is self._ours:
            model.forward = self._stock
            self._ours = None

    def _is_within(self, model: Any) -> bool:
        """Whether accelerate wrapped our forward pass; it does so once for a model and keeps it so."""
        return getattr(model, "_original_forward", None) is self._ours

    def _install(self, model: Any) -> None:
        from trl.trainer.utils import add_fused_lm_head

        self._stock = stock = model.forward
        add_fused_lm_head(model, outputs=PER_TOKEN)
        self._fuller = model.forward

        @functools.wraps(type(model).forward)  # `generate` reads its signature
        def forward(_: Any, *args: Any, **kwargs: Any) -> Any:
            return (self._fuller if self._is_on else stock)(*args, **kwargs)

        model.forward = self._ours = types.MethodType(forward, model)

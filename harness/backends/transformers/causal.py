"""A causal language model in two parts: hidden states of a sequence, and their logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Causal:
    """A model's decoder and head, called separately where that gives the model's own logits.

    Separately, logits, which are as wide as the vocabulary, are made only for the positions that
    need them. Models whose logits are more than `head(states)` (a scale, a soft cap) are found by
    trying once; for them `states` are the logits themselves.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._plain: bool | None = None

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    def states(self, ids: Tensor, **arguments: Any) -> Tensor:
        """Hidden states (batch, length, width) for token ids (batch, length)."""
        if self._plain is None:
            self._plain = self._probe()
        if self._plain:
            hidden: Tensor = self._base.get_decoder()(ids, **arguments).last_hidden_state
            return hidden
        logits: Tensor = self.model(ids, **arguments).logits
        return logits

    def logits(self, states: Tensor) -> Tensor:
        """Logits (n, vocabulary) for states (n, width)."""
        if not self._plain:
            return states
        head = self._base.get_output_embeddings()
        logits: Tensor = head(states.to(head.weight.dtype))
        return logits

    @property
    def _base(self) -> Any:
        """The transformers model itself: PEFT puts its layers into it, and wraps it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _probe(self) -> bool:
        active = getattr(self.model, "active_peft_config", None)
        if active is not None and active.is_prompt_learning:
            return False
        size = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.arange(8, device=self.device)[None] * 31 % size
        try:
            whole = self.model(ids, use_cache=False).logits
            hidden = self._base.get_decoder()(ids, use_cache=False).last_hidden_state
            apart = self._base.get_output_embeddings()(hidden)
        except (AttributeError, TypeError, RuntimeError):
            return False
        return whole.shape == apart.shape and close(whole, apart)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two sets of logits of one shape are equal up to rounding in their dtype."""
    tolerance = 1e-4 if a.dtype == torch.float32 else 3e-2
    scale = max(float(a.abs().max()), 1.0)
    return float((a - b).abs().max()) <= tolerance * scale


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode for every module within the `with` block, and afterwards each as it was.

    A Trainer's mixed precision is taken off as well. It is wrapped around `forward` and rounds to
    bf16, so that a model in training would answer differently than its weights read from files.
    """
    training = [module for module in model.modules() if module.training]
    mixed = [module for module in model.modules() if "_original_forward" in vars(module)]
    wrapped = [module.forward for module in mixed]
    for module in training:
        module.training = False
    for module in mixed:
        module.forward = module._original_forward
    try:
        yield
    finally:
        for module, forward in zip(mixed, wrapped, strict=True):
            module.forward = forward
        for module in training:
            module.training = True

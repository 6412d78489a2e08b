"""A causal language model in two parts: hidden states of a sequence, and their logits."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS = 16
"""What is computed has a multiple of this many rows. For fewer, a processor's products have kernels
of their own, which round otherwise."""
_COLUMNS = 32
_LOOK_ON_GPU = 16
# Settings of a model that looks at a part of the text only.
_PARTIAL = re.compile(r"window(_size|_len)?$|attention_chunk|local_att|index_topk|attention_types")


@dataclass(frozen=True, slots=True)
class Reading:
    """The states of a text, (batch, length, width), and all that the model gave with them."""

    states: Tensor
    output: Any


class Causal:
    """A model's decoder and head, called separately where that gives the model's own logits.

    Separately, logits, which are as wide as the vocabulary, are made only for the positions that
    need them. Models whose logits are more than `head(states)` (a scale, a soft cap) are found by
    trying once; for them `states` are the logits themselves.
    """

    def __init__(self, model: Any, *, look: int | None = None) -> None:
        self.model = model
        self._plain: bool | None = None
        # Whether a text may stand beside a longer one, filled up on the right.
        self.pads = True
        # Whether a long text's logits hang on how long it is: some choose which parts they look at
        # among all there are. A cache then gives others than reading the text whole does.
        self.leaks = False
        self._look = look
        # Bytes that the keys and values of one token take, and other states of one row, once seen.
        self.token_bytes: int | None = None
        self.row_bytes = 0
        # How many tokens went through the layers, those that only fill up included.
        self.tokens_read = 0
        # Some models have no word for it, since they never keep anything.
        self._uncached: dict[str, Any] = {"use_cache": False}

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def embeddings(self) -> int | None:
        """For how many tokens the model has one; None where its class doesn't say."""
        module = self.model.get_input_embeddings()
        return getattr(getattr(module, "base_layer", module), "num_embeddings", None)

    @property
    def narrowest(self) -> float:
        """The narrowest view of a layer, in places. In a longer text attention is asked how far
        back it sees, and summed from there; on a GPU, where asking is dear, it never is.
        """
        views = partial_views(self.config) if self.device.type == "cpu" else []
        return min((view for view in views if isinstance(view, int)), default=math.inf)

    @property
    def look(self) -> int:
        """After how many steps of writing the host looks at what was written. On a GPU a look makes
        the device wait; on a processor it costs nothing, and what is written past an end does.
        """
        return self._look or (1 if self.device.type == "cpu" else _LOOK_ON_GPU)

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    @property
    def base(self) -> Any:
        """The transformers model: PEFT puts its layers into it, and stands around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def turns_at(self) -> int | None:
        """A text longer than this has other positions from its first token on (longrope), so that
        it can't be read beside a shorter one, nor can one grow past it in a cache. None: no such
        length.
        """
        rope = getattr(self.config, "rope_parameters", None) or {}
        kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
        lengths = [
            kind.get("original_max_position_embeddings")
            for kind in kinds
            if kind.get("rope_type") == "longrope"
        ]
        return min((length for length in lengths if length), default=None)

    @property
    def cut_up_to(self) -> float:
        """The longest text, in tokens, that may be read in pieces, each token with its position."""
        config = self.config
        # From there on Llama 4 scales scores by places which it counts itself.
        tuned = getattr(config, "attn_temperature_tuning", None)
        scaled = getattr(config, "floor_scale", None) if tuned else None
        return min(self.turns_at or math.inf, scaled - 1 if scaled else math.inf)

    def read(self, ids: Tensor, **arguments: Any) -> Reading:
        """Read token ids (batch, length), with the model's own arguments."""
        if self._plain is None:
            self._plain = self._probe()
        self.tokens_read += ids.numel()
        if self._plain:
            output = self.base.get_decoder()(ids, **arguments)
            return Reading(output.last_hidden_state, output)
        output = self.model(ids, **arguments)
        return Reading(output.logits, output)

    def states(self, ids: Tensor, **arguments: Any) -> Tensor:
        """(batch, length, width) for token ids (batch, length)."""
        return self.read(ids, **arguments).states

    def whole(self, ids: Tensor) -> Tensor:
        """The states of texts that are read from their beginning, with nothing kept."""
        if self._plain is None:
            self._plain = self._probe()
        return self.states(ids, **self._uncached)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (n, vocabulary) for states (n, width)."""
        if not self._plain:
            return states
        head = self.base.get_output_embeddings()
        logits: Tensor = head(states.to(head.weight.dtype))
        return logits

    def wide_logits(self, states: Tensor) -> Tensor:
        """Logits for states (n, width), n a multiple of `ROWS`: with -inf behind the vocabulary up
        to a multiple of a vector's length, since what is left over is rounded otherwise, and where
        that lies hangs on how many rows there are.
        """
        logits = self.logits(states)
        missing = -logits.shape[-1] % _COLUMNS
        if missing:
            logits = torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))
        return logits

    def _probe(self) -> bool:
        size = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.arange(8, device=self.device)[None] * 31 % size
        try:
            whole = self.model(ids, **self._uncached).logits
        except TypeError:
            self._uncached = {}
            whole = self.model(ids).logits
        active = getattr(self.model, "active_peft_config", None)
        if active is not None and active.is_prompt_learning:
            return False
        try:
            hidden = self.base.get_decoder()(ids, **self._uncached).last_hidden_state
            apart = self.base.get_output_embeddings()(hidden)
        except (AttributeError, TypeError, RuntimeError, ValueError, LookupError):
            return False
        return whole.shape == apart.shape and close(whole, apart)


def partial_views(config: Any) -> list[Any]:
    """The settings of `config` that make a model look at a part of the text only."""
    if not getattr(config, "use_sliding_window", True):
        return []
    return [value for name, value in vars(config).items() if _PARTIAL.search(name) and value]


def filled_up(states: Tensor) -> Tensor:
    """States (n, width) with rows of zeros behind them, up to a multiple of `ROWS`."""
    missing = -len(states) % ROWS
    return torch.nn.functional.pad(states, (0, 0, 0, missing)) if missing else states


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

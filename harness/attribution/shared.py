"""What many prompts begin with, read once: the keys and values of a model's attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 4
"""Tokens that are worth it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first `length` tokens as each layer holds them: keys and values of one row; `name` is
    under which the model hands its cache out and takes it back.
    """

    name: str
    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int

    def carried(self, rows: int) -> dict[str, Any]:
        """What so many rows that begin like this are read with; derivatives of whatever kind flow
        through it.
        """
        from transformers.cache_utils import DynamicCache

        made = DynamicCache()
        for number, (keys, values) in enumerate(self.layers):
            made.update(
                keys.expand(rows, *keys.shape[1:]), values.expand(rows, *values.shape[1:]), number
            )
        return {self.name: made, "use_cache": True}


def begun(model: Any, ids: Sequence[int], call: Callable[..., Any] | None = None) -> Begun | None:
    """`ids` as `call` (the model itself) reads them. None where they are too few, or the model's
    layers keep something else than all keys and values: such a prompt is read as a whole.
    """
    import torch
    from transformers.cache_utils import DynamicLayer

    adapter = getattr(model, "active_peft_config", None)
    if len(ids) < FEWEST or getattr(adapter, "is_prompt_learning", False):
        return None
    given = torch.tensor([list(ids)], device=model.device)
    said = (call or model)(input_ids=given, use_cache=True)
    names = [name for name in ("cache", "past_key_values") if getattr(said, name, None) is not None]
    layers = getattr(getattr(said, names[0]), "layers", None) if names else None
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return Begun(names[0], tuple((layer.keys, layer.values) for layer in layers), len(ids))


def common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return same

"""The model as its stage began with it, lent back for a moment: what a policy is held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def first_state(model: Any, *, but: str | None = None) -> dict[str, Tensor]:
    """A copy of everything that the training will change of the language model: the adapter's
    weights of any kind, biases, and modules that are trained whole. `but` names a module that says
    nothing of what the model answers.
    """
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (but is None or but not in name)
    }


@contextmanager
def lent(model: Any, began: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with those weights in place of its own, which come back bit for bit. They change
    places, and none is written over: a loss that is yet to be derived keeps what it was made of.
    """
    own = {name: model.get_parameter(name) for name in began}
    now = {name: parameter.data for name, parameter in own.items()}
    _put(own, began)
    try:
        yield
    finally:
        _put(own, now)


def _put(own: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    import torch

    for name, tensor in weights.items():
        own[name].data = tensor.to(own[name].device, own[name].dtype)
    torch.clear_autocast_cache()  # else what was rounded of the others is read once more


@contextmanager
def without_second_adapter(model: Any) -> Iterator[None]:
    """While TRL's trainer is made. It keeps the first state as a second adapter `ref`, which knows
    nothing of biases (they lie in the base, and peft allows no second adapter beside them), and
    where nothing is copied of an adapter on embeddings. One that begins with a part of the base
    would take a part of it once more. There the first state is lent back wherever
    TRL switches the adapter off.
    """
    config = getattr(model, "peft_config", {}).get("default")
    bias = getattr(config, "bias", "none")
    init = getattr(config, "init_lora_weights", True)
    embeds = any("lora_embedding_" in name for name, _ in model.named_parameters())
    if config is None or (bias == "none" and not embeds and init not in ("pissa", "olora")):
        yield
        return
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    began = first_state(model)
    config.bias, config.init_lora_weights = "none", True
    try:
        yield
    finally:
        if "ref" in model.peft_config:
            model.delete_adapter("ref")
        config.bias, config.init_lora_weights = bias, init
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
    model.disable_adapter = lambda: lent(model, began)

"""Puts the weights of the adapter that a training starts from into the recipe's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.models.architecture import other_parts
from trainers.methods.ppo.settings import VALUE_HEAD

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_INSIDE = "base_model.model."
"""Before a base's own names, where peft writes them."""


def continue_from(model: Any, start: Path, also_trained: tuple[str, ...]) -> None:
    """Load the adapter at `start` into the model's. Raises UserError where part of it would be
    lost, or is not there.
    """
    from peft.utils.save_and_load import (
        get_peft_model_state_dict,
        load_peft_weights,
        set_peft_model_state_dict,
    )

    # PPO's value head stays behind: it judges the model that it was trained with. A PPO that goes
    # on from another trainer's checkpoint begins with the head that it has.
    new = get_peft_model_state_dict(model, save_embedding_layers=False)
    found = {
        name: weight
        for name, weight in load_peft_weights(str(start), device="cpu").items()
        if VALUE_HEAD not in name or VALUE_HEAD in also_trained
    }
    _leave_what_reads_no_text(model, found)
    _leave_what_the_base_has(model, new, found)
    # peft would put what the adapter has no place for into the base, and save it never again.
    if homeless := sorted(found.keys() - new.keys()):
        raise UserError(
            f"the checkpoint to start from has weights that the recipe's adapter doesn't: "
            f"{homeless[0]}" + (f", and {len(homeless) - 1} more" if len(homeless) > 1 else ""),
            file=start / ADAPTER_WEIGHTS,
            hint="set `targets` and `modules_to_save` of the recipe's adapter as it was trained",
        )
    _require_whole(start, new, found)
    try:
        set_peft_model_state_dict(model, {**new, **found})
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint to start from doesn't fit the recipe's adapter: "
            f"{str(error).strip().splitlines()[-1].strip()}",
            file=start / ADAPTER_WEIGHTS,
            hint="set `adapter` as the checkpoint was trained",
        ) from None


def _leave_what_reads_no_text(model: Any, found: dict[str, Any]) -> None:
    """Adapters on a vision tower that were saved as they began change nothing, and are left."""
    parts = other_parts(model.get_base_model())
    for name in list(found):
        module = name.removeprefix(_INSIDE).partition(".lora_")[0]
        if not any(module.startswith(f"{part}.") for part in parts):
            continue
        after = found.get(f"{_INSIDE}{module}.lora_B.weight")
        if name.endswith(".lora_A.weight") and after is not None and not after.any():
            del found[name], found[f"{_INSIDE}{module}.lora_B.weight"]


def _leave_what_the_base_has(model: Any, new: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Beside an adapter on one of a model's ends peft saves that end's own weight."""
    import torch

    now = model.state_dict()
    for name in found.keys() & now.keys() - new.keys():
        own, weight = now[name].cpu(), found[name].cpu()
        if own.shape == weight.shape and torch.equal(own, weight.to(own.dtype)):
            del found[name]


def _require_whole(start: Path, new: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises UserError for an adapter that lacks what its own configuration says it has: in its
    place there would be weights as a training begins with them.
    """
    from peft import PeftConfig

    config: Any = PeftConfig.from_pretrained(str(start))
    if config.is_prompt_learning:
        return
    missing = sorted(n for n in new.keys() - found.keys() if _is_said_to_be_there(n, config))
    if missing:
        raise UserError(
            f"the adapter to start from lacks {len(missing)} of its own weights: {missing[0]}",
            file=start / ADAPTER_WEIGHTS,
            hint="copy the adapter again",
        )


def _is_said_to_be_there(name: str, config: Any) -> bool:
    from peft.tuners.tuners_utils import check_target_module_exists

    inside = name.removeprefix(_INSIDE)
    if VALUE_HEAD in inside:
        return False
    if any(f".{saved}." in f".{inside}" for saved in config.modules_to_save or ()):
        return True
    adapted, lora, _ = inside.partition(".lora_")
    module = adapted if lora else inside.rpartition(".")[0].removesuffix(".base_layer")
    if not lora and config.bias != "lora_only":
        return bool(config.bias == "all")
    return bool(check_target_module_exists(config, module))

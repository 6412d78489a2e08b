"""Puts an adapter around its base, all of it or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.models.architecture import other_parts

BASE_KEPT = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to begin an adapter (peft's `init_lora_weights`) that leave the base as it is; the others
move part of its weights into the adapter, which then belongs to another base."""

_OF_THE_TRAINING = frozenset({"value_head", "v_head"})
"""Modules that judged while the adapter was trained, and say nothing of what it answers."""


_LEAVES_SOMETHING = (
    *("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication"),
    *("alora_invocation_tokens", "arrow_config", "corda_config", "eva_config", "loftq_config"),
)
"""Settings of an adapter that leaves something of its own in the base when it is taken off."""


def put_on(base: Any, folder: Path) -> Any:
    """The base with the adapter in `folder` around it. Raises UserError where weights that the
    adapter's configuration speaks of are not there, or the base has no place for those that are:
    what answered would be another model than the one that was trained.
    """
    from peft import PeftModel

    parts = other_parts(base)
    model: Any = PeftModel.from_pretrained(base, folder, torch_device="cpu")
    name = model.active_adapter
    if model.peft_config[name].is_prompt_learning:
        return model
    # Read once more: only this tells what had no place, and what place had nothing.
    result = model.load_adapter(str(folder), name, torch_device="cpu")
    missing = {*result.missing_keys, *_unsaved(model, folder)}
    missing = {n for n in missing if not any(f".{part}." in n for part in parts)}
    homeless = [n for n in result.unexpected_keys if not _OF_THE_TRAINING & set(n.split("."))]
    for names, what in (
        (missing, f"the adapter lacks {len(missing)} of its own weights"),
        (homeless, f"the base has no place for {len(homeless)} of the adapter's weights"),
    ):
        if names:
            raise UserError(
                f"{what}: {min(names)}",
                file=folder,
                hint="copy the adapter again, and name the base that it was trained on",
            )
    return model


def exchanged(model: Any, folder: Path | None) -> Any | None:
    """The base of `model` with the adapter in `folder` (None: with none) in place of what is on it,
    which is then nobody's; None where that has changed the base itself. Raises UserError as
    `put_on` does.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    config = getattr(model, "active_peft_config", None)
    if config is None:
        if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
            return None
        base = model
    else:
        if config.is_prompt_learning or not hasattr(model, "unload"):
            return None
        if not _comes_off_whole(config):
            return None
        if getattr(config, "init_lora_weights", True) not in BASE_KEPT:
            return None
        base = model.unload()
    return base.eval() if folder is None else put_on(base, folder).eval()


def _comes_off_whole(config: Any) -> bool:
    """Whether a base is what it was once the adapter is taken off. PiSSA, OLoRA and others take
    their beginning out of the base's own weights, when they are read as well.
    """
    begun = getattr(config, "init_lora_weights", True) in (True, False, "gaussian")
    left = any(getattr(config, name, None) for name in _LEAVES_SOMETHING)
    return begun and not left and getattr(config, "bias", "none") == "none"


def _unsaved(model: Any, folder: Path) -> set[str]:
    """Biases that the adapter has trained by its configuration and that its file lacks."""
    from peft.utils.save_and_load import get_peft_model_state_dict, load_peft_weights

    if getattr(model.active_peft_config, "bias", "none") == "none":
        return set()
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    found = load_peft_weights(str(folder), device="cpu")
    return {n for n in expected if n.endswith(".bias")} - found.keys()

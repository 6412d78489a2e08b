"""Whether the adapter that a training is to start from is the one that its recipe describes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.models.adapter import BASE_KEPT
from trainers.config.known_trainers import TRAINERS
from trainers.config.schema import AdapterModel, RecipeModel, is_pattern

ADAPTER_CONFIG = "adapter_config.json"

_NOT_THE_MODEL = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "ephemeral_gpu_offload",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_config",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)
"""Keys of peft's that the weights don't hang on once they are trained (`init_lora_weights` is
looked at by itself), and those that say which modules it is on: one that has no weights yet changes
nothing, and weights that the recipe's adapter has no place for are refused as they are loaded."""

BEFORE_A_TEXT = frozenset({"PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "ADAPTION_PROMPT"})
"""Kinds of adapters that are no change of the base's weights."""

_OF_A_PREFIX = frozenset(
    {
        "encoder_hidden_size",
        "num_attention_heads",
        "num_layers",
        "num_transformer_submodules",
        "token_dim",
    }
)
"""What peft reads off the base."""


def require_checkpoint(model: RecipeModel, start: Path) -> None:
    """Raises UserError where no checkpoint lies at `start`, or not one that the recipe's `adapter`
    can go on from.
    """
    if not start.is_dir():
        raise UserError(
            f"there is no checkpoint at {model.start}",
            hint=f"paths are relative to the recipe: looked for {start}",
        )
    adapter = (start / ADAPTER_CONFIG).exists()
    if not adapter and not (start / "config.json").exists():
        raise UserError(
            f"there is no checkpoint in {model.start}: neither {ADAPTER_CONFIG} nor config.json",
            hint="name the folder that holds the weights",
        )
    if adapter != (model.adapter_kind != "none"):
        has = "an adapter" if adapter else "a whole model"
        raise UserError(
            f"the checkpoint to start from is {has}, and the recipe's adapter says otherwise",
            hint="set `adapter` as the checkpoint was trained"
            + ("" if adapter else ", or write it as `base` to put a new adapter on it"),
        )
    require_same_adapter(model, start)


def require_same_adapter(model: RecipeModel, start: Path) -> None:
    """Raises UserError where the adapter at `start` is not what the recipe says in its `adapter`:
    its weights would be scaled otherwise, or part of them lost, and the training would begin from
    another model than the one that was asked for.

    Rule: everything in adapter_config.json that decides what the adapter does must be as the
    recipe has it. `dropout` and `targets` may differ: neither changes the model that is loaded.
    """
    path = start / ADAPTER_CONFIG
    if model.adapter_kind == "none" or model.adapter is None or not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"this is not an adapter's configuration: {error}", file=path, hint="save it again"
        ) from None
    if not isinstance(found, dict):
        raise UserError("this should be a JSON object", file=path, hint="save it again")
    if found.get("peft_type") == "LORA":
        found = {"r": 8, "lora_alpha": 8, **found}  # peft's own defaults
    wanted = _as_peft_has_it(model.adapter)
    apart = [
        f"{name} {_shown(found.get(name))} and not {_shown(wanted.get(name))}"
        for name in sorted((found.keys() | wanted.keys()) - _NOT_THE_MODEL)
        if not _same(name, found.get(name), wanted.get(name), model.adapter)
    ]
    moved = found.get("init_lora_weights", True)
    if moved not in BASE_KEPT and (moved != model.adapter.init or not model.adapter.moves_base):
        apart.append(f"init_lora_weights {found['init_lora_weights']!r}, which changes the base")
    if apart:
        raise UserError(
            f"the adapter to start from is another one than the recipe's: it has "
            f"{'; '.join(apart)}",
            file=path,
            hint=_hint(found, start),
        )


def _as_peft_has_it(adapter: AdapterModel) -> dict[str, Any]:
    if adapter.kind == "prefix":
        return {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": adapter.virtual_tokens}
    return {
        "peft_type": "LORA",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "bias": adapter.bias,
        "modules_to_save": sorted(adapter.modules_to_save),
        "use_dora": adapter.kind == "dora",
        "use_rslora": adapter.kind == "rslora",
        "rank_pattern": adapter.rank_pattern,
        "alpha_pattern": adapter.alpha_pattern,
    }


def _same(name: str, found: Any, wanted: Any, adapter: AdapterModel) -> bool:
    if name == "modules_to_save":
        # What the recipe trains besides begins as the base has it; what the adapter has must stay.
        apart = {each for t in TRAINERS.names() for each in TRAINERS.load(t).trained_whole}
        return set(found or ()) - apart <= set(wanted or ())
    if name == "target_parameters":  # experts, which the recipe names among its targets
        return all(any(_names(t, each) for t in adapter.targets) for each in found or ())
    if name == "bias":
        return (found or "none") == (wanted or "none")
    if adapter.kind == "prefix" and name in _OF_A_PREFIX:
        return True
    return bool(found == wanted or (not found and not wanted))


def _names(target: str, name: str) -> bool:
    if is_pattern(target):
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")


def _shown(value: Any) -> str:
    return "none" if value in (None, [], {}) else json.dumps(value, ensure_ascii=False)


def _hint(found: Mapping[str, Any], start: Path) -> str:
    """The recipe's own words for the adapter, where it has any."""
    merge = f"merge it into its base (ratchet export-model {start} --merge --to DIR; base: DIR)"
    if found.get("peft_type") in BEFORE_A_TEXT:
        tokens = found.get("num_virtual_tokens")
        if found["peft_type"] == "PREFIX_TUNING" and not found.get("prefix_projection"):
            return f"write `adapter: {{kind: prefix, virtual_tokens: {tokens}}}` in the recipe"
        return "leave out `start`: nothing here trains such an adapter, and it can't be merged"
    if found.get("peft_type") != "LORA" or (found.get("use_dora") and found.get("use_rslora")):
        return merge
    kind = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else "lora"
    said = {
        "kind": kind,
        "rank": found.get("r", 8),
        "alpha": found.get("lora_alpha", 8),
        "bias": found.get("bias") or "none",
    }
    for name in ("modules_to_save", "rank_pattern", "alpha_pattern"):
        if found.get(name):
            said[name] = found[name]
    if found.get("init_lora_weights") in ("pissa", "olora"):
        said["init"] = found["init_lora_weights"]
    try:
        adapter = AdapterModel.model_validate(said)
    except ValueError:
        return merge
    expressible = all(
        _same(name, found.get(name), _as_peft_has_it(adapter).get(name), adapter)
        for name in found.keys() - _NOT_THE_MODEL
    )
    if not expressible or found.get("init_lora_weights", True) not in (*BASE_KEPT, adapter.init):
        return merge
    words = ", ".join(f"{k}: {_plain(v)}" for k, v in said.items() if (k, v) != ("bias", "none"))
    return f"write `adapter: {{{words}}}` in the recipe, or {merge}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)

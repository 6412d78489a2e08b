"""The model that is trained: a base, quantized where asked, with the recipe's adapter around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles, load, resolve
from trainers.config.recipe import Recipe
from trainers.config.schema import AdapterModel
from trainers.methods.ppo.settings import VALUE_HEAD

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def open_causal(
    recipe: Recipe,
    base: ModelFiles,
    start: Path | None,
    *,
    before: Callable[[Any], Any] = lambda model: model,
    also_trained: tuple[str, ...] = (),
) -> tuple[Any, Any]:
    """A causal language model ready to be trained, and its tokenizer. `before` is done to the
    model before the adapter is put around it; `also_trained` as in `adapted`.
    """
    if recipe.model.quantize:
        model, tokenizer = _quantized(recipe, base)
    elif start is not None and recipe.model.adapter_kind == "none":
        model, tokenizer = load(ModelFiles(base.name, start, None, ""))
    else:
        model, tokenizer = load(base)
    return adapted(before(model), recipe, start, also_trained=also_trained), tokenizer


def adapted(
    model: Any,
    recipe: Recipe,
    start: Path | None = None,
    *,
    task: str = "CAUSAL_LM",
    also_trained: tuple[str, ...] = (),
) -> Any:
    """The base model with the recipe's adapter around it, seeded or as the checkpoint `start` left
    it; the model itself where the recipe has none. `also_trained` names modules that are trained
    whole. Raises UserError for targets that the base doesn't have.
    """
    import torch
    from peft import get_peft_model

    adapter = recipe.model.adapter
    if adapter is None or adapter.kind == "none":
        return model
    if adapter.kind != "prefix":
        _require_modules(model, recipe, adapter)
        _require_mergeable(model, recipe, adapter)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.model.seed)
        config = _config(adapter, task, also_trained)
        # The name rather than a folder of this machine: a checkpoint's bytes, and so its digest,
        # must not depend on where it was trained.
        config.base_model_name_or_path = recipe.model.base
        try:
            wrapped = get_peft_model(model, config)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the recipe's adapter doesn't fit {recipe.model.base}: "
                f"{str(error).strip().splitlines()[0]}",
                file=recipe.path,
                field="adapter",
                hint="take another `kind`, `targets` or `modules_to_save`",
            ) from error
    wrapped.peft_config["default"].base_model_name_or_path = recipe.model.base
    if start is not None:
        _continue_from(wrapped, start, also_trained)
    return wrapped


def require_gpu_for(recipe: Recipe) -> None:
    """Raises UserError where the recipe asks for what only a GPU has."""
    if recipe.model.quantize is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"a base in {recipe.model.quantize} needs a GPU, and there is none here",
            file=recipe.path,
            field="quantize",
            hint="take `quantize` out of the recipe, or train on a machine with a GPU",
        )
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"a base in {recipe.model.quantize} needs the package bitsandbytes",
            file=recipe.path,
            field="quantize",
            hint="pip install bitsandbytes",
        )


def require_same_base(recipe: Recipe, base: ModelFiles, start: Path, workspace: Workspace) -> None:
    """Raises UserError where the checkpoint to start from belongs to another base model."""
    if (start / ADAPTER_CONFIG).exists() != (recipe.model.adapter_kind != "none"):
        has = "an adapter" if (start / ADAPTER_CONFIG).exists() else "a whole model"
        raise UserError(
            f"the checkpoint to start from is {has}, and the recipe's adapter says otherwise",
            file=recipe.path,
            field="start",
            hint="set `adapter` as the checkpoint was trained",
        )
    if recipe.model.adapter_kind == "none":
        return
    under = resolve(str(start), workspace).folder
    if under != base.folder and resolve(str(under), workspace).digest != base.digest:
        raise UserError(
            f"the checkpoint {start} belongs to another base model than {recipe.model.base}",
            file=start / ADAPTER_CONFIG,
            field="base_model_name_or_path",
            hint="start from a checkpoint of this base, or set the recipe's base to its own",
        )


def _config(adapter: AdapterModel, task: str, also_trained: tuple[str, ...]) -> Any:
    from peft import LoraConfig, PrefixTuningConfig

    if adapter.kind == "prefix":
        return PrefixTuningConfig(task_type=task, num_virtual_tokens=adapter.virtual_tokens)
    return LoraConfig(
        task_type=task,
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets),
        bias=adapter.bias,
        modules_to_save=[*adapter.modules_to_save, *also_trained] or None,
        use_dora=adapter.kind == "dora",
        use_rslora=adapter.kind == "rslora",
    )


def _require_modules(model: Any, recipe: Recipe, adapter: AdapterModel) -> None:
    """Targets are layers with a weight matrix; a module that is trained whole may be any. Raises
    UserError, which offers only what would be taken.
    """
    modules = dict(model.named_modules())
    matrices = {name for name, module in modules.items() if _is_matrix(module)}
    for field, allowed in (("targets", matrices), ("modules_to_save", set(modules) - {""})):
        for wanted in getattr(adapter, field):
            found = [n for n in modules if n == wanted or n.endswith(f".{wanted}")]
            if found and all(name in allowed for name in found):
                continue
            leaves = sorted({name.rpartition(".")[2] for name in allowed if name in matrices})
            what = (
                f"the base model's {found[0]} is a {type(modules[found[0]]).__name__}, and an "
                "adapter goes on linear layers and embeddings"
                if found
                else f"the base model has no module named {wanted!r}"
            )
            raise UserError(
                what,
                file=recipe.path,
                field=f"adapter.{field}",
                hint=f"its modules are named {', '.join(leaves[:12])}",
            )
    if both := sorted(set(adapter.targets) & set(adapter.modules_to_save)):
        raise UserError(
            f"{both[0]!r} is a target of the adapter and trained whole as well",
            file=recipe.path,
            field="adapter.modules_to_save",
            hint="name it in one of `targets` and `modules_to_save`",
        )


def _is_matrix(module: Any) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, Conv1D)
    return isinstance(module, kinds) or hasattr(module, "quant_state")


def _require_mergeable(model: Any, recipe: Recipe, adapter: AdapterModel) -> None:
    """Raises UserError for an adapter on an embedding that is the output layer too: what it
    changes on one side can't be merged into the weight that both share.
    """
    read, written = model.get_input_embeddings(), model.get_output_embeddings()
    if read is None or written is None or read.weight is not written.weight:
        return
    names = {name for name, module in model.named_modules() if module is read or module is written}
    for wanted in adapter.targets:
        if any(name == wanted or name.endswith(f".{wanted}") for name in names):
            raise UserError(
                f"{wanted!r} shares its weight with the other end of {recipe.model.base}: an "
                "adapter on it could never be merged into the model",
                file=recipe.path,
                field="adapter.targets",
                hint=f"train it whole, `modules_to_save: [{wanted}]`, or leave it out of `targets`",
            )


def _continue_from(model: Any, start: Path, also_trained: tuple[str, ...]) -> None:
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
    # peft would put what the adapter has no place for into the base, and save it never again.
    if homeless := sorted(found.keys() - new.keys()):
        raise UserError(
            f"the checkpoint to start from has weights that the recipe's adapter doesn't: "
            f"{homeless[0]}" + (f", and {len(homeless) - 1} more" if len(homeless) > 1 else ""),
            file=start / ADAPTER_WEIGHTS,
            hint="set `targets` and `modules_to_save` of the recipe's adapter as it was trained",
        )
    try:
        set_peft_model_state_dict(model, {**new, **found})
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint to start from doesn't fit the recipe's adapter: "
            f"{str(error).strip().splitlines()[-1].strip()}",
            file=start / ADAPTER_WEIGHTS,
            hint="set `adapter` as the checkpoint was trained",
        ) from None


def _quantized(recipe: Recipe, base: ModelFiles) -> tuple[Any, Any]:
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    require_gpu_for(recipe)
    four = recipe.model.quantize == "4bit"
    make_config: Any = BitsAndBytesConfig
    config = make_config(
        load_in_4bit=four,
        load_in_8bit=not four,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(base.folder, quantization_config=config)
    prepare: Any = prepare_model_for_kbit_training
    return prepare(model), AutoTokenizer.from_pretrained(base.tokenizer)

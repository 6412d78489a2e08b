"""The model that is trained: a base, quantized where asked, with the recipe's adapter around it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles, load, resolve
from trainers.config.precision import Machine, require_dtype
from trainers.config.recipe import Recipe, Stage
from trainers.config.schema import AdapterModel
from trainers.methods.continuing import continue_from
from trainers.methods.targets import (
    Meant,
    by_name,
    left_out,
    require_as_meant,
    require_mergeable,
    require_targets,
)


def open_causal(
    recipe: Recipe,
    base: ModelFiles,
    start: Path | None,
    *,
    before: Callable[[Any], Any] = lambda model: model,
    also_trained: tuple[str, ...] = (),
    dtype: str = "float32",
    device: str = "cpu",
) -> tuple[Any, Any]:
    """A causal language model in `dtype`, ready to be trained, and its tokenizer. `before` is done
    to the model before the adapter is put around it; `also_trained` as in `adapted`.
    """
    if recipe.model.quantize:
        model, tokenizer = _quantized(recipe, base)
    elif start is not None and recipe.model.adapter_kind == "none":
        model, tokenizer = load(ModelFiles(base.name, start, None, ""), dtype=dtype, device=device)
    else:
        model, tokenizer = load(base, dtype=dtype, device=device)
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
    whole. What an adapter trains is in float32, whatever the base is in. Raises UserError for
    targets that the base doesn't have.
    """
    import torch
    from peft import get_peft_model

    adapter = recipe.model.adapter
    if adapter is None or adapter.kind == "none":
        return model
    meant = Meant()
    if adapter.kind != "prefix":
        meant = require_targets(model, recipe, adapter, also_trained)
        require_mergeable(model, recipe, adapter)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.model.seed)
        config = _config(adapter, task, also_trained, meant)
        if adapter.kind != "prefix":
            config.exclude_modules = left_out(model, adapter)
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
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if adapter.kind != "prefix":
        require_as_meant(wrapped, recipe, adapter, meant)
    if start is not None:
        continue_from(wrapped, start, also_trained)
    return wrapped


def require_gpu_for(recipe: Recipe) -> None:
    """Raises UserError where the recipe asks for what this machine hasn't got."""
    machine = Machine.here()
    require_dtype(recipe, machine)
    require_options(recipe, machine)
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
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"a base in {recipe.model.quantize} needs the package bitsandbytes",
            file=recipe.path,
            field="quantize",
            hint="pip install bitsandbytes",
        )


def require_options(recipe: Recipe, machine: Machine) -> None:
    """Raises UserError for an option that needs what isn't installed or isn't on this machine."""
    for stage in recipe.stages:
        options = stage.model.trainer_options
        if stage.model.generate_on == "vllm":
            _require_vllm(recipe, stage, machine)
        for option, package in options.needs():
            if package is not None and importlib.util.find_spec(package) is None:
                lacks = f"needs the package {package}"
                hint = f"pip install {package.replace('_', '-')}, or leave it out"
            elif not machine.is_gpu:
                lacks, hint = "needs a GPU, and there is none here", "leave it out here"
            else:
                continue
            raise UserError(
                f"{option}: {str(getattr(options, option)).lower()} {lacks}",
                file=recipe.path,
                field=f"stages.{stage.number - 1}.trainer_options.{option}",
                hint=hint,
            )


def _require_vllm(recipe: Recipe, stage: Stage, machine: Machine) -> None:
    if importlib.util.find_spec("vllm") is None:
        lacks, hint = "vLLM is not installed", "pip install 'ratchet-eval[vllm]', or leave it out"
    elif not machine.is_gpu:
        lacks, hint = "vLLM needs a GPU, and there is none here", "leave it out here"
    elif recipe.model.adapter_kind not in ("lora", "rslora", "none"):
        lacks, hint = f"vLLM can't draw from a {recipe.model.adapter_kind} adapter", "leave it out"
    else:
        return
    field = f"stages.{stage.number - 1}.generate_on"
    raise UserError(lacks, file=recipe.path, field=field, hint=hint)


def require_same_base(recipe: Recipe, base: ModelFiles, start: Path, workspace: Workspace) -> None:
    """Raises UserError where the checkpoint to start from belongs to another base model. Where the
    base that an adapter names is nowhere (it was moved, or its hub is far), the recipe's is taken
    at its word: what doesn't fit it is refused as it is loaded.
    """
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
    try:
        under = resolve(str(start), workspace).folder
    except UserError as error:
        if error.field != "base_model_name_or_path":
            raise
        resolve(str(start), workspace, base=recipe.model.base)
        return
    if under != base.folder and resolve(str(under), workspace).digest != base.digest:
        raise UserError(
            f"the checkpoint {start} belongs to another base model than {recipe.model.base}",
            file=start / ADAPTER_CONFIG,
            field="base_model_name_or_path",
            hint="start from a checkpoint of this base, or set the recipe's base to its own",
        )


def _config(adapter: AdapterModel, task: str, also_trained: tuple[str, ...], meant: Meant) -> Any:
    from peft import LoraConfig, PrefixTuningConfig

    if adapter.kind == "prefix":
        return PrefixTuningConfig(task_type=task, num_virtual_tokens=adapter.virtual_tokens)
    return LoraConfig(
        task_type=task,
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=list(adapter.targets) if by_name(adapter, meant) else sorted(meant.modules),
        target_parameters=sorted(meant.parameters) or None,
        rank_pattern=adapter.rank_pattern,
        alpha_pattern=adapter.alpha_pattern,
        init_lora_weights=True if adapter.init == "default" else adapter.init,
        bias=adapter.bias,
        modules_to_save=[*adapter.modules_to_save, *also_trained] or None,
        use_dora=adapter.kind == "dora",
        use_rslora=adapter.kind == "rslora",
    )


def _quantized(recipe: Recipe, base: ModelFiles) -> tuple[Any, Any]:
    from peft import prepare_model_for_kbit_training

    require_gpu_for(recipe)
    bits = bits_of(recipe)
    model, tokenizer = load(base, dtype="auto", device=None, quantization_config=bits)
    prepare: Any = prepare_model_for_kbit_training
    return prepare(model), tokenizer


def bits_of(recipe: Recipe) -> Any:
    """How the base is rounded as it is loaded, in bitsandbytes' terms."""
    import torch
    from transformers import BitsAndBytesConfig

    four = recipe.model.quantize == "4bit"
    make_config: Any = BitsAndBytesConfig
    return make_config(
        load_in_4bit=four,
        load_in_8bit=not four,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )

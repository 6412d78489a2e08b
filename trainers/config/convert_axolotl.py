"""Reads an axolotl configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.data.sources import read_source
from trainers.config.convert import (
    JUDGED,
    KEPT,
    OF_THE_MACHINE,
    OWN_TEMPLATE,
    Draft,
    Settings,
    adapter_of,
    local_or_hub,
    optimizer_of,
    schedule_of,
)
from trainers.config.convert_rows import alpaca, by_its_fields, chat

_METHODS = {"dpo": "dpo", "kto": "kto"}
_LEFT = {
    "model_type": "the class follows from the base's config.json",
    "tokenizer_*": "the base's own tokenizer is used",
    "trust_remote_code": "code of a model's own is never run",
    "base_model_config": "the base's own config.json is used",
    "is_*_derived_model": "the base's own config.json is used",
    "output_dir": KEPT,
    "save_total_limit": KEPT,
    "save_safetensors": KEPT,
    "save_only_model": KEPT,
    "save_strategy": KEPT,
    "saves_per_epoch": "`checkpoint_every` is written for it",
    "evals_per_epoch": JUDGED,
    "eval_*": JUDGED,
    "test_datasets": JUDGED,
    "do_bench_eval": JUDGED,
    "early_stopping_patience": "the gate stops: `on_fail`, `max_rollbacks`",
    "load_best_model_at_end": "a training ends at its best checkpoint",
    "resume_from_checkpoint": "the same command goes on",
    "auto_resume_from_checkpoints": "the same command goes on",
    "dataset_prepared_path": "rows are read as they are",
    "dataset_processes": OF_THE_MACHINE,
    "dataset_exact_deduplication": "take equal rows out first",
    "shuffle_merged_datasets": "the plan draws by the sources' weights",
    "logging_steps": "every step is in the store",
    "wandb_*": "the run is named after the recipe",
    "mlflow_*": "the run is named after the recipe",
    "hub_*": KEPT,
    "tf32": OF_THE_MACHINE,
    "local_rank": OF_THE_MACHINE,
    "deepspeed": "start with `ratchet train --shard zero2` or `zero3`",
    "fsdp*": "start with `ratchet train --shard fsdp`",
    "ddp*": OF_THE_MACHINE,
    "xformers_attention": OF_THE_MACHINE,
    "sdp_attention": OF_THE_MACHINE,
    "gradient_checkpointing_kwargs": OF_THE_MACHINE,
    "pad_to_sequence_len": "rows are padded to the longest of their batch",
    "eval_sample_packing": JUDGED,
    "group_by_length": "the order is the plan's",
    "train_on_inputs": "prompts are not learned",
    "chat_template*": OWN_TEMPLATE,
    "default_system_message": "write it as `system` of each `prompt`",
    "special_tokens": "set them in the base's tokenizer_config.json",
    "tokens": "add them to the base's tokenizer, and resize its embeddings, first",
    "added_tokens_overrides": "change the base's tokenizer first",
    "plugins": "recipes load no plugins of axolotl's",
    "strict": "an unknown key is always refused",
    "debug": "`ratchet recipes check` shows the plan",
    "lora_fan_in_fan_out": "it follows from the base",
    "lora_mlp_kernel": OF_THE_MACHINE,
    "lora_qkv_kernel": OF_THE_MACHINE,
    "lora_o_kernel": OF_THE_MACHINE,
    "loraplus_lr_ratio": "every weight has one learning rate",
    "peft_layers_to_transform": "every block has its adapter",
    "unfrozen_parameters": "either an adapter is trained, or the whole model",
    "relora_*": "recipes merge no adapter while they train",
    "rope_scaling": "set it in the base's config.json",
    "streaming": "a plan lists all rows",
    "remove_unused_columns": "rows keep their columns",
    "gpu_memory_limit": OF_THE_MACHINE,
}


def read_axolotl(settings: Settings, target: Path) -> Draft:
    """Raises UserError for what no recipe could be made of."""
    method = settings.take("rl")
    if method is not None and str(method) not in _METHODS:
        raise settings.document.error(
            f"recipes have no {method!r} that axolotl's settings could be read for",
            ("rl",),
            hint="dpo and kto are read; of grpo write the rewards by hand (docs/rewards.md)",
        )
    trainer = _METHODS[str(method)] if method is not None else "sft"
    if settings.flag("reward_model"):
        trainer = "reward"
    draft = Draft(str(settings.take("base_model")), trainer)
    _adapter(settings, draft)
    _steps(settings, draft)
    _options(settings, draft)
    draft.data |= {"max_length": settings.whole("sequence_len", 512)}
    overflow = str(settings.take("excess_length_strategy", "drop"))
    draft.data["too_long"] = "cut" if overflow == "truncate" else "drop"
    held = settings.number("val_set_size", 0)
    if held >= 1:
        draft.held_rows = int(held)
    elif held:
        draft.data["validation"] = held
    datasets = settings.take("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise settings.document.error("no `datasets` are named", ("datasets",))
    for number, entry in enumerate(datasets):
        draft.mix.append(_source(settings, number, entry, draft, target))
    beta = settings.first("rl_beta", "dpo_beta", "kto_beta")
    if trainer in ("dpo", "kto") and beta is not None:
        draft.stage["beta"] = float(beta)
    settings.leave_all(_LEFT)
    return draft


def _adapter(settings: Settings, draft: Draft) -> None:
    kind = settings.take("adapter")
    if kind not in (None, "lora", "qlora"):
        raise settings.document.error(f"recipes have no adapter {kind!r}", ("adapter",))
    targets = settings.take("lora_target_modules")
    if settings.flag("lora_target_linear") or targets is None:
        targets = "all-linear"
    made = adapter_of(
        rank=settings.whole("lora_r", 8),
        alpha=settings.whole("lora_alpha", 16),
        dropout=settings.number("lora_dropout", 0),
        targets=targets,
        saved=settings.take("lora_modules_to_save"),
        kind="dora"
        if settings.flag("peft_use_dora")
        else "rslora"
        if settings.flag("peft_use_rslora")
        else "lora",
    )
    if kind is not None:
        draft.adapter = made
    four, eight = settings.flag("load_in_4bit"), settings.flag("load_in_8bit")
    if kind is not None and (four or eight or kind == "qlora"):
        draft.top["quantize"] = "8bit" if eight and not four else "4bit"
    if start := settings.take("lora_model_dir"):
        draft.top["start"] = str(start)


def _steps(settings: Settings, draft: Draft) -> None:
    stage = draft.stage
    stage["batch_size"] = settings.whole("micro_batch_size", 1)
    stage["gradient_accumulation"] = settings.whole("gradient_accumulation_steps", 1)
    if settings.document.data.get("batch_size"):
        whole = settings.whole("batch_size", 1)
        stage["gradient_accumulation"] = max(1, whole // stage["batch_size"])
    stage["learning_rate"] = settings.number("learning_rate", 2e-4)
    stage["schedule"] = schedule_of(settings, "lr_scheduler", "cosine")
    stage["max_grad_norm"] = settings.number("max_grad_norm", 1.0)
    draft.epochs = settings.number("num_epochs", 1.0)
    draft.steps = settings.whole("max_steps", 0)
    draft.warmup_ratio = settings.number("warmup_ratio", 0.0)
    if warmup := settings.whole("warmup_steps", 0):
        stage["warmup_steps"], draft.warmup_ratio = warmup, 0.0
    every = settings.take("save_steps")
    draft.save_every = int(every) if isinstance(every, int | float) and every >= 1 else 0
    draft.top["seed"] = settings.whole("seed", 42)
    draft.notes.append("batch_size counts over all processes: multiply it by theirs.")


def _options(settings: Settings, draft: Draft) -> None:
    if decay := settings.number("weight_decay", 0):
        draft.options["weight_decay"] = decay
    if optimizer := optimizer_of(str(settings.take("optimizer", ""))):
        draft.options["optimizer"] = optimizer
    if settings.flag("sample_packing"):
        draft.options["packing"] = True
    if settings.flag("flash_attention"):
        draft.options["attention"] = "flash_attention_2"
    if settings.flag("gradient_checkpointing"):
        draft.options["gradient_checkpointing"] = "on"
    if noise := settings.take("neftune_noise_alpha"):
        draft.options["neftune_noise_alpha"] = noise
    half = str(settings.take("bf16", "")).lower()
    other = str(settings.take("fp16", "")).lower()
    if "quantize" not in draft.top and half in ("true", "full"):
        draft.top["dtype"] = "bfloat16"
    elif "quantize" not in draft.top and other == "true":
        draft.top["dtype"] = "float16"
    if settings.take("wandb_project"):
        draft.top["tracking"] = ["wandb"]


def _source(
    settings: Settings, number: int, entry: Any, draft: Draft, target: Path
) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or not entry.get("path"):
        raise settings.document.error("this dataset has no `path`", ("datasets", number))
    parts = [str(entry[key]) for key in ("name", "split") if entry.get(key)]
    files = entry.get("data_files")
    path = str(entry["path"])
    folder = settings.document.path.parent
    if path in ("json", "csv", "parquet", "arrow", "text") and files:
        path = str(files[0] if isinstance(files, list) else files)
    elif isinstance(files, str) and (folder / path).is_dir():
        path = f"{path}/{files}"
    name = local_or_hub(path, folder, target, *parts)
    return {"source": name, **_templates(settings, number, entry, draft, name, target)}


def _templates(
    settings: Settings,
    number: int,
    entry: Mapping[str, Any],
    draft: Draft,
    name: str,
    target: Path,
) -> dict[str, Any]:
    kind, given = draft.trainer, entry.get("type")
    if isinstance(given, Mapping):
        columns = {
            "prompt": given.get("field_instruction", "instruction"),
            "query": given.get("field_input"),
            "response": given.get("field_output", "output"),
            "system": given.get("field_system"),
        }
        return alpaca(columns, kind=kind, system=given.get("system_prompt") or None)
    shape = str(given or "").partition(".")[0].partition(":")[0]
    if shape in ("completion", "pretrain"):
        return alpaca({"prompt": entry.get("field", "text")}, kind="text")
    if shape in ("chat_template", "sharegpt"):
        said = entry.get("field_messages") or (
            "conversations" if shape == "sharegpt" else "messages"
        )
        columns = {
            "messages": said,
            "chosen": entry.get("field_chosen"),
            "rejected": entry.get("field_rejected"),
        }
        weighed = bool(entry.get("message_field_training"))
        turns = entry.get("roles_to_train", ["assistant"])
        if turns not in (["assistant"], ["gpt"]):
            settings.left[f"datasets.{number}.roles_to_train"] = "the assistant's turns are learned"
        return chat(
            columns,
            kind=kind,
            learn="weights" if weighed else "all",
            tools=entry.get("field_tools"),
        )
    if shape == "alpaca":
        return alpaca({"query": "input"}, kind=kind)
    row = read_source(name, target.parent, split="train")[0].row
    found = by_its_fields(row, kind=kind)
    if not found:
        raise UserError(
            f"rows of the type {given!r} aren't read here; their fields are: {', '.join(row)}",
            file=settings.document.path,
            field=f"datasets.{number}.type",
            hint="write the source's templates by hand: docs/data.md has each shape",
        )
    return found

"""Reads a LLaMA-Factory configuration, with the dataset_info.json that names its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
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
from trainers.config.convert_rows import alpaca, chat

INFO = "dataset_info.json"
_STAGES = {"sft": "sft", "pt": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}
_LEFT = {
    "do_train": "`ratchet train` trains",
    "do_eval": JUDGED,
    "do_predict": JUDGED,
    "predict_with_generate": JUDGED,
    "eval_*": JUDGED,
    "per_device_eval_batch_size": JUDGED,
    "compute_accuracy": JUDGED,
    "metric_for_best_model": JUDGED,
    "load_best_model_at_end": "a training ends at its best checkpoint",
    "output_dir": KEPT,
    "overwrite_output_dir": "`ratchet train --again` begins anew",
    "resume_from_checkpoint": "the same command goes on",
    "save_total_limit": KEPT,
    "save_only_model": KEPT,
    "save_strategy": KEPT,
    "logging_*": "every step is in the store",
    "plot_loss": "the dashboard draws it",
    "overwrite_cache": "nothing of the rows is cached",
    "cache_dir": OF_THE_MACHINE,
    "preprocessing_num_workers": OF_THE_MACHINE,
    "dataloader_*": OF_THE_MACHINE,
    "ddp_*": OF_THE_MACHINE,
    "deepspeed": "start with `ratchet train --shard zero2` or `zero3`",
    "fsdp*": "start with `ratchet train --shard fsdp`",
    "trust_remote_code": "code of a model's own is never run",
    "template": OWN_TEMPLATE,
    "tool_format": OWN_TEMPLATE,
    "default_system": "write it as `system` of each `prompt`",
    "tokenized_path": "rows are read as they are",
    "streaming": "a plan lists all rows",
    "max_samples": "write a file of so many rows",
    "dataset_shards": "a plan lists all rows",
    "mix_strategy": "shares are the `weight` of each source",
    "interleave_probs": "shares are the `weight` of each source",
    "train_on_prompt": "prompts are not learned",
    "rope_scaling": "set it in the base's config.json",
    "rope_theta": "set it in the base's config.json",
    "use_unsloth": OF_THE_MACHINE,
    "pref_ftx": "a pair's chosen answer is not learned by itself; give it to an sft stage too",
    "ref_model": "the reference is the stage's first state",
    "quantization_method": "bitsandbytes is what quantizes",
    "quantization_type": "bitsandbytes' nf4 is what quantizes",
    "double_quantization": "it is as bitsandbytes has it by default",
    "loraplus_lr_ratio": "every weight has one learning rate",
    "use_galore": "recipes have no such optimizer",
    "use_badam": "recipes have no such optimizer",
    "pissa_iter": "PiSSA takes the exact singular values",
    "pissa_convert": "an adapter is kept as it was trained",
    "freeze_*": "either an adapter is trained, or the whole model",
    "upcast_*": "an adapter is in float32 as it is",
    "resize_vocab": "resize the base's embeddings and save it first",
    "new_special_tokens": "add them to the base's tokenizer, and resize its embeddings, first",
    "run_name": "it is named after the recipe",
    "include_num_input_tokens_seen": "every step is in the store",
    "neat_packing": "packed rows see nothing of each other",
    "image_*": "texts alone are learned from",
    "video_*": "texts alone are learned from",
    "hf_hub_token": OF_THE_MACHINE,
    "infer_*": "answers are drawn as the suite says",
    "vllm_*": "answers are drawn as the suite says",
}


def read_llama_factory(settings: Settings, target: Path, info: Path | None = None) -> Draft:
    """Raises UserError for what no recipe could be made of."""
    stage = str(settings.take("stage", "sft"))
    if stage not in _STAGES:
        raise settings.document.error(f"recipes have no stage {stage!r}", ("stage",))
    draft = Draft(str(settings.take("model_name_or_path")), _STAGES[stage])
    _adapter(settings, draft)
    _data(settings, draft, "text" if stage == "pt" else draft.trainer, target, info)
    _steps(settings, draft)
    if draft.trainer in ("dpo", "kto"):
        draft.stage["beta"] = settings.number("pref_beta", 0.1)
        loss = settings.take("pref_loss", "sigmoid")
        if loss != "sigmoid":
            settings.left["pref_loss"] = f"dpo has the sigmoid loss, and no {loss!r}"
    if draft.trainer == "ppo":
        draft.stage["rewards"] = [{"kind": "model", "path": str(settings.take("reward_model"))}]
    settings.leave_all(_LEFT)
    return draft


def _adapter(settings: Settings, draft: Draft) -> None:
    kind = str(settings.take("finetuning_type", "lora"))
    if kind not in ("lora", "full"):
        raise settings.document.error(
            f"recipes train no {kind!r}: an adapter, or the whole model", ("finetuning_type",)
        )
    rank = settings.whole("lora_rank", 8)
    alpha = settings.whole("lora_alpha", 2 * rank)
    dropout, targets = settings.number("lora_dropout", 0), settings.take("lora_target", "all")
    saved = settings.take("additional_target")
    dora, scaled = settings.flag("use_dora"), settings.flag("use_rslora")
    pissa = settings.flag("pissa_init")
    if kind == "lora":
        draft.adapter = adapter_of(
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets=targets,
            saved=saved,
            kind="dora" if dora else "rslora" if scaled else "lora",
            init="pissa" if pissa and not dora else "default",
        )
    bits = settings.take("quantization_bit")
    if bits is not None:
        draft.top["quantize"] = f"{bits}bit"
    start = settings.take("adapter_name_or_path")
    if start:
        draft.top["start"] = str(start)


def _steps(settings: Settings, draft: Draft) -> None:
    stage = draft.stage
    stage["batch_size"] = settings.whole("per_device_train_batch_size", 8)
    stage["gradient_accumulation"] = settings.whole("gradient_accumulation_steps", 1)
    stage["learning_rate"] = settings.number("learning_rate", 5e-5)
    stage["schedule"] = schedule_of(settings, "lr_scheduler_type", "linear")
    stage["max_grad_norm"] = settings.number("max_grad_norm", 1.0)
    draft.epochs = settings.number("num_train_epochs", 3.0)
    draft.steps = max(0, settings.whole("max_steps", 0))
    draft.save_every = settings.whole("save_steps", 500)
    draft.warmup_ratio = settings.number("warmup_ratio", 0.0)
    if warmup := settings.whole("warmup_steps", 0):
        stage["warmup_steps"], draft.warmup_ratio = warmup, 0.0
    draft.top["seed"] = settings.whole("seed", 42)
    draft.data["seed"] = settings.whole("data_seed", draft.top["seed"])
    _options(settings, draft)
    reports = settings.take("report_to", "none")
    named = [reports] if isinstance(reports, str) else list(reports)
    tracked = [name for name in named if name in ("tensorboard", "mlflow", "wandb")]
    if tracked:
        draft.top["tracking"] = tracked
    draft.notes.append("batch_size counts over all processes: multiply it by theirs.")


def _options(settings: Settings, draft: Draft) -> None:
    if decay := settings.number("weight_decay", 0):
        draft.options["weight_decay"] = decay
    if optimizer := optimizer_of(str(settings.take("optim", ""))):
        draft.options["optimizer"] = optimizer
    if settings.flag("packing"):
        draft.options["packing"] = True
    if settings.flag("enable_liger_kernel"):
        draft.options["use_liger_kernel"] = True
    if noise := settings.take("neftune_noise_alpha"):
        draft.options["neftune_noise_alpha"] = noise
    if settings.take("flash_attn") in ("fa2", "flash_attention_2"):
        draft.options["attention"] = "flash_attention_2"
    if settings.flag("disable_gradient_checkpointing"):
        draft.options["gradient_checkpointing"] = "off"
    bf16, fp16 = (settings.flag("bf16"), settings.flag("fp16"))
    if settings.flag("pure_bf16") or bf16:
        draft.top["dtype"] = "bfloat16"
    elif fp16:
        draft.top["dtype"] = "float16"
    if "quantize" in draft.top:
        draft.top.pop("dtype", None)


def _data(settings: Settings, draft: Draft, kind: str, target: Path, info: Path | None) -> None:
    draft.data |= {"max_length": settings.whole("cutoff_len", 2048), "too_long": "cut"}
    if draft.trainer in ("ppo",):
        draft.data["too_long"] = "drop"
    thinks = settings.take("enable_thinking")
    if thinks is not None:
        draft.data["template"] = {"enable_thinking": thinks is True}
    held = settings.number("val_size", 0)
    if held >= 1:
        draft.held_rows = int(held)
    elif held:
        draft.data["validation"] = held
    settings.leave("eval_dataset", JUDGED)
    learn = "last" if settings.flag("mask_history") else "all"
    folder = Path(str(settings.take("dataset_dir", "data")))
    names = settings.take("dataset")
    if not names:
        raise settings.document.error("no `dataset` is named", ("dataset",))
    found, where = _info(settings, folder, info)
    for name in names if isinstance(names, list) else str(names).split(","):
        entry = found.get(str(name).strip())
        if entry is None:
            raise UserError(
                f"{INFO} has no dataset {str(name).strip()!r}",
                file=where,
                hint=f"it has: {', '.join(list(found)[:8])}",
            )
        draft.mix.append(_source(entry, where, target, kind, learn))


def _info(settings: Settings, folder: Path, info: Path | None) -> tuple[Mapping[str, Any], Path]:
    beside = settings.document.path.parent
    places = [beside / INFO, beside / folder / INFO, Path.cwd() / folder / INFO]
    places += [parent / folder / INFO for parent in beside.resolve().parents]
    if info is not None:
        places = [info / INFO if info.is_dir() else info]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"{INFO}, which names the data, is not there",
            file=settings.document.path,
            field="dataset_dir",
            hint=f"say where it is with --dataset-info; looked at {places[0]}, {places[1]}",
        )
    try:
        found = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, OSError) as error:
        raise UserError(f"{INFO} can't be read: {error}", file=path) from None
    return found, path


def _source(
    entry: Mapping[str, Any], where: Path, target: Path, kind: str, learn: str
) -> dict[str, Any]:
    parts = [str(entry[key]) for key in ("subset", "split") if entry.get(key)]
    if entry.get("hf_hub_url") and not entry.get("file_name"):
        name = ":".join(("hub", str(entry["hf_hub_url"]), *parts))
    elif entry.get("file_name"):
        name = local_or_hub(str(entry["file_name"]), where.parent, target, *parts)
    else:
        raise UserError(
            "this dataset is neither a file nor of the Hugging Face hub",
            file=where,
            hint="give the entry a `file_name`",
        )
    columns = {**(entry.get("columns") or {})}
    if entry.get("formatting", "alpaca") == "alpaca":
        columns.setdefault("query", None if "columns" in entry else "input")
        return {"source": name, **alpaca(columns, kind=kind)}
    tags = {**(entry.get("tags") or {})}
    odd = {key: tags[key] for key, known in _TAGS.items() if tags.get(key, known[0]) not in known}
    if odd:
        raise UserError(
            f"its turns have names that aren't read here: {odd}",
            file=where,
            hint="rename them to `role` and `content`, or `from` and `value`",
        )
    columns.setdefault("messages", "conversations")
    tools = columns.get("tools")
    return {"source": name, **chat(columns, kind=kind, learn=learn, tools=tools)}


_TAGS = {
    "role_tag": ("from", "role"),
    "content_tag": ("value", "content"),
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool", "function_response"),
    "function_tag": ("function_call", "tool_call"),
    "system_tag": ("system",),
}

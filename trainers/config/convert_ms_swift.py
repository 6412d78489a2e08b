"""Reads an ms-swift configuration: a YAML file, or the command line that starts it."""

from __future__ import annotations

import json
import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from harness.core.errors import UserError
from harness.core.yaml_file import YamlDocument
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
from trainers.config.convert_rows import by_its_fields

COMMAND = re.compile(
    r"(?:^|\s|/)swift\s+(sft|pt|rlhf)\b|(?:swift/cli/|-m\s+swift\.cli\.)(sft|pt|rlhf)"
)
_INITS = ("gaussian", "pissa", "olora")
_METHODS = {"dpo": "dpo", "kto": "kto", "rm": "reward"}
_LEFT = {
    "output_dir": KEPT,
    "save_total_limit": KEPT,
    "save_strategy": KEPT,
    "save_only_model": KEPT,
    "add_version": KEPT,
    "create_checkpoint_symlink": KEPT,
    "eval_*": JUDGED,
    "per_device_eval_batch_size": JUDGED,
    "val_dataset": JUDGED,
    "metric_for_best_model": JUDGED,
    "load_best_model_at_end": "a training ends at its best checkpoint",
    "resume_from_checkpoint": "the same command goes on",
    "logging_steps": "every step is in the store",
    "dataloader_*": OF_THE_MACHINE,
    "dataset_num_proc": OF_THE_MACHINE,
    "ddp_*": OF_THE_MACHINE,
    "use_hf": OF_THE_MACHINE,
    "hub_*": OF_THE_MACHINE,
    "deepspeed": "start with `ratchet train --shard zero2` or `zero3`",
    "fsdp*": "start with `ratchet train --shard fsdp`",
    "template*": OWN_TEMPLATE,
    "model_type": "the class follows from the base's config.json",
    "model_author": "names are learned as the rows have them: fill {{AUTHOR}} in first",
    "model_name": "names are learned as the rows have them: fill {{NAME}} in first",
    "columns": "the templates of a source name its columns",
    "custom_*": "recipes run no code of others for their rows",
    "external_plugins": "recipes run no code of others for their rows",
    "loss_scale": "every token of a turn that is learned counts alike",
    "dataset_shuffle": "the plan draws by the sources' weights",
    "train_dataloader_shuffle": "the plan draws by the sources' weights",
    "streaming": "a plan lists all rows",
    "strict": "a row that can't be read is always refused",
    "lazy_tokenize": "rows are read before the first step",
    "freeze_*": "the language model alone has an adapter",
    "load_args": "every key is read",
    "ignore_args_error": "every key is read",
    "padding_free": "rows are padded to the longest of their batch, or packed",
    "report_to": "write `tracking`",
    "load_from_cache_file": "rows are read as they are",
    "check_model": "a base is named by its bytes",
}


def command_line(text: str, path: Path) -> YamlDocument | None:
    """The document that the arguments of a `swift sft`, `pt` or `rlhf` command would be; None where
    the text is none. Raises UserError for quotes that are never closed.
    """
    joined = re.sub(r"\\\s*\n", " ", text)
    line = next((line for line in joined.splitlines() if COMMAND.search(_code(line))), None)
    if line is None:
        return None
    try:
        # `data.jsonl#500` is one word, and no comment.
        words = list(takewhile(lambda word: not word.startswith("#"), shlex.split(line)))
    except ValueError as error:
        raise UserError(f"this command can't be read: {error}", file=path) from None
    data: dict[str, Any] = {"command": next(filter(None, COMMAND.search(line).groups()))}  # type: ignore[union-attr]
    key, values = "", []
    for word in [*words, "--"]:
        if not word.startswith("--"):
            values.append(word)
            continue
        if key:
            data[key] = _value(values)
        name, equals, given = word[2:].partition("=")
        key, values = name.replace("-", "_"), [given] if equals else []
    return YamlDocument(path, data, {(): 1})


def _code(line: str) -> str:
    return line.partition("#")[0]


def _value(words: list[str]) -> Any:
    read = [yaml.safe_load(word) if word else "" for word in words]
    return True if not read else read[0] if len(read) == 1 else read


def read_ms_swift(settings: Settings, target: Path) -> Draft:
    """Raises UserError for what no recipe could be made of."""
    command = settings.take("command", "sft")
    method = settings.take("rlhf_type")
    if method is not None and str(method) not in _METHODS:
        raise settings.document.error(
            f"recipes have no {method!r} that ms-swift's settings could be read for",
            ("rlhf_type",),
            hint="dpo, kto and rm are read; of grpo and ppo write the rewards by hand "
            "(docs/rewards.md)",
        )
    trainer = _METHODS[str(method)] if method is not None else "sft"
    draft = Draft(str(settings.take("model")), trainer)
    _adapter(settings, draft)
    _steps(settings, draft)
    draft.data["max_length"] = settings.whole("max_length", 2048)
    strategy = str(settings.take("truncation_strategy", "delete"))
    draft.data["too_long"] = {"delete": "drop", "raise": "refuse"}.get(strategy, "cut")
    if share := settings.number("split_dataset_ratio", 0):
        draft.data["validation"] = share
    thinks = settings.take("enable_thinking")
    if thinks is not None:
        draft.data["template"] = {"enable_thinking": thinks is True}
    if trainer in ("dpo", "kto"):
        draft.stage["beta"] = settings.number("beta", 0.1)
    learn = "last" if settings.document.data.get("loss_scale") == "last_round" else "all"
    if learn == "last":
        settings.read.add("loss_scale")
    system = settings.take("system")
    names = settings.take("dataset")
    if not names:
        raise settings.document.error("no `dataset` is named", ("dataset",))
    kind = "text" if command == "pt" else trainer
    for name in names if isinstance(names, list) else [names]:
        draft.mix.append(_source(settings, str(name), kind, system, learn, target))
    settings.leave_all(_LEFT)
    return draft


def _adapter(settings: Settings, draft: Draft) -> None:
    kind = str(settings.first("tuner_type", "train_type", otherwise="lora"))
    if kind not in ("lora", "full"):
        raise settings.document.error(f"recipes train no {kind!r}", ("train_type",))
    init = str(settings.take("init_weights", "default"))
    if init not in ("default", "True", "true", *_INITS):
        settings.left["init_weights"] = f"recipes have no {init!r}"
    made = adapter_of(
        init=init if init in _INITS else "default",
        rank=settings.whole("lora_rank", 8),
        alpha=settings.whole("lora_alpha", 32),
        dropout=settings.number("lora_dropout", 0.05),
        targets=settings.take("target_modules", "all-linear"),
        saved=settings.take("modules_to_save"),
        kind="dora"
        if settings.flag("use_dora")
        else "rslora"
        if settings.flag("use_rslora")
        else "lora",
    )
    if kind == "lora":
        draft.adapter = made
    bits = settings.take("quant_bits")
    if bits:
        draft.top["quantize"] = f"{bits}bit"
    settings.leave("quant_method", "bitsandbytes is what quantizes")
    settings.leave("bnb_4bit_compute_dtype", "bitsandbytes' nf4 is what quantizes")
    adapters = settings.take("adapters")
    if adapters:
        draft.top["start"] = str(adapters[0] if isinstance(adapters, list) else adapters)


def _steps(settings: Settings, draft: Draft) -> None:
    stage = draft.stage
    stage["batch_size"] = settings.whole("per_device_train_batch_size", 1)
    stage["gradient_accumulation"] = settings.whole("gradient_accumulation_steps", 1)
    if draft.trainer == "kto" and stage["batch_size"] < 2:
        stage["batch_size"] = 2
        draft.notes.append("kto compares the rows of a batch: batch_size is 2, and not 1.")
    usual = 1e-4 if draft.adapter is not None else 1e-5
    stage["learning_rate"] = settings.number("learning_rate", usual)
    stage["schedule"] = schedule_of(settings, "lr_scheduler_type", "cosine")
    stage["max_grad_norm"] = settings.number("max_grad_norm", 1.0)
    draft.epochs = settings.number("num_train_epochs", 3.0)
    draft.steps = max(0, settings.whole("max_steps", 0))
    draft.save_every = settings.whole("save_steps", 500)
    draft.warmup_ratio = settings.number("warmup_ratio", 0.0)
    if warmup := settings.whole("warmup_steps", 0):
        stage["warmup_steps"], draft.warmup_ratio = warmup, 0.0
    draft.top["seed"] = settings.whole("seed", 42)
    draft.data["seed"] = settings.whole("data_seed", draft.top["seed"])
    dtype = str(settings.take("torch_dtype", ""))
    if dtype in ("bfloat16", "float16", "float32") and not draft.top.get("quantize"):
        draft.top["dtype"] = dtype
    if decay := settings.number("weight_decay", 0):
        draft.options["weight_decay"] = decay
    if optimizer := optimizer_of(str(settings.take("optim", ""))):
        draft.options["optimizer"] = optimizer
    if settings.flag("packing"):
        draft.options["packing"] = True
    if settings.flag("use_liger_kernel"):
        draft.options["use_liger_kernel"] = True
    if settings.take("attn_impl") in ("flash_attn", "flash_attention_2"):
        draft.options["attention"] = "flash_attention_2"
    if settings.document.data.get("gradient_checkpointing") is False:
        draft.options["gradient_checkpointing"] = "off"
    settings.read.add("gradient_checkpointing")
    draft.notes.append("batch_size counts over all processes: multiply it by theirs.")


def _source(
    settings: Settings, given: str, kind: str, system: Any, learn: str, target: Path
) -> dict[str, Any]:
    path, _, count = given.partition("#")
    path = re.sub(r"^(?:HF|MS)::", "", path)
    if count:
        settings.left[f"dataset {given}"] = f"all rows are read, and not {count}"
    path, _, subset = path.partition(":")
    name = local_or_hub(
        path, settings.document.path.parent, target, *([subset, "train"] if subset else [])
    )
    row = read_source(name, target.parent, split="train")[0].row
    found = by_its_fields(row, kind=kind, system=None if system is None else str(system))
    if not found:
        raise UserError(
            f"the rows of {given} have the fields {', '.join(row)}, and these tell no shape",
            file=settings.document.path,
            field="dataset",
            hint="write the source's templates by hand: docs/data.md has each shape",
        )
    if "learn" in found:
        found["learn"] = learn
    if system is not None and "messages" in found:
        settings.left["system"] = f"add the turn to the rows: {json.dumps(str(system))[:60]}"
    return {"source": name, **found}

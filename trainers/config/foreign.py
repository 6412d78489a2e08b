"""Recognizes another tool's configuration, and its keys, where a recipe is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.core.errors import UserError
from harness.core.yaml_file import YamlDocument

CONVERTED = ("LLaMA-Factory", "axolotl", "ms-swift")
"""The tools whose configurations `ratchet recipes from` reads."""

_TOOLS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
    (
        "LLaMA-Factory",
        frozenset({"model_name_or_path"}),
        frozenset({"finetuning_type", "dataset", "cutoff_len", "do_train", "template"}),
    ),
    (
        "TRL",
        frozenset({"model_name_or_path"}),
        frozenset({"dataset_name", "output_dir", "use_peft", "per_device_train_batch_size"}),
    ),
    (
        "axolotl",
        frozenset({"base_model"}),
        frozenset({"datasets", "sequence_len", "micro_batch_size", "adapter", "num_epochs"}),
    ),
    (
        "ms-swift",
        frozenset({"model", "dataset"}),
        frozenset({"train_type", "tuner_type", "target_modules", "torch_dtype", "rlhf_type"}),
    ),
    (
        "torchtune",
        frozenset({"model", "dataset"}),
        frozenset({"checkpointer", "loss", "tokenizer", "optimizer"}),
    ),
)
"""(name, keys that its file must have, keys of which it has at least one)."""

_EPOCHS = "write `epochs` in the stage, in place of `steps`"
_OPTION = "write `trainer_options: {%s: ...}` in the stage"
_EVERY = "write `checkpoint_every`: each checkpoint is saved and judged"
_CHAT = 'write `messages: "{{ conversations }}"` in the source, and `learn: last` or `all`'
_TARGETS = "write `adapter: {targets: [q_proj, v_proj, ...]}`, with the names of linear layers"
_TOKENS = (
    "add them to the base first (add_tokens, resize_token_embeddings, save both) and train "
    "`adapter: {modules_to_save: [embed_tokens, lm_head]}`"
)
_DTYPE = "write `dtype: auto`, `bfloat16`, `float16` or `float32` at the recipe's top"

_OURS: Mapping[str, str] = {
    "model_name_or_path": "write `base`",
    "base_model": "write `base`",
    "model": "write `base`",
    "dataset": "write `data: {mix: [{source: FILE, ...}]}`",
    "datasets": "write `data: {mix: [{source: FILE, ...}]}`",
    "epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "num_train_epochs": _EPOCHS,
    "max_steps": "write `steps`",
    "save_steps": _EVERY,
    "eval_steps": _EVERY,
    "save_strategy": _EVERY,
    "eval_strategy": _EVERY,
    "load_best_model_at_end": "leave it out: a training ends at its best checkpoint",
    "early_stopping_patience": "write `gate: {on_fail: [stop]}`, or bound `max_rollbacks`",
    "per_device_train_batch_size": "write `batch_size`: of all processes together",
    "micro_batch_size": "write `batch_size`: of all processes together",
    "gradient_accumulation_steps": "write `gradient_accumulation`",
    "gradient_checkpointing": "write `trainer_options: {gradient_checkpointing: on}` in the stage",
    "lr": "write `learning_rate`",
    "lr_scheduler_type": "write `schedule`",
    "lr_scheduler": "write `schedule`",
    "warmup_ratio": "write `warmup_steps`: warmup_ratio x steps",
    "max_length": "write `data: {max_length: ...}`",
    "max_seq_length": "write `data: {max_length: ...}`",
    "cutoff_len": "write `data: {max_length: ...}`",
    "sequence_len": "write `data: {max_length: ...}`",
    "max_completion_length": "write `max_new_tokens`",
    "num_generations": "write `generations`",
    "num_iterations": "write `reuse`",
    "reward_funcs": "write `rewards: [{kind: function, path: FILE.py:NAME}]`",
    "loss_type": "leave it out: each trainer has one loss",
    "optim": _OPTION % "optimizer",
    "optimizer": _OPTION % "optimizer",
    "weight_decay": _OPTION % "weight_decay",
    "adam_beta1": _OPTION % "betas",
    "adam_beta2": _OPTION % "betas",
    "packing": _OPTION % "packing",
    "sample_packing": _OPTION % "packing",
    "neftune_noise_alpha": _OPTION % "neftune_noise_alpha",
    "use_liger_kernel": _OPTION % "use_liger_kernel",
    "attn_implementation": _OPTION % "attention",
    "flash_attn": _OPTION % "attention",
    "bf16": _DTYPE,
    "fp16": _DTYPE,
    "torch_dtype": _DTYPE,
    "deepspeed": "leave it out, and start with `ratchet train --shard zero2` or `zero3`",
    "fsdp": "leave it out, and start with `ratchet train --shard fsdp`",
    "load_in_4bit": "write `quantize: 4bit`",
    "load_in_8bit": "write `quantize: 8bit`",
    "r": "write `rank`",
    "new_tokens": _TOKENS,
    "new_special_tokens": _TOKENS,
    "add_special_tokens": _TOKENS,
    "additional_special_tokens": _TOKENS,
    "add_tokens": _TOKENS,
    "resize_vocab": _TOKENS,
    "lora_r": "write `adapter: {rank: ...}`",
    "lora_rank": "write `adapter: {rank: ...}`",
    "lora_alpha": "write `adapter: {alpha: ...}`",
    "lora_dropout": "write `adapter: {dropout: ...}`",
    "lora_target": _TARGETS,
    "lora_target_modules": _TARGETS,
    "lora_target_linear": "write `adapter: {targets: all-linear}`",
    "target_modules": _TARGETS,
    "target_regex": "write the pattern as `adapter: {targets: ...}`",
    "use_dora": "write `adapter: {kind: dora}`",
    "use_rslora": "write `adapter: {kind: rslora}`",
    "pissa_init": "write `adapter: {init: pissa}`",
    "init_lora_weights": "write `adapter: {init: ...}`",
    "report_to": "write `tracking: [tensorboard]`, at the recipe's top",
    "output_dir": "leave it out: checkpoints lie in the workspace (--home)",
    "val_size": "write `data: {validation: ...}`",
    "val_set_size": "write `data: {validation: ...}`",
    "conversations": _CHAT,
    "field_messages": _CHAT,
    "mask_history": "write `learn: last` in the source",
    "excess_length_strategy": "write `data: {too_long: drop}` or `cut`",
    "truncation_strategy": "write `data: {too_long: drop}` or `cut`",
    "enable_thinking": "write `data: {template: {enable_thinking: ...}}`",
    "chat_template_kwargs": "write `data: {template: {...}}`",
    "path": "write `source`",
    "seed": "write it at the recipe's top, or under `data` for the order of the rows",
}
"""Keys of other trainers, and what to write in a recipe."""


def _keys(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WHOSE: Mapping[str, frozenset[str]] = {
    "LLaMA-Factory": _keys(
        """
        additional_target adapter_name_or_path cutoff_len dataset dataset_dir
        default_system disable_gradient_checkpointing enable_liger_kernel
        enable_thinking eval_dataset finetuning_type flash_attn freeze_trainable_layers
        interleave_probs loraplus_lr_ratio lora_alpha lora_dropout lora_rank lora_target
        mask_history max_samples mix_strategy model_name_or_path neat_packing
        overwrite_cache packing pissa_init plot_loss pref_beta pref_ftx pref_loss
        preprocessing_num_workers pure_bf16 quantization_bit quantization_method
        ref_model resize_vocab reward_model rope_scaling streaming tokenized_path
        tool_format train_on_prompt use_dora use_rslora use_unsloth val_size
        """
    ),
    "axolotl": _keys(
        """
        base_model chat_template chat_template_jinja dataset_prepared_path datasets
        early_stopping_patience eval_sample_packing evals_per_epoch
        excess_length_strategy field_messages flash_attention load_in_4bit load_in_8bit
        lora_alpha lora_dropout lora_model_dir lora_modules_to_save lora_r
        lora_target_linear lora_target_modules lr_scheduler message_property_mappings
        micro_batch_size model_type num_epochs optimizer pad_to_sequence_len
        peft_use_dora peft_use_rslora plugins rl roles_to_train sample_packing
        saves_per_epoch sequence_len special_tokens test_datasets tf32 tokenizer_type
        train_on_eos train_on_inputs unfrozen_parameters val_set_size wandb_project
        warmup_ratio xformers_attention
        """
    ),
    "ms-swift": _keys(
        """
        adapters attn_impl bnb_4bit_compute_dtype custom_register_path dataset
        enable_thinking external_plugins lazy_tokenize lora_alpha lora_dropout lora_rank
        loss_scale model_author model_type num_generations packing padding_free
        quant_bits quant_method rlhf_type split_dataset_ratio system target_modules
        train_type truncation_strategy tuner_type use_hf val_dataset
        """
    ),
    "TRL": _keys(
        """
        assistant_only_loss attn_implementation chat_template_path completion_only_loss
        dataset_name dataset_train_split dataset_text_field eos_token epsilon
        load_in_4bit load_in_8bit lora_alpha lora_dropout lora_r lora_target_modules
        loss_type max_completion_length max_length max_prompt_length model_name_or_path
        num_generations num_iterations padding_free reward_funcs reward_weights
        sync_ref_model use_peft use_vllm vllm_mode
        """
    ),
    "the Trainer of transformers": _keys(
        """
        adam_beta1 adam_beta2 adam_epsilon bf16 data_seed dataloader_num_workers
        ddp_timeout deepspeed do_eval do_train eval_steps eval_strategy fp16 fsdp
        gradient_accumulation_steps gradient_checkpointing group_by_length
        load_best_model_at_end logging_steps lr_scheduler_kwargs lr_scheduler_type
        max_steps metric_for_best_model neftune_noise_alpha num_train_epochs optim
        output_dir overwrite_output_dir per_device_eval_batch_size
        per_device_train_batch_size remove_unused_columns report_to
        resume_from_checkpoint run_name save_only_model save_safetensors save_steps
        save_strategy save_total_limit torch_dtype use_liger_kernel warmup_ratio
        weight_decay
        """
    ),
}
"""Whose a key is. What stands nowhere here may still be a key of one of them."""

_UNKNOWN = re.compile(r"unknown key '([^']*)'")


def tool_of(keys: frozenset[str]) -> str | None:
    """Whose configuration a file with these keys is; None where that isn't known."""
    return next((tool for tool, all_of, any_of in _TOOLS if all_of <= keys and any_of & keys), None)


def refuse_other_files(document: YamlDocument, own: frozenset[str]) -> None:
    """Raises UserError where the file is a suite, or another tool's configuration. `own` are the
    keys of a recipe.
    """
    keys = frozenset(document.data)
    if {"tasks", "name"} <= keys and not keys & {"stages", "base"}:
        raise document.error(
            "this is a suite, not a recipe",
            ("tasks",),
            hint="a recipe names it under `gate: {suite: ...}`; see `ratchet suites check`",
        )
    if {"stages", "line"} <= keys:
        return
    tool = tool_of(keys)
    if tool is None:
        return
    known = [key for key in document.data if key in _OURS and key not in own]
    makes = f"`ratchet recipes from {document.path.name} --suite SUITE` makes one of it; "
    raise document.error(
        f"this is a configuration of {tool}, not a recipe",
        (next(iter(document.data)),),
        hint=(makes if tool in CONVERTED else "")
        + "docs/training.md, Coming from another trainer, has each key's counterpart; "
        + "; ".join(f"{key}: {_OURS[key]}" for key in known[:3]),
    )


def in_our_words(error: UserError) -> UserError:
    """The same error; of another trainer's key the hint says whose it is, and what to write."""
    unknown = _UNKNOWN.match(error.what)
    if unknown is None:
        return error
    key = unknown[1]
    tools = [tool for tool, keys in _WHOSE.items() if key in keys]
    hint = _OURS.get(key)
    if tools:
        hint = f"a key of {' and '.join(tools)}: {hint or 'recipes have none that says the same'}"
    if hint is None:
        return error
    return UserError(error.what, file=error.file, line=error.line, field=error.field, hint=hint)

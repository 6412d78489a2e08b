"""Supervised fine-tuning over TRL: tokens as the backends make them, rows in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from trainers.recipe import Example, Recipe

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback

IGNORED = -100


class PlannedOrder:
    """A sampler over row indices that asks for the current plan each time it is begun."""

    def __init__(self, indices: Callable[[], Sequence[int]]) -> None:
        self._indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def __len__(self) -> int:
        return len(self._indices())


def adapted(model: Any, recipe: Recipe) -> Any:
    """The base model with the recipe's adapter around it, seeded; the model itself without one."""
    import torch
    from peft import LoraConfig, get_peft_model

    adapter = recipe.model.adapter
    if adapter is None:
        return model
    names = [name for name, _ in model.named_modules()]
    missing = [t for t in adapter.targets if not any(n.split(".")[-1] == t for n in names)]
    if missing:
        leaves = sorted({name.split(".")[-1] for name in names if "proj" in name or "attn" in name})
        raise UserError(
            f"the base model has no module named {missing[0]!r}",
            file=recipe.path,
            field="adapter.targets",
            cure=f"its modules are named {', '.join(leaves[:12])}",
        )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.model.seed)
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=list(adapter.targets),
        )
        # The name rather than a folder of this machine: a checkpoint's bytes, and so its digest,
        # must not depend on where it was trained.
        config.base_model_name_or_path = recipe.model.base
        wrapped = get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = recipe.model.base
    return wrapped


def tokenised(recipe: Recipe, backend: Any) -> Dataset:
    """Rows of `input_ids` and `labels`; of a chat pair only the answer is learned.

    `backend` encodes prompts exactly as scoring does, so that the model is asked in training
    what it will be asked in the suite. Raises UserError for a row that is longer than allowed.
    """
    from datasets import Dataset

    end = backend.tokenizer.eos_token_id
    rows = [_row(example, backend, end) for example in recipe.examples]
    for example, row in zip(recipe.examples, rows, strict=True):
        if len(row["input_ids"]) > recipe.model.data.max_length:
            source = recipe.model.data.mix[example.source].source
            raise UserError(
                f"row {example.row!r} has {len(row['input_ids'])} tokens, "
                f"more than {recipe.model.data.max_length}",
                file=recipe.path.parent / source,
                cure="raise data.max_length in the recipe, or shorten the row",
            )
    return Dataset.from_list(rows)


def _row(example: Example, backend: Any, end: int) -> dict[str, list[int]]:
    if example.text is not None:
        # A text begins as it does when its perplexity is taken: after the prefix token.
        ids = [*backend.encode(example.text), end]
        return {
            "input_ids": [backend.prefix_token_id, *ids],
            "labels": [IGNORED, *ids],
        }
    prompt = list(backend.encode_chat(example.prompt))
    answer = [*backend.encode(example.completion or ""), end]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def make_trainer(
    recipe: Recipe,
    model: Any,
    tokenizer: Any,
    dataset: Dataset,
    *,
    output: Path,
    order: Callable[[], Sequence[int]],
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    """TRL's SFT trainer, with the plan's order and without anything that writes on its own."""
    import torch
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    stage = recipe.stage
    gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(output),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation,
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        warmup_steps=stage.warmup_steps,
        max_grad_norm=stage.max_grad_norm,
        save_strategy="steps",
        save_steps=stage.checkpoint_every,
        # Rotation would delete the last good checkpoint before it is judged: we do it ourselves.
        save_total_limit=None,
        logging_steps=1,
        seed=recipe.model.seed,
        data_seed=recipe.model.seed,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        gradient_checkpointing=gpu,
        use_cpu=not gpu,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=recipe.model.data.max_length,
        remove_unused_columns=False,
    )

    class PlannedSFTTrainer(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return PlannedOrder(order)

    trainer: Trainer = PlannedSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer

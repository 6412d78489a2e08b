"""PPO: its settings, the value head that travels in the adapter, and the trainer's factory.

TRL has no PPO outside its experimental part, so this one is ours, on the plain
`transformers.Trainer` (Schulman et al., 2017; the defaults are that paper's, or the customary
ones for language models where it names none).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from trainers.rewards import RewardMixture

VALUE_HEAD = "value_head"
"""The module that belongs into the adapter's `modules_to_save`."""

LARGEST_BATCH = 4096
"""Answers behind one optimizer step, gradient accumulation included."""


class PpoModel(BaseModel):
    """PPO's own settings.

    A rollout is sampled once and learned from for `epochs` passes of `minibatches` optimizer
    steps each. `kl_coefficient` scales the reward lost per nat of divergence from the model with
    its adapter switched off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    clip: float = Field(default=0.2, gt=0, lt=1)
    value_clip: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.5, ge=0)
    entropy_coefficient: float = Field(default=0.01, ge=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    epochs: int = Field(default=4, ge=1)
    minibatches: int = Field(default=1, ge=1)
    gamma: float = Field(default=1.0, ge=0, le=1)
    lambda_: float = Field(default=0.95, ge=0, le=1, alias="lambda")
    whiten: bool = True


def period(stage: Any) -> int:
    """K, the optimizer steps that learn from one rollout. A state between two of its multiples
    can't be gone back to, because its rollout is no part of a checkpoint.
    """
    return int(stage.ppo.epochs * stage.ppo.minibatches)


def prompts_in(stage: Any, steps: int) -> int:
    """How many prompts `steps` optimizer steps (a multiple of the period) consume."""
    return int(steps // stage.ppo.epochs * stage.batch_size * stage.gradient_accumulation)


def with_value_head(model: Any) -> Any:
    """The language model with a linear head, hidden size to 1, that starts at 0.

    Put on before the adapter, which must name it in `modules_to_save`: so it is trained, saved
    and restored with the adapter, and ignored where the adapter is loaded for its answers.
    """
    import torch

    size = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(size, 1, dtype=torch.float32, device=model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    setattr(model, VALUE_HEAD, head)
    return model


def make_ppo_trainer(
    recipe: Any,
    stage: Any,
    model: Any,
    tokenizer: Any,
    dataset: Any,
    rewards: RewardMixture,
    *,
    output: Path,
    order: Callable[[], Sequence[int]],
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    """A Trainer that samples, scores and learns.

    `dataset` rows have a `prompt` (chat messages, or a text) and whatever columns the rewards
    read; `order` gives row indices for the whole training. Raises UserError for settings that
    can't work.
    """
    from transformers import TrainingArguments

    from trainers.arguments import common_settings, keeping, without_printing
    from trainers.ppo_trainer import PpoTrainer

    settings = stage.model
    check(settings, file=recipe.path)
    _require_adapter(model, recipe.path)
    arguments = TrainingArguments(
        **common_settings(recipe, stage, output),
        # The value head is asked outside the model's own pass, where a search would not find it.
        ddp_find_unused_parameters=False,
    )
    trainer = keeping(PpoTrainer)(
        model=model,
        tokenizer=tokenizer,
        arguments=arguments,
        settings=settings,
        rows=dataset,
        rewards=rewards,
        order=order,
        callbacks=list(callbacks),
    )
    made: Trainer = without_printing(trainer)
    return made


def check(stage: Any, *, file: Path | None = None) -> None:
    """Raise UserError where a stage's numbers don't fit PPO."""
    every = period(stage)
    if stage.checkpoint_every % every:
        raise UserError(
            f"checkpoint_every ({stage.checkpoint_every}) must be a multiple of epochs x "
            f"minibatches ({every}): between them a rollout is half learned from",
            file=file,
            field="stages.checkpoint_every",
            cure=f"set it to {max(1, round(stage.checkpoint_every / every)) * every}",
        )
    batch = stage.batch_size * stage.gradient_accumulation
    if batch > LARGEST_BATCH:
        raise UserError(
            f"a batch of {batch} answers is more than {LARGEST_BATCH}",
            file=file,
            field="stages.gradient_accumulation",
            cure="take smaller batches, or more minibatches",
        )


def _require_adapter(model: Any, file: Path) -> None:
    if not hasattr(model, "disable_adapter") or not hasattr(model.get_base_model(), VALUE_HEAD):
        raise UserError(
            "PPO needs an adapter: the model with it switched off is what it is held to",
            file=file,
            field="adapter",
            cure="add `adapter: {kind: lora}` to the recipe",
        )

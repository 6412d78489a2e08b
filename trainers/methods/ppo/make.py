"""Makes the PPO trainer of a stage from its settings, its rows and its rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainingArguments

from harness.core.errors import UserError
from trainers.config.run_options import Sharding
from trainers.methods.ppo.settings import VALUE_HEAD, check
from trainers.methods.ppo.trainer import PpoTrainer
from trainers.methods.trainer_arguments import common_settings, keeping, without_printing

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from trainers.rewards.mixture import RewardMixture


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
    sharding: Sharding | None = None,
) -> Trainer:
    """A Trainer that samples, scores and learns.

    `dataset` rows have a `prompt` (chat messages, or a text) and whatever columns the rewards
    read; `order` gives row indices for the whole training. Raises UserError for settings that
    can't work.
    """
    settings = stage.model
    check(settings, file=recipe.path)
    _require_adapter(model, recipe.path)
    arguments = TrainingArguments(
        **common_settings(recipe, stage, output, sharding),
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


def _require_adapter(model: Any, file: Path) -> None:
    if not hasattr(model, "disable_adapter") or not hasattr(model.get_base_model(), VALUE_HEAD):
        raise UserError(
            "PPO needs an adapter: the model with it switched off is what it is held to",
            file=file,
            field="adapter",
            hint="add `adapter: {kind: lora}` to the recipe",
        )

"""Makes the PPO trainer of a stage from its settings, its rows and its rewards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainingArguments

from harness.core.errors import UserError
from trainers.methods.base import Job
from trainers.methods.ppo.settings import VALUE_HEAD, check
from trainers.methods.ppo.trainer import PpoTrainer
from trainers.methods.trainer_arguments import common_settings, keeping, without_printing

if TYPE_CHECKING:
    from trainers.rewards.mixture import RewardMixture


def make_ppo_trainer(job: Job, dataset: Any, rewards: RewardMixture) -> Trainer:
    """A Trainer that samples, scores and learns.

    `dataset` rows have a `prompt` (chat messages, or a text) and whatever columns the rewards
    read; `job.order` gives row indices for the whole training. Raises UserError for settings that
    can't work.
    """
    settings = job.stage.model
    check(settings, file=job.recipe.path)
    _require_adapter(job.model, job.recipe.path)
    arguments = TrainingArguments(
        **common_settings(job),
        # The value head is asked outside the model's own pass, where a search would not find it.
        ddp_find_unused_parameters=False,
    )
    trainer = keeping(PpoTrainer)(
        model=job.model,
        tokenizer=job.tokenizer,
        arguments=arguments,
        settings=settings,
        rows=dataset,
        rewards=rewards,
        order=job.order,
        callbacks=list(job.callbacks),
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

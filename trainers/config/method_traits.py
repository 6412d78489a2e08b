"""What a recipe must know of a training method before anything is loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trainers.config.schema import RecipeModel, StageModel


class Traits(Protocol):
    """The facts of a method that a recipe is checked against."""

    @property
    def shapes(self) -> tuple[str, ...]:
        """Which shapes of a source (`SourceModel.shape`) it learns from."""
        ...

    @property
    def measures(self) -> frozenset[str]:
        """What it logs beside `loss` and `grad_norm`, for health rules to bound."""
        ...

    @property
    def continues(self) -> bool:
        """Whether the next stage goes on from its result (not from a reward model)."""
        ...

    @property
    def judged_by(self) -> frozenset[str] | None:
        """The metrics that its backend can be asked for; None where any."""
        ...

    @property
    def backend_name(self) -> str:
        """What runs name the backend, which is part of what they compare."""
        ...

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        """Why the keys don't fit this trainer; None where they do."""
        ...

    def rows(self, stage: StageModel, steps: int) -> int:
        """How many rows of data so many steps learn from."""
        ...


METHODS = {
    "sft": "trainers.methods.sft:METHOD",
    "reward": "trainers.methods.reward_model:METHOD",
    "dpo": "trainers.methods.preference:DPO",
    "kto": "trainers.methods.preference:KTO",
    "grpo": "trainers.methods.reinforcement:GRPO",
    "rloo": "trainers.methods.reinforcement:RLOO",
    "ppo": "trainers.methods.reinforcement:PPO",
}


def traits_of(trainer: str) -> Traits:
    """The method of a trainer's name, which the recipe's schema has checked."""
    module, _, name = METHODS[trainer].partition(":")
    found: Traits = getattr(importlib.import_module(module), name)
    return found

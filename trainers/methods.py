"""What the loop must know of a trainer, and where each one is found. The loop names none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from harness.backends.base import Backend
    from harness.models import ModelFiles
    from harness.workspace import Workspace
    from trainers.recipe import Recipe, Stage
    from trainers.schema import RecipeModel, StageModel


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is made of. `order` gives the rows of the whole stage as the plan stands
    when it is called; `output` is where the Trainer saves.
    """

    recipe: Recipe
    stage: Stage
    model: Any
    tokenizer: Any
    backend: Any
    workspace: Workspace
    output: Path
    order: Callable[[], Sequence[int]]
    callbacks: Sequence[TrainerCallback]


class Method(Protocol):
    """A way of training: a thin factory over a Trainer, and what is particular to it."""

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
        """Whether the next stage goes on from its result: a reward model is no language model."""
        ...

    @property
    def backend_name(self) -> str:
        """What runs name the backend, which is part of what they compare."""
        ...

    @property
    def judged_by(self) -> frozenset[str] | None:
        """The metrics that its backend can be asked for; None where any."""
        ...

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        """Why the keys don't fit this trainer; None where they do."""
        ...

    def rows(self, stage: StageModel, steps: int) -> int:
        """How many rows of data so many steps learn from."""
        ...

    def open(self, recipe: Recipe, base: ModelFiles, start: Path | None) -> tuple[Any, Any]:
        """(model, tokenizer) to be trained: the base with the recipe's adapter around it, from the
        checkpoint `start` where there is one.
        """
        ...

    def load(self, files: ModelFiles) -> tuple[Any, Any]:
        """(model, tokenizer) of a checkpoint that stands by itself, to be scored."""
        ...

    def backend(self, model: Any, tokenizer: Any) -> Backend:
        """What the live model is scored through."""
        ...

    def make(self, job: Job) -> Trainer: ...

    def forget(self, trainer: Any) -> None:
        """Drop what the trainer keeps from step to step outside its checkpoints."""
        ...


METHODS = {
    "sft": "trainers.sft:METHOD",
    "reward": "trainers.reward:METHOD",
    "dpo": "trainers.preference:DPO",
    "kto": "trainers.preference:KTO",
    "grpo": "trainers.reinforcement:GRPO",
    "rloo": "trainers.reinforcement:RLOO",
    "ppo": "trainers.reinforcement:PPO",
}


def method_of(trainer: str) -> Method:
    """The method of a trainer's name, which the recipe's schema has checked."""
    module, _, name = METHODS[trainer].partition(":")
    found: Method = getattr(importlib.import_module(module), name)
    return found

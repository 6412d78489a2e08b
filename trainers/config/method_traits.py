"""The facts of a training method that a recipe is checked against, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trainers.config.known_trainers import TRAINERS

if TYPE_CHECKING:
    from pydantic import BaseModel

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

    @property
    def keys(self) -> frozenset[str]:
        """Which of the stage's keys that not all trainers know (`schema.PARTICULAR`) it takes."""
        ...

    @property
    def options(self) -> type[BaseModel] | None:
        """What may stand under the stage's `options`: the keys that it alone knows; None if none.

        A stage keeps them as they were written: `options.model_validate(stage.options or {})`.
        """
        ...

    @property
    def samples(self) -> bool:
        """Whether it draws answers from the model that it trains, pass after pass over it."""
        ...

    @property
    def trained_whole(self) -> tuple[str, ...]:
        """What it trains of the language model beside the adapter, which no server can put on."""
        ...

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        """Why the keys don't fit this trainer; None where they do."""
        ...

    def rows(self, stage: StageModel, steps: int) -> int:
        """How many rows of data so many steps learn from."""
        ...


def traits_of(trainer: str) -> Traits:
    """The method of a trainer's name, which the recipe's schema has checked."""
    found: Traits = TRAINERS.load(trainer)
    return found

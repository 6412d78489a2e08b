"""The interface of a training method: what the loop asks of every trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from trainers.config.method_traits import Traits, traits_of

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

    from harness.backends.base import Backend
    from harness.core.workspace import Workspace
    from harness.models.resolve import ModelFiles
    from trainers.config.precision import Settled
    from trainers.config.recipe import Recipe, Stage
    from trainers.config.run_options import Sharding


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is made of. `order` gives the rows of the whole stage as the plan stands
    when it is called; `output` is where the Trainer saves; `sharding` is how it is cut up over
    its processes; `settled` is how it was decided to hold weights and to take steps (None: as
    trainings went that noted nothing).
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
    sharding: Sharding | None = None
    settled: Settled | None = None


class Method(Traits, Protocol):
    """A way of training: a thin factory over a Trainer, and what is particular to it."""

    def open(
        self,
        recipe: Recipe,
        base: ModelFiles,
        start: Path | None,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> tuple[Any, Any]:
        """(model, tokenizer) to be trained: the base in `dtype` on `device` with the recipe's
        adapter, in float32, around it; from the checkpoint `start` where there is one.
        """
        ...

    def load(
        self, files: ModelFiles, *, dtype: str = "float32", device: str = "cpu"
    ) -> tuple[Any, Any]:
        """(model, tokenizer) of a checkpoint that stands by itself, to be scored."""
        ...

    def backend(self, model: Any, tokenizer: Any) -> Backend:
        """What the live model is scored through."""
        ...

    def make(self, job: Job) -> Trainer: ...

    def forget(self, trainer: Any) -> None:
        """Drop what the trainer keeps from step to step outside its checkpoints."""
        ...


def method_of(trainer: str) -> Method:
    """The method of a trainer's name, which the recipe's schema has checked."""
    return cast("Method", traits_of(trainer))

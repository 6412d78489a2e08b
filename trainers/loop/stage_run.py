"""One execution of one stage: what is trained, from where, how, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles, resolve
from trainers.checkpoints.lookup import training_id
from trainers.checkpoints.state import load_state
from trainers.config.precision import WHOLE, Machine, Settled, settle, settled_before
from trainers.config.recipe import Recipe, Stage
from trainers.config.run_options import ALL_HERE, RunOptions
from trainers.config.step_memory import fitting
from trainers.methods.base import Method, method_of


@dataclass(frozen=True, slots=True)
class StageRun:
    """`start` is the checkpoint that the stage begins from in place of the bare base; `given` how
    its model is loaded and asked where that is not for the stage's trainer to say, and `dtype` then
    the one in which it answers, by torch's name.
    """

    recipe: Recipe
    stage: Stage
    base: ModelFiles
    start: Path | None
    options: RunOptions
    workspace: Workspace
    training_id: str
    given: Method | None = None
    dtype: str = "float32"

    @property
    def method(self) -> Method:
        return self.given or method_of(self.stage.model.trainer)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        stage: Stage,
        workspace: Workspace,
        *,
        start: Path | None = None,
        options: RunOptions = ALL_HERE,
        say: Callable[[str], None] = lambda message: None,
    ) -> StageRun:
        """Finds the base model's files. Raises UserError where there are none."""
        base = resolve(recipe.model.base, workspace, say=say)
        name = training_id(recipe, stage, base)
        return cls(recipe, stage, base, start, options, workspace, name)

    @property
    def home(self) -> Path:
        """The training's own folder."""
        return self.workspace.trainings / self.training_id

    @property
    def state_file(self) -> Path:
        return self.home / "state.json"

    def settle(self, machine: Machine) -> Settled:
        """For a training that begins here and now. A given Trainer's is its own affair."""
        if self.given is not None:
            return Settled(self.dtype, self.dtype, self.dtype)
        fits = fitting(self.recipe, self.stage, self.base)
        return settle(self.recipe, self.stage, machine, fits)

    @property
    def settled(self) -> Settled:
        """As it was when this training began, or would be if it began now. Cut up over processes,
        weights are float32 as ever: FSDP and ZeRO shard tensors of one dtype.
        """
        state = load_state(self.state_file)
        if state is None or self.given is not None:
            found = self.settle(Machine.here())
        else:
            found = state.settled or settled_before(self.recipe, Machine.here())
        return replace(found, weights=WHOLE) if self.options.sharding else found

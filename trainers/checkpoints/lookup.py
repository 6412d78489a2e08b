"""Where the checkpoints of an earlier training or stage lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles, resolve
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import load_state
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Recipe, Stage


def training_id(recipe: Recipe, stage: Stage, base: ModelFiles) -> str:
    """A name for the execution of a stage: the same call goes on with the same training."""
    parts: Sequence[Any] = [recipe.digest, base.digest]
    if len(recipe.stages) == 1:
        return f"{recipe.model.name}-{digest_of(parts)[:10]}"
    return f"{recipe.model.name}.{stage.name}-{digest_of([*parts, stage.number])[:10]}"


def reward_folder(recipe: Recipe, name: str, workspace: Workspace | None) -> Path:
    """The best checkpoint of a reward stage. Raises UserError where there is none."""
    stage = next((stage for stage in recipe.stages if stage.name == name), None)
    if stage is None or traits_of(stage.model.trainer).continues:
        known = [s.name for s in recipe.stages if not traits_of(s.model.trainer).continues]
        raise UserError(
            f"the recipe has no reward stage named {name!r}",
            file=recipe.path,
            field="stages.rewards",
            hint=f"its reward stages are: {', '.join(known) or 'none'}",
        )
    workspace = workspace or Workspace.at()
    base = resolve(recipe.model.base, workspace)
    folder = CheckpointFolder(workspace.trainings / training_id(recipe, stage, base))
    state = load_state(folder.home / "state.json")
    if state is None or state.status != "finished" or not state.best_checkpoint:
        raise UserError(
            f"no checkpoint of the reward stage {name!r} was shown to be better than guessing",
            file=recipe.path,
            field="stages.rewards",
            hint="give it more data or steps; a reward that says nothing teaches nothing",
        )
    return folder.require(state.best_checkpoint)

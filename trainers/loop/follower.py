"""A process other than rank 0: it trains as rank 0 says, and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.lookup import training_id
from trainers.config.recipe import Recipe, Stage
from trainers.distributed.ranks import Ranks
from trainers.loop.engine import Engine
from trainers.loop.health import LOSS_GAP, Health


class Follower:
    """Mirrors `GatedTraining` call by call: wherever that one shares, this one receives."""

    def __init__(
        self, recipe: Recipe, workspace: Workspace, stage: Stage, start: Path | None, ranks: Ranks
    ) -> None:
        self.recipe = recipe
        self.workspace = workspace
        self.stage = stage
        self.start = start
        self.ranks = ranks
        self.base = resolve(recipe.model.base, workspace)
        self.folder = CheckpointFolder(workspace.trainings / training_id(recipe, stage, self.base))
        self.health = Health({})
        self._engine: Engine | None = None

    def run(self) -> None:
        if not self.ranks.share():
            return
        self._engine = Engine(
            self.recipe,
            self.stage,
            self.base,
            self.start,
            self.workspace,
            self.folder.staging,
            self,
        )
        while (turn := self.ranks.share()) is not None:
            self._lost = False
            self._engine.run(turn)

    def began(self, step: int) -> bool:
        assert self._engine is not None
        self._engine.set_learning_rate()
        if self.ranks.share():
            self._engine.save()
            return self.saved(0)
        return bool(self.ranks.share())

    def saved(self, step: int) -> bool:
        self.ranks.wait()
        if self._lost:
            return True
        if step and LOSS_GAP in self.stage.health:
            assert self._engine is not None
            self._engine.validation_loss()
        return bool(self.ranks.share())

    def logged(self, step: int, logs: Mapping[str, Any]) -> bool:
        # What is logged is the mean over all processes, so that each comes to the same conclusion.
        self._lost = "loss" in logs and self.health.hear(logs) is not None
        return self._lost

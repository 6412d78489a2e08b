"""What a process other than rank 0 does: it trains as rank 0 says, and judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainers.checkpoints.folder import CheckpointFolder
from trainers.distributed.ranks import Ranks
from trainers.loop.engine import Engine, TrainerEngine, Watcher
from trainers.loop.health import LOSS_GAP, Health
from trainers.loop.stage_run import StageRun


class Follower:
    """Mirrors `GatedLoop` call by call: wherever that one shares, this one receives. `open_` makes
    its engine where that is not the recipe's.
    """

    def __init__(
        self,
        run: StageRun,
        ranks: Ranks,
        open_: Callable[[Watcher], TrainerEngine] | None = None,
    ) -> None:
        self.stage_run = run
        self.ranks = ranks
        self._open = open_
        self.health = Health({})
        # As rank 0 makes it: both write their part of a checkpoint into one staging folder.
        self.staging = CheckpointFolder(run.home).staging

    def run(self) -> None:
        if not self.ranks.share():
            return
        self._engine: TrainerEngine = (
            self._open(self) if self._open else Engine(self.stage_run, self.staging, self)
        )
        while (segment := self.ranks.share()) is not None:
            self._lost = False
            self._engine.run(segment)

    def began(self, step: int) -> bool:
        self._engine.set_learning_rate()
        if self.ranks.share():
            self._engine.save()
            return self.saved(0)
        return bool(self.ranks.share())

    def saved(self, step: int) -> bool:
        self.ranks.wait()
        if self._lost:
            return True
        if step and LOSS_GAP in self.stage_run.stage.health:
            self._engine.validation_loss()
        return bool(self.ranks.share())

    def logged(self, step: int, logs: Mapping[str, Any]) -> bool:
        # What is logged is the mean over all processes, so that each comes to the same conclusion.
        self._lost = "loss" in logs and self.health.hear(logs) is not None
        return self._lost

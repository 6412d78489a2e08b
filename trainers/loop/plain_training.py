"""Trains a recipe's stage to its last step and scores that: no verdict, no step back."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UserError
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.store.store import Store
from trainers.checkpoints.folder import untouched_randomness
from trainers.checkpoints.state import Judged, TrainingState
from trainers.config.recipe import Recipe
from trainers.loop.gated_training import GatedTraining
from trainers.loop.judge import JudgeInProcess, Judging, Open
from trainers.loop.opinion import Opinion
from trainers.loop.reporter import Reporter


class PlainTraining(GatedTraining):
    """One training of a recipe's only stage, as long as the recipe says whatever comes of it.

    `first` is the run of checkpoint-0 where it is known: what a recipe begins with is the same
    whatever it learns from.
    """

    def __init__(
        self,
        recipe: Recipe,
        workspace: Workspace,
        store: Store,
        reporter: Reporter,
        *,
        start: Path | None = None,
        first: str | None = None,
    ) -> None:
        super().__init__(recipe, workspace, store, reporter, start=start)
        scoring = _Scoring(self.stage_run, self.folder, store, reporter)
        scoring.known_first = first
        self.judging: Judging = scoring
        self.judge = JudgeInProcess(scoring, self.live_backend)

    @property
    def first(self) -> str:
        """The run of checkpoint-0, once there is one."""
        return self.judging.run_of(self.state, 0).id

    def last_run(self) -> Run:
        """Train, or go on, or do nothing where it is done; the run of the last checkpoint. Raises
        UserError where the training had to stop before.
        """
        self.run()
        if self.state.status != "finished":
            raise UserError(
                f"the training {self.training_id} stopped before its last step",
                file=self.folder.home,
                hint="its loss was no number: look at the rows and at the learning rate",
            )
        return self.judging.run_of(self.state, self.stage.model.steps)


class _Scoring(Judging):
    """Scores checkpoints as far as a verdict would need, and holds them all."""

    known_first: str | None = None

    def opinion(self, step: int, state: TrainingState, open_: Open) -> Opinion:
        if step == 0 and self.known_first is not None:
            return Opinion(Judged(0, state.attempt, self.known_first, "anchor"))
        if step == 0:
            return super().opinion(step, state, open_)
        with untouched_randomness(), self.candidate(step, open_) as candidate:
            run = self.extend(candidate, step, self.whole)
        return Opinion(Judged(step, state.attempt, run.id, "held"))

"""Train a segment, save a checkpoint, judge it: go on, or roll back in the same process.

The trainer's own loop runs; a callback judges each checkpoint where the Trainer has just saved
it, and a rollback re-enters `train()` on the same object from the last good state, which is
bit-exact (docs/training.md says what that took).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.backends.base import Backend
from harness.core.fault_points import fault_point
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles
from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import TrainingState
from trainers.config.data_plan import DataPlan, make_plan
from trainers.config.difficulty import difficulty_of
from trainers.config.recipe import Recipe, Stage
from trainers.config.run_options import ALL_HERE, RunOptions
from trainers.distributed.ranks import ALONE, Ranks
from trainers.loop.engine import Engine, Segment, TrainerEngine
from trainers.loop.event_log import of_rewards
from trainers.loop.flat_rewards import FlatRewards
from trainers.loop.health import LOSS_GAP, Health
from trainers.loop.judge import Judge, JudgeInProcess, Judging
from trainers.loop.offered_checkpoint import choose_offered
from trainers.loop.promotion import offer
from trainers.loop.record import TrainingRecord
from trainers.loop.remedies import Failure, order_of
from trainers.loop.reporter import Reporter, TrainingResult
from trainers.loop.rollback import Rollback
from trainers.loop.stage_run import StageRun
from trainers.loop.verdict_queue import VerdictQueue


class GatedLoop(ABC):
    """One training under its gate. `run` begins it, or goes on where it was stopped.

    What is trained, and how, is a subclass's: a recipe's stage here, somebody's own Trainer in
    `trainers.wrap`.
    """

    engine: TrainerEngine

    def __init__(
        self,
        run: StageRun,
        store: Store,
        reporter: Reporter,
        ranks: Ranks = ALONE,
        folder: CheckpointFolder | None = None,
    ) -> None:
        self.stage_run = run
        self.stage = run.stage
        self.reporter = reporter
        self.ranks = ranks
        self.folder = folder or CheckpointFolder(run.home)
        self.record = TrainingRecord(run, self.folder, self.plan_of, store)
        self.health = Health(self.stage.health)
        self.flat = FlatRewards(run.recipe, self.stage)
        self.judging = Judging(run, self.folder, store, reporter)
        self.judge: Judge = JudgeInProcess(self.judging, self.live_backend)
        self.verdicts = VerdictQueue(self.record, self.health, reporter)
        self.rollback = Rollback(self.record, reporter)

    @abstractmethod
    def plan_of(self, version: int) -> DataPlan:
        """Which data is learned from in which segment, in that version of making plans."""

    @abstractmethod
    def open_engine(self) -> TrainerEngine:
        """The Trainer, ready to be entered."""

    @property
    def training_id(self) -> str:
        return self.stage_run.training_id

    @property
    def plan(self) -> DataPlan:
        return self.record.plan

    @property
    def state(self) -> TrainingState:
        return self.record.state

    # -- the whole ---------------------------------------------------------------------------

    def run(self, *, again: bool = False) -> TrainingResult:
        """Train to the end. Raises UserError where the checkpoints on disk can't be used."""
        if self.record.open(again=again):
            self.reporter.say("Going on where this training was stopped.")
        if self.state.status == "running":
            try:
                self._train()
            except KeyboardInterrupt:
                self.record.event("interrupted", step=None)
                raise
            finally:
                self.judge.close()
        else:
            self.ranks.share()
        return self._result()

    def _train(self) -> None:
        """Attempt after attempt, each from where the last one was rolled back to."""
        resume = self.record.where_to_resume()
        self.engine = self.open_engine()
        while True:
            failure = self._attempt(resume)
            if failure is None:
                break
            resume = self.rollback.after(failure, reached=self.engine.step)
            if resume is None:
                break
        # The other processes, which are told of each attempt, hear that there is none to come.
        self.ranks.share()
        if failure is None:
            self._finish()
        else:
            self.record.end("stopped", step=failure.step, detail={"remedies": "used up"})

    def _finish(self) -> None:
        """Choose once what is to be offered: what is scored for it later must not change it."""
        best = self.state.best_checkpoint
        detail: dict[str, Any] = {"crest": best}
        if self.stage_run.recipe.line_of(self.stage) is not None:
            offered = choose_offered(self.judging, self.state)
            if offered.step != best:
                self.reporter.say(f"Offering {offered.why}")
            self.record.keep(replace(self.state, offered=offered.step))
            detail |= {"offered": offered.step, "why": offered.why}
        self.record.end("finished", step=self.stage.model.steps, detail=detail)

    def _attempt(self, resume: int | None) -> Failure | None:
        """Train from the checkpoint `resume` (None: from the start) to the end, each checkpoint
        judged on the way; returns the failure that ended it before, if one did.
        """
        self.verdicts.begin()
        self.folder.clear_staging()
        place = None if resume is None else str(self.folder.require(resume))
        order = order_of(self.stage, self.plan, self.state)
        segment = Segment(order, place, self.state.lr_scale)
        self.engine.run(self.ranks.share(segment))
        # The last checkpoints may still be open where the judge works in the background.
        self.verdicts.has_failed(self.judge, undecided=0)
        return self.verdicts.failure

    def live_backend(self, step: int, files: ModelFiles) -> Backend:
        """What the checkpoint of `step` is scored through in this process."""
        return self.engine.backend(step, files)

    # -- called by the Trainer, which stops where one returns True ---------------------------------

    def began(self, step: int) -> bool:
        """At the start of `train()`: save and judge what has not been."""
        self.engine.set_learning_rate()
        self.health.begin()
        if self.ranks.share(step == 0 and not self.folder.path(0).exists()):
            self.engine.save()
            return self.saved(0)
        self.verdicts.put(self.record.not_judged())
        return self._must_go_back()

    def saved(self, step: int) -> bool:
        """After the Trainer has written a checkpoint: keep and judge it."""
        self.ranks.wait()
        if self.verdicts.failure is not None:
            return True
        self._keep_checkpoint(step)
        self.verdicts.put([step])
        return self._must_go_back()

    def logged(self, step: int, logs: Mapping[str, Any]) -> bool:
        """After each step: give the segment up where a number has gone wrong."""
        if "loss" not in logs:
            return False
        self.record.log.step(step, self.state.attempt, logs)
        if any(name.startswith(("reward", "safety/")) for name in logs):
            self.record.event("rewards", step=step, detail=of_rewards(logs))
        self.reporter.train_step(step, self.stage.model.steps, logs["loss"])
        if (said := self.flat.hear(step, logs)) is not None:
            self.record.event("flat_rewards", step=step, detail={"why": said})
            self.reporter.say(said)
        symptom = self.health.hear(logs)
        if symptom is None:
            # With others training along, all must stop at once: at the next checkpoint.
            alone = self.ranks.world == 1
            return alone and self.verdicts.has_failed(self.judge, undecided=self.judge.lag)
        # An earlier checkpoint that has failed meanwhile is the reason that counts.
        if not self.verdicts.has_failed(self.judge, undecided=0):
            every = self.stage.model.checkpoint_every
            planned = -(-step // every) * every
            why = f"at step {step} {symptom.why}"
            self.verdicts.give_up(Failure(planned, why, None, symptom.remedy))
        return True

    def _keep_checkpoint(self, step: int) -> None:
        measures = self.health.means(self._validation_loss() if step else None)
        self.health.begin()
        run = self.stage_run
        # First the files, then the event, then the verdict: killed in between, the training finds
        # a checkpoint without a verdict when it starts again, and has it judged then.
        self.folder.commit(
            step,
            attempt=self.state.attempt,
            base=run.recipe.model.base,
            measures=measures,
            beside=run.base.folder,
        )
        self.record.event("checkpoint", step=step, detail={"measures": measures})
        fault_point("before-judgement")

    def _must_go_back(self) -> bool:
        """The same answer in every process."""
        failed = self.verdicts.has_failed(self.judge, undecided=self.judge.lag)
        self.engine.let_go()
        return bool(self.ranks.share(failed))

    def _validation_loss(self) -> float | None:
        return self.engine.validation_loss() if LOSS_GAP in self.stage.health else None

    # -- the end -----------------------------------------------------------------------------------

    def _result(self) -> TrainingResult:
        state, line = self.state, self.stage_run.recipe.line_of(self.stage)
        digest, promoted = None, False
        step = state.to_offer
        if step and state.status == "finished" and line is not None:
            digest, promoted, now = offer(self.judging, state, line)
            if now:
                detail = {"line": line, "digest": digest}
                self.record.event("promoted", step=step, detail=detail)
        return TrainingResult(
            self.training_id,
            state.status,
            state.best_checkpoint,
            self.judging.run_of(state, 0),
            self.judging.run_of(state, state.best_checkpoint),
            digest,
            promoted,
            state.rollbacks,
            line,
            step,
            self.judging.run_of(state, step),
        )


class GatedTraining(GatedLoop):
    """One execution of a recipe's stage.

    `start` is the checkpoint that it begins from in place of the bare base.
    """

    def __init__(
        self,
        recipe: Recipe,
        workspace: Workspace,
        store: Store,
        reporter: Reporter,
        stage: Stage | None = None,
        start: Path | None = None,
        ranks: Ranks = ALONE,
        options: RunOptions = ALL_HERE,
    ) -> None:
        run = StageRun.of(
            recipe,
            stage or recipe.stages[0],
            workspace.ensure(),
            start=start,
            options=options,
            say=reporter.say,
        )
        super().__init__(run, store, reporter, ranks)

    def plan_of(self, version: int) -> DataPlan:
        run = self.stage_run
        return make_plan(
            self.stage,
            spare=self.stage.gate.max_rollbacks,
            difficulty=difficulty_of(self.stage, run.base, run.start, run.home),
            version=version,
        )

    def open_engine(self) -> Engine:
        """The judge's process, where there is one, then the model: both load at the same time."""
        device = self.stage_run.options.background_device
        if device is not None:
            from trainers.loop.background_judge import BackgroundJudge

            self.judge = BackgroundJudge(self.stage_run, device, self.reporter)
        self.ranks.share(True)
        settled = str(self.stage_run.settled)
        how = f" ({settled})" if settled else ""
        self.reporter.say(f"Loading {self.stage_run.recipe.model.base}{how}")
        return Engine(self.stage_run, self.folder.staging, self)

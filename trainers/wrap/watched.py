"""The loop of a training that runs by itself: it is told of checkpoints, and judges them."""

from __future__ import annotations

from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import Status
from trainers.config.data_plan import DataPlan
from trainers.loop.engine import TrainerEngine
from trainers.loop.gated_training import GatedLoop
from trainers.loop.reporter import Reporter, TrainingResult
from trainers.loop.stage_run import StageRun


class Watched(GatedLoop):
    """Never entered, and never rolled back: what follows from a verdict is the caller's."""

    def __init__(
        self, run: StageRun, folder: CheckpointFolder, store: Store, reporter: Reporter
    ) -> None:
        super().__init__(run, store, reporter, folder=folder)

    def plan_of(self, version: int) -> DataPlan:
        """Nothing is known of its data."""
        return DataPlan(tuple((n,) for n in range(self.stage.segments)), self.stage.segments)

    def open_engine(self) -> TrainerEngine:
        raise NotImplementedError("a training that is watched is entered by nobody here")

    def judge_saved(self, step: int) -> bool:
        """Whether the checkpoint that was saved just now fails. The verdict is kept in any case."""
        failed = self.saved(step)
        failure = self.verdicts.failure
        if failure is not None and failure.judged is not None:
            self.record.keep(self.state.with_judged(failure.judged))
        self.verdicts.begin()
        return failed

    @property
    def has_failed(self) -> bool:
        return any(judged.outcome == "fail" for judged in self.state.judged)

    def finish(self, status: Status, *, step: int) -> TrainingResult:
        """Record the end; of a training that was not stopped, offer to its line what is best."""
        if status == "finished":
            self._finish()
        else:
            self.record.end(status, step=step, detail={"crest": self.state.best_checkpoint})
        return self._result()

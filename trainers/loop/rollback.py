"""Takes a failed checkpoint back: applies the next remedy and says where to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.fault_points import fault_point
from harness.core.webhook import call
from trainers.loop.blame import Blame, rows_to_skip
from trainers.loop.record import TrainingRecord
from trainers.loop.remedies import Failure, next_remedy, rolled_back, target_of
from trainers.loop.reporter import Reporter


class Rollback:
    """Of one training."""

    def __init__(self, record: TrainingRecord, reporter: Reporter) -> None:
        self._record = record
        self._reporter = reporter

    def after(self, failure: Failure, *, reached: int) -> int | None:
        """Apply the next remedy and return the step to go on from; None where none is left.
        `reached` is the step up to which the model in memory was trained.
        """
        record = self._record
        stage, folder = record.run.stage, record.folder
        remedy = next_remedy(record.state, stage, failure)
        blame = Blame()
        if remedy == "skip_rows":
            blame = rows_to_skip(record, failure, self._reporter)
            remedy = "skip_rows" if blame.rows else "skip_data"
        target = target_of(record.state, [step for step, _ in folder.steps()])
        skip = [row.number for row in blame.rows]
        state = rolled_back(
            record.state, failure, remedy, target, stage=stage, plan=record.plan, skip=skip
        )
        detail: dict[str, Any] = {
            **blame.told(),
            "to": target,
            "remedy": remedy,
            "why": failure.why,
            "verdicts": list(failure.judged.verdicts) if failure.judged else [],
            "reached": reached,
        }
        fault_point("before-rollback")
        record.event("rolled_back", step=failure.step, detail=detail)
        # From here on the failed checkpoints belong to an earlier attempt, so that a process
        # killed before they are moved finds and moves them when it starts again.
        record.keep(state)
        fault_point("mid-rejection")
        for found, attempt in list(folder.steps()):
            if found > target and attempt < state.attempt:
                folder.reject(found, attempt)
        self._reporter.rolled_back(failure.step, target, remedy, failure.why)
        self._call_webhook(failure.step, detail)
        return None if remedy == "stop" else target

    def _call_webhook(self, step: int, detail: Mapping[str, Any]) -> None:
        run = self._record.run
        url = run.recipe.model.webhook
        if url is None:
            return
        message = {
            "event": "rolled_back",
            "training": run.training_id,
            "recipe": run.recipe.model.name,
            "stage": run.stage.name or None,
            "step": step,
            **detail,
        }
        problem = call(url, message)
        if problem:
            self._record.event("webhook_failed", step=step, detail={"why": problem})
            self._reporter.say(f"The webhook was not told: {problem}")

"""What a training remembers: its state, which decides what happens next, and its events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.models.resolve import resolve
from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import Status, TrainingState, load_state, save_state
from trainers.config.data_plan import PLAN_VERSION, DataPlan
from trainers.config.precision import Machine
from trainers.loop.event_log import TrainingLog
from trainers.loop.stage_run import StageRun


class TrainingRecord:
    """State and checkpoints on disk, events in the store. `state` is there once it is open.

    `plan_of` makes the data plan of a version: a training goes on with the one that it began with.
    """

    state: TrainingState

    def __init__(
        self,
        run: StageRun,
        folder: CheckpointFolder,
        plan_of: Callable[[int], DataPlan],
        store: Store,
    ) -> None:
        self.run = run
        self._plan_of = plan_of
        self._plan: DataPlan | None = None
        self.folder = folder
        self.path = run.home / "state.json"
        self.store = store
        self.log = TrainingLog(store, run.training_id)

    @property
    def plan(self) -> DataPlan:
        """As the stage was planned at first. Raises UserError where it can't be had again."""
        if self._plan is None:
            state = load_state(self.path)
            self._plan = self._plan_of(PLAN_VERSION) if state is None else self._kept_plan(state)
        return self._plan

    def _kept_plan(self, state: TrainingState) -> DataPlan:
        known = 1 <= state.plan_version <= PLAN_VERSION
        plan = self._plan_of(state.plan_version) if known else None
        if plan is None or plan.digest != state.plan:
            raise UserError(
                "this training was begun with a data plan that this version of Ratchet, or of "
                "NumPy, does not make",
                file=self.path,
                hint="go on with the versions that it was begun with, or begin anew with --again",
            )
        return plan

    def open(self, *, again: bool) -> bool:
        """Take up the training where it was left; begin it where it never began, where it began
        from other weights, or where it is to be done `again`. True: it was interrupted.
        """
        start, workspace = self.run.start, self.run.workspace
        base = self.run.recipe.model.base  # that which the start names may have been moved
        origin = "" if start is None else resolve(str(start), workspace, base=base).digest
        state = load_state(self.path)
        if state is not None and (again or state.origin != origin):
            self._put_away()
            state = self._plan = None
        interrupted = state is not None and state.status == "running"
        if state is None:
            run, settled = self.run, self.run.settle(Machine.here())
            state = TrainingState(
                run.training_id,
                self.plan.digest,
                origin=origin,
                plan_version=PLAN_VERSION,
                settled=settled,
            )
            self.log.announce(run.recipe, run.stage, run.base.digest, self.plan, settled)
            write_atomic(self.run.home / "plan.json", self._plan_as_json())
        elif interrupted:
            self._plan = self._kept_plan(state)
            self.log.event("resumed", attempt=state.attempt, step=None)
        self.keep(state)
        return interrupted

    def keep(self, state: TrainingState) -> None:
        """From here on this is where a training that was killed goes on."""
        save_state(self.path, state)
        self.state = state

    def event(
        self, event: str, *, step: int | None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.log.event(event, attempt=self.state.attempt, step=step, detail=detail)

    def end(self, status: Status, *, step: int, detail: Mapping[str, Any]) -> None:
        self.keep(replace(self.state, status=status))
        self.event(status, step=step, detail=detail)

    def where_to_resume(self) -> int | None:
        """The last whole checkpoint of this attempt, None before the first; those of a failed
        attempt are moved away. Raises UserError where what was judged is gone.
        """
        last = None
        for step, attempt in self.folder.steps():
            # A process that was killed in a rollback had recorded it, but not moved these yet.
            if step > self.state.start and attempt < self.state.attempt:
                self.folder.reject(step, attempt)
            else:
                last = step
        if last is None and self.state.judged:
            raise UserError(
                "this training has been judged, but no whole checkpoint is left",
                file=self.folder.kept,
                hint="restore that folder, or begin anew with --again",
            )
        return last

    def not_judged(self) -> list[int]:
        """Checkpoints that still need a verdict: several where an interrupted training was ahead
        of its judge.
        """
        kept = sorted(step for step, _ in self.folder.steps())
        return [step for step in kept if not self.state.is_judged(step)]

    def _plan_as_json(self) -> str:
        examples = self.run.stage.examples
        rows = [
            [examples[i].name if examples else i for i in segment] for segment in self.plan.segments
        ]
        body = {"digest": self.plan.digest, "planned": self.plan.planned, "segments": rows}
        return json.dumps(body, ensure_ascii=False, indent=1) + "\n"

    def _put_away(self) -> None:
        """Begin anew: the old training's folder stays beside the new one."""
        home, number = self.run.home, 1
        while (target := home.with_suffix(f".old{number}")).exists():
            number += 1
        home.rename(target)
        self.folder.make()

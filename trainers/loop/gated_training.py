"""Train a segment, save a checkpoint, judge it: go on, or roll back in the same process.

The trainer's own loop runs; a callback judges each checkpoint where the Trainer has just saved
it, and a rollback re-enters `train()` on the same object from the last good state, which is
bit-exact (docs/training.md says what that took).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.backends.base import Backend
from harness.core import files as artifacts
from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.types import VerdictOutcome
from harness.core.webhook import call
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles, resolve
from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.lookup import training_id
from trainers.checkpoints.state import Status, TrainingState, load_state, save_state
from trainers.config.data_plan import current_order, make_plan
from trainers.config.difficulty import difficulty_of
from trainers.config.recipe import Recipe, Stage
from trainers.distributed.ranks import ALONE, Ranks
from trainers.loop.engine import Engine, Segment
from trainers.loop.event_log import TrainingLog, of_rewards, told
from trainers.loop.health import LOSS_GAP, Health
from trainers.loop.judge import Judge, JudgeInProcess, Judging, Opinion
from trainers.loop.promotion import offer
from trainers.loop.remedies import Failure, next_remedy, rolled_back, target_of
from trainers.loop.reporter import Reporter, TrainingResult

FAIL = VerdictOutcome.FAIL


class GatedTraining:
    """One execution of a recipe's stage. `run` begins it, or goes on where it was stopped.

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
    ) -> None:
        self.recipe = recipe
        self.stage = stage or recipe.stages[0]
        self.workspace = workspace.ensure()
        self.store = store
        self.reporter = reporter
        self.start = start
        self.ranks = ranks
        self.base = resolve(recipe.model.base, workspace, say=reporter.say)
        self.training_id = training_id(recipe, self.stage, self.base)
        self.folder = CheckpointFolder(workspace.trainings / self.training_id)
        self.plan = make_plan(
            self.stage,
            spare=self.stage.gate.max_rollbacks,
            difficulty=difficulty_of(self.stage, self.base, start, self.folder.home),
        )
        self.state_path = self.folder.home / "state.json"
        self.log = TrainingLog(store, self.training_id)
        self.judging = Judging(
            recipe, self.stage, self.training_id, self.folder, workspace, store, reporter
        )
        self.health = Health(self.stage.health)
        self._judge: Judge = JudgeInProcess(self.judging, self._backend)
        self._docket: deque[int] = deque()
        self._engine: Engine | None = None
        self._failure: Failure | None = None

    # -- the whole ---------------------------------------------------------------------------

    def run(self, *, again: bool = False) -> TrainingResult:
        """Train to the end. Raises UserError where the checkpoints on disk can't be used."""
        origin = "" if self.start is None else _origin(self.start, self.workspace)
        state = load_state(self.state_path)
        if state is not None and (again or state.origin != origin):
            self._put_away()
            state = None
        if state is None:
            state = TrainingState(self.training_id, self.plan.digest, origin=origin)
            self.log.announce(self.recipe, self.stage, self.base.digest, self.plan)
            artifacts.write_atomic(self.folder.home / "plan.json", self._plan_as_json())
        elif state.status == "running":
            self.log.event("resumed", attempt=state.attempt, step=None)
            self.reporter.say("Going on where this training was stopped.")
        self.state = state
        self._keep_state(state)
        if state.status == "running":
            try:
                self._train()
            except KeyboardInterrupt:
                self._event("interrupted", step=None)
                raise
            finally:
                self._judge.close()
        else:
            self.ranks.share()
        return self._result()

    def _train(self) -> None:
        resume = self._where_to_resume()
        if self.recipe.aside is not None:
            self._judge = self._judge_in_background()
        self.ranks.share(True)
        engine = self._make_engine()
        while True:
            self._failure = None
            self.folder.clear_staging()
            place = None if resume is None else str(self.folder.require(resume))
            order = current_order(self.plan, self.state.dropped, self.state.reshuffles)
            segment = Segment(order, place, self.state.lr_scale)
            engine.run(self.ranks.share(segment))
            if self._failure is None and not self._can_no_longer_pass(undecided=0):
                break
            assert self._failure is not None
            resume = self._roll_back(self._failure)
            if resume is None:
                break
        self.ranks.share()
        if self._failure is None:
            self._end("finished", self.stage.model.steps, {"crest": self.state.best_checkpoint})
        else:
            self._end("stopped", self._failure.step, {"remedies": "used up"})

    def _make_engine(self) -> Engine:
        self.reporter.say(f"Loading {self.recipe.model.base}")
        self._engine = Engine(
            self.recipe,
            self.stage,
            self.base,
            self.start,
            self.workspace,
            self.folder.staging,
            self,
        )
        return self._engine

    def _judge_in_background(self) -> Judge:
        from trainers.loop.background_judge import BackgroundJudge

        home, name = self.folder.home, self.training_id
        return BackgroundJudge(self.recipe, self.stage, name, home, self.workspace, self.reporter)

    def _backend(self, step: int, files: ModelFiles) -> Backend:
        assert self._engine is not None
        return self._engine.backend(step, files)

    def _where_to_resume(self) -> int | None:
        """The last whole checkpoint of this attempt; those of a failed one are moved away."""
        last = None
        for step, attempt in self.folder.steps():
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

    # -- called by the Trainer ------------------------------------------------------------------

    def began(self, step: int) -> bool:
        """At the start of `train()`: save and judge what has not been. True: stop at once."""
        assert self._engine is not None
        self._engine.set_learning_rate()
        self.health.begin()
        if self.ranks.share(step == 0 and not self.folder.path(0).exists()):
            self._engine.save()
            return self.saved(0)
        # More than one where an interrupted training was ahead of its judge.
        kept = sorted(found for found, _ in self.folder.steps())
        self._docket = deque(found for found in kept if not self.state.is_judged(found))
        return bool(self.ranks.share(self._can_no_longer_pass(undecided=self._judge.lag)))

    def saved(self, step: int) -> bool:
        """After the Trainer has written a checkpoint: commit and judge it. True: roll back."""
        self.ranks.wait()
        if self._failure is not None:
            return True
        measures = self.health.means(self._validation_loss() if step else None)
        self.health.begin()
        self.folder.commit(
            step, attempt=self.state.attempt, base=self.recipe.model.base, measures=measures
        )
        self._event("checkpoint", step=step, detail={"measures": measures})
        fault_point("before-judgement")
        self._docket.append(step)
        return bool(self.ranks.share(self._can_no_longer_pass(undecided=self._judge.lag)))

    def logged(self, step: int, logs: Mapping[str, Any]) -> bool:
        """After each step. True: a number has gone wrong, and the segment is given up."""
        if "loss" not in logs:
            return False
        self.log.step(step, self.state.attempt, logs)
        if any(name.startswith(("reward", "safety/")) for name in logs):
            self._event("rewards", step=step, detail=of_rewards(logs))
        self.reporter.train_step(step, self.stage.model.steps, logs["loss"])
        symptom = self.health.hear(logs)
        if symptom is None:
            # With others training along, all must stop at once: at the next checkpoint.
            return self.ranks.world == 1 and self._can_no_longer_pass(undecided=self._judge.lag)
        if self._can_no_longer_pass(undecided=0):
            return True
        every = self.stage.model.checkpoint_every
        planned = -(-step // every) * every
        self._failure = Failure(planned, f"at step {step} {symptom.why}", None, symptom.remedy)
        return True

    def _validation_loss(self) -> float | None:
        if LOSS_GAP not in self.stage.health:
            return None
        assert self._engine is not None
        return self._engine.validation_loss()

    # -- judging ---------------------------------------------------------------------------------

    def _can_no_longer_pass(self, *, undecided: int) -> bool:
        """Hear what the judge has come to, checkpoint after checkpoint, and wait for it while more
        than `undecided` of them are open. True: one has failed, and the training goes back.
        """
        while self._docket and self._failure is None:
            step = self._docket[0]
            measures = self.folder.measures(step)
            if step and self._is_sick(step, measures):
                break
            opinion = self._judge.opinion(step, self.state, wait=len(self._docket) > undecided)
            if opinion is None:
                break
            self._docket.popleft()
            self._follow(step, opinion, measures)
        return self._failure is not None

    def _is_sick(self, step: int, measures: Mapping[str, float]) -> bool:
        """Whether a health rule is broken: then there is no need to ask the suite."""
        first = next((j.measures for j in self.state.judged if j.measures), {})
        symptom = self.health.symptom(measures, first)
        if symptom is None:
            return False
        detail = {"why": symptom.why, "measures": dict(measures)}
        self._event("unhealthy", step=step, detail=detail)
        self._failure = Failure(step, symptom.why, None, symptom.remedy)
        return True

    def _follow(self, step: int, opinion: Opinion, measures: Mapping[str, float]) -> None:
        for decision in opinion.decisions:
            self._event("verdict", step=step, detail=told(decision))
        judged = replace(opinion.judged, measures=dict(measures))
        if judged.outcome == "fail":
            failed = (d for d in opinion.decisions if d.verdict.outcome is FAIL)
            # Recorded with the rollback itself, in one write: see _roll_back.
            self._failure = Failure(step, next(failed).verdict.headline, judged)
            return
        if judged.outcome == "held":
            self._event("held", step=step)
        state = self.state.with_judged(judged)
        if opinion.why_best:
            state = replace(state, best_checkpoint=step, failures=0)
            self._event("crest", step=step, detail={"why": opinion.why_best})
            self.reporter.best_checkpoint(step, opinion.why_best)
        self._keep_state(state)

    # -- rolling back ------------------------------------------------------------------------------

    def _roll_back(self, failure: Failure) -> int | None:
        """Apply the next remedy and return the step to go on from; None where none is left."""
        assert self._engine is not None
        # What was trained after the failed checkpoint goes with it, judged or not.
        self._docket.clear()
        remedy = next_remedy(self.state, self.stage, failure)
        target = target_of(self.state, [step for step, _ in self.folder.steps()])
        state = rolled_back(self.state, failure, remedy, target, stage=self.stage, plan=self.plan)
        verdicts = list(failure.judged.verdicts) if failure.judged else []
        detail = {
            "to": target,
            "remedy": remedy,
            "why": failure.why,
            "verdicts": verdicts,
            "reached": self._engine.step,
        }
        fault_point("before-rollback")
        self._event("rolled_back", step=failure.step, detail=detail)
        # From here on the failed checkpoints belong to an earlier attempt, so that a process
        # killed before they are moved finds and moves them when it starts again.
        self._keep_state(state)
        fault_point("mid-rejection")
        for found, attempt in list(self.folder.steps()):
            if found > target and attempt < state.attempt:
                self.folder.reject(found, attempt)
        self.reporter.rolled_back(failure.step, target, remedy, failure.why)
        self._tell(failure.step, detail)
        return None if remedy == "stop" else target

    def _tell(self, step: int, detail: Mapping[str, Any]) -> None:
        url = self.recipe.model.webhook
        if url is None:
            return
        message = {
            "event": "rolled_back",
            "training": self.training_id,
            "recipe": self.recipe.model.name,
            "stage": self.stage.name or None,
            "step": step,
            **detail,
        }
        problem = call(url, message)
        if problem:
            self._event("webhook_failed", step=step, detail={"why": problem})
            self.reporter.say(f"The webhook was not told: {problem}")

    # -- the end -----------------------------------------------------------------------------------

    def _result(self) -> TrainingResult:
        state, line = self.state, self.recipe.line_of(self.stage)
        digest, promoted = None, False
        if state.best_checkpoint and state.status == "finished" and line is not None:
            digest, promoted, now = offer(self.judging, state, line)
            if now:
                self._event(
                    "promoted", step=state.best_checkpoint, detail={"line": line, "digest": digest}
                )
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
        )

    # -- records -----------------------------------------------------------------------------------

    def _event(
        self, event: str, *, step: int | None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.log.event(event, attempt=self.state.attempt, step=step, detail=detail)

    def _plan_as_json(self) -> str:
        rows = [[self.stage.examples[i].row for i in segment] for segment in self.plan.segments]
        body = {"digest": self.plan.digest, "planned": self.plan.planned, "segments": rows}
        return json.dumps(body, ensure_ascii=False, indent=1) + "\n"

    def _end(self, status: Status, step: int, detail: Mapping[str, Any]) -> None:
        self._keep_state(replace(self.state, status=status))
        self._event(status, step=step, detail=detail)

    def _keep_state(self, state: TrainingState) -> None:
        save_state(self.state_path, state)
        self.state = state

    def _put_away(self) -> None:
        """Begin anew: the old training's folder stays beside the new one."""
        number = 1
        while (target := self.folder.home.with_suffix(f".old{number}")).exists():
            number += 1
        self.folder.home.rename(target)
        self.folder = CheckpointFolder(self.folder.home)
        self.judging.folder = self.folder


def _origin(start: Path, workspace: Workspace) -> str:
    return resolve(str(start), workspace).digest

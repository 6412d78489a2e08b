"""Train a segment, save a checkpoint, score it, decide: go on, or roll back in the same process.

The trainer's own loop runs; a callback judges each checkpoint where the Trainer has just saved
it, and a rollback re-enters `train()` on the same object from the last good state, which is
bit-exact (docs/training.md says what that took).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from harness import artifacts, runs
from harness.backends.live import TransformersBackend
from harness.calibrations import calibrated
from harness.errors import UserError
from harness.faults import fault_point
from harness.gate import per_checkpoint_alpha, rollback_target
from harness.gating import Decision, decide_by_looks, decide_once, schedule
from harness.models import ModelFiles, load, resolve
from harness.promotion import confirm
from harness.records import Run, VerdictOutcome
from harness.registry import Registry
from harness.runner import Candidate, Extent, score
from harness.store import Store
from harness.workspace import Workspace
from trainers.checkpoint import CheckpointFolder, untouched_randomness
from trainers.crest import CrestRule
from trainers.log import TrainingLog
from trainers.plan import make_plan, reshuffled
from trainers.recipe import Recipe
from trainers.reporter import Reporter, TrainingResult
from trainers.sft import adapted, make_trainer, tokenised
from trainers.state import Judged, TrainingState, load_state, save_state

if TYPE_CHECKING:
    from transformers import Trainer

LOWER_LR_BY = 0.5


class GatedTraining:
    """One execution of a recipe. `run` begins it, or goes on where it was stopped."""

    def __init__(
        self, recipe: Recipe, workspace: Workspace, store: Store, reporter: Reporter
    ) -> None:
        self.recipe = recipe
        self.workspace = workspace.ensure()
        self.store = store
        self.reporter = reporter
        self.suite = recipe.suite
        gate = recipe.model.gate
        self.looks = gate.on_inconclusive.looks
        self.extents = schedule(self.looks)
        # The anchor and every crest are scored as far as anything will be held against them.
        self.whole = Extent(self.extents[-1].responses, reserve=1.0, gated_only=True)
        # Every checkpoint is held against two opponents, and retries are planned for as well.
        planned = 2 * (recipe.segments + gate.max_rollbacks)
        policy, _ = calibrated(store, self.suite.digest, self.suite.policy)
        self.policy = policy.with_alpha(per_checkpoint_alpha(policy.alpha, planned))
        self.crest_rule = CrestRule(store, self.suite, self.policy, self.extents[0], self.whole)
        self.base = resolve(recipe.model.base, workspace, say=reporter.say)
        self.plan = make_plan(recipe, spare=gate.max_rollbacks)
        self.training_id = _training_id(recipe, self.base)
        self.folder = CheckpointFolder(workspace.trainings / self.training_id)
        self.state_path = self.folder.home / "state.json"
        self.log = TrainingLog(store, self.training_id)
        self._trainer: Trainer | None = None
        self._failed: tuple[int, list[Decision]] | None = None

    # -- the whole ---------------------------------------------------------------------------

    def run(self, *, again: bool = False) -> TrainingResult:
        """Train to the end. Raises UserError where the checkpoints on disk can't be used."""
        if again and self.state_path.exists():
            self._put_away()
        state = load_state(self.state_path)
        if state is None:
            state = TrainingState(self.training_id, self.plan.digest)
            self.log.announce(self.recipe, self.base.digest, self.plan)
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
        return self._result()

    def _train(self) -> None:
        self.folder.clear_staging()
        trainer = self._make_trainer()
        resume = self._where_to_resume()
        while True:
            self._failed = None
            checkpoint = None if resume is None else str(self.folder.require(resume))
            trainer.train(resume_from_checkpoint=checkpoint)
            if self._failed is None:
                break
            step, decisions = self._failed
            target = self._roll_back(step, decisions)
            if target is None:
                self._keep_state(replace(self.state, status="stopped"))
                self._event("stopped", step=step, detail={"remedies": "used up"})
                return
            resume = target
        self._keep_state(replace(self.state, status="finished"))
        self._event("finished", step=self.recipe.stage.steps, detail={"crest": self.state.crest})

    def _make_trainer(self) -> Trainer:
        self.reporter.say(f"Loading {self.recipe.model.base}")
        model, tokenizer = load(self.base)
        model = adapted(model, self.recipe)
        self.backend = TransformersBackend(model, tokenizer)
        self._trainer = make_trainer(
            self.recipe,
            model,
            tokenizer,
            tokenised(self.recipe, self.backend),
            output=self.folder.staging,
            order=self._order,
            callbacks=[_make_judge(self)],
        )
        return self._trainer

    def _order(self) -> Sequence[int]:
        plan = self.plan
        for after, seed in self.state.reshuffles:
            plan = reshuffled(plan, after, seed)
        return plan.indices(self.state.dropped)

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
                cure="restore that folder, or begin anew with --again",
            )
        return last

    # -- called by the Trainer ------------------------------------------------------------------

    def began(self, step: int) -> bool:
        """At the start of `train()`: save and judge what has not been. True: stop at once."""
        self._set_learning_rate()
        if step == 0 and not self.folder.path(0).exists():
            trainer: Any = self._trainer
            trainer._save_checkpoint(trainer.model, None)
            return self.saved(0)
        return False if self.state.is_judged(step) else self.judge(step)

    def saved(self, step: int) -> bool:
        """After the Trainer has written a checkpoint: commit and judge it. True: roll back."""
        self.folder.commit(step, attempt=self.state.attempt, base=self.recipe.model.base)
        self._event("checkpoint", step=step)
        fault_point("before-judgement")
        return self.judge(step)

    def logged(self, step: int, logs: Mapping[str, float]) -> None:
        if "loss" in logs:
            self.log.step(step, self.state.attempt, logs)
            self.reporter.train_step(step, self.recipe.stage.steps, logs["loss"])

    def _set_learning_rate(self) -> None:
        """The recipe's rate times the remedies' scale. Setting `args.learning_rate` would do
        nothing here: the rates live in the scheduler, which a resume has just restored.
        """
        assert self._trainer is not None
        scheduler: Any = self._trainer.lr_scheduler
        rate = self.recipe.stage.learning_rate * self.state.lr_scale
        if not hasattr(scheduler, "base_lrs") or all(b == rate for b in scheduler.base_lrs):
            return
        scales = [rate / base for base in scheduler.base_lrs]
        scheduler.base_lrs = [rate for _ in scheduler.base_lrs]
        scheduler._last_lr = [lr * s for lr, s in zip(scheduler._last_lr, scales, strict=True)]
        for group, scale in zip(scheduler.optimizer.param_groups, scales, strict=True):
            group["lr"] *= scale
            group["initial_lr"] = rate

    # -- judging ---------------------------------------------------------------------------------

    def judge(self, step: int) -> bool:
        """Score a checkpoint and hold it against the anchor and the crest. True: it failed."""
        with untouched_randomness():
            candidate = self._candidate(step)
            if step == 0:
                run = self._extend(candidate, step, self.whole)
                self._keep_state(
                    self.state.with_judged(Judged(0, self.state.attempt, run.id, "anchor"))
                )
                return False
            decisions = self._decide(candidate, step)
            return self._follow(candidate, step, decisions)

    def _candidate(self, step: int) -> Candidate:
        files = resolve(str(self.folder.path(step)), self.workspace)
        return candidate_of(
            files, name=f"{self.recipe.model.name} step {step}", open_=lambda: self.backend
        )

    def _extend(self, candidate: Candidate, step: int, extent: Extent) -> Run:
        report = score(
            candidate,
            self.suite,
            self.store,
            seed=self.recipe.model.seed,
            extent=extent,
            training_id=self.training_id,
            step=step,
            progress=self.reporter.progress,
        )
        self.reporter.scored(step, report)
        return report.run

    def _decide(self, candidate: Candidate, step: int) -> list[Decision]:
        opponents: dict[str, Run] = {"anchor": self._run_of(0)}
        if self.state.crest:
            opponents["crest"] = self._run_of(self.state.crest)
        decisions = decide_by_looks(
            lambda extent: self._extend(candidate, step, extent),
            opponents,
            self.suite,
            self.store,
            self.policy,
            looks=self.looks,
            training_id=self.training_id,
            step=step,
        )
        for decision in decisions:
            self._event(
                "verdict",
                step=step,
                detail={
                    "against": decision.against,
                    "outcome": decision.verdict.outcome.value,
                    "verdict_id": decision.id,
                    "headline": decision.verdict.headline,
                },
            )
            self.reporter.verdict(step, decision)
        return decisions

    def _follow(self, candidate: Candidate, step: int, decisions: list[Decision]) -> bool:
        outcomes = [decision.verdict.outcome for decision in decisions]
        failed = VerdictOutcome.FAIL in outcomes
        passed = all(outcome is VerdictOutcome.PASS for outcome in outcomes)
        outcome = "fail" if failed else "pass" if passed else "held"
        judged = Judged(
            step,
            self.state.attempt,
            decisions[0].candidate.id,
            outcome,
            decisions[0].verdict.required_mean_z(),
            tuple(decision.id for decision in decisions),
        )
        if failed:
            self._failed = (step, decisions)
            # Recorded with the rollback itself, in one write: see _roll_back.
            return True
        state = self.state.with_judged(judged)
        if outcome == "held":
            self._event("held", step=step)
        better = self.crest_rule.proven_better(
            self._run_of(state.crest), lambda extent: self._extend(candidate, step, extent)
        )
        if better:
            than = "checkpoint-0" if not state.crest else f"the crest of step {state.crest}"
            sentence = f"significantly better than {than} on {better}"
            state = replace(state, crest=step, failures=0)
            self._event("crest", step=step, detail={"why": sentence})
            self.reporter.crest(step, sentence)
        self._keep_state(state)
        return False

    def _run_of(self, step: int) -> Run:
        judged = self.state.of(step)
        if judged is None:
            raise UserError(
                f"step {step} of this training has no run",
                file=self.state_path,
                cure="begin anew with --again",
            )
        return runs.require_run(self.store, judged.run_id)

    # -- rolling back ------------------------------------------------------------------------------

    def _roll_back(self, step: int, decisions: list[Decision]) -> int | None:
        """Apply the next remedy and return the step to go on from; None where none is left."""
        state = self.state
        remedies = self.recipe.model.gate.on_fail
        bounded = state.rollbacks >= self.recipe.model.gate.max_rollbacks
        remedy = "stop" if bounded else remedies[min(state.failures, len(remedies) - 1)]
        why = next(
            decision.verdict.headline
            for decision in decisions
            if decision.verdict.outcome is VerdictOutcome.FAIL
        )
        judged = Judged(
            step,
            state.attempt,
            decisions[0].candidate.id,
            "fail",
            decisions[0].verdict.required_mean_z(),
            tuple(decision.id for decision in decisions),
        )
        target = self._target()
        state = replace(
            state.with_judged(judged),
            attempt=state.attempt + 1,
            start=target,
            failures=state.failures + 1,
            rollbacks=state.rollbacks + 1,
        )
        state = self._with_remedy(state, remedy, step, target)
        detail = {"to": target, "remedy": remedy, "why": why, "verdicts": list(judged.verdicts)}
        fault_point("before-rollback")
        self._event("rolled_back", step=step, detail=detail)
        # From here on the failed checkpoints belong to an earlier attempt, so that a process
        # killed before they are moved finds and moves them when it starts again.
        self._keep_state(state)
        fault_point("mid-rejection")
        for found, attempt in list(self.folder.steps()):
            if found > target and attempt < state.attempt:
                self.folder.reject(found, attempt)
        self.reporter.rolled_back(step, target, remedy, why)
        return None if remedy == "stop" else target

    def _target(self) -> int:
        steps = [step for step, _ in self.folder.steps() if self.state.of(step) is not None]
        if self.state.crest:
            return self.state.crest
        history = [judged.mean_z for judged in map(self.state.of, steps) if judged is not None]
        return steps[rollback_target(history)] if steps else 0

    def _with_remedy(
        self, state: TrainingState, remedy: str, step: int, target: int
    ) -> TrainingState:
        every = self.recipe.stage.checkpoint_every
        if remedy == "skip_data":
            consumed = self.plan.consumed(state.dropped)
            return replace(state, dropped=(*state.dropped, consumed[step // every - 1]))
        if remedy == "reshuffle":
            again = (target // every, self.recipe.model.data.seed + state.attempt)
            return replace(state, reshuffles=(*state.reshuffles, again))
        if remedy == "lower_lr":
            return replace(state, lr_scale=state.lr_scale * LOWER_LR_BY)
        return state

    # -- the end -----------------------------------------------------------------------------------

    def _result(self) -> TrainingResult:
        state = self.state
        digest, promoted = None, False
        if state.crest and state.status == "finished" and self.recipe.model.gate.promote:
            digest, promoted = self._promote(state.crest)
        return TrainingResult(
            self.training_id,
            state.status,
            state.crest,
            self._run_of(0),
            self._run_of(state.crest),
            digest,
            promoted,
            state.rollbacks,
        )

    def _promote(self, step: int) -> tuple[str, bool]:
        """Offer the crest to the line: a first one stands on its verdict against checkpoint-0, a
        later one must pass against what is blessed, or be proven better.
        """
        judged, line = self.state.of(step), self.recipe.model.line
        assert judged is not None
        registry = Registry(self.workspace, self.store)
        digest = registry.add(
            self.folder.require(step),
            training_id=self.training_id,
            step=step,
            run_id=judged.run_id,
        )
        blessed = registry.blessed(line)
        if blessed is not None and blessed.digest == digest:
            return digest, True
        if blessed is None:
            verdict_id, refused = self._first_promotion(step)
        else:
            verdict_id, refused = self._later_promotion(registry, digest)
        if refused:
            self.reporter.say(f"Not promoted to {line}: {refused}")
            return digest, False
        registry.promote(
            line,
            digest,
            verdict_id=verdict_id,
            actor=f"training {self.training_id}",
            reason=f"the crest (step {step}) of {self.recipe.model.name}",
            run_id=judged.run_id,
            expect=blessed.digest if blessed is not None else None,
        )
        self._event("promoted", step=step, detail={"line": line, "digest": digest})
        return digest, True

    def _first_promotion(self, step: int) -> tuple[str, str]:
        """The verdict that a line's first version stands on, and why it must not be promoted."""
        decision = decide_once(
            self.store, "anchor", self._run_of(0), self._run_of(step), self.suite, self.suite.policy
        )
        passed = decision.verdict.outcome is VerdictOutcome.PASS or decision.improvement
        return decision.id, "" if passed else decision.verdict.headline

    def _later_promotion(self, registry: Registry, digest: str) -> tuple[str, str]:
        """Decided once more on fresh answers, against what is blessed and the first version."""

        def opened(of: str) -> Candidate:
            files = resolve(str(registry.path(of)), self.workspace)
            name = f"{self.recipe.model.line} {of[:12]}"
            return candidate_of(
                files, name=name, open_=cache(lambda: TransformersBackend(*load(files)))
            )

        found = confirm(
            registry,
            self.store,
            self.recipe.model.line,
            digest,
            self.suite,
            opened,
            seed=self.recipe.model.seed,
            progress=self.reporter.progress,
        )
        return found.verdict_id, found.refused

    # -- records -----------------------------------------------------------------------------------

    def _event(
        self, event: str, *, step: int | None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.log.event(event, attempt=self.state.attempt, step=step, detail=detail)

    def _plan_as_json(self) -> str:
        rows = [[self.recipe.examples[i].row for i in segment] for segment in self.plan.segments]
        body = {"digest": self.plan.digest, "planned": self.plan.planned, "segments": rows}
        return json.dumps(body, ensure_ascii=False, indent=1) + "\n"

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


def candidate_of(files: ModelFiles, *, name: str, open_: Callable[[], Any]) -> Candidate:
    """A model in fp32 on this machine's transformers, live or not: both share cached answers."""
    subject = {"backend": "transformers", "dtype": "float32", "quantisation": None}
    return Candidate(name, files.digest, subject, open_)


def _training_id(recipe: Recipe, base: ModelFiles) -> str:
    from harness.suite import digest_of

    return f"{recipe.model.name}-{digest_of([recipe.digest, base.digest])[:10]}"


def _make_judge(training: GatedTraining) -> Any:
    from transformers import TrainerCallback

    class Judge(TrainerCallback):  # type: ignore[misc]
        """Scores in `on_save`: the files are there, and every rank is."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if training.began(state.global_step):
                control.should_training_stop = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if training.saved(state.global_step):
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            training.logged(state.global_step, logs or {})

    return Judge()

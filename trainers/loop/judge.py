"""Scores a checkpoint and compares it with the anchor and the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from harness.backends.asking import asking
from harness.backends.base import Backend, Candidate
from harness.backends.openai.open import served_adapter
from harness.comparison.calibrations import calibrated
from harness.comparison.looks import decide_by_looks, schedule
from harness.comparison.verdict_log import Decision
from harness.core.errors import UserError
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.plan import Extent
from harness.evaluation.runner import score
from harness.models.resolve import ModelFiles, resolve
from harness.statistics.alpha_spending import per_checkpoint_alpha
from harness.store import runs
from harness.store.store import Store
from trainers.checkpoints.folder import CheckpointFolder, untouched_randomness
from trainers.checkpoints.state import Judged, TrainingState
from trainers.loop.best_checkpoint import BestCheckpointRule
from trainers.loop.opinion import Opinion, Work
from trainers.loop.reporter import Reporter
from trainers.loop.stage_run import StageRun

Open = Callable[[ModelFiles], Backend]
"""How the model of a checkpoint is had."""


class Judge(Protocol):
    """Whom the loop asks. `lag` is how many checkpoints may be undecided while it trains on."""

    @property
    def lag(self) -> int: ...

    def opinion(self, step: int, state: TrainingState, *, wait: bool) -> Opinion | None:
        """The opinion on a checkpoint; None where there is none yet and `wait` is False."""
        ...

    def close(self) -> None: ...


class Judging:
    """The judge of one stage. It decides; what follows from it is the loop's."""

    def __init__(
        self,
        run: StageRun,
        folder: CheckpointFolder,
        store: Store,
        reporter: Reporter,
    ) -> None:
        recipe, stage = run.recipe, run.stage
        self.run, self.recipe, self.stage = run, recipe, stage
        self.training_id = run.training_id
        self.options = run.options
        self.folder = folder
        self.workspace = run.workspace
        self.store = store
        self.reporter = reporter
        self._work = Work()
        self.looks = stage.gate.on_inconclusive.looks
        extents = schedule(self.looks)
        # The anchor and the best checkpoints are scored as far as any candidate will be.
        self.whole = Extent(extents[-1].responses, reserve=1.0, gated_only=True)
        # Alpha is promised for the whole recipe, so all its stages share it.
        planned = sum(each.checkpoints for each in recipe.stages)
        policy, _ = calibrated(store, stage.suite.digest, stage.suite.policy)
        self.policy = policy.with_alpha(per_checkpoint_alpha(policy.alpha, planned))
        self.first = extents[0]
        # One claim for each checkpoint: that it is better. The verdicts have an alpha of their own.
        attempts = sum(each.attempts for each in recipe.stages)
        self.best_checkpoint_rule = BestCheckpointRule(
            store, stage.suite, policy, attempts, self.first, self.whole
        )

    def opinion(self, step: int, state: TrainingState, open_: Open) -> Opinion:
        """Score a checkpoint and compare it with the anchor and the best checkpoint of `state`.
        Moves no random state.
        """
        self._work = Work()
        with untouched_randomness(), self.candidate(step, open_) as candidate:
            if step == 0:
                run = self.extend(candidate, step, self.whole)
                anchor = Judged(0, state.attempt, run.id, "anchor")
                return Opinion(anchor, work=self._work)
            decisions = self.decide(candidate, step, state)
            judged = judged_by(decisions, step, state.attempt)
            failed = judged.outcome == "fail"
            better = None if failed else self.better_than_best(candidate, step, state)
            return Opinion(judged, tuple(decisions), better, self._work)

    @contextmanager
    def candidate(self, step: int, open_: Open) -> Iterator[Candidate]:
        """A checkpoint to be scored, by the live model or by the server that the command names."""
        folder = self.folder.path(step)
        name = f"{self.recipe.model.name} {self.stage.name}".strip() + f" step {step}"
        if self.options.scored_on is None or not self.run.method.continues:
            files = resolve(str(folder), self.workspace)
            yield candidate_of(self.run, files, name=name, open_=lambda: open_(files))
            return
        say = self.reporter.say
        with served_adapter(self.options.scored_on, folder, self.workspace, say=say) as candidate:
            yield replace(candidate, name=name)

    def extend(self, candidate: Candidate, step: int, extent: Extent) -> Run:
        """Score as far as `extent` asks; what is known already is not asked for again."""
        report = score(
            candidate,
            self.stage.suite,
            self.store,
            seed=self.recipe.model.seed,
            extent=extent,
            training_id=self.training_id,
            step=step,
            progress=self.reporter.progress,
        )
        self._work = self._work.plus(report)
        return report.run

    def decide(self, candidate: Candidate, step: int, state: TrainingState) -> list[Decision]:
        opponents: dict[str, Run] = {"anchor": self.run_of(state, 0)}
        require_one_backend(opponents["anchor"], candidate)
        if state.best_checkpoint:
            opponents["crest"] = self.run_of(state, state.best_checkpoint)
        return decide_by_looks(
            lambda extent: self.extend(candidate, step, extent),
            opponents,
            self.stage.suite,
            self.store,
            self.policy,
            looks=self.looks,
            training_id=self.training_id,
            step=step,
        )

    def better_than_best(self, candidate: Candidate, step: int, state: TrainingState) -> str | None:
        """Why this checkpoint becomes the best checkpoint, in a sentence; None where it doesn't."""
        better = self.best_checkpoint_rule.proven_better(
            self.run_of(state, state.best_checkpoint),
            lambda extent: self.extend(candidate, step, extent),
        )
        than = (
            "checkpoint-0"
            if not state.best_checkpoint
            else f"the best so far, step {state.best_checkpoint},"
        )
        return f"significantly better than {than} on {better}" if better else None

    def run_of(self, state: TrainingState, step: int) -> Run:
        judged = state.of(step)
        if judged is None:
            raise UserError(
                f"step {step} of this training has no run",
                file=self.folder.home,
                hint="begin anew with --again",
            )
        return runs.require_run(self.store, judged.run_id)


class JudgeInProcess:
    """A judge that answers at once, through the model that stands in this process."""

    lag = 0

    def __init__(self, judging: Judging, backend: Callable[[int, ModelFiles], Backend]) -> None:
        self._judging = judging
        self._backend = backend

    def opinion(self, step: int, state: TrainingState, *, wait: bool) -> Opinion:
        return self._judging.opinion(step, state, lambda files: self._backend(step, files))

    def close(self) -> None:
        """Nothing is held."""


def require_one_backend(anchor: Run, candidate: Candidate) -> None:
    """Raises UserError where a training that went on is answered for by another backend than it
    began with: their last bits differ, and none of it would be the checkpoint's doing.
    """
    began, now = anchor.fingerprint.subject.get("backend"), candidate.subject.get("backend")
    if began != now:
        raise UserError(
            f"this training began with answers by {began}, and would go on with {now}",
            field="--score-on",
            hint="give --score-on as it was given at the beginning, or begin anew with --again",
        )


def judged_by(decisions: list[Decision], step: int, attempt: int) -> Judged:
    """What the state keeps of a checkpoint's verdicts: it fails with one, passes with all."""
    outcomes = [decision.verdict.outcome for decision in decisions]
    failed = VerdictOutcome.FAIL in outcomes
    passed = all(outcome is VerdictOutcome.PASS for outcome in outcomes)
    return Judged(
        step,
        attempt,
        decisions[0].candidate.id,
        "fail" if failed else "pass" if passed else "held",
        decisions[0].verdict.required_mean_z(),
        tuple(decision.id for decision in decisions),
    )


def candidate_of(
    run: StageRun, files: ModelFiles, *, name: str, open_: Callable[[], Any]
) -> Candidate:
    """A model on this machine's transformers, live or not: both share cached answers."""
    subject = {
        "backend": run.method.backend_name,
        "dtype": run.settled.scored,
        "quantisation": run.recipe.model.quantize,
        **asking(files, run.workspace),
    }
    return Candidate(name, files.digest, subject, open_)

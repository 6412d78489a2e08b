"""The checkpoints that wait for a verdict: judged in order, until one fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.core.types import VerdictOutcome
from trainers.loop.health import Health
from trainers.loop.judge import Judge
from trainers.loop.opinion import Opinion, told
from trainers.loop.record import TrainingRecord
from trainers.loop.remedies import Failure
from trainers.loop.reporter import Reporter


class VerdictQueue:
    """Of one training. `failure` is why the present attempt is over, None while it is not."""

    def __init__(self, record: TrainingRecord, health: Health, reporter: Reporter) -> None:
        self._record = record
        self._health = health
        self._reporter = reporter
        self._waiting: deque[int] = deque()
        self.failure: Failure | None = None

    def begin(self) -> None:
        """Another attempt: what was trained after the failed checkpoint went with it."""
        self._waiting.clear()
        self.failure = None

    def put(self, steps: Iterable[int]) -> None:
        """These checkpoints, in the order of training, are to be judged."""
        self._waiting.extend(steps)

    def give_up(self, failure: Failure) -> None:
        """A failure that no verdict is needed for."""
        self.failure = failure

    def has_failed(self, judge: Judge, *, undecided: int) -> bool:
        """Hear what the judge has come to, checkpoint after checkpoint, and wait for it while more
        than `undecided` of them are open. True: one has failed, and the training goes back.
        """
        while self._waiting and self.failure is None:
            step = self._waiting[0]
            measures = self._record.folder.measures(step)
            if step and self._is_sick(step, measures):
                break
            wait = len(self._waiting) > undecided
            opinion = judge.opinion(step, self._record.state, wait=wait)
            if opinion is None:
                break
            self._waiting.popleft()
            self._follow(step, opinion, measures)
        return self.failure is not None

    def _is_sick(self, step: int, measures: Mapping[str, float]) -> bool:
        """Whether a health rule is broken: then there is no need to ask the suite."""
        first = next((j.measures for j in self._record.state.judged if j.measures), {})
        symptom = self._health.symptom(measures, first)
        if symptom is None:
            return False
        detail = {"why": symptom.why, "measures": dict(measures)}
        self._record.event("unhealthy", step=step, detail=detail)
        self.failure = Failure(step, symptom.why, None, symptom.remedy)
        return True

    def _follow(self, step: int, opinion: Opinion, measures: Mapping[str, float]) -> None:
        """Keep what the judge said; the state is written last, so that a process killed before it
        asks again, and is given the same answers from the store.
        """
        self._reporter.judged(step, opinion)
        for decision in opinion.decisions:
            self._record.event("verdict", step=step, detail=told(decision, opinion.work))
        judged = replace(opinion.judged, measures=dict(measures))
        if judged.outcome == "fail":
            failed = (d for d in opinion.decisions if d.verdict.outcome is VerdictOutcome.FAIL)
            # Recorded with the rollback itself, in one write: see Rollback.
            self.failure = Failure(step, next(failed).verdict.headline, judged)
            return
        if judged.outcome == "held":
            self._record.event("held", step=step)
        state = self._record.state.with_judged(judged)
        if opinion.why_best:
            state = replace(state, best_checkpoint=step, failures=0)
            self._record.event("crest", step=step, detail={"why": opinion.why_best})
        self._record.keep(state)

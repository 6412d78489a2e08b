"""Generate, score, store: three stages, each of which can be run again by itself.

Answers are cached by the bytes of the model and everything else that could change them, so a
second run of the same thing generates nothing, and a crash loses at most a second of answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from harness.backends.base import Backend, Candidate
from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.fingerprint import provenance
from harness.core.protocol import SAMPLING
from harness.core.types import Fingerprint, Response, ResponseKind, Run
from harness.evaluation.generate import Progress, generate, silent
from harness.evaluation.plan import Extent, Scoring
from harness.evaluation.read import complaints, require_few_cut
from harness.evaluation.score import score_responses
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

__all__ = ["RunReport", "missing_answers", "rescore", "score"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a call to `score` did, in numbers of answers.

    generated  written by the model now
    read       given texts whose log-probabilities the model was asked for now
    reused     of either kind, found in the cache
    failed     of all these, those that are errors
    scored     scores that were added
    seconds    by the clock, for the whole call
    complaints sentences about filters of the suite that find nothing in any answer
    """

    run: Run
    generated: int
    read: int
    reused: int
    failed: int
    scored: int
    seconds: float
    complaints: tuple[str, ...] = ()

    @property
    def fresh(self) -> int:
        """Answers that the model was asked for, of either kind."""
        return self.generated + self.read


def score(
    candidate: Candidate,
    suite: Suite,
    store: Store,
    *,
    seed: int = 0,
    limit: int | None = None,
    draw: int = 0,
    extent: Extent = Extent(),
    training_id: str | None = None,
    step: int | None = None,
    progress: Progress = silent,
) -> RunReport:
    """Score one model on one suite. Only what is missing is generated and scored.

    The run's id is a digest of everything that decides its numbers, so the same call gives the
    same run, a larger `extent` extends it, and an interrupted one continues where it was. Raises
    UserError and UnfinishedError as the model's backend does.
    """
    began = time.monotonic()
    scoring = Scoring(candidate, suite, seed, limit, draw, extent)
    run = _announce(scoring, store, training_id, step)
    try:
        wanted = list(scoring.answers())
        responses, asked = generate(candidate, wanted, store, seed, progress)
        runs.link_responses(store, run.id, responses.values())
        require_few_cut(wanted, responses)
        scored = score_responses(run, suite, wanted, responses, store, draw, progress)
    except BaseException as error:
        event = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        runs.save_event(store, run.id, event, {"error": f"{type(error).__name__}: {error}"[:500]})
        raise
    report = RunReport(
        run,
        generated=asked["generation"],
        read=asked["reference"] + asked["text"],
        reused=len(wanted) - asked.total(),
        failed=sum(response.error is not None for response in responses.values()),
        scored=scored,
        seconds=time.monotonic() - began,
        complaints=tuple(complaints(wanted, responses)),
    )
    if report.fresh or scored:
        detail = {
            "generated": report.generated,
            "read": report.read,
            "reused": report.reused,
            "seconds": round(report.seconds, 3),
        }
        runs.save_event(store, run.id, "finished", detail)
    return report


def rescore(
    run: Run, suite: Suite, store: Store, *, draw: int = 0, progress: Progress = silent
) -> RunReport:
    """Score a run's stored answers again with the suite's metrics of today; needs no model.

    Where the metrics' versions are still the run's, the scores are appended to it; otherwise the
    same answers become a new run, since its protocol differs. Raises UserError where none of the
    run's answers belong to the suite.
    """
    began = time.monotonic()

    # In place of a model: rescoring never generates.
    def closed() -> Backend:
        raise UserError(
            "some of the run's answers are missing, and rescoring does not generate",
            hint=f"`ratchet score {run.model} --suite {suite.path}` generates what is missing",
        )

    candidate = Candidate(run.model, run.model_digest, run.fingerprint.subject, closed)
    responses = {response.key: response for response in runs.run_responses(store, run.id)}
    everything = Extent(
        responses=max((1, *(_factor(suite, response) for response in responses.values()))),
        reserve=1.0,
    )
    scoring = Scoring(candidate, suite, run.seed, run.limit, draw, everything)
    again = _announce(scoring, store, run.training_id, run.step)
    wanted = [want for want in scoring.answers() if want.key in responses]
    if not wanted:
        raise UserError(
            f"none of run {run.id}'s answers belong to this suite",
            file=suite.path,
            hint="rescore with the suite that it was scored on; new prompts need new answers",
        )
    runs.link_responses(store, again.id, (responses[want.key] for want in wanted))
    scored = score_responses(
        again, suite, wanted, responses, store, draw, progress, everything_again=True
    )
    runs.save_event(store, again.id, "rescored", {"from": run.id, "scores": scored})
    failed = sum(responses[want.key].error is not None for want in wanted)
    said = tuple(complaints(wanted, responses))
    return RunReport(again, 0, 0, len(wanted), failed, scored, time.monotonic() - began, said)


def missing_answers(
    scoring: Scoring, store: Store
) -> dict[tuple[str, ResponseKind], tuple[int, int, int]]:
    """What `score` of the same would ask the model for: (task, kind) -> (answers missing, answers
    wanted, the most new tokens that the missing ones take).
    """
    wanted = list(scoring.answers())
    known = runs.cached_responses(store, [want.key for want in wanted])
    counts: dict[tuple[str, ResponseKind], tuple[int, int, int]] = {}
    for want in wanted:
        missing, total, tokens = counts.get((want.task.name, want.kind), (0, 0, 0))
        new = want.key not in known
        turns = 1 + len(want.sample.options.then)
        each = want.task.settings.max_new_tokens if want.kind == "generation" and new else 0
        counts[want.task.name, want.kind] = (missing + new, total + 1, tokens + turns * each)
    return counts


def _factor(suite: Suite, response: Response) -> int:
    """How many times the task's K an extent must have to hold this response."""
    names = {task.name: task for task in suite.tasks}
    task = names.get(response.task)
    return 1 if task is None else response.index // task.responses + 1


def protocol_of(suite: Suite, seed: int, limit: int | None) -> dict[str, Any]:
    """The suite's protocol, and which samples of it were taken."""
    return {**suite.protocol, SAMPLING: {"limit": limit, "seed": seed if limit else None}}


def _announce(scoring: Scoring, store: Store, training_id: str | None, step: int | None) -> Run:
    """Record the run and its samples before it begins, so that an interrupted one is known."""
    candidate, suite = scoring.candidate, scoring.suite
    protocol = protocol_of(suite, scoring.seed, scoring.limit)
    decides = [candidate.digest, dict(candidate.subject), protocol, scoring.seed, scoring.draw]
    run = Run(
        id=digest_of(decides),
        model=candidate.name,
        model_digest=candidate.digest,
        suite=suite.name,
        suite_digest=suite.digest,
        fingerprint=Fingerprint(protocol, dict(candidate.subject), provenance()),
        started_at=runs.now(),
        seed=scoring.seed,
        limit=scoring.limit,
        training_id=training_id,
        step=step,
    )
    runs.save_run(store, run, draw=scoring.draw, suite_path=str(suite.path.resolve()))
    for task in suite.tasks:
        runs.save_samples(store, task.digest, task.samples)
    return run

"""The demo's history: a training with a rollback, seven weeks of nightly models, votes."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard.demo.answers import SEED, SUITE, Dials, answers, write_suite
from harness.backends.base import Candidate
from harness.comparison.calibrations import keep_calibration
from harness.comparison.evidence import metric_scores, slices_of
from harness.comparison.verdict_log import keep_verdict
from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Fingerprint, Run
from harness.core.workspace import Workspace
from harness.evaluation.plan import Extent, Scoring
from harness.evaluation.runner import protocol_of
from harness.evaluation.score import score_responses
from harness.gate.calibration import calibrate
from harness.gate.decision import decide
from harness.metrics.refusal import refuses
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite

LINE = "demo-support-bot"
SUBJECT = {"backend": "synthetic", "dtype": "none", "quantisation": None}
RECIPE = "demo-support-bot (synthetic)"
NIGHTS = 18
PROMOTED_NIGHT = 5
PLANNED_STEPS = 100


class DatedStore(Store):
    """A store in which everything happened at `moment`."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from harness.store.tables import BY_NAME

        declared = BY_NAME.get(table)
        clocks = [c.name for c in declared.columns if c.now] if declared else []
        dated = [{**row, **dict.fromkeys(clocks, self.moment)} for row in rows]
        super().append(table, dated)


@dataclass(frozen=True, slots=True)
class Wrote:
    """What a call to `write_history` left in the workspace."""

    runs: int
    verdicts: int
    line: str


def write_history(
    workspace: Workspace,
    *,
    now: datetime | None = None,
    nights: int = NIGHTS,
    say: Callable[[str], None] = lambda text: None,
) -> Wrote:
    """Write the whole history. The same `now` gives the same scores.

    Raises UserError where the workspace holds runs already: synthetic and measured numbers must
    never lie in one history.
    """
    with DatedStore(workspace.ensure()) as store:
        if store.query("SELECT run_id FROM runs LIMIT 1"):
            raise UserError(
                "this workspace has runs already, and synthetic ones must not be mixed with them",
                file=workspace.home,
                hint="name an empty one: ratchet demo-data --home .ratchet-demo",
            )
        suite = write_suite(workspace.home / "demo-suite")
        history = _History(store, suite, now or datetime.now(UTC), say)
        best_checkpoint = history.first_training()
        history.nightly(best_checkpoint, nights)
        history.running_training()
        count = store.query(
            "SELECT (SELECT count(*) FROM runs) AS runs, "
            "(SELECT count(*) FROM verdicts) AS verdicts"
        )[0]
    return Wrote(count["runs"], count["verdicts"], LINE)


class _History:
    def __init__(
        self, store: DatedStore, suite: Suite, now: datetime, say: Callable[[str], None]
    ) -> None:
        self.store, self.suite, self.now, self.say = store, suite, now, say

    # What happened, oldest first.

    def first_training(self) -> Run:
        """Ten checkpoints, the sixth spoiled and rolled back. Returns the best checkpoint's run."""
        training = "demo-first"
        start = self.now - timedelta(days=52)
        self._announce(training, start)
        base = self._run("synthetic base", Dials(0.30, nats=2.95), start, training, 0)
        self._event(training, "checkpoint", 0, 1, start)
        previous, attempt = base, 1
        steps = [(step, 1) for step in range(10, 70, 10)]
        steps += [(step, 2) for step in range(60, PLANNED_STEPS + 10, 10)]
        for number, (step, attempt) in enumerate(steps):
            at = start + timedelta(minutes=9 * (number + 1))
            spoiled = step == 60 and attempt == 1
            skill = 0.30 + 0.58 * (1 - math.exp(-step / 32))
            dials = Dials(skill, nats=2.95 - 0.0004 * step, broken=0.55 if spoiled else 0.0)
            self._steps(training, step - 9, step, attempt, at, spoiled=spoiled)
            name = f"synthetic step {step}" + (" (spoiled)" if spoiled else "")
            run = self._run(name, dials, at, training, step)
            self._event(training, "checkpoint", step, attempt, at)
            verdict, outcome = self._verdict("crest", previous, run, training, step)
            detail = {"against": "crest", "outcome": outcome, "verdict_id": verdict}
            self._event(training, "verdict", step, attempt, at, detail)
            if outcome == "fail":
                why = self._headline(verdict)
                gone = {"to": 50, "remedy": "skip_data", "why": why, "verdicts": [verdict]}
                self._event(training, "rolled_back", step, attempt, at, gone)
                continue
            self._event(training, "crest", step, attempt, at, {"why": "better on json_match"})
            previous = run
        at = start + timedelta(minutes=120)
        self._event(training, "finished", PLANNED_STEPS, attempt, at)
        first, _ = self._verdict("anchor", base, previous, training, PLANNED_STEPS)
        self._promote(
            1, previous, at, "promoted", first, "the best checkpoint of the first training"
        )
        return previous

    def nightly(self, best_checkpoint: Run, nights: int) -> None:
        """One model a night: one is promoted, then quality slides and replies grow longer."""
        anchor, last = best_checkpoint, best_checkpoint
        for night in range(1, nights + 1):
            at = self.now - timedelta(days=(nights - night) * 2.4 + 0.3)
            after = max(0, night - PROMOTED_NIGHT)
            dials = Dials(
                skill=0.90 - 0.0019 * after if night >= PROMOTED_NIGHT else 0.86 + 0.004 * night,
                chinese=0.0022 * after,
                words=9 if night < 11 else 15,
                refusing=0.02 if night < 11 else 0.14,
                nats=2.90 + 0.0012 * after,
            )
            run = self._run(f"synthetic nightly {night:02}", dials, at, None, None)
            verdict, outcome = self._verdict("anchor", anchor, run, None, None)
            if night == PROMOTED_NIGHT:
                why = "proven better than version 1"
                self._promote(2, run, at + timedelta(hours=1), "promoted", verdict, why)
                anchor = run
                self._calibrate(run, dials, at)
            self.say(f"night {night} of {nights}: {outcome}")
            last = run
        self._votes([best_checkpoint, anchor, last])

    def running_training(self) -> None:
        """A training that is at step 37 of 100, and wrote its last step a moment ago."""
        training, start = "demo-running", self.now - timedelta(minutes=40)
        self._announce(training, start)
        at = start
        for step in range(0, 40, 10):
            at = start + timedelta(minutes=step)
            if step:
                self._steps(training, step - 9, step, 1, at)
            dials = Dials(0.80 + 0.002 * step, nats=2.91 - 0.0003 * step)
            self._run(f"synthetic running step {step}", dials, at, training, step)
            self._event(training, "checkpoint", step, 1, at)
        self._steps(training, 31, 37, 1, self.now)

    # How it is written down.

    def _run(
        self,
        name: str,
        dials: Dials,
        at: datetime,
        training: str | None,
        step: int | None,
        draw: int = 0,
    ) -> Run:
        self.store.moment = at
        protocol = protocol_of(self.suite, 0, None)
        digest = hashlib.sha256(f"{SEED}|{name}".encode()).hexdigest()
        candidate = Candidate(name, digest, SUBJECT, _closed)
        run = Run(
            id=digest_of([digest, protocol, draw]),
            model=name,
            model_digest=digest,
            suite=self.suite.name,
            suite_digest=self.suite.digest,
            fingerprint=Fingerprint(protocol, SUBJECT, {"synthetic": True, "seed": SEED}),
            started_at=at,
            seed=0,
            training_id=training,
            step=step,
        )
        runs.save_run(self.store, run, draw=draw, suite_path=str(self.suite.path.resolve()))
        for task in self.suite.tasks:
            runs.save_samples(self.store, task.digest, task.samples)
        scoring = Scoring(candidate, self.suite, draw=draw, extent=Extent(reserve=1.0))
        wanted = list(scoring.answers())
        said = {answer.key: answer for answer in answers(wanted, dials, f"{name}|{draw}")}
        runs.save_responses(self.store, said.values(), model_digest=digest)
        runs.link_responses(self.store, run.id, said.values())
        score_responses(run, self.suite, wanted, said, self.store, draw)
        runs.save_event(self.store, run.id, "finished", {"generated": len(said), "reused": 0})
        # A training puts into the registry what it offers at its end.
        if training is None or step == PLANNED_STEPS:
            path = {"digest": digest, "event": "added", "path": f"checkpoints/{digest}"}
            made = {"training_id": training, "step": step, "run_id": run.id, "actor": "demo-data"}
            self.store.append("checkpoints", [{**path, **made, "happened_at": at}])
        return run

    def _verdict(
        self, against: str, anchor: Run, run: Run, training: str | None, step: int | None
    ) -> tuple[str, str]:
        """The real gate's word on two synthetic runs."""
        policy = self.suite.policy
        slices = slices_of(self.suite, policy)
        ours, theirs = (
            metric_scores(self.store, side, policy=policy, slices=slices) for side in (anchor, run)
        )
        verdict = decide(ours, theirs, policy).with_note(synthetic="written by ratchet demo-data")
        kept = keep_verdict(self.store, against, anchor.id, run.id, verdict, training, step)
        return kept, verdict.outcome.value

    def _headline(self, verdict_id: str) -> str:
        rows = self.store.query("SELECT headline FROM verdicts WHERE verdict_id = ?", [verdict_id])
        return str(rows[0]["headline"])

    def _announce(self, training: str, at: datetime) -> None:
        self.store.moment = at
        stage: dict[str, Any] = {"trainer": "sft", "steps": PLANNED_STEPS, "checkpoint_every": 10}
        config = {"name": LINE, "synthetic": True, "stages": [stage], "suite": SUITE["name"]}
        row: dict[str, Any] = {"training_id": training, "recipe": RECIPE, "line": LINE}
        self.store.append("trainings", [row | {"config": config}])
        self._event(training, "started", 0, 1, at)

    def _event(
        self,
        training: str,
        event: str,
        step: int,
        attempt: int,
        at: datetime,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        self.store.moment = at
        row = {"training_id": training, "event": event, "step": step, "attempt": attempt}
        self.store.append("training_events", [{**row, "detail": dict(detail or {})}])

    def _steps(
        self,
        training: str,
        first: int,
        last: int,
        attempt: int,
        at: datetime,
        *,
        spoiled: bool = False,
    ) -> None:
        for step in range(first, last + 1):
            luck = random.Random(f"{SEED}|{training}|{attempt}|{step}")
            loss = 0.55 + 2.1 * math.exp(-step / 22) + luck.gauss(0, 0.05)
            loss += 1.1 if spoiled else 0.0
            self.store.moment = at - timedelta(seconds=20 * (last - step))
            row = {
                "training_id": training,
                "step": step,
                "attempt": attempt,
                "loss": max(loss, 0.05),
                "grad_norm": abs(luck.gauss(1.1 + (2.0 if spoiled else 0.0), 0.25)),
                "learning_rate": 1e-3 * (1 - step / (PLANNED_STEPS + 1)),
                "epoch": step / 50,
                "tokens": step * 4096,
            }
            self.store.append("training_steps", [row])

    def _promote(
        self, version: int, run: Run, at: datetime, event: str, verdict: str, why: str
    ) -> None:
        self.store.moment = at
        row = {
            "digest": run.model_digest,
            "event": event,
            "line": LINE,
            "path": f"checkpoints/{run.model_digest}",
            "run_id": run.id,
            "verdict_id": verdict,
            "actor": "demo-data",
            "reason": why,
            "detail": {"version": version, "previous": version - 1 or None, "override": False},
        }
        self.store.append("checkpoints", [row])

    def _calibrate(self, run: Run, dials: Dials, at: datetime) -> None:
        again = self._run(run.model, dials, at, None, None, draw=1)
        sides = [metric_scores(self.store, side) for side in (run, again)]
        found = calibrate(sides[0], sides[1], self.suite.policy, trials=200, run_length=20)
        keep_calibration(self.store, found, self.suite.policy, [run, again])

    def _votes(self, models: Sequence[Run]) -> None:
        """240 votes of four raters; each pair of replies is compared with a known taste."""
        taste = dict(zip((run.model_digest for run in models), (0.0, 0.5, -0.2), strict=True))
        rng = random.Random(SEED)
        self.store.append("rating_sessions", [_session(models)])
        by_sample = self._replies(models)
        rows = []
        for number in range(240):
            sample, replies = rng.choice(by_sample)
            left, right = rng.sample(sorted(replies), 2)
            refused = [refuses(replies[side][1]) for side in (left, right)]
            edge = taste[left] - taste[right] - 1.5 * (refused[0] - refused[1])
            choice = "tie" if rng.random() < 0.22 else _preferred(edge, rng)
            rows.append(
                {
                    "vote_id": f"demo-{number:04}",
                    "session_id": "demo-session",
                    "rater": ("ana", "bo", "chen", "dee")[number % 4],
                    "rater_kind": "human",
                    "pair_id": f"{sample}|{min(left, right)[:8]}|{max(left, right)[:8]}",
                    "purpose": "plain",
                    "task": "replies",
                    "sample_id": sample,
                    "left_key": replies[left][0],
                    "right_key": replies[right][0],
                    "left_model": left,
                    "right_model": right,
                    "choice": choice,
                    "dimension": "overall",
                    "dwell_ms": round(900 + 4000 * rng.random()),
                }
            )
        self.store.append("votes", rows)

    def _replies(self, models: Sequence[Run]) -> list[tuple[str, dict[str, tuple[str, str]]]]:
        found = self.store.query(
            "SELECT sample_id, model_digest, key, text FROM responses WHERE task = 'replies' "
            "AND response_index = 0 AND draw = 0 AND list_contains(?, model_digest) "
            "ORDER BY sample_id, model_digest",
            [[run.model_digest for run in models]],
        )
        by_sample: dict[str, dict[str, tuple[str, str]]] = {}
        for row in found:
            replies = by_sample.setdefault(row["sample_id"], {})
            replies[row["model_digest"]] = (row["key"], row["text"])
        return sorted(by_sample.items())


def _session(models: Sequence[Run]) -> dict[str, Any]:
    config = {"runs": [run.id for run in models], "synthetic": True}
    return {"session_id": "demo-session", "event": "created", "config": config}


def _preferred(edge: float, rng: random.Random) -> str:
    return "left" if rng.random() < 1 / (1 + math.exp(-1.6 * edge)) else "right"


def _closed() -> Any:
    raise UserError("a synthetic model can't be asked anything")

"""What a judge says of one checkpoint, and what it took to find out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.comparison.verdict_log import Decision
from harness.core.types import VerdictOutcome
from harness.evaluation.runner import RunReport
from harness.gate.verdict import MetricVerdict, Verdict
from trainers.checkpoints.state import Judged


@dataclass(frozen=True, slots=True)
class Work:
    """What judging took: answers that the model wrote, texts that it read, scores, seconds. What
    was known before is in none of them.
    """

    generated: int = 0
    read: int = 0
    scored: int = 0
    seconds: float = 0.0

    def plus(self, report: RunReport) -> Work:
        return Work(
            self.generated + report.generated,
            self.read + report.read,
            self.scored + report.scored,
            self.seconds + report.seconds,
        )


@dataclass(frozen=True, slots=True)
class Opinion:
    """The verdicts against each opponent (none of checkpoint-0), what the state keeps of them, and
    why the checkpoint is the new best one where it is.
    """

    judged: Judged
    decisions: tuple[Decision, ...] = ()
    why_best: str | None = None
    work: Work = Work()

    @property
    def decisive(self) -> Decision | None:
        """The verdict that counts: of a new best checkpoint that against the one before it; else
        the first that fails, else the first that doesn't pass.
        """
        if self.why_best:
            return self.decisions[-1]
        order = {VerdictOutcome.FAIL: 0, VerdictOutcome.PASS: 2}
        ranked = sorted(self.decisions, key=lambda d: order.get(d.verdict.outcome, 1))
        return ranked[0] if ranked else None


def deciding(verdict: Verdict) -> Iterator[MetricVerdict]:
    """The metrics that a verdict rests on: those that fail; else the required ones that are open;
    else all required ones.
    """
    failing = list(verdict.failing())
    required = [row for row in verdict.rows if row.required]
    still_open = [row for row in required if row.outcome is not VerdictOutcome.PASS]
    yield from failing or still_open or required


def told(decision: Decision, work: Work) -> dict[str, object]:
    """A decision as the event of its verdict keeps it; all of it is in `verdicts`."""
    return {
        "against": decision.against,
        "outcome": decision.verdict.outcome.value,
        "verdict_id": decision.id,
        "headline": decision.verdict.headline,
        "decided_by": [
            {
                "metric": row.name,
                "anchor": row.measured.anchor,
                "candidate": row.measured.candidate,
            }
            for row in deciding(decision.verdict)
        ],
        "generated": work.generated,
        "read": work.read,
        "scored": work.scored,
        "seconds": round(work.seconds, 3),
    }

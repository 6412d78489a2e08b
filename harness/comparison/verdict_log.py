"""A decision of the gate, and its row in the store."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from harness.core.types import Run
from harness.gate.verdict import MetricVerdict, Verdict
from harness.store import runs
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Decision:
    """A stored verdict: its id, the two runs, and what the anchor was (`against`).

    `improvement` is a sentence that says what was shown to be better; None where nothing was.
    """

    id: str
    against: str
    anchor: Run
    candidate: Run
    verdict: Verdict
    improvement: str | None = None


def keep(
    store: Store,
    against: str,
    anchor: Run,
    candidate: Run,
    verdict: Verdict,
    training_id: str | None = None,
    step: int | None = None,
    *,
    improvement: str | None = None,
) -> Decision:
    """Store a verdict with its rows under a new id.

    With an `improvement` a promotion may rest on it, even where the verdict isn't `pass`.
    """
    verdict_id = keep_verdict(
        store,
        against,
        anchor.id,
        candidate.id,
        verdict,
        training_id,
        step,
        improvement=improvement,
    )
    return Decision(verdict_id, against, anchor, candidate, verdict, improvement)


def keep_verdict(
    store: Store,
    against: str,
    anchor_run: str | None,
    candidate_run: str,
    verdict: Verdict,
    training_id: str | None = None,
    step: int | None = None,
    *,
    improvement: str | None = None,
) -> str:
    """`keep` with the runs' ids; the anchor's is None for the first of a line. Returns the id."""
    verdict_id = uuid.uuid4().hex[:16]
    at = runs.now()
    store.append(
        "verdicts",
        [
            {
                "verdict_id": verdict_id,
                "outcome": verdict.outcome.value,
                "against": against,
                "anchor_run": anchor_run,
                "candidate_run": candidate_run,
                "training_id": training_id,
                "step": step,
                "look": verdict.look[0],
                "looks": verdict.look[1],
                "headline": verdict.headline,
                "policy": {"rule": verdict.rule, "alpha": verdict.policy_alpha},
                "detail": {
                    **verdict.to_dict(),
                    "promotable": improvement is not None,
                    "improvement": improvement,
                },
                "decided_at": at,
            }
        ],
    )
    store.append(
        "verdict_metrics",
        [_table_row(verdict_id, row) for row in verdict.rows],
    )
    return verdict_id


def _table_row(verdict_id: str, row: MetricVerdict) -> dict[str, Any]:
    measured, decided = row.measured, row.decided
    low, high = measured.interval or (None, None)
    return {
        "verdict_id": verdict_id,
        "metric": row.name,
        "required": row.required,
        "outcome": row.outcome.value,
        "arm": decided.arm,
        "anchor": measured.anchor,
        "candidate": measured.candidate,
        "change": measured.change,
        "low": low,
        "high": high,
        "margin": row.allowed.margin,
        "samples": measured.n,
        "detail": {
            "p_worse": decided.p_worse,
            "p_drop": decided.p_drop,
            "mean_z": decided.mean_z,
        },
    }

"""Turns one check's evidence into a row of the verdict."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.core.types import Direction, VerdictOutcome
from harness.gate.checks import Check
from harness.gate.intervals import change_with_interval, relative_change
from harness.gate.pairing import Paired
from harness.gate.verdict import Allowed, Arm, Decided, Measured, MetricVerdict, Moved
from harness.statistics.intervals import LEVEL
from harness.statistics.power import guarded_needed, samples_needed

MOVED = 10


def problem_row(check: Check) -> MetricVerdict:
    """Without evidence: incomparable, or inconclusive where the evidence was lost by us."""
    decided = Decided(
        outcome=VerdictOutcome.INCONCLUSIVE if check.lost else VerdictOutcome.INCOMPARABLE,
        arm="waived" if check.waiver else "lost" if check.lost else "none",
        reason=check.waiver.reason if check.waiver else check.problem,
    )
    return _row(check, decided, Measured(**_kind(check)), Allowed())


def requirement_row(check: Check, outcome: VerdictOutcome, adjusted: float | None) -> MetricVerdict:
    """A bound on the candidate alone."""
    found = check.requirement
    assert found is not None
    decided = Decided(
        outcome=outcome,
        arm="waived" if check.waiver else "absolute",
        p_worse=found.p_broken,
        p_within=found.p_kept,
        p_adjusted=adjusted,
        needed=found.needed,
        reason=check.waiver.reason if check.waiver else "",
    )
    measured = Measured(candidate=found.value, n=found.n, **_kind(check))
    return _row(check, decided, measured, Allowed(requirement=found.name, limit=found.limit))


def paired_row(
    check: Check, outcome: VerdictOutcome, arm: Arm, adjusted: float | None
) -> MetricVerdict:
    """A comparison with the anchor."""
    paired, q = check.paired, check.questions
    assert paired is not None
    assert q is not None
    decided = Decided(
        outcome=outcome,
        arm="waived" if check.waiver else arm,
        mean_z=float(q.margin.mean),
        se=_finite(q.margin.se),
        t=float(q.margin.t),
        df=float(q.margin.df),
        p_worse=float(q.p_worse),
        p_drop=float(q.p_drop),
        p_within=float(q.p_within),
        p_adjusted=adjusted,
        guarded=bool(q.guarded),
        needed=_needed(check),
        reason=check.waiver.reason if check.waiver else "",
    )
    return _row(check, decided, _measured(paired, check), _allowed(paired, check))


def _row(check: Check, decided: Decided, measured: Measured, allowed: Allowed) -> MetricVerdict:
    return MetricVerdict(check.metric, check.role, decided, measured, allowed, check.label)


def _measured(paired: Paired, check: Check) -> Measured:
    change, interval = change_with_interval(paired, _direction(check))
    relative, relative_interval = None, None
    if check.scores is None or check.scores.scale != "interval":
        relative, relative_interval = relative_change(paired, _direction(check))
    return Measured(
        anchor=paired.anchor_value,
        candidate=paired.candidate_value,
        change=change,
        interval=interval,
        relative=relative,
        relative_interval=relative_interval,
        level=LEVEL,
        n=paired.n,
        clusters=paired.groups,
        moved=_moved(paired, check),
        **_kind(check),
    )


def _kind(check: Check) -> dict[str, Any]:
    scores = check.scores
    if scores is None:
        return {}
    return {"direction": scores.direction, "scale": scores.scale, "form": scores.form}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


def _direction(check: Check) -> Direction:
    return "higher" if check.scores is None else check.scores.direction


def _allowed(paired: Paired, check: Check) -> Allowed:
    """The margins, and the worst change that they allow: in the metric's unit and as a share."""
    change, relative = _worst_allowed(paired, check)
    return Allowed(check.margin, check.pass_margin, check.floor, change, relative)


def _worst_allowed(paired: Paired, check: Check) -> tuple[float, float | None]:
    anchor = paired.anchor_value
    if paired.logarithmic:
        growth = math.exp(math.log1p(check.margin) + check.floor) - 1
        return anchor * growth, growth
    sign = 1.0 if _direction(check) == "lower" else -1.0
    amount = sign * (check.margin * anchor + check.floor)
    return amount, amount / anchor if anchor > 0 else None


def _needed(check: Check) -> int | None:
    """Samples with which an unchanged candidate would pass in 80%, at this look's spread."""
    paired, q = check.paired, check.questions
    assert paired is not None
    assert q is not None
    if not math.isfinite(float(q.within.se)):
        return None
    allowance = float(np.average(paired.allowance(check.pass_margin, check.floor)))
    # se·√n is one sample's standard deviation; for an unchanged model z lies the whole allowance
    # away from 0.
    needed = samples_needed(float(q.within.se) * math.sqrt(paired.n), allowance, check.alpha)
    if needed is None or not bool(q.guarded) or paired.known is None:
        return needed
    sd = float(q.within.se) * math.sqrt(paired.n)
    guarded = guarded_needed(sd, allowance, float(paired.known.worst_harm) - allowance, check.alpha)
    return max(needed, guarded or needed)


def _moved(paired: Paired, check: Check) -> tuple[Moved, ...]:
    """The samples with the largest |harm|, the worse first among equals, then by id."""
    z = paired.harm - paired.allowance(check.margin, check.floor)
    top = np.lexsort((np.arange(paired.n), -paired.harm, -np.abs(paired.harm)))[:MOVED]
    return tuple(
        Moved(paired.ids[i], float(z[i]), *(float(own[i]) for own in paired.own))
        for i in top
        if paired.harm[i] != 0
    )

"""The gate: a policy and two runs make a verdict.

The rule is set out in docs/gate.md; each step's mathematics lives in harness/statistics/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from harness.core.types import VerdictOutcome
from harness.gate.checks import Check, Scores, all_checks, requirement_checks
from harness.gate.explain import headline, settles
from harness.gate.policy import DEFAULT_POLICY, GatePolicy
from harness.gate.verdict import Arm, MetricVerdict, Verdict
from harness.gate.verdict_rows import paired_row, problem_row, requirement_row
from harness.statistics.alpha_spending import alpha_at
from harness.statistics.decision_rule import Decisions, apply_rule
from harness.statistics.margins import Array

__all__ = ["agreed", "decide", "requirements_only"]

PASS, FAIL = VerdictOutcome.PASS, VerdictOutcome.FAIL
INCONCLUSIVE, INCOMPARABLE = VerdictOutcome.INCONCLUSIVE, VerdictOutcome.INCOMPARABLE


def decide(
    anchor: Scores,
    candidate: Scores,
    policy: GatePolicy = DEFAULT_POLICY,
    *,
    look: tuple[int, int] = (1, 1),
    earlier: Verdict | None = None,
    today: date | None = None,
) -> Verdict:
    """Compare a candidate with an anchor, both as "task/metric" -> MetricScores.

    look      (j, J): this is look j of J planned ones, counted from 1
    earlier   the verdict of the look before; its passed rows stay passed
    today     the date on which waivers are checked; without it a waiver with a date never holds

    Raises UserError for a look or a schedule that doesn't exist. Evidence that is missing,
    mismatched or not finite raises nothing: it makes the verdict `incomparable`, or `inconclusive`
    where a sandbox or a server lost it.
    """
    alpha = alpha_at(look, policy.alpha, policy.looks if look[1] > 1 else None)
    checks = list(all_checks(anchor, candidate, policy, alpha, today))
    if policy.rule == "point":
        rows = [_point_row(check) for check in checks]
    else:
        rows = _decided(checks, policy, alpha, last=look[0] == look[1])
        rows = _kept(rows, earlier)
    return _verdict(rows, checks, policy, alpha, look, today)


def requirements_only(
    candidate: Scores, policy: GatePolicy = DEFAULT_POLICY, *, today: date | None = None
) -> Verdict:
    """The verdict on the first promotion of a line: there is no anchor yet, so only the absolute
    requirements (`at_least`, `at_most`, `rate_at_most`) are tested. PASS where there are none.
    """
    checks = list(requirement_checks(candidate, policy, today))
    rows = _decided(checks, policy, policy.alpha, last=True)
    verdict = _verdict(rows, checks, policy, policy.alpha, (1, 1), today)
    said = "There is no anchor yet, so only the absolute requirements were tested."
    if not checks:
        return replace(
            verdict,
            outcome=PASS,
            headline="PASS: the first of its line, and the policy sets no absolute requirement.",
            reasons=(said,),
        )
    return replace(verdict, reasons=(said, *verdict.reasons))


def agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """What verdicts on the same comparison, each over other clusters, come to together: PASS or
    FAIL where all of them do, else the first that lacks evidence or is inconclusive.
    """
    outcomes = {verdict.outcome for verdict in verdicts}
    careful = [v for kind in (INCOMPARABLE, INCONCLUSIVE) for v in verdicts if v.outcome is kind]
    if len(outcomes) == 1 or careful:
        return careful[0] if careful else verdicts[-1]
    return replace(verdicts[-1], outcome=INCONCLUSIVE)


def _decided(
    checks: list[Check], policy: GatePolicy, alpha: float, *, last: bool
) -> list[MetricVerdict]:
    """Apply the rule to the gated checks together, and to each of the others by itself."""
    # Advisory and waived checks decide nothing, so they must not make Holm's correction larger for
    # those that do.
    rows: dict[int, MetricVerdict] = {}
    gated = [i for i, check in enumerate(checks) if check.gated]
    for family in [gated, *([i] for i in range(len(checks)) if i not in gated)]:
        if not family:
            continue
        columns: Array = np.array([checks[i].p_values for i in family]).T
        decisions = apply_rule(*columns, alpha=alpha, last=last, fail_rule=policy.fail_rule)
        for place, i in enumerate(family):
            rows[i] = _row(checks[i], decisions, place)
    return [rows[i] for i in range(len(checks))]


def _row(check: Check, decisions: Decisions, place: int) -> MetricVerdict:
    if check.problem:
        return problem_row(check)
    strict, drop = bool(decisions.strict[place]), bool(decisions.drop[place])
    outcome = FAIL if strict or drop else PASS if decisions.passed[place] else INCONCLUSIVE
    arm: Arm = "strict" if strict else "drop" if drop else "pass" if outcome is PASS else "none"
    adjusted = float(decisions.p_strict[place])
    if not strict:
        adjusted = min(adjusted, float(decisions.p_drop[place])) if drop else adjusted
    if check.requirement is not None:
        return requirement_row(check, outcome, adjusted)
    return paired_row(check, outcome, arm, adjusted)


def _point_row(check: Check) -> MetricVerdict:
    """The bare rule: compare two numbers, and say how often that is wrong on this suite."""
    from scipy.special import ndtr

    if check.problem:
        return problem_row(check)
    if check.requirement is not None:
        return requirement_row(check, FAIL if check.requirement.broken else PASS, None)
    assert check.questions is not None
    assert check.paired is not None
    outcome = FAIL if float(check.questions.margin.mean) > 0 else PASS
    # A model that didn't change has harm around 0 with this standard error, and is failed where it
    # happens to exceed what is allowed.
    allowed = float(check.questions.drop.mean) - float(check.questions.margin.mean)
    se = float(check.questions.drop.se)
    alarm = float(ndtr(-allowed / se)) if 0 < se < math.inf else 0.0
    row = paired_row(check, outcome, "point", None)
    return replace(row, decided=replace(row.decided, false_alarm=alarm))


def _kept(rows: list[MetricVerdict], earlier: Verdict | None) -> list[MetricVerdict]:
    """Rows that passed at an earlier look stay passed: that look spent its own share of alpha, so
    the evidence was good enough. Only an open row is changed, never one that now fails.
    """
    if earlier is None:
        return rows
    passed = {row.name for row in earlier.rows if row.outcome is PASS}
    return [
        replace(row, decided=replace(row.decided, outcome=PASS, arm="earlier"))
        if row.outcome is INCONCLUSIVE and row.name in passed
        else row
        for row in rows
    ]


def _verdict(
    rows: list[MetricVerdict],
    checks: list[Check],
    policy: GatePolicy,
    alpha: float,
    look: tuple[int, int],
    today: date | None,
) -> Verdict:
    outcome = _outcome(rows)
    reasons = tuple(_reasons(rows, checks, policy, today))
    return Verdict(
        outcome=outcome,
        rows=tuple(rows),
        headline=headline(outcome, rows, reasons),
        reasons=reasons,
        settle=settles(outcome, rows, look[0] == look[1]),
        rule=policy.rule,
        fail_rule=policy.fail_rule,
        alpha=alpha,
        policy_alpha=policy.alpha,
        look=look,
        tests=sum(check.gated for check in checks),
    )


def _outcome(rows: list[MetricVerdict]) -> VerdictOutcome:
    """FAIL if any check failed, for measured harm outranks missing evidence; INCOMPARABLE if any
    lacks evidence; PASS if every required check passed; else INCONCLUSIVE.
    """
    deciding = [row for row in rows if row.binding]
    outcomes = {row.outcome for row in deciding}
    if FAIL in outcomes:
        return FAIL
    if not rows or INCOMPARABLE in outcomes:
        return INCOMPARABLE
    required = [row for row in deciding if row.required]
    if required and all(row.outcome is PASS for row in required):
        return PASS
    return INCONCLUSIVE


def _reasons(
    rows: list[MetricVerdict], checks: list[Check], policy: GatePolicy, today: date | None
) -> Iterator[str]:
    if not rows:
        yield "The anchor has no metric, so there is nothing to compare the candidate with."
    for row in rows:
        if row.outcome is INCOMPARABLE and row.role == "advisory":
            yield f"{row.name} (advisory) can't be compared: {row.decided.reason}."
        if row.waived:
            yield f"{row.name} is waived: {row.decided.reason}."
    for metric, own in policy.metrics.items():
        if own.waiver is not None and not own.waiver.holds_on(today):
            if today is None:
                why = "has an end, and no date was given to compare it with, so it isn't in force"
            else:
                why = "has ended and isn't in force"
            yield f"The waiver of {metric} ({own.waiver.expires}) {why}."
    for check in checks:
        if check.paired is not None and check.paired.lost and check.label is None:
            yield f"{check.metric} leaves out {check.paired.lost} samples whose answers are errors."
        if check.paired is not None and check.label is None:
            yield from _claims(check, policy)
        unfrozen = policy.is_auto(check.metric) and not policy.of(check.metric).frozen_margin
        if unfrozen and check.questions is not None and check.label is None:
            yield f"{check.metric} has no frozen margin yet: `ratchet calibrate` makes one."
    if policy.rule == "point":
        alarms = [r.decided.false_alarm or 0.0 for r in rows if r.role != "advisory"]
        total = 1 - math.prod(1 - alarm for alarm in alarms)
        yield (
            f"The bare rule was asked for: on this suite it fails about {total:.0%} of candidates "
            "that are no different from the anchor."
        )


def _claims(check: Check, policy: GatePolicy) -> Iterator[str]:
    """What a reader may not conclude from a row, however it came out."""
    assert check.paired is not None
    own = policy.of(check.metric)
    if own.fixed_set:
        yield (
            f"What is claimed of {check.metric} holds for these {check.paired.n} samples only "
            "(`fixed_set`), and not for others like them."
        )
    if check.scores is not None and check.scores.timed and not own.interleaved:
        yield (
            f"{check.metric} is a timing of rounds that were not interleaved, so it is advisory: "
            "the machine may have changed between the runs. If the rounds of both runs took turns, "
            "set `interleaved: true`."
        )

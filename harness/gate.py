"""The gate: a policy and two runs make a verdict. Pure: no file, no clock, no network.

The rule is set out in docs/gate.md; each step's mathematics lives in harness/statistics/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from harness.crest import Improvement, improved, per_checkpoint_alpha, rollback_target
from harness.pairing import MetricScores, MismatchError, Paired, pair
from harness.policy import (
    DEFAULT_POLICY,
    GatePolicy,
    MetricPolicy,
    Role,
    Waiver,
    policy_from_mapping,
)
from harness.records import VerdictOutcome
from harness.requirements import Requirement, requirements
from harness.rows import incomparable_row, paired_row, requirement_row
from harness.statistics.looks import alpha_at
from harness.statistics.margins import Array
from harness.statistics.rule import Decisions, Questions, apply_rule, ask, ask_fixed_set
from harness.verdict import Arm, MetricVerdict, Moved, Verdict
from harness.wording import headline, settles

__all__ = [
    "GatePolicy",
    "Improvement",
    "MetricPolicy",
    "MetricScores",
    "MetricVerdict",
    "Moved",
    "Verdict",
    "Waiver",
    "decide",
    "improved",
    "per_checkpoint_alpha",
    "policy_from_mapping",
    "requirements_only",
    "rollback_target",
]

Scores = Mapping[str, MetricScores]

PASS, FAIL = VerdictOutcome.PASS, VerdictOutcome.FAIL
INCONCLUSIVE, INCOMPARABLE = VerdictOutcome.INCONCLUSIVE, VerdictOutcome.INCOMPARABLE


@dataclass(frozen=True, slots=True)
class Check:
    """One row before it is decided: what is asked, and the evidence or why there is none."""

    metric: str
    role: Role
    scores: MetricScores | None
    label: str | None = None
    paired: Paired | None = None
    margin: float = 0.0
    pass_margin: float = 0.0
    floor: float = 0.0
    alpha: float = 0.05
    questions: Questions | None = None
    requirement: Requirement | None = None
    problem: str = ""
    waiver: Waiver | None = None

    @property
    def gated(self) -> bool:
        return self.role != "advisory" and self.waiver is None

    @property
    def p_values(self) -> tuple[float, float, float, float]:
        """The p of "worse", of "any drop", of "within", and mean z; 1, 1, 1, 0 without evidence."""
        if self.requirement is not None:
            return self.requirement.p_broken, 1.0, self.requirement.p_kept, 0.0
        q = self.questions
        if q is None:
            return 1.0, 1.0, 1.0, 0.0
        return (
            float(q.p_worse),
            float(q.p_drop),
            float(q.p_within),
            float(q.margin.mean),
        )


def decide(
    anchor: Scores,
    candidate: Scores,
    policy: GatePolicy = DEFAULT_POLICY,
    *,
    look: tuple[int, int] = (1, 1),
    earlier: Verdict | None = None,
    today: date | None = None,
) -> Verdict:
    """Hold a candidate against an anchor, both as metric -> MetricScores.

    `look` is the place (j, J) in the planned schedule; `earlier` the verdict of the look before,
    whose passed rows stay passed; `today` the day on which waivers with a date are judged
    (without it none of those holds). Raises UserError for a look or a schedule that doesn't
    exist; evidence that is missing, mismatched or not finite makes the verdict `incomparable`.
    """
    alpha = alpha_at(look, policy.alpha, policy.looks if look[1] > 1 else None)
    checks = list(_checks(anchor, candidate, policy, alpha, today))
    if policy.rule == "point":
        rows = [_point_row(check) for check in checks]
    else:
        rows = _decided(checks, policy, alpha, last=look[0] == look[1])
        rows = _kept(rows, earlier)
    return _verdict(rows, checks, policy, alpha, look, today)


def requirements_only(
    candidate: Scores, policy: GatePolicy = DEFAULT_POLICY, *, today: date | None = None
) -> Verdict:
    """The first promotion of a line: absolute requirements, because there is no anchor yet."""
    checks = [
        check
        for metric, role in policy.roles(list(candidate)).items()
        for check in _absolute(metric, role, candidate[metric], policy, policy.alpha, today, None)
    ]
    rows = _decided(checks, policy, policy.alpha, last=True)
    verdict = _verdict(rows, checks, policy, policy.alpha, (1, 1), today)
    said = "There is no anchor yet: only the absolute requirements were asked."
    if not checks:
        return replace(
            verdict,
            outcome=PASS,
            headline="PASS: the first of its line, and the policy sets no absolute requirement.",
            reasons=(said,),
        )
    return replace(verdict, reasons=(said, *verdict.reasons))


def _checks(
    anchor: Scores, candidate: Scores, policy: GatePolicy, alpha: float, today: date | None
) -> Iterator[Check]:
    named = [m for m, own in policy.metrics.items() if "/" in m and not own.advisory]
    fresh = [m for m in candidate if m not in anchor and candidate[m].form == "winshare"]
    metrics = list(dict.fromkeys([*anchor, *fresh, *named]))
    for metric, role in policy.roles(metrics).items():
        ours, theirs = anchor.get(metric), candidate.get(metric)
        waiver = _waiver(policy.of(metric), today)
        if theirs is None:
            whose = "candidate" if ours is not None else "anchor and the candidate"
            problem = f"the {whose} doesn't have this metric"
            yield Check(metric, role, ours, problem=problem, waiver=waiver)
            continue
        for label, only in _slices(policy.of(metric), theirs):
            if isinstance(only, str):
                yield Check(metric, role, theirs, problem=only, waiver=waiver)
                continue
            relative = _relative(metric, role, ours, theirs, policy, waiver, label, only)
            yield replace(relative, alpha=alpha)
            yield from _absolute(metric, role, theirs, policy, alpha, today, label, only)


def _slices(
    own: MetricPolicy, scores: MetricScores
) -> Iterator[tuple[str | None, frozenset[str] | str | None]]:
    """All samples, then each slice; a string instead of sample ids says what is wrong."""
    yield None, None
    if own.by is None:
        return
    labels = scores.labels(own.by)
    if labels is None:
        yield None, f"the samples have no field {own.by!r} to slice by"
        return
    for label in sorted(set(labels.values())):
        yield label, frozenset(i for i, name in labels.items() if name == label)


def _relative(
    metric: str,
    role: Role,
    ours: MetricScores | None,
    theirs: MetricScores,
    policy: GatePolicy,
    waiver: Waiver | None,
    label: str | None,
    only: frozenset[str] | None,
) -> Check:
    check = Check(metric, role, theirs, label=label, waiver=waiver)
    try:
        paired = pair(ours, theirs, error_share=policy.error_share, only=only)
    except MismatchError as reason:
        return replace(check, problem=str(reason))
    margin, pass_margin = policy.margin_of(metric), policy.pass_margin_of(metric)
    floor = policy.of(metric).floor
    if theirs.scale == "interval":
        floor = default_floor(paired, margin) if floor is None else floor
        margin = pass_margin = 0.0
    floor = floor or 0.0
    wide = paired.allowance(pass_margin, floor) if pass_margin > margin else None
    try:
        questions = _questions(paired, policy.of(metric), theirs, margin, floor, wide)
    except MismatchError as reason:
        return replace(check, problem=str(reason))
    return replace(
        check,
        paired=paired,
        margin=margin,
        pass_margin=pass_margin,
        floor=floor,
        questions=questions,
    )


def _questions(
    paired: Paired,
    own: MetricPolicy,
    scores: MetricScores,
    margin: float,
    floor: float,
    wide: Array | None,
) -> Questions:
    allowance = paired.allowance(margin, floor)
    if own.fixed_set:
        if paired.variance is None:
            raise MismatchError("a claim about these samples only needs each sample's variance")
        ours, theirs = paired.variance
        sign = -1.0 if scores.direction == "higher" else 1.0
        return ask_fixed_set(
            paired.harm,
            allowance,
            ours + theirs,
            (1 + sign * margin) ** 2 * ours + theirs,
            pass_allowance=wide,
            weights=paired.weights,
        )
    return ask(
        paired.harm,
        allowance,
        pass_allowance=wide,
        known=paired.known,
        clusters=paired.clusters,
        weights=paired.weights,
    )


def default_floor(paired: Paired, margin: float) -> float:
    """ε of an interval scale that names none: δ standard deviations of the anchor's samples.

    Without a zero there is nothing to take 5% of; the spread of the anchor is the one unit that
    survives a shift and a stretch of the scale.
    """
    return margin * float(np.std(paired.anchor, ddof=1)) if paired.n > 1 else 0.0


def _absolute(
    metric: str,
    role: Role,
    scores: MetricScores,
    policy: GatePolicy,
    alpha: float,
    today: date | None,
    label: str | None,
    only: frozenset[str] | None = None,
) -> Iterator[Check]:
    own = policy.of(metric)
    check = Check(metric, role, scores, label=label, waiver=_waiver(own, today))
    try:
        found = requirements(scores, own, alpha=alpha, error_share=policy.error_share, only=only)
    except MismatchError as reason:
        yield replace(check, problem=str(reason))
        return
    for requirement in found:
        yield replace(check, requirement=requirement)


def _waiver(own: MetricPolicy, today: date | None) -> Waiver | None:
    return own.waiver if own.waiver is not None and own.waiver.holds_on(today) else None


def _decided(
    checks: list[Check], policy: GatePolicy, alpha: float, *, last: bool
) -> list[MetricVerdict]:
    """Apply the rule to the gated checks together, and to each of the others by itself."""
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
        return incomparable_row(check)
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
        return incomparable_row(check)
    if check.requirement is not None:
        return requirement_row(check, FAIL if check.requirement.broken else PASS, None)
    assert check.questions is not None
    assert check.paired is not None
    outcome = FAIL if float(check.questions.margin.mean) > 0 else PASS
    allowed = float(check.questions.drop.mean) - float(check.questions.margin.mean)
    se = float(check.questions.drop.se)
    alarm = float(ndtr(-allowed / se)) if 0 < se < math.inf else 0.0
    return replace(paired_row(check, outcome, "point", None), false_alarm=alarm)


def _kept(rows: list[MetricVerdict], earlier: Verdict | None) -> list[MetricVerdict]:
    """Passed rows stay passed: each look spends its own share of alpha, so each may pass."""
    if earlier is None:
        return rows
    passed = {row.name for row in earlier.rows if row.outcome is PASS}
    return [
        replace(row, outcome=PASS, arm="earlier")
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
    """Measured harm first; then evidence that is missing; then what was shown."""
    deciding = [row for row in rows if row.role != "advisory" and row.arm != "waived"]
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
        yield "The anchor has no metric, so there is nothing to hold the candidate against."
    for row in rows:
        if row.outcome is INCOMPARABLE and row.role == "advisory":
            yield f"{row.name} (advisory) can't be compared: {row.reason}."
        if row.arm == "waived":
            yield f"{row.name} is waived: {row.reason}."
    for metric, own in policy.metrics.items():
        if own.waiver is not None and not own.waiver.holds_on(today):
            ended = "has ended" if today is not None else "needs a day to be judged on"
            yield f"The waiver of {metric} ({own.waiver.expires}) {ended} and is not in force."
    for check in checks:
        if check.paired is not None and check.paired.lost and check.label is None:
            yield f"{check.metric} leaves out {check.paired.lost} samples that are errors."
        unfrozen = policy.is_auto(check.metric) and not policy.of(check.metric).frozen_margin
        if unfrozen and check.questions is not None and check.label is None:
            yield f"{check.metric} has no frozen margin yet: `ratchet calibrate` makes one."
    if policy.rule == "point":
        alarms = [r.false_alarm or 0.0 for r in rows if r.role != "advisory"]
        total = 1 - math.prod(1 - alarm for alarm in alarms)
        yield (
            f"The bare rule was asked for: on this suite it fails about {total:.0%} of candidates "
            "that are no different from the anchor."
        )

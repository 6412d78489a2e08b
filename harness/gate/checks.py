"""Turns a policy into checks: each metric with its evidence, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import LostEvidenceError, MismatchError, Paired, pair
from harness.gate.policy import GatePolicy, MetricPolicy, Role, Waiver
from harness.gate.requirements import Requirement, requirements
from harness.statistics.decision_rule import Questions, ask, ask_fixed_set
from harness.statistics.margins import Array

Scores = Mapping[str, MetricScores]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the verdict before it is decided.

    metric, label   "task/metric", and the slice's label where it is one (`by`)
    scores          the candidate's, or the anchor's where only that has the metric
    paired          both runs' values on their common samples; None for a requirement
    margin, pass_margin, floor   δ for FAIL, δ for PASS, ε
    alpha           what this look may spend
    questions       the three tests of a comparison; None without evidence
    requirement     a bound on the candidate alone, tested, where this row is one
    problem         why there is no evidence; `lost` where a sandbox or a server lost it
    waiver          the waiver that holds, if any
    """

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
    lost: bool = False
    waiver: Waiver | None = None

    @property
    def gated(self) -> bool:
        """Whether it takes part in the verdict: neither advisory nor waived."""
        return self.role != "advisory" and self.waiver is None

    @property
    def p_values(self) -> tuple[float, float, float, float]:
        """(p_worse, p_drop, p_within, mean z) as in `Questions`; 1, 1, 1, 0 without evidence."""
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


def all_checks(
    anchor: Scores, candidate: Scores, policy: GatePolicy, alpha: float, today: date | None
) -> Iterator[Check]:
    """Every check that the policy asks for, in the order of the anchor's metrics.

    A metric that the policy names and no run has becomes a check without evidence; so does one of
    the anchor's that the candidate lacks.
    """
    # A metric that the policy names in full must be there, or a typo would leave it ungated. A win
    # share compares with the anchor by itself, so the anchor's run doesn't have it.
    named = [m for m, own in policy.metrics.items() if "/" in m and not own.advisory]
    fresh = [m for m in candidate if m not in anchor and candidate[m].form == "winshare"]
    metrics = list(dict.fromkeys([*anchor, *fresh, *named]))
    for metric, role in policy.roles(metrics, timings(anchor, candidate)).items():
        ours, theirs = anchor.get(metric), candidate.get(metric)
        check = Check(metric, role, theirs, waiver=_waiver(policy.of(metric), today))
        if theirs is None:
            whose = "candidate" if ours is not None else "anchor and the candidate"
            yield replace(check, scores=ours, problem=f"the {whose} doesn't have this metric")
            continue
        for label, only in _slices(policy.of(metric), theirs):
            if isinstance(only, str):
                yield replace(check, problem=only)
                continue
            labeled = replace(check, label=label)
            yield replace(_relative(labeled, ours, theirs, policy, only), alpha=alpha)
            yield from _absolute(labeled, theirs, policy, alpha, only)


def requirement_checks(
    candidate: Scores, policy: GatePolicy, today: date | None
) -> Iterator[Check]:
    """Every absolute requirement of the policy, for all samples and for each slice; no anchor."""
    for metric, role in policy.roles(list(candidate), timings(candidate)).items():
        own, scores = policy.of(metric), candidate[metric]
        if not own.has_requirement:
            continue
        check = Check(metric, role, scores, waiver=_waiver(own, today))
        for label, only in _slices(own, scores):
            if isinstance(only, str):
                yield replace(check, problem=only)
                continue
            labeled = replace(check, label=label)
            yield from _absolute(labeled, scores, policy, policy.alpha, only)


def timings(*runs: Scores) -> frozenset[str]:
    """The metrics that measure the machine as well as the model."""
    return frozenset(name for run in runs for name, scores in run.items() if scores.timed)


def _slices(
    own: MetricPolicy, scores: MetricScores
) -> Iterator[tuple[str | None, frozenset[str] | str | None]]:
    """(label, sample ids): first (None, None) for all samples, then each slice of `by`.

    A string in place of the ids says why there are no slices.
    """
    yield None, None
    if own.by is None:
        return
    labels = scores.labels(own.by)
    if labels is None:
        yield None, f"the samples have no field {own.by!r} to slice by"
        return
    mine = {i: label for i, label in labels.items() if i in scores.values}
    for label in sorted(set(mine.values())):
        yield label, frozenset(i for i, name in mine.items() if name == label)


def _relative(
    check: Check,
    ours: MetricScores | None,
    theirs: MetricScores,
    policy: GatePolicy,
    only: frozenset[str] | None,
) -> Check:
    """The check with its evidence on `only` these samples, or with what is wrong."""
    try:
        paired = pair(ours, theirs, error_share=policy.error_share, only=only)
    except MismatchError as reason:
        return _problem(check, reason)
    own = policy.of(check.metric)
    # An interval scale has no zero to take a share of, so δ is turned into an absolute floor.
    margin, pass_margin = policy.margin_of(check.metric), policy.pass_margin_of(check.metric)
    floor = own.floor
    if theirs.scale == "interval":
        floor = default_floor(paired, margin) if floor is None else floor
        margin = pass_margin = 0.0
    floor = floor or 0.0
    wide = paired.allowance(pass_margin, floor) if pass_margin > margin else None
    try:
        questions = _questions(paired, own, theirs, margin, floor, wide)
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


def _problem(check: Check, reason: MismatchError) -> Check:
    return replace(check, problem=str(reason), lost=isinstance(reason, LostEvidenceError))


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
            raise MismatchError(_no_variance(scores))
        ours, theirs = paired.variance
        # The allowance δ·a varies with the anchor's answers too: z is (1−δ)·a − c − ε where higher
        # is better, and c − (1+δ)·a − ε where lower is.
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


def _no_variance(scores: MetricScores) -> str:
    if scores.form == "pass_at_k":
        return "`fixed_set` needs at least 2k tries of each problem in both runs"
    return "`fixed_set` needs each sample's variance over its responses: at least two of each"


def default_floor(paired: Paired, margin: float) -> float:
    """ε of an interval scale whose policy sets none: δ standard deviations of the anchor's samples.

    Without a true zero there is nothing to take 5% of. The anchor's spread is a unit that stays the
    same when a constant is added to the scale, and grows with it when the scale is stretched. In
    the metric's unit; 0 with a single sample.
    """
    return margin * float(np.std(paired.anchor, ddof=1)) if paired.n > 1 else 0.0


def _absolute(
    check: Check,
    scores: MetricScores,
    policy: GatePolicy,
    alpha: float,
    only: frozenset[str] | None,
) -> Iterator[Check]:
    """A check for every bound that the policy sets on the candidate alone."""
    own = policy.of(check.metric)
    try:
        found = requirements(scores, own, alpha=alpha, error_share=policy.error_share, only=only)
    except MismatchError as reason:
        yield _problem(check, reason)
        return
    for requirement in found:
        yield replace(check, requirement=requirement)


def _waiver(own: MetricPolicy, today: date | None) -> Waiver | None:
    return own.waiver if own.waiver is not None and own.waiver.holds_on(today) else None

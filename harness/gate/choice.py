"""Which of several candidates looks best beside one anchor: a choice by estimates, not a claim.

The best of many owes part of its lead to luck, so whatever follows from the choice is decided on
evidence that it was not chosen by.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import numpy as np

from harness.gate.checks import Check, Scores, all_checks, default_floor
from harness.gate.policy import DEFAULT_MARGIN, DEFAULT_POLICY, GatePolicy

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the evidence says of one candidate, beside the anchor.

    gains     required metric -> estimated gain, in margins: 1 is what the policy would let a
              candidate lose. Below 0 is harm
    problem   why it can't be compared; such a candidate is never chosen
    """

    gains: Mapping[str, float]
    problem: str = ""

    @property
    def gain(self) -> float:
        """The gains of all required metrics together, in margins."""
        return math.fsum(self.gains.values())

    @property
    def harmless(self) -> bool:
        """Whether no required metric is estimated worse than the anchor's."""
        return not self.problem and all(gain >= 0 for gain in self.gains.values())

    @property
    def ahead(self) -> bool:
        """Whether it is harmless and better somewhere."""
        return self.harmless and self.gain > 0


def estimates(
    anchor: Scores,
    candidates: Mapping[Name, Scores],
    policy: GatePolicy = DEFAULT_POLICY,
    *,
    today: date | None = None,
) -> dict[Name, Estimate]:
    """The estimate of each candidate, whose evidence is `task/metric` -> MetricScores.

    A metric's margin is taken of the largest value that any of them or the anchor has, so that all
    candidates are measured in one unit, and an anchor of 0 has one too.
    """
    checks = {
        name: list(_required(anchor, scores, policy, today)) for name, scores in candidates.items()
    }
    units: dict[str, float] = {}
    for found in checks.values():
        for check in found:
            units[check.metric] = max(units.get(check.metric, 0.0), _unit(check))
    return {name: _estimate(found, units) for name, found in checks.items()}


def in_order(found: Mapping[Name, Estimate]) -> list[Name]:
    """Those that are ahead of the anchor, the greatest gain first; of equal ones the later."""
    ahead = [name for name, estimate in found.items() if estimate.ahead]
    ahead.reverse()
    return sorted(ahead, key=lambda name: -found[name].gain)


def _required(
    anchor: Scores, candidate: Scores, policy: GatePolicy, today: date | None
) -> Iterator[Check]:
    """The comparison of each required metric over all samples; slices are too small to choose by,
    and a bound on the candidate alone is no comparison.
    """
    for check in all_checks(anchor, candidate, policy, policy.alpha, today):
        whole = check.label is None and check.requirement is None
        if whole and check.role == "required" and check.waiver is None:
            yield check


def _unit(check: Check) -> float:
    """What one margin is worth, in the unit of the metric's harm."""
    if check.paired is None:
        return 0.0
    paired = check.paired
    margin, floor = check.margin, check.floor
    if not margin and not floor:  # nothing at all may be lost: then the usual margin is the unit
        interval = check.scores is not None and check.scores.scale == "interval"
        margin = 0.0 if interval else DEFAULT_MARGIN
        floor = default_floor(paired, DEFAULT_MARGIN) if interval else 0.0
    if paired.logarithmic:
        return float(np.average(paired.allowance(margin, floor), weights=paired.weights))
    return margin * max(abs(paired.anchor_value), abs(paired.candidate_value)) + floor


def _estimate(checks: list[Check], units: Mapping[str, float]) -> Estimate:
    gains: dict[str, float] = {}
    for check in checks:
        if check.questions is None:
            return Estimate({}, f"{check.metric}: {check.problem}")
        harm, unit = float(check.questions.drop.mean), units[check.metric]
        gains[check.metric] = -harm / unit if unit > 0 else 0.0
    return Estimate(gains) if gains else Estimate({}, "no metric is required")

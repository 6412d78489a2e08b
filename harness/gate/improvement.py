"""Whether a candidate is significantly better than another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from harness.gate.checks import timings
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, pair
from harness.gate.policy import DEFAULT_POLICY, GatePolicy
from harness.statistics.decision_rule import ask
from harness.statistics.multiplicity import holm


@dataclass(frozen=True, slots=True)
class Improvement:
    """Whether a candidate is shown to be better, and in which metrics.

    p           metric -> one-sided p of "not better" (by more than the policy's `better_by`),
                after Holm over the required metrics
    better      the required metrics that are shown to be better
    failed      the metrics that fail against the anchor; with any, `improved` is False
    sentence    the same in plain words
    """

    improved: bool
    p: Mapping[str, float]
    better: tuple[str, ...]
    failed: tuple[str, ...]
    sentence: str

    def __bool__(self) -> bool:
        return self.improved


def improved(
    anchor: Mapping[str, MetricScores],
    candidate: Mapping[str, MetricScores],
    policy: GatePolicy = DEFAULT_POLICY,
    *,
    alpha: float | None = None,
    today: date | None = None,
) -> Improvement:
    """Is the candidate better on a required metric, with no metric failing?

    Tests E[harm] ≥ −better_by·anchor per required metric, one-sided, Holm over them at `alpha`
    (the policy's own by default), with the same corrections as PASS where few samples differ. A
    metric whose evidence can't be compared counts as not better.
    """
    from harness.gate.decision import decide

    level = policy.alpha if alpha is None else alpha
    verdict = decide(anchor, candidate, policy.with_alpha(level), today=today)
    failed = tuple(dict.fromkeys(row.metric for row in verdict.failing()))
    roles = policy.roles(list(anchor), timings(anchor, candidate))
    names = [metric for metric, role in roles.items() if role == "required"]
    # One better metric is enough for the claim, so unlike PASS it needs a correction for the number
    # of metrics.
    raw = [_p_not_better(anchor.get(m), candidate.get(m), policy) for m in names]
    adjusted = dict(zip(names, holm(np.array(raw)).tolist(), strict=True))
    better = tuple(m for m in names if adjusted[m] <= level)
    return Improvement(
        improved=bool(better) and not failed,
        p=adjusted,
        better=better,
        failed=failed,
        sentence=_sentence(better, failed, policy.better_by),
    )


def _p_not_better(
    ours: MetricScores | None, theirs: MetricScores | None, policy: GatePolicy
) -> float:
    if theirs is None:
        return 1.0
    try:
        paired = pair(ours, theirs, error_share=policy.error_share)
    except MismatchError:
        return 1.0
    # Better by x: harm below −x·anchor, which is an allowance of −x.
    demanded = paired.allowance(policy.better_by, 0.0) if theirs.scale == "ratio" else 0.0
    ahead = np.zeros(paired.n) - demanded
    questions = ask(
        paired.harm,
        ahead,
        known=paired.known,
        clusters=paired.clusters,
        weights=paired.weights,
    )
    return float(questions.p_within)


def _sentence(better: Sequence[str], failed: Sequence[str], by: float) -> str:
    if failed:
        return f"Not an improvement: {', '.join(failed)} failed."
    if not better:
        return "Not an improvement: no required metric is proven better."
    size = f" by more than {by:.1%}" if by else ""
    return f"Improved: {', '.join(better)} {'is' if len(better) == 1 else 'are'} better{size}."

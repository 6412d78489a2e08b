"""Requirements on the candidate alone, such as a toxic share of at most 0.02."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, Paired, pair
from harness.gate.policy import MetricPolicy
from harness.statistics.binomial import ShareTest, responses_needed, share_test
from harness.statistics.margins import Array
from harness.statistics.power import samples_needed
from harness.statistics.student_t import t_test


@dataclass(frozen=True, slots=True)
class Requirement:
    """One bound on the candidate's value, tested.

    name, limit   such as "at most" and 0.02
    value         what was seen
    p_broken      p-value against "the bound is kept": small where it is shown to be broken
    p_kept        p-value against "the bound is broken": small where it is shown to be kept
    n, unit       how many samples or responses; `needed` of them would show that it is kept (None:
                  no number would)
    broken        whether the value itself is past the limit
    """

    name: str
    limit: float
    value: float
    p_broken: float
    p_kept: float
    n: int
    needed: int | None
    unit: str
    broken: bool


def requirements(
    scores: MetricScores,
    policy: MetricPolicy,
    *,
    alpha: float,
    error_share: float = 0.01,
    only: Collection[str] | None = None,
) -> list[Requirement]:
    """Every bound that the policy sets on this metric, tested on `only` these samples.

    Raises MismatchError where the evidence is missing, incomplete or has too many errors.
    """
    if not policy.has_requirement:
        return []
    # Paired with itself: the same checks of the evidence, and there is no anchor.
    alone = pair(scores, scores, error_share=error_share, only=only)
    found = []
    if policy.rate_at_most is not None:
        shares = _rates(scores, alone, policy.rate_over)
        found.append(_share("rate at most", shares, policy.rate_at_most, scores, alone, alpha))
    if policy.at_most is not None:
        found.append(_bound("at most", policy.at_most, scores, alone, alpha))
    if policy.at_least is not None:
        found.append(_bound("at least", policy.at_least, scores, alone, alpha))
    return found


def _rates(scores: MetricScores, alone: Paired, over: float) -> Array:
    if scores.rates is None:
        return np.asarray(alone.candidate > over, dtype=float)
    missing = [i for i in alone.ids if i not in scores.rates]
    if missing:
        raise MismatchError(f"the candidate has no rate for sample {missing[0]!r}")
    return np.array([scores.rates[i] for i in alone.ids], dtype=float)


def _bound(
    name: str, limit: float, scores: MetricScores, alone: Paired, alpha: float
) -> Requirement:
    if _counts(alone.candidate, scores) and 0 < limit < 1:
        return _share(name, alone.candidate, limit, scores, alone, alpha)
    sign = 1.0 if name == "at most" else -1.0
    if alone.logarithmic:
        assert scores.stats is not None
        nll = np.array([scores.stats[i][0] for i in alone.ids])
        excess = sign * (nll - alone.base * math.log(limit))
    else:
        excess = sign * (alone.candidate - limit)
    test = t_test(excess, clusters=alone.clusters, weights=alone.weights)
    distance = -float(test.mean)
    needed = None
    if math.isfinite(float(test.se)):
        needed = samples_needed(float(test.se) * math.sqrt(alone.n), distance, alpha)
    return Requirement(
        name,
        limit,
        alone.candidate_value,
        float(test.above),
        float(test.below),
        alone.n,
        needed,
        "samples",
        distance < 0,
    )


def _counts(values: Array, scores: MetricScores) -> bool:
    """Whether a sample's value is a share of its K responses, so that responses can be counted."""
    hits = values * scores.responses
    in_range = values.min() >= 0 and values.max() <= 1
    return bool(in_range and np.allclose(hits, np.round(hits), atol=1e-9))


def _share(
    name: str, shares: Array, limit: float, scores: MetricScores, alone: Paired, alpha: float
) -> Requirement:
    upward = name == "at least"
    test: ShareTest = share_test(
        1 - shares if upward else shares,
        1 - limit if upward else limit,
        responses=scores.responses,
        clusters=alone.clusters,
        weights=alone.weights,
    )
    seen = 1 - test.share if upward else test.share
    needed = responses_needed(1 - limit if upward else limit, alpha, share=test.share)
    return Requirement(
        name,
        limit,
        seen,
        test.over,
        test.under,
        alone.n * scores.responses,
        needed,
        "responses",
        seen < limit if upward else seen > limit,
    )

"""A metric's value in one run, and its change between two, each with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.core.types import Direction
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, Paired, cluster_codes, linear_values
from harness.statistics.intervals import (
    LEVEL,
    Interval,
    fieller,
    range_interval,
    ratio_interval,
    t_interval,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LARGEST_NATS = 700.0


def value_with_interval(
    scores: MetricScores, level: float = LEVEL
) -> tuple[float | None, float | None, float | None]:
    """(value, low, high): the metric's value and the ends of its interval, in its unit.

    By Student's t over samples, or over their clusters where there are some.

    For perplexity, exp of the token-weighted mean NLL, with the interval of the ratio estimator
    taken on the log scale; for corpus values and quantiles over the values that the gate tests
    (`linear_values`). (None, None, None) without values; no ends where no spread was seen.
    """
    ids = tuple(scores.values)
    if not ids:
        return None, None, None
    clusters = cluster_codes(ids, scores.clusters)
    if scores.form == "perplexity" and scores.stats:
        return _perplexity_with_interval(scores, level, clusters)
    try:
        values = linear_values(ids, scores, clusters=clusters)
    except MismatchError:
        return None, None, None
    if scores.worst is None or scores.best is None:
        bounds = t_interval(values, level, clusters=clusters)
    else:
        ends = min(scores.worst, scores.best), max(scores.worst, scores.best)
        bounds = range_interval(values, ends, level, clusters=clusters)
    return float(values.mean()), *(bounds or (None, None))


def _perplexity_with_interval(
    scores: MetricScores, level: float, clusters: npt.NDArray[np.intp] | None
) -> tuple[float | None, float | None, float | None]:
    import numpy as np

    assert scores.stats is not None
    nll, tokens = np.array([scores.stats[key][:2] for key in scores.values], dtype=float).T
    total = float(tokens.sum())
    if total == 0:
        return None, None, None
    bounds = ratio_interval(nll, tokens, level, clusters=clusters)
    center = _exp(float(nll.sum()) / total)
    return center, *((None, None) if bounds is None else (_exp(bounds[0]), _exp(bounds[1])))


def change_with_interval(
    paired: Paired, direction: Direction, level: float = LEVEL
) -> tuple[float, Interval | None]:
    """Candidate − anchor in the metric's unit, negative where it fell, and its interval.

    Paired, over samples or their clusters. For perplexity the interval is that of the relative
    change (`relative_change`) at the anchor's value. None where no spread was seen.
    """
    change = paired.candidate_value - paired.anchor_value
    if paired.logarithmic:
        relative = relative_change(paired, direction, level)[1]
        if relative is None:
            return change, None
        return change, (paired.anchor_value * relative[0], paired.anchor_value * relative[1])
    bounds = t_interval(paired.harm, level, clusters=paired.clusters, weights=paired.weights)
    sign = _sign(direction)
    return change, _ordered(bounds, lambda harm: sign * harm)


def relative_change(
    paired: Paired, direction: Direction, level: float = LEVEL
) -> tuple[float | None, Interval | None]:
    """The change as a share of the anchor's value, with Fieller's interval.

    None where the anchor's value is not above 0; for perplexity it always is.
    """
    bounds = fieller(
        paired.harm, paired.base, level, clusters=paired.clusters, weights=paired.weights
    )
    if paired.logarithmic:
        ratio = float(paired.harm.sum() / paired.base.sum())
        return _expm1(ratio), _ordered(bounds, _expm1)
    if paired.anchor_value <= 0:
        return None, None
    sign = _sign(direction)
    change = (paired.candidate_value - paired.anchor_value) / paired.anchor_value
    return change, _ordered(bounds, lambda ratio: sign * ratio)


def _sign(direction: Direction) -> float:
    """+1 where harm makes the value larger."""
    return 1.0 if direction == "lower" else -1.0


def _ordered(bounds: Interval | None, f: Callable[[float], float]) -> Interval | None:
    if bounds is None:
        return None
    try:
        low, high = sorted((float(f(bounds[0])), float(f(bounds[1]))))
    except OverflowError:
        return None
    return low, high


def _exp(nats: float) -> float:
    return math.exp(min(nats, _LARGEST_NATS))


def _expm1(nats: float) -> float:
    return math.expm1(min(nats, _LARGEST_NATS))

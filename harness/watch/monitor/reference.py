"""What a served model is compared with: confidence bounds of a reference.

A reference of 200 answers has an error of its own, which no amount of traffic averages out:
measured from its mean, 17% of identical models would end as worse. So FAIL is measured from the
bound of the reference that favours the served model, and PASS from the other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.errors import UserError
from harness.core.protocol import MetricName
from harness.core.types import Direction, ScoreOutcome
from harness.statistics.sequential import Moments, as_unit_means, fixed_lower_bound
from harness.store.store import Store
from harness.watch.monitor.signals import Signal

Array = npt.NDArray[np.float64]

PASS_ALPHA = 0.025
"""Error rate of the bound that PASS is measured from. The served model's interval is wrong as often
at the side that is compared with it, so together they err at 5%."""

FEWEST = 20
"""Conversations below which a signal counts as not measured."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one signal is compared with, in the signal's unit.

    source, digest  where it comes from: `anchor`, `previous`, `first` or `named`, and whose it is
    n, mean         conversations (for an anchor: samples or clusters), and their mean
    limit           FAIL where the served model is shown to be worse; None where there is no limit
    pass_limit      PASS where it is shown to be no worse
    inside          of an inside signal: the smallest and largest number that count as inside
    centre          of a centred signal: the unit vector that its answers are measured from
    problem         why there is no limit, in words
    """

    source: str
    digest: str | None
    n: int
    mean: float | None
    limit: float | None
    pass_limit: float | None
    inside: tuple[float | None, float | None] | None = None
    centre: tuple[float, ...] | None = None
    problem: str | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def hides_the_margin(self, direction: Direction) -> bool:
        """Whether the reference is so small that a model equal to it could never pass."""
        if self.mean is None or self.pass_limit is None or self.inside is not None:
            return False
        return (self.mean < self.pass_limit) == (direction == "higher")

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Reference:
        known: dict[str, Any] = {f.name: data.get(f.name) for f in fields(cls)}
        for name in ("inside", "centre"):
            if known[name] is not None:
                known[name] = tuple(known[name])
        return cls(**known)


def of_moments(
    moments: Moments,
    direction: Direction,
    *,
    margin: float,
    floor: float,
    alpha: float,
    source: str,
    digest: str | None,
) -> Reference:
    """The limits from a reference's values in [0, 1]; `alpha` is that of the limit for FAIL."""
    if moments.n < FEWEST:
        problem = f"the reference has {moments.n} values of it, {FEWEST} are needed"
        return Reference(source, digest, moments.n, moments.mean, None, None, problem=problem)
    if direction == "higher":
        limit = (1 - margin) * fixed_lower_bound(moments, alpha) - floor
        passing = (1 - margin) * (1 - fixed_lower_bound(moments.mirrored, PASS_ALPHA)) - floor
    else:
        limit = (1 + margin) * (1 - fixed_lower_bound(moments.mirrored, alpha)) + floor
        passing = (1 + margin) * fixed_lower_bound(moments, PASS_ALPHA) + floor
    if not 0 < limit < 1:
        problem = "the reference leaves nothing that could be worse by more than the margin"
        return Reference(source, digest, moments.n, moments.mean, None, None, problem=problem)
    passing = min(max(passing, 0.0), 1.0)
    return Reference(source, digest, moments.n, moments.mean, limit, passing)


def of_numbers(
    signal: Signal,
    numbers: Array,
    units: npt.NDArray[np.intp],
    *,
    margin: float,
    alpha: float,
    source: str,
    digest: str | None,
) -> Reference:
    """The limits of an inside signal: quantiles of the reference, each at a bound of itself.

    numbers, units  (n,) every number and the conversation 0.. that it belongs to

    The upper one is the smallest number for which it is shown, at `alpha` over both, that a share
    of 1 − `signal.high` lies at or below it; the margin widens it. That share is then what served
    answers must keep, so that a quantile is compared as a mean.
    """
    count = int(units.max()) + 1 if units.size else 0
    if count < FEWEST:
        problem = f"the reference has {count} values of it, {FEWEST} are needed"
        return Reference(source, digest, count, None, None, None, problem=problem)
    sides = (signal.low > 0) + (signal.high > 0)
    top = _reached(numbers, units, 1 - signal.high, alpha / sides) if signal.high else None
    bottom = _reached(-numbers, units, 1 - signal.low, alpha / sides) if signal.low else None
    if (signal.high and top is None) or (signal.low and bottom is None):
        problem = f"{count} conversations are too few to know so far a quantile"
        return Reference(source, digest, count, None, None, None, problem=problem)
    inside = (
        None if bottom is None else -bottom * (1 - margin),
        None if top is None else top * (1 + margin),
    )
    kept = np.ones(len(numbers), dtype=bool)
    if inside[0] is not None:
        kept &= numbers >= inside[0]
    if inside[1] is not None:
        kept &= numbers <= inside[1]
    mean = float(as_unit_means(kept, units).mean())
    return Reference(source, digest, count, mean, signal.held, signal.held, inside=inside)


def _reached(
    numbers: Array, units: npt.NDArray[np.intp], share: float, alpha: float
) -> float | None:
    """The smallest number at or below which a `share` is shown to lie; None where none is."""
    candidates = np.unique(numbers)

    def shown(at: int) -> bool:
        below = as_unit_means(numbers <= candidates[at], units)
        return fixed_lower_bound(Moments.of(below), alpha) >= share

    # By bisection: a larger number has no fewer values at or below it.
    low, high = 0, len(candidates) - 1
    if not shown(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle + 1, high)
    return float(candidates[low])


def anchor_moments(store: Store, run_id: str | None, metric: str, name: str) -> Moments:
    """The moments of a metric in the anchor's run: one value a sample, or a cluster where named.

    metric   "task/metric"
    name     the signal, for messages

    Raises UserError where it was never scored, or its values are not between 0 and 1.
    """
    from harness.store.runs import load_scores

    field = f"signals.{name}.metric"
    wanted = MetricName.parse(metric)
    if run_id is None:
        raise UserError(
            "the promoted checkpoint was never scored, so there is no anchor to compare with",
            field=field,
            hint="promote what was gated, or use `reference: first`",
        )
    groups: dict[str, list[float]] = {}
    for score in load_scores(store, run_id):
        named = MetricName(score.task, score.metric)
        if named == wanted and score.outcome is ScoreOutcome.SCORED:
            assert score.value is not None
            groups.setdefault(score.cluster or score.sample_id, []).append(score.value)
    values = np.array([np.mean(group) for group in groups.values()])
    if not values.size:
        raise UserError(
            f"run {run_id} has no scores of {metric}",
            field=field,
            hint="name TASK/METRIC as the suite has it",
        )
    if ((values < 0) | (values > 1)).any():
        raise UserError(
            f"{metric} has values outside 0 to 1, and a signal must lie within",
            field=field,
            hint="name another metric, one whose values are shares",
        )
    return Moments.of(values)


def anchor_answers(store: Store, run_id: str | None, name: str) -> list[str]:
    """The anchor's first answer to each sample. Raises UserError where its run has none."""
    from harness.store.runs import run_responses

    found: dict[str, str] = {}
    for response in run_responses(store, run_id) if run_id else ():
        if response.kind == "generation" and response.error is None and response.text.strip():
            found.setdefault(f"{response.task}/{response.sample_id}", response.text)
    if not found:
        raise UserError(
            "the promoted checkpoint's run has no answers to measure a distance from",
            field=f"signals.{name}.reference",
            hint="use `reference: first`",
        )
    return list(found.values())

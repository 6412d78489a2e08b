"""Metrics of many runs as the charts draw them: each value and each change with its interval.

The figures are the gate's own: this module only asks for the scores and lays them side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.comparison.evidence import scores_of_runs
from harness.core.format import MINUS, number
from harness.core.protocol import MetricName
from harness.core.types import Direction
from harness.gate.explain import in_margins as _in_margins
from harness.gate.intervals import change_with_interval, value_with_interval
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, pair
from harness.statistics.intervals import Estimate
from harness.store.store import Store

DEFAULT_MARGIN = 0.05
"""Of the reference's value, where no verdict says what it allowed."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a verdict allowed of a metric, carried over to another reference.

    margin and floor as in the policy; `change` is what they came to there, in the metric's unit.
    """

    margin: float | None
    floor: float | None
    scale: str
    change: float

    def of(self, base: float) -> float:
        """The worst change allowed from a reference of this value, 0 or more."""
        if self.scale != "ratio" or self.margin is None:
            return abs(self.change)
        return self.margin * abs(base) + (self.floor or 0.0)


Declared = Mapping[str, Mapping[str, Any]]


def values(
    store: Store, run_ids: Sequence[str], declared: Declared, metric: str | None = None
) -> dict[tuple[str, str], Estimate]:
    """(run, `task/metric`) -> its value in the metric's unit, for one metric or all of them."""
    found = {}
    for run_id, name, scores in scores_of_runs(store, run_ids, _asked(declared, metric)):
        value, low, high = value_with_interval(scores)
        if value is not None:
            found[run_id, name] = Estimate(value, low, high, len(scores.values))
    return found


def changes(
    store: Store,
    anchor: str,
    run_ids: Sequence[str],
    declared: Declared,
    by: str | None = None,
    task_digests: Mapping[str, str] | None = None,
) -> dict[tuple[str, str, str], Estimate]:
    """`changes_from` with one anchor for all of the runs."""
    return changes_from(store, dict.fromkeys(run_ids, anchor), declared, by, task_digests)


def changes_from(
    store: Store,
    references: Mapping[str, str],
    declared: Declared,
    by: str | None = None,
    task_digests: Mapping[str, str] | None = None,
) -> dict[tuple[str, str, str], Estimate]:
    """(run, `task/metric`, slice) -> its paired change, in the metric's unit, from the run that
    `references` names for it.

    Negative where the value fell; over the samples that both runs have, even where the gate would
    ask for all of them. `by` is a column of `samples` (language, cluster) to slice by, with the
    tasks' digests; without it the slice is "". A slice by cluster speaks of that cluster alone,
    so its samples are the unit; everywhere else clusters are.
    """
    labels = _labels(store, by, list((task_digests or {}).values())) if by else None
    held = list(dict.fromkeys(references.values()))
    theirs = {
        (run_id, name): scores for run_id, name, scores in scores_of_runs(store, held, declared)
    }
    found = {}
    for run_id, name, scores in scores_of_runs(store, list(references), declared):
        own = theirs.get((references[run_id], name))
        for label, samples in _slices(name, own, scores, labels):
            estimate = _change(own, scores, samples, keep_clusters=by != "cluster")
            if estimate is not None:
                found[run_id, name, label] = estimate
    return found


@dataclass(frozen=True, slots=True)
class InMargins:
    """A change in units of its margin: + is better, −1 has used the margin up, 0 is no change.

    `low` and `high` are its interval, None where there is none; `is_sure` says that the interval
    leaves out 0.
    """

    at: float
    low: float | None
    high: float | None
    is_sure: bool


def in_margins(
    change: Estimate, direction: Direction, allowed: Allowance | None = None
) -> InMargins:
    """The change in units of what a verdict allowed of it; without one, of 5% of the reference.

    Infinite where nothing is allowed, as of a reference that is 0.
    """
    base = change.base or 0.0
    room = allowed.of(base) if allowed else DEFAULT_MARGIN * abs(base)
    at = _in_margins(change.value, room, direction)
    if change.low is None or change.high is None:
        return InMargins(at, None, None, is_sure=False)
    ends = [_in_margins(end, room, direction) for end in (change.low, change.high)]
    return InMargins(at, min(ends), max(ends), is_sure=change.low * change.high > 0)


def with_interval(found: Estimate, *, signed: bool = False) -> str:
    """`0.905 [0.864, 0.946]`, with the digits of the largest, or the number alone."""
    if found.low is None or found.high is None:
        return number(found.value, signed=signed)
    three = (found.value, found.low, found.high)
    digits = len(number(max(map(abs, three))).partition(".")[2])

    def shown(value: float) -> str:
        text = f"{abs(value):,.{digits}f}"
        if not text.strip("0.,"):
            return text
        return (MINUS if value < 0 else "+" if signed else "") + text

    return f"{shown(found.value)} [{shown(found.low)}, {shown(found.high)}]"


def _asked(declared: Declared, metric: str | None) -> Declared:
    return declared if metric is None else {metric: declared[metric]}


def _labels(store: Store, by: str, digests: list[str]) -> dict[tuple[str, str], str]:
    """(task, sample) -> its slice."""
    if by not in ("language", "cluster"):
        return {}
    rows = store.query(
        f"SELECT DISTINCT task, sample_id, coalesce({by}, '') AS label FROM samples "
        "WHERE list_contains(?, task_digest)",
        [digests],
    )
    return {(row["task"], row["sample_id"]): row["label"] for row in rows}


def _slices(
    name: str,
    anchor: MetricScores | None,
    candidate: MetricScores,
    labels: Mapping[tuple[str, str], str] | None,
) -> Iterator[tuple[str, list[str]]]:
    """Each slice's label and the samples of it that both sides have."""
    known = candidate.values if anchor is None else anchor.values
    common = [sample for sample in candidate.values if sample in known]
    if labels is None:
        yield "", common
        return
    task = MetricName.parse(name).task
    parts: dict[str, list[str]] = {}
    for sample in common:
        parts.setdefault(labels.get((task, sample), ""), []).append(sample)
    yield from parts.items()


def _change(
    anchor: MetricScores | None,
    candidate: MetricScores,
    samples: Sequence[str],
    *,
    keep_clusters: bool,
) -> Estimate | None:
    """The gate's change over these samples; None where it finds nothing to compare."""
    sides = [
        side and _restricted(side, samples, keep_clusters=keep_clusters)
        for side in (anchor, candidate)
    ]
    assert sides[1] is not None
    try:
        paired = pair(sides[0], sides[1])
    except MismatchError:
        return None
    direction: Direction = candidate.direction
    change, bounds = change_with_interval(paired, direction)
    return Estimate.of(change, bounds, paired.n, paired.anchor_value)


def _restricted(
    scores: MetricScores, samples: Sequence[str], *, keep_clusters: bool
) -> MetricScores:
    """The scores of these samples alone. A chart shows what there is, whatever else failed."""
    return replace(
        scores,
        values={sample: scores.values[sample] for sample in samples},
        errors=0,
        total=len(samples),
        scale="interval",  # a value below 0 has a change, if no relative margin
        clusters=scores.clusters if keep_clusters else None,
    )

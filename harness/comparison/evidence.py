"""A run's stored scores as the gate reads them: per metric, one value per sample."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.comparison.elo_ratings import UNIT, ratings_of
from harness.core.protocol import MetricName, metrics_of
from harness.core.types import LOST, NOTE, Direction, Run
from harness.evaluation.plan import Extent, samples_in
from harness.gate.intervals import value_with_interval
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.metrics.base import option_of
from harness.store.store import Store
from harness.suite.suite import Suite

_PER_SAMPLE = """
SELECT run_id, task || '/' || metric AS name, sample_id, any_value(cluster) AS cluster,
       avg(value) AS value, var_samp(value) / count(value) AS variance, count(value) AS scored,
       count(*) FILTER (outcome = 'error') AS errors,
       count(*) FILTER (outcome = 'error' AND starts_with(reason, lost_prefix)) AS lost,
       count(*) FILTER (outcome = 'unscored') AS unscored,
       first(stats ORDER BY response_index) AS stats,
       list(stats ORDER BY response_index) FILTER (
           list_contains(summed, task || '/' || metric)) AS every_stats,
       list(value ORDER BY response_index) FILTER (
           list_contains(ranked, task || '/' || metric)) AS every_value,
       count(*) FILTER (
           value > coalesce(thresholds[task || '/' || metric], 'inf'::DOUBLE)) AS above
FROM current_scores, (
    SELECT ?::VARCHAR AS lost_prefix, ?::MAP(VARCHAR, DOUBLE) AS thresholds,
           ?::VARCHAR[] AS summed, ?::VARCHAR[] AS ranked, ?::MAP(VARCHAR, INTEGER) AS limits
)
WHERE run_id IN ({runs}) AND task IN ({tasks}) AND metric IN ({metrics})
  AND (response_index IS NULL OR response_index < coalesce(limits[task], 2147483647))
GROUP BY run_id, task, metric, sample_id
ORDER BY run_id, task, metric, sample_id
"""

ROWS = 400
"""How many metrics of runs are read in one query: memory stays the same for a long history."""


@dataclass(frozen=True, slots=True)
class ValueWithInterval:
    """A metric's value with the ends of its 95% interval; None where they can't be computed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples of a metric have a value, and why the others have none.

    scored     samples with a value, of `total`
    errors     answers that failed, or on which the metric failed
    unscored   answers that the metric can't judge
    reason     the commonest reason of both
    notes      of answers whose value has a note (they were cut, or said nothing): how many have
               which, the commonest first
    """

    scored: int
    total: int = 0
    errors: int = 0
    unscored: int = 0
    reason: str | None = None
    notes: tuple[tuple[int, str], ...] = ()

    @property
    def noted(self) -> int:
        return sum(count for count, _ in self.notes)


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One line of a run's table: a metric (`task/metric`), its value, and how many samples."""

    metric: str
    unit: str
    direction: Direction
    estimate: ValueWithInterval
    counts: Counts


def metric_scores(
    store: Store,
    run: Run,
    *,
    policy: GatePolicy = GatePolicy(),
    only: Mapping[str, Collection[str]] | None = None,
    responses: Mapping[str, int] | None = None,
    slices: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, MetricScores]:
    """A run's scores as the gate reads them: `task/metric` -> MetricScores.

    policy      whose `rate_over` thresholds the rates are counted at
    only        task -> the sample ids that count
    responses   task -> how many of a sample's answers count, the first ones. With `only` this gives
                a look exactly the evidence that was planned for it
    slices      field -> sample id -> label

    A sample with a failed answer counts as an error and has no value: the mean of the answers that
    happened to arrive would be of other answers than the other run's.
    """
    declared = {
        str(name): says
        for name, says in metrics_of(run.fingerprint.protocol)
        if only is None or name.task in only
    }
    rows = _per_sample(store, [run.id], declared, policy, responses or {})
    chosen = None if only is None else {task: set(ids) for task, ids in only.items()}
    return {
        name: _scores(
            says,
            [
                row
                for row in rows.get((run.id, name), ())
                if chosen is None or row["sample_id"] in chosen[MetricName.parse(name).task]
            ],
            slices,
        )
        for name, says in declared.items()
    }


def scores_of_runs(
    store: Store, run_ids: Sequence[str], declared: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, MetricScores]]:
    """(run id, `task/metric`, scores) for every metric of `declared` that a run has.

    `declared` is `task/metric` -> the metric's declaration, as in a run's protocol. Runs are read a
    few at a time.
    """
    at_once = max(1, ROWS // max(1, len(declared)))
    for first in range(0, len(run_ids), at_once):
        some = run_ids[first : first + at_once]
        rows = _per_sample(store, some, declared, GatePolicy(), {})
        for (run_id, name), own in rows.items():
            yield run_id, name, _scores(declared[name], own, None)


def _per_sample(
    store: Store,
    run_ids: Sequence[str],
    declared: Mapping[str, Mapping[str, Any]],
    policy: GatePolicy,
    limits: Mapping[str, int],
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(run id, `task/metric`) -> one row for each sample, sorted by sample id."""
    if not run_ids or not declared:
        return {}
    thresholds = {name: policy.of(name).rate_over for name in declared}
    summed, ranked = (
        [name for name, one in declared.items() if one["form"] == form]
        for form in ("corpus", "quantile")
    )
    names = list(map(MetricName.parse, declared))
    sets = (
        list(run_ids),
        list({name.task for name in names}),
        list({name.metric for name in names}),
    )
    places = (", ".join("?" * len(names)) for names in sets)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in store.query(
        _PER_SAMPLE.format(**dict(zip(("runs", "tasks", "metrics"), places, strict=True))),
        [LOST, thresholds, summed, ranked, dict(limits), *chain(*sets)],
    ):
        if row["name"] in declared:
            found.setdefault((row["run_id"], row["name"]), []).append(row)
    return found


def _scores(
    declared: Mapping[str, Any],
    rows: list[dict[str, Any]],
    slices: Mapping[str, Mapping[str, str]] | None,
) -> MetricScores:
    # One failed answer makes the whole sample an error; see `metric_scores`.
    good = [row for row in rows if row["scored"] and not row["errors"]]
    higher = declared["direction"] == "higher"
    return MetricScores(
        values={row["sample_id"]: row["value"] for row in good},
        direction=declared["direction"],
        scale=declared["scale"],
        form=declared["form"],
        variance=_variance(declared, good),
        stats={row["sample_id"]: own for row in good if (own := _stats(declared, row))} or None,
        clusters={row["sample_id"]: row["cluster"] for row in good if row["cluster"] is not None}
        or None,
        worst=declared["low"] if higher else declared["high"],
        best=declared["high"] if higher else declared["low"],
        slices=slices,
        rates={row["sample_id"]: row["above"] / row["scored"] for row in good},
        responses=max((row["scored"] for row in good), default=1),
        errors=sum(bool(row["errors"]) for row in rows),
        lost=sum(0 < row["errors"] == row["lost"] for row in rows),
        total=sum(bool(row["scored"] or row["errors"]) for row in rows),
        unit=declared["unit"],
        aggregate=declared.get("aggregate"),
        timed=bool(declared.get("timed")),
    )


def _stats(declared: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[float, ...]:
    """A sample's statistics: for a corpus value summed over its responses, for a quantile the value
    of each response, else those of the first response.
    """
    if declared["form"] == "corpus":
        return tuple(map(math.fsum, zip(*(row["every_stats"] or ()), strict=True)))
    if declared["form"] == "quantile":
        return tuple(row["every_value"] or ())
    return tuple(row["stats"] or ())


def _variance(
    declared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    """Variance of each sample's value over fresh responses; None where it isn't known.

    Pass@k has one value a sample, so there is no spread between responses to take. Its variance
    follows from the tries and passes (n, c), if every sample has n ≥ 2k tries.
    """
    if declared["form"] != "pass_at_k":
        known = {r["sample_id"]: r["variance"] for r in rows if r["variance"] is not None}
        return known or None
    from harness.metrics.pass_at_k import pass_at_k_variance, pass_hat_k_variance

    name, k = declared["signature"].partition("|")[0], int(option_of(declared["signature"], "k"))
    counts = {row["sample_id"]: [int(x) for x in row["stats"][:2]] for row in rows if row["stats"]}
    if not counts or len(counts) < len(rows) or min(n for n, _ in counts.values()) < 2 * k:
        return None
    variance = pass_hat_k_variance if name == "pass_hat_k" else pass_at_k_variance
    return {key: float(variance(n, c, k)) for key, (n, c) in counts.items()}


def planned(suite: Suite, extent: Extent, *, limit: int | None, seed: int) -> dict[str, list[str]]:
    """Task -> the sample ids that a look of that extent takes."""
    return {
        task.name: [sample.id for sample in samples_in(suite, task, limit, seed, extent)]
        for task in suite.tasks
    }


def planned_responses(suite: Suite, extent: Extent) -> dict[str, int]:
    """Task -> how many answers a sample has at that extent; 1 where answers are greedy."""
    return {
        task.name: task.responses * (extent.of(suite, task).responses if task.sampled else 1)
        for task in suite.tasks
    }


def slices_of(suite: Suite, policy: GatePolicy) -> dict[str, dict[str, str]]:
    """Field -> sample id -> label, for every field by which the policy gates slices."""
    fields = {own.by for own in policy.metrics.values() if own.by}
    return {
        field: {
            sample.id: str(sample.fields[field])
            for task in suite.tasks
            for sample in task.samples
            if field in sample.fields
        }
        for field in fields
    }


def summarize(store: Store, run: Run) -> list[MetricSummary]:
    """A run's table, one line a metric."""
    counts = _counts(store, run)
    found = metric_scores(store, run)
    rated = ratings_of(store, run)
    lines = []
    for name, declared in metrics_of(run.fingerprint.protocol):
        scores = found[str(name)]
        counted = counts.get((name.task, name.metric), {})
        elo = rated.get(str(name))
        estimate = ValueWithInterval(*value_with_interval(scores))
        if elo is not None:
            estimate = ValueWithInterval(elo.points, elo.low, elo.high)
        lines.append(
            MetricSummary(
                metric=str(name),
                unit=declared["unit"] if elo is None else UNIT,
                direction=scores.direction,
                estimate=estimate,
                counts=Counts(len(scores.values), **counted),
            )
        )
    return lines


def _counts(store: Store, run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, metric) -> the samples, the answers without a value, and the commonest reason."""
    rows = store.query(
        "SELECT task, metric, count(DISTINCT sample_id) AS total, "
        "count(*) FILTER (outcome = 'error') AS errors, "
        "count(*) FILTER (outcome = 'unscored') AS unscored, "
        "mode(reason) FILTER (outcome <> 'scored') AS reason "
        "FROM current_scores WHERE run_id = ? GROUP BY task, metric",
        [run.id],
    )
    notes: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for row in store.query(
        "SELECT task, metric, reason, count(*) AS n FROM current_scores WHERE run_id = ? "
        "AND outcome = 'scored' AND starts_with(reason, ?) GROUP BY ALL ORDER BY n DESC, reason",
        [run.id, NOTE],
    ):
        notes[row["task"], row["metric"]].append((row["n"], row["reason"].removeprefix(NOTE)))
    places = ((row.pop("task"), row.pop("metric"), row) for row in rows)
    return {
        (task, metric): {**row, "notes": tuple(notes[task, metric])} for task, metric, row in places
    }

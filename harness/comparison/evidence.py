"""A run's stored scores as the gate reads them: per metric, one value per sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.protocol import MetricName, metrics_of, tasks_of
from harness.core.types import LOST, Direction, Run
from harness.evaluation.plan import Extent, samples_in
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, cluster_codes, linear_values
from harness.gate.policy import GatePolicy
from harness.metrics.base import option_of
from harness.statistics.intervals import t_interval
from harness.store.store import Store
from harness.suite.suite import Suite

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PER_SAMPLE = """
SELECT metric, sample_id, any_value(cluster) AS cluster,
       avg(value) AS value, var_samp(value) / count(value) AS variance, count(value) AS scored,
       count(*) FILTER (outcome = 'error') AS errors,
       count(*) FILTER (outcome = 'error' AND starts_with(reason, lost_prefix)) AS lost,
       count(*) FILTER (outcome = 'unscored') AS unscored,
       first(stats ORDER BY response_index) AS stats,
       list(stats ORDER BY response_index) FILTER (list_contains(summed, metric)) AS every_stats,
       list(value ORDER BY response_index) FILTER (list_contains(ranked, metric)) AS every_value,
       count(*) FILTER (value > coalesce(thresholds[metric], 'inf'::DOUBLE)) AS above
FROM current_scores, (
    SELECT ?::VARCHAR AS lost_prefix, ?::MAP(VARCHAR, DOUBLE) AS thresholds,
           ?::VARCHAR[] AS summed, ?::VARCHAR[] AS ranked
)
WHERE run_id = ? AND task = ? AND (response_index IS NULL OR response_index < ?)
GROUP BY metric, sample_id
ORDER BY metric, sample_id
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value with the ends of its 95% interval; None where there is nothing to say."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples of a metric have a value, and why the others have none.

    `scored` of `total` samples have one; `errors` counts the answers that failed, or that the
    metric failed on, `unscored` those that it can't judge; `reason` is the commonest of theirs.
    """

    scored: int
    total: int = 0
    errors: int = 0
    unscored: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One line of a run's table: a metric (`task/metric`), its value, and what that rests on."""

    metric: str
    unit: str
    direction: Direction
    estimate: Estimate
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
    """What a run knows, by `task/metric`.

    `only` restricts each task to some samples and `responses` to its first so many answers, so
    that a look sees what was planned for it and nothing more. `slices` is field -> sample -> label.
    A sample with a failed answer counts as an error and has no value.
    """
    found: dict[str, MetricScores] = {}
    for task, says in tasks_of(run.fingerprint.protocol).items():
        if only is not None and task not in only:
            continue
        declared = says.metrics
        names = {metric: str(MetricName(task, metric)) for metric in declared}
        thresholds = {metric: policy.of(name).rate_over for metric, name in names.items()}
        limit = (responses or {}).get(task, 2**31 - 1)
        summed, ranked = (
            [name for name, one in declared.items() if one["form"] == form]
            for form in ("corpus", "quantile")
        )
        rows = store.query(_PER_SAMPLE, [LOST, thresholds, summed, ranked, run.id, task, limit])
        chosen = None if only is None else set(only[task])
        for metric, name in names.items():
            mine = [
                row
                for row in rows
                if row["metric"] == metric and (chosen is None or row["sample_id"] in chosen)
            ]
            found[name] = _scores(declared[metric], mine, slices)
    return found


def _scores(
    declared: Mapping[str, Any],
    rows: list[dict[str, Any]],
    slices: Mapping[str, Mapping[str, str]] | None,
) -> MetricScores:
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
    """A sample's statistics: summed over its responses for a corpus value, all for a quantile."""
    if declared["form"] == "corpus":
        return tuple(map(math.fsum, zip(*(row["every_stats"] or ()), strict=True)))
    if declared["form"] == "quantile":
        return tuple(row["every_value"] or ())
    return tuple(row["stats"] or ())


def _variance(
    declared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    """Variance of each sample's value over fresh responses; None where nothing says it.

    Pass@k is one value a sample, so it comes from (n, c), where every sample has n ≥ 2k tries.
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
    """The sample ids of each task that an extent takes."""
    return {
        task.name: [sample.id for sample in samples_in(suite, task, limit, seed, extent)]
        for task in suite.tasks
    }


def planned_responses(suite: Suite, extent: Extent) -> dict[str, int]:
    """How many answers a sample has in each task at that extent."""
    return {
        task.name: task.responses * (extent.of(suite, task).responses if task.sampled else 1)
        for task in suite.tasks
    }


def slices_of(suite: Suite, policy: GatePolicy) -> dict[str, dict[str, str]]:
    """Field -> sample id -> label, for every field that the policy holds slices by."""
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


def summarise(store: Store, run: Run) -> list[MetricSummary]:
    """A run's table, one line a metric."""
    counts = _counts(store, run)
    found = metric_scores(store, run)
    lines = []
    for name, declared in metrics_of(run.fingerprint.protocol):
        scores = found[str(name)]
        counted = counts.get((name.task, name.metric), {})
        lines.append(
            MetricSummary(
                metric=str(name),
                unit=declared["unit"],
                direction=scores.direction,
                estimate=Estimate(*value_with_interval(scores)),
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
    return {(row.pop("task"), row.pop("metric")): row for row in rows}


def value_with_interval(
    scores: MetricScores, level: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """The metric's value and its interval over samples or their clusters, by Student's t.

    For perplexity, exp of the token-weighted mean NLL, with the interval of the ratio estimator
    taken on the log scale; corpus values and quantiles as the gate has them (`linear_values`).
    (None, None, None) where there is nothing; no interval where no spread was seen.
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
    bounds = t_interval(values, level, clusters=clusters)
    mean = float(values.mean())
    ends = [end for end in (scores.worst, scores.best) if end is not None]
    if bounds is None:
        groups = len(ids) if clusters is None else int(clusters.max()) + 1
        return mean, *_at_an_end(mean, ends, groups, level)
    if len(ends) < 2:
        return mean, *bounds
    return mean, max(bounds[0], min(ends)), min(bounds[1], max(ends))


def _at_an_end(
    mean: float, ends: Sequence[float], groups: int, level: float
) -> tuple[float | None, float | None]:
    """The interval of a mean whose samples all lie at one end of the range: none of n seen.

    The exact binomial's (Clopper & Pearson 1934), which holds for any values in a range
    (Hoeffding 1963); none without such a range, or with fewer than two samples.
    """
    if len(ends) < 2 or mean not in ends or groups < 2:
        return None, None
    low, high = min(ends), max(ends)
    reach = (high - low) * (1 - ((1 - level) / 2) ** (1 / groups))
    return (low, low + reach) if mean == low else (high - reach, high)


def _perplexity_with_interval(
    scores: MetricScores, level: float, clusters: npt.NDArray[np.intp] | None
) -> tuple[float | None, float | None, float | None]:
    import numpy as np

    assert scores.stats is not None
    nll, tokens = np.array([scores.stats[key][:2] for key in scores.values], dtype=float).T
    total = float(tokens.sum())
    if total == 0:
        return None, None, None
    mean = float(nll.sum()) / total
    # The ratio estimator, linearised: what each document adds to a mean over `len` documents.
    linear = (nll - mean * tokens) * (len(tokens) / total) + mean
    bounds = t_interval(linear, level, clusters=clusters)
    centre = math.exp(min(mean, 700.0))
    if bounds is None:
        return centre, None, None
    return centre, math.exp(min(bounds[0], 700.0)), math.exp(min(bounds[1], 700.0))

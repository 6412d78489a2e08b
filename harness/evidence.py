"""A run's scores as the gate reads them: per metric, one value per sample and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.gate import GatePolicy, MetricScores
from harness.records import Run
from harness.runner import Extent, samples_in
from harness.store import Store
from harness.suite import Suite

_PER_SAMPLE = """
SELECT metric, sample_id, any_value(cluster) AS cluster,
       avg(value) AS value, var_samp(value) / count(value) AS variance, count(value) AS scored,
       count(*) FILTER (outcome = 'error') AS errors,
       count(*) FILTER (outcome = 'unscored') AS unscored,
       first(stats ORDER BY response_index) AS stats,
       count(*) FILTER (value > coalesce(thresholds[metric], 'inf'::DOUBLE)) AS above
FROM current_scores, (SELECT ?::MAP(VARCHAR, DOUBLE) AS thresholds)
WHERE run_id = ? AND task = ? AND (response_index IS NULL OR response_index < ?)
GROUP BY metric, sample_id
ORDER BY metric, sample_id
"""


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One line of a run's table: the metric's value with its 95% interval over samples.

    `scored` of `total` samples have a value; `errors` counts the answers that failed, or that the
    metric failed on, `unscored` those that it can't judge; `reason` is the commonest of theirs.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    direction: str
    scored: int
    total: int
    errors: int
    unscored: int
    reason: str | None


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
    for task, protocol in run.fingerprint.protocol.items():
        if task.startswith("@") or (only is not None and task not in only):
            continue
        declared: Mapping[str, Any] = protocol["metrics"]
        thresholds = {name: policy.of(f"{task}/{name}").rate_over for name in declared}
        limit = (responses or {}).get(task, 2**31 - 1)
        rows = store.query(_PER_SAMPLE, [thresholds, run.id, task, limit])
        chosen = None if only is None else set(only[task])
        for name, declaration in declared.items():
            mine = [
                row
                for row in rows
                if row["metric"] == name and (chosen is None or row["sample_id"] in chosen)
            ]
            found[f"{task}/{name}"] = _scores(declaration, mine, slices)
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
        variance={row["sample_id"]: row["variance"] for row in good if row["variance"] is not None}
        or None,
        stats={row["sample_id"]: tuple(row["stats"]) for row in good if row["stats"]} or None,
        clusters={row["sample_id"]: row["cluster"] for row in good if row["cluster"] is not None}
        or None,
        worst=declared["low"] if higher else declared["high"],
        best=declared["high"] if higher else declared["low"],
        slices=slices,
        rates={row["sample_id"]: row["above"] / row["scored"] for row in good},
        responses=max((row["scored"] for row in good), default=1),
        errors=sum(bool(row["errors"]) for row in rows),
        total=sum(bool(row["scored"] or row["errors"]) for row in rows),
        unit=declared["unit"],
        aggregate=declared.get("aggregate"),
    )


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
    reasons = {
        (row["task"], row["metric"]): row["reason"]
        for row in store.query(
            "SELECT task, metric, mode(reason) AS reason FROM current_scores "
            "WHERE run_id = ? AND reason IS NOT NULL GROUP BY task, metric",
            [run.id],
        )
    }
    counts = {
        (row["task"], row["metric"]): row
        for row in store.query(
            "SELECT task, metric, count(DISTINCT sample_id) AS total, "
            "count(*) FILTER (outcome = 'error') AS errors, "
            "count(*) FILTER (outcome = 'unscored') AS unscored "
            "FROM current_scores WHERE run_id = ? GROUP BY task, metric",
            [run.id],
        )
    }
    lines = []
    for name, scores in metric_scores(store, run).items():
        task, _, metric = name.partition("/")
        count = counts.get((task, metric), {"total": 0, "errors": 0, "unscored": 0})
        value, low, high = value_with_interval(scores)
        declared = run.fingerprint.protocol[task]["metrics"][metric]
        lines.append(
            MetricSummary(
                name,
                value,
                low,
                high,
                declared["unit"],
                scores.direction,
                len(scores.values),
                count["total"],
                count["errors"],
                count["unscored"],
                reasons.get((task, metric)),
            )
        )
    return lines


def value_with_interval(
    scores: MetricScores, level: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """The metric's value and its interval over samples, Student's t on n - 1 degrees of freedom.

    For perplexity, exp of the token-weighted mean NLL, with the interval of the ratio estimator
    taken on the log scale. (None, None, None) where there is nothing; no interval at n = 1.
    """
    from scipy.stats import t

    n = len(scores.values)
    if n == 0:
        return None, None, None
    critical = float(t.ppf((1 + level) / 2, n - 1)) if n > 1 else math.nan
    if scores.form == "perplexity" and scores.stats:
        pairs = [(scores.stats[key][0], scores.stats[key][1]) for key in scores.values]
        tokens = sum(count for _, count in pairs)
        if tokens == 0:
            return None, None, None
        mean = sum(nll for nll, _ in pairs) / tokens
        spread = math.sqrt(
            sum((nll - mean * count) ** 2 for nll, count in pairs) * n / max(n - 1, 1)
        )
        half = critical * spread / tokens
        centre = math.exp(min(mean, 700.0))
        if n == 1:
            return centre, None, None
        return centre, math.exp(min(mean - half, 700.0)), math.exp(min(mean + half, 700.0))
    values = list(scores.values.values())
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None, None
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = critical * deviation / math.sqrt(n)
    low, high = mean - half, mean + half
    ends = [end for end in (scores.worst, scores.best) if end is not None]
    if len(ends) == 2:
        low, high = max(low, min(ends)), min(high, max(ends))
    return mean, low, high

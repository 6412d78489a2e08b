"""How a run's programs ended, problem by problem, and what its Pass@k can claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.comparison.evidence import metric_scores
from harness.core.protocol import MetricName, metrics_of
from harness.core.types import Run
from harness.gate.intervals import value_with_interval
from harness.metrics.code_tests import STATISTICS
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """The tries at one problem: how many of them were judged and passed, and how the others ended.

    `labels` counts the outcomes (`pass`, `fail:tests`, `timeout:cpu` …; an `error` doesn't count as
    a try); `cpu_s` is the most CPU seconds that one program took; `cooperative` counts tries judged
    in the program's own process; `reason` is the commonest of those that did not pass.
    """

    metric: str
    sample_id: str
    tries: int
    passed: int
    labels: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    cooperative: int = 0
    reason: str | None = None


def problems(store: Store, run: Run) -> list[Problem]:
    """Every problem of the run's metrics that run programs, in the order of metric and id."""
    found = []
    for name in _executed(run):
        place = MetricName.parse(name)
        rows = store.query(
            "SELECT sample_id, list({outcome: outcome, value: value, reason: reason, stats: stats}"
            " ORDER BY response_index) AS tries FROM current_scores"
            " WHERE run_id = ? AND task = ? AND metric = ? AND outcome <> 'unscored'"
            " GROUP BY sample_id ORDER BY sample_id",
            [run.id, place.task, place.metric],
        )
        found += [_problem(name, row["sample_id"], row["tries"]) for row in rows]
    return found


def _executed(run: Run) -> Iterator[str]:
    for name, declared in metrics_of(run.fingerprint.protocol):
        if tuple(declared["stats"]) == STATISTICS:
            yield str(name)


def _problem(metric: str, sample_id: str, tries: list[dict[str, object]]) -> Problem:
    labels = Counter(_label(one) for one in tries)
    judged = [stats for one in tries if (stats := one["stats"]) and one["outcome"] == "scored"]
    reasons = Counter(str(one["reason"]) for one in tries if _label(one) != "pass")
    return Problem(
        metric,
        sample_id,
        len(tries) - labels["error"],
        labels["pass"],
        labels,
        max((stats[0] for stats in judged), default=0.0),  # type: ignore[index]
        sum(bool(stats[3]) for stats in judged),  # type: ignore[index]
        reasons.most_common(1)[0][0] if reasons else None,
    )


def _label(one: dict[str, object]) -> str:
    if one["outcome"] != "scored":
        return "error"
    return "pass" if one["value"] == 1.0 else str(one["reason"]).split(" ", 1)[0]


def outcome_sentences(store: Store, run: Run) -> Iterator[str]:
    """One sentence a metric: how often each outcome came up."""
    rows = problems(store, run)
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        counts = sum((row.labels for row in mine), Counter[str]())
        said = ", ".join(f"{label} {count}" for label, count in counts.most_common())
        shared = sum(row.cooperative for row in mine)
        note = f"; {shared} judged in the program's own process (cooperative)" if shared else ""
        yield f"{metric}: {said}{note}"


def claims(store: Store, run: Run, level: float = 0.95) -> Iterator[str]:
    """For each metric over programs, two intervals and which question each of them answers.

    Over these problems alone: the normal interval from each problem's variance over fresh tries
    (`pass_at_k_variance`, or that of a mean); it needs 2k tries. Over problems like these:
    Student's t over problems.
    """
    from scipy.stats import norm

    executed = set(_executed(run))
    for name, scores in metric_scores(store, run).items():
        if scores.form != "pass_at_k" and name not in executed:
            continue
        value, low, high = value_with_interval(scores, level)
        if value is None:
            continue
        general = "unknown" if low is None else f"{low:.3f} – {high:.3f}"
        fixed = "unknown (it needs 2k or more tries at each problem)"
        if scores.variance is not None and len(scores.variance) == len(scores.values):
            spread = math.sqrt(math.fsum(scores.variance.values())) / len(scores.values)
            reach = float(norm.ppf((1 + level) / 2)) * spread
            fixed = f"{max(0.0, value - reach):.3f} – {min(1.0, value + reach):.3f}"
            if spread == 0:
                fixed = "unknown: all tries at a problem ended alike"
        yield (
            f"{name} is {value:.3f}. {level:.0%} interval if these {len(scores.values)} problems "
            f"were tried again: {fixed}; for other problems like these: {general}."
        )

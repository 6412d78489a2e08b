"""Metrics over runs, as the charts draw them: estimates with intervals, summed up in DuckDB.

One formula serves them all. A sample brings h and a weight w (1, or its tokens for perplexity);
the estimate is Σh / Σw, and its standard error that of a ratio (Cochran 1977, 6.3), which for
w = 1 is the ordinary one of a mean. Student's t on samples − 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from harness.core.protocol import MetricName
from harness.store.store import Store

Row = dict[str, Any]
LEVEL = 0.95
CELLS = 20_000
"""Rows of sums that one query returns at most."""

_MOMENTS = """
    count(*) AS n, sum(h) AS h, sum(w) AS w, sum(h * h) AS hh, sum(h * w) AS hw, sum(w * w) AS ww
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval over samples; the ends are None where there is none.

    `base` is the anchor's value, for a change.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    base: float | None = None


def _per_sample(runs: int, where: str = "") -> str:
    """One row a sample: the mean of its responses, and the statistics of perplexity.

    A sample with a failed answer has no value, as for the gate.
    """
    places = ", ".join("?" * runs)
    return f"""
        SELECT run_id, task, metric, sample_id, avg(value) AS value,
            first(stats ORDER BY response_index) AS stats
        FROM current_scores WHERE run_id IN ({places}) {where}
        GROUP BY ALL
        HAVING count(value) > 0 AND count(*) FILTER (outcome = 'error') = 0
    """


def _logarithmic(declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name, says in declared.items() if says["form"] == "perplexity"]


def values(
    store: Store,
    run_ids: Sequence[str],
    declared: Mapping[str, Mapping[str, Any]],
    metric: str | None = None,
) -> dict[tuple[str, str], Estimate]:
    """(run, `task/metric`) -> its value, for one metric or all of them."""
    if not run_ids:
        return {}
    where, extra = _one_metric(metric)
    rows = store.query(
        f"""
        WITH samples AS ({_per_sample(len(run_ids), where)}),
        parts AS (
            SELECT run_id, task || '/' || metric AS name,
                CASE WHEN list_contains(?, task || '/' || metric) THEN stats[1] ELSE value END AS h,
                CASE WHEN list_contains(?, task || '/' || metric) THEN stats[2] ELSE 1 END AS w
            FROM samples
        )
        SELECT run_id, name, {_MOMENTS} FROM parts GROUP BY ALL LIMIT {CELLS}
        """,
        [*run_ids, *extra, _logarithmic(declared), _logarithmic(declared)],
    )
    return {
        (row["run_id"], row["name"]): _value(row, declared[row["name"]])
        for row in rows
        if row["name"] in declared and row["w"]
    }


def changes(
    store: Store,
    anchor: str,
    run_ids: Sequence[str],
    declared: Mapping[str, Mapping[str, Any]],
    by: str | None = None,
    task_digests: Mapping[str, str] | None = None,
) -> dict[tuple[str, str, str], Estimate]:
    """(run, `task/metric`, slice) -> its paired change against the anchor, in the metric's unit.

    `by` is a column of `samples` (language, cluster) to slice by; without it the slice is "".
    """
    if not run_ids:
        return {}
    where, extra = _one_metric(next(iter(declared)) if len(declared) == 1 else None)
    asked = list(dict.fromkeys([anchor, *run_ids]))
    digests = list((task_digests or {}).values())
    sliced = by in ("language", "cluster")
    label = f"coalesce(s.{by}, '')" if sliced else "''"
    join = (
        "LEFT JOIN samples s ON s.sample_id = c.sample_id AND s.task = c.task "
        "AND list_contains(?, s.task_digest)"
        if sliced
        else ""
    )
    rows = store.query(
        f"""
        WITH answered AS ({_per_sample(len(asked), where)}),
        parts AS (
            SELECT c.run_id, c.task || '/' || c.metric AS name, {label} AS slice,
                list_contains(?, c.task || '/' || c.metric) AS logarithmic,
                CASE WHEN logarithmic THEN c.stats[1] - a.stats[1] ELSE c.value - a.value END AS h,
                CASE WHEN logarithmic THEN a.stats[2] ELSE 1 END AS w,
                CASE WHEN logarithmic THEN a.stats[1] ELSE a.value END AS base
            FROM answered c JOIN answered a
                ON a.run_id = ? AND a.task = c.task AND a.metric = c.metric
                AND a.sample_id = c.sample_id
            {join}
        )
        SELECT run_id, name, slice, sum(base) / sum(w) AS base, {_MOMENTS}
        FROM parts GROUP BY ALL LIMIT {CELLS}
        """,
        [*asked, *extra, _logarithmic(declared), anchor, *([digests] if sliced else [])],
    )
    return {
        (row["run_id"], row["name"], row["slice"]): _change(row, declared[row["name"]])
        for row in rows
        if row["name"] in declared and row["w"]
    }


def with_interval(found: Estimate, *, signed: bool = False) -> str:
    """`0.905 [0.864, 0.946]`, with the digits of the largest, or the number alone."""
    from harness.core.format import MINUS, number

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


def ratio(row: Mapping[str, Any]) -> Estimate:
    """Σh / Σw with its interval, from the sums of one group."""
    n, value = int(row["n"]), row["h"] / row["w"]
    if n < 2:
        return Estimate(value, None, None, n)
    spread = row["hh"] - 2 * value * row["hw"] + value**2 * row["ww"]
    half = _critical(n - 1) * math.sqrt(max(spread, 0.0) * n / (n - 1)) / row["w"]
    return Estimate(value, value - half, value + half, n)


def wilson(hits: float, n: int) -> Estimate:
    """A share with Wilson's interval (1927). n may not be 0."""
    from scipy.stats import norm

    z = float(norm.ppf((1 + LEVEL) / 2))
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n)


@cache
def _critical(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, df))


def _value(row: Mapping[str, Any], says: Mapping[str, Any]) -> Estimate:
    found = ratio(row)
    if says["form"] == "perplexity":
        return _mapped(found, lambda nats: math.exp(min(nats, 700.0)))
    ends = says["low"], says["high"]
    if None in ends:
        return found
    return _mapped(found, lambda value: value, clip=ends)


def _change(row: Mapping[str, Any], says: Mapping[str, Any]) -> Estimate:
    found = ratio(row)
    if says["form"] != "perplexity":
        return replace(found, base=row["base"])
    base = math.exp(min(row["base"], 700.0))
    moved = _mapped(found, lambda nats: base * math.expm1(min(nats, 700.0)))
    return replace(moved, base=base)


def _mapped(found: Estimate, how: Any, clip: tuple[float, float] | None = None) -> Estimate:
    def end(value: float | None) -> float | None:
        if value is None:
            return None
        moved = float(how(value))
        return min(max(moved, clip[0]), clip[1]) if clip else moved

    return Estimate(how(found.value), end(found.low), end(found.high), found.n)


def _one_metric(metric: str | None) -> tuple[str, list[str]]:
    if metric is None:
        return "", []
    name = MetricName.parse(metric)
    return "AND task = ? AND metric = ?", [name.task, name.metric]

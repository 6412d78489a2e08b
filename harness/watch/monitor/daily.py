"""One day of observations in figures, for a page.

It is computed from the observations each time, so it can't disagree with them. A column store reads
only the few narrow columns that are asked for, and of those only the blocks of that day; the texts
are never touched. Latencies are counted in bins of 2%, in
one pass over the rows, because to sort ten million of them for exact quantiles takes longer than
all else together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from typing import Any

from harness.store.store import Store

PER_E = 50
"""Bins of latency for each factor e: the middle of one is at most 1% from what is in it."""

_SUMS = {
    "requests": "count(*) FILTER (about IS NULL)",
    "errors": "count(error)",
    "retries": "count(retry_of)",
    "input_tokens": "sum(input_tokens)",
    "output_tokens": "sum(output_tokens)",
    "busy_s": "sum(latency_s) FILTER (output_tokens IS NOT NULL)",
    "completed": "count(*) FILTER (outcome = 'completed')",
    "abandoned": "count(*) FILTER (outcome = 'abandoned')",
    "corrected": "count(*) FILTER (outcome = 'corrected' OR corrected_text IS NOT NULL)",
    "rated": "count(stars)",
    "all_stars": "sum(stars)",
    "thumbs_up": "count(*) FILTER (thumb = 1)",
    "thumbs_down": "count(*) FILTER (thumb = -1)",
    "masked": "sum(masked)",
}


def _query(timed: str, sums: Mapping[str, str]) -> str:
    """Per hour and per model: the sums, and how often each bin of the column `timed` came."""
    first = "".join(f", {sql} AS {name}" for name, sql in sums.items())
    again = "".join(f", sum({name})::DOUBLE AS {name}" for name in sums)
    return f"""
        WITH bins AS (
            SELECT epoch_us(observed_at) // 3600000000 AS hour, line, model_digest,
                (ln(greatest({timed}, 1e-6)) * {PER_E})::SMALLINT AS bin,
                count({timed}) AS timed{first}
            FROM observations
            WHERE observed_at >= $1 AND observed_at < $2 AND ($3::VARCHAR IS NULL OR line = $3)
            GROUP BY ALL
        )
        SELECT hour, line, model_digest, list(bin) AS bins, list(timed) AS counts{again}
        FROM bins GROUP BY GROUPING SETS ((hour), (line, model_digest))
        ORDER BY hour, line, model_digest
    """


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of one hour, or of one model on one line over the day.

    Times are in seconds; quantiles are right within 1%, None where nothing has that field.
    `tokens_per_s` is of one request, output tokens over latency, not of the whole service.
    Feedback that came by itself counts in the hour in which it was given, and is not a request.
    """

    line: str | None
    model_digest: str | None
    hour: datetime | None
    requests: int
    errors: int
    retries: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    first_token_p50_s: float | None
    first_token_p95_s: float | None
    input_tokens: int
    output_tokens: int
    tokens_per_s: float | None
    completed: int
    abandoned: int
    corrected: int
    rated: int
    stars: float | None
    thumbs_up: int
    thumbs_down: int
    masked: int


@dataclass(frozen=True, slots=True)
class Day:
    """The figures of each hour in which something came, and of each model that served."""

    day: date
    hours: Sequence[Figures]
    models: Sequence[Figures]


def summarize(store: Store, day: date, *, line: str | None = None) -> Day:
    """The figures of one day in UTC by the senders' clocks, of one line or of all."""
    begin = datetime.combine(day, time(), UTC)
    given = [begin, begin + timedelta(days=1), line]
    rows = store.query(_query("latency_s", _SUMS), given)
    first = {_place(row): row for row in store.query(_query("first_token_s", {}), given)}
    figures = [_figures(row, first.get(_place(row), _NONE)) for row in rows]
    return Day(
        day,
        [found for found in figures if found.hour is not None],
        [found for found in figures if found.hour is None],
    )


_NONE: Mapping[str, Any] = {"bins": (), "counts": ()}


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["hour"], row["line"], row["model_digest"]


def _figures(row: Mapping[str, Any], first: Mapping[str, Any]) -> Figures:
    counts = {name: int(row[name] or 0) for name in _SUMS if name not in ("busy_s", "all_stars")}
    p50, p95, p99 = _quantiles(row, (0.5, 0.95, 0.99))
    first_p50, first_p95 = _quantiles(first, (0.5, 0.95))
    hour = row["hour"]
    return Figures(
        **counts,
        line=row["line"],
        model_digest=row["model_digest"],
        hour=None if hour is None else datetime.fromtimestamp(hour * 3600, UTC),
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        first_token_p50_s=first_p50,
        first_token_p95_s=first_p95,
        tokens_per_s=counts["output_tokens"] / row["busy_s"] if row["busy_s"] else None,
        stars=row["all_stars"] / counts["rated"] if counts["rated"] else None,
    )


def _quantiles(row: Mapping[str, Any], levels: Sequence[float]) -> list[float | None]:
    """The middle of the first bin up to which at least that share of all lies."""
    merged: dict[int, int] = {}
    for place, count in zip(row["bins"], row["counts"], strict=True):
        if count:
            merged[place] = merged.get(place, 0) + count
    if not merged:
        return [None] * len(levels)
    places = sorted(merged)
    reached = list(accumulate(merged[place] for place in places))
    return [
        math.exp(next(p for p, n in zip(places, reached, strict=True) if n >= level * reached[-1])
                 / PER_E)
        for level in levels
    ]  # fmt: skip

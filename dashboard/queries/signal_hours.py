"""What each signal of a served line was, hour by hour, and the answers that made it bad."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.core.types import Row
from harness.store.store import Store
from harness.watch.monitor.signals import BY_NAME, Signal
from harness.watch.monitor.text import Text

HOURS = 48
TEXTS = 3_000
"""Answers that a signal on texts is measured on, chosen by a hash of their ids."""
ANSWERS = 10

Inside = Mapping[str, tuple[float | None, float | None]]
"""Signal -> the limits that its reference set; only for signals that have some."""

# Feedback joins the conversation of what it is about. $1 line, $2 from, $3 until. Only what is
# named by some feedback is joined, and nothing is kept between: a busy line has millions of rows.
_TALKS = """
    WITH recent AS NOT MATERIALIZED (
        SELECT *, coalesce(least(observed_at, received_at), observed_at, received_at) AS moment
        FROM observations WHERE line = $1
            AND coalesce(received_at, observed_at) >= $2::TIMESTAMP
            AND coalesce(received_at, observed_at) < $3::TIMESTAMP
    ),
    named AS (
        SELECT observation_id, conversation_id FROM recent WHERE observation_id IN (
            SELECT coalesce(about, retry_of) FROM recent
            WHERE about IS NOT NULL OR retry_of IS NOT NULL)
    ),
    r AS (
        SELECT a.*, coalesce(
            a.conversation_id, p.conversation_id, p.observation_id, a.observation_id) AS talk
        FROM recent a LEFT JOIN named p ON p.observation_id = coalesce(a.about, a.retry_of)
    )
"""

_TRIPPED: Mapping[str, str] = {
    "errors": "error IS NOT NULL",
    "errors_now": "error IS NOT NULL",
    "completion": "outcome = 'abandoned'",
    "satisfaction": "thumb = -1 OR stars <= 2",
    "corrections": "corrected_text IS NOT NULL OR outcome = 'corrected'",
    "retries": "retry_of IS NOT NULL",
}
"""Signal -> which observations are bad, where that can be said of one by itself."""

_SLOW = ("latency_p50", "latency_p95", "latency_p99", "tokens_per_s")
_SHOWN = "observation_id, conversation_id, prompt, response, error, latency_s, observed_at, stars, "
_SHOWN += "thumb, outcome, comment"


@dataclass(frozen=True, slots=True)
class Hour:
    """A signal in one hour: the mean over `n` conversations or answers that have a value of it."""

    at: datetime
    value: float
    n: int


def inside_limits(store: Store, watch_id: str) -> dict[str, tuple[float | None, float | None]]:
    """The limits of signals that are shares within them, as a look's references set them."""
    rows = store.query(
        "SELECT state -> '$.references' AS known FROM watch_verdicts WHERE watch_id = ? LIMIT 1",
        [watch_id],
    )
    known = (rows[0]["known"] if rows else None) or {}
    return {
        name: (found["inside"][0], found["inside"][1])
        for name, found in known.items()
        if found.get("inside")
    }


def hours(
    store: Store, line: str, names: Sequence[str], inside: Inside, until: datetime
) -> dict[str, list[Hour]]:
    """Signal -> its hours in the `HOURS` before `until`, oldest first, those without any left out.

    Costly signals are read where the watch has kept them, and measured nowhere else.
    """
    since = until - timedelta(hours=HOURS)
    window = [line, since, until]
    columns = {
        name: sql
        for name in names
        if name in BY_NAME and (sql := _aggregate(BY_NAME[name], inside.get(name)))
    }
    found = _in_sql(store, columns, window)
    texts = [n for n in names if n in BY_NAME and BY_NAME[n].measure and not BY_NAME[n].kept]
    if texts:
        found |= _on_texts(store, texts, window)
    for name in names:
        if name in BY_NAME and BY_NAME[name].kept:
            found[name] = _kept(store, name, window)
    return {name: series for name, series in found.items() if series}


def tripped(store: Store, line: str, digest: str | None, name: str, until: datetime) -> list[Row]:
    """The last answers before `until` that make a signal bad, at most `ANSWERS`, newest first."""
    window = [line, until - timedelta(hours=HOURS), until, digest, digest]
    where = (
        "FROM observations WHERE line = $1 AND coalesce(received_at, observed_at) >= $2::TIMESTAMP "
        "AND coalesce(received_at, observed_at) < $3::TIMESTAMP "
        "AND ($4::VARCHAR IS NULL OR model_digest IS NULL OR model_digest = $5)"
    )
    if name in _TRIPPED:
        return store.query(
            f"SELECT {_SHOWN} {where} AND ({_TRIPPED[name]}) ORDER BY seq DESC LIMIT {ANSWERS}",
            window,
        )
    if name in _SLOW:
        return store.query(
            f"SELECT {_SHOWN} {where} AND latency_s IS NOT NULL ORDER BY latency_s DESC "
            f"LIMIT {ANSWERS}",
            window,
        )
    signal = BY_NAME.get(name)
    if signal is None or signal.measure is None:
        return []
    if signal.kept:
        order = "DESC" if signal.direction == "lower" else "ASC"
        return store.query(
            f"SELECT {_SHOWN}, s.value {where.replace('FROM observations', _WITH_KEPT)} "
            f"AND s.signal = $6 ORDER BY s.value {order}, observation_id LIMIT {ANSWERS}",
            [*window, name],
        )
    rows = store.query(
        f"SELECT {_SHOWN} {where} AND response IS NOT NULL AND error IS NULL AND about IS NULL "
        f"ORDER BY seq DESC LIMIT {TEXTS}",
        window,
    )
    return _worst(signal, rows)


_WITH_KEPT = "FROM observations JOIN observation_signals s USING (observation_id)"


def _worst(signal: Signal, rows: list[Row]) -> list[Row]:
    assert signal.measure is not None
    values = signal.measure([Text(row["prompt"], row["response"]) for row in rows], {})
    lower = signal.direction == "lower"
    pairs = zip(rows, values, strict=True)
    bad = [row for row, value in pairs if value is not None and (value > 0.5) == lower]
    return bad[:ANSWERS]


def _in_sql(
    store: Store, columns: Mapping[str, str], window: Sequence[Any]
) -> dict[str, list[Hour]]:
    if not columns:
        return {}
    each = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    means = ", ".join(f'avg("{n}") AS "{n}", count("{n}") AS "n_{n}"' for n in columns)
    rows = store.query(
        f"""{_TALKS},
        talks AS (SELECT talk, min(moment) AS began, {each} FROM r GROUP BY talk)
        SELECT date_trunc('hour', began) AS hour, {means} FROM talks GROUP BY hour ORDER BY hour""",
        window,
    )
    return {
        name: [
            Hour(_utc(row["hour"]), row[name], row[f"n_{name}"])
            for row in rows
            if row[name] is not None
        ]
        for name in columns
    }


def _on_texts(store: Store, names: Sequence[str], window: Sequence[Any]) -> dict[str, list[Hour]]:
    rows = store.query(
        f"""{_TALKS}
        SELECT date_trunc('hour', moment) AS hour, prompt, response FROM r
        WHERE response IS NOT NULL AND error IS NULL AND about IS NULL
        ORDER BY md5_number_upper(observation_id) LIMIT {TEXTS}""",
        window,
    )
    texts = [Text(row["prompt"], row["response"]) for row in rows]
    found = {}
    for name in names:
        measure = BY_NAME[name].measure
        assert measure is not None
        by_hour: dict[datetime, list[float]] = defaultdict(list)
        for row, value in zip(rows, measure(texts, {}), strict=True):
            if value is not None:
                by_hour[_utc(row["hour"])].append(float(value))
        found[name] = [
            Hour(at, sum(values) / len(values), len(values))
            for at, values in sorted(by_hour.items())
        ]
    return found


def _kept(store: Store, name: str, window: Sequence[Any]) -> list[Hour]:
    rows = store.query(
        f"""{_TALKS}
        SELECT date_trunc('hour', moment) AS hour, avg(s.value) AS value, count(s.value) AS n
        FROM r JOIN observation_signals s USING (observation_id)
        WHERE s.signal = $4 AND s.value IS NOT NULL GROUP BY hour ORDER BY hour""",
        [*window, name],
    )
    return [Hour(_utc(row["hour"]), row["value"], row["n"]) for row in rows]


def _aggregate(signal: Signal, limits: tuple[float | None, float | None] | None) -> str | None:
    """The SQL of a signal's value of one conversation; None where it can't be had in SQL."""
    if signal.inside is None or limits is None:
        return signal.sql
    low, high = limits
    tests = [f"({signal.inside}) >= {low!r}"] if low is not None else []
    tests += [f"({signal.inside}) <= {high!r}"] if high is not None else []
    return f"avg(({' AND '.join(tests)})::DOUBLE)" if tests else None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

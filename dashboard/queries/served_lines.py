"""Queries of served lines: their verdicts, actions, traffic and split, each bounded."""

from __future__ import annotations

from datetime import date

from harness.core.types import Row
from harness.store.store import Store
from harness.watch.monitor import daily
from harness.watch.monitor.daily import Day
from harness.watch.rollout import traffic_split as splits
from harness.watch.rollout.traffic_split import Split

NEWEST = 50
"""Verdicts, actions and days that the page offers at most, the newest."""


def lines(store: Store) -> list[str]:
    """Lines that were ever promoted, watched or served."""
    rows = store.query(
        "SELECT DISTINCT line FROM (SELECT line FROM checkpoints "
        "WHERE event IN ('promoted', 'rolled_back') UNION ALL SELECT line FROM watch_verdicts "
        "UNION ALL SELECT DISTINCT line FROM observations) WHERE line IS NOT NULL "
        "ORDER BY line LIMIT 100"
    )
    return [row["line"] for row in rows]


def served(store: Store, line: str) -> Row | None:
    """The promoted version, as the store was told of it."""
    rows = store.query(
        "SELECT digest, event, actor, reason, happened_at, run_id, "
        "try_cast(detail ->> '$.version' AS INTEGER) AS version FROM checkpoints "
        "WHERE line = ? AND event IN ('promoted', 'rolled_back') ORDER BY seq DESC LIMIT 1",
        [line],
    )
    return rows[0] if rows else None


def verdicts(store: Store, line: str) -> list[Row]:
    """The newest verdicts with their signals, without what the next look goes on from."""
    return store.query(
        "SELECT watch_id, kind, model_digest, reference_digest, policy_digest, outcome, "
        "observations, window_from, window_to, signals, detail, decided_at FROM watch_verdicts "
        f"WHERE line = ? ORDER BY seq DESC LIMIT {NEWEST}",
        [line],
    )


def actions(store: Store, line: str) -> list[Row]:
    """The newest actions; those that only say that somebody was told are left out."""
    return store.query(
        "SELECT action_id, watch_id, action, acted, from_digest, to_digest, actor, reason, "
        "happened_at FROM watch_actions WHERE line = ? AND action <> 'told' "
        f"ORDER BY seq DESC LIMIT {NEWEST}",
        [line],
    )


def days(store: Store, line: str) -> list[date]:
    """Days in UTC on which the line was seen, the newest first."""
    rows = store.query(
        "SELECT DISTINCT observed_at::DATE AS day FROM observations "
        f"WHERE line = ? AND observed_at IS NOT NULL ORDER BY day DESC LIMIT {NEWEST}",
        [line],
    )
    return [row["day"] for row in rows]


def day(store: Store, when: date, line: str) -> Day:
    """A line's traffic on one day in UTC, hour by hour: counts, and latencies in seconds."""
    return daily.summarize(store, when, line=line)


def split(store: Store, line: str) -> Split | None:
    """How the traffic is split at this moment; None where one model has all of it."""
    found = splits.read(store.workspace.lines / line)
    return None if found is None or found.ended else found

"""Queries of served lines: their verdicts, actions, traffic and split, each bounded."""

from __future__ import annotations

from datetime import datetime

from harness.comparison.line_reading import states
from harness.comparison.line_state import LineState
from harness.core.types import Row
from harness.store.store import Store
from harness.watch.monitor import incidents
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


def state(store: Store, line: str) -> LineState | None:
    """The line's state now; None where nothing is known of it."""
    found = states(store, line)
    return found[0] if found else None


def same_bytes(store: Store, line: str, digest: str) -> int | None:
    """The number of the first version that had these bytes."""
    rows = store.query(
        "SELECT min(try_cast(detail ->> '$.version' AS INTEGER)) AS version FROM checkpoints "
        "WHERE line = ? AND digest = ? AND event IN ('promoted', 'rolled_back')",
        [line, digest],
    )
    return rows[0]["version"] if rows else None


def events(store: Store, line: str, since: datetime) -> list[Row]:
    """Promotions and roll backs since then, oldest first: {happened_at, version, event}."""
    return store.query(
        "SELECT happened_at, event, try_cast(detail ->> '$.version' AS INTEGER) AS version "
        "FROM checkpoints WHERE line = ? AND event IN ('promoted', 'rolled_back') "
        f"AND happened_at >= ? ORDER BY seq LIMIT {NEWEST}",
        [line, since],
    )


def incident_of(store: Store, watch_id: str) -> str | None:
    """The incident that a FAIL belongs to; None for another verdict, and where there is none."""
    return incidents.incident_of(store, watch_id)


def look_exists(store: Store, line: str, watch_id: str) -> bool:
    """Whether a line has a look of that id."""
    asked = "SELECT 1 FROM watch_verdicts WHERE line = ? AND watch_id = ? LIMIT 1"
    return bool(store.query(asked, [line, watch_id]))


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


def split(store: Store, line: str) -> Split | None:
    """How the traffic is split at this moment; None where one model has all of it."""
    found = splits.read(store.workspace.lines / line)
    return None if found is None or found.ended else found

"""Incidents: unbroken series of FAIL on one served version, each with what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from harness.core.types import Row
from harness.store.store import Store
from harness.watch.monitor.verdict import Kind, SignalVerdict, WatchVerdict

NEWEST = 20
"""Incidents of one line that are read at most, the newest."""

_BREAKER_RESTS = timedelta(hours=2)
"""The breaker speaks at most once an hour while it is tripped: after so long it tripped anew."""

# One row a look, with the promotion that was in force (`term`) and the number of its incident. A
# version that is promoted again begins anew, and so does each policy: they are held apart.
_LOOKS = f"""
    WITH terms AS (
        SELECT line, seq AS term FROM checkpoints
        WHERE event IN ('promoted', 'rolled_back') AND line IS NOT NULL
    ),
    looks AS (
        SELECT w.seq, w.watch_id, w.kind, w.line, w.model_digest, w.policy_digest, w.outcome,
            w.decided_at, t.term
        FROM watch_verdicts w ASOF LEFT JOIN terms t ON w.line = t.line AND w.seq >= t.term
        WHERE w.line IS NOT NULL
    ),
    begun AS (
        SELECT *, outcome = 'fail' AND (
            coalesce(lag(outcome) OVER same, '') <> 'fail' OR (kind = 'breaker' AND decided_at
                - lag(decided_at) OVER same > INTERVAL {_BREAKER_RESTS.total_seconds():.0f} SECOND)
        ) AS begins
        FROM looks
        WINDOW same AS (PARTITION BY line, kind, model_digest, policy_digest, term ORDER BY seq)
    ),
    numbered AS (
        SELECT *, sum(begins::INTEGER) OVER same AS number,
            arg_max(outcome, seq) OVER whole AS last_outcome
        FROM begun
        WINDOW same AS (PARTITION BY line, kind, model_digest, policy_digest, term ORDER BY seq),
            whole AS (PARTITION BY line, kind, model_digest, policy_digest, term)
    ),
    failing AS (
        SELECT *, first_value(watch_id) OVER one AS incident,
            max(number) OVER (PARTITION BY line, kind, model_digest, policy_digest, term) AS latest
        FROM numbered WHERE outcome = 'fail'
        WINDOW one AS (
            PARTITION BY line, kind, model_digest, policy_digest, term, number ORDER BY seq
        )
    )
"""

Did = Literal["rolled_back", "ramped", "held"]


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done about an incident, or would have been.

    `did` is `done`, `proposed` (a dry run: `--act` does it) or `impossible`: it was held, and
    `reason` says why.
    """

    action: Did
    acted: bool
    from_digest: str | None
    to_digest: str | None
    actor: str
    reason: str
    at: datetime

    @property
    def did(self) -> Literal["done", "proposed", "impossible"]:
        return deed_of(self.action, acted=self.acted)


@dataclass(frozen=True, slots=True)
class Incident:
    """A series of FAIL on one version of a line, with no other outcome in between.

    id          the `watch_id` of the first FAIL, whose numbers are those of the alarm
    last_id     the `watch_id` of the last one so far
    term        `seq` of the promotion in force; None where nothing was promoted
    first       the verdict at the alarm
    lasts       whether the newest look of this kind at this version is still FAIL
    looks       how many verdicts it has
    deeds       what was done about it, oldest first
    """

    id: str
    last_id: str
    line: str
    kind: Kind
    model_digest: str | None
    term: int | None
    first: WatchVerdict
    lasts: bool
    looks: int
    began_at: datetime
    last_at: datetime
    deeds: tuple[Deed, ...] = ()

    @property
    def failed(self) -> tuple[SignalVerdict, ...]:
        """The required signals that failed at the alarm, with their numbers then."""
        return self.first.failing()

    @property
    def names(self) -> str:
        """`refusals, thumbs_up`: what failed."""
        return ", ".join(signal.signal for signal in self.failed) or self.kind

    @property
    def taken_back(self) -> Deed | None:
        """The roll back that ended it; None where none was made."""
        done = [d for d in self.deeds if d.action == "rolled_back" and d.acted]
        return done[-1] if done else None

    @property
    def held(self) -> Deed | None:
        """Why nothing could be done, the last time that it was tried; None where that isn't so."""
        held = [deed for deed in self.deeds if deed.did == "impossible"]
        return held[-1] if held and self.taken_back is None else None


def incidents(store: Store, line: str | None = None) -> list[Incident]:
    """The newest incidents of a line, or of every line, the newest first."""
    rows = store.query(
        f"""{_LOOKS}
        SELECT incident, line, kind, model_digest, term, arg_max(watch_id, seq) AS last_id,
            min(decided_at) AS began_at, max(decided_at) AS last_at, count(*) AS looks,
            any_value(last_outcome = 'fail' AND number = latest) AS lasts, min(seq) AS first_seq
        FROM failing WHERE ?::VARCHAR IS NULL OR line = ?
        GROUP BY incident, line, kind, model_digest, term
        QUALIFY row_number() OVER (PARTITION BY line ORDER BY min(seq) DESC) <= {NEWEST}
        ORDER BY first_seq DESC
        """,
        [line, line],
    )
    if not rows:
        return []
    firsts = _verdicts(store, [row["incident"] for row in rows])
    deeds = _deeds(store, [row["incident"] for row in rows])
    return [
        Incident(
            id=row["incident"],
            last_id=row["last_id"],
            line=row["line"],
            kind=row["kind"],
            model_digest=row["model_digest"],
            term=row["term"],
            first=firsts[row["incident"]],
            lasts=row["lasts"],
            looks=row["looks"],
            began_at=row["began_at"],
            last_at=row["last_at"],
            deeds=tuple(deeds.get(row["incident"], ())),
        )
        for row in rows
    ]


def incident_of(store: Store, watch_id: str) -> str | None:
    """The incident that a FAIL belongs to; None where the verdict is no FAIL, or isn't there."""
    rows = store.query(
        f"{_LOOKS} SELECT incident FROM failing WHERE watch_id = ? LIMIT 1", [watch_id]
    )
    return str(rows[0]["incident"]) if rows else None


def deed_of(action: str, *, acted: bool) -> Literal["done", "proposed", "impossible"]:
    """Whether an action was done, only proposed (a dry run), or held because it couldn't be."""
    if action == "held":
        return "impossible"
    return "done" if acted else "proposed"


def _verdicts(store: Store, ids: Sequence[str]) -> dict[str, WatchVerdict]:
    rows = store.query(
        "SELECT * EXCLUDE (state, seq) FROM watch_verdicts WHERE list_contains(?, watch_id)",
        [list(ids)],
    )
    return {row["watch_id"]: WatchVerdict.from_row(row) for row in rows}


def _deeds(store: Store, ids: Sequence[str]) -> dict[str, list[Deed]]:
    rows = store.query(
        f"""{_LOOKS}
        SELECT f.incident, a.action, a.acted, a.from_digest, a.to_digest, a.actor, a.reason,
            a.happened_at
        FROM watch_actions a JOIN failing f USING (watch_id)
        WHERE a.action <> 'told' AND list_contains(?, f.incident) ORDER BY a.seq
        """,
        [list(ids)],
    )
    found: dict[str, list[Deed]] = {}
    for row in rows:
        found.setdefault(row["incident"], []).append(_deed(row))
    return found


def _deed(row: Row) -> Deed:
    said: dict[str, Any] = {name: row[name] for name in ("action", "acted")}
    return Deed(
        **said,
        from_digest=row["from_digest"],
        to_digest=row["to_digest"],
        actor=row["actor"] or "",
        reason=row["reason"] or "",
        at=row["happened_at"],
    )

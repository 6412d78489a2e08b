"""How much of its margins each candidate of a line left, verdict after verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.queries.change_points import Forecast, forecast, margin_left
from harness.core.types import Row
from harness.store.store import Store

_VERSIONS = (
    "SELECT run_id, seq, event, try_cast(detail ->> '$.version' AS INTEGER) AS version "
    "FROM checkpoints WHERE line = ? AND event IN ('promoted', 'rolled_back') "
    "AND run_id IS NOT NULL ORDER BY seq"
)


@dataclass(frozen=True, slots=True)
class Flag:
    """A promotion or a roll back on a line's course; `place` lies between two verdicts."""

    place: float
    version: int | None
    event: str


@dataclass(frozen=True, slots=True)
class Course:
    """The margins left at a line's last verdicts, each against a version that was promoted once.

    points   a row a verdict and required metric, oldest first: {metric, place, verdict_id, at,
             model, left, low, high, anchor_run}
    flags    the promotions and roll backs between them
    current  the run of what is promoted now; None where nothing is
    """

    points: tuple[Row, ...]
    flags: tuple[Flag, ...]
    current: str | None

    @property
    def now(self) -> dict[str, list[Row]]:
        """By metric, against what is promoted now alone: another anchor is another history."""
        found: dict[str, list[Row]] = {}
        for row in self.points:
            if row["anchor_run"] == self.current:
                found.setdefault(row["metric"], []).append(row)
        return found


def course(store: Store, line: str, limit: int = 30) -> Course:
    """What the line's newest verdicts left of its margins, over all of its versions."""
    versions = store.query(_VERSIONS, [line])
    rows = _verdicts(store, [row["run_id"] for row in versions], limit)
    flags = tuple(
        Flag(place, version["version"], version["event"])
        for version in versions
        for place in [0.5 + sum(row["seq"] < version["seq"] for row in rows)]
        if rows and version["seq"] > rows[0]["seq"]
    )
    return Course(tuple(_left(rows)), flags, versions[-1]["run_id"] if versions else None)


def margins(store: Store, line: str, limit: int = 30) -> dict[str, list[Row]]:
    """`Course.now` of the newest verdicts against what is promoted now, whatever came between."""
    versions = store.query(_VERSIONS, [line])[-1:]
    current = versions[0]["run_id"] if versions else None
    rows = _verdicts(store, [row["run_id"] for row in versions], limit)
    return Course(tuple(_left(rows)), (), current).now


def _verdicts(store: Store, anchors: list[str], limit: int) -> list[Row]:
    """The newest verdicts against these runs, oldest first."""
    rows = store.query(
        "SELECT v.seq, v.verdict_id, v.decided_at, v.detail -> '$.rows' AS found, "
        "v.anchor_run, r.model "
        "FROM verdicts v LEFT JOIN runs r ON r.run_id = v.candidate_run "
        "WHERE v.seq IN (SELECT seq FROM verdicts WHERE against = 'anchor' "
        "AND list_contains(?, anchor_run) ORDER BY seq DESC LIMIT ?) ORDER BY v.seq",
        [sorted(set(anchors)), limit],
    )
    return list(rows)


def _left(rows: Iterable[Row]) -> Iterator[Row]:
    for place, row in enumerate(rows, start=1):
        for found in row["found"] or ():
            if not _held(found):
                continue
            room = found["allowed"]
            ends = sorted(margin_left(end, room) for end in found["interval"] or ())
            at = margin_left(found["change"], room)
            yield {
                "metric": found["name"],
                "place": place,
                "verdict_id": row["verdict_id"],
                "at": row["decided_at"],
                "model": row["model"],
                "anchor_run": row["anchor_run"],
                "left": at,
                "low": ends[0] if ends else at,
                "high": ends[1] if ends else at,
            }


def best_of(left: Mapping[str, list[Row]]) -> Row | None:
    """Of a line's last candidates the one that kept most of its tightest margin: {model, left}.

    None where nothing was compared.
    """
    tightest: dict[str, Row] = {}
    for rows in left.values():
        for row in rows:
            known = tightest.get(row["verdict_id"])
            if known is None or row["left"] < known["left"]:
                tightest[row["verdict_id"]] = row
    return max(tightest.values(), key=lambda row: row["left"], default=None)


def forecasts(left: Mapping[str, list[Row]]) -> dict[str, Forecast]:
    """Metric -> where its margin goes, for those with enough of a history."""
    found = {name: forecast([row["left"] for row in rows]) for name, rows in left.items()}
    return {name: seen for name, seen in found.items() if seen is not None}


def _held(found: Mapping[str, Any]) -> bool:
    return bool(
        found.get("required")
        and found.get("requirement") is None
        and found.get("allowed")
        and found.get("change") is not None
    )

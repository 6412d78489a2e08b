"""The list of what needs a human, for the first page and for the webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dashboard.queries import history
from dashboard.queries.change_points import Forecast, forecast, margin_left
from harness.comparison.attention_log import answers
from harness.comparison.line_reading import deciding, loose_trainings, states
from harness.comparison.line_state import LineState
from harness.comparison.line_words import Need, Sentence, needs, of_training, unanswered
from harness.core.types import Row
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that the first page and the alerts say, read at one moment.

    lines   the state of each line, the last active first
    needs   what waits for somebody, `act` first; what was answered is left out
    """

    lines: tuple[LineState, ...]
    needs: tuple[Need, ...]


def overview(store: Store, *, now: datetime | None = None) -> Overview:
    """The state of every line, and everything that waits for somebody."""
    now = now or datetime.now(UTC)
    lines = states(store, now=now)
    given = lines[0].answers if lines else answers(store)
    found = [need for state in lines for need in needs(state)]
    more = [need for stand in loose_trainings(store, now=now) for need in of_training(stand, now)]
    for state in lines:
        more += _slopes(store, state)
    more += [_of_run(run) for run in history.troubles(store, now)]
    found += unanswered(more, given, now)
    return Overview(tuple(lines), tuple(sorted(found, key=lambda need: need.level)))


def attention(store: Store) -> list[Need]:
    """Everything that waits for somebody, the most urgent first."""
    return list(overview(store).needs)


def margins(store: Store, line: str, limit: int = 30) -> dict[str, list[Row]]:
    """Required metric -> the margin that was left at the line's last verdicts, oldest first.

    Only verdicts against what is promoted now: another anchor is another history.
    """
    rows = store.query(
        "SELECT v.verdict_id, v.decided_at, v.detail -> '$.rows' AS found, r.model "
        "FROM verdicts v LEFT JOIN runs r ON r.run_id = v.candidate_run "
        "WHERE v.seq IN (SELECT seq FROM verdicts WHERE against = 'anchor' AND anchor_run = "
        "(SELECT run_id FROM checkpoints WHERE line = ? "
        "AND event IN ('promoted', 'rolled_back') ORDER BY seq DESC LIMIT 1) "
        "ORDER BY seq DESC LIMIT ?) ORDER BY v.seq DESC",
        [line, limit],
    )
    left: dict[str, list[Row]] = {}
    for place, row in enumerate(reversed(rows), start=1):
        for found in row["found"] or ():
            if not _held(found):
                continue
            room = found["allowed"]
            ends = sorted(margin_left(end, room) for end in found["interval"] or ())
            at = margin_left(found["change"], room)
            left.setdefault(found["name"], []).append(
                {
                    "place": place,
                    "verdict_id": row["verdict_id"],
                    "at": row["decided_at"],
                    "model": row["model"],
                    "left": at,
                    "low": ends[0] if ends else at,
                    "high": ends[1] if ends else at,
                }
            )
    return left


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


def _slopes(store: Store, state: LineState) -> list[Need]:
    if state.promoted is None:
        return []
    found = []
    for metric, seen in forecasts(margins(store, state.line)).items():
        if seen.is_alarming:
            values = {"line": state.line, "metric": metric, "n": seen.gone_in}
            text = "{line}: at this slope the margin of {metric} is gone in {n} checkpoints."
            about = f"slope:{state.line}:{metric}"
            place = {"line": state.line}
            found.append(Need(Sentence(text, values), "look", about, state.line, "drift", place))
    return found


def _of_run(run: Row) -> Need:
    values = {"id": run["id"], "name": run["name"] or run["id"], "status": run["detail"]}
    text = "Run {id} of {name} never finished ({status}). The same command goes on with it."
    return Need(Sentence(text, values), "look", f"run:{run['id']}", None, "trend")


def _held(found: Mapping[str, Any]) -> bool:
    return bool(
        found.get("required")
        and found.get("requirement") is None
        and found.get("allowed")
        and found.get("change") is not None
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate's verdict that decides, with the metric that decided it.

    metric   None for a verdict without rows; `anchor` and `candidate` are its values
    """

    name: str
    verdict_id: str
    outcome: str
    headline: str
    decided_at: datetime
    metric: str | None
    anchor: float | None
    candidate: float | None


def last_candidates(store: Store, limit: int) -> list[Judged]:
    """The candidates that were judged last, one row each, the newest first."""
    rows = store.query(
        "SELECT v.seq, v.verdict_id, v.outcome, v.against, v.headline, v.decided_at, "
        "v.candidate_run, r.model FROM verdicts v LEFT JOIN runs r ON r.run_id = v.candidate_run "
        "ORDER BY v.seq DESC LIMIT ?",
        [limit * 8],
    )
    by_run: dict[str, dict[str, Row]] = {}
    for row in rows:
        # The newest of each comparison comes first.
        by_run.setdefault(row["candidate_run"], {}).setdefault(row["against"] or "", row)
    chosen = [deciding(list(found.values())) for found in by_run.values()][:limit]
    metrics = _deciding_metrics(store, [row["verdict_id"] for row in chosen])
    return [_judged(row, metrics.get(row["verdict_id"], {})) for row in chosen]


def _judged(row: Row, metric: Row) -> Judged:
    return Judged(
        name=row["model"] or row["candidate_run"],
        verdict_id=row["verdict_id"],
        outcome=row["outcome"],
        headline=row["headline"] or "",
        decided_at=row["decided_at"],
        metric=metric.get("metric"),
        anchor=metric.get("anchor"),
        candidate=metric.get("candidate"),
    )


def _deciding_metrics(store: Store, ids: list[str]) -> dict[str, Row]:
    """Verdict -> its row that decided: of the verdict's own outcome, required, the worst."""
    rows = store.query(
        "SELECT m.verdict_id, m.metric, m.anchor, m.candidate FROM verdict_metrics m "
        "JOIN verdicts v USING (verdict_id) WHERE list_contains(?, m.verdict_id) "
        "QUALIFY row_number() OVER (PARTITION BY m.verdict_id ORDER BY m.outcome = v.outcome DESC, "
        "m.required DESC, try_cast(m.detail ->> '$.mean_z' AS DOUBLE) DESC NULLS LAST) = 1",
        [ids],
    )
    return {row["verdict_id"]: row for row in rows}

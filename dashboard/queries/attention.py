"""The list of what needs a human, for the first page and for the webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dashboard.queries import history
from dashboard.queries.margin_history import Course, course, forecasts
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
    courses what is left of the margins of each line with a promoted version
    """

    lines: tuple[LineState, ...]
    needs: tuple[Need, ...]
    courses: Mapping[str, Course]


def overview(store: Store, *, now: datetime | None = None) -> Overview:
    """The state of every line, and everything that waits for somebody."""
    now = now or datetime.now(UTC)
    lines = states(store, now=now)
    given = lines[0].answers if lines else answers(store)
    found = [need for state in lines for need in needs(state)]
    more = [need for stand in loose_trainings(store, now=now) for need in of_training(stand, now)]
    courses = {state.line: course(store, state.line) for state in lines if state.promoted}
    for line, seen in courses.items():
        more += _slopes(line, seen)
    more += [_of_run(run) for run in history.troubles(store, now)]
    found += unanswered(more, given, now)
    waiting = sorted(found, key=lambda need: need.level)
    return Overview(tuple(lines), tuple(waiting), courses)


def attention(store: Store) -> list[Need]:
    """Everything that waits for somebody, the most urgent first."""
    return list(overview(store).needs)


def _slopes(line: str, of: Course) -> list[Need]:
    found = []
    for metric, seen in forecasts(of.now).items():
        if seen.is_alarming:
            values = {"line": line, "metric": metric, "n": seen.gone_in}
            text = "{line}: at this slope the margin of {metric} is gone in {n} checkpoints."
            about = f"slope:{line}:{metric}"
            place = {"line": line}
            found.append(Need(Sentence(text, values), "look", about, line, "drift", place))
    return found


def _of_run(run: Row) -> Need:
    values = {"id": run["id"], "name": run["name"] or run["id"], "status": run["detail"]}
    text = "Run {id} of {name} never finished ({status}). The same command goes on with it."
    return Need(Sentence(text, values), "look", f"run:{run['id']}", None, "trend")


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

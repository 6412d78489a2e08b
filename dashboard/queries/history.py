"""Queries of runs, lines, verdicts and trainings, each bounded and summed up in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard.queries.measures import Allowance
from harness.core.format import opponent_name
from harness.core.protocol import metrics_of
from harness.core.types import Row
from harness.gate.verdict import Verdict
from harness.store.store import Store

RUNS = 200
"""Runs that one chart shows at most, the newest."""

STEPS = 2_000
"""Points that one curve of a training shows at most."""

OUTSIDE = "outside"
"""The scope of all runs that belong to no training."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A stored verdict and the names of both sides."""

    id: str
    verdict: Verdict
    against: str
    anchor_run: str | None
    anchor_model: str | None
    candidate_run: str
    candidate_model: str | None
    training_id: str | None
    step: int | None
    decided_at: datetime
    promotable: bool


def is_empty(store: Store) -> bool:
    """Whether nothing was scored here yet."""
    return not store.query("SELECT run_id FROM runs LIMIT 1")


def is_synthetic(store: Store) -> bool:
    """Whether `ratchet demo-data` wrote what is here."""
    found = "SELECT run_id FROM runs WHERE provenance ->> '$.synthetic' = 'true' LIMIT 1"
    return bool(store.query(found))


def counts(store: Store) -> Row:
    """{runs, verdicts, trainings, scores}: how many there are."""
    return store.query(
        "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM verdicts) AS verdicts, "
        "(SELECT count(*) FROM trainings) AS trainings, (SELECT count(*) FROM scores) AS scores"
    )[0]


def lines(store: Store) -> list[Row]:
    """Each line's promoted version, and the last verdict that was about the line."""
    return store.query(
        """
        WITH versions AS (
            SELECT line, digest, run_id, event, actor, reason, verdict_id, happened_at, seq,
                try_cast(detail ->> '$.version' AS INTEGER) AS version,
                coalesce(detail ->> '$.override', 'false') = 'true' AS overridden
            FROM checkpoints WHERE event IN ('promoted', 'rolled_back') AND line IS NOT NULL
        ),
        current AS (
            SELECT * FROM versions
            QUALIFY row_number() OVER (PARTITION BY line ORDER BY seq DESC) = 1
        ),
        anchors AS (
            SELECT DISTINCT line, run_id FROM versions WHERE run_id IS NOT NULL
        ),
        -- Which ones first: what a verdict says in detail is long, and only theirs is read.
        newest AS (
            SELECT coalesce(t.line, a.line) AS line, max(v.seq) AS seq
            FROM verdicts v
            LEFT JOIN trainings t USING (training_id)
            LEFT JOIN anchors a ON a.run_id = v.anchor_run
            GROUP BY ALL
        ),
        about AS (
            SELECT n.line, v.verdict_id AS last_verdict,
                v.outcome AS last_outcome, v.headline AS last_headline, v.decided_at AS last_at,
                v.candidate_run AS last_run, v.detail ->> '$.settle' AS settle, v.seq AS last_seq
            FROM verdicts v JOIN newest n USING (seq)
        )
        SELECT c.*, r.model, about.* EXCLUDE line,
            coalesce(about.last_run = c.run_id, false) AS last_is_promoted
        FROM current c LEFT JOIN about USING (line) LEFT JOIN runs r ON r.run_id = c.run_id
        ORDER BY c.line LIMIT 100
        """
    )


def versions(store: Store, line: str) -> list[Row]:
    """Every version of a line, the newest first."""
    return store.query(
        "SELECT try_cast(c.detail ->> '$.version' AS INTEGER) AS version, c.event, c.digest, "
        "c.actor, c.reason, c.verdict_id, v.outcome AS verdict, c.run_id, r.model, "
        "c.happened_at FROM checkpoints c LEFT JOIN verdicts v USING (verdict_id) "
        "LEFT JOIN runs r ON r.run_id = c.run_id WHERE c.line = ? "
        "AND c.event IN ('promoted', 'rolled_back') ORDER BY c.seq DESC LIMIT 50",
        [line],
    )


def troubles(store: Store, now: datetime | None = None) -> list[Row]:
    """Runs that stopped without an end: {id, name, detail, since}."""
    hour_ago = (now or datetime.now(UTC)) - timedelta(hours=1)
    return store.query(
        """
        SELECT run_id AS id, model AS name, status AS detail,
            coalesce(happened_at, started_at) AS since
        FROM run_status
        WHERE status IN ('failed', 'interrupted') OR (status = 'unfinished' AND started_at < ?)
        ORDER BY since DESC LIMIT 20
        """,
        [hour_ago],
    )


def verdicts(store: Store, limit: int = RUNS) -> list[Row]:
    """The newest verdicts, without their rows."""
    return store.query(
        "SELECT v.verdict_id, v.outcome, v.against, v.headline, v.training_id, v.step, v.look, "
        "v.looks, v.decided_at, v.candidate_run, v.anchor_run, r.model FROM verdicts v "
        "LEFT JOIN runs r ON r.run_id = v.candidate_run ORDER BY v.seq DESC LIMIT ?",
        [limit],
    )


def verdict(store: Store, verdict_id: str) -> Shown | None:
    """One verdict with everything that the gate said."""
    rows = store.query(
        "SELECT v.*, a.model AS anchor_model, c.model AS candidate_model FROM verdicts v "
        "LEFT JOIN runs a ON a.run_id = v.anchor_run "
        "LEFT JOIN runs c ON c.run_id = v.candidate_run WHERE v.verdict_id = ? LIMIT 1",
        [verdict_id],
    )
    if not rows:
        return None
    row = rows[0]
    return Shown(
        id=row["verdict_id"],
        verdict=Verdict.from_dict({**row["detail"], "outcome": row["outcome"]}),
        against=row["against"],
        anchor_run=row["anchor_run"],
        anchor_model=row["anchor_model"],
        candidate_run=row["candidate_run"],
        candidate_model=row["candidate_model"],
        training_id=row["training_id"],
        step=row["step"],
        decided_at=row["decided_at"],
        promotable=row["outcome"] == "pass" or bool(row["detail"].get("promotable")),
    )


def checkpoint_of(store: Store, run_id: str) -> str | None:
    """The digest under which a run's model is in the registry; None where it is not."""
    rows = store.query(
        "SELECT digest FROM checkpoints WHERE run_id = ? AND event = 'added' "
        "ORDER BY seq DESC LIMIT 1",
        [run_id],
    )
    return str(rows[0]["digest"]) if rows else None


def last_verdict_of(store: Store, run_id: str) -> str | None:
    """The id of the newest verdict on a run as a candidate."""
    rows = store.query(
        "SELECT verdict_id FROM verdicts WHERE candidate_run = ? ORDER BY seq DESC LIMIT 1",
        [run_id],
    )
    return str(rows[0]["verdict_id"]) if rows else None


def suites(store: Store) -> list[str]:
    """Names of the suites that anything was scored on, the last used first."""
    rows = store.query("SELECT suite FROM runs GROUP BY suite ORDER BY max(seq) DESC LIMIT 100")
    return [row["suite"] for row in rows]


def scopes(store: Store, suite: str) -> list[Row]:
    """What a history can be drawn of: runs outside trainings, and each training."""
    return store.query(
        f"SELECT coalesce(r.training_id, '{OUTSIDE}') AS scope, any_value(t.recipe) AS recipe, "
        "count(*) AS runs, max(r.started_at) AS last_at FROM runs r "
        "LEFT JOIN trainings t USING (training_id) WHERE r.suite = ? GROUP BY r.training_id "
        f"ORDER BY (count(*) >= 2 AND scope = '{OUTSIDE}') DESC, max(r.seq) DESC LIMIT 100",
        [suite],
    )


def runs_of(
    store: Store, suite: str | None, scope: str | None = None, limit: int = RUNS
) -> list[Row]:
    """The newest runs of a suite, or of all, oldest first, each with its last verdict.

    Second draws are left out, and so is what was promoted as a copy of the same step.
    """
    where = ["(?::VARCHAR IS NULL OR r.suite = ?)", "coalesce(r.draw, 0) = 0"]
    params: list[Any] = [suite, suite]
    if scope == OUTSIDE:
        where.append("r.training_id IS NULL")
    elif scope is not None:
        where.append("r.training_id = ?")
        params.append(scope)
    rows = store.query(
        f"""
        WITH chosen AS (
            SELECT run_id, model, model_digest, suite, suite_digest, training_id, step,
                started_at, seq
            FROM runs r WHERE {" AND ".join(where)} ORDER BY seq DESC LIMIT ?
        ),
        judged AS (
            SELECT v.candidate_run AS run_id, v.verdict_id, v.outcome, v.against, v.anchor_run
            FROM verdicts v SEMI JOIN chosen c ON c.run_id = v.candidate_run
            QUALIFY row_number() OVER (PARTITION BY v.candidate_run ORDER BY
                v.outcome = 'fail' DESC, v.against = 'anchor' DESC, v.seq DESC) = 1
        )
        SELECT c.*, j.verdict_id, coalesce(j.outcome, 'none') AS outcome, j.against, j.anchor_run
        FROM chosen c LEFT JOIN judged j USING (run_id) ORDER BY c.seq
        """,
        [*params, limit],
    )
    return [row | {"place": place} for place, row in enumerate(rows, start=1)]


def run(store: Store, run_id: str) -> Row | None:
    """One run with its fingerprint."""
    rows = store.query(
        "SELECT r.*, s.status FROM runs r LEFT JOIN run_status s USING (run_id) "
        "WHERE r.run_id = ? LIMIT 1",
        [run_id],
    )
    return rows[0] if rows else None


def declared(run: Row) -> dict[str, Mapping[str, Any]]:
    """`task/metric` -> what the metric says of itself, in a run's protocol."""
    return {str(name): says for name, says in metrics_of(run["protocol"])}


def anchor_of(store: Store, runs: Sequence[Row]) -> Row | None:
    """What a history is compared with: the anchor of its last verdict, else the promoted run of the
    same suite, else its first run.
    """
    for row in reversed(runs):
        if row["anchor_run"] and row["against"] == "anchor":
            return run(store, row["anchor_run"])
    if not runs:
        return None
    promoted = store.query(
        "SELECT c.run_id FROM checkpoints c JOIN runs r USING (run_id) WHERE r.suite_digest = ? "
        "AND c.event IN ('promoted', 'rolled_back') ORDER BY c.seq DESC LIMIT 1",
        [runs[-1]["suite_digest"]],
    )
    return run(store, promoted[0]["run_id"] if promoted else runs[0]["run_id"])


def references_of(store: Store, runs: Sequence[Row]) -> dict[str, str]:
    """Run -> the best checkpoint that the gate compared it with; only where it did.

    So a checkpoint that loses what was learned shows it, even where checkpoint-0 knew no better.
    """
    rows = store.query(
        "SELECT candidate_run, arg_max(anchor_run, seq) AS best FROM verdicts "
        "WHERE against = 'crest' AND list_contains(?, candidate_run) GROUP BY ALL",
        [[row["run_id"] for row in runs]],
    )
    return {row["candidate_run"]: row["best"] for row in rows if row["best"]}


def allowances(store: Store, runs: Sequence[Row]) -> dict[str, Allowance]:
    """`task/metric` -> what the last verdict allowed of it."""
    last = next((row["verdict_id"] for row in reversed(runs) if row["against"] == "anchor"), None)
    last = last or next((row["verdict_id"] for row in reversed(runs) if row["verdict_id"]), None)
    shown = verdict(store, last) if last else None
    if shown is None:
        return {}
    return {
        row.metric: Allowance(
            row.allowed.margin, row.allowed.floor, row.measured.scale, row.allowed.change
        )
        for row in shown.verdict.rows
        if row.allowed.change is not None and row.slice is None and row.allowed.requirement is None
    }


def trainings(store: Store, training_id: str | None = None) -> list[Row]:
    """The newest trainings with where they stand, or one of them."""
    return store.query(
        """
        SELECT t.training_id, t.recipe, t.line, t.started_at, t.config,
            e.event AS last_event, e.happened_at AS last_event_at, s.step, s.attempt,
            s.happened_at AS last_step_at,
            (SELECT count(*) FROM rollbacks b WHERE b.training_id = t.training_id) AS rollbacks
        FROM trainings t
        LEFT JOIN (SELECT * FROM training_events
            QUALIFY row_number() OVER (PARTITION BY training_id ORDER BY seq DESC) = 1) e
            USING (training_id)
        LEFT JOIN (SELECT training_id, arg_max(step, seq) AS step, arg_max(attempt, seq) AS attempt,
            max(happened_at) AS happened_at FROM training_steps GROUP BY training_id) s
            USING (training_id)
        WHERE ?::VARCHAR IS NULL OR t.training_id = ?
        ORDER BY t.seq DESC LIMIT 50
        """,
        [training_id, training_id],
    )


def training_events(store: Store, training_id: str) -> list[Row]:
    """The newest first, without what each step earned: that would crowd out all the others."""
    rows = store.query(
        "SELECT event, step, attempt, detail, happened_at FROM training_events "
        "WHERE training_id = ? AND event <> 'rewards' ORDER BY seq DESC LIMIT 200",
        [training_id],
    )
    return [{**row, "event": opponent_name(row["event"])} for row in rows]


def training_steps(store: Store, training_id: str) -> list[Row]:
    """Every step, or every k-th of a long training, so that at most STEPS come back."""
    return store.query(
        f"""
        SELECT step, attempt, loss, grad_norm, learning_rate, epoch, tokens, happened_at FROM (
            SELECT *, row_number() OVER (ORDER BY seq) AS number, count(*) OVER () AS total
            FROM training_steps WHERE training_id = ?
        ) WHERE number % ceil(total / {STEPS}.0)::INTEGER = 0 OR number = total
        ORDER BY number
        """,
        [training_id],
    )


def calibrations(store: Store) -> list[Row]:
    """The newest 50; `false_rollback` is a share of identical checkpoints, 0 to 1."""
    return store.query(
        "SELECT calibration_id, suite, suite_digest, model_digest, runs, false_rollback, detail, "
        "calibrated_at FROM calibrations ORDER BY seq DESC LIMIT 50"
    )

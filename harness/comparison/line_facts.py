"""What the store knows of each line, for `comparison.line_state`: one query a kind of fact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.core.types import Row
from harness.store.store import Store

MOST = 100
"""Lines that are shown at most."""

_GOES_ON = 100_000
"""Observations in which the beginning of a conversation is looked for: all could be millions."""

# Which line a verdict is about: the training's, the one that it was decided for, the one whose
# promotion stands on it, or else each line whose promoted run it was compared with.
_ABOUT = """
    WITH versions AS (
        SELECT c.line, c.run_id, c.verdict_id, c.seq, r.model_digest
        FROM checkpoints c LEFT JOIN runs r USING (run_id)
        WHERE c.event IN ('promoted', 'rolled_back') AND c.line IS NOT NULL
    ),
    served AS (
        SELECT * FROM versions
        QUALIFY row_number() OVER (PARTITION BY line ORDER BY seq DESC) = 1
    ),
    anchors AS (
        SELECT DISTINCT line, run_id FROM versions WHERE run_id IS NOT NULL
        UNION SELECT s.line, r.run_id FROM served s JOIN runs r USING (model_digest)
    ),
    stood_on AS (SELECT DISTINCT line, verdict_id FROM versions WHERE verdict_id IS NOT NULL),
    owned AS (
        SELECT v.seq, v.anchor_run, coalesce(
            t.line,
            CASE WHEN starts_with(v.against, 'line:') THEN substr(v.against, 6) END,
            p.line,
            o.line
        ) AS line
        FROM verdicts v
        LEFT JOIN trainings t USING (training_id)
        LEFT JOIN stood_on p USING (verdict_id)
        LEFT JOIN runs c ON c.run_id = v.candidate_run
        LEFT JOIN trainings o ON o.training_id = c.training_id
    ),
    about AS (
        SELECT seq, line FROM owned WHERE line IS NOT NULL
        UNION
        SELECT o.seq, a.line FROM owned o JOIN anchors a ON a.run_id = o.anchor_run
        WHERE o.line IS NULL
    )
"""


def names(store: Store, line: str | None = None) -> dict[str, bool]:
    """Lines that were promoted, watched, observed or trained for, and whether traffic was seen.

    The last active first.
    """
    rows = store.query(
        f"""
        SELECT line, bool_or(seen) AS seen FROM (
            SELECT line, seq, false AS seen FROM checkpoints
            WHERE event IN ('promoted', 'rolled_back')
            UNION ALL SELECT line, max(seq), false FROM watch_verdicts GROUP BY line
            UNION ALL SELECT line, max(seq), true FROM observations GROUP BY line
            UNION ALL SELECT line, seq, false FROM trainings
        ) WHERE line IS NOT NULL AND (?::VARCHAR IS NULL OR line = ?)
        GROUP BY line ORDER BY max(seq) DESC LIMIT {MOST}
        """,
        [line, line],
    )
    return {row["line"]: row["seen"] for row in rows}


def versions(store: Store) -> dict[str, list[Row]]:
    """Line -> its promotions and roll backs as the store was told of them, oldest first."""
    rows = store.query(
        "SELECT line, digest, run_id, event, actor, reason, verdict_id, happened_at, seq, "
        "try_cast(detail ->> '$.version' AS INTEGER) AS version, "
        "coalesce(detail ->> '$.override', 'false') = 'true' AS overridden FROM checkpoints "
        "WHERE event IN ('promoted', 'rolled_back') AND line IS NOT NULL ORDER BY seq"
    )
    return _by_line(rows)


def candidates(store: Store) -> dict[str, list[Row]]:
    """Line -> the newest verdict of each comparison of the candidate that was judged last."""
    rows = store.query(
        f"""{_ABOUT},
        judged AS (
            SELECT a.line, v.seq, v.candidate_run, v.against, v.anchor_run
            FROM about a JOIN verdicts v USING (seq)
        ),
        latest AS (
            SELECT line, arg_max(candidate_run, seq) AS candidate_run FROM judged GROUP BY line
        ),
        chosen AS (
            SELECT j.line, j.seq FROM judged j JOIN latest USING (line, candidate_run)
            QUALIFY row_number() OVER (PARTITION BY j.line, j.against ORDER BY j.seq DESC) = 1
        )
        SELECT c.line, v.seq, v.verdict_id, v.outcome, v.against, v.headline, v.candidate_run,
            v.anchor_run, v.look, v.looks, v.decided_at, v.detail ->> '$.settle' AS settle,
            v.detail ->> '$.promotable' = 'true' AS promotable,
            coalesce(v.training_id, r.training_id) AS training_id, coalesce(v.step, r.step) AS step,
            r.model, r.model_digest, a.model_digest AS anchor_digest
        FROM chosen c JOIN verdicts v USING (seq)
        LEFT JOIN runs r ON r.run_id = v.candidate_run
        LEFT JOIN runs a ON a.run_id = v.anchor_run
        ORDER BY v.seq
        """
    )
    return _by_line(rows)


def judged_since(store: Store) -> dict[str, int]:
    """Line -> how many models were judged as its candidates since its last promotion."""
    rows = store.query(
        f"""{_ABOUT}
        SELECT a.line, count(DISTINCT v.candidate_run) AS candidates
        FROM about a JOIN verdicts v USING (seq) JOIN served s USING (line)
        WHERE v.seq > s.seq GROUP BY a.line
        """
    )
    return {row["line"]: row["candidates"] for row in rows}


def runs(store: Store, ids: Iterable[str | None]) -> dict[str, Row]:
    """Run id -> {model, model_digest}."""
    wanted = sorted({run_id for run_id in ids if run_id})
    rows = store.query(
        "SELECT run_id, model, model_digest FROM runs WHERE list_contains(?, run_id)", [wanted]
    )
    return {row["run_id"]: row for row in rows}


def verdicts(store: Store, ids: Iterable[str | None]) -> dict[str, Row]:
    """Verdict id -> {outcome, headline, decided_at}."""
    wanted = sorted({verdict_id for verdict_id in ids if verdict_id})
    rows = store.query(
        "SELECT verdict_id, outcome, headline, decided_at FROM verdicts "
        "WHERE list_contains(?, verdict_id)",
        [wanted],
    )
    return {row["verdict_id"]: row for row in rows}


def registered(store: Store) -> dict[str, str]:
    """Run id -> the digest under which its model is in the registry, for models that are."""
    rows = store.query(
        "SELECT run_id, arg_max(digest, seq) AS digest FROM checkpoints "
        "WHERE event = 'added' AND run_id IS NOT NULL GROUP BY run_id"
    )
    return {row["run_id"]: row["digest"] for row in rows}


def trainings(store: Store) -> list[Row]:
    """The newest trainings with where they stand, the newest first."""
    return store.query(
        """
        WITH newest AS (
            SELECT training_id, recipe, line, started_at, config, seq FROM trainings
            ORDER BY seq DESC LIMIT 50
        ),
        ended AS (
            SELECT training_id, arg_max(event, seq) AS event, max(happened_at) AS at
            FROM training_events SEMI JOIN newest USING (training_id) GROUP BY training_id
        ),
        stepped AS (
            SELECT training_id, arg_max(step, seq) AS step, max(happened_at) AS at
            FROM training_steps SEMI JOIN newest USING (training_id) GROUP BY training_id
        )
        SELECT n.*, e.event AS last_event, s.step,
            greatest(n.started_at, e.at, s.at) AS last_at
        FROM newest n LEFT JOIN ended e USING (training_id) LEFT JOIN stepped s USING (training_id)
        ORDER BY n.seq DESC
        """
    )


def looks(store: Store) -> dict[str, list[Row]]:
    """Line -> the newest look of each policy at each of its versions, without the state."""
    rows = store.query(
        """
        WITH newest AS (
            SELECT max(seq) AS seq FROM watch_verdicts WHERE kind = 'watch' AND line IS NOT NULL
            GROUP BY line, model_digest, policy_digest
        )
        SELECT * EXCLUDE (state) FROM watch_verdicts SEMI JOIN newest USING (seq) ORDER BY seq
        """
    )
    return _by_line(rows)


def uncounted(store: Store) -> dict[str, int]:
    """Line -> conversations that came in after all that the newest look at it has counted.

    They count once they have settled, which a look waits for.
    """
    rows = store.query(
        f"""
        WITH newest AS (
            SELECT max(seq) AS seq FROM watch_verdicts
            WHERE kind = 'watch' AND line IS NOT NULL GROUP BY line
        ),
        looked AS (
            SELECT line, model_digest, try_cast(state ->> '$.cursor' AS BIGINT) AS place
            FROM watch_verdicts SEMI JOIN newest USING (seq)
        ),
        fresh AS (
            SELECT DISTINCT o.line, o.conversation_id, l.place,
                CASE WHEN o.conversation_id IS NULL THEN o.observation_id END AS alone
            FROM observations o JOIN looked l USING (line)
            WHERE o.seq > (SELECT min(place) FROM looked) AND o.seq > l.place AND o.about IS NULL
                AND coalesce(o.model_digest = l.model_digest, true)
        ),
        begun AS (
            SELECT DISTINCT f.line, f.conversation_id
            FROM observations o JOIN fresh f USING (line, conversation_id)
            WHERE o.seq <= f.place
                AND o.seq > (SELECT min(place) FROM looked) - {_GOES_ON}
        )
        SELECT line, count(*) AS n FROM fresh ANTI JOIN begun USING (line, conversation_id)
        GROUP BY line
        """
    )
    return {row["line"]: row["n"] for row in rows}


def _by_line(rows: Iterable[Row]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["line"], []).append(row)
    return found

"""Every view of the store: queries that many callers need."""

from __future__ import annotations

from collections.abc import Mapping

VIEWS: Mapping[str, str] = {
    "current_scores": """
        SELECT * FROM scores
        QUALIFY row_number() OVER (
            PARTITION BY run_id, task, metric, sample_id, response_index, draw ORDER BY seq DESC
        ) = 1
    """,
    "run_summary": """
        SELECT run_id, task, metric,
            count(*) FILTER (outcome = 'scored') AS n_scored,
            count(*) FILTER (outcome = 'error') AS n_error,
            count(*) AS n_total,
            count(DISTINCT sample_id) AS n_samples,
            avg(value) AS mean,
            stddev_samp(value) AS spread
        FROM current_scores GROUP BY run_id, task, metric
    """,
    "run_status": """
        SELECT r.run_id, r.model, r.suite, r.training_id, r.step, r.started_at,
            coalesce(e.event, 'unfinished') AS status, e.happened_at
        FROM runs r LEFT JOIN (
            SELECT run_id, arg_max(event, seq) AS event, max_by(happened_at, seq) AS happened_at
            FROM run_events GROUP BY run_id
        ) e USING (run_id)
    """,
    "rollbacks": """
        SELECT e.training_id, t.recipe, e.step AS failed_step, e.attempt,
            try_cast(e.detail ->> '$.to' AS INTEGER) AS back_to_step,
            e.detail ->> '$.why' AS why, e.detail ->> '$.remedy' AS remedy,
            from_json(e.detail -> '$.verdicts', '["VARCHAR"]') AS verdict_ids,
            e.happened_at, e.seq
        FROM training_events e LEFT JOIN trainings t USING (training_id)
        WHERE e.event = 'rolled_back'
    """,
    "line_history": """
        SELECT c.line, c.digest, c.event, c.actor, c.reason, c.verdict_id,
            v.outcome AS verdict, v.headline, c.run_id, c.training_id, c.step,
            c.happened_at, c.seq
        FROM checkpoints c LEFT JOIN verdicts v USING (verdict_id)
        WHERE c.event IN ('promoted', 'rolled_back')
    """,
    # A comment comes after its vote, as a row whose id is the vote's and `/comment`.
    "current_votes": """
        SELECT v.* REPLACE (coalesce(v.comment, c.comment) AS comment)
        FROM votes v LEFT JOIN votes c ON c.vote_id = v.vote_id || '/comment'
        WHERE v.choice NOT IN ('undo', 'skip', 'comment')
            AND NOT EXISTS (SELECT 1 FROM votes u WHERE u.undoes = v.vote_id)
    """,
    "counted_votes": """
        SELECT v.* FROM current_votes v
        WHERE NOT EXISTS (
            SELECT 1 FROM rating_sessions e
            WHERE e.event IN ('excluded', 'readmitted')
                AND e.session_id = v.session_id AND e.rater = v.rater
            GROUP BY e.session_id, e.rater HAVING arg_max(e.event, e.seq) = 'excluded'
        )
    """,
}

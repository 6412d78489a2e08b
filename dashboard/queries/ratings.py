"""Rating sessions and their votes, with the models' names."""

from __future__ import annotations

from harness.core.types import Row
from harness.store.store import Store


def rated(store: Store) -> list[Row]:
    """The newest 50 rating sessions with votes: {session_id, title, goal, anchor, votes}, the
    last used first. `goal` is the session's own budget of plain votes and `anchor` its digest;
    None where a session doesn't say.
    """
    return store.query(
        """
        SELECT v.session_id, any_value(c.title) AS title, any_value(c.goal) AS goal,
            any_value(c.anchor) AS anchor, count(*) AS votes
        FROM counted_votes v LEFT JOIN (
            SELECT session_id, arg_max(config ->> '$.rules.title', seq) AS title,
                arg_max(try_cast(config ->> '$.rules.votes' AS INTEGER), seq) AS goal,
                arg_max(config ->> '$.contenders[0].digest', seq) AS anchor
            FROM rating_sessions WHERE event = 'created' GROUP BY session_id
        ) c USING (session_id)
        GROUP BY v.session_id ORDER BY max(v.seq) DESC LIMIT 50
        """
    )


def votes(store: Store, session_id: str | None, limit: int = 50_000) -> list[Row]:
    """The newest votes of a session that count, with the models' names."""
    return store.query(
        """
        WITH named AS (SELECT model_digest, arg_max(model, seq) AS model FROM runs GROUP BY ALL)
        SELECT v.vote_id, v.rater, v.rater_kind, v.task, v.sample_id, v.dimension, v.choice,
            v.pair_id, coalesce(v.purpose, 'plain') AS purpose, v.dwell_ms, v.comment,
            coalesce(v.left_key, v.left_model) AS left_key,
            coalesce(v.right_key, v.right_model) AS right_key, v.left_model, v.right_model,
            coalesce(l.model, v.left_model[:12]) AS left_name,
            coalesce(r.model, v.right_model[:12]) AS right_name
        FROM counted_votes v LEFT JOIN named l ON l.model_digest = v.left_model
        LEFT JOIN named r ON r.model_digest = v.right_model
        WHERE v.session_id IS NOT DISTINCT FROM ? ORDER BY v.seq DESC LIMIT ?
        """,
        [session_id, limit],
    )

"""The tables of ratings: sessions, votes and questionnaires; `docs/store.md` shows them."""

from __future__ import annotations

from harness.store.schema import Table
from harness.store.schema import column as _c

TABLES: tuple[Table, ...] = (
    Table(
        "rating_sessions",
        "Rating sessions: how they were set up and what became of them.",
        (
            _c("session_id", "VARCHAR", "the session", required=True),
            _c(
                "event",
                "VARCHAR",
                "created, invited, revoked, consented, excluded, readmitted or closed",
                required=True,
            ),
            _c("rater", "VARCHAR", "the rater concerned, if one is"),
            _c("config", "JSON", "runs compared, overlap, gold, questionnaire, budget, consent"),
            _c("reason", "VARCHAR", "why"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "votes",
        "One blind comparison of two responses. An undo is a row too.",
        (
            _c(
                "vote_id", "VARCHAR", "given by the page: a replayed vote is ignored", required=True
            ),
            _c("session_id", "VARCHAR", "the session"),
            _c("rater", "VARCHAR", "the person's or judge's name"),
            _c("rater_kind", "VARCHAR", "human, reward_model or llm; never mixed silently"),
            _c("pair_id", "VARCHAR", "the pair that was shown"),
            _c("purpose", "VARCHAR", "plain, gold, repeat or swapped"),
            _c("task", "VARCHAR", "name of the task"),
            _c("sample_id", "VARCHAR", "the sample"),
            _c("left_key", "VARCHAR", "response shown on the left"),
            _c("right_key", "VARCHAR", "response shown on the right"),
            _c("left_model", "VARCHAR", "digest of the model on the left"),
            _c("right_model", "VARCHAR", "digest of the model on the right"),
            _c("choice", "VARCHAR", "left, right, tie, both_bad, skip, undo or comment"),
            _c("undoes", "VARCHAR", "the vote that an undo takes back"),
            _c("dimension", "VARCHAR", "what was asked"),
            _c("dwell_ms", "DOUBLE", "milliseconds the pair was visible, pauses left out"),
            _c("comment", "VARCHAR", "in the rater's words"),
            _c("voted_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("vote_id",),
    ),
    Table(
        "questionnaires",
        "One answer to one question about one response.",
        (
            _c("answer_id", "VARCHAR", "given by the page: a replay is ignored", required=True),
            _c("session_id", "VARCHAR", "the session"),
            _c("rater", "VARCHAR", "the person's or judge's name"),
            _c("rater_kind", "VARCHAR", "human, reward_model or llm"),
            _c("key", "VARCHAR", "the response"),
            _c("task", "VARCHAR", "name of the task"),
            _c("sample_id", "VARCHAR", "the sample"),
            _c("dimension", "VARCHAR", "relevance, fluency, safety, domain, stars, ..."),
            _c("value", "DOUBLE", "0 to 5; safety 0 or 1; stars 1 to 5"),
            _c("undoes", "VARCHAR", "the answer that this one takes back"),
            _c("dwell_ms", "DOUBLE", "milliseconds"),
            _c("comment", "VARCHAR", "in the rater's words"),
            _c("answered_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("answer_id",),
    ),
)

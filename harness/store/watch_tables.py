"""The tables of watching: observations, verdicts on them, and actions taken."""

from __future__ import annotations

from harness.store.schema import Table
from harness.store.schema import column as _c

TABLES: tuple[Table, ...] = (
    Table(
        "observations",
        "What production saw of a served model, masked before it was written.",
        (
            _c("observation_id", "VARCHAR", "a second row of one id is ignored", required=True),
            _c("line", "VARCHAR", "the line that served"),
            _c("model_digest", "VARCHAR", "the checkpoint that served"),
            _c(
                "conversation_id", "VARCHAR", "observations of one conversation are not independent"
            ),
            _c("prompt", "VARCHAR", "what was asked"),
            _c("response", "VARCHAR", "what was answered"),
            _c("retry_of", "VARCHAR", "the observation that this one asks again"),
            _c(
                "about",
                "VARCHAR",
                "the request that this row only adds feedback to; NULL: a request",
            ),
            _c("latency_s", "DOUBLE", "seconds"),
            _c("first_token_s", "DOUBLE", "seconds"),
            _c("input_tokens", "BIGINT", "tokens of the prompt"),
            _c("output_tokens", "BIGINT", "tokens of the answer"),
            _c("error", "VARCHAR", "kind of failure; NULL where it was answered"),
            _c("stars", "DOUBLE", "1 to 5"),
            _c("thumb", "INTEGER", "1 up, -1 down"),
            _c("comment", "VARCHAR", "the user's words"),
            _c("outcome", "VARCHAR", "completed, abandoned or corrected"),
            _c("corrected_text", "VARCHAR", "what the user made of the answer"),
            _c("masked", "INTEGER", "how many personal data were replaced before this was written"),
            _c("source", "VARCHAR", "file, plain or otlp: the form in which it came"),
            _c("detail", "JSON", "anything else that was sent"),
            _c("observed_at", "TIMESTAMP", "by the sender's clock, UTC"),
            _c("received_at", "TIMESTAMP", "by ours, UTC", now=True),
        ),
        key=("observation_id",),
        indexed=False,
    ),
    Table(
        "observation_signals",
        "The value of a signal that is costly to compute, for one observation.",
        (
            _c("observation_id", "VARCHAR", "the observation", required=True),
            _c("signal", "VARCHAR", "its name, as the policy has it", required=True),
            _c("signature", "VARCHAR", "how it was computed: a versioned name", required=True),
            _c("value", "DOUBLE", "in the signal's unit; NULL: not defined for this one"),
            _c("detail", "JSON", "what explains the value"),
            _c("measured_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("observation_id", "signal", "signature"),
    ),
    Table(
        "watch_verdicts",
        "Whether a served model keeps its promise, as it was known at one moment.",
        (
            _c("watch_id", "VARCHAR", "of this decision", required=True),
            _c("kind", "VARCHAR", "watch, breaker or canary", required=True),
            _c("line", "VARCHAR", "the line that is watched"),
            _c("model_digest", "VARCHAR", "the checkpoint that was judged"),
            _c("reference_digest", "VARCHAR", "the checkpoint or arm that it was compared with"),
            _c("policy_digest", "VARCHAR", "of the policy in force"),
            _c("outcome", "VARCHAR", "pass, fail or inconclusive", required=True),
            _c("observations", "BIGINT", "how many it rests on"),
            _c("window_from", "TIMESTAMP", "first moment that counted, UTC"),
            _c("window_to", "TIMESTAMP", "last moment that counted, UTC"),
            _c("signals", "JSON", "{signal: {outcome, value, low, high, reference, n, ...}}"),
            _c("state", "JSON", "what the next look goes on from"),
            _c("detail", "JSON", "anything else"),
            _c("decided_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("watch_id",),
    ),
    Table(
        "watch_actions",
        "What was done about a served model, or would have been.",
        (
            _c("action_id", "VARCHAR", "of this act", required=True),
            _c("watch_id", "VARCHAR", "the decision that it answers"),
            _c("line", "VARCHAR", "the line", required=True),
            _c("action", "VARCHAR", "rolled_back, ramped, held or told", required=True),
            _c("acted", "BOOLEAN", "false: a dry run, nothing was changed", required=True),
            _c("from_digest", "VARCHAR", "the checkpoint that served"),
            _c("to_digest", "VARCHAR", "the checkpoint that serves from then on"),
            _c("actor", "VARCHAR", "who ran it"),
            _c("reason", "VARCHAR", "in a sentence"),
            _c("detail", "JSON", "anything else"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("action_id",),
    ),
    Table(
        "harvested",
        "Answers from production that may become suite samples, rating pairs or training data.",
        (
            _c("item_id", "VARCHAR", "digest of kind and content", required=True),
            _c("kind", "VARCHAR", "sample or training: which side of the wall", required=True),
            _c("observation_id", "VARCHAR", "where it comes from", required=True),
            _c("model_digest", "VARCHAR", "the checkpoint that answered"),
            _c("reason", "VARCHAR", "low_rated, thumb_down, corrected, ..."),
            _c("item", "JSON", "{prompt, response, target, comment, stars}, masked"),
            _c("proposed_at", "TIMESTAMP", "UTC", now=True),
        ),
        key=("item_id",),
    ),
    Table(
        "harvest_reviews",
        "A person's yes or no to a harvested item; the last one counts.",
        (
            _c("item_id", "VARCHAR", "the item", required=True),
            _c("decision", "VARCHAR", "yes or no", required=True),
            _c("reviewer", "VARCHAR", "who decided", required=True),
            _c("item", "JSON", "the item as the person left it; NULL: unchanged"),
            _c("reason", "VARCHAR", "in the reviewer's words"),
            _c("reviewed_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
)

_ADDED_TO_OBSERVATIONS = (
    ("retry_of", "VARCHAR"),
    ("about", "VARCHAR"),
    ("first_token_s", "DOUBLE"),
    ("masked", "INTEGER"),
    ("source", "VARCHAR"),
)

MIGRATION: tuple[str, ...] = (
    *(
        f"ALTER TABLE observations ADD COLUMN IF NOT EXISTS {name} {type_}"
        for name, type_ in _ADDED_TO_OBSERVATIONS
    ),
    # Made anew, since DuckDB can't drop the index of a primary key.
    "CREATE TEMP TABLE observations_kept AS FROM observations",
    "DROP TABLE observations",
    TABLES[0].sql,
    "INSERT INTO observations BY NAME FROM observations_kept",
    "DROP TABLE observations_kept",
    *(
        table.sql.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
        for table in TABLES
        if table.name != "observations"
    ),
)
"""From version 4 to 5 of the schema."""

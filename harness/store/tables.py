"""Every table of the store; `docs/store.md` shows them.

All tables are appended to and never changed. All moments are UTC. JSON columns hold objects.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.store import rating_tables, watch_tables
from harness.store.schema import Table
from harness.store.schema import column as _c

VERSION = 8
"""Of the schema. Raised with an entry in MIGRATIONS whenever a table or view changes."""

MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    2: ("ALTER TABLE responses ADD COLUMN first_token_s DOUBLE",),
    3: ("DROP VIEW IF EXISTS current_votes",),  # made anew: comments come after their votes
    4: (
        "CREATE TABLE IF NOT EXISTS drifts (run_id VARCHAR NOT NULL, anchor_run VARCHAR NOT NULL, "
        "anchor_digest VARCHAR, task VARCHAR NOT NULL, measure VARCHAR NOT NULL, value DOUBLE, "
        "low DOUBLE, high DOUBLE, own DOUBLE, samples INTEGER, detail JSON, "
        "measured_at TIMESTAMP, seq BIGINT NOT NULL)",
    ),
    5: watch_tables.MIGRATION,
    6: (
        "CREATE TABLE IF NOT EXISTS run_notes (run_id VARCHAR NOT NULL, tags VARCHAR[], "
        "note VARCHAR, actor VARCHAR, noted_at TIMESTAMP, seq BIGINT NOT NULL)",
    ),
    7: (
        "CREATE TABLE IF NOT EXISTS attention_events (about VARCHAR NOT NULL, "
        "event VARCHAR NOT NULL, line VARCHAR, actor VARCHAR, owner VARCHAR, reason VARCHAR, "
        "until TIMESTAMP, happened_at TIMESTAMP, seq BIGINT NOT NULL)",
    ),
    8: (
        "ALTER TABLE responses ADD COLUMN IF NOT EXISTS asked VARCHAR",
        "ALTER TABLE responses ADD COLUMN IF NOT EXISTS prompt VARCHAR",
    ),
}
"""Statements that lead from version n - 1 to n, under the key n."""


TABLES: tuple[Table, ...] = (
    Table(
        "samples",
        "One item of a task as it was scored; one row per content of the task's data.",
        (
            _c("task_digest", "VARCHAR", "digest of the task's data and template", required=True),
            _c("task", "VARCHAR", "name of the task in its suite", required=True),
            _c("sample_id", "VARCHAR", "stable and unique within the task", required=True),
            _c(
                "cluster",
                "VARCHAR",
                "samples with one cluster are not independent; NULL: by itself",
            ),
            _c("language", "VARCHAR", "language of the sample, where the data names it"),
            _c("reserve", "BOOLEAN", "kept for later looks"),
            _c("fields", "JSON", "the row of data as it was read"),
            _c("prompt", "JSON", "rendered chat messages, a list of {role, content}"),
            _c("text", "VARCHAR", "the given text of a task that scores text"),
            _c("reference_texts", "VARCHAR[]", "rendered reference answers"),
        ),
        key=("task_digest", "sample_id"),
    ),
    Table(
        "responses",
        "What a model said to a sample: the cache, one row per content address. A row with an "
        "error makes room for a later answer.",
        (
            _c(
                "key",
                "VARCHAR",
                "content address; a second row of one key is ignored",
                required=True,
            ),
            _c("model_digest", "VARCHAR", "digest of the model's bytes"),
            _c("task", "VARCHAR", "name of the task"),
            _c("sample_id", "VARCHAR", "the sample that was answered"),
            _c("kind", "VARCHAR", "generation, text or reference"),
            _c("response_index", "INTEGER", "0 to K - 1 over the responses of one sample"),
            _c("draw", "INTEGER", "0 unless a fresh draw was asked for"),
            _c("text", "VARCHAR", "the words; empty where there is an error"),
            _c("token_ids", "INTEGER[]", "the words as token ids of the model's tokenizer"),
            _c(
                "logprobs",
                "DOUBLE[]",
                "ln p of each token given all before it, nats",
                infinite=True,
            ),
            _c("finish_reason", "VARCHAR", "stop, length or error"),
            _c("latency_s", "DOUBLE", "seconds from the request's start to its last token"),
            _c("first_token_s", "DOUBLE", "seconds to its first token; NULL where not measured"),
            _c("error", "VARCHAR", "why there is no answer; NULL where there is one"),
            _c("created_at", "TIMESTAMP", "when it was generated, UTC", now=True),
            _c(
                "asked",
                "VARCHAR",
                "what the model read: digest of its vocabulary, a colon, digest of the token ids; "
                "NULL where it isn't known",
            ),
            _c("prompt", "VARCHAR", "what it read, as text; of one sample per task, else NULL"),
        ),
        key=("key",),
        failure="error",
    ),
    Table(
        "run_responses",
        "Which responses a run stands on, found in the cache or made for it.",
        (
            _c("run_id", "VARCHAR", "the run", required=True),
            _c("key", "VARCHAR", "the response", required=True),
            _c("task", "VARCHAR", "name of the task"),
            _c("sample_id", "VARCHAR", "the sample"),
            _c("kind", "VARCHAR", "generation, text or reference"),
            _c("response_index", "INTEGER", "0 to K - 1"),
            _c("draw", "INTEGER", "0 unless a fresh draw was asked for"),
        ),
    ),
    Table(
        "runs",
        "One model scored on one suite. Its fingerprint is protocol, subject and provenance.",
        (
            _c("run_id", "VARCHAR", "the run", required=True),
            _c("model", "VARCHAR", "the model as the user named it"),
            _c("model_digest", "VARCHAR", "digest of the model's bytes"),
            _c("suite", "VARCHAR", "name of the suite"),
            _c("suite_path", "VARCHAR", "file of the suite"),
            _c("suite_digest", "VARCHAR", "digest of the suite's content"),
            _c("seed", "BIGINT", "seed of all sampling"),
            _c("sample_limit", "INTEGER", "samples per task at most; NULL: all"),
            _c("draw", "INTEGER", "0 unless fresh draws were asked for"),
            _c("training_id", "VARCHAR", "the training whose checkpoint this is, if any"),
            _c("step", "INTEGER", "that checkpoint's step, in optimizer steps"),
            _c("protocol", "JSON", "what must match for two runs to be compared"),
            _c("subject", "JSON", "what is being compared"),
            _c("provenance", "JSON", "versions, device, host: a difference warns"),
            _c("started_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "run_events",
        "What became of a run.",
        (
            _c("run_id", "VARCHAR", "the run", required=True),
            _c("event", "VARCHAR", "finished, failed, interrupted or rescored", required=True),
            _c("detail", "JSON", "counts, reason"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "scores",
        "One metric's evidence for one sample, or one response of it. A rescore appends again.",
        (
            _c("run_id", "VARCHAR", "the run", required=True),
            _c("task", "VARCHAR", "name of the task", required=True),
            _c("metric", "VARCHAR", "name of the metric", required=True),
            _c("sample_id", "VARCHAR", "the sample", required=True),
            _c("response_index", "INTEGER", "NULL where the metric needs all K responses at once"),
            _c("draw", "INTEGER", "draw of the response"),
            _c("outcome", "VARCHAR", "scored, error or unscored", required=True),
            _c("value", "DOUBLE", "in the metric's unit; NULL unless scored; always finite"),
            _c("reason", "VARCHAR", "why it is not scored"),
            _c("stats", "DOUBLE[]", "sufficient statistics, in the order the metric declares"),
            _c("cluster", "VARCHAR", "cluster of the sample"),
            _c("slice", "JSON", "always NULL: a sample's slices are read from its own fields"),
            _c("signature", "VARCHAR", "metric, version and options, as in rouge_l|v:1|tok:zh"),
            _c("scored_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "verdicts",
        "What the gate decided about a candidate, against its anchor or best checkpoint.",
        (
            _c("verdict_id", "VARCHAR", "the verdict", required=True),
            _c("outcome", "VARCHAR", "pass, fail, inconclusive or incomparable", required=True),
            _c(
                "against",
                "VARCHAR",
                "what it was compared with: anchor, crest (the best checkpoint), root, ...",
            ),
            _c("anchor_run", "VARCHAR", "run of the one compared with"),
            _c("candidate_run", "VARCHAR", "run of the one judged"),
            _c("training_id", "VARCHAR", "the training, if any"),
            _c("step", "INTEGER", "the checkpoint's step, in optimizer steps"),
            _c("look", "INTEGER", "place in the planned schedule of looks, from 1"),
            _c("looks", "INTEGER", "length of that schedule"),
            _c("headline", "VARCHAR", "what decided it, in one sentence"),
            _c("policy", "JSON", "the policy as applied"),
            _c("detail", "JSON", "everything else that the gate reported"),
            _c("decided_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "verdict_metrics",
        "One row per metric of a verdict.",
        (
            _c("verdict_id", "VARCHAR", "the verdict", required=True),
            _c("metric", "VARCHAR", "task/metric, with its slice if any", required=True),
            _c("required", "BOOLEAN", "false: advisory"),
            _c("outcome", "VARCHAR", "pass, fail, inconclusive or incomparable"),
            _c("arm", "VARCHAR", "the rule that decided"),
            _c("anchor", "DOUBLE", "the anchor's value, in the metric's unit"),
            _c("candidate", "DOUBLE", "the candidate's value, in the metric's unit"),
            _c("change", "DOUBLE", "candidate minus anchor, in the metric's unit"),
            _c("low", "DOUBLE", "lower end of the change's interval"),
            _c("high", "DOUBLE", "upper end of the change's interval"),
            _c("margin", "DOUBLE", "how much worse is allowed, as a share of the anchor"),
            _c("samples", "INTEGER", "samples that both runs have scored"),
            _c("detail", "JSON", "test statistics, samples that moved most"),
        ),
    ),
    Table(
        "trainings",
        "One execution of a recipe.",
        (
            _c("training_id", "VARCHAR", "the training", required=True),
            _c("recipe", "VARCHAR", "name of the recipe"),
            _c("recipe_digest", "VARCHAR", "digest of the recipe's content"),
            _c("line", "VARCHAR", "the line that it may be promoted to"),
            _c("base_digest", "VARCHAR", "digest of the base model"),
            _c("config", "JSON", "the recipe as it was run, defaults written out"),
            _c("started_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "training_events",
        "What happened in a training, in order of seq.",
        (
            _c("training_id", "VARCHAR", "the training", required=True),
            _c(
                "event",
                "VARCHAR",
                "started, resumed, checkpoint, verdict, rolled_back, crest, held, promoted, "
                "finished or interrupted",
                required=True,
            ),
            _c("step", "INTEGER", "optimizer steps so far"),
            _c("attempt", "INTEGER", "0, and one more after each roll back"),
            _c("detail", "JSON", "rolled_back: to (step), why, remedy, verdicts; others as fits"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "training_steps",
        "One optimizer step.",
        (
            _c("training_id", "VARCHAR", "the training", required=True),
            _c("step", "INTEGER", "optimizer step, from 1", required=True),
            _c("attempt", "INTEGER", "0, and one more after each roll back"),
            _c("loss", "DOUBLE", "nats per token"),
            _c("grad_norm", "DOUBLE", "before clipping"),
            _c("learning_rate", "DOUBLE", "as applied"),
            _c("epoch", "DOUBLE", "passes over the data so far"),
            _c("tokens", "BIGINT", "tokens seen so far"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "checkpoints",
        "Events of the registry: what was added, promoted, rolled back and pruned.",
        (
            _c("digest", "VARCHAR", "digest of the checkpoint's bytes", required=True),
            _c("event", "VARCHAR", "added, promoted, rolled_back or pruned", required=True),
            _c("line", "VARCHAR", "the line, for promoted and rolled_back"),
            _c("path", "VARCHAR", "folder, relative to the workspace"),
            _c("training_id", "VARCHAR", "the training that made it"),
            _c("step", "INTEGER", "its step, in optimizer steps"),
            _c("run_id", "VARCHAR", "the run that scored it"),
            _c("verdict_id", "VARCHAR", "the verdict that a promotion stands on"),
            _c("actor", "VARCHAR", "who did it"),
            _c("reason", "VARCHAR", "why, in words; an override's reason"),
            _c("detail", "JSON", "version of the line, previous digest, override"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "calibrations",
        "What a suite can see: a model scored twice, and simulation on its own scores.",
        (
            _c("calibration_id", "VARCHAR", "the calibration", required=True),
            _c("model_digest", "VARCHAR", "the model that was scored twice"),
            _c("suite", "VARCHAR", "name of the suite"),
            _c("suite_digest", "VARCHAR", "digest of the suite's content"),
            _c("runs", "VARCHAR[]", "the runs it stands on"),
            _c("policy", "JSON", "the policy that was simulated"),
            _c("false_rollback", "DOUBLE", "share of identical checkpoints rolled back, 0 to 1"),
            _c("detail", "JSON", "power per drop and metric, samples needed"),
            _c("calibrated_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    Table(
        "drifts",
        "How far a run's answers are from an anchor's, without labels. The last one counts.",
        (
            _c("run_id", "VARCHAR", "the run whose answers were read", required=True),
            _c("anchor_run", "VARCHAR", "the run they were compared with", required=True),
            _c("anchor_digest", "VARCHAR", "digest of the anchor's model, which read them"),
            _c("task", "VARCHAR", "name of the task", required=True),
            _c(
                "measure",
                "VARCHAR",
                "perplexity (of the answers under the anchor) or meaning (1 - cosine)",
                required=True,
            ),
            _c("value", "DOUBLE", "perplexity: 1 or more; meaning: 0 to 2"),
            _c("low", "DOUBLE", "lower end of its 95% interval over samples"),
            _c("high", "DOUBLE", "upper end"),
            _c("own", "DOUBLE", "the same of the anchor's own answers, where it can be had"),
            _c("samples", "INTEGER", "samples that were read"),
            _c("detail", "JSON", "samples left out, limit"),
            _c("measured_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    *rating_tables.TABLES,
    Table(
        "run_notes",
        "What people wrote down about a run. The last row of a run counts.",
        (
            _c("run_id", "VARCHAR", "the run", required=True),
            _c("tags", "VARCHAR[]", "all of its tags"),
            _c("note", "VARCHAR", "in their words; empty where there is none"),
            _c("actor", "VARCHAR", "who wrote it"),
            _c("noted_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
    *watch_tables.TABLES,
    Table(
        "attention_events",
        "What people said about what needs a human. The last of each event counts.",
        (
            _c(
                "about",
                "VARCHAR",
                "what it is about: incident:WATCH_ID, verdict:ID, training:ID, ...",
                required=True,
            ),
            _c(
                "event",
                "VARCHAR",
                "acknowledged, false_alarm, snoozed, owner, note or reopened",
                required=True,
            ),
            _c("line", "VARCHAR", "the line, where it is about one"),
            _c("actor", "VARCHAR", "who said it"),
            _c("owner", "VARCHAR", "who takes care of it from then on; for owner"),
            _c("reason", "VARCHAR", "in their words"),
            _c("until", "TIMESTAMP", "when it comes back, UTC; for snoozed"),
            _c("happened_at", "TIMESTAMP", "UTC", now=True),
        ),
    ),
)

BY_NAME: Mapping[str, Table] = {table.name: table for table in TABLES}

HOUSEKEEPING: tuple[str, ...] = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)",
    "CREATE TABLE store_order (next_seq BIGINT NOT NULL)",
    "INSERT INTO store_order VALUES (1)",
    "CREATE TABLE journals (journal VARCHAR PRIMARY KEY, drained_bytes BIGINT NOT NULL)",
    "CREATE TABLE journal_rejects "
    "(journal VARCHAR NOT NULL, byte_offset BIGINT NOT NULL, line VARCHAR, reason VARCHAR)",
)
"""Tables for the store's own use: its version, the next `seq`, which bytes of which journal are in,
and damaged lines."""

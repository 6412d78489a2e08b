"""An invented history of any size for the dashboard's benchmark, written by SQL into the file
itself: the store has no door for inventions. What the gate, a calibration and the watch say is
their own word, said once and copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

SUITE = "bench"
METRICS = ("alpha/match", "alpha/valid", "beta/match", "text/perplexity")
SAMPLES = 250
LANGUAGES = 5
ANSWERED = 40
"""Runs whose answers are there: as many as the drift view reads."""

VOTES = 50_000
STEPS = 100_000
CHECKPOINTS = 200
"""Of the one training, as many as a view reads; a fifth of all runs where there are fewer."""

COPIES = 1_000
"""Calibrations, and verdicts and actions of the watch."""

DAYS = 5
"""Over which the observations are spread, until now: Watch shows the last two of them."""

SIGNALS = ("errors", "completion", "satisfaction")
"""That the observations carry something of."""

LINE = "bot"
TRAINING = "long"


def fill(store: Any, runs: int, observations: int) -> None:
    """`runs` runs with all their scores, for the newest what the other views read, and
    `observations` of what was served.
    """
    store.drain()
    with _opened(store) as connection:
        _runs(connection, runs)
        _scores(connection)
    _rooms(store, runs)
    _verdicts(store, runs)
    _calibrations(store)
    _watch(store, observations)


@contextmanager
def _opened(store: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    with duckdb.connect(str(store.workspace.database)) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET memory_limit = '3GB'")
        yield connection
        connection.execute("CHECKPOINT")


def _protocol() -> dict[str, Any]:
    share = {
        "signature": "match|v:1",
        "direction": "higher",
        "scale": "ratio",
        "form": "mean",
        "unit": "share",
        "low": 0.0,
        "high": 1.0,
        "stats": [],
        "aggregate": None,
    }
    text = {
        **share,
        "signature": "perplexity|v:1",
        "direction": "lower",
        "form": "perplexity",
        "unit": "perplexity per token",
        "low": 1.0,
        "high": None,
        "stats": ["nll_nats", "tokens"],
    }
    protocol: dict[str, Any] = {}
    for name in METRICS:
        task, _, metric = name.partition("/")
        asks = {} if task == "text" else {"generate": {"responses": 1, "temperature": 0.8}}
        protocol.setdefault(task, {"data": task, **asks, "metrics": {}})
        protocol[task]["metrics"][metric] = text if metric == "perplexity" else share
    return protocol


def _runs(connection: duckdb.DuckDBPyConnection, runs: int) -> None:
    checkpoints = min(CHECKPOINTS, runs // 5)
    connection.execute(
        "INSERT INTO runs BY NAME SELECT md5(i::VARCHAR)[:16] AS run_id, 'model ' || i AS model, "
        "md5('d' || i) AS model_digest, $suite AS suite, '0' AS suite_digest, 0 AS seed, 0 AS draw,"
        "CASE WHEN i > $first AND i <= $first + $checkpoints THEN $training END AS training_id, "
        "CASE WHEN i > $first AND i <= $first + $checkpoints THEN (i - $first) * 500 END AS step, "
        "$protocol::JSON AS protocol, '{}'::JSON AS subject, '{}'::JSON AS provenance, "
        "TIMESTAMP '2026-01-01' + INTERVAL (i) MINUTE AS started_at, i AS seq "
        "FROM generate_series(1, $runs) g(i)",
        {
            "suite": SUITE,
            "training": TRAINING,
            "first": runs // 2,
            "checkpoints": checkpoints,
            "protocol": json.dumps(_protocol()),
            "runs": runs,
        },
    )
    connection.execute(
        "INSERT INTO run_events BY NAME SELECT run_id, 'finished' AS event, started_at AS "
        "happened_at, seq + ? AS seq FROM runs",
        [runs],
    )
    connection.execute("UPDATE store_order SET next_seq = 1000000000")


def _scores(connection: duckdb.DuckDBPyConnection) -> None:
    for number, name in enumerate(METRICS):
        task, _, metric = name.partition("/")
        value = "(hash(j, r.seq // 50) % 100 < 80)::INTEGER::DOUBLE"
        stats = "NULL::DOUBLE[]"
        if metric == "perplexity":
            nats = "(40.0 + hash(j, r.seq) % 1000 / 100.0)"
            value, stats = f"exp({nats} / 20.0)", f"[{nats}, 20.0]"
        connection.execute(
            "INSERT INTO scores BY NAME SELECT r.run_id, ? AS task, ? AS metric, 's' || j AS "
            "sample_id, 0 AS response_index, 0 AS draw, 'scored' AS outcome, "
            f"{value} AS value, {stats} AS stats, ? || '|v:1' AS signature, "
            "r.started_at AS scored_at, r.seq * 4000 + ? * 1000 + j AS seq "
            f"FROM runs r, generate_series(1, {SAMPLES}) g(j) ORDER BY r.seq",
            [task, metric, metric, number],
        )


def _rooms(store: Any, runs: int) -> None:
    """Samples by language, answers, votes, a training."""
    from dashboard.queries import history, sample_diff

    whole = history.run(store, history.runs_of(store, SUITE, None, 1)[0]["run_id"])
    assert whole is not None
    with _opened(store) as connection:
        for task in ("alpha", "beta"):
            connection.execute(
                "INSERT INTO samples BY NAME SELECT ? AS task_digest, ? AS task, 's' || j AS "
                "sample_id, 'language ' || j % ? AS language, "
                """'[{"role": "user", "content": "What is it?"}]'::JSON AS prompt, """
                "'{}'::JSON AS fields, j AS seq "
                f"FROM generate_series(1, {SAMPLES}) g(j)",
                [sample_diff.task_digest(whole, task), task, LANGUAGES],
            )
        _answers(connection, runs)
        connection.execute(
            "INSERT INTO votes BY NAME SELECT 'v' || i AS vote_id, 'session' AS session_id, "
            "'rater ' || i % 5 AS rater, 'human' AS rater_kind, 'p' || i % 20000 AS pair_id, "
            "'plain' AS purpose, 'alpha' AS task, 's' || i % 250 AS sample_id, "
            "md5('d' || 1 + i % 4) AS left_model, md5('d' || 1 + (i + 1 + i // 4 % 3) % 4) AS "
            "right_model, ['left', 'right', 'tie'][1 + (hash(i) % 3)::INTEGER] AS choice, "
            "'overall' AS dimension, 4000.0 AS dwell_ms, now()::TIMESTAMP AS voted_at, i AS seq "
            f"FROM generate_series(1, {VOTES}) g(i)"
        )
        connection.execute(
            "INSERT INTO trainings BY NAME SELECT ? AS training_id, 'bench' AS recipe, ? AS line, "
            "?::JSON AS config, now()::TIMESTAMP AS started_at, 1 AS seq",
            [TRAINING, LINE, json.dumps({"stages": [{"steps": 2 * STEPS}]})],
        )
        connection.execute(
            "INSERT INTO training_steps BY NAME SELECT ? AS training_id, i AS step, 1 AS "
            "attempt, 1.0 / i AS loss, 1.0 AS grad_norm, 1e-4 AS learning_rate, 0.0 AS epoch, "
            "i * 100 AS tokens, now()::TIMESTAMP AS happened_at, i AS seq "
            f"FROM generate_series(1, {STEPS}) g(i)",
            [TRAINING],
        )
        connection.execute(
            "INSERT INTO training_events BY NAME SELECT ? AS training_id, 'checkpoint' AS event, "
            "i * 100 AS step, 1 AS attempt, '{}'::JSON AS detail, now()::TIMESTAMP AS happened_at, "
            f"i AS seq FROM generate_series(1, {STEPS // 100}) g(i)",
            [TRAINING],
        )


def _answers(connection: duckdb.DuckDBPyConnection, runs: int) -> None:
    said = (
        "SELECT r.run_id, md5(r.run_id || j) AS key, 'alpha' AS task, 's' || j AS sample_id, "
        "'generation' AS kind, 0 AS response_index, 0 AS draw, r.seq * 1000 + j AS seq"
    )
    of = (
        f"FROM (SELECT run_id, seq FROM runs WHERE seq > {runs - ANSWERED} OR seq = 1) r, "
        f"generate_series(1, {SAMPLES}) g(j)"
    )
    connection.execute(f"INSERT INTO run_responses BY NAME {said} {of}")
    connection.execute(
        f"INSERT INTO responses BY NAME SELECT * EXCLUDE run_id, 'stop' AS finish_reason, "
        f"repeat('answer ' || seq || ' ', 40) AS text FROM ({said} {of})"
    )
    connection.execute(
        "INSERT INTO drifts BY NAME SELECT r.run_id, a.run_id AS anchor_run, 'alpha' AS task, "
        "unnest(['perplexity', 'meaning']) AS measure, 1.5 AS value, 1.4 AS low, 1.6 AS high, "
        "1.5 AS own, 200 AS samples, r.seq FROM runs r, runs a "
        f"WHERE r.seq > {runs - ANSWERED} AND a.seq = 1"
    )


def _verdicts(store: Any, runs: int) -> None:
    """One a run against the first one, which is promoted; the gate's own word of one of them."""
    from harness.comparison.stored_runs import decide_stored
    from harness.gate.policy import GatePolicy
    from harness.store.runs import require_run

    names = store.query(f"SELECT run_id FROM runs WHERE seq IN (1, {runs}) ORDER BY seq")
    anchor, last = (require_run(store, row["run_id"]) for row in names)
    decision = decide_stored(store, "anchor", anchor, last, GatePolicy())
    store.drain()
    with _opened(store) as connection:
        connection.execute(
            "INSERT INTO verdicts BY NAME SELECT v.* REPLACE ('v' || r.seq AS verdict_id, "
            "r.run_id AS candidate_run, r.started_at AS decided_at, r.seq AS seq) "
            "FROM verdicts v, runs r WHERE v.verdict_id = ? AND r.seq > 1",
            [decision.id],
        )
        connection.execute(
            "INSERT INTO checkpoints BY NAME SELECT model_digest AS digest, 'promoted' AS event, "
            "? AS line, run_id, 'bench' AS actor, '{\"version\": 1}'::JSON AS detail, "
            "started_at AS happened_at, seq FROM runs WHERE seq = 1",
            [LINE],
        )


def _calibrations(store: Any) -> None:
    from harness.comparison.calibrations import keep_calibration
    from harness.comparison.evidence import metric_scores
    from harness.gate.calibration import calibrate
    from harness.gate.policy import GatePolicy
    from harness.store.runs import require_run

    names = store.query("SELECT run_id FROM runs WHERE seq <= 2 ORDER BY seq")
    sides = [require_run(store, row["run_id"]) for row in names]
    scores = [metric_scores(store, side) for side in sides]
    found = calibrate(scores[0], scores[1], GatePolicy(), trials=20, run_length=5)
    name = keep_calibration(store, found, GatePolicy(), sides)
    _copied(store, "calibrations", "calibration_id", name)


def _watch(store: Any, observations: int) -> None:
    """Traffic of three lines, and what was made of it and done."""
    from tests.harness.watch.watch_builders import verdict_on

    verdict = verdict_on("d" * 64, line=LINE, watch_id="w")
    signals = tuple(replace(verdict.signals[0], signal=name) for name in SIGNALS)
    verdict = replace(verdict, signals=signals)
    store.append("watch_verdicts", [verdict.row()])
    action = {"action_id": "a", "watch_id": "w", "line": LINE, "action": "rolled_back"}
    store.append("watch_actions", [{**action, "acted": True, "reason": "thumbs went down"}])
    _copied(store, "watch_verdicts", "watch_id", "w")
    _copied(store, "watch_actions", "action_id", "a")
    apart_us = DAYS * 86_400_000_000 / observations
    with _opened(store) as connection:
        connection.execute(
            f"""
            INSERT INTO observations BY NAME SELECT 'o' || i AS observation_id,
                CASE WHEN hash(i) % 10 < 8 THEN '{LINE}' ELSE 'line ' || hash(i) % 2 END AS line,
                repeat(md5((i % 2)::VARCHAR), 2) AS model_digest, 'c' || i // 3 AS conversation_id,
                'Where is my order?' AS prompt, 'It is on its way. ' || i AS response,
                0.2 + (hash(i * 3) % 10000) / 5000.0 AS latency_s,
                0.05 + (hash(i * 5) % 1000) / 5000.0 AS first_token_s,
                20 AS input_tokens, 40 + (hash(i) % 200)::BIGINT AS output_tokens,
                CASE WHEN hash(i * 11) % 100 = 0 THEN 'timeout' END AS error,
                CASE WHEN hash(i * 13) % 20 = 0 THEN 1 + (hash(i * 17) % 5)::DOUBLE END AS stars,
                CASE WHEN hash(i * 19) % 4 = 0 THEN 'completed' END AS outcome, 'plain' AS source,
                now()::TIMESTAMP - to_microseconds((({observations} - i) * {apart_us})::BIGINT)
                    AS observed_at,
                observed_at AS received_at, 100000000 + i AS seq
            FROM range({observations}) t(i)
            """
        )


def _copied(store: Any, table: str, key: str, value: str) -> None:
    """The one row of that key again under other names, so that there are COPIES of it."""
    store.drain()
    with _opened(store) as connection:
        connection.execute(
            f"INSERT INTO {table} BY NAME SELECT t.* REPLACE ('{value}' || i AS {key}, "
            f"t.seq - {COPIES} + i AS seq) FROM {table} t, range(1, {COPIES}) g(i) "
            f"WHERE t.{key} = ?",
            [value],
        )

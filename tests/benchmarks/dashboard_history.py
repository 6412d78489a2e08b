"""An invented history of any size for the dashboard's benchmark, written by SQL into the file
itself: the store has no door for inventions.
"""

from __future__ import annotations

import json
from typing import Any

SUITE = "bench"
METRICS = ("alpha/match", "alpha/valid", "beta/match", "beta/valid")
SAMPLES = 250
LANGUAGES = 5
ANSWERED = 40
"""Runs whose answers are there: as many as the drift view reads."""

VOTES = 50_000
STEPS = 100_000
LINE = "bot"


def fill(store: Any, runs: int) -> None:
    """`runs` runs with all their scores, and for the newest what the other views read."""
    _scores(store, runs)
    _rooms(store, runs)
    _verdicts(store, runs)


def _scores(store: Any, runs: int) -> None:
    import duckdb

    store.drain()
    says = {
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
    protocol: dict[str, Any] = {}
    for name in METRICS:
        task, _, metric = name.partition("/")
        protocol.setdefault(task, {"data": task, "generate": {"responses": 1}, "metrics": {}})
        protocol[task]["metrics"][metric] = says
    with duckdb.connect(str(store.workspace.database)) as connection:
        connection.execute(
            "INSERT INTO runs BY NAME SELECT md5(i::VARCHAR)[:16] AS run_id, "
            "'model ' || i AS model, "
            "md5('d' || i) AS model_digest, ? AS suite, '0' AS suite_digest, 0 AS seed, 0 AS draw, "
            "?::JSON AS protocol, '{}'::JSON AS subject, '{}'::JSON AS provenance, "
            "TIMESTAMP '2026-01-01' + INTERVAL (i) MINUTE AS started_at, i AS seq "
            "FROM generate_series(1, ?) g(i)",
            [SUITE, json.dumps(protocol), runs],
        )
        connection.execute(
            "INSERT INTO run_events BY NAME SELECT run_id, 'finished' AS event, started_at AS "
            "happened_at, seq + ? AS seq FROM runs",
            [runs],
        )
        for number, name in enumerate(METRICS):
            task, _, metric = name.partition("/")
            connection.execute(
                "INSERT INTO scores BY NAME SELECT r.run_id, ? AS task, ? AS metric, 's' || j AS "
                "sample_id, 0 AS response_index, 0 AS draw, 'scored' AS outcome, "
                "(hash(j, r.seq // 50) % 100 < 80)::INTEGER::DOUBLE AS value, 'match|v:1' AS "
                "signature, r.started_at AS scored_at, r.seq * 4000 + ? * 1000 + j AS seq "
                f"FROM runs r, generate_series(1, {SAMPLES}) g(j) ORDER BY r.seq",
                [task, metric, number],
            )
        connection.execute("SET enable_progress_bar = false")
        connection.execute("UPDATE store_order SET next_seq = 1000000000")
        connection.execute("CHECKPOINT")


def _rooms(store: Any, runs: int) -> None:
    """Samples by language, answers, votes, a training, calibrations."""
    import duckdb

    from dashboard import comparing, queries

    (whole,) = [queries.run(store, queries.runs_of(store, SUITE, None, 1)[0]["run_id"])]
    assert whole is not None
    digests = [(task, comparing.task_digest(whole, task)) for task in ("alpha", "beta")]
    with duckdb.connect(str(store.workspace.database)) as connection:
        for task, digest in digests:
            connection.execute(
                "INSERT INTO samples BY NAME SELECT ? AS task_digest, ? AS task, 's' || j AS "
                "sample_id, 'language ' || j % ? AS language, '[]'::JSON AS prompt, "
                "'{}'::JSON AS fields, j AS seq "
                f"FROM generate_series(1, {SAMPLES}) g(j)",
                [digest, task, LANGUAGES],
            )
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
            "INSERT INTO votes BY NAME SELECT 'v' || i AS vote_id, 'session' AS session_id, "
            "'rater ' || i % 5 AS rater, 'human' AS rater_kind, 'p' || i % 20000 AS pair_id, "
            "'plain' AS purpose, 'alpha' AS task, 's' || i % 250 AS sample_id, "
            "md5('d' || 1 + i % 4) AS left_model, md5('d' || 1 + (i + 1 + i // 4 % 3) % 4) AS "
            "right_model, ['left', 'right', 'tie'][1 + (hash(i) % 3)::INTEGER] AS choice, "
            "'overall' AS dimension, 4000.0 AS dwell_ms, now()::TIMESTAMP AS voted_at, i AS seq "
            f"FROM generate_series(1, {VOTES}) g(i)"
        )
        connection.execute(
            "INSERT INTO trainings BY NAME SELECT 'long' AS training_id, 'bench' AS recipe, "
            "'{}'::JSON AS config, now()::TIMESTAMP AS started_at, 1 AS seq"
        )
        connection.execute(
            "INSERT INTO training_steps BY NAME SELECT 'long' AS training_id, i AS step, 1 AS "
            "attempt, 1.0 / i AS loss, 1.0 AS grad_norm, 1e-4 AS learning_rate, 0.0 AS epoch, "
            "i * 100 AS tokens, now()::TIMESTAMP AS happened_at, i AS seq "
            f"FROM generate_series(1, {STEPS}) g(i)"
        )
        connection.execute(
            "INSERT INTO calibrations BY NAME SELECT 'c' || i AS calibration_id, ? AS suite, 0.01 "
            "AS false_rollback, '{}'::JSON AS detail, now()::TIMESTAMP AS calibrated_at, i AS seq "
            "FROM generate_series(1, 1000) g(i)",
            [SUITE],
        )
        connection.execute("CHECKPOINT")


def _verdicts(store: Any, runs: int) -> None:
    """One a run against the first one, which is blessed; the gate's own word of one of them."""
    import duckdb

    from harness.policy import GatePolicy
    from harness.runs import require_run
    from harness.stored import decide_stored

    names = store.query(f"SELECT run_id FROM runs WHERE seq IN (1, {runs}) ORDER BY seq")
    anchor, last = (require_run(store, row["run_id"]) for row in names)
    decision = decide_stored(store, "anchor", anchor, last, GatePolicy())
    with duckdb.connect(str(store.workspace.database)) as connection:
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
        connection.execute("CHECKPOINT")

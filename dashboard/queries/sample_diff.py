"""Two runs compared sample by sample: which were fixed, which regressed, and both answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.escape import SHOWN_CHARACTERS
from harness.core.protocol import MetricName, tasks_of
from harness.core.types import Row
from harness.store.store import Store

KINDS = ("regressed", "fixed", "same")
NOISE = 1e-9
"""Differences in the last digits are rounding."""

ANSWERS = 16
"""Answers of one sample and one run that a page shows at most."""

_PAIRS = """
    WITH answered AS (
        SELECT run_id, sample_id, avg(value) AS value, first(stats ORDER BY response_index) AS stats
        FROM current_scores WHERE run_id IN (?, ?) AND task = ? AND metric = ?
        GROUP BY run_id, sample_id HAVING count(value) > 0
    ),
    pairs AS (
        SELECT a.sample_id, a.value AS a, b.value AS b, (b.value - a.value) * ? AS gain,
            CASE WHEN gain < -? THEN 'regressed' WHEN gain > ? THEN 'fixed' ELSE 'same' END AS kind
        FROM answered a JOIN answered b USING (sample_id) WHERE a.run_id = ? AND b.run_id = ?
    )
"""


def _params(a: str, b: str, metric: str, says: Mapping[str, Any]) -> list[Any]:
    name = MetricName.parse(metric)
    sign = 1.0 if says["direction"] == "higher" else -1.0
    return [a, b, name.task, name.metric, sign, NOISE, NOISE, a, b]


def tally(store: Store, a: str, b: str, metric: str, says: Mapping[str, Any]) -> dict[str, int]:
    """How many samples regressed, were fixed and stayed, from run `a` to run `b`."""
    rows = store.query(
        f"{_PAIRS} SELECT kind, count(*) AS n FROM pairs GROUP BY kind", _params(a, b, metric, says)
    )
    found = {row["kind"]: row["n"] for row in rows}
    return {kind: found.get(kind, 0) for kind in KINDS}


def pairs(
    store: Store,
    a: str,
    b: str,
    metric: str,
    says: Mapping[str, Any],
    kind: str | None = None,
    offset: int = 0,
    limit: int = 10,
) -> list[Row]:
    """One page of samples, the one that lost most first: {sample_id, a, b, gain, kind}."""
    order = "ORDER BY gain DESC, sample_id" if kind == "fixed" else "ORDER BY gain, sample_id"
    where = "WHERE kind = ?" if kind else ""
    return store.query(
        f"{_PAIRS} SELECT * FROM pairs {where} {order} LIMIT ? OFFSET ?",
        [*_params(a, b, metric, says), *([kind] if kind else []), limit, offset],
    )


def tallies(store: Store, a: str, b: str) -> list[Row]:
    """For every metric that both have: samples with a higher, a lower and the same value."""
    return store.query(
        """
        WITH answered AS (
            SELECT run_id, task, metric, sample_id, avg(value) AS value FROM current_scores
            WHERE run_id IN (?, ?) GROUP BY ALL HAVING count(value) > 0
        )
        SELECT a.task || '/' || a.metric AS metric, count(*) AS samples,
            count(*) FILTER (b.value > a.value + ?) AS higher,
            count(*) FILTER (b.value < a.value - ?) AS lower,
            avg(a.value) AS a, avg(b.value) AS b
        FROM answered a JOIN answered b USING (task, metric, sample_id)
        WHERE a.run_id = ? AND b.run_id = ? GROUP BY ALL ORDER BY metric LIMIT 500
        """,
        [a, b, NOISE, NOISE, a, b],
    )


def task_digest(run: Row, task: str) -> str:
    """The digest under which a task's samples lie."""
    return tasks_of(run["protocol"])[task].digest


def sample(store: Store, digest: str, sample_id: str) -> Row | None:
    """What was asked, and the references; texts are cut where they are too long to show."""
    rows = store.query(
        f"""
        SELECT sample_id, language, cluster, reserve,
            left(text, {SHOWN_CHARACTERS}) AS text,
            list_transform(reference_texts[:5], lambda t:
                left(t, {SHOWN_CHARACTERS})) AS reference_texts,
            list_transform(from_json(prompt, '["JSON"]')[:20], lambda m:
                {{'role': m ->> '$.role',
                  'content': left(m ->> '$.content', {SHOWN_CHARACTERS})}}) AS prompt
        FROM samples WHERE task_digest = ? AND sample_id = ? LIMIT 1
        """,
        [digest, sample_id],
    )
    return rows[0] if rows else None


def answers(store: Store, run_id: str, task: str, sample_id: str) -> list[Row]:
    """What a run said to a sample: its generations, each cut where it is too long to show."""
    return store.query(
        f"""
        SELECT r.response_index, r.draw, left(r.text, {SHOWN_CHARACTERS}) AS text,
            length(r.text) AS characters, r.finish_reason, r.latency_s, r.error, r.kind
        FROM run_responses l JOIN responses r USING (key)
        WHERE l.run_id = ? AND l.task = ? AND l.sample_id = ? AND l.kind = 'generation'
        ORDER BY r.draw, r.response_index LIMIT {ANSWERS}
        """,
        [run_id, task, sample_id],
    )

"""Two runs compared sample by sample: which were fixed, which regressed, and both answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.comparison.asked import Asked, compare_asked
from harness.core.escape import SHOWN_CHARACTERS
from harness.core.protocol import MetricName, tasks_of
from harness.core.types import Row
from harness.store.runs import find_run
from harness.store.store import Store
from harness.suite.answers import AnswerModel

KINDS = ("regressed", "fixed", "same")
NOISE = 1e-9
"""Differences in the last digits are rounding."""

PARTS = ("language", "cluster")
SLICES = 50
SEARCHED = 4_000
"""Characters of a question or an answer that a search looks at."""

ANSWERS = 16
"""Answers of one sample and one run that a page shows at most."""

LEAST = 0.05
"""A sample moved where it did so by more than this share of A's mean, as the gate's margin."""

_MOVED = f"greatest({NOISE}, {LEAST} * abs(avg(a.value) OVER ({{over}})))"

_PAIRS = f"""
    WITH answered AS (
        SELECT run_id, sample_id, avg(value) AS value, first(stats ORDER BY response_index) AS stats
        FROM current_scores WHERE run_id IN (?, ?) AND task = ? AND metric = ?
        GROUP BY run_id, sample_id HAVING count(value) > 0
    ),
    pairs AS (
        SELECT a.sample_id, a.value AS a, b.value AS b, (b.value - a.value) * ? AS gain,
            {_MOVED.format(over="")} AS least,
            CASE WHEN gain < -least THEN 'regressed' WHEN gain > least THEN 'fixed' ELSE 'same' END
                AS kind
        FROM answered a JOIN answered b USING (sample_id) WHERE a.run_id = ? AND b.run_id = ?
    )
"""


def _params(a: str, b: str, metric: str, says: Mapping[str, Any]) -> list[Any]:
    name = MetricName.parse(metric)
    sign = 1.0 if says["direction"] == "higher" else -1.0
    return [a, b, name.task, name.metric, sign, a, b]


def tally(store: Store, a: str, b: str, metric: str, says: Mapping[str, Any]) -> dict[str, int]:
    """How many samples regressed, were fixed and stayed, from run `a` to run `b`."""
    rows = store.query(
        f"{_PAIRS} SELECT kind, count(*) AS n FROM pairs GROUP BY kind", _params(a, b, metric, says)
    )
    found = {row["kind"]: row["n"] for row in rows}
    return {kind: found.get(kind, 0) for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which samples a list holds: of a kind, of a slice (`language` or `cluster` and its value),
    and with a text in their id, question, references or either answer.
    """

    kind: str | None = None
    slice: tuple[str, str] | None = None
    text: str = ""


def pairs(
    store: Store,
    a: str,
    b: str,
    metric: str,
    says: Mapping[str, Any],
    digest: str,
    filters: Filters = Filters(),
    offset: int = 0,
    limit: int = 100,
) -> list[Row]:
    """One page of samples, the one that lost most first: {sample_id, a, b, gain, kind, language,
    cluster, line, total}. `line` is how B's answer begins, `total` how many there are in all.
    """
    where, params = ["TRUE"], []
    if filters.kind:
        where.append("kind = ?")
        params.append(filters.kind)
    if filters.slice:
        where.append(f"{PARTS[PARTS.index(filters.slice[0])]} = ?")
        params.append(filters.slice[1])
    if filters.text:
        where.append("contains(lower(concat_ws(' ', sample_id, asked, said_a, said_b)), lower(?))")
        params.append(filters.text)
    order = "gain DESC" if filters.kind == "fixed" else "gain"
    name = MetricName.parse(metric)
    return store.query(
        f"""
        {_PAIRS},
        said AS (
            SELECT l.run_id, l.sample_id, string_agg(left(r.text, {SEARCHED}), ' ') AS texts,
                first(r.text ORDER BY r.draw, r.response_index) AS text
            FROM run_responses l JOIN responses r USING (key)
            WHERE l.run_id IN (?, ?) AND l.task = ? AND l.kind = 'generation' GROUP BY ALL
        ),
        asked AS (
            SELECT sample_id, language, cluster, concat_ws(' ', left(text, {SEARCHED}),
                left(prompt::VARCHAR, {SEARCHED}), array_to_string(reference_texts[:5], ' '))
                AS asked, text
            FROM samples WHERE task_digest = ?
        ),
        listed AS (
            SELECT p.*, q.language, q.cluster, q.asked, x.texts AS said_a, y.texts AS said_b,
                left(trim(coalesce(y.text, q.text, '')), 120) AS line
            FROM pairs p LEFT JOIN asked q USING (sample_id)
            LEFT JOIN said x ON x.run_id = ? AND x.sample_id = p.sample_id
            LEFT JOIN said y ON y.run_id = ? AND y.sample_id = p.sample_id
        )
        SELECT sample_id, a, b, gain, kind, language, cluster, line, count(*) OVER () AS total
        FROM listed WHERE {" AND ".join(where)} ORDER BY {order}, sample_id LIMIT ? OFFSET ?
        """,
        [*_params(a, b, metric, says), a, b, name.task, digest, a, b, *params, limit, offset],
    )


def others(store: Store, a: str, b: str, task: str, sample_id: str) -> list[Row]:
    """What every metric of a task says of one sample: {metric, a, b}."""
    return store.query(
        "SELECT metric, avg(value) FILTER (run_id = ?) AS a, avg(value) FILTER (run_id = ?) AS b "
        "FROM current_scores WHERE run_id IN (?, ?) AND task = ? AND sample_id = ? "
        "GROUP BY metric ORDER BY metric LIMIT 50",
        [a, b, a, b, task, sample_id],
    )


def slices(store: Store, digest: str) -> list[Row]:
    """Languages and clusters of a task with how many samples each has: {part, value, samples}.

    Clusters only where there are few enough to choose among.
    """
    return store.query(
        f"""
        WITH parts AS (
            SELECT 'language' AS part, language AS value, count(*) AS samples FROM samples
            WHERE task_digest = ? AND language IS NOT NULL GROUP BY language
            UNION ALL
            SELECT 'cluster', cluster, count(*) FROM samples
            WHERE task_digest = ? AND cluster IS NOT NULL GROUP BY cluster
        )
        SELECT * FROM parts QUALIFY count(*) OVER (PARTITION BY part) BETWEEN 2 AND {SLICES}
        ORDER BY part DESC, samples DESC, value
        """,
        [digest, digest],
    )


def slice_of(store: Store, digest: str, part: str, value: str) -> Row | None:
    """One slice as in `slices`, also of a part with more of them than can be chosen among."""
    if part not in PARTS:
        return None
    counted = f"SELECT count(*) AS samples FROM samples WHERE task_digest = ? AND {part} = ?"
    (row,) = store.query(counted, [digest, value])
    return {"part": part, "value": value, **row} if row["samples"] else None


def tallies(store: Store, a: str, b: str) -> list[Row]:
    """For every metric that both have: samples with a higher, a lower and about the same value."""
    return store.query(
        f"""
        WITH answered AS (
            SELECT run_id, task, metric, sample_id, avg(value) AS value FROM current_scores
            WHERE run_id IN (?, ?) GROUP BY ALL HAVING count(value) > 0
        ),
        pairs AS (
            SELECT task || '/' || metric AS metric, a.value AS a, b.value AS b,
                {_MOVED.format(over="PARTITION BY task, metric")} AS least
            FROM answered a JOIN answered b USING (task, metric, sample_id)
            WHERE a.run_id = ? AND b.run_id = ?
        )
        SELECT metric, count(*) AS samples, count(*) FILTER (b > a + least) AS higher,
            count(*) FILTER (b < a - least) AS lower, avg(a) AS a, avg(b) AS b
        FROM pairs GROUP BY ALL ORDER BY metric LIMIT 500
        """,
        [a, b, a, b],
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
    """What a run said to a sample: its generations, each cut where it is too long to show. `read`
    is what the suite's filters leave of it to be scored; None where they leave all, or there are
    none.
    """
    rows = store.query(
        f"""
        SELECT r.response_index, r.draw, left(r.text, {SHOWN_CHARACTERS}) AS text, r.text AS whole,
            length(r.text) AS characters, r.finish_reason, r.latency_s, r.error, r.kind
        FROM run_responses l JOIN responses r USING (key)
        WHERE l.run_id = ? AND l.task = ? AND l.sample_id = ? AND l.kind = 'generation'
        ORDER BY r.draw, r.response_index LIMIT {ANSWERS}
        """,
        [run_id, task, sample_id],
    )
    run = find_run(store, run_id)
    declared = None if run is None else tasks_of(run.fingerprint.protocol).get(task)
    filters = None if declared is None else declared.fields.get("answer")
    for row in rows:
        whole = row.pop("whole")
        read = AnswerModel(**filters).read(whole).text if filters else whole
        row["read"] = None if read == whole else read[:SHOWN_CHARACTERS]
    return rows


def asked(store: Store, a: str, b: str) -> Asked:
    """Whether both models read the same: why the gate calls them incomparable, or its note."""
    sides = [find_run(store, run_id) for run_id in (a, b)]
    if sides[0] is None or sides[1] is None:
        return Asked((), None)
    return compare_asked(store, sides[0], sides[1])

"""How answers changed, without labels: length, refusals, language, wording, and measured drift."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard.queries.change_points import Trigrams, chinese_share, distance, trigrams
from harness.core.types import Row
from harness.statistics.intervals import Estimate, t_interval, wilson
from harness.store.store import Store

TEXTS = 200
"""Answers of one run that are read for refusals, language and wording: a fixed, even choice."""

LETTERS = 2_000
"""Characters of an answer that are read."""


def lengths(store: Store, run_ids: Sequence[str], task: str) -> dict[str, Row]:
    """Run -> its answers' mean length in characters with interval, and the shares that were cut,
    empty and failed. Over all answers; samples are the unit.
    """
    if not run_ids:
        return {}
    places = ", ".join("?" * len(run_ids))
    rows = store.query(
        f"""
        WITH answered AS (
            SELECT l.run_id, l.sample_id, avg(length(r.text)) AS characters,
                count(*) AS answers,
                count(*) FILTER (r.finish_reason = 'length') AS cut,
                count(*) FILTER (r.error IS NULL AND length(trim(r.text)) = 0) AS empty,
                count(*) FILTER (r.error IS NOT NULL) AS failed
            FROM run_responses l JOIN responses r USING (key)
            WHERE l.run_id IN ({places}) AND l.task = ? AND l.kind = 'generation'
            GROUP BY l.run_id, l.sample_id
        )
        SELECT run_id, list(characters ORDER BY sample_id) AS characters,
            sum(answers)::BIGINT AS answers, sum(cut)::BIGINT AS cut,
            sum(empty)::BIGINT AS empty, sum(failed)::BIGINT AS failed
        FROM answered GROUP BY run_id
        """,
        [*run_ids, task],
    )
    return {row["run_id"]: {**row, "length": _mean(row["characters"])} for row in rows}


def _mean(lengths: Sequence[float]) -> Estimate:
    return Estimate.of(sum(lengths) / len(lengths), t_interval(lengths), len(lengths))


def texts(store: Store, run_ids: Sequence[str], task: str) -> dict[str, list[str]]:
    """Run -> the beginnings of at most TEXTS of its answers, the same samples for every run."""
    if not run_ids:
        return {}
    places = ", ".join("?" * len(run_ids))
    rows = store.query(
        f"""
        SELECT l.run_id, left(r.text, {LETTERS}) AS text
        FROM run_responses l JOIN responses r USING (key)
        WHERE l.run_id IN ({places}) AND l.task = ? AND l.kind = 'generation' AND r.error IS NULL
        QUALIFY row_number() OVER (PARTITION BY l.run_id
            ORDER BY hash(l.sample_id), l.sample_id, l.draw, l.response_index) <= {TEXTS}
        """,
        [*run_ids, task],
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["run_id"], []).append(row["text"])
    return found


def wordings(
    store: Store, run_ids: Sequence[str], anchor_run: str, task: str
) -> dict[str, dict[str, Estimate]]:
    """Run -> `wording` of its answers against the anchor's, for the runs that have any and for
    the anchor, whose distance is 0. The texts themselves are let go of.
    """
    said = texts(store, list(dict.fromkeys([*run_ids, anchor_run])), task)
    anchor = trigrams(said.get(anchor_run, ()))
    return {run: wording(answers, anchor) for run, answers in said.items()}


def wording(said: Sequence[str], anchor: Trigrams) -> dict[str, Estimate]:
    """Shares of refusals and of Chinese answers, and the distance of wording to the anchor's."""
    from harness.metrics.refusal import refuses

    n = len(said)
    if n == 0:
        return {}
    return {
        "refusals": wilson(sum(refuses(text) for text in said), n),
        # Without an interval: the suite's own questions settle most of it, not chance.
        "Chinese": Estimate(sum(chinese_share(text) > 0.5 for text in said) / n, None, None, n),
        "wording": Estimate(distance(trigrams(said), anchor), None, None, n),
    }


def measured(store: Store, anchor_run: str, run_ids: Sequence[str], task: str) -> list[Row]:
    """What `ratchet drift` kept of these runs against that anchor: the last of each measure."""
    if not run_ids:
        return []
    places = ", ".join("?" * len(run_ids))
    return store.query(
        f"""
        SELECT run_id, measure, value, low, high, own, samples FROM drifts
        WHERE anchor_run = ? AND task = ? AND run_id IN ({places})
        QUALIFY row_number() OVER (PARTITION BY run_id, measure ORDER BY seq DESC) = 1
        ORDER BY seq
        """,
        [anchor_run, task, *run_ids],
    )

"""The table of runs: found by text or tag, with their notes, and the settings of some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core.types import Row
from harness.store.store import Store

PAGE = 50

_NOTES = """
    notes AS (
        SELECT run_id, arg_max(tags, seq) AS tags, arg_max(note, seq) AS note FROM run_notes
        GROUP BY run_id
    )
"""


def runs(
    store: Store, suite: str, text: str = "", tag: str | None = None, offset: int = 0
) -> list[Row]:
    """One page of a suite's runs, the newest first, each with its note and its worst verdict.

    `text` is looked for in the model's name, the ids, the recipe, the tags and the note.
    """
    return store.query(
        f"""
        WITH {_NOTES},
        listed AS (
            SELECT r.run_id, r.model, r.model_digest, r.training_id, r.step, r.started_at, r.seq,
                t.recipe, coalesce(n.tags, []) AS tags, coalesce(n.note, '') AS note
            FROM runs r LEFT JOIN trainings t USING (training_id) LEFT JOIN notes n USING (run_id)
            WHERE r.suite = ? AND coalesce(r.draw, 0) = 0
        ),
        chosen AS (
            SELECT *, count(*) OVER () AS total FROM listed
            WHERE (?::VARCHAR IS NULL OR list_contains(tags, ?))
            AND contains(lower(concat_ws(' ', run_id, model, training_id, recipe, note,
                array_to_string(tags, ' '))), lower(?))
            ORDER BY seq DESC LIMIT {PAGE} OFFSET ?
        ),
        judged AS (
            SELECT v.candidate_run AS run_id, v.verdict_id, v.outcome, v.anchor_run
            FROM verdicts v SEMI JOIN chosen c ON c.run_id = v.candidate_run
            QUALIFY row_number() OVER (PARTITION BY v.candidate_run ORDER BY
                v.outcome = 'fail' DESC, v.against = 'anchor' DESC, v.seq DESC) = 1
        )
        SELECT c.*, j.verdict_id, coalesce(j.outcome, 'none') AS outcome, j.anchor_run
        FROM chosen c LEFT JOIN judged j USING (run_id) ORDER BY c.seq DESC
        """,
        [suite, tag, tag, text, offset],
    )


def tags(store: Store, suite: str) -> list[str]:
    """The tags that runs of a suite have, the commonest first."""
    rows = store.query(
        f"""
        WITH {_NOTES}
        SELECT tag FROM (
            SELECT unnest(n.tags) AS tag FROM notes n JOIN runs r USING (run_id) WHERE r.suite = ?
        ) GROUP BY tag ORDER BY count(*) DESC, tag LIMIT 100
        """,
        [suite],
    )
    return [row["tag"] for row in rows]


def settings(store: Store, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Run -> everything that was recorded of how it was made and scored, as flat keys."""
    rows = store.query(
        "SELECT r.run_id, r.model_digest, r.suite_digest, r.seed, r.training_id, r.step, "
        "r.subject, r.provenance, r.protocol, t.recipe, t.config FROM runs r "
        "LEFT JOIN trainings t USING (training_id) WHERE list_contains(?, r.run_id)",
        [list(run_ids)],
    )
    return {row["run_id"]: _settings(row) for row in rows}


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    named = ("model_digest", "suite_digest", "seed", "training_id", "step", "recipe")
    found = {name: row[name] for name in named}
    for name, place in (("config", "training"), ("subject", "subject")):
        found |= dict(flat(row[name] or {}, place))
    return (
        found
        | dict(flat(row["provenance"] or {}, "machine"))
        | dict(flat(row["protocol"] or {}, "suite"))
    )


def differences(found: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The settings that aren't the same in all of these runs: {setting, run id: value, ...}."""
    keys = dict.fromkeys(key for settings in found.values() for key in settings)
    return [
        {"setting": key, **{run: settings.get(key) for run, settings in found.items()}}
        for key in keys
        if len({repr(settings.get(key)) for settings in found.values()}) > 1
    ]


def made_by(store: Store, run_id: str) -> Row:
    """How a run's model was made, as one flat row: its training's recipe and settings, its step.

    Empty for a run that belongs to no training.
    """
    rows = store.query(
        "SELECT r.step, t.recipe, t.config FROM runs r JOIN trainings t USING (training_id) "
        "WHERE r.run_id = ? LIMIT 1",
        [run_id],
    )
    if not rows:
        return {}
    row = rows[0]
    settings = dict(flat(row["config"] or {}))
    return {"step": row["step"], "recipe": row["recipe"], **settings}


def flat(value: Any, place: str = "training") -> Iterator[tuple[str, Any]]:
    """Every innermost setting under its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{place}.{key}")
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, inner in enumerate(value, start=1):
            yield from flat(inner, f"{place}.{number}")
    else:
        yield place, value

"""What a store has, as marks by which two stores know what the other lacks.

A mark is a short text for one thing that was appended; its level is a number that only grows. A
store has what another has said where it has each mark at that level or above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.store.missing import content
from harness.store.store import Store
from harness.store.tables import BY_NAME

Marks = Mapping[str, int]

RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows that travel together: the first table names them, by `by` or by their content.

    `level` is the SQL of a level, for a table of which only the last row per mark is marked.
    """

    name: str
    tables: tuple[str, ...]
    by: str | None = None
    level: str = "1"


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("calibrations", ("calibrations",), "calibration_id"),
        Kind("verdicts", ("verdicts", "verdict_metrics"), "verdict_id"),
        Kind("line events", ("checkpoints",)),
        Kind("notes", ("run_notes",)),
        Kind("drifts", ("drifts",)),
        Kind("trainings", ("trainings",), "training_id"),
        Kind("training events", ("training_events",)),
        Kind(
            "training curves",
            ("training_steps",),
            "training_id || '/' || coalesce(attempt, 0)",
            "max(step)",
        ),
        Kind("alarm answers", ("attention_events",)),
    )
}
"""Everything that is shared beside runs. What production saw stays where it was seen."""


def mark(kind: Kind) -> str:
    """SQL of a row's mark, in the kind's first table."""
    return kind.by or content(BY_NAME[kind.tables[0]])


def marks_of(store: Store, kind: Kind) -> dict[str, int]:
    """All that the store has of a kind."""
    rows = store.query(
        f"SELECT {mark(kind)} AS mark, {kind.level} AS level FROM {kind.tables[0]} GROUP BY mark"
    )
    return {row["mark"]: row["level"] for row in rows}


def marks_of_runs(store: Store) -> dict[str, dict[str, int]]:
    """Run -> a mark for each of its events. A run without one is still under way, and left out."""
    rows = store.query(
        "SELECT run_id, run_id || '/' || event || '@' || happened_at AS mark FROM run_events "
        "WHERE run_id IN (SELECT run_id FROM runs) ORDER BY seq"
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["run_id"], {})[row["mark"]] = 1
    return found


def lacking(wanted: Marks, there: Marks) -> list[str]:
    """The marks that are not there, or only at a lower level."""
    return [name for name, level in wanted.items() if there.get(name, -1) < level]


def rows_of(store: Store, kind: Kind, names: Sequence[str]) -> dict[str, object]:
    """Table -> the rows of these marks, without `seq`, in the store's order."""
    first, *rest = kind.tables
    found: dict[str, object] = {
        first: store.query_arrow(
            f"SELECT * EXCLUDE seq FROM {first} WHERE list_contains(?, {mark(kind)}) ORDER BY seq",
            [list(names)],
        )
    }
    for table in rest:
        found[table] = store.query_arrow(
            f"SELECT * EXCLUDE seq FROM {table} WHERE list_contains(?, {kind.by}) ORDER BY seq",
            [list(names)],
        )
    return found

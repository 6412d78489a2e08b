"""Metrics of tools that say of a number no more than its name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Direction, ScoreOutcome
from harness.interop.importers.common import ImportedTask, Point, Series, finite


def mean_of(
    name: str, points: Sequence[Point], *, measure: str, direction: Direction = "higher"
) -> Series:
    """The metric whose value is the mean of its points: a share where all lie from 0 to 1."""
    values = [point.value for point in points if point.value is not None]
    share = all(0 <= value <= 1 for value in values)
    return Series(
        name=name.replace("/", "."),
        direction=direction,
        points=tuple(points),
        measure=measure,
        scale="interval" if any(value < 0 for value in values) else "ratio",
        unit="share" if share else "",
        low=0.0 if share else None,
        high=1.0 if share else None,
    )


def point_of(
    sample_id: str, value: Any, *, index: int | None = None, error: str | None = None
) -> Point:
    """The score of a sample; an error where there was no answer, unscored where it's no number."""
    if error is not None:
        why = " ".join(error.split())[:300] or "there was no answer"
        return Point(sample_id, None, index, reason=why, outcome=ScoreOutcome.ERROR)
    number = finite(value)
    if number is None:
        why = f"{value!r:.60} is not a number"
        return Point(sample_id, None, index, reason=why, outcome=ScoreOutcome.UNSCORED)
    return Point(sample_id, number, index)


def with_numbers(tasks: Iterable[ImportedTask]) -> tuple[tuple[ImportedTask, ...], dict[str, str]]:
    """The tasks without the metrics that have no number at all, and why each was left out."""
    found, skipped = [], {}
    for task in tasks:
        kept = tuple(one for one in task.metrics if any(p.value is not None for p in one.points))
        for one in task.metrics:
            if one not in kept:
                why = next((p.reason for p in one.points if p.reason), None)
                skipped[f"{task.name}/{one.name}"] = why or "it has no numbers"
        found.append(replace(task, metrics=kept))
    return tuple(found), skipped


def with_lower(
    tasks: Sequence[ImportedTask], lower: Collection[str], path: Path
) -> tuple[ImportedTask, ...]:
    """The tasks, where of the metrics named in `lower` less is better. Raises UserError for a name
    that no metric has.
    """
    names = dict.fromkeys(one.name for task in tasks for one in task.metrics)
    for name in lower:
        if name not in names:
            raise UserError(
                f"there is no metric {name!r}",
                file=path,
                field="--lower",
                hint=f"its metrics are {', '.join(names)}",
            )
    return tuple(
        replace(
            task,
            metrics=tuple(
                replace(one, direction="lower") if one.name in lower else one
                for one in task.metrics
            ),
        )
        for task in tasks
    )

"""Imports per-sample scores from a CSV: `task,metric,direction,sample_id,value`.

Optional columns: `response` (0, 1, … where a sample was answered several times), `cluster`
(samples of one cluster are not independent) and `scale` (`interval` for metrics without a true
zero). An empty value is an answer that failed.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from harness.core.errors import UserError
from harness.core.text_file import MOST_IN_A_CELL, check_columns, check_separator, read_text
from harness.core.types import Direction, Sample, ScoreOutcome
from harness.interop.importers.common import Imported, ImportedTask, Point, Series, task_name

REQUIRED = ("task", "metric", "direction", "sample_id", "value")
OPTIONAL = ("response", "cluster", "scale")
_EXAMPLE = "task,metric,direction,sample_id,value\nqa,exact_match,higher,q1,1"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    key: Key
    direction: Direction
    scale: Literal["ratio", "interval"]
    point: Point


def read_csv(path: Path, *, name: str) -> Imported:
    """The run in a CSV, called `name`. Raises UserError naming the line and the column.

    Two of them can be compared where tasks, metrics and sample ids agree. A CSV doesn't hold the
    samples themselves, so that one id means one sample is up to who writes it.
    """
    lines = list(_lines(path))
    if not lines:
        raise UserError("the CSV has no rows", file=path, hint=f"it looks like this:\n{_EXAMPLE}")
    groups: dict[Key, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.key, []).append(line)
    for group in groups.values():
        _check(path, group)
    tasks: dict[str, list[Series]] = {}
    for (task, metric), group in groups.items():
        tasks.setdefault(task, []).append(_series(metric, group))
    return Imported(
        source="csv",
        model=name,
        tasks=tuple(_task(task, series) for task, series in tasks.items()),
        subject={"run": name},
        provenance={},
        measured_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        file=path,
    )


def _task(name: str, series: Sequence[Series]) -> ImportedTask:
    clusters = {point.sample_id: point.cluster for one in series for point in one.points}
    samples = tuple(Sample(id=key, task=name, cluster=own) for key, own in clusters.items())
    return ImportedTask(name, {"data": {"source": "csv", "task": name}}, tuple(series), samples)


def _series(metric: str, group: Sequence[_Line]) -> Series:
    first = group[0]
    return Series(
        name=metric,
        direction=first.direction,
        points=tuple(line.point for line in group),
        measure=f"{metric}|csv",
        scale=first.scale,
    )


def _lines(path: Path) -> Iterator[_Line]:
    text = read_text(path, what="file")
    csv.field_size_limit(MOST_IN_A_CELL)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        first = text.partition("\n")[0]
        check_separator(path, first.split(","), first)
        header = reader.fieldnames or ()
        check_columns(path, header)
        _check_header(path, header)
        for row in reader:
            yield _line(path, reader.line_num, row)
    except csv.Error as error:
        raise UserError(
            f"this is not a CSV: {error}",
            file=path,
            line=reader.reader.line_num,
            hint="check the quotes near that line",
        ) from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        raise UserError(
            f"the header {what}",
            file=path,
            line=1,
            hint=f"columns: {','.join(REQUIRED)}; optional: {','.join(OPTIONAL)}",
        )


def _line(path: Path, number: int, row: dict[str, str]) -> _Line:
    def refused(column: str, what: str, hint: str) -> UserError:
        return UserError(what, file=path, line=number, field=column, hint=hint)

    if None in row or any(value is None for value in row.values()):
        raise refused(
            "", "the row has more or fewer cells than the header", "quote cells with commas"
        )
    cells = {column: value.strip() for column, value in row.items()}
    for column in ("task", "metric", "sample_id"):
        if not cells[column]:
            raise refused(column, f"the {column} is empty", "name it")
    if cells["direction"] not in ("higher", "lower"):
        said = repr(cells["direction"])
        raise refused("direction", f"{said} is not a direction", "higher or lower: which is better")
    scale = cells.get("scale") or "ratio"
    if scale not in ("ratio", "interval"):
        raise refused("scale", f"{scale!r} is not a scale", "ratio (the default) or interval")
    index = cells.get("response") or None
    if index is not None and not index.isdecimal():
        raise refused("response", f"{index!r} is not a number of a response", "count from 0")
    value = _number(cells["value"])
    if value is not None and not math.isfinite(value):
        comma = re.fullmatch(r"-?\d+,\d+", cells["value"]) is not None
        failed_hint = "write a number, such as 0.5; leave the cell empty where an answer failed"
        hint = "write a point before the decimals" if comma else failed_hint
        raise refused("value", f"{cells['value']!r} is not a finite number", hint)
    if value is not None and value < 0 and scale == "ratio":
        hint = "add a column `scale` with the word interval: it has no true zero"
        raise refused("value", f"{value} is below 0", hint)
    failed = value is None
    return _Line(
        number,
        (task_name(cells["task"]), cells["metric"]),
        cast(Direction, cells["direction"]),
        cast(Literal["ratio", "interval"], scale),
        Point(
            sample_id=cells["sample_id"],
            value=value,
            index=None if index is None else int(index),
            reason="the CSV has no value" if failed else None,
            cluster=cells.get("cluster") or None,
            outcome=ScoreOutcome.ERROR if failed else ScoreOutcome.SCORED,
        ),
    )


def _number(text: str) -> float | None:
    """The number, None for an empty cell; NaN, which the caller refuses, for any other text."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check(path: Path, group: Sequence[_Line]) -> None:
    """One metric has one direction and one scale, and each answer one value."""
    first = group[0]
    seen: dict[tuple[str, int | None], int] = {}
    numbered = {line.point.sample_id for line in group if line.point.index is not None}
    for line in group:
        if line.point.index is None and line.point.sample_id in numbered:
            raise UserError(
                f"an answer to {line.point.sample_id!r} has no number, and others have",
                file=path,
                line=line.number,
                field="response",
                hint="number all answers to a sample, or none: count from 0",
            )
        for name in ("direction", "scale"):
            if getattr(line, name) != getattr(first, name):
                raise UserError(
                    f"{'/'.join(line.key)} has another {name} on line {first.number}",
                    file=path,
                    line=line.number,
                    field=name,
                    hint=f"a metric has one {name}",
                )
        place = line.point.sample_id, line.point.index
        if place in seen:
            raise UserError(
                f"{line.point.sample_id!r} has a value of {'/'.join(line.key)} on line "
                f"{seen[place]} already",
                file=path,
                line=line.number,
                hint="one row a sample; number several answers to it in a column `response`",
            )
        seen[place] = line.number

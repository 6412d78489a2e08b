"""Stores an imported run whole: its samples, responses and scores in one act."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, ParamSpec

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.protocol import SAMPLING
from harness.core.text_file import read_text, without_halves
from harness.core.types import Direction, Form, Run, Sample, ScoreOutcome
from harness.store.store import Store
from harness.store.tables import BY_NAME


@dataclass(frozen=True, slots=True)
class Point:
    """One imported score. `value` is None where `outcome` is not SCORED, and `reason` says why.

    `index` counts a sample's responses from 0; `stats` are what the metric's form needs beside
    the value, such as NLL and tokens for perplexity.
    """

    sample_id: str
    value: float | None
    index: int | None = None
    reason: str | None = None
    stats: tuple[float, ...] = ()
    cluster: str | None = None
    outcome: ScoreOutcome = ScoreOutcome.SCORED


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one task. `low` and `high` are the ends of its range, None where unknown.

    `measure` says what computed it; two runs are compared only where it is the same.
    """

    name: str
    direction: Direction
    points: tuple[Point, ...]
    measure: str
    scale: Literal["ratio", "interval"] = "ratio"
    form: Form = "mean"
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def declaration(self) -> dict[str, Any]:
        """As a run keeps it of every metric, in the form that the gate reads."""
        return {
            "signature": self.measure,
            "direction": self.direction,
            "scale": self.scale,
            "form": self.form,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "stats": ["nll", "weight"] if self.form == "perplexity" else [],
            "aggregate": None,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a sample, the `index`th from 0; `error` where there was none."""

    sample_id: str
    index: int
    text: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedTask:
    """One task. `protocol` holds what two runs must share, beside the metrics' measures."""

    name: str
    protocol: Mapping[str, Any]
    metrics: tuple[Series, ...]
    samples: tuple[Sample, ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def frame(self) -> dict[str, Any]:
        """All fields of a task's protocol but its metrics."""
        empty = dict.fromkeys(("data", "prompt", "text", "reference", "generate", "reserve"))
        return {**empty, **self.protocol}


@dataclass(frozen=True, slots=True)
class Imported:
    """One run as another tool measured it. `skipped` has, for each metric left out, the reason."""

    source: str
    model: str
    tasks: tuple[ImportedTask, ...]
    subject: Mapping[str, Any]
    provenance: Mapping[str, Any]
    measured_at: datetime
    file: Path
    seed: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def take_in(store: Store, imported: Imported) -> tuple[Run, bool]:
    """Put it into the store in one transaction. Returns the run, and whether it is new.

    The run's id is a digest of all that was read, so the same files give the same run, and to
    import them again changes nothing. Raises UserError where there is no score at all.
    """
    from harness.store.runs import require_run

    if not any(series.points for task in imported.tasks for series in task.metrics):
        raise UserError(
            "there is no score to import",
            file=imported.file,
            hint="; ".join(f"{name}: {why}" for name, why in imported.skipped.items()) or None,
        )
    run_id, rows = _rows(imported)
    encoded = {
        name: BY_NAME[name].to_arrow(BY_NAME[name].encode(of_table))
        for name, of_table in rows.items()
        if of_table
    }
    new = store.append_together(encoded, unless=("SELECT 1 FROM runs WHERE run_id = ?", [run_id]))
    return require_run(store, run_id), new


def _rows(imported: Imported) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    protocol = {
        task.name: {
            **task.frame,
            "metrics": {series.name: series.declaration for series in task.metrics},
        }
        for task in imported.tasks
    }
    content = [
        (task.name, series.name, point.sample_id, point.index, point.value, point.stats)
        for task in imported.tasks
        for series in task.metrics
        for point in series.points
    ]
    # The weights are unknown. What the tool says of the model stands for them, under the tool's
    # name, so that it can't be taken for the digest of a model that was scored here.
    model_digest = f"{imported.source}:{digest_of([imported.model, dict(imported.subject)])}"
    run_id = digest_of([imported.source, model_digest, protocol, content])
    run = {
        "run_id": run_id,
        "model": imported.model,
        "model_digest": model_digest,
        "suite": f"{imported.source}: {', '.join(protocol)}"[:200],
        "suite_path": None,
        "suite_digest": digest_of(protocol),
        "seed": imported.seed,
        "draw": 0,
        "protocol": {**protocol, SAMPLING: {"limit": None, "seed": None}},
        "subject": dict(imported.subject),
        "provenance": {"imported": imported.source, **imported.provenance},
        "started_at": imported.measured_at,
    }
    detail = {"from": imported.file.name, "scores": len(content), "skipped": dict(imported.skipped)}
    event = {"run_id": run_id, "event": "finished", "detail": {"imported": True, **detail}}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in imported.tasks:
        rows["samples"] += _samples(task)
        rows["scores"] += _scores(task, run_id, imported.measured_at)
        _add_answers(rows, task, run_id, model_digest)
    rows["run_events"], rows["runs"] = [event], [run]
    return run_id, rows


def _samples(task: ImportedTask) -> list[dict[str, Any]]:
    digest = digest_of(task.frame)
    return [
        {
            "task_digest": digest,
            "task": task.name,
            "sample_id": sample.id,
            "cluster": sample.cluster,
            "language": sample.language,
            "reserve": False,
            "fields": _plain(sample.fields),
            "prompt": [dict(message) for message in sample.prompt],
            "text": sample.text,
            "reference_texts": list(sample.references),
        }
        for sample in task.samples
    ]


def _scores(task: ImportedTask, run_id: str, at: datetime) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "task": task.name,
            "metric": series.name,
            "sample_id": point.sample_id,
            "response_index": point.index,
            "draw": 0,
            "outcome": point.outcome.value,
            "value": point.value,
            "reason": point.reason,
            "stats": list(point.stats),
            "cluster": point.cluster,
            "signature": series.measure,
            "scored_at": at,
        }
        for series in task.metrics
        for point in series.points
    ]


def _add_answers(
    rows: dict[str, list[dict[str, Any]]], task: ImportedTask, run_id: str, model_digest: str
) -> None:
    for answer in task.answers:
        key = digest_of([run_id, task.name, answer.sample_id, answer.index])
        place = {
            "key": key,
            "task": task.name,
            "sample_id": answer.sample_id,
            "kind": "generation",
            "response_index": answer.index,
            "draw": 0,
        }
        rows["run_responses"].append({"run_id": run_id, **place})
        rows["responses"].append(
            {
                **place,
                "model_digest": model_digest,
                "text": answer.text,
                "token_ids": [],
                "finish_reason": "error" if answer.error else "stop",
                "error": answer.error,
            }
        )


Place = ParamSpec("Place")


def read_as_written_by(
    tool: str,
) -> Callable[[Callable[Place, Imported]], Callable[Place, Imported]]:
    """An importer of files that `tool` writes: one of another shape is a UserError.

    What a tool writes is checked where it decides a number; this is for all else that a file
    may hold in another shape than the tool's own.
    """

    def around(read: Callable[Place, Imported]) -> Callable[Place, Imported]:
        @functools.wraps(read)
        def reading(*args: Place.args, **kwargs: Place.kwargs) -> Imported:
            try:
                return read(*args, **kwargs)
            except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
                raise UserError(
                    f"this is not as {tool} writes it: {type(error).__name__}: {error}",
                    file=str(args[0]) if args else None,
                    hint=f"import the file as {tool} wrote it; --debug shows where reading stopped",
                ) from error

        return reading

    return around


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises UserError with its line where it is torn."""
    return parse_json(read_text(path, what="file"), path)


def read_json_lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file. Raises UserError for a line that isn't one."""
    for number, line in enumerate(read_text(path, what="file").split("\n"), start=1):
        if line.strip():
            row = parse_json(line, path, number)
            if not isinstance(row, dict):
                raise UserError(
                    "the line is not a JSON object",
                    file=path,
                    line=number,
                    hint="name the file that the tool wrote",
                )
            yield number, row


def parse_json(text: str, path: Path, line: int | None = None) -> Any:
    """Raises UserError naming the line where `text` is no JSON. Half a character (a lone surrogate,
    which a model can write and JSON can carry) becomes U+FFFD.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        place = line if line is not None else getattr(error, "lineno", None)
        raise UserError(
            f"this is not JSON: {error}",
            file=path,
            line=place,
            hint="the file may be cut short: copy it again",
        ) from error
    except RecursionError:
        raise UserError("this is nested too deeply", file=path, line=line) from None
    return _whole(found) if "\\ud" in text.lower() else found


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return without_halves(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(key): _whole(item) for key, item in value.items()}
    return value


def finite(value: Any) -> float | None:
    """The number itself; None for anything that is none, NaN and infinities included."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def moment(value: Any) -> datetime:
    """A time as logs write it (seconds since 1970, or ISO 8601); 1970 where it can't be read."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        found = datetime.fromisoformat(str(value))
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def task_name(name: str) -> str:
    """A task's name as it may stand before the slash of `task/metric`."""
    return name.replace("/", ".")


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON without NaN or infinities, which become null: it is only for reading."""

    def clean(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, Mapping):
            return {str(key): clean(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [clean(inner) for inner in item]
        return item if isinstance(item, str | int | float | bool | None) else str(item)

    return {str(key): clean(inner) for key, inner in value.items()}

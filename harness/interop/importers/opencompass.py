"""Imports what OpenCompass writes with `--dump-eval-details`: whether each sample was right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Sample
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    finite,
    moment,
    read_as_written_by,
    read_json,
    task_name,
)
from harness.interop.importers.series import mean_of, point_of
from harness.interop.importers.work_dir import one_model

Row = Mapping[str, Any]
_RIGHT = ("correct", "is_correct", "cascade_correct")
"""What a detail calls its verdict, by the kind of evaluator."""
_ROLES = {"HUMAN": "user", "BOT": "assistant", "SYSTEM": "system"}


@read_as_written_by("OpenCompass")
def read_opencompass(path: Path, *, name: str | None = None) -> Imported:
    """The run in the folder that OpenCompass wrote (`outputs/default/TIME`), called `name`: each
    file of results is a task.

    Raises UserError for a folder of several runs or models, and where no result has details.
    """
    place, folder = one_model(
        path,
        "results",
        tool="OpenCompass",
        nothing="OpenCompass evaluated nothing here: there is no folder results/MODEL",
        hint="name the folder with `predictions` and `results` in it; a stopped evaluation "
        "goes on with --reuse",
        apart="evaluate them with separate --work-dir",
    )
    tasks, skipped, notes = [], {}, []
    files = sorted(folder.glob("*.json"))
    for file in files:
        results = _results(file)
        details = _details(results, file)
        if details is None:
            skipped[file.stem] = _why_without(results)
            continue
        asked = _predictions(place / "predictions" / folder.name, file.stem)
        task, said = _task(task_name(file.stem), details, asked, results, file)
        tasks.append(task)
        notes += said
    return Imported(
        source="opencompass",
        model=name or folder.name,
        tasks=tuple(tasks),
        subject={"backend": "opencompass", "model": folder.name},
        provenance={},
        measured_at=moment(max((file.stat().st_mtime for file in files), default=0)),
        file=path,
        skipped=skipped,
        notes=tuple(notes),
    )


def _results(file: Path) -> Row:
    found = read_json(file)
    if not isinstance(found, Mapping):
        raise UserError(
            "these are not results of OpenCompass",
            file=file,
            hint="name the folder that OpenCompass wrote",
        )
    if isinstance(found.get("error"), str):
        raise UserError(
            f"OpenCompass could not evaluate it: {found['error']}"[:300],
            file=file,
            field="error",
            hint="evaluate it again with --reuse",
        )
    return found


def _why_without(results: Row) -> str:
    if results.get("details"):
        return "its evaluator gives no verdicts by samples"
    return "it has no verdicts by samples: run it with --dump-eval-details"


@dataclass(frozen=True, slots=True)
class _Detail:
    """What OpenCompass found of one sample: a verdict for each time that it was asked."""

    id: str
    verdicts: tuple[Any, ...]
    answers: tuple[str, ...]
    gold: str | None


def _details(results: Row, file: Path) -> list[_Detail] | None:
    """None where the evaluator gave no verdict by samples."""
    found = results.get("details")
    if isinstance(found, Mapping):
        rows = [(str(key), row) for key, row in found.items() if key != "type"]
    elif isinstance(found, list):
        rows = [(str(number), row) for number, row in enumerate(found)]
    else:
        return None
    kept = [_detail(key, row, file) for key, row in rows]
    if not any(one.verdicts for one in kept):
        return None
    seen: set[str] = set()
    for one in kept:
        if one.id in seen:
            raise UserError(f"sample {one.id} is there twice", file=file, field="details")
        seen.add(one.id)
    return kept


def _detail(key: str, row: Any, file: Path) -> _Detail:
    if not isinstance(row, Mapping):
        raise UserError(
            "this is not a sample of OpenCompass",
            file=file,
            field=f"details.{key}",
            hint="name the folder that OpenCompass wrote",
        )
    verdict = next((row[one] for one in _RIGHT if row.get(one) is not None), None)
    gold = _several(row.get("answer", row.get("references")))
    return _Detail(
        id=str(row.get("example_abbr") or key),
        verdicts=() if verdict is None else _several(verdict),
        answers=tuple(_text(one) for one in _several(row.get("pred", row.get("predictions")))),
        gold=_text(gold[0]) if gold and gold[0] is not None else None,
    )


def _several(value: Any) -> tuple[Any, ...]:
    """Newer versions list one entry for each time that a sample was asked."""
    return tuple(value) if isinstance(value, list) else (value,)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)


def _predictions(folder: Path, stem: str) -> list[Row]:
    """What was asked and answered, in its order; empty where the file is not there.

    A large benchmark is asked in parts: `NAME_0.json`, `NAME_1.json`, …
    """
    files = [folder / f"{stem}.json"]
    if not files[0].is_file():
        files = []
        while (part := folder / f"{stem}_{len(files)}.json").is_file():
            files.append(part)
    found: list[Row] = []
    for file in files:
        content = read_json(file)
        rows = [content.get(str(n)) for n in range(len(content))]
        if not all(isinstance(row, Mapping) for row in rows):
            missing = next(n for n, row in enumerate(rows) if not isinstance(row, Mapping))
            raise UserError(
                "these are not predictions of OpenCompass",
                file=file,
                field=str(missing),
                hint="the evaluation may have been stopped: it goes on with --reuse",
            )
        found += rows
    return found


def _task(
    name: str, details: Sequence[_Detail], asked: Sequence[Row], results: Row, file: Path
) -> tuple[ImportedTask, list[str]]:
    size, notes = len(details), []
    times = max(len(one.verdicts) for one in details)
    if asked and len(asked) != size * times:
        raise UserError(
            f"{size * times} verdicts are here, and {len(asked)} predictions",
            file=file,
            field="details",
            hint="the folder may hold files of two runs: evaluate it again",
        )
    if not asked:
        notes.append(f"{file.name} has no predictions beside it: prompts are not imported")
    samples = tuple(
        Sample(
            id=one.id,
            task=name,
            fields={},
            prompt=tuple(_asked(asked[at])) if asked else (),
            references=tuple(_references(one, asked[at] if asked else {})),
        )
        for at, one in enumerate(details)
    )
    documents = sorted((one.id, digest_of([one.prompt, one.references])) for one in samples)
    points = [
        point_of(one.id, verdict, index=index if times > 1 else None)
        for one in details
        for index, verdict in enumerate(one.verdicts)
    ]
    values = [point.value for point in points if point.value is not None]
    metric = _metric(results, math.fsum(values) / len(values) if values else math.nan)
    if metric is None:
        notes.append(f"no value that OpenCompass reported for {name} is the mean of its verdicts")
    task = ImportedTask(
        name=name,
        protocol={"data": {"documents": digest_of(documents), "n": len(documents)}},
        metrics=(mean_of(metric or "correct", points, measure="correct|opencompass"),),
        samples=samples,
        answers=tuple(
            Answer(one.id, index, answer)
            for at, one in enumerate(details)
            for index, answer in enumerate(_answers(one, asked[at::size] if asked else ()))
        ),
    )
    return task, notes


def _metric(results: Row, mean: float) -> str | None:
    """The name under which OpenCompass reported the mean of the verdicts, in percent."""
    for key, value in results.items():
        number = finite(value)
        if number is not None and math.isclose(number, 100 * mean, rel_tol=1e-6, abs_tol=1e-6):
            return key.partition(" (")[0]
    return None


def _asked(row: Row) -> Iterator[dict[str, str]]:
    sent = row.get("origin_prompt")
    if isinstance(sent, list):
        for turn in sent:
            role = str(turn.get("role"))
            yield {"role": _ROLES.get(role, role.lower()), "content": _text(turn.get("prompt"))}
    elif sent is not None:
        yield {"role": "user", "content": _text(sent)}


def _references(one: _Detail, row: Row) -> list[str]:
    gold = one.gold if one.gold is not None else row.get("gold")
    return [] if gold is None else [_text(gold)]


def _answers(one: _Detail, rows: Sequence[Row]) -> Iterator[str]:
    """The whole answer where it is kept, else what was read of it."""
    if any("prediction" in row for row in rows):
        yield from (_text(row.get("prediction")) for row in rows)
    else:
        yield from one.answers

"""Imports what NeMo Evaluator writes of each sample: predictions, or its records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.text_file import read_text
from harness.core.types import Sample
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Series,
    finite,
    moment,
    read_as_written_by,
    read_json,
    read_json_lines,
    task_name,
)
from harness.interop.importers.series import mean_of, point_of, with_lower, with_numbers

Row = Mapping[str, Any]
PREDICTIONS = "byob_predictions.jsonl"
RECORDS = "nemo-evaluator-per-sample-outputs"
_SENDING = frozenset({"parallelism", "max_retries", "request_timeout", "limit_samples"})
"""Of its parameters: how, and how many, questions are sent, and nothing of a question."""


@read_as_written_by("NeMo Evaluator")
def read_nemo(path: Path, *, name: str | None = None, lower: Collection[str] = ()) -> Imported:
    """The run in a folder that NeMo Evaluator wrote, called `name`; each file of samples is a task,
    and `lower` names the metrics of which less is better.

    Raises UserError for a folder of several models, and for files that aren't whole.
    """
    files = _files(path)
    configs = [_config(file, path) for file in files]
    model = _model(configs, path, name)
    notes: list[str] = []
    tasks = []
    for file, config in zip(files, configs, strict=True):
        of_file, said = _read_file(file, config)
        tasks.append(of_file)
        notes += said
    kept, skipped = with_numbers(tasks)
    return Imported(
        source="nemo-evaluator",
        model=name or model,
        tasks=with_lower(kept, lower, path),
        subject={"backend": "nemo-evaluator", "model": model},
        provenance={},
        measured_at=moment(max(file.stat().st_mtime for file in files)),
        file=path,
        skipped=skipped,
        notes=tuple(notes),
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is no such folder"
        raise UserError(what, file=path, hint="name the folder that NeMo Evaluator wrote")
    found = sorted(
        one
        for one in path.rglob("*.jsonl")
        if one.name == PREDICTIONS or RECORDS in one.relative_to(path.parent).parts[:-1]
    )
    if not found:
        raise UserError(
            f"there is neither a {PREDICTIONS} nor a folder {RECORDS} here",
            file=path,
            hint="NeMo Evaluator writes samples of your own benchmarks with --save-predictions",
        )
    return found


def _config(file: Path, path: Path) -> Row:
    """The `results.yml` of the evaluation that a file of samples belongs to; empty without one."""
    for folder in file.parents:
        found = folder / "results.yml"
        if found.is_file():
            try:
                content = yaml.safe_load(read_text(found, what="file"))
            except yaml.YAMLError as error:
                raise UserError(
                    "this is not YAML", file=found, hint="the file may be cut short: copy it again"
                ) from error
            return content if isinstance(content, Mapping) else {}
        if folder == path:
            break
    return {}


def _model(configs: Sequence[Row], path: Path, name: str | None) -> str:
    endpoints = [(config.get("target") or {}).get("api_endpoint") or {} for config in configs]
    found = sorted({str(one["model_id"]) for one in endpoints if one.get("model_id")})
    if len(found) > 1:
        raise UserError(
            f"{len(found)} models were evaluated here: {', '.join(found)}",
            file=path,
            hint="name the folder of one of them",
        )
    if not found and name is None:
        raise UserError(
            "there is no results.yml that says which model was measured",
            file=path,
            field="--run",
            hint="name it: --run NAME",
        )
    return found[0] if found else str(name)


@dataclass(frozen=True, slots=True)
class _Sample:
    """What one line of a file of samples says, whichever of the two forms it has."""

    id: str
    index: int
    asked: str
    target: Any
    answer: str
    scores: Row
    error: str | None
    fields: Row


def _read_file(file: Path, config: Row) -> tuple[ImportedTask, list[str]]:
    own = file.name == PREDICTIONS
    rows = list(read_json_lines(file))
    if not rows:
        raise UserError("the file holds no samples", file=file, hint="evaluate again")
    samples = list(_predictions(rows, file) if own else _records(rows, file))
    _check_once(samples, file)
    name = task_name(file.parent.name if own else file.stem)
    return _task(name, samples, config), _check_results(file, samples) if own else []


def _need(row: Row, field: str, kinds: tuple[type, ...], file: Path, line: int) -> Any:
    if not isinstance(row.get(field), kinds) or isinstance(row.get(field), bool):
        raise UserError(
            "this is not a sample of NeMo Evaluator",
            file=file,
            line=line,
            field=field,
            hint="name the folder that NeMo Evaluator wrote",
        )
    return row[field]


def _predictions(rows: Sequence[tuple[int, Row]], file: Path) -> Iterator[_Sample]:
    """Repeats are numbered on: in the `n`th, a sample's number is `n` sizes of the data higher."""
    repeats = [_repeat(row) for _, row in rows]
    size = len(rows) // (max(repeats) + 1)
    for (line, row), repeat in zip(rows, repeats, strict=True):
        number = _need(row, "sample_id", (int,), file, line)
        scores = row.get("scores")
        error = None
        if not isinstance(scores, Mapping):
            if row.get("status") == "scored":
                _need(row, "scores", (dict,), file, line)
            error = str(row.get("error") or row.get("status") or "it was skipped")
        yield _Sample(
            id=str(number - repeat * size),
            index=repeat,
            asked=_text(row.get("prompt")),
            target=row.get("target"),
            answer=_text(row.get("response")),
            scores=scores if isinstance(scores, Mapping) else {},
            error=error,
            fields=row.get("metadata") or {},
        )


def _repeat(row: Row) -> int:
    found = (row.get("metadata") or {}).get("_repeat")
    return found if isinstance(found, int) and 0 <= found < 10_000 else 0


def _records(rows: Sequence[tuple[int, Row]], file: Path) -> Iterator[_Sample]:
    for line, row in rows:
        sample_id = str(_need(row, "id", (str, int), file, line))
        if "score" not in row:
            _need(row, "score", (int, float), file, line)
        # An intermediate step has no score: it is no sample of the metric.
        scored = row["score"] is not None
        index = row.get("sub_query_id") or 0
        yield _Sample(
            id=sample_id,
            index=index if isinstance(index, int) else 0,
            asked=_text(row.get("query")),
            target=row.get("ground_truth"),
            answer=_text(row.get("generation")),
            scores={str(row.get("score_name") or "score"): row["score"]} if scored else {},
            error=None,
            fields={"answer": row.get("answer")},
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        return str(value["content"])
    return value if isinstance(value, str) else str(value)


def _check_once(samples: Sequence[_Sample], file: Path) -> None:
    seen: set[tuple[str, int]] = set()
    for sample in samples:
        if (sample.id, sample.index) in seen:
            raise UserError(
                f"sample {sample.id} is there twice",
                file=file,
                hint="two runs may have been written to one file: evaluate again",
            )
        seen.add((sample.id, sample.index))


def _task(name: str, samples: Sequence[_Sample], config: Row) -> ImportedTask:
    firsts = {sample.id: sample for sample in reversed(samples)}
    documents = sorted((key, digest_of([s.asked, s.target])) for key, s in firsts.items())
    asked = config.get("config") or {}
    params = asked.get("params") or {}
    metrics = dict.fromkeys(key for sample in samples for key in sample.scores)
    return ImportedTask(
        name=name,
        protocol={
            "data": {"documents": digest_of(documents), "n": len(documents)},
            "prompt": {"benchmark": asked.get("type")},
            "generate": {
                key: value
                for key, value in params.items()
                if key not in _SENDING and value is not None
            },
        },
        metrics=tuple(one for key in metrics if (one := _series(key, samples)) is not None),
        samples=tuple(
            Sample(
                id=sample.id,
                task=name,
                fields=sample.fields,
                prompt=({"role": "user", "content": sample.asked},),
                references=() if sample.target is None else (str(sample.target),),
            )
            for sample in reversed(firsts.values())
        ),
        answers=tuple(Answer(s.id, s.index, s.answer, s.error) for s in samples),
    )


def _series(metric: str, samples: Sequence[_Sample]) -> Series | None:
    """None for a score of words, which NeMo Evaluator itself doesn't count."""
    several = any(sample.index for sample in samples)
    told = [s for s in samples if s.error is not None or metric in s.scores]
    if not any(finite(sample.scores.get(metric)) is not None for sample in told):
        return None
    points = [
        point_of(s.id, s.scores.get(metric), index=s.index if several else None, error=s.error)
        for s in told
    ]
    return mean_of(metric, points, measure=f"{metric}|nemo-evaluator")


def _check_results(file: Path, samples: Sequence[_Sample]) -> list[str]:
    """Notes on metrics whose mean NeMo Evaluator reports otherwise. Raises UserError where it
    counted another number of samples.
    """
    results = file.with_name("byob_results.json")
    if not results.is_file():
        return [f"{results.name} is not beside {file.name}: the numbers are not compared with it"]
    notes = []
    for one in (read_json(results).get("tasks") or {}).values():
        for metric, told in ((one["metrics"].get("pass@1") or {}).get("scores") or {}).items():
            values = [v for s in samples if (v := finite(s.scores.get(metric))) is not None]
            count = (told.get("stats") or {}).get("count")
            if count is not None and count != len(values):
                raise UserError(
                    f"{len(values)} scores of {metric} are here, and NeMo counted {count}",
                    file=file,
                    hint="the file may be cut short: copy it again",
                )
            mean, reported = math.fsum(values) / len(values), finite(told.get("value"))
            # The report rounds to four places.
            if reported is not None and abs(mean - reported) > 1e-4:
                notes.append(
                    f"NeMo Evaluator reported {reported:.6g} for {metric}, and the numbers of its "
                    f"samples have the mean {mean:.6g}: that is imported"
                )
    return notes

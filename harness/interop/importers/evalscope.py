"""Imports what EvalScope writes: every score of every sample that it reviewed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.text_file import read_text
from harness.core.types import Direction, Sample, ScoreOutcome
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Point,
    Series,
    finite,
    moment,
    read_as_written_by,
    read_json,
    read_json_lines,
    task_name,
)
from harness.interop.importers.work_dir import one_model

Row = Mapping[str, Any]
_SENDING = frozenset({"batch_size", "timeout", "retries", "retry_interval", "stream"})
"""Of EvalScope's generation settings: how a question is sent, and nothing of the question."""


@read_as_written_by("EvalScope")
def read_evalscope(path: Path, *, name: str | None = None) -> Imported:
    """The run in the folder that EvalScope wrote, called `name`: each file of reviews is a task.

    Raises UserError for a folder of several runs or models, and for an evaluation that didn't
    finish.
    """
    place, folder = one_model(
        path,
        "reviews",
        tool="EvalScope",
        nothing="EvalScope reviewed nothing here: there is no folder reviews/MODEL",
        hint="name the folder with `reviews` and `reports` in it; a stopped evaluation goes on "
        "with --use-cache",
        apart="evaluate them into separate folders: --work-dir",
    )
    config, written = _config(place)
    tasks: list[ImportedTask] = []
    notes: list[str] = []
    skipped: dict[str, str] = {}
    for file in sorted(folder.glob("*.jsonl")):
        report = _report(place / "reports" / folder.name, file)
        rows, twice = _rows(file)
        if twice:
            notes.append(f"{file.name}: {twice} samples stand there again; the last one is taken")
        task = _task(file.stem, rows, report, config)
        notes += _other_means(task, report, file.stem)
        kept = tuple(one for one in task.metrics if any(p.value is not None for p in one.points))
        skipped |= {
            f"{task.name}/{one.name}": one.points[0].reason or "it has no numbers"
            for one in task.metrics
            if one not in kept
        }
        tasks.append(replace(task, metrics=kept))
    return Imported(
        source="evalscope",
        model=name or str(config.get("model_id") or folder.name),
        tasks=tuple(tasks),
        subject={
            "backend": f"evalscope {config.get('eval_type')}",
            "model": config.get("model"),
            "model_args": config.get("model_args"),
        },
        provenance={"evalscope": config.get("evalscope_version")},
        measured_at=moment(written),
        file=path,
        skipped=skipped,
        notes=tuple(notes),
    )


def _config(place: Path) -> tuple[Row, float | None]:
    """What the evaluation was asked for, and when it was written down."""
    found = sorted((place / "configs").glob("task_config*.yaml"))
    if not found:
        return {}, None
    try:
        config = yaml.safe_load(read_text(found[-1], what="file"))
    except yaml.YAMLError as error:
        raise UserError(
            "this is not YAML", file=found[-1], hint="the file may be cut short: copy it again"
        ) from error
    return (config if isinstance(config, Mapping) else {}), found[-1].stat().st_mtime


def _report(folder: Path, reviews: Path) -> Row:
    """The report of the benchmark that a file of reviews belongs to: `BENCHMARK_SUBSET.jsonl`."""
    names = [
        one
        for one in folder.glob("*.json")
        if reviews.stem == one.stem or reviews.stem.startswith(f"{one.stem}_")
    ]
    if not names:
        raise UserError(
            "there is no report of this benchmark: its evaluation didn't finish",
            file=reviews,
            hint="EvalScope goes on with --use-cache FOLDER",
        )
    report: Row = read_json(max(names, key=lambda one: len(one.stem)))
    return {**report, "benchmark": max(names, key=lambda one: len(one.stem)).stem}


def _rows(file: Path) -> tuple[list[Row], int]:
    """The reviews in the order of their samples, and how many stand there more than once."""
    rows: dict[int, Row] = {}
    twice = 0
    for number, row in read_json_lines(file):
        index, score = row.get("index"), row.get("sample_score")
        value = (score.get("score") or {}).get("value") if isinstance(score, Mapping) else None
        if not isinstance(index, int) or not isinstance(value, Mapping):
            missing = "index" if not isinstance(index, int) else "sample_score.score.value"
            raise UserError(
                "this is not a review of EvalScope",
                file=file,
                line=number,
                field=missing,
                hint="name the folder that EvalScope wrote",
            )
        twice += index in rows
        rows[index] = row
    if not rows:
        raise UserError(
            "the file holds no reviews", file=file, hint="EvalScope goes on with --use-cache FOLDER"
        )
    return [rows[index] for index in sorted(rows)], twice


@dataclass(frozen=True, slots=True)
class _Review:
    """One answer to a sample, the `index`th, with what EvalScope says of it."""

    sample_id: str
    index: int
    row: Row

    @property
    def score(self) -> Row:
        found: Row = self.row["sample_score"]["score"]
        return found

    @property
    def asked(self) -> list[dict[str, str]]:
        """The messages before the model's first."""
        asked = []
        for message in self.row.get("messages") or []:
            if message.get("role") == "assistant":
                break
            asked.append({"role": str(message.get("role")), "content": _text(message)})
        return asked

    @property
    def targets(self) -> list[str]:
        target = self.row.get("target")
        found = target if isinstance(target, list) else [target]
        return [str(one) for one in found if one not in (None, "")]

    @property
    def answer(self) -> str:
        said = self.score.get("prediction")
        if isinstance(said, str):
            return said
        messages = self.row.get("messages") or []
        return next((_text(m) for m in reversed(messages) if m.get("role") == "assistant"), "")

    @property
    def error(self) -> str | None:
        """Why it has no score at all, None where it has."""
        status = self.score.get("status")
        if status in (None, "success"):
            return None
        why = str(self.score.get("explanation") or "").strip()
        return (why.splitlines()[0] if why else f"EvalScope scored it as {status!r}")[:300]


def _text(message: Row) -> str:
    content = message.get("content")
    if not isinstance(content, list):
        return "" if content is None else str(content)
    parts = [one.get("text") if isinstance(one, Mapping) else one for one in content]
    return "".join(str(part) for part in parts if part)


def _reviews(rows: Sequence[Row]) -> list[_Review]:
    """Repeated samples share a group, and the group is then the sample."""
    groups = [row["sample_score"].get("group_id") for row in rows]
    repeated = None not in groups and len(set(groups)) < len(groups)
    counts: dict[str, int] = {}
    found = []
    for row, group in zip(rows, groups, strict=True):
        sample_id = str(group if repeated else row["index"])
        index = counts.get(sample_id, 0)
        counts[sample_id] = index + 1
        found.append(_Review(sample_id, index, row))
    return found


def _task(stem: str, rows: Sequence[Row], report: Row, config: Row) -> ImportedTask:
    reviews = _reviews(rows)
    name = task_name(stem)
    several = any(review.index for review in reviews)
    samples = {r.sample_id: r for r in reversed(reviews)}
    documents = sorted((key, digest_of([r.asked, r.targets])) for key, r in samples.items())
    metrics = dict.fromkeys(key for review in reviews for key in review.score["value"])
    generation = config.get("generation_config") or {}
    identity = ((config.get("evaluation_identity") or {}).get("benchmarks") or {}).get(
        report["benchmark"]
    )
    return ImportedTask(
        name=name,
        protocol={
            "data": {"documents": digest_of(documents), "n": len(documents)},
            "prompt": {
                "benchmark": report["benchmark"],
                "version": (identity or {}).get("evaluation_version"),
            },
            "generate": {
                **{k: v for k, v in generation.items() if k not in _SENDING and v is not None},
                "repeats": config.get("repeats"),
            },
        },
        metrics=tuple(_series(metric, reviews, report, several) for metric in metrics),
        samples=tuple(
            Sample(
                id=review.sample_id,
                task=name,
                fields=review.row["sample_score"].get("sample_metadata") or {},
                prompt=tuple(review.asked),
                references=tuple(review.targets),
            )
            for review in reversed(samples.values())
        ),
        answers=tuple(Answer(r.sample_id, r.index, r.answer, r.error) for r in reviews),
    )


def _series(metric: str, reviews: Sequence[_Review], report: Row, several: bool) -> Series:
    semantics = (_told(metric, report) or {}).get("semantics") or {}
    ends = semantics.get("value_range") or {}
    points = tuple(_point(metric, review, several) for review in reviews)
    low, high = finite(ends.get("min")), finite(ends.get("max"))
    values = [point.value for point in points if point.value is not None]
    bounded = all((low is None or low <= v) and (high is None or v <= high) for v in values)
    direction: Direction = "lower" if semantics.get("direction") == "lower_is_better" else "higher"
    return Series(
        name=metric.replace("/", "."),
        direction=direction,
        points=points,
        measure=f"{metric}|evalscope|{semantics.get('semantic_id') or 'unspecified'}",
        scale="interval" if any(value < 0 for value in values) else "ratio",
        unit="share" if bounded and (low, high) == (0.0, 1.0) else "",
        low=low if bounded else None,
        high=high if bounded else None,
    )


def _point(metric: str, review: _Review, several: bool) -> Point:
    index = review.index if several else None
    failed = review.error or _failed(metric, review)
    value = finite(review.score["value"].get(metric))
    if value is not None and failed is None:
        return Point(review.sample_id, value, index)
    outcome = ScoreOutcome.UNSCORED if failed is None else ScoreOutcome.ERROR
    why = failed or "EvalScope left it unscored"
    return Point(review.sample_id, None, index, reason=why, outcome=outcome)


def _failed(metric: str, review: _Review) -> str | None:
    """Why a metric couldn't be computed: EvalScope writes 0 then, which is no score."""
    errors = (review.score.get("metadata") or {}).get("metric_errors") or {}
    for name, why in errors.items():
        if metric.lower().startswith(str(name).lower()):
            told = " ".join(str(why).replace("*", "").split())
            return f"EvalScope could not compute {name}: {told}"[:300]
    return None


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())


def _told(metric: str, report: Row) -> Row | None:
    """What the report says of a score: of the metric of its name, or of the longest name that it
    begins with (`bleu-1` is `bleu`).
    """
    found: dict[str, Row] = {}
    for one in report.get("metrics") or []:
        name = (one.get("identity") or {}).get("name") or one.get("name")
        if isinstance(name, str) and name:
            found.setdefault(_plain(name), one)
    names = [name for name in found if _plain(metric).startswith(name)]
    return found[max(names, key=len)] if names else None


def _other_means(task: ImportedTask, report: Row, stem: str) -> Iterator[str]:
    """A note on each metric whose mean over this subset EvalScope reports otherwise."""
    subset = stem[len(report["benchmark"]) + 1 :]
    for series in task.metrics:
        told = _told(series.name, report) or {}
        identity = told.get("identity") or {}
        if identity.get("aggregation") != "mean" or identity.get("dimensions"):
            continue
        if _plain(str(identity.get("name"))) != _plain(series.name):
            continue
        parts = [s for c in told.get("categories") or [] for s in c.get("subsets") or []]
        reported = next((finite(s.get("score")) for s in parts if s.get("name") == subset), None)
        values = [point.value for point in series.points if point.value is not None]
        mean = math.fsum(values) / len(values) if values else None
        # The report rounds to four places.
        if reported is not None and mean is not None and abs(mean - reported) > 1e-4:
            yield (
                f"EvalScope reported {reported:.6g} for {task.name}/{series.name}, and the numbers "
                f"of its samples have the mean {mean:.6g}: that is imported"
            )

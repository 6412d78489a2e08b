"""Imports Inspect's logs: every scorer of every sample and epoch.

Values are read as Inspect's own `value_to_float` reads them. A log doesn't say whether higher is
better; it is, unless the caller names a metric as lower.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Sample, ScoreOutcome
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Point,
    Series,
    finite,
    moment,
    read_as_written_by,
    task_name,
)
from harness.interop.importers.inspect_epochs import Epochs, epochs_of, reduced
from harness.interop.importers.inspect_files import Log, read_log

_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Correct, incorrect, partial, no answer."""
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


@read_as_written_by("Inspect")
def read_inspect(path: Path, *, name: str | None = None, lower: Collection[str] = ()) -> Imported:
    """The run in one log, called `name`; `lower` names the metrics of which less is better.

    Raises UserError for a file that is not a log, or one of an evaluation that didn't finish.
    """
    header, samples = read_log(path)
    evaluation = header["eval"]
    task = task_name(str(evaluation.get("task") or "task").rpartition("/")[2])
    values = _by_epoch(samples, path)
    metrics = _metrics(samples, path)
    names = [metric.name for metric in metrics]
    epochs, told = epochs_of(evaluation, values)
    unknown = [metric for metric in lower if metric not in names]
    if unknown:
        raise UserError(
            f"the log has no metric {unknown[0]!r}",
            file=path,
            field="--lower",
            hint=f"it has {', '.join(names)}",
        )
    series = [
        _series(metric, values, evaluation, direction, epochs)
        for metric in metrics
        for direction in ("lower" if metric.name in lower else "higher",)
    ]
    kept = tuple(one for one in series if any(p.value is not None for p in one.points))
    return Imported(
        source="inspect",
        model=name or str(evaluation.get("model") or "model"),
        tasks=(
            ImportedTask(
                name=task,
                protocol=_protocol(header, samples, epochs),
                metrics=kept,
                samples=tuple(_samples(task, samples)),
                answers=tuple(_answers(samples)),
            ),
        ),
        subject={
            "backend": f"inspect {evaluation.get('model')}",
            "model_args": evaluation.get("model_args"),
        },
        provenance={
            "inspect_ai": (evaluation.get("packages") or {}).get("inspect_ai"),
        },
        measured_at=moment(evaluation.get("created")),
        file=path,
        skipped={
            f"{task}/{s.name}": _why_no_numbers(metric, samples)
            for s, metric in zip(series, metrics, strict=True)
            if s not in kept
        },
        notes=(
            f"higher is better for {_listed(names, lower)}; --lower METRIC turns one round",
            *told,
            *_other_means(header, metrics, kept, epochs),
        ),
    )


def _by_epoch(samples: Sequence[Log], path: Path) -> dict[tuple[str, int], Log]:
    found: dict[tuple[str, int], Log] = {}
    for sample in samples:
        epoch = sample.get("epoch") or 1
        if not isinstance(epoch, int):
            raise UserError(f"{epoch!r} is not the number of an epoch", file=path, field="epoch")
        if not isinstance(sample.get("scores") or {}, Mapping):
            raise UserError("a sample's scores are no mapping", file=path, field="scores")
        place = str(sample.get("id")), epoch
        if place in found:
            raise UserError(
                f"sample {place[0]!r} is there twice in epoch {epoch}",
                file=path,
                field="id",
                hint="ids must be unique within a task",
            )
        found[place] = sample
    return found


def _other_means(
    header: Log, metrics: Sequence[_Metric], series: Sequence[Series], epochs: Epochs
) -> Iterator[str]:
    """A note on each metric whose mean Inspect reports otherwise than its samples give it."""
    ours = {one.name: one for one in series}
    for told in (header.get("results") or {}).get("scores") or []:
        values = told.get("metrics") or {}
        reported = next(
            (
                finite((values.get(n) or {}).get("value"))
                for n in ("accuracy", "mean")
                if n in values
            ),
            None,
        )
        if reported is None or told.get("reducer") not in (None, epochs.reducer):
            continue
        for metric in metrics:
            if (told.get("scorer"), told.get("name")) != (metric.score, metric.key or metric.score):
                continue
            found = ours.get(metric.name.replace("/", "."))
            mean = None if found is None else _mean(found)
            if mean is not None and not math.isclose(mean, reported, rel_tol=1e-6, abs_tol=1e-9):
                yield (
                    f"Inspect reported {reported:.6g} for {metric.name}, and the numbers of its "
                    f"samples have the mean {mean:.6g}: that is imported"
                )


def _mean(series: Series) -> float | None:
    """Over samples, each the mean of its epochs."""
    by_sample: dict[str, list[float]] = {}
    for point in series.points:
        if point.value is not None:
            by_sample.setdefault(point.sample_id, []).append(point.value)
    means = [math.fsum(values) / len(values) for values in by_sample.values()]
    return math.fsum(means) / len(means) if means else None


def _why_no_numbers(metric: _Metric, samples: Sequence[Log]) -> str:
    raw = next((found for one in samples if (found := metric.raw(one)) is not None), None)
    return "it has no numbers" if raw is None else f"it has no numbers: a value is {raw!r:.60}"


def _listed(names: Sequence[str], lower: Collection[str]) -> str:
    return ", ".join(name for name in names if name not in lower) or "none"


@dataclass(frozen=True, slots=True)
class _Metric:
    """One number of each sample: a score's value, or one key of it where the value is a mapping.

    Scores are kept under names that may hold dots themselves, so the two parts stay apart.
    """

    score: str
    key: str | None = None

    @property
    def name(self) -> str:
        return self.score if self.key is None else f"{self.score}.{self.key}"

    def raw(self, sample: Log) -> Any:
        score = (sample.get("scores") or {}).get(self.score)
        value = score.get("value") if isinstance(score, Mapping) else None
        if self.key is None:
            return None if isinstance(value, Mapping | list) else value
        return value.get(self.key) if isinstance(value, Mapping) else None


def _metrics(samples: Sequence[Log], path: Path) -> list[_Metric]:
    found: dict[_Metric, None] = {}
    for sample in samples:
        for name, score in (sample.get("scores") or {}).items():
            value = score.get("value") if isinstance(score, Mapping) else None
            if isinstance(value, Mapping):
                found.update(dict.fromkeys(_Metric(name, str(key)) for key in value))
            else:
                found[_Metric(name)] = None
    names = [metric.name for metric in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"two scores of the log are called {twice!r}",
            file=path,
            field="scores",
            hint="rename one of the scorers, or a key of its value",
        )
    return list(found)


def _series(
    metric: _Metric,
    samples: Mapping[tuple[str, int], Log],
    evaluation: Log,
    direction: Any,
    epochs: Epochs,
) -> Series:
    points, graded = [], True
    numbers: list[float] = []
    for (sample_id, epoch), sample in samples.items():
        raw = metric.raw(sample)
        value = _value(raw)
        graded = graded and (raw is None or isinstance(raw, bool) or _is_grade(raw))
        numbers += [] if value is None else [value]
        index = epoch - 1 if epochs.several else None
        points.append(_point(sample_id, index, sample, value, raw))
    reducer = epochs.reducer
    if reducer not in (None, "mean"):
        points = reduced(points, epochs)
    scorer = metric.score
    options: Log = next(
        (s for s in evaluation.get("scorers") or [] if s.get("name", "").endswith(scorer)), {}
    )
    how = "" if reducer in (None, "mean") else f"|reducer:{reducer}"
    return Series(
        name=metric.name.replace("/", "."),
        direction=direction,
        points=tuple(points),
        measure=f"{metric.name}|inspect|options:{digest_of(options.get('options'))[:8]}{how}",
        scale="interval" if any(value < 0 for value in numbers) else "ratio",
        unit="share" if graded else "",
        low=0.0 if graded else None,
        high=1.0 if graded else None,
    )


def _value(raw: Any) -> float | None:
    if isinstance(raw, str):
        if raw in _GRADES:
            return _GRADES[raw]
        word = raw.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            return finite(float(raw))
        except ValueError:
            return None
    return finite(raw)


def _is_grade(raw: Any) -> bool:
    """Whether it is one of Inspect's grades or yes and no, whose range is 0 to 1."""
    return isinstance(raw, str) and (raw in _GRADES or raw.strip().lower() in _WORDS)


def _point(sample_id: str, index: int | None, sample: Log, value: float | None, raw: Any) -> Point:
    if value is not None:
        return Point(sample_id, value, index)
    failed = _error(sample)
    unread = isinstance(raw, str | list)
    reason = failed or (f"{raw!r:.60} is not a number" if unread else "Inspect left it unscored")
    outcome = ScoreOutcome.ERROR if failed else ScoreOutcome.UNSCORED
    return Point(sample_id, None, index, reason=reason, outcome=outcome)


def _error(sample: Log) -> str | None:
    error = sample.get("error")
    if not error:
        return None
    message = error.get("message") if isinstance(error, Mapping) else error
    return str(message).splitlines()[0][:300] if message else "the sample failed"


_SENDING = frozenset(
    {
        *("max_retries", "timeout", "attempt_timeout", "max_connections"),
        *("adaptive_connections", "batch", "cache", "cache_prompt"),
    }
)
"""Of Inspect's GenerateConfig: what says how a question is sent, and nothing of the question."""


def _asked_for(config: Any) -> dict[str, Any]:
    named = config if isinstance(config, Mapping) else {}
    return {k: v for k, v in named.items() if k not in _SENDING and v is not None}


def _protocol(header: Log, samples: Sequence[Log], epochs: Epochs) -> dict[str, Any]:
    """What two runs must share: data, task version, solver, sampling settings and epochs."""
    evaluation, plan = header["eval"], header.get("plan") or {}
    asked = {(str(s.get("id")), digest_of([s.get("input"), s.get("target")])) for s in samples}
    steps = [(step.get("solver"), step.get("params")) for step in plan.get("steps") or []]
    return {
        "data": {"documents": digest_of(sorted(asked)), "n": len({key for key, _ in asked})},
        "prompt": {
            "task": evaluation.get("task"),
            "version": evaluation.get("task_version"),
            "args": evaluation.get("task_args"),
            "solver": digest_of(steps),
        },
        "generate": {
            **_asked_for(plan.get("config")),
            **_asked_for(evaluation.get("model_generate_config")),
            "epochs": (evaluation.get("config") or {}).get("epochs"),
        },
    }


def _samples(task: str, samples: Sequence[Log]) -> Iterator[Sample]:
    seen: set[str] = set()
    for sample in samples:
        key = str(sample.get("id"))
        if key in seen:
            continue
        seen.add(key)
        asked, target = sample.get("input"), sample.get("target")
        targets = target if isinstance(target, list) else [target]
        yield Sample(
            id=key,
            task=task,
            fields=sample.get("metadata") or {},
            prompt=tuple(_messages(asked)),
            references=tuple(str(one) for one in targets if one not in (None, "")),
        )


def _messages(asked: Any) -> Iterator[dict[str, str]]:
    if isinstance(asked, str):
        yield {"role": "user", "content": asked}
    for message in asked if isinstance(asked, list) else ():
        content = message.get("content")
        parts = content if isinstance(content, list) else [content]
        texts = [part.get("text", "") if isinstance(part, Mapping) else part for part in parts]
        said = "".join(str(text) for text in texts if text)
        yield {"role": str(message.get("role")), "content": said}


def _answers(samples: Sequence[Log]) -> Iterator[Answer]:
    for sample in samples:
        output = sample.get("output") or {}
        text = output.get("completion")
        if not isinstance(text, str):
            choices = output.get("choices") or [{}]
            content = (choices[0].get("message") or {}).get("content")
            text = content if isinstance(content, str) else ""
        index = int(sample.get("epoch") or 1) - 1
        yield Answer(str(sample.get("id")), index, text, _error(sample))

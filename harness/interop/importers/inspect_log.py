"""Imports Inspect's logs: every scorer of every sample and epoch.

Values are read as Inspect's own `value_to_float` reads them. A log doesn't say whether higher is
better; it is, unless the caller names a metric as lower.
"""

from __future__ import annotations

import binascii
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    parse_json,
    read_json,
    task_name,
)

_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Correct, incorrect, partial, no answer."""
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTD = 93

Log = Mapping[str, Any]


def read_inspect(path: Path, *, name: str | None = None, lower: Collection[str] = ()) -> Imported:
    """The run in one log, called `name`; `lower` names the metrics of which less is better.

    Raises UserError for a file that is not a log, or one of an evaluation that didn't finish.
    """
    header, samples = _read(path)
    _check(path, header, samples)
    evaluation = header["eval"]
    task = task_name(str(evaluation.get("task") or "task").rpartition("/")[2])
    values = {(str(sample.get("id")), int(sample.get("epoch") or 1)): sample for sample in samples}
    names = _metric_names(samples)
    unknown = [metric for metric in lower if metric not in names]
    if unknown:
        raise UserError(
            f"the log has no metric {unknown[0]!r}",
            file=path,
            field="--lower",
            hint=f"it has {', '.join(names)}",
        )
    series = [
        _series(metric, values, evaluation, "lower" if metric in lower else "higher")
        for metric in names
    ]
    kept = tuple(one for one in series if any(p.value is not None for p in one.points))
    return Imported(
        source="inspect",
        model=name or str(evaluation.get("model") or "model"),
        tasks=(
            ImportedTask(
                name=task,
                protocol=_protocol(header, samples),
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
        skipped={f"{task}/{s.name}": "it has no numbers" for s in series if s not in kept},
        notes=(f"higher is better for {_listed(names, lower)}; --lower METRIC turns one round",),
    )


def _listed(names: Sequence[str], lower: Collection[str]) -> str:
    return ", ".join(name for name in names if name not in lower) or "none"


def _read(path: Path) -> tuple[Log, list[Log]]:
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, dict) or "eval" not in content:
            raise UserError(
                "this is not a log of Inspect",
                file=path,
                field="eval",
                hint="name an .eval or .json file that Inspect wrote",
            )
        return content, list(content.get("samples") or [])
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = {info.filename: info for info in archive.infolist()}
            if "header.json" not in members:
                raise UserError(
                    "the log has no header: its evaluation didn't finish",
                    file=path,
                    hint="`inspect eval-retry` finishes it",
                )

            def read(member: str) -> Any:
                data = _content(archive, raw, members[member])
                return parse_json(data.decode("utf-8"), path / member)

            header = read("header.json")
            names = [m for m in members if m.startswith("samples/") and m.endswith(".json")]
            return header, [read(member) for member in names]
    except FileNotFoundError as error:
        raise UserError("there is no such file", file=path, hint="check its spelling") from error
    except (IsADirectoryError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise UserError(
            f"this is not a log of Inspect: {error}", file=path, hint="name an .eval or .json file"
        ) from error


def _content(archive: zipfile.ZipFile, raw: Any, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes. Inspect packs with Zstandard, which Python's zipfile learns in 3.14."""
    if info.compress_type != _ZSTD:
        return archive.read(info)
    import pyarrow

    # The local header before the data: its lengths of name and extra field stand at byte 26, and
    # may differ from those of the archive's directory.
    raw.seek(info.header_offset + 26)
    name_size, extra_size = struct.unpack("<HH", raw.read(4))
    raw.seek(name_size + extra_size, 1)
    packed = pyarrow.BufferReader(raw.read(info.compress_size))
    data: bytes = pyarrow.CompressedInputStream(packed, "zstd").read()
    if binascii.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged")
    return data


def _check(path: Path, header: Log, samples: Sequence[Log]) -> None:
    status = header.get("status")
    if status != "success":
        raise UserError(
            f"the evaluation ended as {status!r}",
            file=path,
            field="status",
            hint="`inspect eval-retry` finishes it",
        )
    if not samples:
        raise UserError(
            "the log holds no samples", file=path, hint="run Inspect without --no-log-samples"
        )
    total = (header.get("results") or {}).get("total_samples")
    if isinstance(total, int) and total != len(samples):
        raise UserError(
            f"{len(samples)} samples are here, and Inspect evaluated {total}",
            file=path,
            hint="the file may be cut short: copy it again",
        )


def _metric_names(samples: Sequence[Log]) -> list[str]:
    found: dict[str, None] = {}
    for sample in samples:
        for scorer, score in (sample.get("scores") or {}).items():
            value = score.get("value")
            if isinstance(value, Mapping):
                found.update(dict.fromkeys(f"{scorer}.{key}" for key in value))
            else:
                found[scorer] = None
    return list(found)


def _series(
    metric: str,
    samples: Mapping[tuple[str, int], Log],
    evaluation: Log,
    direction: Any,
) -> Series:
    several = any(epoch > 1 for _, epoch in samples)
    points, graded = [], True
    for (sample_id, epoch), sample in samples.items():
        raw = _raw(sample, metric)
        value = _value(raw)
        graded = graded and (raw is None or isinstance(raw, str | bool))
        index = epoch - 1 if several else None
        points.append(_point(sample_id, index, sample, value))
    values = [point.value for point in points if point.value is not None]
    scorer = metric.partition(".")[0]
    options: Log = next(
        (s for s in evaluation.get("scorers") or [] if s.get("name", "").endswith(scorer)), {}
    )
    return Series(
        name=metric.replace("/", "."),
        direction=direction,
        points=tuple(points),
        measure=f"{metric}|inspect|options:{digest_of(options.get('options'))[:8]}",
        scale="interval" if any(value < 0 for value in values) else "ratio",
        unit="share" if graded else "",
        low=0.0 if graded else None,
        high=1.0 if graded else None,
    )


def _raw(sample: Log, metric: str) -> Any:
    scores = sample.get("scores") or {}
    if metric in scores:
        return scores[metric].get("value")
    scorer, _, key = metric.rpartition(".")
    value = (scores.get(scorer) or {}).get("value")
    return value.get(key) if isinstance(value, Mapping) else None


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


def _point(sample_id: str, index: int | None, sample: Log, value: float | None) -> Point:
    if value is not None:
        return Point(sample_id, value, index)
    failed = _error(sample)
    reason = failed or "Inspect left it unscored"
    outcome = ScoreOutcome.ERROR if failed else ScoreOutcome.UNSCORED
    return Point(sample_id, None, index, reason=reason, outcome=outcome)


def _error(sample: Log) -> str | None:
    error = sample.get("error")
    if not error:
        return None
    message = error.get("message") if isinstance(error, Mapping) else error
    return str(message).splitlines()[0][:300] if message else "the sample failed"


def _protocol(header: Log, samples: Sequence[Log]) -> dict[str, Any]:
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
            **(plan.get("config") or {}),
            **(evaluation.get("model_generate_config") or {}),
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

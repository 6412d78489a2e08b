"""Imports lighteval's results that were written with `--save-details`.

Every metric is imported only where the mean of its samples is the value that lighteval reported;
what is computed of a whole corpus (BLEU, chrF) is left out with that reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Sample
from harness.data.rows import read_rows
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Series,
    finite,
    moment,
    read_as_written_by,
    read_json,
    task_name,
)
from harness.interop.importers.series import mean_of, point_of

Row = Mapping[str, Any]
_TASK = ("prompt_function", "hf_repo", "hf_subset", "evaluation_splits", "version", "num_fewshots")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@read_as_written_by("lighteval")
def read_lighteval(path: Path, *, name: str | None = None) -> Imported:
    """The newest run in a folder that lighteval wrote (`--output-dir`), called `name`.

    Raises UserError for a folder of several models, and for results without details.
    """
    results, content, notes = _results(path)
    stamp = results.stem.removeprefix("results_")
    files = sorted(path.rglob(f"details_*_{stamp}.parquet")) if path.is_dir() else []
    if not files:
        raise UserError(
            "there are no details beside these results",
            file=results,
            hint="run lighteval again with --save-details, and name its --output-dir",
        )
    general = content.get("config_general") or {}
    config = general.get("model_config") or {}
    tasks: list[ImportedTask] = []
    skipped: dict[str, str] = {}
    for file in files:
        full = file.stem.removeprefix("details_").removesuffix(f"_{stamp}")
        task, left_out = _task(full, _rows(file), content, config)
        tasks.append(task)
        skipped |= left_out
    return Imported(
        source="lighteval",
        model=name or str(general.get("model_name") or config.get("model_name") or "model"),
        tasks=tuple(tasks),
        subject={
            "backend": "lighteval",
            "model": general.get("model_name"),
            "revision": config.get("revision"),
            "dtype": config.get("dtype"),
        },
        provenance={"lighteval": general.get("lighteval_sha"), "device": config.get("device")},
        measured_at=moment(re.sub(r"T(\d\d)-(\d\d)-", r"T\1:\2:", stamp)),
        file=results,
        skipped=skipped,
        notes=tuple(notes),
    )


def _results(path: Path) -> tuple[Path, Row, list[str]]:
    """The newest results there, and a note on the older ones."""
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is no such folder"
        raise UserError(what, file=path, hint="name the folder of lighteval's --output-dir")
    found = sorted(path.rglob("results_*.json"), key=lambda one: one.name)
    if not found:
        raise UserError(
            "there is no results_*.json here",
            file=path,
            hint="name the folder of lighteval's --output-dir",
        )
    contents = [(one, _content(one)) for one in found]
    models = sorted({str((c.get("config_general") or {}).get("model_name")) for _, c in contents})
    if len(models) > 1:
        raise UserError(
            f"there are results of {len(models)} models: {', '.join(models)}",
            file=path,
            hint="evaluate each into its own --output-dir",
        )
    newest, content = contents[-1]
    return newest, content, [f"{p.name} is left out: it is older" for p, _ in contents[:-1]]


def _content(file: Path) -> Row:
    content = read_json(file)
    for field in ("results", "config_tasks"):
        if not isinstance(content, dict) or not isinstance(content.get(field), dict):
            raise UserError(
                "this is not a results file of lighteval",
                file=file,
                field=field,
                hint="name the folder of lighteval's --output-dir",
            )
    found: Row = content
    return found


def _rows(file: Path) -> dict[str, Row]:
    """Sample id -> what lighteval logged of it. Raises UserError naming the row."""
    found: dict[str, Row] = {}
    for number, row in read_rows(file):
        for field in ("doc", "metric", "model_response"):
            if not isinstance(row.get(field), Mapping):
                raise UserError(
                    "this is not a row of lighteval's details",
                    file=file,
                    line=number,
                    field=field,
                    hint="these details must come from lighteval 0.10 or newer",
                )
        sample_id = str(row["doc"].get("id") or number - 1)
        if sample_id in found:
            raise UserError(f"sample {sample_id} is there twice", file=file, line=number)
        found[sample_id] = row
    if not found:
        raise UserError("the file holds no samples", file=file, hint="run lighteval again")
    return found


def _task(
    full: str, rows: Mapping[str, Row], content: Row, config: Row
) -> tuple[ImportedTask, dict[str, str]]:
    own = content["config_tasks"].get(full) or {}
    reported = content["results"].get(full) or {}
    # `gsm8k|5` has five shots, which are the protocol's.
    name = task_name(full)
    documents = sorted(
        (key, digest_of([row["doc"].get("query"), _references(row["doc"])]))
        for key, row in rows.items()
    )
    metrics, skipped = [], {}
    for metric in dict.fromkeys(key for row in rows.values() for key in row["metric"]):
        series = _series(metric, rows, own, reported.get(metric))
        if isinstance(series, str):
            skipped[f"{name}/{metric}"] = series
        else:
            metrics.append(series)
    settings = config.get("generation_parameters") or {}
    task = ImportedTask(
        name=name,
        protocol={
            "data": {"documents": digest_of(documents), "n": len(documents)},
            "prompt": {
                **{key: own.get(key) for key in _TASK},
                "system": config.get("system_prompt"),
            },
            "generate": {
                **{key: value for key, value in settings.items() if value is not None},
                "generation_size": own.get("generation_size"),
                "stop": own.get("stop_sequence"),
            },
        },
        metrics=tuple(metrics),
        samples=tuple(_sample(name, key, row) for key, row in rows.items()),
        answers=tuple(answer for key, row in rows.items() for answer in _answers(key, row)),
    )
    return task, skipped


def _series(metric: str, rows: Mapping[str, Row], own: Row, told: Any) -> Series | str:
    """The metric, or why it is left out."""
    values = {key: row["metric"][metric] for key, row in rows.items() if metric in row["metric"]}
    config: Row = next((one for one in own.get("metrics") or [] if metric in _names(one)), {})
    if any(isinstance(value, Mapping | list | str) for value in values.values()):
        how = config.get("corpus_level_fn")
        return "it is a value of the whole corpus" + (f": {how}" if how else "")
    higher = config.get("higher_is_better")
    if isinstance(higher, Mapping):
        higher = higher.get(metric)
    if not isinstance(higher, bool):
        return "lighteval doesn't say whether higher is better"
    points = [point_of(key, value) for key, value in values.items()]
    numbers = [point.value for point in points if point.value is not None]
    reported = finite(told)
    if not numbers or reported is None:
        return "lighteval reported no value for it"
    mean = math.fsum(numbers) / len(numbers)
    if not math.isclose(mean, reported, rel_tol=1e-6, abs_tol=1e-9):
        return f"its value {reported:.6g} is not the mean of its samples ({mean:.6g})"
    options = _ADDRESS.sub("", str(config.get("sample_level_fn")))
    return mean_of(
        metric,
        points,
        measure=f"{metric}|lighteval|options:{digest_of(options)[:8]}",
        direction="higher" if higher else "lower",
    )


def _names(metric: Any) -> Sequence[str]:
    """A group of metrics is computed together, and has a list of names."""
    found = metric.get("metric_name") if isinstance(metric, Mapping) else None
    return found if isinstance(found, list) else [str(found)]


def _references(doc: Row) -> list[str]:
    gold, choices = doc.get("gold_index"), doc.get("choices") or []
    right = gold if isinstance(gold, list) else [gold]
    return [str(choices[at]) for at in right if isinstance(at, int) and 0 <= at < len(choices)]


def _sample(task: str, key: str, row: Row) -> Sample:
    doc = row["doc"]
    return Sample(
        id=key,
        task=task,
        fields={"choices": doc.get("choices"), **_as_map(doc.get("specific"))},
        prompt=tuple(_asked(row)),
        references=tuple(_references(doc)),
    )


def _as_map(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {}


def _asked(row: Row) -> Iterator[dict[str, str]]:
    """What was sent where lighteval kept it, else the question."""
    sent, doc = row["model_response"].get("input"), row["doc"]
    if isinstance(sent, list) and all(isinstance(turn, Mapping) for turn in sent):
        yield from ({"role": str(t.get("role")), "content": str(t.get("content"))} for t in sent)
    elif isinstance(sent, str):
        yield {"role": "user", "content": sent}
    else:
        if doc.get("instruction"):
            yield {"role": "system", "content": str(doc["instruction"])}
        yield {"role": "user", "content": str(doc.get("query"))}


def _answers(key: str, row: Row) -> Iterator[Answer]:
    """What was generated; of a choice by likelihood, the likeliest."""
    response, choices = row["model_response"], row["doc"].get("choices") or []
    for index, text in enumerate(response.get("text") or []):
        yield Answer(key, index, str(text))
    likely = [finite(one) for one in response.get("logprobs") or []]
    known = [one for one in likely if one is not None]
    if not response.get("text") and known and len(likely) == len(choices):
        yield Answer(key, 0, str(choices[likely.index(max(known))]))

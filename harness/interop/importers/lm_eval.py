"""Imports lm-eval's results that were written with `--log_samples`.

Every metric is imported only where its value, computed again from the samples, is the value that
lm-eval reported; what is not a mean of its samples (corpus BLEU, F1) is left out with that reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Direction, Form, Sample, ScoreOutcome
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Point,
    Series,
    finite,
    moment,
    read_as_written_by,
    read_json_lines,
    task_name,
)
from harness.interop.importers.lm_eval_files import Results, results_files

_PER_WEIGHT = {"word_perplexity": "word", "byte_perplexity": "byte"}
"""Metrics whose samples are (log-likelihood, weight): exp(-sum / sum of weights)."""

Docs = Mapping[str, Sequence[dict[str, Any]]]


@read_as_written_by("lm-eval")
def read_lm_eval(place: Path, *, name: str | None = None) -> Imported:
    """The run in a folder that lm-eval wrote (or of one `*results_*.json`), called `name`.

    A folder with several results of one model is one run: of each task the newest is taken, and
    what is left out (older values, results with another model argument) is said in `notes`. With
    several models it is refused. Raises UserError naming file and line.
    """
    found, notes = results_files(place)
    newest = found[-1]
    others = [_other_way(newest, results) for results in found]
    notes += [why for why in others if why is not None]
    found = [results for results, why in zip(found, others, strict=True) if why is None]
    tasks: list[ImportedTask] = []
    skipped: dict[str, str] = {}
    taken: dict[str, str] = {}
    for results in reversed(found):
        for task in results.tasks:
            file = results.path.parent / f"samples_{task}_{results.stamp}.jsonl"
            if task in taken:
                notes.append(f"{task} of {results.path.name} is left out: {taken[task]} is newer")
            elif not file.is_file():
                if task in results.configured:
                    skipped.setdefault(task, "it has no file of samples")
            else:
                imported, left_out = _task(results, task, file)
                tasks.append(imported)
                taken[task] = results.path.name
                skipped.pop(task, None)
                skipped.update({f"{task}/{metric}": why for metric, why in left_out.items()})
    if not taken:
        raise UserError(
            "there are no samples beside these results",
            file=newest.path,
            hint="run lm-eval again with --log_samples --output_path DIR",
        )
    content, config = newest.content, newest.settings
    return Imported(
        source="lm-eval",
        model=name or _model(newest),
        tasks=tuple(tasks),
        subject=_subject(content, config),
        provenance=_provenance(content, config),
        measured_at=moment(content.get("date")),
        file=newest.path,
        seed=int(finite(config.get("random_seed")) or 0),
        skipped=skipped,
        notes=tuple(notes),
    )


def _model(results: Results) -> str:
    return str(results.content.get("model_name") or results.settings.get("model") or "model")


def _other_way(newest: Results, other: Results) -> str | None:
    """Why an older result of a folder is not of the newest one's run; None where it is."""
    ours, theirs = (
        {"model": _model(r), **_subject(r.content, r.settings), "limit": r.settings.get("limit")}
        for r in (newest, other)
    )
    for field, value in ours.items():
        if theirs[field] != value:
            return (
                f"{other.path.name} is left out: its {field} is {theirs[field]!r}, and that of "
                f"{newest.path.name} {value!r}; import the file by its own name"
            )
    return None


def _subject(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What was compared; a chat template belongs to the model."""
    return {
        "backend": f"lm-eval {config.get('model')}",
        "model_args": config.get("model_args"),
        "dtype": config.get("model_dtype"),
        "revision": config.get("model_sha") or config.get("model_revision"),
        "chat_template": content.get("chat_template_sha"),
    }


def _provenance(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        "lm_eval": content.get("lm_eval_version"),
        "transformers": content.get("transformers_version"),
        "device": config.get("device"),
        "batch_size": config.get("batch_size"),
    }
    return {key: value for key, value in named.items() if value is not None}


def _task(results: Results, task: str, file: Path) -> tuple[ImportedTask, dict[str, str]]:
    docs: dict[str, list[dict[str, Any]]] = {}
    for line, row in read_json_lines(file):
        _check_row(row, file, line)
        docs.setdefault(str(row.get("filter", "none")), []).append(row)
    _check_whole(results, task, file, docs)
    series, skipped = [], {}
    for filter_name, rows in docs.items():
        for metric in rows[0]["metrics"]:
            label = metric if filter_name == "none" else f"{metric},{filter_name}"
            try:
                series.append(_series(results, task, metric, filter_name, label, rows))
            except _LeftOutError as why:
                skipped[label] = str(why)
    rows = next(iter(docs.values()))
    imported = ImportedTask(
        name=task_name(task),
        protocol=_protocol(results, task, rows),
        metrics=tuple(series),
        samples=tuple(_sample(task_name(task), row, results.config(task)) for row in rows),
        answers=tuple(_answers(results.config(task), rows)),
    )
    return imported, skipped


def _check_row(row: Mapping[str, Any], file: Path, line: int) -> None:
    for field, kind in (("doc_id", int), ("metrics", list)):
        if not isinstance(row.get(field), kind):
            raise UserError(
                f"the sample has no {field}",
                file=file,
                line=line,
                field=field,
                hint="these samples must come from lm-eval 0.4.5 or newer",
            )
    for metric in row["metrics"]:
        if metric not in row:
            raise UserError(
                f"the sample lacks {metric}",
                file=file,
                line=line,
                field=str(metric),
                hint="the file may have been edited: run lm-eval again with --log_samples",
            )


def _check_whole(results: Results, task: str, file: Path, docs: Docs) -> None:
    """As many samples as lm-eval evaluated, each once."""
    if not docs:
        raise UserError(
            "the file holds no sample", file=file, hint="run lm-eval again with --log_samples"
        )
    counted = (results.of("n-samples", task) or {}).get("effective")
    for name, rows in docs.items():
        ids = [row["doc_id"] for row in rows]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise UserError(
                f"sample {twice} is there twice (filter {name})",
                file=file,
                hint="two runs may have been written to one file: run lm-eval again",
            )
        if counted is not None and len(ids) != counted:
            raise UserError(
                f"{len(ids)} samples are here (filter {name}), and lm-eval evaluated {counted}",
                file=file,
                hint="the file may be cut short: copy it again",
            )


class _LeftOutError(Exception):
    """A metric that can't be compared sample by sample; the message says why."""


def _series(
    results: Results,
    task: str,
    metric: str,
    filter_name: str,
    label: str,
    rows: Sequence[Mapping[str, Any]],
) -> Series:
    if metric == "bypass":
        raise _LeftOutError("lm-eval only asked, and scored nothing (--predict_only)")
    reported = finite((results.of("results", task) or {}).get(f"{metric},{filter_name}"))
    if reported is None:
        raise _LeftOutError("lm-eval reported no value for it")
    higher = (results.of("higher_is_better", task) or {}).get(metric)
    if not isinstance(higher, bool):
        raise _LeftOutError("lm-eval doesn't say whether higher is better")
    config = _metric_config(results.config(task), metric)
    if metric == "bits_per_byte":
        if "byte_perplexity" in rows[0]["metrics"]:
            raise _LeftOutError("it is the logarithm of byte_perplexity, which is imported")
        raise _LeftOutError("ask lm-eval for byte_perplexity: it says the same, and by documents")
    form, points, value = _points(metric, config, rows)
    if not math.isclose(value, reported, rel_tol=1e-6, abs_tol=1e-9):
        how = config.get("aggregation")
        raise _LeftOutError(
            f"its value {reported:.6g} is not what its samples give ({value:.6g})"
            + (f": it is aggregated by {how}" if isinstance(how, str) and len(how) < 40 else "")
        )
    values = [point.value for point in points if point.value is not None]
    share = form == "mean" and all(0 <= one <= 1 for one in values)
    direction: Direction = "higher" if higher else "lower"
    return Series(
        name=label,
        direction=direction,
        points=points,
        measure=f"{metric}|lm-eval|filter:{filter_name}|options:{digest_of(config)[:8]}",
        scale="interval" if any(one < 0 for one in values) else "ratio",
        form=form,
        unit=_unit(metric, form, share),
        low=1.0 if form == "perplexity" else 0.0 if metric in _SHARES else None,
        high=1.0 if metric in _SHARES else None,
    )


_SHARES = {"acc", "acc_norm", "acc_mutual_info", "exact_match", "pass@1"}


def _unit(metric: str, form: Form, share: bool) -> str:
    if form == "perplexity":
        return f"per {_PER_WEIGHT.get(metric, 'document')}"
    return "share" if share else ""


def _metric_config(config: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    declared = config.get("metric_list") or []
    return next((own for own in declared if own.get("metric") == metric), {})


def _points(
    metric: str, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[Form, tuple[Point, ...], float]:
    """The samples' evidence, and the value of the whole metric that it gives."""
    how = config.get("aggregation")
    if metric in _PER_WEIGHT or how == "weighted_perplexity":
        return _perplexity(rows, [_pair(row[metric]) for row in rows])
    if how == "perplexity" or (metric == "perplexity" and how is None):
        return _perplexity(rows, [_pair((row[metric], 1)) for row in rows])
    values = [finite(row[metric]) for row in rows]
    if any(isinstance(row[metric], list | dict | str) for row in rows):
        kept = type(rows[0][metric]).__name__
        raise _LeftOutError(f"a sample's value is a {kept}, no number: a value of the whole corpus")
    points = tuple(_point(row, value) for row, value in zip(rows, values, strict=True))
    known = [value for value in values if value is not None]
    return "mean", points, math.fsum(known) / len(known) if known else math.nan


def _point(row: Mapping[str, Any], value: float | None) -> Point:
    if value is None:
        why = "lm-eval gave no finite value"
        return Point(str(row["doc_id"]), None, reason=why, outcome=ScoreOutcome.ERROR)
    return Point(str(row["doc_id"]), value)


def _perplexity(
    rows: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[float, float]]
) -> tuple[Form, tuple[Point, ...], float]:
    """Each sample is its NLL in nats and what that is divided by; its value nats per weight."""
    points = tuple(
        Point(str(row["doc_id"]), nll / weight, stats=(nll, weight))
        for row, (nll, weight) in zip(rows, pairs, strict=True)
    )
    mean = math.fsum(nll for nll, _ in pairs) / math.fsum(weight for _, weight in pairs)
    return "perplexity", points, math.exp(min(mean, 700.0))


def _pair(kept: Any) -> tuple[float, float]:
    numbers = [finite(one) for one in kept] if isinstance(kept, list | tuple) else []
    if len(numbers) != 2 or numbers[0] is None or not numbers[1]:
        raise _LeftOutError("a sample holds no pair of log-likelihood and weight")
    return -numbers[0], numbers[1]


def _protocol(results: Results, task: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What two runs must share: the documents, the task's version, shots and settings.

    Where the model's own chat template rendered the prompts, their hashes are left out: they
    differ from model to model, and the template belongs to the model.
    """
    config, content = results.config(task), results.content
    chat = content.get("chat_template_sha") is not None
    asked = [(row["doc_id"], row.get("prompt_hash")) for row in rows]
    documents = [(row["doc_id"], row.get("doc_hash"), row.get("target_hash")) for row in rows]
    keys = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "output_type")
    settings = {**(config.get("generation_kwargs") or {}), **_overrides(content)}
    return {
        "data": {"task": task, "documents": digest_of(sorted(documents)), "n": len(rows)},
        "prompt": {
            "version": results.of("versions", task),
            "shots": results.of("n-shot", task),
            "config": digest_of({key: config.get(key) for key in keys}),
            "chat": chat,
            "system": content.get("system_instruction_sha"),
            "rendered": None if chat else digest_of(sorted(asked)),
        },
        "generate": settings if config.get("output_type") == "generate_until" else None,
    }


def _overrides(content: Mapping[str, Any]) -> Mapping[str, Any]:
    own = (content.get("config") or {}).get("gen_kwargs")
    return own if isinstance(own, Mapping) else {"gen_kwargs": own} if own else {}


def _sample(task: str, row: Mapping[str, Any], config: Mapping[str, Any]) -> Sample:
    doc = row.get("doc")
    asked = _asked(row)
    rolling = config.get("output_type") == "loglikelihood_rolling"
    return Sample(
        id=str(row["doc_id"]),
        task=task,
        fields=doc if isinstance(doc, Mapping) else {"doc": doc},
        prompt=() if rolling or asked is None else ({"role": "user", "content": asked},),
        text=asked if rolling else None,
        references=() if rolling else (str(row.get("target")),),
    )


def _asked(row: Mapping[str, Any]) -> str | None:
    arguments = row.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, Mapping) else None
    asked = first.get("arg_0") if isinstance(first, Mapping) else None
    return asked if isinstance(asked, str) else None


def _answers(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[Answer]:
    if config.get("output_type") != "generate_until":
        return
    for row in rows:
        for given in row.get("resps") or []:
            texts = given if isinstance(given, list) else [given]
            for index, text in enumerate(texts):
                if isinstance(text, str):
                    yield Answer(str(row["doc_id"]), index, text)

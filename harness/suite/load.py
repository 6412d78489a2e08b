"""Reads a suite from YAML: its tasks with data, prompts, generation settings and metrics.

Whatever is wrong with a suite is found here, before any weights are loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.backends.base import GenerationSettings
from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.text_file import is_there
from harness.core.types import Picture, PromptOptions, Row, Sample
from harness.core.yaml_file import Place, YamlDocument, load_yaml, validate
from harness.data import templates
from harness.data.bfcl import is_bfcl, read_bfcl
from harness.data.code_benchmarks import is_code_source, read_code_tasks
from harness.data.lm_eval import PREFIX as LM_EVAL
from harness.data.lm_eval import is_lm_eval, loaded_task, read_lm_eval
from harness.data.messages import Message
from harness.data.pictures import as_stored
from harness.data.rows import row_id, texts_in
from harness.data.sources import SourceRow, is_hub, is_pattern, read_source
from harness.metrics import get_metric
from harness.metrics.base import Fitted, Metric
from harness.suite.filling import Filling
from harness.suite.prompts import Shot, Shots, asked, shots_of
from harness.suite.retrieval import Retrieval, retrieval_of
from harness.suite.schema import GenerateModel, SuiteModel, TaskModel
from harness.suite.suite import Suite, Task, declaration

__all__ = ["load_suite"]


def load_suite(path: str | Path) -> Suite:
    """Read, validate and render a suite. Raises UserError with file, line, field and hint."""
    if not isinstance(path, str | Path):
        what = f"a suite is the path of one YAML file, and this is a {type(path).__name__}"
        raise UserError(what, field="suite", hint="one call takes one suite")
    if str(path).startswith("inspect:"):
        raise UserError(
            "a task of Inspect is no suite file: it is scored, and then its runs are gated",
            field="suite",
            hint=f"ratchet score MODEL --suite {path}; ratchet gate run:ID --against run:ID",
        )
    document = load_yaml(Path(path), what="suite")
    model = validate(SuiteModel, document)
    tasks = tuple(_task(name, task, document) for name, task in model.tasks.items())
    names = {task.named(metric) for task in tasks for metric in task.metrics}
    for metric in model.gate.metrics:
        if metric not in names:
            raise document.error(
                f"the gate names a metric that no task has: {metric!r}",
                ("gate", "metrics", metric),
                hint=f"the suite's metrics are: {', '.join(sorted(names))}",
            )
    return Suite(model.name, document.path, tasks, model.gate)


def _task(name: str, model: TaskModel, document: YamlDocument) -> Task:
    place = ("tasks", name)
    metrics = tuple(_metrics(model, document, place))
    _check_templates(model, document, place)
    data_path = _data_path(model.data, document, (*place, "data"))
    samples = _samples(name, model, data_path, document)
    if any(metric.spec.name.startswith(LM_EVAL) for metric in metrics):
        samples = tuple(_with_space(sample) for sample in samples)
    metrics = tuple(_among(metrics, samples, document, place))
    settings = _settings(model, samples, document, (*place, "generate"))
    protocol = {
        "data": _data_digest(samples, metrics),
        "prompt": model.prompt.protocol if model.prompt else None,
        "text": model.text,
        "reference": list(_references_of(model)),
        "generate": settings.model_dump(mode="json") if model.prompt else None,
        "reserve": model.reserve,
        "metrics": {metric.spec.name: declaration(metric.spec) for metric in metrics},
        **({"retrieve": model.retrieve.protocol} if model.retrieve else {}),
        **({"answer": model.answer.protocol} if model.answer and model.answer.protocol else {}),
    }
    return Task(
        name=name,
        samples=samples,
        settings=GenerationSettings(
            settings.max_new_tokens,
            settings.temperature,
            settings.top_p,
            settings.top_k,
            settings.stop,
        ),
        responses=settings.responses,
        metrics=metrics,
        protocol=protocol,
        data_path=data_path,
        answer=model.answer,
    )


def _with_space(sample: Sample) -> Sample:
    """The sample, its choices read as lm-eval reads them (raw prompts end without space there)."""
    return replace(sample, options=replace(sample.options, space_is_given=not sample.options.raw))


def _settings(
    model: TaskModel, samples: Sequence[Sample], document: YamlDocument, place: Place
) -> GenerateModel:
    """How answers are written: as a task of lm-eval says, but for the keys that the suite sets."""
    task = loaded_task(samples[0].fields) if is_lm_eval(model.data) and samples else None
    if task is None:
        return model.generate
    set_here = model.generate.model_dump(exclude_unset=True)
    try:
        return GenerateModel.model_validate({**task.generation(), **set_here})
    except (ValueError, TypeError) as error:
        wrong = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}" if wrong else error
        what = f"the answers to {task.name} can't be written as its file says: {said}"
        raise document.error(what, place, hint="set that key of `generate` here") from None


def _among(
    metrics: Sequence[Metric], samples: Sequence[Sample], document: YamlDocument, place: Place
) -> Iterator[Metric]:
    """The metrics, those that must know all samples told of them: so labels stay apart."""
    for index, metric in enumerate(metrics):
        try:
            yield metric.among(samples) if isinstance(metric, Fitted) else metric
        except UserError as error:
            here: Place = (*place, "metrics", index)
            raise document.error(error.what, here, hint=error.hint) from None


def _data_digest(samples: tuple[Sample, ...], metrics: tuple[Metric, ...]) -> str:
    """The digest of all data that decides a score: samples, and the fields that metrics read."""
    reads = sorted({name for metric in metrics for name in metric.spec.reads})
    return digest_of(
        [
            (
                *(s.id, s.prompt, s.text, s.references, s.cluster),
                *([s.options.stored] if s.options.stored else ()),
                *((name, s.fields[name]) for name in reads if name in s.fields),
            )
            for s in samples
        ]
    )


def _metrics(model: TaskModel, document: YamlDocument, place: Place) -> Iterator[Metric]:
    seen: set[str] = set()
    for index, entry in enumerate(model.metrics):
        here: Place = (*place, "metrics", index)
        if isinstance(entry, dict) and len(entry) != 1:
            raise document.error(
                "a metric with options is one name and its options",
                here,
                hint="write `- self_bleu: {max_order: 3}`",
            )
        name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        try:
            metric = get_metric(_beside(name, document), _options_beside(options, document))
        except UserError as error:
            raise document.error(error.what, here, hint=error.hint) from None
        spec = metric.spec
        if spec.name in seen:
            raise document.error(
                f"the metric {spec.name!r} is named twice", here, hint="keep one of them"
            )
        seen.add(spec.name)
        if spec.needs == "text" and model.text is None:
            raise document.error(
                f"{spec.name} scores a given text, but this task has a prompt",
                here,
                hint="move it to a task with `text:`",
            )
        if spec.needs != "text" and model.prompt is None:
            raise document.error(
                f"{spec.name} needs the model's answer, but this task only gives a text",
                here,
                hint="give the task a `prompt:`, or use perplexity",
            )
        if spec.needs == "reference" and model.prompt is not None and model.prompt.turns:
            raise document.error(
                f"{spec.name} reads one given answer, and `turns` have several",
                here,
                hint="measure it in a task with `user` or `messages`",
            )
        if spec.needs == "reference" and model.reference is None and model.choices is None:
            raise document.error(
                f"{spec.name} needs a reference answer",
                here,
                hint='add `reference: "{{ field }}"` to the task',
            )
        yield metric


def _data_path(data: str, document: YamlDocument, place: Place) -> Path:
    if is_hub(data) or _packaged(data) is not None:
        return Path(data)
    path = Path(os.path.realpath(document.path.parent / data))
    if not is_there(path) and not is_pattern(data):
        raise document.error(
            f"the data file is not there: {data}",
            place,
            hint=f"paths are relative to the suite: {path.parent} has no {path.name}",
        )
    return path


def _beside(name: str, document: YamlDocument) -> str:
    """A metric's name with its path, in `file.py:Class` or `evaluate:./module.py`, taken relative
    to the suite's folder; any other name as it is.
    """
    family, _, path = name.partition(":")
    if family == "evaluate" and path.startswith(("./", "../")):
        return f"{family}:{(document.path.parent / path).resolve()}"
    file, separator, attribute = name.partition(".py:")
    return f"{document.path.parent / file}.py:{attribute}" if separator else name


def _options_beside(options: Mapping[str, Any], document: YamlDocument) -> dict[str, Any]:
    """A metric's options; paths (`./words.txt`, `../model`) are relative to the suite's folder."""
    return {key: _value_beside(value, document) for key, value in options.items()}


def _value_beside(value: Any, document: YamlDocument) -> Any:
    if isinstance(value, dict):
        return _options_beside(value, document)
    if isinstance(value, str) and value.startswith(("./", "../")):
        return str((document.path.parent / value).resolve())
    return value


def _references_of(model: TaskModel) -> tuple[str, ...]:
    if model.reference is None:
        return ()
    return (model.reference,) if isinstance(model.reference, str) else model.reference


def _check_templates(model: TaskModel, document: YamlDocument, place: tuple[str, ...]) -> None:
    sources: list[tuple[Place, str]] = []
    if model.prompt:
        sources += [(("prompt", *keys), text) for keys, text in model.prompt.templates()]
    if model.text is not None:
        sources.append((("text",), model.text))
    if model.retrieve is not None:
        sources.append((("retrieve", "query"), model.retrieve.query))
    sources.extend((("reference",), source) for source in _references_of(model))
    for field, source in sources:
        try:
            templates.check(source)
        except templates.TemplateError as error:
            raise document.error(str(error), (*place, *field)) from None


def _samples(
    name: str, model: TaskModel, data_path: Path, document: YamlDocument
) -> tuple[Sample, ...]:
    rows = _rows(model.data, data_path, document, ("tasks", name, "data"))
    retrieval = _retrieval(name, model, document)
    shots = _shots(name, model, document, retrieval)
    first: dict[str, SourceRow] = {}
    samples = []
    for found in rows:
        row = found.row
        sample_id = str(row.get(model.id) or row_id(row))
        if sample_id in first:
            before = first[sample_id]
            of = "" if before.file == found.file else f" of {before.file.name}"
            raise UserError(
                f"the id {sample_id!r} is used twice (first on line {before.line}{of})",
                file=found.file,
                line=found.line,
                field=model.id,
                hint="ids must be unique within a task; without an id a row's content is its id",
            )
        first[sample_id] = found
        filling = _filling(name, model, found, document, retrieval)
        samples.append(_sample(sample_id, filling, shots))
    reserved = _reserved(name, [sample.id for sample in samples], model.reserve)
    if reserved and len(reserved) == len(samples):
        raise document.error(
            "the reserve takes all samples of the task, so that none is left for the first look",
            ("tasks", name, "reserve"),
            hint="choose a smaller share, or give the task more rows",
        )
    return tuple(replace(sample, reserve=sample.id in reserved) for sample in samples)


def _rows(data: str, data_path: Path, document: YamlDocument, place: Place) -> list[SourceRow]:
    folder = document.path.parent
    if (read := _packaged(data)) is not None:
        return [SourceRow(data_path, number, row) for number, row in read(data, folder)]
    try:
        name = str(data_path) if is_there(data_path) else data
        return read_source(name, folder, split="test")
    except UserError as error:
        if error.file is not None:
            raise
        raise document.error(error.what, place, hint=error.hint) from None


def _packaged(data: str) -> Callable[[str, Path], list[tuple[int, Row]]] | None:
    """What reads the rows of a benchmark that is named in place of a file; None for a file."""
    if is_code_source(data):
        return read_code_tasks
    if is_bfcl(data):
        return read_bfcl
    return read_lm_eval if is_lm_eval(data) else None


def _retrieval(task: str, model: TaskModel, document: YamlDocument) -> Retrieval | None:
    if (wanted := model.retrieve) is None:
        return None
    place: Place = ("tasks", task, "retrieve", "from")
    path = _data_path(wanted.source, document, place)
    rows = _rows(wanted.source, path, document, place)
    try:
        return retrieval_of(wanted, rows)
    except UserError as error:
        if error.file is not None:
            raise
        raise document.error(error.what, place[:-1], hint=error.hint) from None


def _filling(
    task: str,
    model: TaskModel,
    found: SourceRow,
    document: YamlDocument,
    retrieval: Retrieval | None,
) -> Filling:
    """Fills a row's templates, with the passages that were found for it."""
    filling = Filling(task, model, found, document)
    if retrieval is None:
        return filling
    return replace(filling, found=retrieval.into(found, filling.query(retrieval.model.query)))


def _shots(
    task: str, model: TaskModel, document: YamlDocument, retrieval: Retrieval | None
) -> Shots | None:
    """The solved examples of a task. Raises UserError where their answers aren't known."""
    if model.prompt is None or (wanted := model.prompt.shots) is None:
        return None
    place = ("tasks", task, "prompt", "shots")
    answer = wanted.answer or next(iter(_references_of(model)), None)
    if answer is None:
        raise document.error(
            "the shots have no answers",
            place,
            hint='add `answer: "{{ field }}"` to them, or a `reference` to the task',
        )
    source: Place = (*place, "from")
    path = _data_path(wanted.source, document, source)

    def solved(found: SourceRow) -> Shot:
        assert model.prompt is not None
        filling = _filling(task, model, found, document, retrieval)
        own = wanted.answer is not None
        said = filling.text(answer, "shots", "answer") if own else filling.reference(answer)
        return Shot(row_id(found.row), filling.text(model.prompt.user or "", "user"), said)

    rows = _rows(wanted.source, path, document, source)
    return shots_of(wanted, [solved(found) for found in rows])


def _sample(sample_id: str, filling: Filling, shots: Shots | None) -> Sample:
    model, row = filling.model, filling.found.row
    prompt: tuple[Message, ...] = ()
    pictures: tuple[Picture, ...] = ()
    options, question = PromptOptions(), None
    if model.prompt:
        prompt, options, question = asked(model.prompt, row, filling, shots)
        prompt, pictures = as_stored(prompt)
    if model.cluster is not None and model.cluster not in row:
        raise UserError(
            f"the cluster field {model.cluster!r} is missing from this row",
            file=filling.found.file,
            line=filling.found.line,
            hint=f"the row's fields are: {', '.join(row)}",
        )
    language = row.get(model.language)
    return Sample(
        id=sample_id,
        task=filling.task,
        fields=row,
        prompt=prompt,
        text=None if model.text is None else filling.given(model.text),
        references=tuple(filling.reference(source) for source in _references_of(model))
        if model.choices is None
        else texts_in(row, model.choices, file=filling.found.file, line=filling.found.line),
        cluster=None if model.cluster is None else str(row[model.cluster]),
        language=str(language) if language else None,
        options=options,
        question=question,
        pictures=pictures,
    )


def _reserved(task: str, ids: list[str], share: float) -> frozenset[str]:
    """The ids of the reserve: a share (0 to 1) of the samples, chosen by a digest of each id.

    So the order of the rows does not matter, and an added row moves few others in or out.
    """
    ranked = sorted(ids, key=lambda sample_id: digest_of(["reserve", task, sample_id]))
    return frozenset(ranked[: round(len(ids) * share)])

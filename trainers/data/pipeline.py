"""A pipeline, loaded from YAML and checked before the first row is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import UserError
from harness.core.strict_model import fault
from harness.core.yaml_file import Place, YamlDocument, load_yaml, validate
from harness.data import templates
from harness.data.datasets import is_dataset
from harness.data.sources import is_hub, is_pattern
from trainers.data.schema import PipelineModel, PipelineSource
from trainers.data.step import STEPS, Context, Step


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A validated pipeline and its steps, each with the name that it was called by."""

    document: YamlDocument
    model: PipelineModel
    steps: tuple[tuple[str, Step], ...]

    @property
    def folder(self) -> Path:
        """The folder from which its paths go."""
        return self.document.path.parent

    @property
    def target(self) -> Path:
        """The folder of the data set's versions."""
        return self.folder / self.model.to / self.model.name


def load_pipeline(path: Path) -> Pipeline:
    """Read and validate a pipeline. Raises UserError with the file, the line and the field."""
    document = load_yaml(path, what="pipeline")
    model = validate(PipelineModel, document)
    for number, source in enumerate(model.sources):
        _check_templates(source, document, ("sources", number))
    steps = tuple(_step(given, document, number) for number, given in enumerate(model.steps))
    pipeline = Pipeline(document, model, steps)
    overlap = model.requirements.overlap
    if overlap is not None and not _there(overlap.base, pipeline.folder):
        raise document.error(
            f"the data is not there: {overlap.base}",
            ("requirements", "overlap", "base"),
            hint=f"paths go from the pipeline: looked for {pipeline.folder / overlap.base}",
        )
    context = Context(pipeline.folder, model.seed)
    for number, (name, step) in enumerate(steps):
        try:
            step.signature(name, context)
        except UserError as error:
            if error.file is not None:
                raise
            raise document.error(error.what, ("steps", number), hint=error.hint) from None
    return pipeline


def _there(name: str, folder: Path) -> bool:
    return is_hub(name) or is_dataset(name) or is_pattern(name) or (folder / name).exists()


def _step(given: str | dict[str, Any], document: YamlDocument, number: int) -> tuple[str, Step]:
    here: Place = ("steps", number)
    if isinstance(given, dict) and len(given) != 1:
        raise document.error(
            f"a step is one name with its options, and here are {len(given)}",
            here,
            hint="write `- length: {min: 5, max: 1024}`, each step with a `-` of its own",
        )
    name, options = (given, {}) if isinstance(given, str) else next(iter(given.items()))
    try:
        kind = STEPS.load(name)
    except UserError as error:
        raise document.error(error.what, here, hint=error.hint) from None
    if options is not None and not isinstance(options, dict):
        hint = f"write `- {name}: {{option: value}}`"
        raise document.error(f"the options of {name} are keys and values", here, hint=hint)
    try:
        step: Step = kind.model_validate(options or {})
    except ValidationError as error:
        what, place, hint_ = fault(error, kind)
        raise document.error(what, (*here, name, *place), hint=hint_) from None
    return name, step


def _check_templates(source: PipelineSource, document: YamlDocument, here: Place) -> None:
    given = {
        name: value
        for name in ("messages", "tools", "completion", "text", "chosen", "rejected", "label")
        if (value := getattr(source, name)) is not None
    }
    prompt = {} if source.prompt is None else source.prompt.model_dump(exclude_none=True)
    places: dict[Place, str] = {(*here, name): text for name, text in given.items()}
    places |= {(*here, "prompt", name): text for name, text in prompt.items()}
    for place, text in places.items():
        try:
            templates.check(text)
        except templates.TemplateError as error:
            raise document.error(str(error), place) from None

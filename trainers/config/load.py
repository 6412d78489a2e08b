"""Loads a recipe with its data and suites, and finds its errors before any weight is read."""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.yaml_file import Place, YamlDocument, load_yaml, validate
from harness.data import templates
from harness.data.messages import MessagesError
from harness.data.sources import SourceRow, read_source
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from trainers.config.data_schema import DataModel
from trainers.config.examples import examples_of, hint_for, wanted
from trainers.config.foreign import in_our_words, refuse_other_files
from trainers.config.instruction import instructed
from trainers.config.known_trainers import TRAINERS
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Example, Recipe, Stage
from trainers.config.schema import RecipeModel, StageModel
from trainers.config.start import require_checkpoint
from trainers.config.trainer_options import NOT_FOR_ALL
from trainers.config.validate import (
    check_columns,
    check_health,
    check_labels,
    check_order_and_loss,
    check_remedies,
    check_rewards,
    check_whole_prompts,
    unlearnable,
)


def load_recipe(path: str | Path, changed: Mapping[Place, Any] | None = None) -> Recipe:
    """Read and validate a recipe, its data and its suites. `changed` are values that stand in it
    in place of the file's own, each by its place. Raises UserError.
    """
    try:
        return _loaded(path, changed or {})
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError(
            f"a path is longer than the file system takes: {str(error.filename)[:60]}…",
            file=path,
            hint="shorten the path, or look for a text that stands in its place",
        ) from None


def _loaded(path: str | Path, changed: Mapping[Place, Any]) -> Recipe:
    document = load_yaml(Path(path), what="recipe")
    for (*way, name), value in changed.items():
        inside: Any = document.data
        for part in way:
            inside = inside[part]
        inside[name] = value
    refuse_other_files(document, frozenset(RecipeModel.model_fields))
    try:
        model = validate(RecipeModel, document)
    except UserError as error:
        raise in_our_words(error) from None
    if model.start is not None:
        try:
            require_checkpoint(model, document.path.parent / model.start)
        except UserError as error:
            raise document.error(error.what, ("start",), hint=error.hint) from None
    suites: dict[str, Suite] = {}
    stages = tuple(_stage(number, model, document, suites) for number in range(len(model.stages)))
    names = [stage.name for stage in stages]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise document.error(f"two stages are named {name!r}", ("stages", number, "name"))
    return Recipe(document.path, model, stages)


def _stage(
    index: int, recipe: RecipeModel, document: YamlDocument, suites: dict[str, Suite]
) -> Stage:
    model = recipe.stages[index]
    here: Place = ("stages", index)
    gate, data = model.gate or recipe.gate, model.data or recipe.data
    for name, value in (("gate", gate), ("data", data)):
        if value is None:
            raise document.error(
                f"this stage has no `{name}`, and neither has the recipe",
                here,
                hint=f"write `{name}:` for the whole recipe, or in the stage",
            )
    assert gate is not None
    assert data is not None
    data_at: Place = (*here, "data") if model.data else ("data",)
    gate_at: Place = (*here, "gate") if model.gate else ("gate",)
    method = traits_of(model.trainer)
    if problem := method.problem(recipe, model):
        raise document.error(problem, here)
    _check_options(recipe, model, document, (*here, "trainer_options"))
    check_remedies(gate, model, document, gate_at)
    suite = _suite(gate.suite, document, (*gate_at, "suite"), suites)
    foreign = {m.spec.name for _, m in suite.metrics()} - (method.judged_by or frozenset())
    if method.judged_by is not None and foreign:
        raise document.error(
            f"the suite asks for {min(foreign)}, which a {model.trainer} model can't answer",
            (*gate_at, "suite"),
            hint=f"give the stage a gate with a suite of {', '.join(sorted(method.judged_by))}",
        )
    examples: list[Example] = []
    for number, source in enumerate(data.mix):
        place: Place = (*data_at, "mix", number)
        if source.shape not in method.shapes:
            raise document.error(
                f"the trainer {model.trainer} can't learn from a source of {_SHAPES[source.shape]}",
                place,
                hint=f"it takes {' or '.join(_SHAPES[shape] for shape in method.shapes)}",
            )
        examples.extend(_examples(number, data, document, place, drawn=method.samples))
    learned, validation = _split(examples, data, document, data_at)
    model = _in_steps(model, len(learned), document, here)
    segments = model.steps // model.checkpoint_every
    for number, source in enumerate(data.mix):
        if source.segments and max(source.segments) > segments:
            raise document.error(
                f"there are {segments} segments, so none is number {max(source.segments)}",
                (*data_at, "mix", number, "segments"),
            )
    # Segments that replace a dropped one are drawn from the sources that take part everywhere.
    if all(source.segments is not None for source in data.mix):
        raise document.error(
            "no source takes part in every segment",
            (*data_at, "mix"),
            hint="leave `segments` out of one source",
        )
    check_order_and_loss(model, data, examples, document, here, data_at)
    if method.samples:
        check_columns(examples)
        check_whole_prompts(data, document, data_at)
    check_labels(examples, document, (*data_at, "mix"))
    check_rewards(recipe, index, examples, document, here)
    health = dict(recipe.health if model.health is None else model.health)
    check_health(health, method.measures, data, model, document, here)
    name = model.name or (model.trainer if len(recipe.stages) > 1 else "")
    return Stage(
        index + 1, name, model, data, gate, health, tuple(learned), tuple(validation), suite
    )


def _check_options(
    recipe: RecipeModel, model: StageModel, document: YamlDocument, here: Place
) -> None:
    options, keys = model.trainer_options, traits_of(model.trainer).keys
    for name in sorted(options.model_fields_set & NOT_FOR_ALL - keys):
        owners = sorted(own for own in TRAINERS.built_in if name in traits_of(own).keys)
        raise document.error(
            f"the trainer {model.trainer} has no `trainer_options: {name}`: it is for "
            f"{', '.join(owners)}",
            (*here, name),
            hint="leave it out",
        )
    if unfit := options.problem(recipe.adapter_kind, recipe.dtype):
        raise document.error(unfit[1], (*here, unfit[0]))


def _in_steps(model: StageModel, rows: int, document: YamlDocument, here: Place) -> StageModel:
    """The stage with its number of steps: the fewest whole segments in which so many epochs of so
    many rows are learned from.
    """
    if model.epochs is None:
        return model
    a_segment = traits_of(model.trainer).rows(model, model.checkpoint_every)
    try:
        return model.in_steps(math.ceil(model.epochs * rows / max(1, a_segment)))
    except ValueError as error:
        raise document.error(f"{model.epochs:g} epochs: {error}", (*here, "epochs")) from None


_SHAPES = {
    "text": "`text`",
    "answer": "`prompt` and `completion`",
    "labelled": "`prompt`, `completion` and `label`",
    "pair": "`prompt`, `chosen` and `rejected`",
    "prompt": "`prompt` alone",
    "conversation": "`messages`",
}


def _suite(name: str, document: YamlDocument, place: Place, known: dict[str, Suite]) -> Suite:
    path = document.path.parent / name
    if not path.exists():
        raise document.error(
            f"the suite is not there: {name}",
            place,
            hint=f"paths are relative to the recipe: looked for {path}",
        )
    if name not in known:
        known[name] = load_suite(path)
    return known[name]


def _examples(
    index: int, data: DataModel, document: YamlDocument, place: Place, *, drawn: bool
) -> list[Example]:
    source = data.mix[index]
    examples: list[Example] = []
    times: Counter[str] = Counter()
    for found in _rows(source.source, document, (*place, "source")):
        try:
            if not wanted(found.row, source.where):
                continue
            made = examples_of(index, source, found, data.template, drawn=drawn)
        except templates.TemplateError as error:
            raise UserError(
                f"the template of {document.path.name}:{document.line_of((*place, 'source'))} "
                f"can't be filled: {error}",
                file=found.file,
                line=found.line,
                hint=hint_for(found.row, source),
            ) from None
        except MessagesError as error:
            raise UserError(
                str(error),
                file=found.file,
                line=found.line,
                hint="correct the row, or take it out",
            ) from None
        for example in made:
            if problem := unlearnable(example):
                raise UserError(
                    problem,
                    file=found.file,
                    line=found.line,
                    hint="correct the row, or take it out",
                )
            times[example.row] += 1
            again = times[example.row]
            examples.append(replace(example, file=found.file, line=found.line, again=again))
    if not examples:
        raise document.error(
            f"no row of {source.source} is left by `where`",
            (*place, "where"),
            hint="loosen it, or take the source out",
        )
    if source.instruct is None:
        return examples
    try:
        return list(instructed(examples, source.instruct, seed=data.seed))
    except UserError as error:
        raise document.error(error.what, (*place, "instruct"), hint=error.hint) from None


def _rows(source: str, document: YamlDocument, place: Place) -> list[SourceRow]:
    try:
        return read_source(source, document.path.parent, split="train")
    except UserError as error:
        if error.file is not None:
            raise
        raise document.error(error.what, place, hint=error.hint) from None


def _split(
    examples: list[Example], data: DataModel, document: YamlDocument, data_at: Place
) -> tuple[list[Example], list[Example]]:
    """What is learned from, and what is held out to validate: by the digest of the row's name, so
    that a row that is added moves no other.
    """
    if data.validation == 0:
        return examples, []
    held = [int(digest_of([data.seed, e.row]), 16) / 16**16 < data.validation for e in examples]
    learned = [e for e, out in zip(examples, held, strict=True) if not out]
    validation = [e for e, out in zip(examples, held, strict=True) if out]
    if not validation or {e.source for e in learned} != {e.source for e in examples}:
        raise document.error(
            f"{len(examples)} rows can't be split with a share of {data.validation}",
            (*data_at, "validation"),
            hint="give more rows, or another share",
        )
    return learned, validation

"""What is read from a file takes no truth value for a number: YAML reads `yes` and `on` as one."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from harness.core.errors import UserError
from harness.core.yaml_file import load_yaml, validate
from harness.gate.policy import MetricPolicy
from harness.suite.schema import SuiteModel
from harness.watch.monitor.policy import WatchPolicy
from trainers.config.schema import PpoModel, RecipeModel, TrainingGateModel


def _models(model: type[BaseModel], seen: set[type]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _models(kind, seen)


def _kinds(annotation: Any) -> Iterator[Any]:
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _kinds(each)


NUMBERS = [
    (model, name)
    for whole in (RecipeModel, SuiteModel, WatchPolicy)
    for model in _models(whole, set())
    for name, field in model.model_fields.items()
    if {int, float} & set(_kinds(field.annotation)) and bool not in set(_kinds(field.annotation))
]


def test_there_are_numbers_to_try() -> None:
    assert len(NUMBERS) > 60


@pytest.mark.parametrize(("model", "name"), NUMBERS)
@pytest.mark.parametrize("value", [True, False])
def test_no_number_is_a_truth_value(model: type[BaseModel], name: str, value: bool) -> None:
    alias = model.model_fields[name].validation_alias
    for given in (value, [value], [1, value], {"a": value}):
        with pytest.raises(ValidationError) as refused:
            model.model_validate({alias if isinstance(alias, str) else name: given})
        places = [each for each in refused.value.errors() if each["type"] == "value_error"]
        assert any("a number is expected here" in each["msg"] for each in places), given


def test_truth_values_are_taken_where_they_are_meant() -> None:
    assert TrainingGateModel.model_validate({"suite": "s", "promote": False}).promote is False
    assert PpoModel.model_validate({"whiten": True}).whiten is True
    assert MetricPolicy.model_validate({"required": True}).required is True


@pytest.mark.parametrize("word", ["yes", "on", "true", "No", "OFF"])
def test_the_message_has_its_line_and_what_stands_there(tmp_path: Path, word: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"name: a\nline: a\nbase: b\nseed: {word}\nstages:\n  - {{steps: 2}}\n", "utf-8"
    )
    with pytest.raises(UserError, match="a number is expected here") as refused:
        validate(RecipeModel, load_yaml(file, what="a recipe"))
    assert (Path(str(refused.value.file)), refused.value.line) == (file, 4)

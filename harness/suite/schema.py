"""The keys of a suite's YAML file, and what each may hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from harness.core.strict_model import StrictModel
from harness.gate.policy import GatePolicy
from harness.suite.answers import AnswerModel
from harness.suite.prompts import SuitePrompt
from harness.suite.retrieval import RetrieveModel


class PromptModel(StrictModel):
    """A recipe's chat messages to the model; both are templates over the row's fields.

    A system text that a row leaves empty is no turn: models have a default for that, or no room for
    one. `system: ""` itself, without a field in it, is an empty turn.
    """

    system: str | None = None
    user: str

    def messages(self, filled: Callable[[str, str], str]) -> tuple[dict[str, str], ...]:
        """The turns, from the oldest on. `filled(key, template)` fills one of the templates."""
        user = {"role": "user", "content": filled("user", self.user)}
        if self.system is None:
            return (user,)
        system = filled("system", self.system)
        if not system.strip() and self.system.strip():
            return (user,)
        return ({"role": "system", "content": system}, user)


class GenerateModel(StrictModel):
    """How answers are sampled; `responses` is K, the answers per sample."""

    max_new_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    stop: tuple[str, ...] = ()
    responses: int = Field(default=1, ge=1, le=1024)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_fine(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _stops_are_text(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError(
                "a stop string is empty: every answer would end before its first character"
            )
        return stop

    @model_validator(mode="after")
    def _greedy_answers_are_equal(self) -> Self:
        if self.temperature == 0 and self.responses > 1:
            raise ValueError(
                f"{self.responses} responses at temperature 0 are {self.responses} copies of one; "
                "set a temperature, or leave `responses` out"
            )
        return self


class TaskModel(StrictModel):
    """One task as the YAML file has it. `id`, `cluster` and `language` name fields of its rows."""

    data: str
    retrieve: RetrieveModel | None = None
    prompt: SuitePrompt | None = None
    text: str | None = None
    reference: str | tuple[str, ...] | None = None
    choices: str | None = None
    answer: AnswerModel | None = None
    generate: GenerateModel = Field(default_factory=GenerateModel)
    metrics: tuple[str | dict[str, dict[str, Any]], ...] = Field(min_length=1)
    reserve: float = Field(0.0, ge=0, le=0.9)
    id: str = "id"
    cluster: str | None = None
    language: str = "language"

    @model_validator(mode="after")
    def _prompt_or_text(self) -> Self:
        if (self.prompt is None) == (self.text is None):
            raise ValueError(
                "a task has either a `prompt` (the model answers it) or a `text` (it reads it)"
            )
        if self.answer is not None and self.prompt is None:
            raise ValueError("`answer` says what of an answer is read, and a `text` has none")
        if self.answer is not None and self.prompt is not None and self.prompt.turns is not None:
            raise ValueError("`answer` reads one answer, and `turns` have several")
        if self.reference is not None and self.choices is not None:
            raise ValueError(
                "a task has either a `reference` or `choices` (a field with a list), not both"
            )
        return self


class SuiteModel(StrictModel):
    """The whole YAML file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    tasks: dict[str, TaskModel] = Field(min_length=1)
    gate: GatePolicy = Field(default_factory=GatePolicy)

    @field_validator("tasks")
    @classmethod
    def _names(cls, tasks: dict[str, TaskModel]) -> dict[str, TaskModel]:
        for name in tasks:
            if not name.strip() or "/" in name:
                raise ValueError(f"a task's name can't be empty or hold a slash: {name!r}")
            if name.startswith("@"):
                raise ValueError(f"a task's name can't begin with @: {name!r}")
            if any(unicodedata.category(mark) in ("Cc", "Zl", "Zp") for mark in name):
                raise ValueError(f"a task's name is one line that can be read: {name!r}")
        return tasks

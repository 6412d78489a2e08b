"""The keys of a pipeline: what is read, which steps it goes through, and what is required of it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from harness.core.strict_model import FiniteModel
from harness.suite.schema import PromptModel
from trainers.data.requirements import RequirementsModel

SEEDS_END = 2**32


class PipelineSource(FiniteModel):
    """One source, as a recipe names one. With templates, its rows become the columns that they are
    named after (`prompt` becomes `messages`), and `keep` names further columns; without any, rows
    stay as they are. `where` takes those whose fields have these values.
    """

    source: str = Field(min_length=1)
    prompt: PromptModel | None = None
    messages: str | None = None
    tools: str | None = None
    completion: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None
    keep: tuple[str, ...] = ()
    where: dict[str, str | int | float | bool] = Field(default_factory=dict)
    license: str | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        asked = self.prompt is not None or self.messages is not None
        answers = (self.tools, self.completion, self.chosen, self.rejected, self.label)
        if self.prompt is not None and self.messages is not None:
            raise ValueError("a source has either a `prompt` or `messages`")
        if self.text is not None and (asked or any(given is not None for given in answers)):
            raise ValueError("a source with `text` has no other template")
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("`chosen` and `rejected` go together")
        if self.keep and not self.shaped:
            raise ValueError("without a template every column is kept: leave `keep` out")
        if self.shaped and self.text is None and not asked and self.chosen is None:
            raise ValueError("an answer goes with a `prompt` or `messages`")
        return self

    @property
    def shaped(self) -> bool:
        """Whether any template says what its rows become."""
        templates = (self.prompt, self.messages, self.text, self.tools, self.completion)
        return any(t is not None for t in (*templates, self.chosen, self.rejected, self.label))


class PipelineModel(FiniteModel):
    """A data set's pipeline. `validation` is the share of rows that is held out, `group_by` a
    column whose equal values stay on one side of that split. `to` is the folder of data sets.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    license: str | None = None
    note: str | None = None
    seed: int = Field(default=0, ge=0, lt=SEEDS_END)
    to: str = "datasets"
    sources: tuple[PipelineSource, ...] = Field(min_length=1)
    steps: tuple[str | dict[str, Any], ...] = ()
    validation: float = Field(default=0.0, ge=0, lt=1)
    group_by: str | None = None
    requirements: RequirementsModel = RequirementsModel()

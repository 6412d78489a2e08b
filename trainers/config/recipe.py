"""A recipe, its stages and its training examples, as loaded from YAML and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.types import AS_USUAL, PromptOptions
from harness.suite.suite import Suite
from trainers.config.data_schema import DataModel
from trainers.config.method_traits import traits_of
from trainers.config.schema import (
    QUANTIZE_BEFORE,
    HealthRule,
    RecipeModel,
    StageModel,
    TrainingGateModel,
)

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One training example; which fields it has is its source's `shape`.

    `source` indexes the mix; `file` and `line` say where it stands; `columns` are the row as it was
    read, for rewards to look at. Of a conversation `turns` are all that is read, the last one that
    is learned from included, and `learned` the numbers (from 0) of those that are; `prompt` and
    `completion` are then the last one's. `options` are the tools and the template's arguments.
    Of answers that are judged `answers` are the turns themselves where one of them calls a tool.
    `again` counts the source's rows of this id.
    """

    source: int
    row: str
    prompt: tuple[Message, ...] = ()
    completion: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: bool | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    file: Path = Path()
    turns: tuple[Message, ...] = ()
    learned: tuple[int, ...] = ()
    options: PromptOptions = AS_USUAL
    answers: tuple[Message, ...] = ()
    again: int = 1

    @property
    def name(self) -> str:
        """The row's id, with a number behind it where it isn't the source's first of that id."""
        return self.row if self.again == 1 else f"{self.row}/{self.again}"

    def asked(self, backend: Any) -> list[int]:
        """The tokens of the prompt as `backend` asks it."""
        if self.options is AS_USUAL:
            return list(backend.encode_chat(self.prompt))
        return list(backend.encode_chat(self.prompt, self.options))

    @property
    def more(self) -> list[Any]:
        """What decides what is learned beside prompt and answers; empty for most rows."""
        if not self.learned and not self.options.stored and not self.answers:
            return []
        told = [self.turns, self.learned, self.options.stored]
        return [*told, self.answers] if self.answers else told


@dataclass(frozen=True, slots=True)
class Stage:
    """One trainer's part of a recipe, with its data and its suite. `number` counts from 1; `notes`
    say what became of rows that are too long.
    """

    number: int
    name: str
    model: StageModel
    data: DataModel
    gate: TrainingGateModel
    health: Mapping[str, HealthRule]
    examples: tuple[Example, ...]
    validation: tuple[Example, ...]
    suite: Suite
    notes: tuple[str, ...] = ()

    @property
    def segments(self) -> int:
        """Checkpoints after checkpoint-0."""
        return -(-self.model.steps // self.model.checkpoint_every)

    @property
    def attempts(self) -> int:
        """How many checkpoints may be judged at most: retries included."""
        return self.segments + self.gate.max_rollbacks

    @property
    def checkpoints(self) -> int:
        """How many verdicts alpha is split over: each attempt's, against two opponents."""
        return 2 * self.attempts


@dataclass(frozen=True, slots=True)
class Recipe:
    """A validated recipe with its stages. How one execution of it runs is in `RunOptions`."""

    path: Path
    model: RecipeModel
    stages: tuple[Stage, ...]
    whole: Recipe | None = None
    """The recipe with all of its rows, where those that are too long were left out of this one."""

    @property
    def digest(self) -> str:
        """Of everything that decides what the training does: recipe, data and suites.

        Who is told of it (tracking, webhook) does not. Trainings are found again by this digest,
        so it must stay the same for the same recipe whatever a key is called by now.
        """
        if self.whole is not None:
            return self.whole.digest
        recipe = self.model.model_dump(
            mode="json", exclude_defaults=True, exclude={"tracking", "webhook"}
        )
        if "quantize" in recipe:
            recipe[QUANTIZE_BEFORE] = recipe.pop("quantize")
        stages = [
            [
                [(e.source, e.row, e.prompt, e.completion, e.text) for e in stage.examples],
                [(e.chosen, e.rejected, e.label, e.columns) for e in stage.examples],
                [e.row for e in stage.validation],
                stage.suite.digest,
                repr(stage.suite.policy),
                *[more for e in stage.examples if (more := [e.row, *e.more])[1:]],
            ]
            for stage in self.stages
        ]
        return digest_of([recipe, stages])

    def line_of(self, stage: Stage) -> str | None:
        """The line that a stage's best checkpoint is offered to: its own, or the recipe's for the
        stage that trains the language model itself.
        """
        if not stage.gate.promote:
            return None
        models = [s.number for s in self.stages if traits_of(s.model.trainer).continues]
        last = models[-1] if models else None
        return stage.model.line or (self.model.line if stage.number == last else None)

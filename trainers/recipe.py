"""A recipe: base model, adapter, data, stages and gate of one training, read from YAML.

What can be wrong is found here, before any weight is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness import templates
from harness.data import read_rows, row_id
from harness.errors import UserError
from harness.suite import PromptModel, Suite, digest_of, load_suite
from harness.yamlfile import YamlDocument, load_yaml, validate

Remedy = Literal["skip_data", "reshuffle", "lower_lr", "stop"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterModel(_Strict):
    """A LoRA adapter, in peft's terms."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


class SourceModel(_Strict):
    """One source of training data: chat pairs (`prompt`, `completion`) or plain `text`.

    `weight` is its share of the rows, relative to the other sources of the same segment;
    `segments` (counted from 1 along the data, a segment being the data between two checkpoints)
    says where it takes part; without it, everywhere.
    """

    source: str
    weight: float = Field(gt=0)
    prompt: PromptModel | None = None
    completion: str | None = None
    text: str | None = None
    segments: tuple[int, ...] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _pair_or_text(self) -> Self:
        if (self.text is None) == (self.prompt is None):
            raise ValueError("a source has either `prompt` and `completion`, or `text`")
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("`prompt` and `completion` go together")
        return self


class DataModel(_Strict):
    """What is learned from, in which mixture."""

    seed: int = 0
    max_length: int = Field(1024, ge=8)
    mix: tuple[SourceModel, ...] = Field(min_length=1)


class StageModel(_Strict):
    """One trainer's part of the run."""

    trainer: Literal["sft"] = "sft"
    steps: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _whole_segments(self) -> Self:
        if self.steps % self.checkpoint_every:
            raise ValueError(
                f"steps ({self.steps}) must be a multiple of checkpoint_every "
                f"({self.checkpoint_every}), so that the last step is judged too"
            )
        return self


class InconclusiveModel(_Strict):
    """Planned looks as cumulative shares of the evidence, and what to do when they are used up."""

    looks: tuple[float, ...] = (1.0,)
    then: Literal["hold"] = "hold"


class TrainingGateModel(_Strict):
    """The suite that judges, and what follows from its verdicts."""

    suite: str
    on_fail: tuple[Remedy, ...] = ("skip_data", "lower_lr", "stop")
    on_inconclusive: InconclusiveModel = InconclusiveModel()
    max_rollbacks: int = Field(3, ge=0)
    promote: bool = True


class RecipeModel(_Strict):
    """The whole YAML file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    line: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: str
    seed: int = 0
    adapter: AdapterModel | None = None
    data: DataModel
    stages: tuple[StageModel, ...] = Field(min_length=1, max_length=1)
    gate: TrainingGateModel


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: a chat pair, or a text on its own. `source` indexes the mix."""

    source: int
    row: str
    prompt: tuple[dict[str, str], ...] = ()
    completion: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A validated recipe with its data and its suite."""

    path: Path
    model: RecipeModel
    examples: tuple[Example, ...]
    suite: Suite

    @property
    def stage(self) -> StageModel:
        return self.model.stages[0]

    @property
    def segments(self) -> int:
        """Checkpoints after checkpoint-0."""
        return self.stage.steps // self.stage.checkpoint_every

    @property
    def digest(self) -> str:
        """Of everything that decides what the training does: recipe, data and suite."""
        policy = repr(self.suite.policy)
        rows = [(e.source, e.row, e.prompt, e.completion, e.text) for e in self.examples]
        recipe = self.model.model_dump(mode="json")
        return digest_of([recipe, rows, self.suite.digest, policy])


def load_recipe(path: str | Path) -> Recipe:
    """Read and validate a recipe, its data and its suite. Raises UserError."""
    document = load_yaml(Path(path), what="recipe")
    model = validate(RecipeModel, document)
    suite_path = document.path.parent / model.gate.suite
    if not suite_path.exists():
        raise document.error(
            f"the suite is not there: {model.gate.suite}",
            ("gate", "suite"),
            cure=f"paths are relative to the recipe: looked for {suite_path}",
        )
    suite = load_suite(suite_path)
    segments = model.stages[0].steps // model.stages[0].checkpoint_every
    examples: list[Example] = []
    for index, source in enumerate(model.data.mix):
        if source.segments and max(source.segments) > segments:
            raise document.error(
                f"there are {segments} segments, so none is number {max(source.segments)}",
                ("data", "mix", index, "segments"),
            )
        examples.extend(_examples(index, source, document))
    _every_segment_has_data(model, document)
    return Recipe(document.path, model, tuple(examples), suite)


def _examples(index: int, source: SourceModel, document: YamlDocument) -> list[Example]:
    place = ("data", "mix", index, "source")
    path = document.path.parent / source.source
    if not path.exists():
        raise document.error(
            f"the data file is not there: {source.source}",
            place,
            cure=f"paths are relative to the recipe: looked for {path}",
        )
    examples = []
    for line, row in read_rows(path):
        try:
            examples.append(_example(index, source, str(row.get("id") or row_id(row)), row))
        except templates.TemplateError as error:
            raise UserError(
                f"the template of {document.path.name}:{document.line_of(place)} "
                f"can't be filled: {error}",
                file=path,
                line=line,
                cure="correct the recipe's template, or add the field to this row",
            ) from None
    return examples


def _example(index: int, source: SourceModel, row: str, fields: dict[str, Any]) -> Example:
    if source.text is not None:
        return Example(index, row, text=templates.render(source.text, fields))
    # SourceModel has seen to both.
    assert source.prompt is not None
    assert source.completion is not None
    user = {"role": "user", "content": templates.render(source.prompt.user, fields)}
    prompt: tuple[dict[str, str], ...] = (user,)
    if source.prompt.system is not None:
        system = templates.render(source.prompt.system, fields)
        prompt = ({"role": "system", "content": system}, user)
    return Example(index, row, prompt, templates.render(source.completion, fields))


def _every_segment_has_data(model: RecipeModel, document: YamlDocument) -> None:
    """Segments that replace a dropped one are drawn from the sources that take part everywhere."""
    if all(source.segments is not None for source in model.data.mix):
        raise document.error(
            "no source takes part in every segment",
            ("data", "mix"),
            cure="leave `segments` out of one source",
        )

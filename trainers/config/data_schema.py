"""The keys of a recipe's `data`: its sources, how their rows are put, and in which order."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.strict_model import FiniteModel
from harness.suite.schema import PromptModel

SEEDS_END = 2**32
"""NumPy takes no larger seed."""

SET_BY_US = frozenset(
    {
        *("conversation", "messages", "tools", "chat_template", "tokenize", "now"),
        *("add_generation_prompt", "continue_final_message", "return_tensors", "return_dict"),
    }
)
"""Arguments of a chat template that `template` may not give."""


class InstructionModel(FiniteModel):
    """How a source's rows are put to the model.

    style        `zero_shot`, `few_shot` (solved rows of the same source come before, as turns), or
                 `chain_of_thought` (the answer is preceded by how it was found)
    instruction  stands before every user message, with an empty line between
    shots        how many solved rows
    reasoning    a template over the row's columns: the way to the answer
    cue          what asks for it, after the message; a sentence in the message's language where
                 nothing is said
    answer       stands between the way and the answer
    """

    style: Literal["zero_shot", "few_shot", "chain_of_thought"] = "zero_shot"
    instruction: str | None = None
    shots: int = Field(default=3, ge=1, le=64)
    reasoning: str | None = None
    cue: str | None = None
    answer: str = "\n\n"

    @model_validator(mode="after")
    def _what_the_style_needs(self) -> Self:
        if self.style == "chain_of_thought" and self.reasoning is None:
            raise ValueError("`chain_of_thought` needs `reasoning`, a template over the row")
        if self.style != "chain_of_thought" and (self.reasoning or self.cue):
            raise ValueError("`reasoning` and `cue` belong to `chain_of_thought`")
        if self.style != "few_shot" and "shots" in self.model_fields_set:
            raise ValueError("`shots` belong to `few_shot`")
        return self


Learn = Literal["last", "all", "each", "weights"]


class SourceModel(FiniteModel):
    """One source of training data. Which templates it has decides what it can teach:

    `text`; `prompt` and `completion`; with a `label` (true: desirable) for KTO; `chosen` and
    `rejected` (and a `prompt`, where they don't hold it) for reward models and DPO; `prompt` alone
    for reinforcement learning. `messages` stands in a `prompt`'s place, or is the whole
    conversation; `tools` are what may be called in it.

    learn     which of its assistant turns are learned from: the `last`; `all` in one sequence;
              `each` in a row of its own; those whose `weight` isn't 0
    thoughts  whether the assistant's thoughts are kept (`keep`) or taken out (`drop`)

    `weight` is its share of the rows, relative to the other sources of the same segment;
    `segments` (counted from 1 along the data, a segment being the data between two checkpoints)
    says where it takes part; without it, everywhere. `where` keeps the rows whose fields have
    these values.
    """

    source: str = Field(min_length=1)
    weight: float = Field(gt=0)
    prompt: PromptModel | None = None
    messages: str | None = None
    tools: str | None = None
    learn: Learn = "last"
    thoughts: Literal["keep", "drop"] = "keep"
    completion: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None
    instruct: InstructionModel | None = None
    where: dict[str, str | int | float | bool] = Field(default_factory=dict)
    segments: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.prompt is not None and self.messages is not None:
            raise ValueError("a source has either a `prompt` or `messages`")
        asked = self.prompt is not None or self.messages is not None
        if self.text is not None and (asked or self.shape != "text" or self.tools is not None):
            raise ValueError("a source with `text` has no other template")
        if self.text is None and not asked and self.chosen is None:
            raise ValueError(
                "a source has either `prompt` and `completion`, or `messages`, or `text`"
            )
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("`chosen` and `rejected` go together")
        if self.label is not None and self.completion is None and self.messages is None:
            raise ValueError("a `label` judges a `completion`")
        if self.chosen is not None and self.completion is not None:
            raise ValueError("a source has either `completion`, or `chosen` and `rejected`")
        return self

    @model_validator(mode="after")
    def _keys_of_conversations(self) -> Self:
        if "learn" in self.model_fields_set and self.shape != "conversation":
            raise ValueError("`learn` is for whole conversations: `messages` and no other template")
        if self.instruct is not None and self.prompt is None:
            raise ValueError("`instruct` goes with a `prompt`")
        return self

    @property
    def shape(self) -> str:
        """`text`, `answer`, `labelled`, `pair`, `prompt` or `conversation`: what each of its rows
        is. A conversation may serve as a prompt, where answers to it are drawn.
        """
        if self.chosen is not None:
            return "pair"
        if self.label is not None:
            return "labelled"
        if self.completion is not None:
            return "answer"
        if self.messages is not None:
            return "conversation"
        return "text" if self.text is not None else "prompt"


class CurriculumModel(FiniteModel):
    """From easy to hard, or the other way. `by` is a numeric column, or `perplexity`: the model's
    own before its training. At first the easiest share `start` of the rows is drawn from, all of
    them from the share `full_at` of the training on.
    """

    by: str
    first: Literal["easy", "hard"] = "easy"
    start: float = Field(default=0.2, gt=0, le=1)
    full_at: float = Field(default=0.6, gt=0, le=1)


class DataModel(FiniteModel):
    """What is learned from, in which mixture, and in which order within a source.

    `curriculum` goes from easy rows to hard ones, or back; `balance` names a column whose rare
    values come more often; without either, rows come in a random order, all before any again.
    `validation` is the share of every source's rows that is never learned from and whose loss is
    compared with the training loss (the health rule `loss_gap`). A row of more than `max_length`
    tokens, or than the model reads, is refused, dropped or cut (`too_long`). `template` are
    arguments of the base's chat template, such as `enable_thinking: false`.
    """

    seed: int = Field(0, ge=0, lt=SEEDS_END)
    max_length: int = Field(1024, ge=8)
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    template: dict[str, Any] = Field(default_factory=dict)
    validation: float = Field(0.0, ge=0, lt=1)
    curriculum: CurriculumModel | None = None
    balance: str | None = None
    mix: tuple[SourceModel, ...] = Field(min_length=1)

    @field_validator("template")
    @classmethod
    def _not_ours(cls, template: dict[str, Any]) -> dict[str, Any]:
        ours = next((name for name in template if name in SET_BY_US), None)
        if ours is not None:
            raise ValueError(f"{ours!r} is no argument to be given here: it is set by what asks")
        return template

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.curriculum is not None and self.balance is not None:
            raise ValueError("rows come by `curriculum` or by `balance`, not by both")
        return self

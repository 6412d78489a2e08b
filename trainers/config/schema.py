"""The keys of a recipe, as pydantic models: what may be written, and what its defaults are."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.core.strict_model import FiniteModel
from trainers.config.data_schema import SEEDS_END, DataModel
from trainers.config.known_trainers import TRAINERS
from trainers.config.trainer_options import TrainerOptionsModel
from trainers.rewards.mixture import RewardModelSpec
from trainers.rewards.safety import SafetyModel

Remedy = Literal["skip_rows", "skip_data", "reshuffle", "lower_lr", "stop"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_NAME = 100
"""As of a line: a recipe whose line could not be promoted must not train first."""
QUANTIZE_BEFORE = "quantise"
"""How the key `quantize` was spelled at first: still read, and still what a digest is made of."""
MOST_ROWS = 20_000_000
"""That one plan may list: it is held in memory, and written as one file."""


ALL_LINEAR = "all-linear"
_SAYS_MORE = re.compile(r"[*+?\[\](){}|^$\\]")


def is_pattern(target: str) -> bool:
    """Whether it is a regular expression that a module's full name must match, and no name."""
    return _SAYS_MORE.search(target) is not None


def _compiles(target: str) -> str:
    try:
        re.compile(target)
        re.compile(f"(.*)?({target})$")  # as peft looks for the patterns of ranks
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return target


Module = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
"""A module of the base by its name, or a pattern of names."""


class AdapterModel(FiniteModel):
    """What is trained around the base, in peft's terms; `none` is full fine-tuning.

    `virtual_tokens` belongs to `prefix`, all other keys to the LoRA family (`lora`, `dora`,
    `rslora`). `targets` are names, patterns of full names, or `all-linear`; `rank_pattern` and
    `alpha_pattern` give some of them a rank or an alpha of their own.
    """

    kind: Literal["lora", "dora", "rslora", "prefix", "none"] = "lora"
    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[Module, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    bias: Literal["none", "all", "lora_only"] = "none"
    modules_to_save: tuple[Module, ...] = ()
    rank_pattern: dict[Module, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    alpha_pattern: dict[Module, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    virtual_tokens: int = Field(16, ge=1)

    @field_validator("targets", mode="before")
    @classmethod
    def _one_that_means_many_is_fine(cls, value: Any) -> Any:
        many = isinstance(value, str) and (value == ALL_LINEAR or is_pattern(value))
        return (value,) if many else value

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        prefix = {"virtual_tokens"}
        lora = set(type(self).model_fields) - prefix - {"kind"}
        foreign = {"prefix": lora, "none": lora | prefix}.get(self.kind, prefix)
        for name in sorted(foreign & self.model_fields_set):
            raise ValueError(f"an adapter of kind {self.kind} has no {name!r}")
        if self.kind == "dora" and self.init != "default":
            raise ValueError(f"dora begins from the base's weights: it has no `init: {self.init}`")
        if self.init == "orthogonal" and any(
            r % 2 for r in (self.rank, *self.rank_pattern.values())
        ):
            raise ValueError("an orthogonal init halves the rank: it must be even")
        return self

    @property
    def moves_base(self) -> bool:
        """Whether it begins with a part of the base's weights, which the base then lacks."""
        return self.init in ("pissa", "olora")


class InconclusiveModel(FiniteModel):
    """Planned looks as cumulative shares of the evidence, and what to do when they are used up."""

    looks: tuple[float, ...] = (1.0,)
    then: Literal["hold"] = "hold"

    @field_validator("looks")
    @classmethod
    def _rising(cls, looks: tuple[float, ...]) -> tuple[float, ...]:
        if not looks or looks[0] <= 0 or any(b <= a for a, b in pairwise(looks)):
            raise ValueError("looks are rising numbers above 0, such as [1, 2, 4]")
        return looks


class TrainingGateModel(FiniteModel):
    """The suite that judges, and what follows from its verdicts."""

    suite: str
    on_fail: tuple[Remedy, ...] = Field(("skip_data", "lower_lr", "stop"), min_length=1)
    on_inconclusive: InconclusiveModel = InconclusiveModel()
    max_rollbacks: int = Field(3, ge=0, le=100)
    promote: bool = True


class HealthRule(FiniteModel):
    """A bound on a measure's mean over a segment. `falls_by` is compared with the first segment's
    mean; `then` is the remedy, without it the next one of `on_fail`.
    """

    at_least: float | None = None
    at_most: float | None = None
    falls_by: float | None = Field(None, gt=0)
    then: Remedy | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.at_least is None and self.at_most is None and self.falls_by is None:
            raise ValueError("a health rule has `at_least`, `at_most` or `falls_by`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("`at_least` is more than `at_most`: nothing lies between them")
        return self


PARTICULAR = frozenset(
    {
        "beta",
        "flat_reward_steps",
        "generate_on",
        "generations",
        "loss",
        "max_new_tokens",
        "ppo",
        "reuse",
        "rewards",
        "safety",
        "temperature",
    }
)
"""A stage's keys that only some trainers take, as each says itself: to any other they would mean
nothing, in silence."""


class PpoModel(FiniteModel):
    """PPO's own settings.

    A rollout is sampled once and learned from for `epochs` passes of `minibatches` optimizer
    steps each. `kl_coefficient` scales the reward lost per nat of divergence from the model with
    its adapter switched off.
    """

    clip: float = Field(default=0.2, gt=0, lt=1)
    value_clip: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.5, ge=0)
    entropy_coefficient: float = Field(default=0.01, ge=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    epochs: int = Field(default=4, ge=1)
    minibatches: int = Field(default=1, ge=1)
    gamma: float = Field(default=1.0, ge=0, le=1)
    lambda_: float = Field(default=0.95, ge=0, le=1, alias="lambda")
    whiten: bool = True


class EwcModel(FiniteModel):
    """Elastic weight consolidation: what `samples` rows of the mix's source `source` need of the
    weights is held where it is, `weight` times as strongly as the Fisher information says.
    """

    weight: float = Field(gt=0)
    source: str
    samples: int = Field(default=64, ge=1)


class LossModel(FiniteModel):
    """Options of the loss of supervised fine-tuning. `focal_gamma` 0 is the stock loss."""

    focal_gamma: float = Field(default=0.0, ge=0, le=10)
    ewc: EwcModel | None = None


class StageModel(FiniteModel):
    """One trainer's part of the run. `batch_size` counts examples (completions, where they are
    generated) over all processes; a step learns from batch_size x gradient_accumulation of them.

    `steps` counts them, or `epochs` passes over the rows do: then `steps` is 0 until the rows are
    counted (`in_steps`).

    `beta` weighs the distance from the stage's first state (DPO, KTO, GRPO, RLOO). `generations`
    to `reuse` are for GRPO and RLOO: completions to a prompt, their length and temperature, and
    how many steps learn from the same completions. `flat_reward_steps` bounds how many steps in a
    row may pass in which no reward tells one completion from another (0: any number);
    `generate_on` is what draws them. `options`
    are the keys that the trainer alone knows, where a package has added it; `trainer_options` are
    settings of the Trainer's own.
    """

    trainer: str = "sft"
    name: str | None = Field(None, pattern=NAME, max_length=LONGEST_NAME)
    line: str | None = Field(None, pattern=NAME, max_length=LONGEST_NAME)
    steps: int = Field(0, ge=1)
    epochs: float | None = Field(None, gt=0, le=10_000)
    checkpoint_every: int = Field(ge=1)
    batch_size: int = Field(8, ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    max_grad_norm: float = Field(1.0, gt=0)
    beta: float | None = Field(None, ge=0)
    generations: int = Field(4, ge=2)
    max_new_tokens: int = Field(64, ge=1)
    temperature: float = Field(1.0, gt=0)
    reuse: int = Field(1, ge=1)
    flat_reward_steps: int = Field(10, ge=0)
    generate_on: Literal["transformers", "vllm"] = "transformers"
    loss: LossModel | None = None
    ppo: PpoModel = Field(default_factory=lambda: PpoModel.model_validate({}))
    rewards: tuple[RewardModelSpec, ...] = ()
    safety: SafetyModel | None = None
    options: dict[str, Any] | None = None
    trainer_options: TrainerOptionsModel = TrainerOptionsModel()
    data: DataModel | None = None
    gate: TrainingGateModel | None = None
    health: dict[str, HealthRule] | None = None

    @field_validator("trainer")
    @classmethod
    def _known(cls, trainer: str) -> str:
        if trainer not in TRAINERS:
            *names, last = (repr(name) for name in TRAINERS.names())
            raise ValueError(f"input should be {', '.join(names)} or {last}")
        return trainer

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if (self.steps == 0) == (self.epochs is None):
            raise ValueError("a stage has either `steps` or `epochs`")
        return self

    def in_steps(self, segments: int) -> Self:
        """The same stage as so many segments. Raises ValueError for a length that can't be."""
        found = self.model_copy(update={"steps": segments * self.checkpoint_every})
        found._require_a_plan()
        return found

    @model_validator(mode="after")
    def _a_plan_that_fits(self) -> Self:
        if self.epochs is None:
            self._require_a_plan()
        return self

    def _require_a_plan(self) -> None:
        if self.steps % self.checkpoint_every:
            raise ValueError(
                f"steps ({self.steps}) must be a multiple of checkpoint_every "
                f"({self.checkpoint_every}), so that the last step is judged too"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be fewer than steps ({self.steps}): "
                "the learning rate would never be reached"
            )
        if self.steps * self.rows_per_step > MOST_ROWS:
            raise ValueError(
                f"{self.steps} steps of {self.rows_per_step} are more than the {MOST_ROWS} rows "
                "that one stage may plan"
            )

    @model_validator(mode="after")
    def _keys_of_its_trainer(self) -> Self:
        method = TRAINERS.load(self.trainer)
        # A loss is refused with the data, where more is known of it.
        for name in sorted(self.model_fields_set & (PARTICULAR - {"loss"}) - method.keys):
            owners = [own for own in TRAINERS.built_in if name in TRAINERS.load(own).keys]
            raise ValueError(
                f"the trainer {self.trainer} has no {name!r}: it is for {', '.join(sorted(owners))}"
            )
        if self.options is not None and method.options is None:
            raise ValueError(f"the trainer {self.trainer} has no 'options'")
        if method.options is not None:
            try:
                method.options.model_validate(self.options or {})
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, ("options", *first["loc"])))
                raise ValueError(f"`{place}`: {first['msg']}") from None
        return self

    @property
    def rows_per_step(self) -> int:
        return self.batch_size * self.gradient_accumulation


class ContaminationModel(FiniteModel):
    """`near` is the similarity from which two texts count as one; a training is refused where
    more than the share `refuse_above` of a task's samples is found in its data.
    """

    near: float = Field(default=0.8, gt=0, le=1)
    refuse_above: float = Field(default=0.01, ge=0, le=1)


class RecipeModel(FiniteModel):
    """The whole YAML file. `data`, `gate` and `health` hold for every stage without its own.

    `start` is a checkpoint of this base to go on from; `dtype` is of a frozen base, of the steps
    and of scoring (`config.precision`); `webhook` is told of every rollback.
    """

    name: str = Field(pattern=NAME, max_length=LONGEST_NAME)
    line: str = Field(pattern=NAME, max_length=LONGEST_NAME)
    base: str = Field(min_length=1)
    start: str | None = Field(None, min_length=1)
    seed: int = Field(0, ge=0, lt=SEEDS_END)
    quantize: Literal["4bit", "8bit"] | None = Field(
        None, validation_alias=AliasChoices("quantize", QUANTIZE_BEFORE)
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    adapter: AdapterModel | None = None
    data: DataModel | None = None
    stages: tuple[StageModel, ...] = Field(min_length=1)
    gate: TrainingGateModel | None = None
    health: dict[str, HealthRule] = Field(default_factory=dict)
    contamination: ContaminationModel | None = None
    tracking: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    webhook: str | None = Field(None, pattern=r"^([a-z]+\+)?https?://[^\s/]+")

    @model_validator(mode="after")
    def _quantized_bases_are_frozen(self) -> Self:
        if self.quantize and self.adapter_kind == "none":
            raise ValueError("a quantized base can't be trained itself: give it an `adapter`")
        if self.quantize and self.dtype != "auto":
            raise ValueError("a quantized base has its own `dtype`: leave one of the two out")
        if self.quantize and self.adapter is not None and self.adapter.moves_base:
            raise ValueError(
                f"`init: {self.adapter.init}` takes a part of the base's weights, and a quantized "
                "base gives none"
            )
        return self

    @property
    def adapter_kind(self) -> str:
        return "none" if self.adapter is None else self.adapter.kind

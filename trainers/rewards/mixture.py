"""Rewards as a weighted mixture: each component computed, checked and reported by itself.

Every component lies in 0 to 1 (but a reward model's with `scale: none`), so that weights mean
what they say. The functions have the shape that TRL calls, and PPO calls the same ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsFloat

from pydantic import Field, model_validator

from harness.core.errors import UserError
from harness.core.strict_model import FiniteModel
from harness.data import templates
from trainers.rewards.answers import Answers
from trainers.rewards.custom import by_function, function_file, require_function
from trainers.rewards.safety import Safety

if TYPE_CHECKING:
    from harness.metrics.base import Metric

__all__ = ["RewardMixture", "RewardModelSpec", "RewardTable", "load_rewards"]

ROW = "_row"
"""The column that holds each row of the data as JSON. A table of the rows themselves would give
every object the keys of all the others, with null in them.
"""

BESIDE = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
"""What TRL gives to reward functions beside prompts, completions and the data's columns."""

Function = Callable[..., "list[float | None]"]
Values = Callable[["Answers"], Sequence["float | None"]]


_KINDS = frozenset({"model", "function", "length"})
_KEYS_OF: dict[str, frozenset[str]] = {
    "path": frozenset({"model", "function"}),
    "scale": frozenset({"model"}),
    "shortest": frozenset({"length"}),
    "longest": frozenset({"length"}),
    "reference": frozenset({"metric"}),
    "options": frozenset({"metric"}),
}
"""Which kinds have these keys: to any other they would mean nothing, in silence."""


class RewardModelSpec(FiniteModel):
    """One component of the mixture.

    kind       `model` (a sequence classifier at `path`: a folder, a hub id, or `stage:NAME`),
               `length` (1 within `shortest` to `longest` characters, falling to 0 at twice as far
               out), `function` (`path` is FILE.py:NAME, called with prompts and completions), or
               the name of any metric of one value per answer within bounds: json_valid, regex,
               toxicity, similarity, json_match …; its worst value is 0 and its best 1
    name       what it is logged as; its kind where nothing is said
    weight     its share in the sum
    reference  a template over the row's columns, for metrics that compare
    options    the metric's own
    scale      of a reward model: `sigmoid` of its output, or the output itself
    """

    kind: str
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    weight: float = Field(default=1.0, gt=0)
    path: str | None = None
    scale: Literal["sigmoid", "none"] = "sigmoid"
    reference: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    shortest: int = Field(default=0, ge=0)
    longest: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _what_the_kind_needs(self) -> Self:
        if self.kind in ("model", "function") and self.path is None:
            raise ValueError(f"a reward of kind `{self.kind}` needs a `path`")
        if self.kind == "length" and self.longest is None and not self.shortest:
            raise ValueError("a reward of kind `length` needs `shortest` or `longest`")
        if self.longest is not None and self.longest < self.shortest:
            raise ValueError("`longest` is less than `shortest`")
        for key in sorted(_KEYS_OF.keys() & self.model_fields_set):
            if (self.kind if self.kind in _KINDS else "metric") not in _KEYS_OF[key]:
                raise ValueError(f"a reward of kind `{self.kind}` has no {key!r}")
        return self

    @property
    def label(self) -> str:
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class RewardTable:
    """What a batch earned: the weighted sum per answer, None where no component judged it, and
    each component's values.
    """

    total: tuple[float | None, ...]
    parts: Mapping[str, tuple[float | None, ...]]

    def figures(self) -> dict[str, float | None]:
        """Means by TRL's names: `reward`, None where no answer has one, and `rewards/NAME/mean`
        where a value was given.
        """
        earned = [value for value in self.total if value is not None]
        means: dict[str, float | None] = {"reward": sum(earned) / len(earned) if earned else None}
        for name, values in self.parts.items():
            known = [value for value in values if value is not None]
            if known:
                means[f"rewards/{name}/mean"] = sum(known) / len(known)
        return means


@dataclass(frozen=True, slots=True)
class RewardMixture:
    """Components in the recipe's order; `functions` and `weights` are what TRL is given."""

    names: tuple[str, ...]
    functions: tuple[Function, ...]
    weights: tuple[float, ...]
    safety: Safety | None = None

    def score(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> RewardTable:
        """Sum of weight times value per answer. A component that says None of an answer takes no
        part in its sum, and one of which all say None has no reward, as in TRL.
        """
        found = [f(prompts=prompts, completions=completions, **columns) for f in self.functions]
        total: list[float | None] = []
        for values in zip(*found, strict=True):
            known = [(w, v) for w, v in zip(self.weights, values, strict=True) if v is not None]
            total.append(sum(w * v for w, v in known) if known else None)
        parts = {name: tuple(values) for name, values in zip(self.names, found, strict=True)}
        return RewardTable(tuple(total), parts)


def load_rewards(
    recipe: Any,
    stage: Any,
    *,
    stage_folder: Callable[[str], Path] | None = None,
) -> RewardMixture:
    """The mixture of a recipe's stage; `stage_folder` finds the model that an earlier stage of that
    name made. Raises UserError for what can't be had or computed.
    """
    specs: Sequence[RewardModelSpec] = stage.model.rewards
    folder = Path(recipe.path).parent
    if not specs:
        raise UserError(
            f"the stage {stage.model.trainer} has no rewards",
            file=recipe.path,
            field="stages.rewards",
            hint="add `rewards: [{kind: json_valid, weight: 1}]`",
        )
    names = [spec.label for spec in specs]

    def place(path: str) -> str:
        if path.startswith("stage:"):
            if stage_folder is None:
                raise UserError(f"no stage's model can be had here: {path}", field="stages.rewards")
            return str(stage_folder(path.removeprefix("stage:")))
        return str(folder / path) if (folder / path.partition(":")[0]).exists() else path

    functions = tuple(checked(spec.label, _values(spec, place), recipe.path) for spec in specs)
    safety = getattr(stage.model, "safety", None)
    return RewardMixture(
        tuple(names),
        functions,
        tuple(spec.weight for spec in specs),
        Safety(safety, folder) if safety is not None else None,
    )


def check(spec: RewardModelSpec, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError for what can be known of a component before anything is trained: a file
    that is not there, a metric that is none or can't judge an answer, a reference that some row
    of the data can't fill. `folder` is what paths are relative to.
    """
    path = spec.path or ""
    if spec.kind == "function":
        require_function(*function_file(str(folder / path), spec.label), spec.label)
    elif spec.kind == "model":
        meant_as_file = path.startswith((".", "/", "~")) or path.count("/") > 1
        if meant_as_file and not (folder / path).expanduser().exists():
            raise UserError(
                f"the reward {spec.label!r} has no model at {path}",
                hint="paths are relative to the recipe; or give a hub id, or stage:NAME",
            )
    elif spec.kind != "length":
        _by_metric(spec)
    if spec.reference is not None:
        for row in rows:
            _reference(spec, row)


def checked(name: str, values: Values, file: Path | None = None) -> Function:
    """`values` in TRL's shape: called with prompts, completions and columns by name; the answer
    has one finite number, or None, per completion, or it is a UserError that names the reward, and
    the recipe `file`.
    """

    def call(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> Any:
        answers = _answers(prompts, completions, columns)
        found = list(values(answers))
        if len(found) != len(answers.texts):
            raise UserError(
                f"the reward {name!r} gave {len(found)} values for {len(answers.texts)} answers",
                file=file,
                field=f"rewards.{name}",
                hint="return one number, or None, per answer",
            )
        numbers = [None if value is None else _finite(value) for value in found]
        for index, (value, number) in enumerate(zip(found, numbers, strict=True)):
            if value is not None and number is None:
                raise UserError(
                    f"the reward {name!r} is {value!r} for the answer "
                    f"{answers.texts[index][:60]!r}",
                    file=file,
                    field=f"rewards.{name}",
                    hint="return a finite number, or None where there is nothing to judge",
                )
        return numbers

    call.__name__ = name
    return call


def _finite(value: Any) -> float | None:
    """A value as a number; None where it is none, or not finite."""
    if not isinstance(value, SupportsFloat) or isinstance(value, str):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        # An array of several numbers, or of one in a list; an integer beyond all floats.
        return None
    return number if math.isfinite(number) else None


def _answers(
    prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
) -> Answers:
    texts = tuple(c if isinstance(c, str) else str(c[-1]["content"]) for c in completions)
    beside = {name: columns[name] for name in BESIDE if name in columns}
    columns = {name: column for name, column in columns.items() if name not in BESIDE}
    if ROW in columns:
        rows = [json.loads(row) for row in columns[ROW]]
    else:
        per_row = {
            key: column
            for key, column in columns.items()
            if isinstance(column, Sequence)
            and not isinstance(column, str)
            and len(column) == len(completions)
        }
        rows = [{key: column[i] for key, column in per_row.items()} for i in range(len(texts))]
    chats = tuple(
        ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
        for prompt in prompts
    )
    return Answers(chats, texts, tuple(rows), beside)


def _values(spec: RewardModelSpec, place: Callable[[str], str]) -> Values:
    if spec.kind == "length":
        return lambda answers: [length_reward(text, spec) for text in answers.texts]
    if spec.kind == "model":
        return _by_model(place(str(spec.path)), spec.scale)
    if spec.kind == "function":
        return by_function(place(str(spec.path)), spec.label)
    values = _by_metric(spec)
    if spec.reference is None:
        _require_reference(spec)
    return values


def length_reward(text: str, spec: RewardModelSpec) -> float:
    """1 within the bounds, in characters; beyond, less by the relative distance, 0 at the least."""
    size = len(text)
    if size < spec.shortest:
        return size / spec.shortest
    if spec.longest is not None and size > spec.longest:
        return max(0.0, 2 - size / spec.longest)
    return 1.0


def _by_model(path: str, scale: str) -> Values:
    from harness.metrics.reward_model import reward
    from harness.metrics.support.encoders import require

    require(path)
    # What is not a reward model is found before the first checkpoint is scored.
    reward([({"role": "user", "content": "?"},)], ["."], model=path)

    def values(answers: Answers) -> list[float]:
        logits = reward(answers.prompts, answers.texts, model=path)
        if scale == "none":
            return [float(value) for value in logits]
        return [0.5 * (1 + math.tanh(value / 2)) for value in logits.tolist()]

    return values


def _by_metric(spec: RewardModelSpec) -> Values:
    from harness.metrics import get_metric

    metric = get_metric(spec.kind, spec.options)
    about = metric.spec
    if about.needs != "generation" or about.per != "response":
        raise UserError(
            f"the metric {spec.kind} judges no single answer, so it can't be a reward",
            field=f"rewards.{spec.label}",
            hint="take a metric of one value per response",
        )
    if about.low is None or about.high is None:
        raise UserError(
            f"the metric {spec.kind} has no smallest and largest value, so it can't be weighted",
            field=f"rewards.{spec.label}",
            hint="`kind: length` rewards a length, `kind: model` a reward model's opinion",
        )
    low, high = about.low, about.high
    best, worst = (high, low) if about.direction == "higher" else (low, high)
    return lambda answers: [
        None if value is None else (value - worst) / (best - worst)
        for value in _measured(metric, spec, answers)
    ]


def _require_reference(spec: RewardModelSpec) -> None:
    """Raises UserError for a metric that compares and is given nothing to compare with: it would
    judge no answer, and nothing would be learned.
    """
    from harness.core.types import Response, Sample
    from harness.metrics import get_metric
    from harness.metrics.base import MetricItem

    asked = ({"role": "user", "content": "?"},)
    item = MetricItem(
        Sample("0", "reward", {}, asked), (Response("0", "0", "reward", "generation", 0, 0, "a"),)
    )
    [[evidence]] = get_metric(spec.kind, spec.options).score([item])
    if evidence.value is None and "no reference" in (evidence.reason or ""):
        raise UserError(
            f"the reward {spec.label!r} compares answers with a reference, and has none",
            field=f"rewards.{spec.label}",
            hint='add `reference: "{{ COLUMN }}"`',
        )


def _measured(metric: Metric, spec: RewardModelSpec, answers: Answers) -> list[float | None]:
    from harness.core.types import Response, Sample, ScoreOutcome
    from harness.metrics.base import MetricItem

    items = []
    for index, (prompt, text, row) in enumerate(
        zip(answers.prompts, answers.texts, answers.rows, strict=True)
    ):
        name = str(index)
        references = (_reference(spec, row),) if spec.reference is not None else ()
        sample = Sample(name, "reward", row, prompt, references=references)
        response = Response(name, name, "reward", "generation", 0, 0, text)
        items.append(MetricItem(sample, (response,)))
    found: list[float | None] = []
    for [evidence] in metric.score(items):
        if evidence.outcome is ScoreOutcome.ERROR:
            raise UserError(
                f"the reward {spec.label!r} failed: {evidence.reason}",
                field=f"rewards.{spec.label}",
                hint="try the metric in a suite on these rows, or take the reward out",
            )
        found.append(evidence.value)
    return found


def _reference(spec: RewardModelSpec, row: Mapping[str, Any]) -> str:
    assert spec.reference is not None
    try:
        return templates.render(spec.reference, row, meant="object")
    except templates.TemplateError as error:
        raise UserError(
            f"the reference of the reward {spec.label!r} can't be filled: {error}",
            field=f"rewards.{spec.label}.reference",
            hint="name a column of the data",
        ) from None

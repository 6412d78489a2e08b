"""Checks of a stage that need its data: columns, labels, rewards, health rules."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.core.yaml_file import Place, YamlDocument
from trainers.config.curriculum import column_of
from trainers.config.data_schema import DataModel
from trainers.config.method_traits import traits_of
from trainers.config.schema import HealthRule, RecipeModel, StageModel, TrainingGateModel
from trainers.rewards.mixture import check as check_reward

if TYPE_CHECKING:
    from trainers.config.recipe import Example


ROWS_EXPLAINED = ("sft", "dpo")
"""Trainers whose loss is a sum over rows of the data, so that one row has an influence."""


def check_order_and_loss(
    model: StageModel,
    data: DataModel,
    examples: Sequence[Example],
    document: YamlDocument,
    here: Place,
    data_at: Place,
) -> None:
    by = data.curriculum.by if data.curriculum is not None else "perplexity"
    if by != "perplexity":
        try:
            column_of(examples, by)
        except UserError as error:
            place: Place = (*data_at, "curriculum", "by")
            raise document.error(error.what, place, hint=error.hint) from None
    elif data.curriculum is not None and not {"text", "answer", "labelled", "conversation"} & {
        source.shape for source in data.mix
    }:
        raise document.error(
            "only texts and answers have a perplexity to order by", (*data_at, "curriculum", "by")
        )
    for example in examples:
        if data.balance is not None and data.balance not in example.columns:
            raise document.error(
                f"row {example.row!r} has no field {data.balance!r} to balance by",
                (*data_at, "balance"),
                hint=f"its fields are {', '.join(example.columns)}",
            )
    if model.loss is None:
        return
    if "loss" not in traits_of(model.trainer).keys:
        raise document.error(f"the trainer {model.trainer} has a loss of its own", (*here, "loss"))
    ewc = model.loss.ewc
    if ewc is not None and ewc.source not in {source.source for source in data.mix}:
        raise document.error(
            f"EWC measures on {ewc.source!r}, which is not a source of the mix",
            (*here, "loss", "ewc", "source"),
            hint=f"its sources are {', '.join(source.source for source in data.mix)}",
        )


def _blank(text: str) -> bool:
    """Whether nothing of it can be seen: spaces, and marks without a width or a glyph."""
    return all(sign.isspace() or unicodedata.category(sign) in ("Cf", "Cc") for sign in text)


def unlearnable(example: Example) -> str | None:
    """What is wrong with a row that nothing can be learned from, or nothing that is meant."""
    answered = any(turn["role"] == "tool" for turn in example.prompt[-1:])
    learned = {
        "the text": example.text,
        "the completion": example.completion,
        "the chosen answer": example.chosen,
        # What a tool gave back may well be nothing.
        "the prompt": example.prompt[-1]["content"] if example.prompt and not answered else None,
    }
    for name, said in learned.items():
        if said is not None and _blank(said):
            return f"{name} of row {example.row!r} is empty"
    if example.chosen is not None and example.chosen == example.rejected:
        return f"the chosen and the rejected answer of row {example.row!r} are the same"
    return None


TAKEN = frozenset({"prompts", "completion", "completions", "completion_ids", "trainer_state"})
"""Names that trainers give to what they draw: a column of the data may not shadow them."""


def check_columns(examples: Sequence[Example]) -> None:
    """Raises UserError for a column that rewards could not tell from what the trainer draws."""
    for example in examples:
        if taken := TAKEN & example.columns.keys():
            raise UserError(
                f"the column {min(taken)!r} bears a name that the trainer gives to its own",
                file=example.file,
                line=example.line,
                hint="rename it",
            )


def check_whole_prompts(data: DataModel, document: YamlDocument, place: Place) -> None:
    """Raises UserError where a prompt would be cut that answers are drawn to."""
    if data.too_long == "cut":
        raise document.error(
            "a prompt that is cut asks something else",
            (*place, "too_long"),
            hint="write `too_long: drop`",
        )


def check_labels(examples: Sequence[Example], document: YamlDocument, place: Place) -> None:
    """Raises UserError where all labels are alike: KTO compares one kind with the other."""
    labels = {example.label for example in examples} - {None}
    if len(labels) == 1:
        raise document.error(
            f"the label of every row is {str(labels.pop()).lower()}",
            place,
            hint="kto learns from answers of both kinds: add rows of the other",
        )


def check_rewards(
    recipe: RecipeModel,
    index: int,
    examples: Sequence[Example],
    document: YamlDocument,
    here: Place,
) -> None:
    model, folder = recipe.stages[index], document.path.parent
    labels = [spec.label for spec in model.rewards]
    for number, label in enumerate(labels):
        if label in labels[:number]:
            raise document.error(
                f"two rewards are named {label!r}",
                (*here, "rewards", number),
                hint="give one of them a `name`",
            )
    earlier = [
        s.name or s.trainer for s in recipe.stages[:index] if not traits_of(s.trainer).continues
    ]
    for number, spec in enumerate(model.rewards):
        place: Place = (*here, "rewards", number)
        stage = (spec.path or "").partition("stage:")[2]
        if spec.kind == "model" and stage and stage not in earlier:
            raise document.error(
                f"no reward stage named {stage!r} comes before this one",
                place,
                hint=f"the reward stages before it are: {', '.join(earlier) or 'none'}",
            )
        try:
            check_reward(spec, folder, [example.columns for example in examples])
        except UserError as error:
            raise document.error(error.what, place, hint=error.hint) from None
    words = model.safety.file if model.safety is not None else None
    if words is not None and not (folder / words).is_file():
        raise document.error(
            f"the word list is not there: {words}",
            (*here, "safety", "file"),
            hint=f"paths are relative to the recipe: looked for {folder / words}",
        )


def check_health(
    health: Mapping[str, HealthRule],
    measures: frozenset[str],
    data: DataModel,
    model: StageModel,
    document: YamlDocument,
    here: Place,
) -> None:
    known = {"loss", "grad_norm", "loss_gap", *measures, *_rewards(model)}
    if "reward" in measures:
        known.discard("loss_gap")
    place: Place = (*here, "health") if model.health is not None else ("health",)
    for name, rule in health.items():
        if rule.then == "skip_rows":
            raise document.error(
                "skip_rows leaves out the rows that taught what a verdict found worse, and a "
                "health rule has no verdict",
                (*place, name, "then"),
                hint="write skip_data",
            )
        if name not in known:
            raise document.error(
                f"the trainer {model.trainer} doesn't measure {name!r}",
                (*place, name),
                hint=f"it measures {', '.join(sorted(known))}",
            )
    if "loss_gap" in health and not data.validation:
        raise document.error(
            "`loss_gap` needs rows to validate on",
            (*place, "loss_gap"),
            hint="set data.validation, such as 0.1",
        )


def check_remedies(
    gate: TrainingGateModel, model: StageModel, document: YamlDocument, gate_at: Place
) -> None:
    """Raises UserError for a remedy that the stage's trainer has no place for."""
    if "skip_rows" in gate.on_fail and model.trainer not in ROWS_EXPLAINED:
        raise document.error(
            f"skip_rows needs a loss of each row by itself, and {model.trainer} has none",
            (*gate_at, "on_fail"),
            hint="write skip_data, which leaves out the whole segment",
        )


def _rewards(model: StageModel) -> Iterator[str]:
    for spec in model.rewards:
        yield f"rewards/{spec.label}"

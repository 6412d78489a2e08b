"""Puts a source's rows to the model as instructions: zero-shot, few-shot or chain of thought.

A training on few-shot prompts of its own rows teaches the form that the suite may ask in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.core.errors import UserError
from harness.core.language import detect_language
from harness.data import templates
from trainers.config.data_schema import InstructionModel

if TYPE_CHECKING:
    from trainers.config.recipe import Example, Message

STEP_BY_STEP = {"en": "Let's think step by step.", "zh": "让我们一步一步地思考。"}


def instructed(
    examples: Sequence[Example], model: InstructionModel, *, seed: int
) -> tuple[Example, ...]:
    """The rows of one source under its template. The shots of a row depend on the seed and its own
    name alone, and it is never among them. Raises UserError for rows that are not chat pairs.
    """
    for example in examples:
        if not example.prompt or (example.completion is None and model.style != "zero_shot"):
            raise UserError(
                f"row {example.row!r} has no prompt with an answer to instruct",
                field="instruct",
                hint="give the source `prompt` and `completion`",
            )
    asked = [_asked(example, model) for example in examples]
    if model.style != "few_shot":
        return tuple(asked)
    if len(examples) <= model.shots:
        raise UserError(
            f"{len(examples)} rows can't give {model.shots} shots to each other",
            field="instruct.shots",
            hint="take fewer shots, or give more rows",
        )
    return tuple(_with_shots(number, asked, model.shots, seed) for number in range(len(asked)))


def _asked(example: Example, model: InstructionModel) -> Example:
    *before, last = example.prompt
    message = last["content"]
    completion = example.completion
    if model.style == "chain_of_thought":
        language = detect_language(message) or "en"
        message = f"{message}\n{model.cue or STEP_BY_STEP[language]}"
        completion = f"{_reasoning(example, model)}{model.answer}{completion}"
    if model.instruction is not None:
        message = f"{model.instruction}\n\n{message}"
    return replace(example, prompt=(*before, {**last, "content": message}), completion=completion)


def _reasoning(example: Example, model: InstructionModel) -> str:
    assert model.reasoning is not None
    try:
        return templates.render(model.reasoning, example.columns)
    except templates.TemplateError as error:
        raise UserError(
            f"the reasoning of row {example.row!r} can't be filled: {error}",
            field="instruct.reasoning",
            hint="add the field to this row",
        ) from None


def _with_shots(number: int, asked: Sequence[Example], shots: int, seed: int) -> Example:
    example = asked[number]
    turns: list[Message] = []
    for chosen in _others(number, len(asked), shots, f"{seed}|{example.row}"):
        shot = asked[chosen]
        turns += [shot.prompt[-1], {"role": "assistant", "content": shot.completion or ""}]
    *before, last = example.prompt
    return replace(example, prompt=(*before, *turns, last))


def _others(number: int, count: int, wanted: int, key: str) -> list[int]:
    """`wanted` different numbers below `count`, not `number`, by a hash of the key."""
    chosen: list[int] = []
    attempt = 0
    while len(chosen) < wanted:
        digest = hashlib.sha256(f"{key}|{attempt}".encode()).digest()
        other = int.from_bytes(digest[:8], "big") % count
        attempt += 1
        if other != number and other not in chosen:
            chosen.append(other)
    return chosen

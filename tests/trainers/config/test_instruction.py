"""Instruction templates: zero-shot, few-shot, chain of thought."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.errors import UserError
from trainers.config.data_schema import InstructionModel
from trainers.config.instruction import STEP_BY_STEP, instructed
from trainers.config.recipe import Example


def rows(count: int = 5) -> list[Example]:
    return [
        Example(
            0,
            f"r{i}",
            ({"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{i}+1?"}),
            str(i + 1),
            columns={"why": f"One more than {i}."},
        )
        for i in range(count)
    ]


def model(**keys: Any) -> InstructionModel:
    return InstructionModel.model_validate(keys)


def test_zero_shot_puts_the_instruction_before_the_message() -> None:
    [first, *_] = instructed(rows(), model(instruction="Add."), seed=0)
    assert first.prompt[0]["content"] == "Be brief."
    assert first.prompt[1]["content"] == "Add.\n\n0+1?"
    assert first.completion == "1"


def test_few_shot_shows_other_rows_solved() -> None:
    made = instructed(rows(), model(style="few_shot", shots=2), seed=0)
    for number, example in enumerate(made):
        roles = [message["role"] for message in example.prompt]
        assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
        asked = [m["content"] for m in example.prompt if m["role"] == "user"]
        answered = [m["content"] for m in example.prompt if m["role"] == "assistant"]
        assert asked[-1] == f"{number}+1?"
        assert len(set(asked)) == 3
        assert answered == [str(int(question[0]) + 1) for question in asked[:-1]]
        assert example.completion == str(number + 1)
    assert made == instructed(rows(), model(style="few_shot", shots=2), seed=0)
    assert made != instructed(rows(), model(style="few_shot", shots=2), seed=1)


def test_a_row_keeps_its_shots_where_others_are_renamed() -> None:
    changed = rows()
    changed[4] = Example(0, "other", changed[4].prompt, changed[4].completion)
    few = model(style="few_shot", shots=2)
    assert instructed(rows(), few, seed=0)[:4] == instructed(changed, few, seed=0)[:4]


def test_chain_of_thought_gives_the_way_before_the_answer() -> None:
    thought = model(style="chain_of_thought", reasoning="{{ why }}", answer=" So: ")
    [first, *_] = instructed(rows(), thought, seed=0)
    assert first.prompt[-1]["content"] == f"0+1?\n{STEP_BY_STEP['en']}"
    assert first.completion == "One more than 0. So: 1"
    chinese = Example(
        0, "c", ({"role": "user", "content": "一加一是多少？"},), "二", columns={"why": "数"}
    )
    [only] = instructed([chinese], thought, seed=0)
    assert only.prompt[0]["content"].endswith(STEP_BY_STEP["zh"])


@pytest.mark.parametrize(
    ("examples", "keys", "message"),
    [
        ([Example(0, "t", text="plain")], {}, "row 't' has no prompt"),
        (rows(2), {"style": "few_shot", "shots": 2}, "2 rows can't give 2 shots"),
        (rows(2), {"style": "chain_of_thought", "reasoning": "{{ how }}"}, "reasoning of row 'r0'"),
    ],
)
def test_rows_that_do_not_fit(examples: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        instructed(examples, model(**keys), seed=0)


@pytest.mark.parametrize(
    "keys",
    [
        {"style": "chain_of_thought"},
        {"reasoning": "{{ why }}"},
        {"shots": 2},
        {"stlye": "few_shot"},
    ],
)
def test_keys_that_do_not_fit(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**keys)

"""Reads a row's conversation: its turns, which of them are learned from, and what a pair shares."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.thoughts import without_thoughts
from harness.data.messages import Message, MessagesError, read_messages
from trainers.config.data_schema import Learn

WEIGHTS = ("weight", "train", "training", "loss")
"""Under which of these a turn may say whether it is learned from: OpenAI, axolotl, ms-swift."""

_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
_OPENING = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns, as OpenAI or ShareGPT has them."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )


def conversation(value: Any, thoughts: str) -> tuple[Message, ...]:
    """The turns that a template's value lists, `weight` (true or false) at those that say whether
    they are learned from, and thoughts under `reasoning_content`; without them for `drop`.

    Beside turns the list may hold pairs of texts, a question and its answer, as Alpaca's `history`
    has them. Raises MessagesError.
    """
    listed = _without_pairs(_unquoted(value))
    turns = read_messages(listed)
    given = [turn for turn in listed if _is_turn(turn)]
    return tuple(
        _turn(turn, raw, number, thoughts)
        for number, (turn, raw) in enumerate(zip(turns, given, strict=True), start=1)
    )


def _unquoted(value: Any) -> Any:
    """What a text of JSON lists; `read_messages` says what is wrong with any other."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _is_turn(raw: Any) -> bool:
    """Whether it becomes a turn: an empty one of the system does not."""
    try:
        return bool(read_messages([raw]))
    except MessagesError:
        return False


def _without_pairs(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    turns: list[Any] = []
    for item in value:
        if isinstance(item, list | tuple) and len(item) == 2:
            asked, said = item
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        else:
            turns.append(item)
    return turns


def _turn(turn: Message, raw: Mapping[str, Any], number: int, thoughts: str) -> Message:
    if turn["role"] != "assistant":
        return turn
    kept = {key: value for key, value in turn.items() if key not in _THOUGHTS}
    weights = {_weight(raw[key], number) for key in WEIGHTS if raw.get(key) is not None}
    if len(weights) > 1:
        raise MessagesError(f"turn {number} says both that it is learned from and that it isn't")
    if weights:
        kept["weight"] = weights.pop()
    thought = next((raw[key] for key in _THOUGHTS if raw.get(key)), None)
    if thought is not None and not isinstance(thought, str):
        raise MessagesError(f"the thought of turn {number} is no text")
    if thoughts == "drop":
        kept["content"] = _without_thought(kept["content"])
    elif thought is not None:
        kept["reasoning_content"] = thought
    if not kept["content"].strip() and not kept.get("tool_calls"):
        raise MessagesError(f"turn {number} (assistant) is empty")
    return kept


def _without_thought(content: str) -> str:
    begun = _OPENING.match(content)
    return content[begun.end() :] if begun else without_thoughts(content)


def _weight(value: Any, number: int) -> bool:
    if value not in (0, 1):
        raise MessagesError(
            f"turn {number} has the weight {value!r}: a turn is learned from (1), or it isn't (0)"
        )
    return bool(value)


def learned_turns(turns: Sequence[Message], learn: Learn) -> tuple[int, ...]:
    """The numbers (from 0) of the assistant turns that are learned from. Raises MessagesError where
    there is none.
    """
    said = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not said:
        raise MessagesError("the conversation has no turn of the assistant to learn from")
    if learn == "last":
        return (said[-1],)
    if learn != "weights":
        return tuple(said)
    if not any("weight" in turns[number] for number in said):
        raise MessagesError("`learn: weights`, and no turn of this row has a `weight`")
    weighed = tuple(number for number in said if turns[number].get("weight", True))
    if not weighed:
        raise MessagesError("every turn of the assistant has the weight 0: nothing is learned")
    return weighed


def said_in(turns: Sequence[Message]) -> str:
    """The text of the one assistant turn that an answer is, or its calls of tools as JSON. Raises
    MessagesError.
    """
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        roles = ", ".join(turn["role"] for turn in turns) or "none"
        raise MessagesError(f"an answer is one turn of the assistant, and here are: {roles}")
    calls = turns[0].get("tool_calls")
    thought = turns[0].get("reasoning_content")
    said: str = turns[0]["content"] or (json.dumps(calls, ensure_ascii=False) if calls else "")
    return f"<think>\n{thought.strip()}\n</think>\n\n{said}" if thought else said


def as_turns(*answers: str | Sequence[Message]) -> tuple[Message, ...]:
    """The turns that these answers are, where one of them calls a tool; else nothing: texts say it
    all.
    """
    turns = [
        {"role": "assistant", "content": said} if isinstance(said, str) else said[-1]
        for said in answers
    ]
    return tuple(turns) if any(turn.get("tool_calls") for turn in turns) else ()


def pair_of(
    prompt: Sequence[Message],
    chosen: str | tuple[Message, ...],
    rejected: str | tuple[Message, ...],
) -> tuple[tuple[Message, ...], str, str]:
    """(prompt, chosen, rejected), the prompt once: of two conversations it is what both begin
    with, where it isn't given itself. Raises MessagesError where they don't fit each other.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not prompt:
            raise MessagesError(
                "`chosen` and `rejected` are texts, and without a `prompt` nothing says what they "
                "answer"
            )
        return tuple(prompt), chosen, rejected
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise MessagesError("of `chosen` and `rejected` one is a text, one a conversation")
    if not prompt:
        prompt = _shared(chosen, rejected)
        if not prompt:
            raise MessagesError("`chosen` and `rejected` begin with different turns: no prompt")
    one, other = (said_in(_behind(prompt, turns)) for turns in (chosen, rejected))
    return tuple(prompt), one, other


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> tuple[Message, ...]:
    most = min(len(chosen), len(rejected)) - 1
    for number in range(most):
        if chosen[number] != rejected[number]:
            return tuple(chosen[:number])
    return tuple(chosen[:most])


def _behind(prompt: Sequence[Message], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a conversation says behind its prompt, which it may hold or not."""
    for begin in (tuple(prompt), tuple(turn for turn in prompt if turn["role"] != "system")):
        if begin and turns[: len(begin)] == begin:
            return turns[len(begin) :]
    if len(turns) > 1:
        raise MessagesError("the conversation of an answer doesn't begin with the prompt")
    return turns

"""Turns a row of data into what is learned from it: texts, answers, pairs, conversations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.core.types import AS_USUAL, PromptOptions, Row
from harness.data import templates
from harness.data.messages import Message, MessagesError, read_tools
from harness.data.rows import row_id
from harness.data.sources import SourceRow
from trainers.config.conversation import (
    as_turns,
    conversation,
    is_conversation,
    learned_turns,
    pair_of,
    said_in,
)
from trainers.config.data_schema import SourceModel
from trainers.config.recipe import Example


def examples_of(
    index: int,
    source: SourceModel,
    found: SourceRow,
    template: Mapping[str, Any],
    *,
    drawn: bool,
) -> list[Example]:
    """What a row of the mix's source `index` teaches: one example, or one for each turn of a
    conversation. Where answers are `drawn`, a conversation is what is asked. Raises TemplateError
    and MessagesError.
    """
    fields = found.row
    name = str(fields.get("id") or row_id(fields))
    if source.text is not None:
        return [Example(index, name, text=_filled(source.text, fields), columns=fields)]
    options = _options(source, fields, template)
    base = Example(index, name, columns=fields, options=options)
    sparse = found.from_table
    turns = _prompt(source, fields, sparse)
    if source.shape == "conversation" and not drawn:
        return _conversations(base, source, turns)
    prompt = tuple(_without_weight(turn) for turn in turns)
    if source.shape == "pair":
        one, other = (
            _given(text, source, fields, sparse) for text in (source.chosen, source.rejected)
        )
        prompt, chosen, rejected = pair_of(prompt, one, other)
        pair = replace(base, prompt=prompt, chosen=chosen, rejected=rejected)
        return [replace(pair, answers=as_turns(one, other))]
    if source.shape in ("prompt", "conversation"):
        return [replace(base, prompt=_asked(prompt))]
    said = (
        prompt[-1:]
        if source.completion is None
        else _given(source.completion, source, fields, sparse)
    )
    prompt = prompt[:-1] if source.completion is None else prompt
    completion = said if isinstance(said, str) else said_in(said)
    label = _label(_filled(source.label, fields))
    made = replace(base, prompt=prompt, completion=completion, label=label, answers=as_turns(said))
    return [made if options is AS_USUAL and not made.answers else _as_conversation(made)]


def _asked(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    if prompt[-1]["role"] == "assistant":
        raise MessagesError(
            "the conversation ends with an answer, and answers are drawn here: write "
            "`{{ messages[:-1] }}`"
        )
    return prompt


def _without_weight(turn: Message) -> Message:
    return {key: value for key, value in turn.items() if key != "weight"}


def _as_conversation(example: Example) -> Example:
    """An answer that calls a tool, or whose prompt has tools or arguments of the template: it is
    what the template writes under these.
    """
    text = {"role": "assistant", "content": example.completion or ""}
    turns = (*example.prompt, *(example.answers or (text,)))
    return replace(example, turns=turns, learned=(len(turns) - 1,))


def _conversations(base: Example, source: SourceModel, turns: tuple[Message, ...]) -> list[Example]:
    learned = learned_turns(turns, source.learn)
    if source.learn == "each":
        return [
            _of_turns(replace(base, row=f"{base.row}#{number}"), turns, (turn,))
            for number, turn in enumerate(learned, start=1)
        ]
    return [_of_turns(base, turns, learned)]


def _of_turns(base: Example, turns: tuple[Message, ...], learned: tuple[int, ...]) -> Example:
    last = learned[-1]
    turns = tuple(_without_weight(turn) for turn in turns[: last + 1])
    answer = turns[last]
    calls = answer.get("tool_calls")
    said = answer["content"] or (json.dumps(calls, ensure_ascii=False) if calls else "")
    return replace(base, prompt=turns[:last], completion=said, turns=turns, learned=learned)


def _prompt(source: SourceModel, fields: Row, sparse: bool) -> tuple[Message, ...]:
    if source.messages is not None:
        return _turns(templates.value(source.messages, fields), source, sparse)
    if source.prompt is None:
        return ()
    fill = {"system": templates.system_turn, "user": templates.render}
    return source.prompt.messages(lambda key, template: fill[key](template, fields))


def _options(source: SourceModel, fields: Row, template: Mapping[str, Any]) -> PromptOptions:
    given = None if source.tools is None else templates.value(source.tools, fields)
    tools = () if given is None else read_tools(_without_nulls(given))
    return PromptOptions(tools=tools, template=dict(template)) if tools or template else AS_USUAL


def _without_nulls(value: Any) -> Any:
    """Tables give every object each key that another one has, as null: in a schema that is none."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def _turns(value: Any, source: SourceModel, sparse: bool) -> tuple[Message, ...]:
    return conversation(_without_nulls(value) if sparse else value, source.thoughts)


def _given(
    template: str | None, source: SourceModel, fields: Row, sparse: bool
) -> str | tuple[Message, ...]:
    """An answer: a text, or the turns of a conversation that ends with it."""
    assert template is not None
    try:
        return templates.render(template, fields)
    except templates.TemplateError:
        try:
            value = templates.value(template, fields)
        except templates.TemplateError:
            value = None
        if not is_conversation(value):
            raise
    return _turns(value, source, sparse)


def _filled(template: str | None, fields: Row) -> str | None:
    return None if template is None else templates.render(template, fields)


def _label(text: str | None) -> bool | None:
    words = {
        **dict.fromkeys(("true", "1", "1.0", "yes"), True),
        **dict.fromkeys(("false", "0", "0.0", "no"), False),
    }
    if text is None:
        return None
    if text.strip().lower() not in words:
        raise templates.TemplateError(f"a label is true or false, not {text!r}")
    return words[text.strip().lower()]


def wanted(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row's fields have the values of `where`. Raises TemplateError for no such field."""
    for name, value in where.items():
        if name not in row:
            raise templates.TemplateError(
                f"{name!r} of `where` is not a field; the row's fields are: {', '.join(row)}"
            )
        if row[name] != value and str(row[name]) != str(value):
            return False
    return True


def hint_for(row: Row, source: SourceModel) -> str:
    """What to do where a template can't be filled from a row."""
    named = next((name for name, value in row.items() if is_conversation(value)), None)
    if named is not None and source.messages is None:
        return (
            f'{named!r} is a conversation: write `messages: "{{{{ {named} }}}}"` in place of '
            "`prompt`, `completion` or `text`"
        )
    return "correct the recipe's template, or add the field to this row"

"""Conversations and tools are read in the shapes that data sets have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.data.messages import MessagesError, read_messages, read_tools

OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "北京的天气?", "weight": 0},
    {"role": "assistant", "content": "晴。"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "明天"}, {"type": "text", "text": "呢?"}],
    },
]
SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "北京的天气?"},
    {"from": "gpt", "value": "晴。"},
    {"from": "human", "value": "明天呢?"},
]
READ = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "北京的天气?"},
    {"role": "assistant", "content": "晴。"},
    {"role": "user", "content": "明天呢?"},
)


@pytest.mark.parametrize(
    "given", [OPENAI, SHAREGPT, tuple(OPENAI), json.dumps(SHAREGPT), OPENAI[:2] + SHAREGPT[2:]]
)
def test_both_shapes_are_the_same_conversation(given: Any) -> None:
    assert read_messages(given) == READ


@pytest.mark.parametrize("empty", ["", " \n", None])
def test_an_empty_system_turn_is_none(empty: str | None) -> None:
    turns = [{"role": "system", "content": empty}, {"role": "user", "content": "?"}]
    assert read_messages(turns) == ({"role": "user", "content": "?"},)


def test_calls_are_read_as_objects_whoever_wrote_them() -> None:
    call = {"name": "weather", "arguments": {"city": "Lima"}}
    text = {"name": "weather", "arguments": json.dumps(call["arguments"])}
    openai = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": text}],
    }
    sharegpt = {"from": "function_call", "value": json.dumps(call)}
    first, second = read_messages([openai, sharegpt])
    assert first["content"] == second["content"] == ""
    assert first["tool_calls"] == [{"id": "c1", "type": "function", "function": call}]
    assert second["tool_calls"] == [{"type": "function", "function": call}]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("hello", "no JSON"),
        ({"role": "user"}, "this is an object"),
        ([], "no turn"),
        ([{"role": "system", "content": ""}], "no turn"),
        (["hello"], "turn 1 is a text"),
        ([{"content": "x"}], "turn 1 has no `role`"),
        ([{"role": "narrator", "content": "x"}], "the role 'narrator'"),
        ([{"role": "user", "content": None}], "turn 1 (user) has no content"),
        ([{"role": "user", "content": 3}], "is a number, not a text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "no text: image_url"),
        ([{"from": "function_call", "value": "call me"}], "no JSON"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "names no function"),
    ],
)
def test_what_is_no_conversation_is_said(given: Any, says: str) -> None:
    with pytest.raises(MessagesError) as caught:
        read_messages(given)
    assert says in str(caught.value)


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "", "parameters": SCHEMA},
}


@pytest.mark.parametrize(
    "given",
    [
        [WEATHER],
        json.dumps([WEATHER]),
        [{"name": "weather", "parameters": SCHEMA}],
        [{"name": "weather", "parameters": {**SCHEMA, "type": "dict"}}],
        [{"name": "weather", "input_schema": SCHEMA}],
        [{"name": "weather", "parameters": json.dumps(SCHEMA)}],
    ],
)
def test_tools_are_read_as_openai_writes_them(given: Any) -> None:
    assert read_tools(given) == (WEATHER,)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "weather"}, "a list of functions"),
        (["weather"], "tool 1 is a text"),
        ([{"parameters": SCHEMA}], "tool 1 has no name"),
        ([{"name": "w", "parameters": [1]}], "no JSON Schema"),
        ([{"name": "w", "parameters": {"type": "string"}}], "of the type 'string'"),
        ([{"name": "w", "parameters": {"properties": {"a": 1}}}], "are no schemas"),
        ([{"name": "w", "parameters": {"properties": {}, "required": ["a"]}}], "requires 'a'"),
        ([WEATHER, WEATHER], "there twice"),
    ],
)
def test_a_wrong_tool_is_said(given: Any, says: str) -> None:
    with pytest.raises(MessagesError, match=says):
        read_tools(given)


def test_no_tool_at_all() -> None:
    assert read_tools(None) == () == read_tools([])
    assert read_tools([{"name": "now"}])[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {},
    }

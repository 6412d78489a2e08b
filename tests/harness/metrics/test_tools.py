"""Calls of tools: found in the ways in which models write them, and scored in three stages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import Evidence, MetricItem
from harness.metrics.contains import contains
from harness.metrics.support.tool_calls import Call, calls_in
from harness.metrics.tools import same_value, wanted_calls

LIMA = {"name": "weather", "arguments": {"city": "Lima", "days": 2}}
ONE = [Call("weather", {"city": "Lima", "days": 2})]
JSON = json.dumps(LIMA)
ZH = {"name": "查天气", "arguments": {"城市": "北京"}}


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{JSON}\n</tool_call>",
        f"Let me look.\n<tool_call>{JSON}</tool_call>",
        f"<think>which?</think><tool_call>{JSON}",
        JSON,
        f"```json\n{JSON}\n```",
        f"[{JSON}]",
        f"<|python_tag|>{JSON.replace('arguments', 'parameters')}<|eom_id|>",
        json.dumps({"tool_calls": [{"type": "function", "function": LIMA}]}),
        json.dumps({"name": "weather", "arguments": json.dumps(LIMA["arguments"])}),
        f"[TOOL_CALLS] [{JSON}]",
        f"[TOOL_CALLS]weather[ARGS]{json.dumps(LIMA['arguments'])}",
        '[weather(city="Lima", days=2)]',
        "weather(city='Lima', days=2)",
        "<tool_call><function=weather><parameter=city>\nLima\n</parameter>"
        "<parameter=days>2</parameter></function></tool_call>",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Lima</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        "<|channel|>analysis<|message|>look it up<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.weather <|constrain|>json<|message|>{"city": "Lima", "days": 2}<|call|>',
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        '{"city": "Lima", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ],
)
def test_a_call_is_found_as_models_write_it(text: str) -> None:
    assert calls_in(text) == ONE


def test_several_calls_are_found_in_their_order() -> None:
    two = f"<tool_call>{JSON}</tool_call>\n<tool_call>{json.dumps(ZH)}</tool_call>"
    assert [call.name for call in calls_in(two)] == ["weather", "查天气"]
    assert calls_in(f"{JSON}; {json.dumps(ZH)}") == calls_in(two)
    assert calls_in("[f(a=1), g()]") == [Call("f", {"a": 1}), Call("g", {})]


@pytest.mark.parametrize(
    "text",
    [
        *("", "It is sunny.", "I would call weather(city='Lima').", '{"city": "Lima"}', "[1, 2]"),
        *(f"I could send {JSON} there.", '{"name": "Ann", "age": 3}', "3 + 4", "def f(): pass"),
        f"<think><tool_call>{JSON}</tool_call></think>No tool is needed.",
    ],
)
def test_what_only_speaks_calls_nothing(text: str) -> None:
    assert calls_in(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "weather", "arguments": {"city": </tool_call>',
        '{"name": "weather", "arguments": "not json"}',
        "weather('Lima')",
        "[TOOL_CALLS]weather[ARGS]{",
    ],
)
def test_a_call_that_cant_be_read_is_one_without_arguments(text: str) -> None:
    assert [call.arguments for call in calls_in(text)] == [None]


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        (5, 5.0, True),
        (5, "5", False),
        (True, 1, False),
        ("New York", "new york", True),
        ("2024-01-02", "20240102", True),
        ("北京", "上海", False),
        ("ＡＢ", "ab", True),
        ([1, "A"], [1.0, "a"], True),
        ([1, 2], [2, 1], False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (None, None, True),
        (None, "", False),
    ],
)
def test_values(given: Any, wanted: Any, same: bool) -> None:
    assert same_value(given, wanted) is same


def scored(name: str, text: str, calls: Any, **options: Any) -> Evidence:
    sample = Sample("s", "t", fields={"calls": calls}, **options)
    response = Response("k", "s", "t", "generation", 0, 0, text)
    ((found,),) = get_metric(name).score([MetricItem(sample, (response,))])
    return found


@pytest.mark.parametrize(
    ("text", "choice", "arguments"),
    [
        (JSON, 1.0, 1.0),
        ('{"name": "weather", "arguments": {"city": "lima", "days": 2}}', 1.0, 1.0),
        ('{"name": "weather", "arguments": {"city": "Lima"}}', 1.0, 0.0),
        ('{"name": "weather", "arguments": {"city": "Lima", "days": 2, "x": 1}}', 1.0, 0.0),
        ('{"name": "time", "arguments": {"city": "Lima", "days": 2}}', 0.0, 0.0),
        (f"{JSON}{JSON}", 0.0, 0.0),
        ("It is sunny.", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_choice_and_arguments(text: str, choice: float, arguments: float) -> None:
    assert scored("tool_choice", text, [LIMA]).value == choice
    assert scored("tool_arguments", text, [LIMA]).value == arguments
    assert scored("tool_abstain", text, [LIMA]).outcome is ScoreOutcome.UNSCORED


def test_calls_are_right_in_any_order_and_each_once() -> None:
    allowed = [{"f": {"a": [1, 2], "b": ["", 3]}}, {"f": {"a": [1]}}]
    assert scored("tool_arguments", "[f(a=1), f(a=2)]", allowed).value == 1.0
    assert scored("tool_arguments", "[f(a=2, b=3), f(a=1)]", allowed).value == 1.0
    assert scored("tool_arguments", "[f(a=2), f(a=2)]", allowed).value == 0.0
    assert scored("tool_arguments", "[f(a=1, b=4), f(a=1)]", allowed).value == 0.0


def test_parts_of_an_object_have_allowed_values_too() -> None:
    allowed = [{"f": {"place": [{"city": ["Lima", "Cusco"], "zip": ["", "1"]}]}}]
    assert scored("tool_arguments", "f(place={'city': 'cusco'})", allowed).value == 1.0
    assert scored("tool_arguments", "f(place={'city': 'Lima', 'zip': '2'})", allowed).value == 0.0
    exact = [{"name": "f", "arguments": {"place": {"city": ["Lima"]}, "days": None}}]
    assert scored("tool_arguments", "f(place={'city': ['Lima']})", exact).value == 1.0
    assert scored("tool_arguments", "f(place={'city': 'Lima'})", exact).value == 0.0


@pytest.mark.parametrize("none", [[], None])
def test_where_nothing_is_to_be_called(none: Any) -> None:
    said, called, silent = "北京今天晴。", json.dumps(ZH, ensure_ascii=False), " "
    assert [scored("tool_abstain", text, none).value for text in (said, called, silent)] == [
        1,
        0,
        0,
    ]
    assert [scored("tool_choice", text, none).value for text in (said, called, silent)] == [1, 0, 0]
    assert scored("tool_arguments", said, none).outcome is ScoreOutcome.UNSCORED


def test_a_chinese_call() -> None:
    assert scored("tool_arguments", json.dumps(ZH, ensure_ascii=False), [ZH]).value == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It will be 18 °C in Lima.", 1.0),
        ("1,180 people", 0.0),
        ("1.18", 0.0),
        ("共１８度。", 1.0),
        ('<tool_call>{"name": "weather", "arguments": {"t": 18}}</tool_call>', 0.0),
        ("", 0.0),
    ],
)
def test_the_result_is_read(text: str, value: float) -> None:
    assert scored("tool_answer", text, [], references=("18", "eighteen")).value == value


def test_a_reference_stands_by_itself() -> None:
    assert contains("the order A-7 is sent", "a-7")
    assert not contains("the order A-75 is sent", "a-7")
    assert contains("一共1,234元", "1234")
    assert not contains("anything", " ")


def test_a_row_without_calls_says_so() -> None:
    sample = Sample("s", "t", fields={})
    response = Response("k", "s", "t", "generation", 0, 0, JSON)
    ((found,),) = get_metric("tool_choice").score([MetricItem(sample, (response,))])
    assert (found.outcome, found.reason) == (ScoreOutcome.UNSCORED, "the row has no field 'calls'")
    assert wanted_calls("weather") is None
    assert "holds no calls" in str(scored("tool_choice", JSON, "weather").reason)
    assert get_metric("tool_choice", {"field": "right"}).spec.reads == ("right",)

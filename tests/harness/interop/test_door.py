"""The door on loopback: chat completions with tools, together, for those who know its key."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.interop.door import Door, open_door

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name": "add", "arguments": {"x": 1, "名": "二"}}</tool_call>'
ANSWERS = {"call": CALL, "torn": '<tool_call>{"name": "add", "argu', "hello": "Hello there."}


class Counting(ScriptedBackend):
    """Says how many prompts it was given at once, and with what settings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.batches: list[int] = []
        self.settings: list[GenerationSettings] = []

    def generate(self, requests: Any, settings: GenerationSettings) -> Iterator[Any]:
        requests = list[GenerationRequest](requests)
        self.batches.append(len(requests))
        self.settings.append(settings)
        yield from super().generate(requests, settings)


def ask(door: Door, said: str, key: str | None = None, **body: Any) -> tuple[int, Any]:
    whole = {"model": "model", "messages": [{"role": "user", "content": said}], **body}
    return post(door, "/chat/completions", whole, key)


def post(door: Door, path: str, body: Mapping[str, Any], key: str | None = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {door.key if key is None else key}"}
    request = urllib.request.Request(door.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["message"]


@pytest.fixture
def model() -> Counting:
    return Counting(answers=ANSWERS, max_length=2000)


@pytest.fixture
def door(model: Counting) -> Iterator[Door]:
    with open_door(lambda: model) as opened:
        yield opened


def message_of(answer: Any) -> tuple[Any, str]:
    (choice,) = answer["choices"]
    return choice["message"], choice["finish_reason"]


def test_an_answer_and_what_it_used(door: Door, model: Counting) -> None:
    status, answer = ask(door, "hello", max_tokens=5, temperature=0.5, stop="there")
    message, finish = message_of(answer)
    assert (status, message["content"], finish) == (200, "Hello", "length")
    assert answer["usage"]["completion_tokens"] == 5
    assert model.settings == [GenerationSettings(5, 0.5, stop=("there",))]


def test_what_is_left_out_is_greedy_and_of_a_known_length(door: Door, model: Counting) -> None:
    ask(door, "hello")
    assert model.settings == [GenerationSettings(1024, 0.0)]


def test_calls_are_parsed_where_tools_are_offered(door: Door) -> None:
    message, finish = message_of(ask(door, "call", tools=[TOOL])[1])
    (call,) = message["tool_calls"]
    assert (finish, message["content"], call["function"]["name"]) == ("tool_calls", None, "add")
    assert json.loads(call["function"]["arguments"]) == {"x": 1, "名": "二"}
    for offered in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        message, finish = message_of(ask(door, "call", **offered)[1])
        assert (message["content"], finish) == (CALL, "stop")
    message, _ = message_of(ask(door, "torn", tools=[TOOL])[1])
    assert message["content"] == ANSWERS["torn"]
    assert "tool_calls" not in message


def test_a_tools_result_is_part_of_the_next_prompt(door: Door) -> None:
    message, _ = message_of(ask(door, "call", tools=[TOOL])[1])
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "hello 3"}
    turns = [{"role": "user", "content": "sum?"}, message, result]
    status, answer = ask(door, "", messages=turns, tools=[TOOL])
    assert (status, message_of(answer)[0]["content"]) == (200, "Hello there.")


def test_the_same_question_is_drawn_anew_each_time() -> None:
    with open_door(ScriptedBackend, seed=5) as door:
        first = [ask(door, "x", temperature=1)[1]["choices"][0]["message"] for _ in range(3)]
        several = ask(door, "y", temperature=1, n=3)[1]["choices"]
        greedy = [ask(door, "x")[1]["choices"][0]["message"] for _ in range(2)]
    assert len({one["content"] for one in first}) == 3
    assert len({one["message"]["content"] for one in several}) == 3
    assert greedy[0] == greedy[1]
    with open_door(ScriptedBackend, seed=5) as again:
        assert ask(again, "x", temperature=1)[1]["choices"][0]["message"] == first[0]


def test_those_who_ask_together_are_answered_together(door: Door, model: Counting) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: ask(door, f"hello {n}"), range(16)))
    assert {status for status, _ in answers} == {200}
    assert sum(model.batches) == 16
    assert len(model.batches) < 16
    assert door.answered == 16


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        ({"messages": []}, 400, "the conversation has no turn"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "maximum context length"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "no text"),
        ({"stream": True}, 400, "not streamed"),
        ({"tools": [{"type": "function"}]}, 400, "tool 1"),
        ({"max_tokens": "many"}, 400, "many"),
    ],
)
def test_what_cant_be_asked_is_refused_with_the_reason(
    door: Door, body: dict[str, Any], status: int, what: str
) -> None:
    found, said = ask(door, "hello", **body)
    assert (found, what in said) == (status, True), said
    assert door.failure is None
    assert ask(door, "hello")[0] == 200


def test_nobody_else_is_let_in_and_other_paths_are_not_there(door: Door) -> None:
    assert ask(door, "hello", key="guess")[0] == 401
    assert post(door, "/completions", {"prompt": "hello"})[0] == 404


def test_a_model_that_cant_be_opened_is_known_to_who_opened_the_door() -> None:
    def broken() -> Any:
        raise UserError("the weights are torn")

    with open_door(broken) as door:
        assert ask(door, "hello") == (500, "the weights are torn")
        assert isinstance(door.failure, UserError)


def test_a_model_is_opened_when_it_is_asked_and_not_before() -> None:
    opened: list[int] = []

    def once() -> ScriptedBackend:
        opened.append(1)
        return ScriptedBackend()

    with open_door(once) as door:
        assert opened == []
        ask(door, "a")
        ask(door, "b")
    assert opened == [1]

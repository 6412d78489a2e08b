"""One answer of a server is an answer, an empty one, or one error; never the run's end."""

from __future__ import annotations

from typing import Any

import pytest

from harness.backends.base import GenerationRequest
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.capabilities import Abilities
from harness.backends.openai.http import Reply
from tests.harness.backends.openai_builders import GREEDY


class _Server:
    """Stands where a `Wire` does, and answers everything with one body."""

    url, retries = "http://test/v1", 0

    class pace:  # noqa: N801 - an attribute of `Wire`
        most = 1

    def __init__(self, body: Any) -> None:
        self.body = body

    def post(self, path: str, body: Any) -> Reply:
        return Reply(self.body, 0.1)


def answer(choice: Any) -> Any:
    server: Any = _Server({"choices": [choice]})
    backend = OpenAIBackend(server, "m", abilities=Abilities("chat", {}, "no"))
    ids = backend.encode_chat([{"role": "user", "content": "Hi"}])
    (found,) = backend.generate([GenerationRequest("1", ids, (1,))], GREEDY)
    return found


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "Paris"}, "stop", "Paris"),
        ({"content": None, "reasoning_content": "Let me think"}, "length", ""),
        ({"content": None, "reasoning": "Let me think"}, "length", ""),
        ({"reasoning_content": "Let me think"}, "length", ""),
        ({"content": None, "reasoning_content": "Hm"}, "stop", ""),
        (
            {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            "tool_calls",
            '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
        ),
        ({"content": None, "refusal": "I can't."}, "stop", "I can't."),
        ({"content": ""}, "length", ""),
    ],
)
def test_an_answer_cut_while_thinking_is_an_empty_answer(
    message: dict[str, Any], finish: str, text: str
) -> None:
    found = answer({"message": {"role": "assistant", **message}, "finish_reason": finish})
    assert (found.text, found.error) == (text, None)
    assert found.finish_reason == ("length" if finish == "length" else "stop")


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "cut \ud83d"}, "finish_reason": "stop"},
        {"message": {"content": "\udc00"}, "finish_reason": "length"},
        {"message": {"content": None}, "finish_reason": "content_filter"},
        {"message": {"content": None}},
        {"message": {"content": ["a"]}, "finish_reason": "stop"},
        {"message": {"content": 3}, "finish_reason": "stop"},
        {"message": None, "finish_reason": "stop"},
        {"message": "Paris", "finish_reason": "stop"},
        {},
        None,
        [],
        "Paris",
    ],
)
def test_a_broken_answer_is_one_error(choice: Any) -> None:
    found = answer(choice)
    assert found.error
    assert found.finish_reason == "error"
    found.error.encode("utf-8")

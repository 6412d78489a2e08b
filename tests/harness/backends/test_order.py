"""In which order servers and engines are asked: what begins alike is asked together."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.base import Backend, GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.capabilities import Abilities
from harness.backends.openai.http import Reply
from harness.backends.vllm import VllmBackend

SAMPLED = GenerationSettings(max_new_tokens=1, temperature=1.0)
ONE = {"text": "a", "token_ids": [7], "finish_reason": "length"}


class Asked:
    """Notes the token ids that come, in place of a server (`post`) or an engine (`generate`)."""

    url, retries, pace = "http://test/v1", 0, SimpleNamespace(most=1)
    llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=100))

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []

    def post(self, path: str, body: Any) -> Reply:
        ids = body["prompt"]
        self.prompts.append(ids)
        values = [None, *[-1.0] * len(ids)]
        logprobs = {"token_logprobs": values, "tokens": [""] * (len(ids) + 1)}
        choice = {**ONE, "logprobs": logprobs} if body.get("echo") else ONE
        return Reply({"choices": [choice], "usage": {"prompt_tokens": len(ids)}}, 0.1)

    def generate(self, given: Sequence[Any], sampling: Any, **_: Any) -> list[Any]:
        self.prompts += [each["prompt_token_ids"] for each in given]
        read = [
            [None, *({t: SimpleNamespace(logprob=-1.0)} for t in each["prompt_token_ids"][1:])]
            for each in given
        ]
        written = SimpleNamespace(token_ids=(7,), logprobs=None, finish_reason="length")
        return [SimpleNamespace(outputs=[written], prompt_logprobs=each) for each in read]


@pytest.fixture(params=["openai", "vllm"])
def asked(
    request: pytest.FixtureRequest, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Backend, Asked]:
    server: Any = Asked()
    if request.param == "openai":
        able = Abilities("ids", {}, None)
        return OpenAIBackend(server, "m", tokenizer, context=100, abilities=able), server
    parameters = SimpleNamespace(SamplingParams=lambda **settings: settings)
    monkeypatch.setitem(sys.modules, "vllm", parameters)
    return VllmBackend(server, tokenizer, dtype="float32"), server


def questions() -> list[tuple[int, ...]]:
    """Those of three tasks that begin with shots of their own, in no order."""
    found = [(*([task] * 20), 30 + n, 5) for task in (11, 12, 13) for n in range(9)]
    random.Random(4).shuffle(found)
    return found


def together(prompts: Sequence[Sequence[int]]) -> bool:
    """Whether each prompt begins with as much of the one before it as of any that was asked."""

    def shared(a: Sequence[int], b: Sequence[int]) -> int:
        return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(b))

    return all(
        shared(prompts[n - 1], prompt) == max(shared(other, prompt) for other in prompts[:n])
        for n, prompt in enumerate(prompts)
        if n
    )


def test_prompts_that_begin_alike_are_asked_one_after_the_other(
    asked: tuple[Backend, Asked],
) -> None:
    backend, server = asked
    requests = [GenerationRequest(str(n), p, (1, 2)) for n, p in enumerate(questions())]
    assert not together(questions())
    answers = {(a.request_id, a.position) for a in backend.generate(requests, SAMPLED)}
    assert answers == {(r.id, position) for r in requests for position in range(2)}
    assert len(server.prompts) == 2 * len(requests)
    assert together(server.prompts)


def test_texts_that_begin_alike_are_read_one_after_the_other(asked: tuple[Backend, Asked]) -> None:
    backend, server = asked
    requests = [
        LogprobRequest(f"{n}.{choice}", context, (choice, 8))
        for choice in range(60, 64)
        for n, context in enumerate(questions())
    ]
    found = {r.request_id: r.logprobs for r in backend.logprobs(requests)}
    assert found == {request.id: (-1.0, -1.0) for request in requests}
    assert together(server.prompts)

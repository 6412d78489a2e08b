"""A tiny model behind a server, and the backend that asks it: for the tests of served models."""

from __future__ import annotations

from typing import Any

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.http import Wire
from tests.openai_server import ModelServer

GREEDY = GenerationSettings(max_new_tokens=6)


def wire_to(server: ModelServer, **settings: Any) -> Wire:
    return Wire(server.url, **{"backoff_s": 0.01, "timeout_s": 60.0, **settings})


def backend_of(server: ModelServer, behind: Any, **settings: Any) -> OpenAIBackend:
    wire = wire_to(server, **settings.pop("wire", {}))
    return OpenAIBackend(wire, "tiny", behind.tokenizer, context=258, **settings)


def requests_of(backend: Any, count: int, seeds: tuple[int, ...] = (1,)) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            str(n), backend.encode_chat([{"role": "user", "content": f"n {n}"}]), seeds
        )
        for n in range(count)
    ]

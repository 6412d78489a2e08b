"""Prompts that are answered and begin given texts are read once, and no value changes by it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from harness.backends.base import (
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.causal import Causal
from tests.tiny import tiny_model
from tests.tiny_families import tiny_family

SETTINGS = (
    GenerationSettings(max_new_tokens=12),
    GenerationSettings(max_new_tokens=12, temperature=1.0, logprobs=True),
)


def asked(seed: int = 2) -> tuple[list[GenerationRequest], list[LogprobRequest]]:
    """Prompts, some of them alike, that begin with one of two beginnings; given texts to most of
    them, and some that follow no prompt.
    """
    chance = random.Random(seed)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(chance.randrange(3, 300) for _ in range(chance.randint(least, most)))

    beginnings = ((), some(30, 50))
    prompts = [(*chance.choice(beginnings), *some(1, 40)) for _ in range(10)]
    prompts += [prompts[0], prompts[1][:-1], beginnings[1]]
    requests = [GenerationRequest(str(n), p, (n, n + 50)) for n, p in enumerate(prompts)]
    given = [
        LogprobRequest(f"{n}.{k}", prompt, some(1, 20))
        for n, prompt in enumerate(prompts)
        for k in range(n % 3)
    ]
    given += [LogprobRequest(f"other {n}", some(1, 30), some(1, 20)) for n in range(3)]
    given += [LogprobRequest("none", prompts[1], ()), LogprobRequest("long", (1,) * 300, (2,))]
    return requests, given


def apart(backend: TransformersBackend, settings: GenerationSettings) -> dict[Any, Any]:
    requests, given = asked()
    answers = {(a.request_id, a.position): a for a in backend.generate(requests, settings)}
    found: dict[Any, Any] = {key: (a.token_ids, a.logprobs) for key, a in answers.items()}
    found.update((r.request_id, (r.logprobs, r.error)) for r in backend.logprobs(given))
    return found


def together(backend: TransformersBackend, settings: GenerationSettings) -> dict[Any, Any]:
    requests, given = asked()
    found: dict[Any, Any] = {}
    for one in backend.answer(requests, settings, given):
        if isinstance(one, Generation):
            key: Any = (one.request_id, one.position)
            value: Any = (one.token_ids, one.logprobs)
        else:
            key, value = one.request_id, (one.logprobs, one.error)
        assert key not in found
        found[key] = value
    return found


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "rwkv"])
def test_the_values_are_those_of_answering_and_reading_apart(name: str, tokenizer: Any) -> None:
    """To the last bit, where texts are cut; and where they are not nothing changes."""
    backend = TransformersBackend(tiny_family(name), tokenizer)
    for settings in SETTINGS:
        assert together(backend, settings) == apart(backend, settings)
    narrow = TransformersBackend(backend.model, tokenizer, rows=3, token_budget=200)
    assert together(narrow, SETTINGS[1]) == apart(backend, SETTINGS[1])


def test_running_out_of_memory_loses_no_given_text(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    expected = apart(backend, SETTINGS[1])
    states = Causal.states

    def limited(self: Causal, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        if ids.numel() > 200:
            raise torch.OutOfMemoryError("no memory")
        return states(self, ids, **arguments)

    monkeypatch.setattr(Causal, "states", limited)
    found = together(backend, SETTINGS[1])
    assert {key: found[key] for key in expected if isinstance(key, str)} == {
        key: value for key, value in expected.items() if isinstance(key, str)
    }
    assert found.keys() == expected.keys()


def test_a_prompt_is_read_once(tokenizer: Any) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    prompts = [tuple(3 + (q * n) % 290 for n in range(1, 101)) for q in range(1, 13)]
    requests = [GenerationRequest(str(n), prompt, (n,)) for n, prompt in enumerate(prompts)]
    given = [LogprobRequest(str(n), prompt, (5, 6, 7)) for n, prompt in enumerate(prompts)]
    settings = GenerationSettings(max_new_tokens=1)
    list(backend.answer(requests[:1], settings, given[:1]))  # what is tried once is not counted
    before = backend.tokens_read
    results = list(backend.answer(requests, settings, given))
    assert sum(isinstance(each, Logprobs) for each in results) == 12
    # Apart they were 12 x 100 tokens more.
    assert backend.tokens_read - before <= 12 * (100 + 2) + 16 * 3

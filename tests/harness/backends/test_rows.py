"""Answers written side by side: any family, any lengths, and no answer hangs on its neighbors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.beginnings import worth_keeping
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.trial import side_by_side
from tests.tiny import tiny_model
from tests.tiny_families import tiny_family

BESIDE = (
    "llama", "mistral", "gemma3_text", "gpt_oss", "gemma2", "llama4_text", "deepseek_v3", "cohere2",
)  # fmt: skip
# Products of experts have as many rows as tokens chose them, and round as those do.
EXPERTS = ("gpt_oss", "llama4_text", "deepseek_v3")

# A state of fixed size a row, in place of attention or beside it.
STATES = (
    "qwen3_5_text", "lfm2", "jamba", "granitemoehybrid", "mamba", "mamba2", "falcon_mamba",
    "recurrent_gemma", "minimax",
)  # fmt: skip


def asked(count: int, seed: int, responses: int = 2) -> list[GenerationRequest]:
    """Prompts of 1 to 90 tokens, most of which begin with one of two beginnings."""
    chance = random.Random(seed)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(chance.randrange(3, 300) for _ in range(chance.randint(least, most)))

    beginnings = ((), some(30, 50), some(50, 60))
    return [
        GenerationRequest(
            str(n), (*chance.choice(beginnings), *some(1, 30)),
            tuple(chance.randrange(2**63) for _ in range(responses)),
        )
        for n in range(count)
    ]  # fmt: skip


def answered(
    backend: TransformersBackend,
    requests: Sequence[GenerationRequest],
    settings: GenerationSettings,
) -> dict[tuple[str, int], tuple[Any, ...]]:
    found = {}
    for answer in backend.generate(requests, settings):
        assert answer.error is None
        found[answer.request_id, answer.position] = (answer.token_ids, answer.logprobs)
    return found


SAMPLED = GenerationSettings(max_new_tokens=20, temperature=1.0, top_p=0.95, logprobs=True)


@pytest.mark.parametrize("name", ["three", *(name for name in BESIDE if name not in EXPERTS)])
def test_rows_order_subset_and_refills_change_no_token_and_no_log_probability(
    name: str, tokenizer: Any, threads: int
) -> None:
    # Three heads a key head: an odd number of queries has kernels of its own.
    model = tiny_model(len(tokenizer)) if name == "three" else tiny_family(name)
    backend = TransformersBackend(model, tokenizer)
    requests = asked(14, seed=3)
    together = answered(backend, requests, SAMPLED)
    with torch.inference_mode():
        assert side_by_side(Causal(model))
    assert len({tokens for tokens, _ in together.values()}) > 20
    for rows, budget in ((1, 10_000), (3, 10_000), (7, 900), (64, 400)):
        narrow = TransformersBackend(backend.model, tokenizer, rows=rows, token_budget=budget)
        assert answered(narrow, requests[::-1], SAMPLED) == together
    left = random.Random(1).sample(requests, 4)
    expected = {key: value for key, value in together.items() if key[0] in {r.id for r in left}}
    assert answered(backend, left, SAMPLED) == expected


@pytest.mark.parametrize("name", [*BESIDE, *STATES])
def test_texts_of_all_lengths_are_written_side_by_side(
    name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In about as many steps as the longest answer has tokens, and not prompt by prompt."""
    backend = TransformersBackend(tiny_family(name), tokenizer)
    settings = GenerationSettings(max_new_tokens=20)
    list(backend.generate(asked(1, 1), GenerationSettings(max_new_tokens=1)))
    passes = []
    states = Causal.states

    def counted(self: Causal, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        passes.append(ids.numel())
        return states(self, ids, **arguments)

    monkeypatch.setattr(Causal, "states", counted)
    requests = asked(16, seed=5, responses=1)
    list(backend.generate(requests, settings))
    # Nothing of it stays in the model's own parts, where some keep their states.
    parts = [vars(part) for part in backend.model.modules()]
    assert not any(isinstance(held, torch.Tensor) for part in parts for held in part.values())
    # The longest and the shortest prompts have a buffer each. A state is read prompt by prompt.
    assert len(passes) <= 2 * 20 + (16 if name in STATES else 4)
    assert sum(passes) <= sum(len(r.prompt_ids) for r in requests) + 2 * 20 * 16 + 4 * 16


@pytest.mark.long
def test_of_ten_thousand_answers_none_hangs_on_its_neighbors(tokenizer: Any) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    requests = asked(1250, seed=11, responses=8)
    together = answered(backend, requests, SAMPLED)
    assert len(together) == 10_000
    narrow = TransformersBackend(backend.model, tokenizer, rows=13, token_budget=3000)
    chance = random.Random(2)
    for part in range(5):
        some = requests[part::5]
        chance.shuffle(some)
        for key, value in answered(narrow, some, SAMPLED).items():
            assert value == together[key]


def few_shot(count: int) -> list[GenerationRequest]:
    shots = tuple(5 + n % 90 for n in range(120))
    return [
        GenerationRequest(str(q), (*shots, *(7 + (q * n) % 83 for n in range(1, 21))), (q,))
        for q in range(count)
    ]


@pytest.mark.parametrize("rows", [4, 64])
def test_what_prompts_begin_with_is_read_once_however_many_fit(rows: int, tokenizer: Any) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer, rows=rows)
    settings = GenerationSettings(max_new_tokens=1)
    list(backend.generate(few_shot(1), settings))
    before = backend.tokens_read
    list(backend.generate(few_shot(32), settings))
    # Whole they were 32 x 140 = 4,480 tokens.
    assert backend.tokens_read - before <= 128 + 32 * 20 + 16 * 16


def test_what_is_kept_fits_its_budget_and_saves_a_quarter() -> None:
    prompts = [request.prompt_ids for request in few_shot(32)]

    def kept(prompts: Sequence[tuple[int, ...]], tokens: int) -> list[int]:
        return sorted(map(len, worth_keeping(prompts, tokens)))

    assert kept(prompts, 4096) == [120]
    assert kept(prompts, 119) == []
    # One token in common saves little, and one prompt nothing.
    assert kept([(1, 2 + n, *range(3, 60)) for n in range(100)], 4096) == []
    assert kept(prompts[:1], 4096) == []


def test_a_prompt_that_is_the_beginning_of_another_is_answered(tokenizer: Any) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    text = few_shot(1)[0].prompt_ids
    requests = [
        GenerationRequest(str(size), text[:size], (1,)) for size in (1, 2, 50, 119, 120, 121, 140)
    ]
    requests.append(GenerationRequest("again", text, (1,)))
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    together = answered(backend, requests, settings)
    assert together["again", 0] == together["140", 0]
    for request in requests:
        assert answered(backend, [request], settings)[request.id, 0] == together[request.id, 0]

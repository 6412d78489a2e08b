"""What texts share is read once, with the values of reading each whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.causal import Causal
from tests.tiny import tiny_model
from tests.tiny_families import VOCABULARY, tiny_family

# Grouped heads, a window, a window beside full layers, sinks, soft caps, chunks, compressed keys.
CUT = ("llama", "mistral", "gemma3_text", "gpt_oss", "gemma2", "llama4_text", "deepseek_v3")
# Products of experts have as many rows as tokens chose them, and round as those do.
EXPERTS = ("gpt_oss", "llama4_text", "deepseek_v3")
# A state beside or in place of attention, a cache of its own: each text is read whole.
WHOLE = ("mamba2", "qwen3_5_text", "jamba", "rwkv")


@pytest.fixture
def backend(tokenizer: Any) -> TransformersBackend:
    return TransformersBackend(tiny_model(len(tokenizer)), tokenizer)


def family(name: str, tokenizer: Any, **settings: Any) -> TransformersBackend:
    model = tiny_family(name)
    return TransformersBackend(model, tokenizer, **settings)


def asked(backend: TransformersBackend, requests: Sequence[LogprobRequest]) -> dict[str, Any]:
    return {r.request_id: r.logprobs for r in backend.logprobs(requests)}


def by_hand(model: Any, request: LogprobRequest) -> list[float]:
    line = torch.tensor([[*request.context_ids, *request.target_ids]])
    with torch.no_grad():
        table = model(line).logits.float().log_softmax(-1)[0]
    size = len(request.context_ids)
    return [table[size - 1 + n, t].item() for n, t in enumerate(request.target_ids)]


def forest(seed: int, vocabulary: int = 300) -> list[LogprobRequest]:
    """Texts that share beginnings of any length, questions with choices, and texts that don't."""
    chance = random.Random(seed)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(chance.randrange(vocabulary) for _ in range(chance.randint(least, most)))

    requests: list[LogprobRequest] = []
    stems = [some(1, 70) for _ in range(3)]
    for question in range(8):
        context = (*chance.choice(stems), *some(1, 40))
        choices = [some(1, 1) for _ in range(3)] if question % 2 else [some(1, 30)]
        choices += [choices[0], (*choices[0], *some(1, 3))]
        requests += [
            LogprobRequest(f"{question}.{n}", context, choice) for n, choice in enumerate(choices)
        ]
    chance.shuffle(requests)
    return requests


@pytest.mark.parametrize("name", [*CUT, *WHOLE])
def test_each_value_is_that_of_reading_the_text_whole(name: str, tokenizer: Any) -> None:
    backend = family(name, tokenizer)
    requests = forest(1)
    found = asked(backend, requests)
    whole = sum(len(r.context_ids) + len(r.target_ids) - 1 for r in requests)
    assert (read_by(backend, requests) < whole) is (name in CUT)
    for request in requests:
        assert found[request.id] == pytest.approx(by_hand(backend.model, request), abs=1e-4)


@pytest.mark.parametrize("name", [name for name in CUT if name not in EXPERTS])
@pytest.mark.parametrize("seed", [2, 3])
def test_a_value_does_not_hang_on_its_neighbours_to_the_last_bit(
    name: str, seed: int, tokenizer: Any, threads: int
) -> None:
    backend = family(name, tokenizer)
    requests = forest(seed)
    together = asked(backend, requests)
    chance = random.Random(seed)
    narrow = TransformersBackend(backend.model, tokenizer, token_budget=chance.choice((64, 100)))
    assert asked(narrow, requests) == together
    assert asked(backend, requests[::-1]) == together
    left = chance.sample(requests, 7)
    assert asked(backend, left) == {r.id: together[r.id] for r in left}
    for request in left:
        assert asked(backend, [request]) == {request.id: together[request.id]}


def few_shot(questions: int, choice: int) -> list[LogprobRequest]:
    shots = tuple(5 + n % 90 for n in range(120))
    return [
        LogprobRequest(
            f"{q}.{c}", (*shots, *(7 + (q * n) % 83 for n in range(1, 21))),
            tuple(100 + c + n for n in range(choice)),
        )
        for q in range(questions)
        for c in range(4)
    ]  # fmt: skip


def read_by(backend: TransformersBackend, requests: Sequence[LogprobRequest]) -> int:
    list(backend.logprobs(requests[:1]))  # what is tried once is not counted
    before = backend.tokens_read
    list(backend.logprobs(requests))
    return backend.tokens_read - before


def test_shots_are_read_once_and_choices_of_one_token_not_at_all(
    backend: TransformersBackend,
) -> None:
    # 64 texts of 140 tokens: 120 shots once, and 20 tokens a question. Whole they were 8,960.
    assert read_by(backend, few_shot(16, 1)) <= 120 + 16 * 20 + 16
    # Choices of five words: four more tokens each.
    assert read_by(backend, few_shot(16, 5)) <= 120 + 16 * 20 + 64 * 4 + 16


def test_texts_that_share_nothing_are_read_without_padding(backend: TransformersBackend) -> None:
    requests = [
        LogprobRequest(str(n), tuple(10 + n + k for k in range(n + 1)), (9,) * (60 if n else 200))
        for n in range(20)
    ]
    tokens = sum(len(r.context_ids) + len(r.target_ids) - 1 for r in requests)
    assert read_by(backend, requests) <= tokens + 16


def test_little_is_kept_of_what_was_read(backend: TransformersBackend) -> None:
    """Of a tree of thousands of tokens, one text's keys and values at most."""
    from harness.backends.transformers.passes import TreeReader

    list(backend.logprobs(few_shot(1, 1)))
    held = []
    passed = TreeReader.passed

    def watched(self: TreeReader) -> None:
        passed(self)
        held.append(len(self.kept[0][0]) if self.kept else 0)

    narrow = TransformersBackend(backend.model, backend.tokenizer, token_budget=128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TreeReader, "passed", watched)
        list(narrow.logprobs(few_shot(16, 5)))
    assert len(held) > 4
    assert max(held) <= 145
    assert held[-1] == 0


def test_odd_choices(backend: TransformersBackend) -> None:
    context = (5, 6, 7)
    long = tuple(3 + n % 40 for n in range(200))
    choices = [(8,), (8, 9), (8, 9, 10), (8, 9), (), long, (11,)]
    requests = [LogprobRequest(str(n), context, choice) for n, choice in enumerate(choices)]
    requests.append(LogprobRequest("too long", context, long * 2))
    found = {r.request_id: r for r in backend.logprobs(requests)}
    assert len(found) == len(requests)
    assert "402 tokens" in (found.pop("too long").error or "")
    for request in requests[:-1]:
        wanted = by_hand(backend.model, request)
        assert found[request.id].logprobs == pytest.approx(wanted, abs=1e-4)


def test_samples_with_one_token_in_common(backend: TransformersBackend) -> None:
    requests = [LogprobRequest(str(n), (1,), (3 + n % 300, 3 + n // 300, 5)) for n in range(10_000)]
    assert read_by(backend, requests) <= 1 + 300 + 10_000 + 16 * 20
    few = {r.id: r for r in requests[::1999]}
    found = asked(backend, requests)
    for number, request in few.items():
        assert found[number] == pytest.approx(by_hand(backend.model, request), abs=1e-4)


def test_running_out_of_memory_halves_the_passes(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = forest(4)
    expected = asked(backend, requests)
    states = Causal.states

    def cramped(limit: int) -> None:
        def limited(self: Causal, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
            if ids.numel() > limit:
                raise torch.OutOfMemoryError("no memory")
            return states(self, ids, **arguments)

        monkeypatch.setattr(Causal, "states", limited)

    cramped(100)
    assert asked(backend, requests) == expected
    cramped(10)
    results = list(backend.logprobs(requests))
    assert sorted(r.request_id for r in results) == sorted(expected)
    assert all("out of memory" in (r.error or "") for r in results)


def test_a_model_whose_attention_is_its_own_is_left_as_it_was(tokenizer: Any) -> None:
    backend = family("gemma3_text", tokenizer)
    before = backend.model.config._attn_implementation
    list(backend.logprobs(forest(5)[:3]))
    assert backend.model.config._attn_implementation == before
    assert VOCABULARY > 300


def test_a_window_is_summed_from_its_beginning(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from the text's: a layer that sees 16 places computes two blocks at most."""
    from harness.backends.transformers import attention, passes, rows

    model = tiny_family("gemma3_text", max_position_embeddings=600)
    backend = TransformersBackend(model, tokenizer)
    text = tuple(3 + (7 * n) % 300 for n in range(500))
    request = LogprobRequest("a", text[:-8], text[-8:])
    settings = GenerationSettings(max_new_tokens=4)
    prompt = [GenerationRequest("a", text, (0,))]
    list(backend.generate(prompt, settings))  # what is tried once is not counted
    widths: dict[str, list[int]] = {"read": [], "written": []}

    def noted(query: Any, asking: Any, keys: Any, *more: Any, to: list[int]) -> Any:
        to.append(keys.shape[2])
        return attention.weigh(query, asking, keys, *more)

    monkeypatch.setattr(passes, "weigh", partial(noted, to=widths["read"]))
    monkeypatch.setattr(rows, "weigh", partial(noted, to=widths["written"]))
    assert asked(backend, [request])["a"] == pytest.approx(
        by_hand(backend.model, request), abs=1e-4
    )
    kinds = model.config.layer_types
    full = sum(kind == "full_attention" for kind in kinds)
    windows = len(kinds) - full
    # Places are read in blocks of 128, over keys in blocks of 128; one place in blocks of 64.
    both = {128: len(kinds), 256: len(kinds) + 2 * windows}
    assert Counter(widths["read"]) == {**both, 384: full, 512: full}
    list(backend.generate(prompt, settings))
    written = Counter(widths["written"])
    assert written.keys() == {64, 512}
    assert written[64] * full == written[512] * windows

"""The transformers backend against the model's own forward pass, live and in training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.transformers.backend import TransformersBackend
from tests.tiny import tiny_model

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "你好，世界。今天的天气很好",
    "x",
    "Please book a table for two at seven, under the name of Li, and tell me the capital.",
    "hello there",
)


@pytest.fixture
def backend(tokenizer: Any) -> TransformersBackend:
    return TransformersBackend(tiny_model(len(tokenizer)), tokenizer)


def _asked(backend: TransformersBackend, seeds: tuple[int, ...]) -> list[GenerationRequest]:
    return [
        GenerationRequest(str(i), backend.encode_chat([{"role": "user", "content": t}]), seeds)
        for i, t in enumerate(TEXTS)
    ]


def _answers(
    backend: TransformersBackend, requests: list[GenerationRequest], settings: GenerationSettings
) -> dict[tuple[str, int], tuple[int, ...]]:
    return {(a.request_id, a.position): a.token_ids for a in backend.generate(requests, settings)}


def _greedy_by_hand(model: Any, prompt: tuple[int, ...], ends: set[int], limit: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + limit:
            token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token in ends:
                break
            ids.append(token)
    return ids[len(prompt) :]


def test_greedy_equals_a_loop_without_cache_or_batch(backend: TransformersBackend) -> None:
    settings = GenerationSettings(max_new_tokens=20)
    answers = _answers(backend, _asked(backend, (0,)), settings)
    for request in _asked(backend, (0,)):
        expected = _greedy_by_hand(backend.model, request.prompt_ids, {2}, 20)
        assert list(answers[request.id, 0]) == expected


def test_logprobs_equal_the_full_log_softmax(backend: TransformersBackend) -> None:
    requests = [LogprobRequest(str(i), (1, 9), backend.encode(t)) for i, t in enumerate(TEXTS)]
    for result in backend.logprobs(requests):
        request = requests[int(result.request_id)]
        line = torch.tensor([[*request.context_ids, *request.target_ids]])
        with torch.no_grad():
            table = backend.model(line).logits.log_softmax(-1)[0, 1:-1]
        expected = table.gather(1, line[0, 2:, None])[:, 0]
        assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_logprobs_of_an_answer_are_those_of_reading_it(backend: TransformersBackend) -> None:
    settings = GenerationSettings(max_new_tokens=10, temperature=0.7, top_k=20, logprobs=True)
    requests = _asked(backend, (3, 4))
    prompts = {request.id: request.prompt_ids for request in requests}
    for answer in backend.generate(requests, settings):
        asked = LogprobRequest("r", prompts[answer.request_id], answer.token_ids)
        (read,) = backend.logprobs([asked])
        assert answer.logprobs == pytest.approx(read.logprobs, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("budget", [64, 200, 10_000])
def test_answers_do_not_depend_on_how_much_is_written_at_once(
    backend: TransformersBackend, rows: int, budget: int
) -> None:
    settings = GenerationSettings(max_new_tokens=16, temperature=1.0, top_p=0.95)
    requests = _asked(backend, (1, 2, 3))
    expected = _answers(backend, requests, settings)
    narrow = TransformersBackend(backend.model, backend.tokenizer, rows=rows, token_budget=budget)
    assert _answers(narrow, requests, settings) == expected


def test_a_window_wider_than_any_text_changes_nothing(tokenizer: Any) -> None:
    """Then Mistral computes what Llama does."""
    from transformers import MistralConfig, MistralForCausalLM

    llama = tiny_model(len(tokenizer))
    shared = {
        name: value
        for name, value in llama.config.to_dict().items()
        if name not in ("model_type", "architectures", "transformers_version", "dtype")
    }
    config = MistralConfig(**shared, sliding_window=1024)
    mistral = MistralForCausalLM(config).eval()
    mistral.load_state_dict(llama.state_dict())
    settings = GenerationSettings(max_new_tokens=16, temperature=1.0)
    full = TransformersBackend(llama, tokenizer)
    window = TransformersBackend(mistral, tokenizer)
    expected = _answers(full, _asked(full, (1, 2, 3)), settings)
    assert _answers(window, _asked(window, (1, 2, 3)), settings) == expected


def test_a_model_that_scales_its_logits_is_read_correctly(tokenizer: Any) -> None:
    from transformers import CohereConfig, CohereForCausalLM

    torch.manual_seed(1)
    model = CohereForCausalLM(
        CohereConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, logit_scale=0.25,
            max_position_embeddings=128, initializer_range=0.3, eos_token_id=2,
        )
    ).eval()  # fmt: skip
    backend = TransformersBackend(model, tokenizer)
    target = backend.encode(TEXTS[0])
    (result,) = backend.logprobs([LogprobRequest("a", (1,), target)])
    with torch.no_grad():
        table = model(torch.tensor([[1, *target]])).logits.log_softmax(-1)[0, :-1]
    expected = table.gather(1, torch.tensor(target)[:, None])[:, 0]
    assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def _lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
    wrapped = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return wrapped


def test_an_adapter_in_training_is_active_and_left_as_it_was(tokenizer: Any) -> None:
    model = _lora(tiny_model(len(tokenizer)))
    model.train()
    model.base_model.model.model.norm.eval()  # somebody's own choice, to be kept
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    backend = TransformersBackend(model, tokenizer)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    marks = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    target = backend.encode(TEXTS[0])
    (result,) = backend.logprobs([LogprobRequest("a", (1,), target)])
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    first = _answers(backend, _asked(backend, (1, 2)), settings)
    assert _answers(backend, _asked(backend, (1, 2)), settings) == first

    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), marks[0])
    assert np.array_equal(np.random.get_state()[1], marks[1])
    assert random.getstate() == marks[2]
    assert all(torch.equal(weights[n], v) for n, v in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        table = model(torch.tensor([[1, *target]])).logits.log_softmax(-1)[0, :-1]
    expected = table.gather(1, torch.tensor(target)[:, None])[:, 0]
    assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_caller_between_two_answers_can_still_compute_gradients(
    backend: TransformersBackend,
) -> None:
    settings = GenerationSettings(max_new_tokens=4, temperature=1.0)
    for _ in backend.generate(_asked(backend, (1,)), settings):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_an_abandoned_iterator_leaves_the_model_training(backend: TransformersBackend) -> None:
    backend.model.train()
    answers = backend.generate(_asked(backend, (1, 2)), GenerationSettings(max_new_tokens=4))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert backend.model.training
    assert all(module.training for module in backend.model.modules())


def test_an_answer_never_outgrows_the_model(tokenizer: Any) -> None:
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer, max_length=40)
    prompt = tuple(range(50, 85))
    settings = GenerationSettings(max_new_tokens=50, temperature=1.0)
    answers = list(backend.generate([GenerationRequest("a", prompt, tuple(range(8)))], settings))
    assert all(len(a.token_ids) <= 5 for a in answers)
    assert any(a.finish_reason == "length" and len(a.token_ids) == 5 for a in answers)


def test_a_diverged_model_answers_with_errors_never_with_nan(backend: TransformersBackend) -> None:
    list(backend.generate(_asked(backend, (1,)), GenerationSettings(max_new_tokens=2)))
    with torch.no_grad():
        backend.model.model.norm.weight.fill_(float("nan"))
    for settings in (
        GenerationSettings(max_new_tokens=4),
        GenerationSettings(max_new_tokens=4, temperature=1.0, top_p=0.9, top_k=5),
    ):
        answers = list(backend.generate(_asked(backend, (1, 2)), settings))
        assert len(answers) == 2 * len(TEXTS)
        assert all(a.finish_reason == "error" and "not finite" in (a.error or "") for a in answers)
    (result,) = backend.logprobs([LogprobRequest("a", (1,), (7, 8))])
    assert result.error
    assert result.logprobs == ()


def test_running_out_of_memory_loses_no_answer(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.transformers.causal import Causal

    settings = GenerationSettings(max_new_tokens=12, temperature=1.0)
    requests = _asked(backend, (1, 2, 3))
    texts = [LogprobRequest(str(i), (1,), backend.encode(t)) for i, t in enumerate(TEXTS)]
    expected = _answers(backend, requests, settings)
    read = {r.request_id: r.logprobs for r in backend.logprobs(texts)}
    states = Causal.states

    def cramped(limit: int) -> None:
        def limited(self: Causal, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
            if ids.numel() > limit:
                raise torch.OutOfMemoryError("no memory")
            return states(self, ids, **arguments)

        monkeypatch.setattr(Causal, "states", limited)

    cramped(130)
    assert _answers(backend, requests, settings) == expected
    assert all(
        r.logprobs == pytest.approx(read[r.request_id], abs=1e-5) for r in backend.logprobs(texts)
    )
    cramped(0)
    answers = list(backend.generate(requests, settings))
    assert len(answers) == len(expected)
    assert all("out of memory" in (a.error or "") for a in answers)
    assert all("out of memory" in (r.error or "") for r in backend.logprobs(texts))


@pytest.mark.long
def test_the_embedded_model_answers_alike_in_any_batch(tmp_path: Path) -> None:
    from harness.core.workspace import Workspace
    from harness.models.resolve import load, resolve

    model, tokenizer = load(resolve("smollm2-135m-instruct", Workspace(tmp_path)))
    backend = TransformersBackend(model, tokenizer)
    settings = GenerationSettings(max_new_tokens=24, temperature=0.8, top_p=0.9)
    together = _answers(backend, _asked(backend, (1, 2, 3)), settings)
    for request in _asked(backend, (1, 2, 3)):
        for position, seed in enumerate(request.seeds):
            alone = GenerationRequest(request.id, request.prompt_ids, (seed,))
            (answer,) = backend.generate([alone], settings)
            assert answer.token_ids == together[request.id, position]

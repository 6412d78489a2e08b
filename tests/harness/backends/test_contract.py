"""What every backend promises to the runner: the live one, the scripted one, and over HTTP a server
that takes token ids and llama.cpp's own, which takes text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Backend, GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.http import Wire
from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from tests import serving
from tests.openai_server import serving as serving_model
from tests.tiny import save_tiny_llama

SAMPLED = GenerationSettings(max_new_tokens=12, temperature=1.0)


@pytest.fixture(scope="module")
def live(tiny_llama: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.backends.transformers.backend import TransformersBackend

    return TransformersBackend(
        AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    )


@pytest.fixture(scope="module")
def served(live: Any) -> Iterator[OpenAIBackend]:
    from harness.backends.transformers.backend import TransformersBackend

    behind = TransformersBackend(live.model, live.tokenizer, max_length=258)
    with serving_model(behind) as server:
        yield OpenAIBackend(Wire(server.url), "tiny", live.tokenizer, context=258)


@pytest.fixture(scope="module")
def llama_cpp(live: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIBackend]:
    if not serving.has("llama_cpp", "fastapi", "sse_starlette", "starlette_context"):
        pytest.skip("pip install 'llama-cpp-python[server]' to ask llama.cpp as well")
    folder = tmp_path_factory.mktemp("llama")
    gguf = serving.save_gguf(folder / "tiny.gguf", live.model, live.tokenizer)
    with serving.llama_server(gguf, context=258, alias="tiny", log=folder / "log") as url:
        yield OpenAIBackend(Wire(url), "tiny", live.tokenizer, context=258)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not serving.has("vllm"):
        pytest.skip("vLLM is not installed")
    from harness.backends.vllm import open_vllm
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    home = Workspace.at(tmp_path_factory.mktemp("home"))
    base = save_tiny_llama(tmp_path_factory.mktemp("vllm") / "base", **serving.VLLM_CAN)
    return open_vllm(resolve(str(base), home), dtype="float32")


@pytest.fixture(scope="module")
def ray(tiny_llama: Path, live: Any, two_nodes: Any, tmp_path_factory: Any) -> Any:
    from harness.backends.ray.cluster import ModelReplica
    from harness.backends.ray.pool import RayPool, Share
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    home = Workspace.at(tmp_path_factory.mktemp("home"))
    digest = resolve(str(tiny_llama), home).digest
    replica = ModelReplica(str(tiny_llama), None, digest, "cpu", "float32")
    return RayPool(replica, live.tokenizer, Share(2))


@pytest.fixture(
    params=[
        "live",
        "scripted",
        "served",
        "llama_cpp",
        pytest.param("vllm", marks=pytest.mark.vllm),
        pytest.param("ray", marks=pytest.mark.long),
    ]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "scripted":
        return ScriptedBackend(max_length=256)
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


def _requests(backend: Backend, *texts: str, seeds: tuple[int, ...] = (1, 2)) -> list[Any]:
    prompts = [backend.encode_chat([{"role": "user", "content": text}]) for text in texts]
    return [GenerationRequest(str(number), prompt, seeds) for number, prompt in enumerate(prompts)]


def test_every_seed_of_every_request_is_answered_once(backend: Backend) -> None:
    requests = _requests(backend, "hello", "a longer question, please", "你好", seeds=(5, 6, 7))
    answers = list(backend.generate(requests, SAMPLED))
    assert sorted((a.request_id, a.position) for a in answers) == [
        (str(r), p) for r in range(3) for p in range(3)
    ]
    assert all(a.error is None and a.finish_reason in ("stop", "length") for a in answers)
    assert all(len(a.token_ids) <= 12 and a.latency_s >= 0 for a in answers)
    assert all(0 <= a.first_token_s <= a.latency_s for a in answers if a.first_token_s is not None)
    if not isinstance(backend, ScriptedBackend | OpenAIBackend):
        assert [bool(a.token_ids) for a in answers] == [
            a.first_token_s is not None for a in answers
        ]


def test_an_answer_depends_on_its_prompt_and_seed_alone(backend: Backend) -> None:
    texts = ["hello", "what is the capital?", "你好，世界", "book a table", "x"]
    together = {
        (a.request_id, a.position): a.token_ids
        for a in backend.generate(_requests(backend, *texts, seeds=(3, 9, 4)), SAMPLED)
    }
    for number, text in enumerate(texts):
        for position, seed in enumerate((3, 9, 4)):
            (alone,) = backend.generate(_requests(backend, text, seeds=(seed,)), SAMPLED)
            assert alone.token_ids == together[str(number), position]
    assert len({together["0", p] for p in range(3)}) > 1


def test_greedy_answers_do_not_depend_on_the_seed(backend: Backend) -> None:
    greedy = GenerationSettings(max_new_tokens=8)
    answers = list(backend.generate(_requests(backend, "hello", seeds=(1, 2, 3)), greedy))
    assert len(answers) == 3
    assert len({a.token_ids for a in answers}) == 1


def test_a_prompt_that_does_not_fit_is_answered_with_an_error(backend: Backend) -> None:
    long = GenerationRequest("long", tuple([7] * 300), (1, 2))
    empty = GenerationRequest("empty", (), (1,))
    good = _requests(backend, "hi", seeds=(1,))
    answers = {
        (a.request_id, a.position): a for a in backend.generate([long, *good, empty], SAMPLED)
    }
    assert answers["long", 0].finish_reason == answers["long", 1].finish_reason == "error"
    assert "300" in (answers["long", 0].error or "")
    assert answers["empty", 0].error
    assert answers["0", 0].error is None


def test_an_answer_ends_before_a_stop_string(backend: Backend) -> None:
    free = next(backend.generate(_requests(backend, "hello", seeds=(11,)), SAMPLED))
    stop = free.text[len(free.text) // 2]
    settings = GenerationSettings(max_new_tokens=12, temperature=1.0, stop=(stop, "never said"))
    answer = next(backend.generate(_requests(backend, "hello", seeds=(11,)), settings))
    assert answer.text == free.text[: free.text.index(stop)]
    assert answer.finish_reason == "stop"


def _without_logprobs(backend: Backend) -> bool:
    """Whether the backend says that it gives no log-probabilities; then it must refuse them."""
    refuses = getattr(backend, "refuses", None)
    if refuses is None or refuses("text") is None:
        return False
    with pytest.raises(UserError, match="can't be used"):
        list(backend.logprobs([LogprobRequest("", (1,), (7,))]))
    return True


def test_logprobs_of_an_answer_come_one_per_token(backend: Backend) -> None:
    if _without_logprobs(backend):
        return
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0, logprobs=True)
    for answer in backend.generate(_requests(backend, "hello", "你好"), settings):
        assert answer.logprobs is not None
        assert len(answer.logprobs) == len(answer.token_ids)
        assert all(value <= 0 and math.isfinite(value) for value in answer.logprobs)


def test_logprobs_are_given_for_each_target_and_do_not_depend_on_the_batch(
    backend: Backend,
) -> None:
    if _without_logprobs(backend):
        return
    prefix = (backend.prefix_token_id,)
    texts = ["hello", "", "the capital of France is Paris", "你好"]
    requests = [LogprobRequest(str(i), prefix, backend.encode(t)) for i, t in enumerate(texts)]
    together = {r.request_id: r.logprobs for r in backend.logprobs(requests)}
    assert set(together) == {"0", "1", "2", "3"}
    for request in requests:
        (alone,) = backend.logprobs([request])
        assert len(alone.logprobs) == len(request.target_ids)
        assert together[request.id] == pytest.approx(alone.logprobs, abs=1e-4)
        assert all(value <= 0 for value in alone.logprobs)


def test_logprobs_without_room_or_context_are_errors(backend: Backend) -> None:
    if _without_logprobs(backend):
        return
    requests = [
        LogprobRequest("long", (1,), tuple([7] * 300)),
        LogprobRequest("bare", (), (7,)),
        # The last target is only predicted: it needs no room.
        LogprobRequest("full", (1,), tuple([7] * 256)),
    ]
    results = {r.request_id: r for r in backend.logprobs(requests)}
    assert results["long"].error
    assert results["bare"].error
    assert results["full"].error is None
    assert len(results["full"].logprobs) == 256


def test_vllm_that_is_not_installed_is_named_with_its_hint(
    tiny_llama: Path, tmp_path: Path
) -> None:
    if serving.has("vllm"):
        pytest.skip("vLLM is installed")
    from harness.cli.app import main
    from tests.harness.suite_builders import suite_yaml

    words = ["--home", str(tmp_path / "home"), "score", f"vllm:{tiny_llama}"]
    assert main([*words, "--suite", str(suite_yaml(tmp_path))]) == 3


def test_the_subject_is_plain_json(backend: Backend) -> None:
    import json

    assert json.loads(json.dumps(dict(backend.subject))) == dict(backend.subject)
    assert {"backend", "dtype", "quantisation", "device"} <= set(backend.subject)


def test_a_text_with_a_lone_surrogate_is_still_encoded(backend: Backend) -> None:
    assert backend.encode("a\ud800b")


def test_a_script_answers_by_mapping_and_fails_by_exception() -> None:
    backend = ScriptedBackend({"France": "Paris", "crash": RuntimeError("the server is gone")})
    answers = {
        a.request_id: a
        for a in backend.generate(_requests(backend, "France?", "crash", "x", seeds=(1,)), SAMPLED)
    }
    assert answers["0"].text == "Paris"
    assert answers["1"].error == "the server is gone"
    assert answers["2"].text == ""
    assert backend.calls == 3

"""A served model over real HTTP, with a server that does what servers do: refuse, hang and lie."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.http import NoAnswerError, RefusedError
from harness.backends.openai.open import open_served
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from tests import serving as real
from tests.harness.backends.openai_builders import GREEDY, backend_of, requests_of, wire_to
from tests.openai_server import ModelServer, serving


def test_answers_and_log_probabilities_are_those_of_the_model_itself(
    server: ModelServer, behind: Any
) -> None:
    backend = backend_of(server, behind)
    assert backend.abilities.prompts == "ids"
    assert backend.abilities.no_logprobs is None
    requests = requests_of(backend, 3, seeds=(4, 5))
    for settings in (GREEDY, GenerationSettings(max_new_tokens=6, temperature=0.9, top_k=7)):
        here = {(a.request_id, a.position): a for a in behind.generate(requests, settings)}
        for there in backend.generate(requests, settings):
            assert there.token_ids == here[there.request_id, there.position].token_ids
    texts = ["The capital of France", "你好，世界"]
    reads = [LogprobRequest(t, (1,), backend.encode(t)) for t in texts]
    here_read = {r.request_id: r.logprobs for r in behind.logprobs(reads)}
    for read in backend.logprobs(reads):
        assert read.logprobs == pytest.approx(here_read[read.request_id], abs=1e-4)


def test_every_setting_is_sent_with_every_request_and_recorded(
    server: ModelServer, behind: Any
) -> None:
    backend = backend_of(server, behind)
    server.asked.clear()
    list(backend.generate(requests_of(backend, 1), GREEDY))
    ((_, body),) = server.asked
    pinned = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 6, "stop": None, "seed": 1}
    assert pinned.items() <= body.items()
    assert {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= body.items()
    assert backend.subject["pinned"]["min_p"] == 0.0
    assert backend.subject["prompts"] == "ids"


def test_greedy_answers_to_one_prompt_are_asked_for_once(server: ModelServer, behind: Any) -> None:
    backend = backend_of(server, behind)
    server.asked.clear()
    answers = list(backend.generate(requests_of(backend, 1, seeds=(1, 2, 3)), GREEDY))
    assert [a.position for a in answers] == [0, 1, 2]
    assert len(server.asked) == 1


@pytest.mark.parametrize("twist", ["after", "constant", "no_echo", "no_null", "positive"])
def test_wrong_log_probabilities_are_found_and_refused(behind: Any, twist: str) -> None:
    with serving(behind, twist=twist) as server:
        backend = backend_of(server, behind)
        assert backend.abilities.no_logprobs
        reason = backend.refuses("text")
        assert reason is not None
        assert "\n" not in reason
        with pytest.raises(UserError, match="can't be used"):
            list(backend.logprobs([LogprobRequest("", (1,), (7,))]))
        assert backend.refuses("generation") is None
        assert next(backend.generate(requests_of(backend, 1), GREEDY)).error is None


def test_a_server_without_token_ids_gets_text_that_becomes_just_those(
    server: ModelServer, behind: Any
) -> None:
    server.takes_ids = False
    backend = backend_of(server, behind)
    assert backend.abilities.prompts == "text"
    assert backend.abilities.no_logprobs is None
    ids = backend.encode("Please book a table")
    half_a_character = next(n for n in range(300) if behind.tokenizer.decode([n]) == "\ufffd")
    broken = (ids[0], half_a_character)
    answers = {
        a.request_id: a
        for a in backend.generate(
            [GenerationRequest("good", ids, (1,)), GenerationRequest("broken", broken, (1,))],
            GREEDY,
        )
    }
    assert answers["good"].error is None
    assert "become others" in (answers["broken"].error or "")


def test_without_a_tokenizer_the_servers_own_template_is_used(
    server: ModelServer, behind: Any
) -> None:
    backend = OpenAIBackend(wire_to(server), "tiny")
    (answer,) = backend.generate(requests_of(backend, 1), GREEDY)
    (here,) = behind.generate(requests_of(behind, 1), GREEDY)
    assert answer.text == here.text
    assert server.asked[-1][0] == "/chat/completions"
    assert "tokenizer" in (backend.refuses("text") or "")


@pytest.mark.long
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_the_server_of_transformers_answers_as_the_model_itself(
    behind: Any, tiny_llama: Path, tmp_path: Path, workspace: Workspace, with_tokenizer: bool
) -> None:
    if not real.has("fastapi", "uvicorn"):
        pytest.skip("pip install 'transformers[serving]' to ask its server as well")
    with real.transformers_server(tiny_llama, log=tmp_path / "log") as url:
        described = tmp_path / "served.yaml"
        extra = {"weights": str(tiny_llama)} if with_tokenizer else {}
        described.write_text(yaml.safe_dump({"url": url, "model": str(tiny_llama), **extra}))
        backend = open_served(f"openai:{described}", workspace).open()
        there = {a.request_id: a for a in backend.generate(requests_of(backend, 3), GREEDY)}
        assert backend.subject["prompts"] == ("text" if with_tokenizer else "chat")
        assert backend.refuses("text")  # type: ignore[attr-defined]
    for here in behind.generate(requests_of(behind, 3), GREEDY):
        assert there[here.request_id].text == here.text


def test_a_server_that_lists_no_models_is_asked_for_a_name(
    server: ModelServer, workspace: Workspace
) -> None:
    server.adapters["second"] = "/somewhere"
    with pytest.raises(UserError, match="serves 2 models") as error:
        open_served(f"openai:{server.url}", workspace)
    assert "#second" in (error.value.hint or "")
    with pytest.raises(UserError, match="lists no models"):
        open_served(f"openai:{server.url}/wrong", workspace)


def _once(fault: Any, *, first: int = 2) -> Callable[..., Any]:
    """The fault at the `first`-th requests of a run, each body of its own once."""
    seen: set[str] = set()

    def at(number: int, path: str, body: Mapping[str, Any]) -> Any:
        key = str(body.get("prompt"))
        if key in seen or len(seen) >= first:
            return None
        seen.add(key)
        return fault

    return at


@pytest.mark.parametrize(
    "fault", [(429, {}), (500, {}), (503, {}), "hang", "reset", "truncate"], ids=str
)
def test_a_passing_failure_is_tried_again(server: ModelServer, behind: Any, fault: Any) -> None:
    # The one that hangs is waited for; the others have time enough on any machine.
    backend = backend_of(server, behind, wire={"timeout_s": 2.0 if fault == "hang" else 60.0})
    server.fault = _once(fault)
    answers = list(backend.generate(requests_of(backend, 6), GREEDY))
    assert len(answers) == 6
    assert all(answer.error is None for answer in answers)
    assert backend.wire.retries >= 1


def test_retry_after_is_honoured(server: ModelServer) -> None:
    server.fault = _once((429, {"retry-after": "1"}), first=1)
    began = time.monotonic()
    wire_to(server).post("/completions", _body("a"))
    assert time.monotonic() - began >= 1.0


def test_retry_after_is_read_in_seconds_and_as_a_date(server: ModelServer) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    for header, least, most in (("17", 17, 17), (later, 1, 250)):
        server.fault = _once((429, {"retry-after": header}), first=1)
        with pytest.raises(NoAnswerError) as told:
            wire_to(server, patience_s=0.1).post("/completions", _body(header))
        asked = re.search(r"it asks to wait (\d+) s", str(told.value))
        assert asked
        assert least <= int(asked.group(1)) <= most


def test_a_server_that_asks_for_too_long_a_wait_counts_as_not_answering(
    server: ModelServer,
) -> None:
    server.fault = lambda *_: (429, {"retry-after": "86400"})
    with pytest.raises(NoAnswerError, match="86400 s"):
        wire_to(server, patience_s=10).post("/completions", _body("x"))


def _body(prompt: str) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "seed": 1}


def test_a_refused_request_is_not_tried_again(server: ModelServer) -> None:
    wire = wire_to(server)
    with pytest.raises(RefusedError, match="no model other"):
        wire.post("/completions", {**_body("x"), "model": "other"})
    assert wire.retries == 0


def test_a_failed_answer_is_an_error_and_the_others_are_given(
    server: ModelServer, behind: Any
) -> None:
    backend = backend_of(server, behind, wire={"tries": 2})
    requests = requests_of(backend, 4)
    bad = list(requests[2].prompt_ids)
    server.fault = lambda n, path, body: (500, {}) if body["prompt"] == bad else None
    answers = {a.request_id: a for a in backend.generate(requests, GREEDY)}
    assert "HTTP 500" in (answers["2"].error or "")
    assert [k for k, a in sorted(answers.items()) if a.error is None] == ["0", "1", "3"]


def test_an_answer_of_another_shape_is_an_error(server: ModelServer, behind: Any) -> None:
    backend = backend_of(server, behind)
    server.fault = _once("nonsense", first=1)
    (answer,) = backend.generate(requests_of(backend, 1), GREEDY)
    assert "no single choice" in (answer.error or "")


def test_keys_come_from_the_environment_and_are_never_shown(
    server: ModelServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-right"
    name = f"openai:{server.url}#tiny"
    with pytest.raises(UserError, match="wants a key") as missing:
        open_served(name, workspace)
    assert "RATCHET_API_KEY" in missing.value.render()
    monkeypatch.setenv("RATCHET_API_KEY", "sk-wrong")
    with pytest.raises(UserError, match="refuses the key") as wrong:
        open_served(name, workspace)
    assert "sk-wrong" not in wrong.value.render()
    monkeypatch.setenv("RATCHET_API_KEY", "sk-right")
    candidate = open_served(name, workspace)
    kept = [*workspace.home.rglob("*")]
    assert not any(b"sk-right" in path.read_bytes() for path in kept if path.is_file())
    assert "sk-right" not in str(candidate)

"""A served model over real HTTP, with a server that does what servers do: refuse, hang and lie."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.openai import OpenAIBackend
from harness.backends.pace import Budget, Pace, Prices, fan_out
from harness.backends.served import open_served, read_served, unload_adapter
from harness.backends.wire import NoAnswerError, RefusedError, Wire
from harness.errors import UnfinishedError, UserError
from harness.runner import score
from harness.store import Store
from harness.suite import load_suite
from harness.workspace import Workspace
from tests import serving as real
from tests.harness.worlds import Ratchet, suite_yaml
from tests.openai_server import ModelServer, serving

GREEDY = GenerationSettings(max_new_tokens=6)


@pytest.fixture(scope="module")
def behind(tiny_llama: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.backends.live import TransformersBackend

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    return TransformersBackend(model, AutoTokenizer.from_pretrained(tiny_llama), max_length=258)


@pytest.fixture
def server(behind: Any) -> Iterator[ModelServer]:
    with serving(behind) as started:
        yield started


def _wire(server: ModelServer, **settings: Any) -> Wire:
    return Wire(server.url, **{"backoff_s": 0.01, "timeout_s": 2.0, **settings})


def _backend(server: ModelServer, behind: Any, **settings: Any) -> OpenAIBackend:
    wire = _wire(server, **settings.pop("wire", {}))
    return OpenAIBackend(wire, "tiny", behind.tokenizer, context=258, **settings)


def _requests(backend: Any, count: int, seeds: tuple[int, ...] = (1,)) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            str(n), backend.encode_chat([{"role": "user", "content": f"n {n}"}]), seeds
        )
        for n in range(count)
    ]


def test_answers_and_log_probabilities_are_those_of_the_model_itself(
    server: ModelServer, behind: Any
) -> None:
    backend = _backend(server, behind)
    assert backend.abilities.prompts == "ids"
    assert backend.abilities.no_logprobs is None
    requests = _requests(backend, 3, seeds=(4, 5))
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
    backend = _backend(server, behind)
    server.asked.clear()
    list(backend.generate(_requests(backend, 1), GREEDY))
    ((_, body),) = server.asked
    pinned = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 6, "stop": None, "seed": 1}
    assert pinned.items() <= body.items()
    assert {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= body.items()
    assert backend.subject["pinned"]["min_p"] == 0.0
    assert backend.subject["prompts"] == "ids"


def test_greedy_answers_to_one_prompt_are_asked_for_once(server: ModelServer, behind: Any) -> None:
    backend = _backend(server, behind)
    server.asked.clear()
    answers = list(backend.generate(_requests(backend, 1, seeds=(1, 2, 3)), GREEDY))
    assert [a.position for a in answers] == [0, 1, 2]
    assert len(server.asked) == 1


@pytest.mark.parametrize("twist", ["after", "constant", "no_echo", "no_null", "positive"])
def test_log_probabilities_that_lie_are_found_and_refused(behind: Any, twist: str) -> None:
    with serving(behind, twist=twist) as server:
        backend = _backend(server, behind)
        assert backend.abilities.no_logprobs
        reason = backend.refuses("text")
        assert reason is not None
        assert "\n" not in reason
        with pytest.raises(UserError, match="can't be used"):
            list(backend.logprobs([LogprobRequest("", (1,), (7,))]))
        assert backend.refuses("generation") is None
        assert next(backend.generate(_requests(backend, 1), GREEDY)).error is None


def test_a_server_without_token_ids_gets_text_that_becomes_just_those(
    server: ModelServer, behind: Any
) -> None:
    server.takes_ids = False
    backend = _backend(server, behind)
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
    backend = OpenAIBackend(_wire(server), "tiny")
    (answer,) = backend.generate(_requests(backend, 1), GREEDY)
    (here,) = behind.generate(_requests(behind, 1), GREEDY)
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
        there = {a.request_id: a for a in backend.generate(_requests(backend, 3), GREEDY)}
        assert backend.subject["prompts"] == ("text" if with_tokenizer else "chat")
        assert backend.refuses("text")  # type: ignore[attr-defined]
    for here in behind.generate(_requests(behind, 3), GREEDY):
        assert there[here.request_id].text == here.text


def test_a_server_that_lists_no_models_is_asked_for_a_name(
    server: ModelServer, workspace: Workspace
) -> None:
    server.adapters["second"] = "/somewhere"
    with pytest.raises(UserError, match="serves 2 models") as error:
        open_served(f"openai:{server.url}", workspace)
    assert "#second" in (error.value.cure or "")
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
def test_what_passes_is_tried_again(server: ModelServer, behind: Any, fault: Any) -> None:
    backend = _backend(server, behind, wire={"timeout_s": 0.6})
    server.fault = _once(fault)
    answers = list(backend.generate(_requests(backend, 6), GREEDY))
    assert len(answers) == 6
    assert all(answer.error is None for answer in answers)
    assert backend.wire.retries >= 1


def test_retry_after_is_honoured_in_seconds_and_as_a_date(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(Wire, "_rest", lambda self, attempt, at_least: rests.append(at_least))
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=250), usegmt=True)
    for header in ("17", later):
        server.fault = _once((429, {"retry-after": header}), first=1)
        _wire(server).post("/completions", _body(header))
    assert rests[0] == 17.0
    assert 0 < rests[1] <= 250


def test_a_server_that_wants_too_much_patience_gave_no_answer(server: ModelServer) -> None:
    server.fault = lambda *_: (429, {"retry-after": "86400"})
    with pytest.raises(NoAnswerError, match="86400 s"):
        _wire(server, patience_s=10).post("/completions", _body("x"))


def _body(prompt: str) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "seed": 1}


def test_what_stays_refused_is_not_tried_again(server: ModelServer) -> None:
    wire = _wire(server)
    with pytest.raises(RefusedError, match="no model other"):
        wire.post("/completions", {**_body("x"), "model": "other"})
    assert wire.retries == 0


def test_an_answer_that_fails_is_an_error_of_its_own(server: ModelServer, behind: Any) -> None:
    backend = _backend(server, behind, wire={"tries": 2})
    requests = _requests(backend, 4)
    bad = list(requests[2].prompt_ids)
    server.fault = lambda n, path, body: (500, {}) if body["prompt"] == bad else None
    answers = {a.request_id: a for a in backend.generate(requests, GREEDY)}
    assert "HTTP 500" in (answers["2"].error or "")
    assert [k for k, a in sorted(answers.items()) if a.error is None] == ["0", "1", "3"]


def test_an_answer_of_another_shape_is_an_error(server: ModelServer, behind: Any) -> None:
    backend = _backend(server, behind)
    server.fault = _once("nonsense", first=1)
    (answer,) = backend.generate(_requests(backend, 1), GREEDY)
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


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    return suite_yaml(tmp_path)


def test_a_dead_server_stops_the_run_and_the_next_one_goes_on(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    described = _described(server, suite_file.parent, weights=str(tiny_llama))
    candidate = open_served(described, workspace)
    candidate.open().wire._backoff_s = 0.01  # type: ignore[attr-defined]
    begun = len(server.asked)
    server.fault = lambda n, path, body: "reset" if n > begun + 9 else None
    with pytest.raises(UnfinishedError, match="not answering"):
        score(candidate, suite, store)
    server.fault = None
    before = len(server.asked)
    report = score(open_served(described, workspace), suite, store)
    assert report.failed == 0
    assert report.reused >= 1
    assert len(server.asked) > before
    again = score(open_served(described, workspace), suite, store)
    assert again.fresh == 0


def test_a_budget_is_never_passed_and_what_was_done_is_kept(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    described = _described(
        server, suite_file.parent, weights=str(tiny_llama), budget={"tokens": 500}
    )
    candidate = open_served(described, workspace)
    with pytest.raises(UnfinishedError, match="budget of 500 tokens"):
        score(candidate, suite, store)
    spent = candidate.open().budget.tokens  # type: ignore[attr-defined]
    assert 0 < spent <= 500
    kept = store.query("SELECT count(*) AS n FROM responses")[0]["n"]
    assert kept > 0
    plenty = _described(server, suite_file.parent, weights=str(tiny_llama))
    assert score(open_served(plenty, workspace), suite, store).reused == kept


def test_a_dry_run_says_what_it_would_cost_and_sends_nothing(
    server: ModelServer, tiny_llama: Path, suite_file: Path, ratchet: Ratchet
) -> None:
    prices = {"input": 2.0, "output": 10.0}
    priced = _described(
        server, suite_file.parent, weights=str(tiny_llama), prices=prices, budget={"usd": 1e-4}
    )
    asked = ["score", priced, "--suite", suite_file]
    probed = len(server.asked)
    code, said = ratchet(*asked, "--dry-run")
    assert code == 0, said
    read, written = (
        int(count.replace(",", ""))
        for count in re.findall(r"([\d,]+) tokens read and ([\d,]+) written", said)[0]
    )
    assert f"at most ${(2 * read + 10 * written) / 1e6:.4f}" in said
    assert "the budget of $0.0001 may not last" in said
    assert all(body["max_tokens"] == 1 for _, body in server.asked[probed:]), "more than the probe"

    server.asked.clear()
    plain = _described(server, suite_file.parent, weights=str(tiny_llama))
    code, said = ratchet("score", plain, "--suite", suite_file)
    assert code == 0, said
    code, said = ratchet("score", plain, "--suite", suite_file, "--dry-run")
    assert "at most 0 tokens read and 0 written" in said
    assert "no prices are configured" in said
    with Store(Workspace.at()) as store:
        ids = store.query("SELECT sum(len(token_ids)) AS n FROM responses")[0]["n"]
    assert ids <= read + written


def _described(server: ModelServer, folder: Path, **fields: Any) -> str:
    path = folder / "served.yaml"
    path.write_text(yaml.safe_dump({"url": server.url, "model": "tiny", "tries": 2, **fields}))
    return f"openai:{path}"


def test_another_model_behind_the_same_address_is_seen(
    behind: Any, tmp_path: Path, workspace: Workspace
) -> None:
    from harness.backends.live import TransformersBackend
    from tests.tiny import tiny_model

    other = TransformersBackend(
        tiny_model(len(behind.tokenizer), seed=8), behind.tokenizer, max_length=258
    )
    with serving(behind) as server:
        described = _described(server, tmp_path, tokenizer=str(tmp_path / "tokenizer"))
        behind.tokenizer.save_pretrained(tmp_path / "tokenizer")
        first = open_served(described, workspace).digest
        assert open_served(described, workspace).digest == first
        server.backend = other
        said: list[str] = []
        assert open_served(described, workspace, say=said.append).digest != first
        assert any("another model" in line for line in said)
        server.backend = behind
        assert open_served(described, workspace).digest == first


def test_an_adapter_is_loaded_into_the_running_server_under_the_name_of_its_bytes(
    server: ModelServer, tiny_llama: Path, tmp_path: Path, workspace: Workspace
) -> None:
    adapter = _adapter(tiny_llama, tmp_path / "adapter")
    described = _described(
        server, tmp_path, model=None, adapter={"folder": "adapter", "on_server": "/mnt/adapter"}
    )
    candidate = open_served(described, workspace)
    ((name, path),) = server.adapters.items()
    assert path == "/mnt/adapter"
    assert candidate.digest[:12] in name
    assert candidate.subject["model"] == name
    open_served(described, workspace)  # loaded already: fine
    unload_adapter(_wire(server), name)
    assert not server.adapters
    with pytest.raises(UserError, match="cannot be found"):
        unload_adapter(_wire(server), name)
    assert adapter.is_dir()


def _adapter(base: Path, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("openai:nowhere", None, "names no server"),
        ("served.yaml", "url: ftp://x\n", "url"),
        ("served.yaml", "url: http://x/v1\nmodle: a\n", "modle"),
        ("served.yaml", "url: http://x/v1\nbudget: {usd: 1}\n", "prices"),
        ("served.yaml", "url: http://x/v1\nkey: sk-secret\n", "key"),
    ],
)
def test_a_description_that_is_wrong_is_explained(
    tmp_path: Path, name: str, text: str | None, wanted: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
        name = f"openai:{tmp_path / name}"
    with pytest.raises(UserError) as error:
        read_served(name)
    assert wanted in error.value.render()


def test_nobody_at_the_address_is_unfinished_not_wrong(workspace: Workspace) -> None:
    from tests.serving import free_port

    described = workspace.home / "served.yaml"
    described.write_text(f"url: http://127.0.0.1:{free_port()}/v1\ntries: 1\n")
    with pytest.raises(UnfinishedError, match="no connection"):
        open_served(f"openai:{described}", workspace)


def test_the_command_exits_with_inconclusive_where_nobody_answers(
    tmp_path: Path, suite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli import main
    from tests.serving import free_port

    described = tmp_path / "served.yaml"
    described.write_text(f"url: http://127.0.0.1:{free_port()}/v1\ntries: 1\n")
    words = ["--home", str(tmp_path / "home"), "score", f"openai:{described}"]
    assert main([*words, "--suite", str(suite_file)]) == 2
    assert "not answering" in capsys.readouterr().err


def test_the_pace_grows_by_one_a_round_and_halves_once_a_burst() -> None:
    pace = Pace(most=16, start=8)
    tickets = [pace.enter() for _ in range(8)]
    for ticket in tickets:
        pace.leave(ticket, well=True)
    assert 8.9 < pace.limit < 9.1
    tickets = [pace.enter() for _ in range(8)]
    for ticket in tickets:
        pace.leave(ticket, well=False)
    assert 4.4 < pace.limit < 4.6
    for _ in range(20):
        pace.leave(pace.enter(), well=False)
    assert pace.limit == 1.0


def test_no_more_requests_fly_than_the_pace_allows(server: ModelServer, behind: Any) -> None:
    backend = _backend(server, behind, wire={"pace": Pace(most=3, start=3)})
    list(backend.generate(_requests(backend, 12), GREEDY))
    assert server.most_together <= 3


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50)), max_size=30),
    st.integers(1, 400),
)
def test_a_budget_holds_whatever_is_asked(asks: list[tuple[int, int, int]], bound: int) -> None:
    budget = Budget(tokens=bound, usd=bound * 2e-6, prices=Prices(2.0, 1.0))
    for read, most, written in asks:
        try:
            aside = budget.set_aside(read, most)
        except UnfinishedError:
            continue
        budget.settle(aside, read, min(written, most))
        assert budget.tokens <= bound
        assert budget.usd <= bound * 2e-6 + 1e-15


def test_an_error_waits_for_what_is_running_and_begins_nothing_new() -> None:
    begun: list[int] = []
    gate = threading.Event()

    def job(number: int) -> Callable[[], int]:
        def run() -> int:
            begun.append(number)
            if number == 0:
                gate.wait(5)
                raise ValueError("broken")
            if number == 1:
                gate.set()
                time.sleep(0.05)
            return number

        return run

    outcomes = fan_out([job(n) for n in range(50)], crew=2)
    assert next(outcomes) == 1
    with pytest.raises(ValueError, match="broken"):
        list(outcomes)
    assert len(begun) < 50

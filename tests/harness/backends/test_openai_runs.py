"""Served models in runs: a dead server, a budget, a description, an adapter; and the pace."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.openai.open import open_served, read_served, unload_adapter
from harness.backends.openai.rate_limit import Budget, Pace, Prices, fan_out
from harness.comparison.asked import compare_asked
from harness.core.errors import UnfinishedError, UserError
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.backends.openai_builders import GREEDY, backend_of, requests_of, wire_to
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl
from tests.openai_server import ModelServer, serving


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    return suite_yaml(tmp_path)


def test_a_dead_server_stops_the_run_and_the_next_one_goes_on(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    described = _described(server, suite_file.parent, weights=str(tiny_llama))
    candidate = open_served(described, workspace)
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
    assert "the budget of $0.0001 may run out" in said
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


def test_another_model_at_the_same_address_is_noticed(
    behind: Any, tmp_path: Path, workspace: Workspace
) -> None:
    from harness.backends.transformers.backend import TransformersBackend
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
    unload_adapter(wire_to(server), name)
    assert not server.adapters
    with pytest.raises(UserError, match="cannot be found"):
        unload_adapter(wire_to(server), name)
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
        ("openai:nowhere", None, "does not name a server"),
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


def test_a_server_that_does_not_answer_is_unfinished_not_wrong_input(workspace: Workspace) -> None:
    from tests.serving import free_port

    described = workspace.home / "served.yaml"
    described.write_text(f"url: http://127.0.0.1:{free_port()}/v1\ntries: 1\n")
    with pytest.raises(UnfinishedError, match="no connection"):
        open_served(f"openai:{described}", workspace)


def test_the_command_exits_with_inconclusive_where_no_server_answers(
    tmp_path: Path, suite_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.app import main
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


def test_no_more_requests_are_in_flight_than_the_pace_allows(
    server: ModelServer, behind: Any
) -> None:
    backend = backend_of(server, behind, wire={"pace": Pace(most=3, start=3)})
    list(backend.generate(requests_of(backend, 12), GREEDY))
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


def test_what_only_changes_how_a_request_is_sent_changes_nothing(
    server: ModelServer,
    tiny_llama: Path,
    workspace: Workspace,
    store: Store,
    suite_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = load_suite(suite_file)
    plain = _described(server, suite_file.parent, weights=str(tiny_llama))
    first = score(open_served(plain, workspace), suite, store)
    assert first.fresh > 0
    monkeypatch.setenv("OTHER_KEY", "secret")
    for knob in (
        {"concurrency": 3},
        {"timeout_s": 7.5},
        {"tries": 5},
        {"prices": {"input": 1.0, "output": 2.0}},
        {"budget": {"tokens": 10**9}},
        {"key": "OTHER_KEY"},
    ):
        described = _described(server, suite_file.parent, weights=str(tiny_llama), **knob)
        again = score(open_served(described, workspace), suite, store)
        assert (again.fresh, again.run.id) == (0, first.run.id), knob
        assert again.run.fingerprint.protocol == first.run.fingerprint.protocol, knob


def test_what_changes_the_question_or_the_answer_is_asked_again(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    plain = _described(server, suite_file.parent, weights=str(tiny_llama))
    score(open_served(plain, workspace), suite, store)
    # What must be asked again: how long an answer may be, how prompts are written.
    server.takes_ids = False
    for knob in ({"context": 200}, {}, {"dtype": "fp8"}, {"quantisation": "awq"}):
        described = _described(server, suite_file.parent, weights=str(tiny_llama), **knob)
        assert score(open_served(described, workspace), suite, store).reused == 0, knob
    # The question itself is the same for all of them.
    kinds = store.query(
        "SELECT count(DISTINCT asked) AS n FROM responses GROUP BY task, sample_id, kind"
    )
    assert {row["n"] for row in kinds} == {1}


def test_a_tokenizer_with_another_template_never_finds_cached_answers(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, suite_file: Path
) -> None:
    suite = load_suite(suite_file)
    folder = suite_file.parent / "tokenizer"
    tokenizer: Any = server.backend.tokenizer
    tokenizer.save_pretrained(folder)
    described = _described(server, suite_file.parent, tokenizer="tokenizer")
    first = score(open_served(described, workspace), suite, store)
    assert score(open_served(described, workspace), suite, store).fresh == 0
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "Well, ", encoding="utf-8")
    again = score(open_served(described, workspace), suite, store)
    assert again.reused == 0
    asked = compare_asked(store, first.run, again.run)
    assert "ask: 5 of 5 samples were asked in other tokens" in asked.problems[0]
    assert "candidate 'Well, '" in asked.problems[0]


def test_a_server_that_is_sent_messages_is_compared_with_a_note(
    server: ModelServer, tiny_llama: Path, workspace: Workspace, store: Store, tmp_path: Path
) -> None:
    rows = [{"id": str(n), "q": f"number {n}?"} for n in range(3)]
    write_jsonl(tmp_path / "q.jsonl", rows)
    task = {
        "data": "q.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 4},
        "metrics": ["length"],
    }
    suite = load_suite(suite_yaml(tmp_path, tasks={"ask": task}, gate={}))
    runs = [
        score(open_served(_described(server, tmp_path, **given), workspace), suite, store).run
        for given in ({"weights": str(tiny_llama)}, {})
    ]
    asked = compare_asked(store, *runs)
    assert (asked.problems, "its own template" in str(asked.note)) == ((), True)
    # Two servers that got the same messages: no more is known, and no less.
    assert compare_asked(store, runs[1], runs[1]).note is None

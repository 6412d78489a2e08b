"""What the pages can do: promote, roll back, mark as anchor, on real checkpoints of real lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app.settings import ACTIONS_VARIABLE
from harness.cli.app import main
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from tests.harness.suite_builders import suite_yaml, write_jsonl

LINE = "bot"


def _retrained(folder: Path, place: Path) -> Path:
    """The same model after a step too small to change what it thinks of a text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1 + 1e-6)
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(folder).save_pretrained(place)
    return place


def _suite(folder: Path) -> Path:
    rows = [{"id": n, "text": f"Sentence {n} is {n * n} words from home."} for n in range(120)]
    write_jsonl(folder / "texts.jsonl", rows)
    task = {"data": "texts.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    return suite_yaml(folder, name="texts", tasks={"read": task})


def _open(view: str, **params: str) -> AppTest:
    def script(first: str) -> None:
        from dashboard.app.main import run

        run(first)

    app = AppTest.from_function(script, default_timeout=280, args=(view,))
    for name, value in params.items():
        app.query_params[name] = value
    return app.run()


def _confirm(app: AppTest, place: str, reason: str) -> AppTest:
    app.text_input(key=f"{place}.reason").input(reason)
    app.text_input(key=f"{place}.typed").input(LINE).run()
    app.button(key=f"{place}.go").click().run()
    said = "\n".join(str(block.value) for block in (*app.error, *app.code))
    assert [str(block.value) for block in app.success if block.value == "done"], said
    return app


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_promotion_and_a_roll_back_through_the_pages(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    monkeypatch.setenv(ACTIONS_VARIABLE, "1")
    suite, better = _suite(tmp_path), _retrained(tiny_llama, tmp_path / "better")
    assert main(["promote", str(tiny_llama), "--line", LINE, "--suite", str(suite)]) == 0
    assert main(["gate", str(better), "--against", f"line:{LINE}", "--suite", str(suite)]) == 0
    with Store(Workspace.at()) as store:
        registry = Registry(store.workspace, store)
        first = registry.promoted(LINE)
        (verdict,) = store.query(
            "SELECT verdict_id, candidate_run FROM verdicts ORDER BY seq DESC LIMIT 1"
        )
        second = registry.add(better, run_id=verdict["candidate_run"])
    assert first is not None

    _confirm(_open("verdict", verdict=verdict["verdict_id"]), "promote", "fresh from the page")
    with Store(Workspace.at()) as store:
        promoted = Registry(store.workspace, store).promoted(LINE)
    assert promoted is not None
    assert (promoted.digest, promoted.number) == (second, 2)
    assert (promoted.reason, promoted.override) == ("fresh from the page", None)
    assert promoted.verdict_id != verdict["verdict_id"], "it was not decided once more"

    app = _confirm(_open("overview"), f"rollback.{LINE}", "it was rude")
    with Store(Workspace.at()) as store:
        promoted = Registry(store.workspace, store).promoted(LINE)
        told = store.query("SELECT event, reason FROM checkpoints ORDER BY seq DESC LIMIT 1")
    assert promoted is not None
    assert (promoted.digest, promoted.number) == (first.digest, 3)
    assert told == [{"event": "rolled_back", "reason": "it was rude"}]
    assert not app.exception

    monkeypatch.setattr("streamlit.user", {"is_logged_in": True, "email": "ana@example.org"})
    _mark_as_anchor(verdict["candidate_run"], first.digest, second)


def _mark_as_anchor(run_id: str, before: str, digest: str) -> None:
    app = _open("samples", b=run_id)
    app.selectbox(key="anchor.line").select(LINE).run()
    assert app.button(key="anchor.go").disabled, "neither a reason nor the line's name was given"
    app.text_input(key="anchor.typed").input(LINE).run()
    assert app.button(key="anchor.go").disabled, "no reason was given"
    with Store(Workspace.at()) as store:
        promoted = Registry(store.workspace, store).promoted(LINE)
    assert promoted is not None
    assert promoted.digest == before
    _confirm(app, "anchor", "the old one was trained on the test data")
    with Store(Workspace.at()) as store:
        registry = Registry(store.workspace, store)
        promoted = registry.promoted(LINE)
        told = store.query("SELECT event, actor, reason FROM checkpoints ORDER BY seq DESC LIMIT 1")
    assert promoted is not None
    assert (promoted.digest, promoted.run_id, promoted.number) == (digest, run_id, 4)
    assert promoted.override == "the old one was trained on the test data"
    assert told == [{"event": "promoted", "actor": "ana@example.org", "reason": promoted.override}]

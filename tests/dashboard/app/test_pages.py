"""Every view opens, in both languages, on a history and on nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app import navigation as views
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.store import Store

ROOT = Path(views.__file__).parent
VIEWS = [view for section in views.VIEWS.values() for view in section]


def _open(view: str, **params: str) -> AppTest:
    def script(first: str) -> None:
        from dashboard.app.main import run

        run(first)

    app = AppTest.from_function(script, default_timeout=60, args=(view,))
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    assert not app.error, app.error[0].value
    return app


def _texts(app: AppTest) -> str:
    parts = [*app.title, *app.markdown, *app.caption, *app.info, *app.subheader, *app.code]
    return "\n".join(str(part.value) for part in parts)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_opens(view: str, demo: Store) -> None:
    app = _open(view)
    assert app.title[0].value
    assert "{" not in app.title[0].value
    assert any("ratchet demo-data" in str(badge.value) for badge in app.markdown)


@pytest.mark.parametrize("view", ["overview", "verdict", "samples"])
def test_in_chinese(view: str, demo: Store) -> None:
    app = _open(view, lang="zh")
    title = app.title[0].value
    assert any("\u4e00" <= character <= "\u9fff" for character in title)


@pytest.mark.parametrize("view", VIEWS)
def test_an_empty_store_says_what_to_type(
    view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    app = _open(view)
    assert any("ratchet " in block.value for block in app.code)


def test_the_first_page_answers(demo: Store) -> None:
    text = _texts(_open("overview"))
    assert "demo\\-support\\-bot" in text
    assert "v2" in text
    assert "What needs a human" in text
    strip = next(line for line in text.splitlines() if line.startswith("Promoted"))
    assert "bytes" in strip
    assert "suite demo" in strip
    assert "seed" in strip


def test_filters_live_in_the_address(demo: Store) -> None:
    app = _open("trend", metric="general/perplexity", scope="demo-first")
    assert app.selectbox(key="pick.metric").value == "general/perplexity"
    assert app.selectbox(key="pick.scope").value == "demo-first"
    app.selectbox(key="pick.metric").select("intents/json_match").run()
    assert "intents/json_match" in app.query_params["metric"]


def test_a_broken_address_still_opens(demo: Store) -> None:
    _open("trend", metric="no/such", scope="<script>", suite="\u202e")
    _open("samples", a="nobody", b="nobody", page="minus one")


def test_regressed_first_and_paged(demo: Store) -> None:
    app = _open("samples", metric="intents/json_match", kind="all")
    before = [m.value for m in app.markdown]
    app.button(key="page.after").click().run()
    assert not app.exception
    assert [m.value for m in app.markdown] != before
    assert "2" in app.query_params["page"]


def test_actions_are_off_by_default(demo: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.app.settings import ACTIONS_VARIABLE

    monkeypatch.delenv(ACTIONS_VARIABLE, raising=False)
    assert not [b for b in _open("verdict").button if "go" in str(b.key)]
    monkeypatch.setenv(ACTIONS_VARIABLE, "1")
    (button,) = [b for b in _open("verdict").button if str(b.key) == "promote.go"]
    assert button.disabled


def test_an_action_runs_the_verb_of_the_command_line(
    demo: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboard.app.settings import ACTIONS_VARIABLE

    monkeypatch.setenv(ACTIONS_VARIABLE, "1")
    app = _open("overview")
    place = "rollback.demo-support-bot"
    app.text_input(key=f"{place}.reason").input("it was rude")
    app.text_input(key=f"{place}.typed").input("demo-support-bo").run()
    assert app.button(key=f"{place}.go").disabled
    app.text_input(key=f"{place}.typed").input("demo-support-bot").run()
    app.button(key=f"{place}.go").click().run()
    # The demo's line has no files on disk, and the verb says so, as it does in a terminal.
    assert any("exit code 3" in str(error.value) for error in app.error)
    assert any("nothing was ever promoted" in block.value for block in app.code)


def test_streamlit_finds_no_pages_of_its_own() -> None:
    """A folder `pages` beside the script would be served at its addresses, past our menu: the first
    address that a fresh server is asked for would then show an empty page.
    """
    assert (ROOT / "main.py").is_file()
    assert not (ROOT / "pages").exists()


def test_the_median_time_to_a_vote_lies_between_the_two_middle_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".ratchet"))
    with Store(Workspace.at().ensure()) as store:
        store.append("votes", [_vote("a", 1000.0), _vote("b", 3000.0)])
    times = [m.value for m in _open("humans").metric if m.label == "median time to a vote"]
    assert times == ["2.0 s"]


def _vote(name: str, dwell_ms: float) -> dict[str, object]:
    sides = {"left_key": "k0", "right_key": "k1", "left_model": "d0", "right_model": "d1"}
    return {
        "vote_id": name, "session_id": "s", "rater": name, "rater_kind": "human",
        "pair_id": "0.0.1", "purpose": "plain", "task": "ask", "sample_id": "0", **sides,
        "choice": "left", "dimension": "preference", "dwell_ms": dwell_ms,
    }  # fmt: skip

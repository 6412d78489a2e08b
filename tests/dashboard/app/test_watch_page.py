"""The page of a served line: observations, verdicts, actions, and hostile text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app.runbook import MEANS, means
from dashboard.i18n.zh import SENTENCES
from harness.core.workspace import HOME_VARIABLE
from harness.watch.monitor.signals import BY_NAME
from harness.watch.monitor.verdict import AtAlarm
from harness.watch.rollout import ramp as ramps
from harness.watch.rollout.actions import act
from harness.watch.rollout.circuit_breaker import SIGNAL
from tests.dashboard.app.stories import tables
from tests.harness.line_stories import Story
from tests.harness.watch.watch_builders import LINE, Line, verdict_on

ROOT = Path(__file__).parents[3]
SLY = "<script>alert(1)</script> [click](http://evil.example) :red[**PASS**]"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A line that was taken back, on which a canary runs, with some traffic of today."""
    line = Line(tmp_path_factory.mktemp("watched"), "first", "second", "third")
    verdict = verdict_on(line.digests["third"])
    signals = (replace(verdict.signals[0], reason=SLY),)
    failed = replace(verdict, signals=signals, policy_digest="p" * 64)
    line.store.append("watch_verdicts", [failed.row()])
    act(failed, line.registry, line.store, act=True)
    line.digests["new"] = line.add("new")
    ramps.begin(line.store, line.registry, LINE, line.digests["new"], act=True, override=SLY)
    moment = datetime.now(UTC) - timedelta(minutes=1)
    line.observe(
        *(
            {
                "observation_id": f"o{i}",
                "prompt": SLY,
                "response": SLY,
                "latency_s": 0.2,
                "error": SLY if i == 3 else None,
                "observed_at": moment,
            }
            for i in range(40)
        )
    )
    yield line
    line.store.close()


def _open(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, errors: bool = False, **params: str
) -> AppTest:
    monkeypatch.setenv(HOME_VARIABLE, str(home))

    def script() -> None:
        from dashboard.app.main import run

        run("watch")

    app = AppTest.from_function(script, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    assert errors or not app.error, app.error[0].value
    return app


def test_what_happened_and_why(watched: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _open(watched.workspace.home, monkeypatch, line=LINE)
    said = "\n".join(str(part.value) for part in [*app.markdown, *app.caption])
    assert "rolled back to **v4**" in said
    assert "fail" in said
    assert watched.digests["third"][:12] in said
    taken_back, alarm = (w.value for w in app.warning)
    assert taken_back.startswith("Taken back")
    assert "was taken back" in alarm
    for text in (taken_back, alarm):
        assert "[click](" not in text
        assert "<script>" not in text
    assert any("1.0%" in str(box.value).replace("\\", "") for box in app.info)
    (looked,) = (frame.value for frame in app.dataframe)
    failed, done = tables(app)
    assert failed["signal"].tolist() == looked["signal"].tolist() == ["thumbs_up ↑"]
    assert done["what"].tolist() == ["ramped", "rolled back"]
    assert done["done"].tolist() == ["done", "done"]
    assert SLY in done["why"].tolist()[1]


def test_in_chinese(watched: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _open(watched.workspace.home, monkeypatch, line=LINE, lang="zh")
    assert app.title[0].value == "监控"
    assert any("信号" in str(column) for frame in app.dataframe for column in frame.value.columns)


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    told = Story(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(told.store.workspace.home))
    yield told
    told.store.close()


def _said(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.warning, *app.error, *app.info, *app.code]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def test_a_held_act_is_no_dry_run(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    story.act(story.look("fail"))
    app = _read(story, monkeypatch)
    said = _said(app)
    assert "nothing could be done: held" in said
    assert "dry run" not in said
    done = tables(app)[-1]
    assert done["done"].tolist() == ["nothing could be done"]
    assert "ratchet rollback support-bot --to" in said
    assert "docs/oncall.md" in said


def test_a_dry_run_says_how_to_do_it(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    story.promote("two")
    story.act(story.look("fail"), act=False)
    said = _said(_read(story, monkeypatch))
    assert "dry run: nothing was changed" in said
    assert "ratchet watch check support-bot --act" in said


def test_the_numbers_are_those_of_the_alarm(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    first = story.look("fail")
    at = AtAlarm(first.decided_at, value=0.153, low=0.14, high=0.17, n=3_474)
    later = replace(first.signals[0], value=0.375, n=24, at_alarm=at)
    row = replace(first, watch_id="w-frozen", signals=(later,)).row()
    story.store.append("watch_verdicts", [row])
    app = _read(story, monkeypatch, watch="w-frozen")
    (looked,) = (frame.value for frame in app.dataframe)
    assert looked["value"].tolist() == ["0.153"]
    assert looked["conversations"].tolist() == ["3,474"]
    assert looked["since then"].tolist() == ["0.375 (24)"]


def test_an_alarm_is_answered_here(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    verdict = story.look("fail")
    app = _read(story, monkeypatch)
    key = f"alarm.{verdict.watch_id}"
    assert app.button(key=f"{key}.false").disabled
    app.text_input(key=f"{key}.why").input("a load test").run()
    app.button(key=f"{key}.false").click().run()
    assert not app.exception
    assert story.state().serving.false_alarm
    said = _said(_read(story, monkeypatch))
    assert "An alarm was called false: a load test" in said


def test_a_look_that_is_gone_is_named(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    story.look("pass")
    app = _open(story.store.workspace.home, monkeypatch, errors=True, line=LINE, watch="nobody")
    assert any("nobody" in str(box.value) for box in app.error)


def test_a_version_of_the_same_bytes_says_so(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    story.promote("two")
    story.roll_back()
    assert "the bytes of v1" in _said(_read(story, monkeypatch))


def test_a_reason_in_chinese(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.promote("one")
    story.act(story.look("fail"))
    said = _said(_read(story, monkeypatch, lang="zh"))
    assert "之前没有可以退回的版本" in said
    assert "告警 w-" in said, "the report to be copied, too"
    assert "has no version before it" not in said


def _read(story: Story, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    import streamlit as st

    st.cache_data.clear()
    return _open(story.store.workspace.home, monkeypatch, errors=True, line=LINE, **params)


def test_the_runbook_of_the_pages_is_that_of_the_docs() -> None:
    """Every signal has its paragraph in docs/oncall.md, on the card and in Chinese."""
    page = (ROOT / "docs" / "oncall.md").read_text(encoding="utf-8")
    signals = page.partition("## Signal by signal")[2].partition("\n## ")[0]
    found = dict(re.findall(r"### ([a-z-]+)\n(.*?)(?=\n### |\Z)", signals, re.DOTALL))
    bare = {name.replace("-", "_"): _bare(text) for name, text in found.items()}
    assert {name: _bare(text) for name, text in MEANS.items()} == bare
    assert all(means(name) for name in (*BY_NAME, SIGNAL))
    assert set(MEANS.values()) <= set(SENTENCES)


def _bare(text: str) -> str:
    """Without marks of Markdown, and without the names of what the heading stands for."""
    text = " ".join(text.replace("`", "").split())
    text = text.removeprefix("latency_p50, latency_p95, latency_p99: ")
    return text[0].upper() + text[1:]

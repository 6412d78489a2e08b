"""Today tells the story of a line as it is, in both languages, and takes people's answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from harness.comparison.line_words import needs
from harness.core.workspace import HOME_VARIABLE
from tests.dashboard.app.stories import tables
from tests.harness.line_stories import LINE, Story

SLY = "<b>no</b> [click](http://evil.example) :red[**PASS**]"


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    told = Story(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(told.store.workspace.home))
    yield told
    told.store.close()


def _today(**params: str) -> AppTest:
    import streamlit as st

    def script() -> None:
        from dashboard.app.main import run

        run("overview")

    st.cache_data.clear()
    app = AppTest.from_function(script, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    return app


def _text(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.warning, *app.success, *app.info]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def test_after_the_quickstart_today_says_what_is_promoted(story: Story) -> None:
    story.train("t1", "started", "finished", "promoted")
    story.add("base", "t1", 0)
    story.judge("step 48", "inconclusive", "base", training="t1", step=48)
    verdict = story.judge("step 40", "inconclusive", "base", improvement="better")
    story.promote("step 40", verdict)
    said = _text(_today())
    assert "is promoted since" in said
    assert "proven better" in said
    assert "The candidate judged last is what is promoted." in said
    assert "not yet" not in said
    assert "undecided" not in said
    assert "Nothing waits for you." in said


def test_a_failure_of_what_is_served_is_red_on_top(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.act(story.look("fail"))
    app = _today()
    (strip,) = [str(box.value) for box in app.error]
    assert "FAIL: thumbs" in strip.replace("\\", "")
    assert "nothing could be done" in strip
    assert "has no version before it" in _text(app)
    assert "**decide**" in _text(app)


def test_a_failure_that_was_taken_back_is_told_until_somebody_has_seen_it(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.promote("two", story.judge("two", "pass", "one"))
    story.act(story.look("fail"))
    app = _today()
    assert not app.error
    assert "and was taken back." in _text(app)
    (need,) = needs(story.state())
    key = f"need.{need.about}"
    app.text_input(key=f"{key}.name").input("ana").run()
    app.button(key=f"{key}.ack").click().run()
    assert not app.exception
    (alarm,) = story.state().alarms
    assert alarm.answer.acknowledged_by == "ana"
    assert "Nothing waits for you." in _text(_today())


def test_advisory_failures_are_amber(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.look("pass", advisory="refusals")
    (strip,) = [str(box.value) for box in _today().warning]
    assert "refusals" in strip


def test_a_line_that_is_only_watched_is_no_empty_workspace(story: Story) -> None:
    seen = {"observation_id": "o1", "line": LINE, "prompt": "a", "response": "b"}
    story.store.append("observations", [seen])
    said = _text(_today())
    assert "No model was scored here yet" not in said
    assert "Nothing is promoted yet." in said
    assert "Traffic was seen" in said


def test_trainings_in_progress(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.train("t1", "started", "checkpoint", "held")
    said = _text(_today())
    assert "t1 · step 0" in said
    assert "has stopped" not in said


def test_one_row_for_each_candidate(story: Story) -> None:
    story.add("base")
    story.promote("base")
    story.judge("two", "inconclusive", "base")
    story.judge("two", "fail", "base", against="crest")
    story.judge("three", "pass", "base")
    (table,) = tables(_today())
    assert table["candidate"].tolist() == ["model three", "model two"]
    assert table["verdict"].tolist() == ["✓ pass", "✗ fail"]
    assert all(lead.startswith("verdict?verdict=") for lead in table["leads"])


def test_in_chinese_with_names_that_are_hostile(story: Story) -> None:
    story.promote("one")
    story.judge(SLY.replace("/", "_"), "inconclusive", "one")
    app = _today(lang="zh")
    said = _text(app)
    assert "尚无定论：暂不发布" in said
    (table,) = [b.proto.body for b in app.get("html") if 'class="leads"' in b.proto.body]
    assert "&lt;b&gt;no" in table
    assert "<b>" not in table
    assert "能发布吗？" in said
    shown = "\n".join(str(m.value) for m in app.markdown)
    assert "[click](" not in shown
    assert "<b>" not in shown

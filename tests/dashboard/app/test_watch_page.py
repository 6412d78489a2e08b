"""The page of a served line: observations, verdicts, actions, and hostile text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from harness.core.workspace import HOME_VARIABLE
from harness.watch.rollout import ramp as ramps
from harness.watch.rollout.actions import act
from tests.harness.watch.watch_builders import LINE, Line, verdict_on

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


def _open(home: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    monkeypatch.setenv(HOME_VARIABLE, str(home))

    def script() -> None:
        from dashboard.app.main import run

        run("watch")

    app = AppTest.from_function(script, default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    assert not app.error, app.error[0].value
    return app


def test_what_happened_and_why(watched: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _open(watched.workspace.home, monkeypatch, line=LINE)
    said = "\n".join(str(part.value) for part in [*app.markdown, *app.caption])
    assert "rolled back to **v4**" in said
    assert "fail" in said
    assert watched.digests["third"][:12] in said
    (taken_back,) = [w.value for w in app.warning]
    assert taken_back.startswith("Taken back")
    assert "[click](" not in taken_back
    assert "<script>" not in taken_back
    assert any("1.00%" in str(box.value) for box in app.info)
    signals, done = (frame.value for frame in app.dataframe)
    assert signals["signal"].tolist() == ["thumbs_up"]
    assert done["what"].tolist() == ["ramped", "rolled back"]
    assert SLY in done["why"].tolist()[1]
    assert app.selectbox(key="pick.watch").value == "w-1"


def test_in_chinese(watched: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _open(watched.workspace.home, monkeypatch, line=LINE, lang="zh")
    assert app.title[0].value == "监控"
    assert any("信号" in str(column) for frame in app.dataframe for column in frame.value.columns)

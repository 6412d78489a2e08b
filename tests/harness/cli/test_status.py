"""`ratchet status` says what the pages say, and exits as the gate does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import HOME_VARIABLE, Workspace
from harness.store.store import Store
from tests.harness.line_stories import LINE, Story


@pytest.fixture
def story(home: Workspace, tmp_path: Path) -> Story:
    return Story(tmp_path, Store(home.ensure()))


def test_all_is_well(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    story.promote("one", story.judge("one", "pass"))
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert LINE in said
    assert "on a PASS" in said
    assert "Its traffic is not watched." in said


def test_what_waits_is_2_and_what_fails_is_1(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.judge("two", "pass", "one")
    assert main(["status", LINE]) == 2
    assert "act" in capsys.readouterr().out
    story.act(story.look("fail"))
    assert main(["status", f"line:{LINE}"]) == 1
    assert "FAIL: thumbs_up since" in capsys.readouterr().out
    story.promote("other", line="calm")
    assert main(["status"]) == 1, "the worst line decides"


def test_json_has_a_line_for_each_line(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    story.promote("one")
    story.promote("other", line="calm")
    story.act(story.look("fail"))
    main(["status", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_line = {row["line"]: row for row in rows}
    assert by_line[LINE]["exit_code"] == 1
    assert by_line[LINE]["serving"]["outcome"] == "fail"
    assert by_line[LINE]["alarms"][0]["signals"] == ["thumbs_up"]
    assert by_line["calm"]["exit_code"] == 0
    assert by_line["calm"]["promoted"]["version"] == 1


def test_a_mistyped_name_is_an_error(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    story.promote("one")
    assert main(["status", "suport-bot"]) == 3
    assert LINE in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["status"], ["alerts"], ["watch", "status"], ["history"]])
def test_a_mistyped_home_is_an_error_and_creates_nothing(
    verb: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "unset")
    wrong = tmp_path / ".rachet"
    assert main([*verb, "--home", str(wrong)]) == 3
    said = capsys.readouterr().err
    assert "there is no workspace here" in said
    assert "--home" in said
    assert not wrong.exists()

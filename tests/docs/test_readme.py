"""The README's first screen, held to the figures that it shows; its Python example runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from harness.core.format import number, percent

ROOT = Path(__file__).parents[2]
HOMES = ("README.md", "README.zh.md")
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@pytest.fixture
def rollback(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    import rollback

    return rollback


@pytest.mark.parametrize("home", HOMES)
def test_the_first_screen_is_a_picture_a_table_and_two_commands(home: str) -> None:
    screen = "\n".join((ROOT / home).read_text(encoding="utf-8").splitlines()[:24])
    assert screen.count("![") == 1
    assert "docs/images/rollback.svg" in screen
    rows = [line for line in screen.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    [commands] = re.findall(r"```\n(.*?)```", screen, re.DOTALL)
    assert len(commands.splitlines()) == 2


@pytest.mark.parametrize("home", HOMES)
def test_the_table_is_the_verdict_of_that_training(home: str, rollback: ModuleType) -> None:
    text = (ROOT / home).read_text(encoding="utf-8")
    rows = {row["metric"]: row for row in rollback.recorded()["failed"]}
    shown = re.findall(r"^\| `([\w/]+)` \| (\S+) \| (\S+) \|", text, re.MULTILINE)
    assert len(shown) == 4
    for metric, before, after in shown:
        row = rows[metric]
        assert (before, after) == (number(row["anchor"]), number(row["candidate"])), metric


def test_the_page_tells_of_the_same_training(rollback: ModuleType) -> None:
    run = rollback.recorded()
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert run["training"] in page
    promoted = run["checkpoints"][-1]
    failed = next(one for one in run["checkpoints"] if not one["kept"])
    assert f"rolling back from step {failed['step']} to step {failed['back_to']}" in page
    drawn = rollback.draw_rollback().drawn()
    assert f"{percent(promoted['score'])}: promoted" in drawn.replace(".0%", "%")
    assert f"{failed['score']:.0%}: fails" in drawn


@pytest.mark.parametrize("home", HOMES)
def test_the_python_example_runs_and_prints_what_is_shown(
    home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = EXAMPLE.search((ROOT / home).read_text(encoding="utf-8"))
    assert found is not None
    program, shown = found.groups()
    assert program.startswith("from harness import ")
    exec(compile(program, home, "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("FAIL: ")
    if shown is not None:
        assert printed == shown

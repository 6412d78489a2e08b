"""`ratchet data`, with the commands, the pipeline and the step of docs/datasets.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.data.datasets import read_version
from trainers.data.rows import Placed, Why
from trainers.data.step import Context

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
THINGS = ("router", "lamp", "phone", "clock", "oven", "car", "door", "bell")
ROWS = [
    {"question": f"How do I {verb} the {name}?", "answer": f"Press the button of the {name} twice."}
    for verb in ("reset", "clean", "repair", "return", "charge")
    for name in THINGS
]


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "support.yaml").write_text(fenced("yaml")[0], encoding="utf-8")
    (tmp_path / "raw").mkdir()
    lines = [json.dumps({**row, "topic": "devices"}) for row in ROWS * 2]
    (tmp_path / "raw" / "a.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    commands = [shlex.split(line, comments=True)[1:] for line in fenced("sh")[0].splitlines()]
    build, show, diff = commands
    assert main(build) == 0
    said = capsys.readouterr().out
    assert "the same as another row" in said
    assert all(len(line.rstrip()) <= 80 for line in said.splitlines())
    assert main(build) == 0
    assert "nothing is new" in capsys.readouterr().out
    changed = (tmp_path / "support.yaml").read_text(encoding="utf-8").replace("  - exact\n", "")
    (tmp_path / "support.yaml").write_text(changed, encoding="utf-8")
    assert main(build) == 0
    assert read_version(tmp_path / "datasets" / "support" / "v2").meta["rows"]["train"] > 40
    capsys.readouterr()
    assert main(show) == 0
    assert "raw/a.jsonl line 81" in capsys.readouterr().out
    assert main(diff) == 0
    said = capsys.readouterr().out
    assert "40 rows came, 0 went, 0 changed" in said
    assert "support@v1: exact: the same as another row" in said
    (tmp_path / "new.jsonl").write_text(lines[0], encoding="utf-8")
    required = "\nrequirements:\n  personal: {}\n"
    (tmp_path / "support.yaml").write_text(changed + required, encoding="utf-8")
    for check in fenced("sh")[1].splitlines():
        assert main(shlex.split(check, comments=True)[1:]) == 0
    assert "0 of 1 rows hold personal data" in capsys.readouterr().out
    (tmp_path / "new.jsonl").write_text(lines[0].replace("twice", "or ask ana@example.com"))
    assert main(shlex.split(check, comments=True)[1:]) == 1
    assert "refused personal: 1 of 1" in capsys.readouterr().out
    assert main(["data", "show", "suport"]) == 3
    assert "did you mean 'support'" in capsys.readouterr().err


def test_the_pages_step() -> None:
    space: dict[str, Any] = {}
    exec(fenced("python")[0], space)
    rows = [Placed("a", n, str(n), {"text": text}) for n, text in enumerate(("Is it?", "It is."))]
    kept, drops = space["NoQuestions"]().run("no_questions", rows, Context(Path()))
    assert [placed.line for placed in kept] == [1]
    assert [drop.reason for drop in drops] == [Why("a question").reason]

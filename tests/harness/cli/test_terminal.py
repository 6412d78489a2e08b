"""What the verbs print on 80 columns: nothing is longer, and names stand whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import CAPITALS, scripted, suite_yaml

LONG = "customer-intents-of-the-help-desk-zh"
CHINESE = "意图识别"


@pytest.fixture
def compared(tmp_path: Path, home: Workspace) -> tuple[Path, str, str]:
    """A suite with long and Chinese names, and two runs on it: a good one and a worse one."""
    task = {
        "data": "capitals.jsonl",
        "prompt": {"user": "Capital of {{ country }}?"},
        "generate": {"max_new_tokens": 16},
        "reference": "{{ capital }}",
    }
    tasks = {
        LONG: {**task, "metrics": ["exact_match", "reference_nll", "length"]},
        CHINESE: {**task, "metrics": ["exact_match", "length"]},
    }
    metrics = {
        f"{LONG}/exact_match": {"required": True},
        f"{LONG}/length": {"advisory": True},
        f"{CHINESE}/length": {"advisory": True},
    }
    path = suite_yaml(tmp_path, tasks=tasks, gate={"metrics": metrics})
    suite = load_suite(path)
    with Store(home) as store:
        good, _ = scripted()
        worse, _ = scripted({**CAPITALS, "Peru": "no", "Chad": "idea"}, name="worse")
        runs = [score(model, suite, store).run.id for model in (good, worse)]
    return path, runs[0], runs[1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_verb_prints_past_the_width_or_breaks_a_name(
    compared: tuple[Path, str, str],
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite, first, second = compared
    monkeypatch.setenv("COLUMNS", str(width))
    commands = (
        ["gate", f"run:{second}", "--against", f"run:{first}", "--suite", str(suite)],
        ["report", second, "--all"],
        ["runs"],
        ["suites", "check", str(suite), "--model", "none"],
    )
    capsys.readouterr()
    for words in commands:
        main(words)
        said = capsys.readouterr().out.splitlines()
        assert [line for line in said if cell_len(line.rstrip()) > width] == [], words
        assert any(f"{LONG}/exact_match" in line for line in said), words
        assert any(f"{CHINESE}/exact_match" in line for line in said), words


def test_a_pipe_gets_no_empty_line_of_a_progress_bar(
    compared: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    suite, first, second = compared
    main(["gate", f"run:{second}", "--against", f"run:{first}", "--suite", str(suite)])
    assert capsys.readouterr().out.splitlines()[0].endswith(f"(run:{second})")


def test_all_shows_the_advisory_metrics_and_the_json_has_them_always(
    compared: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, first, second = compared
    words = ["gate", f"run:{second}", "--against", f"run:{first}", "--suite", str(suite)]
    folded = "2 advisory metrics: "
    capsys.readouterr()
    main([*words, "--json", str(tmp_path / "verdict.json")])
    said = capsys.readouterr().out
    assert folded in said
    assert "--all shows them" in said
    assert f"{CHINESE}/length" not in said
    main([*words, "--all"])
    said = capsys.readouterr().out
    assert folded not in said
    assert f"{CHINESE}/length" in said
    rows = json.loads((tmp_path / "verdict.json").read_text("utf-8"))["rows"]
    assert {row["metric"] for row in rows if row["folded"]} == {
        f"{LONG}/length",
        f"{CHINESE}/length",
    }
    assert sorted(row["order"] for row in rows) == list(range(1, len(rows) + 1))

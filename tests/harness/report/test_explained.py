"""Why, in the Markdown report: where, what kind, which words; of imported runs as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.report.explained import explained_markdown
from harness.store.store import Store
from tests.harness.suite_builders import verdict_between

GOOD, BAD = "It is 7 <b>o'clock</b>.", "It is 9 ![x](http://leak.example/a.png)."


@pytest.fixture
def verdict(tmp_path: Path, store: Store) -> str:
    kinds = ("refund", "address", "opening")
    rows: list[Mapping[str, Any]] = [
        {"id": n, "q": f"{kinds[n % 3]} {n}", "a": GOOD, "kind": kinds[n % 3]} for n in range(90)
    ]
    right = dict.fromkeys(kinds, GOOD)
    return verdict_between(tmp_path, store, rows, right, {**right, "refund": BAD})


def test_it_says_where_what_kind_and_which_words(verdict: str, store: Store) -> None:
    said = explained_markdown(store, store.workspace, verdict)
    assert "- kind refund: 1.000 lost on 30" in said
    assert "another number, 0 → 30 of 90 samples" in said
    assert "**7**" in said
    assert "**9**" in said
    page = MarkdownIt().render(said)
    assert "<img" not in page
    assert "<b>" not in page


def test_a_report_and_a_gate_write_it(
    verdict: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [row] = store.query("SELECT candidate_run, anchor_run FROM verdicts")
    home = ["--home", str(store.workspace.home)]
    run, anchor = row["candidate_run"], row["anchor_run"]
    place = tmp_path / "why.md"
    assert main([*home, "report", run, "--markdown", "-o", str(place)]) == 0
    said = place.read_text("utf-8")
    assert "### Why" in said
    assert said.index("| metric |") < said.index("### Why") < said.index("Every metric in words")
    assert main([*home, "report", run, "--markdown", "--html"]) == 3
    assert main([*home, "report", anchor, "--markdown"]) == 3
    assert "no verdict" in capsys.readouterr().err
    words = ["gate", f"run:{run}", "--against", f"run:{anchor}", "--markdown", str(place)]
    assert main([*home, *words]) in (1, 2)
    assert "kind refund" in place.read_text("utf-8")


def test_runs_that_were_imported_are_explained_all_the_same(
    verdict: str, store: Store, tmp_path: Path
) -> None:
    """As a bundle brings them elsewhere: without their models."""
    [row] = store.query("SELECT candidate_run, anchor_run FROM verdicts")
    home, other = ["--home", str(store.workspace.home)], ["--home", str(tmp_path / "other")]
    for side in ("anchor_run", "candidate_run"):
        assert main([*home, "export", row[side], str(tmp_path / side)]) == 0
        assert main([*other, "import", str(tmp_path / side)]) == 0
    words = ["gate", f"run:{row['candidate_run']}", "--against", f"run:{row['anchor_run']}"]
    assert main([*other, *words]) in (1, 2)
    workspace = Workspace.at(tmp_path / "other")
    with Store(workspace) as elsewhere:
        [there] = elsewhere.query("SELECT verdict_id FROM verdicts")
        said = explained_markdown(elsewhere, workspace, there["verdict_id"])
    assert "- kind refund: 1.000 lost on 30" in said
    assert "another number" in said

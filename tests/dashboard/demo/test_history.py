"""What the demo wrote is a workspace like any other: the command reads it."""

from __future__ import annotations

from pathlib import Path

from harness.cli.app import main
from harness.store.store import Store


def test_the_report_of_a_failed_candidate_is_one_inert_file(demo: Store, tmp_path: Path) -> None:
    rows = demo.query("SELECT candidate_run AS r FROM verdicts WHERE outcome = 'fail' LIMIT 1")
    place = tmp_path / "report.html"
    assert main(["report", rows[0]["r"], "--html", "-o", str(place)]) == 0
    page = place.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http:" not in page.replace("http-equiv", "")
    assert "more than the 5% allowed" in page
    assert "intents/json_match" in page

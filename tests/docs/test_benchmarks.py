"""What measures can be run: by hand and seldom, so a renamed piece would go unnoticed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURES = sorted(
    path.stem
    for kind in ("bench", "figures")
    for path in (ROOT / "tests" / "benchmarks").glob(f"{kind}_*.py")
)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_can_be_imported_and_run(name: str) -> None:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    assert not name.startswith("bench_") or callable(module.run)


def test_the_commands_in_the_docs_name_measures() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")]
    named = {n for page in pages for n in re.findall(r"tests[./]benchmarks[./](\w+)", page)}
    topics = {n for page in pages for n in re.findall(r"-m tests\.benchmarks ([a-z_]+)", page)}
    assert named <= set(MEASURES)
    assert {f"bench_{topic}" for topic in topics} <= set(MEASURES)


def test_every_page_of_the_dashboard_is_timed() -> None:
    from dashboard.app.navigation import VIEWS
    from tests.benchmarks.bench_dashboard import SHOWN

    assert set(SHOWN) == {view for part in VIEWS.values() for view in part}

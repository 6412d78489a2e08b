"""docs/code.md: its rows and its suite are taken from the page and used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from harness.core.types import Response, Sample
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.code_tests import CodeTests
from harness.suite.load import load_suite

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/code.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_pages_own_rows_work_unchanged():
    answers = {
        "add": "```python\ndef add(a, b):\n    return a + b\n```",
        "double": "```python\nprint(2 * int(input()))\n```",
    }
    (block,) = blocks("json")
    rows = [json.loads(line) for line in block.splitlines()]
    assert [row["id"] for row in rows] == list(answers)
    items = [
        MetricItem(
            Sample(row["id"], "t", fields=row),
            (Response("k", row["id"], "t", "generation", 0, 0, answers[row["id"]]),),
        )
        for row in rows
    ]
    assert [found.value for (found,) in get_metric("code_tests").score(items)] == [1.0, 1.0]


def test_the_published_problems_load_unchanged(tmp_path):
    tasks = next(block for block in blocks("yaml") if "humaneval" in block)
    (tmp_path / "he.yaml").write_text("name: he\n" + tasks, encoding="utf-8")
    assert len(load_suite(tmp_path / "he.yaml").tasks[0].samples) == 164


def test_metrics_are_written_as_in_the_suite():
    suite = yaml.safe_load((ROOT / "suites/code.yaml").read_text(encoding="utf-8"))
    shown = yaml.safe_load(next(block for block in blocks("yaml") if "*tests" in block))
    wanted = suite["tasks"]["problems"]["metrics"]
    assert shown["metrics"] == wanted[:2]


def test_the_table_names_every_option():
    defaults = {"solutions": "none", "slack": "10", "workers": "2", "minimum": "B"}
    assert CodeTests().__dataclass_fields__.keys() == defaults.keys()
    for option, default in defaults.items():
        assert f"| `{option}` | {default} |" in PAGE


def test_the_counts_are_right():
    lines = (ROOT / "suites/data/code.solutions.jsonl").read_text(encoding="utf-8").splitlines()
    wrong = sum(len(json.loads(line)["wrong"]) for line in lines)
    assert f"{wrong} in all" in PAGE
    assert f"{len(lines)} problems" in PAGE

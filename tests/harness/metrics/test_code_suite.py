"""The programming problems that ship: references pass, and the tests kill every wrong program."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.code_tests import CodeTests
from harness.suite.load import load_suite

ROOT = Path(__file__).resolve().parents[3]
SOLUTIONS = ROOT / "suites/data/code.solutions.jsonl"


def rows_of(name):
    text = (ROOT / "suites/data" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


PROBLEMS = {row["id"]: row for row in rows_of("code.jsonl")}
SOLVED = {row["id"]: row for row in rows_of("code.solutions.jsonl")}


def item(problem, programs):
    answers = [f"```python\n{program}```" for program in programs]
    return MetricItem(
        Sample(problem, "t", fields=PROBLEMS[problem]),
        tuple(
            Response(f"{problem}{i}", problem, "t", "generation", i, 0, text)
            for i, text in enumerate(answers)
        ),
    )


def judged(problems, programs):
    """Every program's evidence, by problem."""
    items = [item(problem, programs(SOLVED[problem])) for problem in problems]
    return dict(zip(problems, CodeTests(solutions=str(SOLUTIONS)).score(items), strict=True))


def test_there_are_enough_problems_of_each_kind():
    assert PROBLEMS.keys() == SOLVED.keys()
    assert len(PROBLEMS) >= 60
    assert Counter(row["level"] for row in PROBLEMS.values()) == {
        "easy": 21, "medium": 26, "hard": 16,
    }  # fmt: skip
    assert Counter(row["language"] for row in PROBLEMS.values()) == {"en": 32, "zh": 31}
    assert sum("cases" in row for row in PROBLEMS.values()) == 6
    for name, solution in SOLVED.items():
        wrong = [program["program"] for program in solution["wrong"]]
        assert len(set(wrong)) == len(wrong) >= 3, name
        assert solution["reference"] not in wrong
        assert all(program["why"] for program in solution["wrong"])


def test_no_prompt_holds_a_test_or_a_solution():
    suite = load_suite(ROOT / "suites/code.yaml")
    for sample in suite.tasks[0].samples:
        said = "\n".join(message["content"] for message in sample.prompt)
        row, solution = PROBLEMS[sample.id], SOLVED[sample.id]
        assert row["statement"] in said
        assert solution["reference"].splitlines()[-1] not in said.splitlines()
        assert "assert" not in said
        assert "wrong" not in sample.fields
        assert "reference" not in sample.fields


def test_a_statement_names_what_is_asked_for_and_gives_an_example():
    for row in PROBLEMS.values():
        said = row["statement"]
        if "tests" in row:
            assert f"`{row['entry_point']}(" in said
            assert row["entry_point"] in row["tests"]
        assert "Example" in said or "例如" in said or "cases" in row, row["id"]


def test_every_reference_passes_where_its_judge_is_apart():
    for name, (evidence,) in judged(PROBLEMS, lambda solved: [solved["reference"]]).items():
        assert evidence.value == 1.0, (name, evidence)
        assert evidence.reason is None, (name, evidence)


@pytest.mark.parametrize(
    "level",
    ["easy", *(pytest.param(level, marks=pytest.mark.long) for level in ("medium", "hard"))],
)
def test_the_tests_kill_every_wrong_program(level):
    problems = [name for name, row in PROBLEMS.items() if row["level"] == level]
    found = judged(problems, lambda solved: [wrong["program"] for wrong in solved["wrong"]])
    for name, row in found.items():
        for wrong, evidence in zip(SOLVED[name]["wrong"], row, strict=True):
            assert evidence.outcome is ScoreOutcome.SCORED, (name, wrong["why"], evidence)
            assert evidence.value == 0.0, (name, wrong["why"])
            slow = any(word in wrong["why"] for word in ("quadratic", "tries every", "sorts each"))
            assert not slow or evidence.reason.startswith(("timeout:cpu", "fail:tests")), evidence


def test_pass_at_k_of_right_and_wrong_programs():
    name = "code-mask-card"
    wrong = [program["program"] for program in SOLVED[name]["wrong"]]
    asked = [item(name, [SOLVED[name]["reference"], *wrong[:3]])]
    options = {"of": "code_tests", "with_options": {"solutions": str(SOLUTIONS)}, "k": 2}
    (evidence,) = get_metric("pass_at_k", options).score(asked)[0]
    assert (evidence.value, evidence.stats) == (pytest.approx(0.5), (4.0, 1.0))
    (evidence,) = get_metric("pass_hat_k", options).score(asked)[0]
    assert evidence.value == 0.0

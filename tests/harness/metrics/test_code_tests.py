"""Programs of answers: judged in the sandbox, kept as scores, read back problem by problem."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from harness.backends.base import Candidate
from harness.comparison.evidence import metric_scores
from harness.core.errors import UserError
from harness.core.types import LOST, ScoreOutcome, VerdictOutcome
from harness.evaluation.plan import Extent
from harness.evaluation.runner import rescore, score
from harness.gate.decision import decide
from harness.metrics import code_tests, get_metric
from harness.report.failures import claims, outcome_sentences, problems
from harness.sandbox.outcome import Outcome
from harness.sandbox.pool import Sandbox
from harness.store import runs
from harness.suite.load import load_suite
from tests.harness.metrics.item_builders import ADD, judged, solved
from tests.harness.suite_builders import write_jsonl

RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"
WRONG = "```python\ndef add(a, b):\n    return a - b\n```"
ENDLESS = "```python\ndef add(a, b):\n    while True:\n        pass\n```"


def test_answers_pass_fail_or_hold_no_program():
    right, wrong, none, broken, gone = judged(
        RIGHT,
        WRONG,
        "I can't.",
        RIGHT.replace("a + b", "a +"),
        "```python\nimport os\nos._exit(0)\ndef add(a, b): 0\n```",
    )
    assert (right.value, right.reason) == (1.0, None)
    assert wrong.value == 0.0
    assert re.match(r"fail:tests \(line \d+, `.*add\(.*`: AssertionError", wrong.reason)
    assert (none.value, none.reason) == (0.0, "fail:no-code")
    assert broken.value == gone.value == 0.0
    assert broken.reason.startswith("fail:load")
    assert gone.reason.startswith("fail:exited")
    assert len(right.stats) == 4
    assert right.stats[3] == 0.0


def test_a_whole_program_must_pass_every_case():
    cases = [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "-3\n", "stdout": "-6\n"}]
    good, half = judged(
        "```python\nprint(int(input()) * 2)\n```",
        "```python\nn = int(input())\nprint(n + 2)\n```",
        tests=None, cases=cases, entry_point=None,
    )  # fmt: skip
    assert (good.value, half.value) == (1.0, 0.0)


def test_an_answer_may_go_on_with_the_prompt():
    code = 'def add(a, b):\n    """Sum."""\n'
    (evidence,) = judged("    return a + b", prompt_code=code)
    assert evidence.value == 1.0


def test_the_limit_follows_the_reference():
    """1.5 s are too much where the reference takes none, and fair where it takes 0.3 s."""
    busy = (
        "import time\ndef add(a, b):\n    end = time.process_time() + {seconds}\n"
        "    while time.process_time() < end:\n        pass\n    return a + b\n"
    )
    slow = f"```python\n{busy.format(seconds=0.75)}```"
    (evidence,) = judged(slow, reference=busy.format(seconds=0.15))
    assert evidence.value == 1.0
    (evidence,) = judged(slow, reference="def add(a, b): return a + b")
    assert evidence.reason.startswith("timeout:cpu")


def test_a_reference_that_fails_here_is_no_failure_of_the_model():
    (evidence,) = judged(RIGHT, reference="def add(a, b): return 0")
    assert evidence.outcome is ScoreOutcome.ERROR
    assert "own reference does not pass here: fail:tests" in evidence.reason


@pytest.mark.parametrize(
    "gone",
    [Outcome("infra", "the worker went away"), Outcome("timeout:wall-busy", "not done after 9 s")],
    ids=lambda gone: gone.label,
)
def test_what_the_machine_lost_is_neither_pass_nor_failure(monkeypatch, gone):
    def lost(self, jobs):
        return [gone for _ in jobs]

    code_tests.forget()
    answers = RIGHT.replace("b)", "c)").replace("+ b", "+ c"), "no program"
    monkeypatch.setattr(Sandbox, "run_many", lost)
    error, none = judged(*answers)
    assert error.outcome is ScoreOutcome.ERROR
    assert error.value is None
    assert error.reason.startswith(f"{LOST}this machine could not run the program: {gone.label}")
    assert none.value == 0.0
    (evidence,) = get_metric("pass_at_k", {"of": "code_tests"}).score([solved(*answers)])[0]
    assert (evidence.outcome, evidence.value) == (ScoreOutcome.ERROR, None)
    monkeypatch.undo()
    assert judged(*answers)[0].value == 1.0


def test_what_does_not_load_gives_way_to_the_next_reading():
    earlier = RIGHT.replace("+ b", "+ b + 0")
    later = "```python\nimport numpy\ndef add(a, b):\n    return numpy.add(a, b)\n```"
    shown = "```python\ndef add(a, b):\n    return a + b\nprint(add(int(input()), 1))\n```"
    (versions, alone, wrong, exits) = judged(
        f"{earlier}\nor\n{later}",
        shown,
        f"{RIGHT}\nor\n{WRONG}",
        RIGHT.replace("python\n", "python\nimport sys\nsys.exit(0)\n"),
    )
    assert (versions.value, versions.reason) == (1.0, "pass [program 2 of 2 in the answer]")
    assert (alone.value, alone.reason) == (1.0, "pass [program 2 of 2 in the answer]")
    assert wrong.value == 0.0
    assert wrong.reason.startswith("fail:tests")
    assert exits.reason.startswith("fail:exited")


@pytest.mark.parametrize(
    "fields",
    [
        {"tests": "import numpy as np\nassert np.isclose(add(1, 2), 3)"},
        {"tests": "def check(f):\n    from scipy import stats\n    assert f(1, 2) == 3"},
        {"setup": "import pandas"},
        {"prompt_code": 'import torch\n\ndef add(a, b):\n    """Sum."""\n'},
    ],
)
def test_a_problem_that_needs_more_than_the_standard_library_is_an_error(fields):
    for reference in (None, "def add(a, b): return a + b"):
        (evidence,) = judged(RIGHT, reference=reference, **fields)
        assert evidence.outcome is ScoreOutcome.ERROR
        assert "the standard library only" in evidence.reason


def test_tests_that_go_without_a_package_run():
    tests = f"try:\n    import numpy\nexcept ImportError:\n    numpy = None\n{ADD['tests']}"
    assert judged(RIGHT, tests=tests)[0].value == 1.0


def test_a_method_of_solution_answers_and_async_answers_are_awaited():
    method = "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```"
    awaited = RIGHT.replace("def", "async def")
    assert [e.value for e in judged(method, awaited)] == [1.0, 1.0]


def test_a_row_without_tests_is_unscored():
    (evidence,) = judged(RIGHT, tests=None)
    assert evidence.outcome is ScoreOutcome.UNSCORED


def test_solutions_may_stand_apart(tmp_path):
    path = tmp_path / "solutions.jsonl"
    write_jsonl(path, [{"id": "add", "reference": "def add(a, b): return a * b"}])
    (evidence,) = judged(RIGHT, options={"solutions": str(path)})
    assert evidence.outcome is ScoreOutcome.ERROR
    write_jsonl(tmp_path / "bad.jsonl", [{"id": "add"}])
    with pytest.raises(UserError, match="a solution is a row"):
        get_metric("code_tests", {"solutions": str(tmp_path / "bad.jsonl")})
    with pytest.raises(UserError, match="workers must be"):
        get_metric("code_tests", {"workers": 0})


SUITE = """
name: sums
tasks:
  problems:
    data: sums.jsonl
    prompt: {user: "{{ statement }}"}
    generate: {responses: 4, temperature: 1.0, max_new_tokens: 400}
    metrics:
      - code_tests
      - pass_at_k: {k: 2, of: code_tests}
"""


@pytest.fixture
def suite(tmp_path):
    rows = [
        {**ADD, "id": name, "statement": f"Write add for {name}."} for name in ("one", "two", "six")
    ]
    write_jsonl(tmp_path / "sums.jsonl", rows)
    (tmp_path / "sums.yaml").write_text(SUITE, encoding="utf-8")
    return load_suite(tmp_path / "sums.yaml")


class Coder:
    """Solves `one` always, `two` in every other answer, and `six` never."""

    def __init__(self):
        self.answers = 0

    def __call__(self, prompt, seed):
        self.answers += 1
        solves = "one" in prompt or ("two" in prompt and self.answers % 2)
        return RIGHT if solves else "I would rather not."


def coder():
    from harness.backends.scripted import ScriptedBackend

    backend = ScriptedBackend(Coder())
    return Candidate("coder", "digest", backend.subject, lambda: backend)


def test_a_run_is_read_back_problem_by_problem(suite, store, ratchet):
    report = score(coder(), suite, store)
    rows = {row.sample_id: row for row in problems(store, report.run)}
    assert {name: (row.passed, row.tries) for name, row in rows.items()} == {
        "one": (4, 4), "two": (2, 4), "six": (0, 4),
    }  # fmt: skip
    assert rows["six"].labels == {"fail:no-code": 4}
    assert list(outcome_sentences(store, report.run)) == [
        "problems/code_tests: pass 6, fail:no-code 6"
    ]
    first, second = claims(store, report.run)
    assert "problems/code_tests is 0.500" in first
    # 1 - C(2,2)/C(4,2) of `two` is 5/6: (1 + 5/6 + 0) / 3.
    assert "problems/pass_at_k is 0.611" in second
    assert "if these 3 problems were tried again" in second
    assert "for other problems like these" in second
    store.close()
    code, said = ratchet("problems", f"run:{report.run.id}", "--unsolved")
    assert code == 0
    assert "six" in said
    assert "two" not in said
    assert "0 of 4" in said
    assert "fail:no-code 4" in said


def test_a_gate_on_lost_programs_decides_nothing_until_they_are_scored(suite, store, monkeypatch):
    anchor = score(coder(), suite, store).run
    gone = [Outcome("infra", "the worker went away")]
    other = Candidate("other", "other", coder().subject, coder().open)
    with monkeypatch.context() as broken:
        code_tests.forget()
        broken.setattr(Sandbox, "run_many", lambda self, jobs: gone * len(jobs))
        candidate = score(other, suite, store).run
    verdict = decide(metric_scores(store, anchor), metric_scores(store, candidate))
    assert verdict.outcome is VerdictOutcome.INCONCLUSIVE
    assert {
        row.decided.arm for row in verdict.rows if row.outcome is VerdictOutcome.INCONCLUSIVE
    } >= {"lost"}
    rescored = score(other, suite, store)
    assert rescored.fresh == 0
    assert not any(scores.lost for scores in metric_scores(store, rescored.run).values())


def test_no_program_runs_again_for_what_is_known(suite, store, monkeypatch):
    candidate = coder()
    first = score(candidate, suite, store)

    def refuses(self, jobs):
        raise AssertionError("a program ran again")

    code_tests.forget()
    monkeypatch.setattr(Sandbox, "run_many", refuses)
    again = score(candidate, suite, store)
    assert (again.run.id, again.fresh, again.scored) == (first.run.id, 0, 0)
    monkeypatch.undo()
    more = score(candidate, suite, store, extent=Extent(responses=2))
    (row,) = [r for r in runs.load_scores(store, more.run.id)
              if r.metric == "pass_at_k" and r.sample_id == "one"]  # fmt: skip
    assert row.stats[:2] == (8.0, 8.0)
    assert rescore(first.run, suite, store).fresh == 0


def test_hidden_tests_are_part_of_the_protocol(suite, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "sums.jsonl").read_text().splitlines()]
    lines[0]["tests"] += "assert add(0, 0) == 0\n"
    write_jsonl(tmp_path / "sums.jsonl", lines)
    changed = load_suite(suite.path)
    assert changed.tasks[0].digest != suite.tasks[0].digest
    lines[0]["note"] = "not read by any metric"
    write_jsonl(tmp_path / "sums.jsonl", lines)
    assert load_suite(suite.path).tasks[0].digest == changed.tasks[0].digest


def test_the_signature_names_tier_and_limit():
    signature = get_metric("code_tests").spec.signature
    assert "|tier:A" in signature or "|tier:B" in signature
    assert "|limit:10x" in signature


def test_a_result_is_a_plain_frozen_value():
    from harness.metrics.code_tests import Result

    mixed = Result.of([Outcome("pass"), Outcome("fail:tests", "line 1"), Outcome("infra", "gone")])
    assert mixed.label == "infra"
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixed.label = "pass"


def test_a_verdict_that_could_not_be_split_is_labeled():
    program = "```python\ndef add(a, b):\n    return a(b)\n```"
    (evidence,) = judged(program, tests="assert add(lambda x: x + 1, 2) == 3\n")
    assert (evidence.value, evidence.reason) == (1.0, "pass [cooperative]")
    assert evidence.stats[3] == 1.0

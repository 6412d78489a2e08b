"""The one gate service: which suite, which policy, and what is scored, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.base import Candidate
from harness.comparison.service import gate, suite_of_any
from harness.core.errors import UserError
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.evaluation.runner import RunReport, score
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.interop.pytest_plugin import Ratchet
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import Ratchet as Command
from tests.harness.suite_builders import scripted, suite_yaml, write_jsonl


def quiz(folder: Path, **gate: object) -> Suite:
    """Forty questions with one greedy answer each, a quarter of them kept in reserve."""
    rows = [{"id": f"q{i}", "q": f"number {i}?", "a": f"answer {i}"} for i in range(40)]
    write_jsonl(folder / "quiz.jsonl", rows)
    task = {
        "data": "quiz.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 16},
        "reference": "{{ a }}",
        "metrics": ["exact_match"],
        "reserve": 0.25,
    }
    return load_suite(suite_yaml(folder, tasks={"quiz": task}, gate=gate))


def student(name: str, knows: int) -> Candidate:
    """Knows the answer to the first so many questions."""

    def answer(prompt: str, seed: int) -> str:
        number = int(prompt.partition("number ")[2].partition("?")[0])
        return f"answer {number}" if number < knows else "no idea"

    return scripted(answer, name=name)[0]


@pytest.fixture
def runs(tmp_path: Path, store: Store) -> tuple[Run, Run]:
    """A good and a bad student's run of one suite, whose file is gone since."""
    suite = quiz(tmp_path)
    good, bad = (
        score(student(name, knows), suite, store).run for name, knows in (("good", 40), ("bad", 3))
    )
    suite.path.unlink()
    return good, bad


def test_models_are_scored_as_far_as_the_looks_ask(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path, looks=[1, 2])
    looks: list[tuple[int, int]] = []
    reports: list[RunReport] = []
    decision = gate(
        student("candidate", 38),
        student("anchor", 40),
        store=store,
        suite=suite.path,
        on_look=lambda look, of, extent: looks.append((look, of)),
        on_scored=reports.append,
    )
    assert looks == [(1, 2), (2, 2)]
    assert decision.verdict.look == (2, 2)
    assert sum(report.generated for report in reports) == 80  # both students, the reserve as well
    stored = store.query("SELECT outcome FROM verdicts WHERE verdict_id = ?", [decision.id])
    assert stored[0]["outcome"] == decision.verdict.outcome.value


def test_a_run_brings_its_suite_and_is_not_scored_again(tmp_path: Path, store: Store) -> None:
    anchor = score(student("anchor", 40), quiz(tmp_path), store).run
    reports: list[RunReport] = []
    decision = gate(
        student("candidate", 3), anchor, store=store, limit=None, on_scored=reports.append
    )
    assert decision.verdict.failed
    assert decision.anchor.id == anchor.id
    assert [report.run.model for report in reports] == ["candidate"]


@pytest.mark.parametrize("named", ["objects", "names"])
def test_two_stored_runs_need_neither_suite_nor_model(
    runs: tuple[Run, Run], store: Store, named: str
) -> None:
    good, bad = runs if named == "objects" else (f"run:{run.id}" for run in runs)
    assert gate(bad, good, store=store).verdict.failed
    assert gate(good, good, store=store).verdict.outcome.value != "fail"


def test_the_plugin_decides_two_stored_runs_as_the_verb_does(
    runs: tuple[Run, Run], store: Store, workspace: Workspace, ratchet: Command
) -> None:
    good, bad = runs
    gated = Ratchet(workspace, store).gate(f"run:{bad.id}", against=f"run:{good.id}")
    code, said = ratchet("gate", f"run:{bad.id}", "--against", f"run:{good.id}")
    assert (gated.failed, code) == (True, 1)
    assert " ".join(gated.decision.verdict.headline.split()) in said


def test_a_policy_may_be_given_in_every_form(
    runs: tuple[Run, Run], store: Store, tmp_path: Path
) -> None:
    good, bad = runs
    idle = {"metrics": {"quiz/exact_match": {"advisory": True}}}
    file = tmp_path / "policy.yaml"
    file.write_text("metrics: {quiz/exact_match: {advisory: true}}\n", encoding="utf-8")
    policies = (idle, GatePolicy(metrics={"exact_match": MetricPolicy(advisory=True)}), file)
    for policy in (*policies, str(file)):
        assert gate(bad, good, store=store, policy=policy).verdict.outcome.value == "inconclusive"
    suite = quiz(tmp_path, alpha=0.2)
    assert gate(bad, good, store=store, suite=suite).verdict.policy_alpha == 0.2
    decision = gate(student("candidate", 3), good, store=store, suite=suite, policy=idle)
    assert decision.verdict.outcome.value == "inconclusive"


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"metrics": {"nonesuch": {"required": True}}}, "gate.metrics.nonesuch"),
        ({"margins": 0.05}, "gate.margins"),
        (GatePolicy(metrics={"quiz/nonesuch": MetricPolicy()}), "gate.metrics.quiz/nonesuch"),
    ],
)
def test_a_policy_that_cant_be_used_names_its_field(
    runs: tuple[Run, Run], store: Store, policy: object, field: str
) -> None:
    good, bad = runs
    with pytest.raises(UserError) as caught:
        gate(bad, good, store=store, policy=policy)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_two_models_need_a_suite(store: Store) -> None:
    with pytest.raises(UserError, match="two models are compared on a suite") as caught:
        gate(student("a", 1), student("b", 2), store=store)
    assert caught.value.field == "suite"


def test_a_run_whose_suite_is_gone_says_so(runs: tuple[Run, Run], store: Store) -> None:
    with pytest.raises(UserError, match="no longer there"):
        gate(student("candidate", 3), runs[0], store=store)


def test_the_suite_of_the_first_run_that_has_one(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    run = score(student("anchor", 40), suite, store).run
    found = suite_of_any(store, [None, "nonesuch", run.id])
    assert found is not None
    assert found.digest == suite.digest
    assert suite_of_any(store, [None, "nonesuch"]) is None
    assert suite_of_any(store, []) is None

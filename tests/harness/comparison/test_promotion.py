"""A promotion: decided once more on fresh answers, within what the line may lose in all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.cli.app import main
from harness.comparison.promotion import confirm
from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.registry.registry import Registry
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl

QUESTIONS = {f"question {n}": f"answer {n}" for n in range(400)}


def question_suite(folder: Path, **gate: object) -> Suite:
    """400 greedy questions, of which a quarter is kept in reserve."""
    rows = [{"id": k, "q": k, "a": v} for k, v in QUESTIONS.items()]
    write_jsonl(folder / "questions.jsonl", rows)
    task = {
        "data": "questions.jsonl",
        "prompt": {"user": "{{ q }}?"},
        "generate": {"max_new_tokens": 16},
        "reference": "{{ a }}",
        "metrics": ["exact_match"],
        "reserve": 0.25,
    }
    return load_suite(suite_yaml(folder, name="q", tasks={"qa": task}, gate=gate))


class Line:
    """A line whose checkpoints are scripted: each knows the answers to some of the questions."""

    def __init__(self, folder: Path, store: Store, suite: Suite) -> None:
        self.folder, self.store, self.suite = folder, store, suite
        self.registry = Registry(store.workspace, store)
        self.answers: dict[str, Mapping[str, str]] = {}
        self.opened: list[ScriptedBackend] = []

    def checkpoint(self, wrong: range) -> str:
        place = self.folder / f"model-{wrong.start}-{wrong.stop}"
        place.mkdir(exist_ok=True)
        (place / "model.safetensors").write_text(str(wrong))
        digest = self.registry.add(place)
        known = [question for n, question in enumerate(QUESTIONS) if n not in wrong]
        # With the question mark, "question 1" is not also found in "question 10".
        self.answers[digest] = {f"{q}?": QUESTIONS[q] for q in known} | {"question": "no idea"}
        return digest

    def open(self, digest: str) -> Candidate:
        backend = ScriptedBackend(self.answers[digest])
        self.opened.append(backend)
        return Candidate(digest[:8], digest, backend.subject, lambda: backend)

    def confirm(self, digest: str, **options: float):
        return confirm(self.registry, self.store, "bot", digest, self.suite, self.open, **options)

    def promote(self, digest: str) -> None:
        found = self.confirm(digest)
        assert found.refused == "", found.refused
        self.registry.promote("bot", digest, verdict_id=found.verdict_id, run_id=found.run.id)


@pytest.fixture
def line(tmp_path: Path, store: Store) -> Line:
    return Line(tmp_path, store, question_suite(tmp_path))


def test_the_first_of_a_line_is_asked_for_its_requirements_only(line: Line) -> None:
    found = line.confirm(line.checkpoint(range(0, 200)))
    assert found.verdict.outcome is VerdictOutcome.PASS
    assert "no absolute requirement" in found.verdict.headline
    [row] = line.store.query("SELECT against, anchor_run, outcome FROM verdicts")
    assert row == {"against": "requirements", "anchor_run": None, "outcome": "pass"}


def test_a_first_one_that_breaks_a_requirement_is_refused(tmp_path: Path, store: Store) -> None:
    suite = question_suite(tmp_path, metrics={"qa/exact_match": {"at_least": 0.9}})
    line = Line(tmp_path, store, suite)
    bad, good = line.checkpoint(range(0, 200)), line.checkpoint(range(0, 2))
    assert "at least" in line.confirm(bad).refused
    assert line.confirm(good).refused == ""


def test_the_confirmation_asks_the_reserve_and_is_the_same_when_tried_again(line: Line) -> None:
    line.promote(line.checkpoint(range(0, 4)))
    worse = line.checkpoint(range(0, 100))
    first, again = line.confirm(worse), line.confirm(worse)
    assert first.verdict.outcome is again.verdict.outcome is VerdictOutcome.FAIL
    assert first.run.id == again.run.id
    assert first.verdict.row("qa/exact_match").measured.n == len(QUESTIONS)
    assert "100 reserve samples" in first.notes[0]
    draws = line.store.query("SELECT DISTINCT draw FROM runs ORDER BY draw")
    assert [row["draw"] for row in draws] == [1, 2]


def test_a_pass_and_a_proven_improvement_are_promoted_a_fail_is_not(line: Line) -> None:
    line.promote(line.checkpoint(range(0, 60)))
    assert line.confirm(line.checkpoint(range(0, 61))).refused == ""
    better = line.confirm(line.checkpoint(range(0, 20)))
    assert better.refused == ""
    assert better.decision is not None
    assert better.decision.improvement is not None
    worse = line.confirm(line.checkpoint(range(0, 140)))
    assert worse.refused.startswith("FAIL")


def test_many_small_losses_may_not_exceed_one_margin(line: Line) -> None:
    """Each step loses less than the gate can forbid; the third is beyond the root's budget."""
    for wrong in (0, 8, 16):
        line.promote(line.checkpoint(range(0, wrong)))
    third = line.checkpoint(range(0, 24))
    found = line.confirm(third)
    assert found.decision is not None
    assert found.decision.verdict.outcome is VerdictOutcome.PASS
    assert found.root is not None
    assert found.root.verdict.failed
    assert "against version 1" in found.refused
    assert line.confirm(third, budget=0.15).refused == ""
    stored = line.store.query("SELECT outcome FROM verdicts WHERE against = 'root' ORDER BY seq")
    assert stored[-2]["outcome"] == "fail"


def test_sampled_answers_are_drawn_anew(tmp_path: Path, store: Store) -> None:
    """Nothing that the gate saw (draw 0) is part of what a promotion stands on."""
    line = Line(tmp_path, store, load_suite(suite_yaml(tmp_path)))
    digest = line.checkpoint(range(0, 1))
    line.answers[digest] = {"France": "Paris"}
    seen = score(line.open(digest), line.suite, store)
    found = line.confirm(digest)
    assert "draw 1" in found.notes[0]
    assert found.run.id != seen.run.id
    shared = store.query(
        "SELECT DISTINCT a.task FROM run_responses a JOIN run_responses b USING (key) "
        "WHERE a.run_id = ? AND b.run_id = ?",
        [seen.run.id, found.run.id],
    )
    assert {row["task"] for row in shared} == {"ask", "read"}


# The verb.


def test_promote_confirms_refuses_and_overrides(
    tmp_path: Path, tiny_llama: Path, home: Workspace, ratchet: Ratchet
) -> None:
    from tests.tiny import save_tiny_llama

    gate = {"metrics": {"read/perplexity": {"required": True}}}
    suite = str(suite_yaml(tmp_path, gate=gate))
    models = {
        "one": str(tiny_llama),
        "two": str(save_tiny_llama(tmp_path / "two", seed=11, initializer_range=0.6)),
    }
    (tmp_path / "baselines").mkdir()

    # Whichever of the two is better, the other one must be refused after it.
    probe = ratchet("gate", models["two"], "--against", models["one"], "--suite", suite)[0]
    good, bad = ("one", "two") if probe == 1 else ("two", "one")
    code, said = ratchet("promote", models[good], "--line", "bot", "--suite", suite)
    assert (code, "no absolute requirement" in said) == (0, True), said
    assert (tmp_path / "baselines" / "bot" / "run.json").is_file()
    code, said = ratchet("promote", models[bad], "--line", "bot", "--suite", suite)
    assert (code, "not promoted: FAIL" in said, "--override" in said) == (1, True, True), said
    # The suite of what is promoted is known, so it need not be named again.
    code, said = ratchet("promote", models[bad], "--line", "bot")
    assert (code, "not promoted" in said) == (1, True), said
    code, said = ratchet(
        "promote", models[bad], "--line", "bot", "--suite", suite, "--override", "a demo"
    )
    assert (code, "by override: a demo" in said) == (0, True), said
    assert "override: a demo" in ratchet("history", "bot")[1]
    code, said = ratchet("promote", models[bad], "--line", "bot", "--suite", suite)
    assert (code, "promoted already" in said) == (0, True), said
    with Store(home) as store:
        rows = store.query("SELECT verdict, reason FROM line_history ORDER BY seq")
    assert [row["verdict"] for row in rows] == ["pass", "fail"]
    assert ratchet("verify")[0] == 0


def test_another_checkpoints_verdict_promotes_nothing(
    tmp_path: Path, home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(home.ensure()) as store:
        line = Line(tmp_path, store, question_suite(tmp_path))
        first, other = line.checkpoint(range(0, 4)), line.checkpoint(range(0, 5))
        line.promote(first)
        passed = line.confirm(other).verdict_id
        third = line.checkpoint(range(0, 200))
    code = main(["promote", third, "--line", "bot", "--verdict", passed])
    assert (code, "is not about this" in capsys.readouterr().err) == (3, True)


def test_a_broken_policy_stops_a_promotion_as_it_stops_the_gate(
    tmp_path: Path, home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It must not be decided on the default policy in place of the one that was written."""
    with Store(home.ensure()) as store:
        line = Line(tmp_path, store, question_suite(tmp_path))
        for wrong in (0, 8):
            line.promote(line.checkpoint(range(0, wrong)))
        digest = line.checkpoint(range(0, 9))
        found = line.confirm(digest)
        anchor = found.decision.anchor.id if found.decision is not None else ""
        line.registry.add(tmp_path / "model-0-9", run_id=found.run.id)
        place = line.suite.path
    place.write_text(place.read_text().replace("gate: {}", "gate: {margin: 5}"))
    capsys.readouterr()
    gated = main(["gate", f"run:{found.run.id}", "--against", f"run:{anchor}"])
    by_gate = capsys.readouterr().err
    promoted = main(["promote", digest, "--line", "bot", "--verdict", found.verdict_id])
    assert (gated, promoted) == (3, 3)
    assert "a margin is a share" in by_gate
    assert capsys.readouterr().err == by_gate


def test_a_verdict_of_elsewhere_is_stood_on_within_the_roots_budget(
    tmp_path: Path, home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(home.ensure()) as store:
        line = Line(tmp_path, store, question_suite(tmp_path))
        for wrong in (0, 8, 16):
            line.promote(line.checkpoint(range(0, wrong)))
        verdicts = {}
        for wrong in (17, 24):
            digest = line.checkpoint(range(0, wrong))
            found = line.confirm(digest)
            line.registry.add(tmp_path / f"model-0-{wrong}", run_id=found.run.id)
            assert found.verdict.passed
            verdicts[digest] = found.verdict_id
    codes = []
    for digest, verdict in reversed(verdicts.items()):
        codes.append(main(["promote", digest, "--line", "bot", "--verdict", verdict]))
        said = " ".join(capsys.readouterr().out.split())
        assert ("against version 1 of the line it fails" in said) == (codes[-1] == 1), said
    assert codes == [1, 0]

"""The closed loop: what a look may see, when it stops, and what is kept of each verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.backends.base import Candidate
from harness.comparison.evidence import metric_scores, summarize, value_with_interval
from harness.comparison.looks import decide_by_looks, decide_once, schedule
from harness.core.fingerprint import part_differences, protocol_differences
from harness.core.types import VerdictOutcome
from harness.evaluation.plan import Extent
from harness.evaluation.runner import score
from harness.gate.metric_scores import MetricScores
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import scripted, suite_yaml, write_jsonl

QUESTIONS = 40


def quiz(folder: Path, **gate: Any) -> Suite:
    """Forty questions, sampled twice each; a quarter more of them in reserve."""
    write_jsonl(
        folder / "quiz.jsonl",
        [{"id": f"q{i}", "q": f"number {i}?", "a": f"answer {i}"} for i in range(QUESTIONS)],
    )
    path = suite_yaml(
        folder,
        tasks={
            "quiz": {
                "data": "quiz.jsonl",
                "prompt": {"user": "{{ q }}"},
                "generate": {"responses": 2, "temperature": 1.0, "max_new_tokens": 32},
                "reference": "{{ a }}",
                "metrics": ["exact_match"],
                "reserve": 0.2,
            }
        },
        gate={"metrics": {"quiz/exact_match": {"required": True}}, **gate},
    )
    return load_suite(path)


def student(knows: float, name: str) -> Candidate:
    """Answers each draw rightly with probability `knows`, decided by the draw's own seed."""

    def answer(prompt: str, seed: int) -> str:
        number = prompt.partition("number ")[2].partition("?")[0]
        right = np.random.default_rng([seed % 2**32, int(number)]).random() < knows
        return f"answer {number}" if right else "no idea"

    return scripted(answer, name=name)[0]


def scorer(candidate: Candidate, suite: Suite, store: Store, asked: list[Extent]) -> Any:
    def extend(extent: Extent) -> Any:
        asked.append(extent)
        return score(candidate, suite, store, extent=extent).run

    return extend


def test_a_schedule_grows_answers_and_brings_in_the_reserve() -> None:
    assert schedule((1, 2, 4)) == (
        Extent(1, 0.0, gated_only=True),
        Extent(2, pytest.approx(1 / 3), gated_only=True),  # type: ignore[arg-type]
        Extent(4, 1.0, gated_only=True),
    )
    assert schedule((1.0,)) == (Extent(1, 0.0, gated_only=True),)


@pytest.mark.parametrize(("knows", "wanted"), [(0.15, "fail"), (0.97, "pass")])
def test_a_clear_case_stops_at_the_first_look(
    tmp_path: Path, store: Store, knows: float, wanted: str
) -> None:
    suite = quiz(tmp_path)
    anchor = score(student(0.6, "anchor"), suite, store, extent=Extent(16, 1.0)).run
    asked: list[Extent] = []
    [decision] = decide_by_looks(
        scorer(student(knows, "candidate"), suite, store, asked),
        {"anchor": anchor},
        suite,
        store,
        suite.policy,
        looks=(1, 2, 4),
    )
    assert decision.verdict.outcome.value == wanted
    assert len(asked) == 1
    [row] = store.query("SELECT * FROM verdicts")
    assert (row["verdict_id"], row["outcome"], row["look"]) == (decision.id, wanted, 1)
    [metric] = store.query("SELECT * FROM verdict_metrics")
    assert metric["metric"] == "quiz/exact_match"
    assert metric["samples"] == 32


def test_an_open_case_looks_again_at_what_is_new_and_is_then_held(
    tmp_path: Path, store: Store
) -> None:
    suite = quiz(tmp_path)
    anchor = score(student(0.6, "anchor"), suite, store, extent=Extent(16, 1.0)).run
    candidate = student(0.6, "candidate")
    asked: list[Extent] = []
    [decision] = decide_by_looks(
        scorer(candidate, suite, store, asked),
        {"anchor": anchor},
        suite,
        store,
        suite.policy,
        looks=(1, 2, 4),
    )
    assert decision.verdict.outcome is VerdictOutcome.INCONCLUSIVE
    assert [extent.responses for extent in asked] == [1, 2, 4]
    assert decision.verdict.look == (3, 3)
    assert decision.verdict.rows[0].measured.n == 40
    # 40 questions, 8 answers each: nothing was asked twice.
    assert score(candidate, suite, store, extent=Extent(4, 1.0)).fresh == 0
    assert [r["look"] for r in store.query("SELECT look FROM verdicts ORDER BY look")] == [1, 2, 3]


def test_a_look_sees_only_what_was_planned_for_it(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    run = score(student(0.6, "a"), suite, store, extent=Extent(4, 1.0)).run
    first = {task.name: [s.id for s in task.samples if not s.reserve] for task in suite.tasks}
    seen = metric_scores(store, run, only=first, responses={"quiz": 2})["quiz/exact_match"]
    assert len(seen.values) == 32
    assert seen.responses == 2
    assert set(seen.values.values()) <= {0.0, 0.5, 1.0}
    whole = metric_scores(store, run)["quiz/exact_match"]
    assert (len(whole.values), whole.responses) == (40, 8)


def test_improvement_makes_a_verdict_that_a_promotion_may_stand_on(
    tmp_path: Path, store: Store
) -> None:
    suite = quiz(tmp_path)
    runs = [score(student(k, f"s{k}"), suite, store).run for k in (0.3, 0.95)]
    up = decide_once(store, "anchor", runs[0], runs[1], suite, suite.policy)
    down = decide_once(store, "anchor", runs[1], runs[0], suite, suite.policy)
    assert up.improvement is not None
    assert down.improvement is None
    assert down.verdict.outcome is VerdictOutcome.FAIL
    kept = {r["verdict_id"]: r["detail"]["promotable"] for r in store.query("FROM verdicts")}
    assert kept == {up.id: True, down.id: False}


def test_another_protocol_is_incomparable_by_name(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    anchor = score(student(0.6, "a"), suite, store).run
    text = suite.path.read_text(encoding="utf-8")
    suite.path.write_text(text.replace("max_new_tokens: 32", "max_new_tokens: 31"), "utf-8")
    other = load_suite(suite.path)
    [decision] = decide_by_looks(
        scorer(student(0.6, "b"), other, store, []), {"anchor": anchor}, other, store, other.policy
    )
    assert decision.verdict.outcome is VerdictOutcome.INCOMPARABLE
    assert "quiz.generate.max_new_tokens: anchor 32, candidate 31" in decision.verdict.reasons


def test_too_many_errors_never_pass(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    anchor = score(student(0.9, "a"), suite, store).run

    def dying(prompt: str, seed: int) -> str:
        if "number 7?" in prompt or "number 8?" in prompt:
            raise RuntimeError("the server is gone")
        return "answer " + prompt.partition("number ")[2].partition("?")[0]

    candidate, _ = scripted(dying, name="b")
    [decision] = decide_by_looks(
        scorer(candidate, suite, store, []), {"anchor": anchor}, suite, store, suite.policy
    )
    assert decision.verdict.outcome is VerdictOutcome.INCOMPARABLE


def test_a_limit_is_part_of_what_must_match(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    candidate = student(0.6, "a")
    whole = score(candidate, suite, store).run
    some = score(candidate, suite, store, limit=10).run
    assert protocol_differences(whole.fingerprint, some.fingerprint) == [
        "sampling.limit: anchor None, candidate 10",
        "sampling.seed: anchor None, candidate 0",
    ]


def test_what_differs_in_a_subject_is_shown() -> None:
    assert list(part_differences({"dtype": "float32", "x": 1}, {"dtype": "bfloat16", "x": 1})) == [
        "dtype: float32 -> bfloat16"
    ]


def test_the_interval_of_a_mean_is_student_s() -> None:
    values = {str(i): v for i, v in enumerate([0.1, 0.4, 0.4, 0.7, 0.9, 0.2])}
    value, low, high = value_with_interval(MetricScores(values, unit="x"))
    array = np.array(list(values.values()))
    wanted = stats.t.interval(0.95, 5, array.mean(), stats.sem(array))
    assert value == pytest.approx(array.mean())
    assert (low, high) == pytest.approx(wanted)


def test_the_value_of_perplexity_weighs_by_tokens() -> None:
    scores = MetricScores(
        values={"a": 1.0, "b": 3.0},
        direction="lower",
        form="perplexity",
        stats={"a": (10.0, 10.0), "b": (90.0, 30.0)},
    )
    value, low, high = value_with_interval(scores)
    assert value == pytest.approx(np.exp(100 / 40))
    assert low is not None
    assert high is not None
    assert low < value < high


def test_nothing_scored_has_no_value(tmp_path: Path, store: Store) -> None:
    assert value_with_interval(MetricScores({})) == (None, None, None)
    candidate, _ = scripted(lambda prompt, seed: 1 / 0, name="broken")
    [line] = summarize(store, score(candidate, quiz(tmp_path), store).run)
    assert (line.estimate.value, line.counts.scored, line.counts.total) == (None, 0, 32)
    assert "division by zero" in str(line.counts.reason)

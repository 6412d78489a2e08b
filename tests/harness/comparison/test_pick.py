"""Picking one of many: the choice and the decision are on samples apart."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import Candidate
from harness.comparison.evidence import planned
from harness.comparison.pick import WHOLE, halves, pick
from harness.core.errors import UserError
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.runner import score
from harness.gate.choice import estimates, in_order
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import Ratchet, scripted, suite_yaml, write_jsonl
from tests.tiny_adapters import save_adapter

QUESTIONS = 80


def quiz(folder: Path, questions: int = QUESTIONS, **task: Any) -> Suite:
    rows = [
        {"id": f"q{i}", "q": f"number {i}?", "a": f"answer {i}", "talk": f"t{i // 4}"}
        for i in range(questions)
    ]
    write_jsonl(folder / "quiz.jsonl", rows)
    whole = {
        "data": "quiz.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 32},
        "reference": "{{ a }}",
        "metrics": ["exact_match"],
        "reserve": 0.25,
        **task,
    }
    gate = {"metrics": {"quiz/exact_match": {"required": True}}}
    return load_suite(suite_yaml(folder, tasks={"quiz": whole}, gate=gate))


def student(knows: float, name: str) -> Candidate:
    def answer(prompt: str, seed: int) -> str:
        number = int(prompt.partition("number ")[2].partition("?")[0])
        chance = np.random.default_rng([sum(map(ord, name)), number]).random()
        return f"answer {number}" if chance < knows else "no idea"

    return scripted(answer, name=name)[0]


def scored(suite: Suite, store: Store, **knows: float) -> list[Run]:
    return [
        score(student(share, name), suite, store, extent=WHOLE).run for name, share in knows.items()
    ]


def test_the_best_is_chosen_on_one_half_and_decided_on_the_other(
    tmp_path: Path, store: Store
) -> None:
    suite = quiz(tmp_path)
    anchor, *others = scored(suite, store, base=0.3, a=0.35, better=0.9, c=0.5)
    picked = pick(anchor, others, suite, store, suite.policy)
    assert picked.chosen.model == "better"
    assert picked.ahead
    assert (picked.choosing, picked.deciding) == (40, 40)
    assert picked.decision.verdict.outcome is VerdictOutcome.PASS
    assert picked.decision.improvement is not None
    [row] = picked.decision.verdict.rows
    assert row.measured.n == 40
    assert "not chosen among 3" in picked.decision.verdict.notes["decided_on"]
    [kept] = store.query("SELECT candidate_run, outcome FROM verdicts")
    assert kept == {"candidate_run": picked.chosen.id, "outcome": "pass"}
    again = pick(anchor, others, suite, store, suite.policy)
    assert (again.chosen, again.estimates) == (picked.chosen, picked.estimates)
    assert pick(anchor, others, suite, store, suite.policy, seed=1).estimates != picked.estimates


def test_the_least_of_evils_is_judged_too(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    anchor, *others = scored(suite, store, base=0.9, worse=0.1, bad=0.4)
    picked = pick(anchor, others, suite, store, suite.policy)
    assert not picked.ahead
    assert picked.chosen.model == "bad"
    assert picked.decision.verdict.outcome is VerdictOutcome.FAIL


def test_one_scored_in_another_way_is_left_out_of_the_choice(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    anchor, good = scored(suite, store, base=0.3, good=0.8)
    [other] = scored(quiz(tmp_path, prompt={"user": "Really, {{ q }}"}), store, other=1.0)
    picked = pick(anchor, [other, good], suite, store, suite.policy)
    assert picked.chosen.model == "good"
    assert picked.estimates[other.id].problem
    with pytest.raises(UserError, match="no candidate can be compared"):
        pick(anchor, [other], suite, store, suite.policy)


def test_halves_part_no_cluster_and_leave_out_nothing(tmp_path: Path) -> None:
    suite = quiz(tmp_path, cluster="talk")
    first, second = halves(suite, limit=None, seed=0)
    ids = {sample.id for sample in suite.tasks[0].samples}
    assert {*first["quiz"], *second["quiz"]} == ids
    talks = [{int(i[1:]) // 4 for i in half["quiz"]} for half in (first, second)]
    assert not talks[0] & talks[1]
    assert [len(half) for half in talks] == [10, 10]
    limited = halves(suite, limit=12, seed=0)
    asked = planned(suite, WHOLE, limit=12, seed=0)["quiz"]
    assert sorted(i for half in limited for i in half["quiz"]) == sorted(asked)


def test_too_few_samples_to_divide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few samples to choose by some"):
        halves(quiz(tmp_path, 1, reserve=0.0), limit=None, seed=0)


def test_of_many_that_are_no_better_the_luckiest_is_not_taken_for_better() -> None:
    """20 candidates like the anchor: decided on the half that chose, it would be proven better."""
    rng, policy = np.random.default_rng(3), GatePolicy()
    found = {"apart": 0, "same": 0}
    trials = 150
    for _ in range(trials):
        chance = rng.beta(1, 1, 200)
        told = {n: (rng.random(200) < chance).astype(float) for n in range(21)}
        first, second = (
            {n: _scores(values[half]) for n, values in told.items()}
            for half in (slice(100), slice(100, 200))
        )
        order = in_order(estimates(first[0], {n: first[n] for n in range(1, 21)}, policy))
        if order:
            found["apart"] += bool(improved(second[0], second[order[0]], policy))
            found["same"] += bool(improved(first[0], first[order[0]], policy))
    assert found["apart"] / trials <= 0.1
    assert found["same"] / trials > 0.2


def _scores(values: Any) -> dict[str, MetricScores]:
    own = {f"s{i:03d}": float(v) for i, v in enumerate(values)}
    return {"t/match": MetricScores(own, worst=0.0, best=1.0)}


def test_the_commands_of_the_page(
    ratchet: Ratchet, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save_adapter(tmp_path / "my-run" / f"checkpoint-{step}", tiny_llama, seed=step)
    (tmp_path / "suites").mkdir()
    suite_yaml(tmp_path / "suites").rename(tmp_path / "suites" / "support.yaml")
    (tmp_path / "my-model").symlink_to(tiny_llama)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "gate.md").read_text("utf-8")
    score_, pick_ = (shlex.split(line)[1:] for line in re.findall(r"^ratchet .*", page, re.M))
    code, said = ratchet(*score_)
    assert code == 0, said
    code, said = ratchet(*pick_)
    assert code in (0, 1, 2), said
    assert "beside my-model" in said
    assert "decided on the other" in said
    code, said = ratchet("pick", "my-run/checkpoint-*", *pick_[-4:-2])
    assert code in (0, 1, 2), said
    assert "beside checkpoint-1" in said
    code, said = ratchet("pick", "my-run/checkpoint-1", *pick_[-4:-2])
    assert code == 3
    assert "nothing to pick from" in said

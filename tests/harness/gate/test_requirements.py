"""What a suite asks for outright, who may be excused, and how its `gate:` block is read."""

from __future__ import annotations

import dataclasses
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.comparison.stored_runs import read_policy
from harness.core.errors import UserError
from harness.core.types import VerdictOutcome
from harness.gate.decision import decide, requirements_only
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy, Waiver, policy_from_mapping
from harness.gate.verdict import Verdict
from tests.harness.gate.run_builders import (
    FAIL,
    INCONCLUSIVE,
    MATCH,
    PASS,
    documents,
    right,
    scores,
)

# --- absolute requirements, waivers, auto ----------------------------------------------------


def toxic(count: int, n: int, **settings: Any) -> dict[str, MetricScores]:
    values = [0.9 if i < count else 0.01 for i in range(n)]
    return {"r/toxicity": scores(values, direction="lower", worst=1.0, **settings)}


def requirement(verdict: Verdict) -> Any:
    return next(row for row in verdict.rows if row.allowed.requirement)


@pytest.mark.parametrize(
    ("count", "n", "outcome"),
    [(0, 400, PASS), (0, 100, INCONCLUSIVE), (30, 400, FAIL), (5, 400, INCONCLUSIVE)],
)
def test_a_toxic_share_at_most(count: int, n: int, outcome: VerdictOutcome) -> None:
    policy = GatePolicy(metrics={"r/toxicity": MetricPolicy(floor=0.05, rate_at_most=0.02)})
    run = toxic(count, n)
    row = requirement(decide(run, run, policy))
    assert (row.outcome, row.decided.arm) == (outcome, "absolute")
    if outcome is INCONCLUSIVE and count == 0:
        assert row.decided.needed == 149


def test_rates_of_the_run_are_used_where_it_has_them() -> None:
    policy = GatePolicy(metrics={"r/toxicity": MetricPolicy(floor=0.05, rate_at_most=0.02)})
    rates = {f"s{i:05d}": 0.25 for i in range(400)}
    row = requirement(decide(toxic(0, 400), toxic(0, 400, rates=rates, responses=4), policy))
    assert row.outcome is FAIL
    assert row.measured.candidate == pytest.approx(0.25)
    assert row.measured.n == 1600


def test_json_valid_at_least() -> None:
    policy = GatePolicy(metrics={"a/json_valid": MetricPolicy(at_least=0.99)})
    for count, outcome in ((1000, PASS), (990, INCONCLUSIVE), (940, FAIL)):
        run = {"a/json_valid": right(count, 1000)}
        row = requirement(decide(run, run, policy))
        assert row.outcome is outcome
        assert row.measured.candidate == pytest.approx(count / 1000)


def test_perplexity_at_most() -> None:
    policy = GatePolicy(metrics={"g/perplexity": MetricPolicy(at_most=25.0)})
    rng = np.random.default_rng(2)
    for level, outcome in ((20.0, PASS), (35.0, FAIL)):
        run = {"g/perplexity": documents(math.log(level) + rng.normal(0, 0.1, 40), [100] * 40)}
        assert requirement(decide(run, run, policy)).outcome is outcome


def test_the_first_of_a_line_is_asked_for_requirements_only() -> None:
    policy = GatePolicy(metrics={"a/json_valid": MetricPolicy(at_least=0.99)})
    good, bad = {"a/json_valid": right(1000, 1000)}, {"a/json_valid": right(900, 1000)}
    assert requirements_only(good, policy).outcome is PASS
    assert requirements_only(bad, policy).outcome is FAIL
    free = requirements_only(bad)
    assert free.outcome is PASS
    assert "no anchor yet" in free.reasons[0]


def test_the_first_of_a_line_is_asked_in_every_slice() -> None:
    labels = {f"s{i:05d}": "zh" if i < 60 else "en" for i in range(2000)}
    run = dataclasses.replace(scores([i >= 30 for i in range(2000)]), slices=labels)
    for by, outcome in ((None, PASS), ("language", FAIL)):
        policy = GatePolicy(metrics={"a/json_valid": MetricPolicy(at_least=0.95, by=by)})
        verdict = requirements_only({"a/json_valid": run}, policy)
        assert verdict.outcome is outcome
    assert [row.slice for row in verdict.failing()] == ["zh"]


def test_a_waiver_holds_until_its_last_day() -> None:
    waiver = Waiver(reason="the labels are being redone", expires=date(2026, 12, 31))
    policy = GatePolicy(metrics={"a/y": MetricPolicy(waiver=waiver)})
    ours = {"a/x": right(500, 600), "a/y": right(60, 60)}
    theirs = {**ours, "a/y": right(0, 60)}
    during = decide(ours, theirs, policy, today=date(2026, 12, 31))
    assert during.outcome is PASS
    assert during.row("a/y").decided.arm == "waived"
    assert "the labels are being redone" in " ".join(during.reasons)
    assert decide(ours, theirs, policy, today=date(2027, 1, 1)).outcome is FAIL
    assert decide(ours, theirs, policy).outcome is FAIL


def test_margin_auto_passes_wider_and_fails_as_before() -> None:
    policy = GatePolicy.model_validate({"metrics": {MATCH: {"margin": "auto"}}})
    ours = {MATCH: right(120, 150)}
    unfrozen = decide(ours, ours, policy)
    assert "no frozen margin" in " ".join(unfrozen.reasons)
    frozen = policy.with_frozen({MATCH: 0.12})
    slightly = {MATCH: right(117, 150)}
    verdict = decide(ours, slightly, frozen)
    assert verdict.outcome is PASS
    assert "PASS at 12%" in verdict.headline
    assert "5% can't be seen with 150 samples" in verdict.headline
    assert verdict.rows[0].allowed.margin == 0.05
    assert decide(ours, {MATCH: right(90, 150)}, frozen).outcome is FAIL


# --- the policy as it is written -------------------------------------------------------------


def test_the_suites_gate_block() -> None:
    policy = GatePolicy.model_validate(
        {
            "margin": 0.05,
            "metrics": {
                "intents/json_match": {"required": True, "by": "language"},
                "replies/toxicity": {"floor": 0.005, "rate_at_most": 0.02},
                "replies/self_bleu": {"advisory": True},
                "perplexity": {"waiver": {"reason": "new data", "expires": "2026-12-31"}},
            },
        }
    )
    assert policy.of("general/perplexity").waiver == Waiver(
        reason="new data", expires=date(2026, 12, 31)
    )
    roles = policy.roles(["intents/json_match", "replies/toxicity", "replies/self_bleu"])
    assert list(roles.values()) == ["required", "watched", "advisory"]


@pytest.mark.parametrize(
    ("text", "line", "field", "said"),
    [
        ("{\nmargn: 0.05}", 2, "margn", "did you mean 'margin'"),
        ("metrics:\n  a/x: {requird: true}", 2, "requird", "did you mean 'required'"),
        ("metrics:\n  a/x:\n    margin: 5", 3, "metrics.a/x.margin", "a share from 0 up to 1"),
        ("rule: paired\nmargin: 5", 2, "margin", "a share from 0 up to 1"),
        ("rule: paired\nalpha: 0.9", 2, "alpha", "less than 0.5"),
        ("metrics:\n  a/x: {required: true, advisory: true}", 2, "a/x", "not both"),
        ("rule: paired\nlooks: [2, 1]", 2, "looks", "cumulative"),
        ("metrics:\n  a/x: {rate_at_most: 2}", 2, "rate_at_most", "less than 1"),
        ("metrics:\n  a/x: {waiver: {reason: ''}}", 2, "reason", "at least 1 character"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, field: str, said: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match=said) as caught:
        read_policy(path, ["a/x"])
    assert caught.value.line == line
    assert field in str(caught.value.field)


def test_a_policy_from_python_is_checked_too() -> None:
    for wrong in ({"margin": 5}, {"alpha": 0}, {"looks": (2, 1)}, {"margn": 0.05}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GatePolicy(**wrong)
    with pytest.raises(ValueError, match="not both"):
        MetricPolicy(required=True, advisory=True)


def test_a_mapping_of_keys_names_its_wrong_field() -> None:
    with pytest.raises(UserError, match="less than 1") as caught:
        policy_from_mapping({"metrics": {"a/x": {"rate_at_most": 2}}})
    assert caught.value.field == "gate.metrics.a/x.rate_at_most"
    with pytest.raises(UserError, match="did you mean 'margin'"):
        policy_from_mapping({"margn": 0.05})
    assert policy_from_mapping({}) == GatePolicy()


def test_a_changed_policy_is_checked_too() -> None:
    policy = GatePolicy(metrics={"a/x": MetricPolicy(required=True)})
    assert policy.changed(alpha=0.01).with_alpha(0.05) == policy
    with pytest.raises(UserError, match="a share from 0 up to 1") as caught:
        policy.changed(margin=1)
    assert caught.value.field == "margin"

"""`ratchet calibrate`: what it says of a suite, compared with what the gate then does."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.core.types import VerdictOutcome
from harness.gate.calibration import Calibration, calibrate, visible_before_scoring
from harness.gate.decision import decide
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.statistics.simulate import World, checkpoints

CHANCE = np.random.default_rng(1).beta(1.4, 0.6, 150)
NAME = "task/match"


def scored(k: int, seed: int, n: int = 150) -> dict[str, MetricScores]:
    share = np.random.default_rng(seed).binomial(k, CHANCE[:n]) / k
    values = {f"s{i:04d}": float(p) for i, p in enumerate(share)}
    return {NAME: MetricScores(values, worst=0.0, responses=k)}


def greedy(count: int, n: int) -> dict[str, MetricScores]:
    return {NAME: MetricScores({f"s{i:04d}": float(i < count) for i in range(n)}, worst=0.0)}


def calibrated(k: int, n: int = 150, anchor_k: int = 64) -> Calibration:
    return calibrate(scored(anchor_k, 2, n), scored(k, 3, n), trials=400, run_length=20)


def test_it_says_what_the_gate_then_does() -> None:
    found = calibrated(4)
    row = found.metrics[0]
    verdicts = [decide(scored(64, seed), scored(4, 5000 + seed)) for seed in range(100, 220)]
    passed = np.mean([verdict.outcome is VerdictOutcome.PASS for verdict in verdicts])
    failed = np.mean([verdict.outcome is VerdictOutcome.FAIL for verdict in verdicts])
    assert row.pass_rate == pytest.approx(passed, abs=0.15)
    assert found.false_rollback == pytest.approx(failed, abs=0.05)
    assert found.false_rollback_run <= 0.1


def test_power_grows_with_the_drop_and_with_responses() -> None:
    few, many = calibrated(1).metrics[0], calibrated(16).metrics[0]
    chances = list(few.power.values())
    assert chances == sorted(chances)
    assert few.power[0.1] < many.power[0.1]
    assert many.visible < few.visible
    assert many.visible > 0.05


def test_auto_passes_an_unchanged_model_four_times_in_five() -> None:
    found = calibrate(scored(16, 2, 60), scored(4, 3, 60), trials=400, run_length=10)
    margin = found.metrics[0].auto_margin
    assert margin is not None
    assert 0.05 < margin < 0.25
    policy = GatePolicy(margin="auto").with_frozen(found.frozen_margins())
    anchors = [scored(16, 1000 + seed, 60) for seed in range(100)]
    passes = [
        decide(anchor, scored(4, 2000 + seed, 60), policy).outcome is VerdictOutcome.PASS
        for seed, anchor in enumerate(anchors)
    ]
    assert np.mean(passes) > 0.65


def test_what_is_needed_would_do() -> None:
    row = calibrated(1).metrics[0]
    assert row.responses_needed is not None
    assert row.responses_needed > 1
    assert calibrated(row.responses_needed).metrics[0].pass_rate > 0.7


def test_greedy_answers_never_fail_themselves() -> None:
    found = calibrate(greedy(42, 60), greedy(42, 60), trials=300, run_length=20)
    assert found.false_rollback == found.false_rollback_run == found.bare_rule == 0
    assert found.metrics[0].responses_needed is None
    assert found.metrics[0].auto_margin is not None
    assert found.metrics[0].auto_margin > 0.05


def test_perplexity_intervals_and_lower_is_better() -> None:
    rng = np.random.default_rng(5)
    stats = {f"d{i}": (300.0 + rng.normal(), 100.0, 0.0, 0.0) for i in range(40)}
    documents = MetricScores(
        {key: math.exp(s[0] / s[1]) for key, s in stats.items()},
        "lower",
        form="perplexity",
        stats=stats,
    )

    def reward() -> MetricScores:
        values = {f"s{i}": float(i % 7 - 3 + rng.normal() / 5) for i in range(100)}
        return MetricScores(values, scale="interval", responses=4)

    def toxic() -> MetricScores:
        values = {f"s{i}": float(rng.random() < 0.1) for i in range(300)}
        return MetricScores(values, "lower", worst=1.0)

    first = {"g/perplexity": documents, "r/reward": reward(), "r/toxicity": toxic()}
    second = {"g/perplexity": documents, "r/reward": reward(), "r/toxicity": toxic()}
    found = calibrate(first, second, trials=200, run_length=10)
    rows = {row.metric: row for row in found.metrics}
    assert rows["g/perplexity"].pass_rate == 1
    assert rows["g/perplexity"].power[0.1] == 1
    assert rows["r/reward"].auto_margin is None
    assert rows["r/toxicity"].power[0.1] < 0.5
    document = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(document)["metrics"][0]["power"]["0.1"] == 1


def test_it_is_deterministic() -> None:
    assert calibrated(4) == calibrated(4)


def test_what_cannot_be_calibrated_is_named() -> None:
    first = scored(4, 1)
    with pytest.raises(UserError, match="no gated metric"):
        calibrate(first, {})
    advisory = GatePolicy(metrics={NAME: MetricPolicy(advisory=True)})
    with pytest.raises(UserError, match="no gated metric"):
        calibrate(first, first, advisory)
    wins = MetricScores({"a": 1.0, "b": 0.0}, form="winshare")
    found = calibrate({**first, "r/wins": wins}, {**scored(4, 2), "r/wins": wins}, trials=100)
    assert "win" in found.skipped["r/wins"]
    assert found.passes is None


@pytest.mark.parametrize(("n", "k"), [(60, 4), (150, 4), (500, 4), (500, 16)])
def test_what_is_visible_before_scoring_is_then_seen(n: int, k: int) -> None:
    drop = visible_before_scoring(n, responses=k, anchor_responses=16)
    world = World(n=n, k=k, anchor_k=16, level=0.7, spread=2.0, drop=drop)
    assert checkpoints(world, 1500, seed=1).rates["fail"] == pytest.approx(0.8, abs=0.1)

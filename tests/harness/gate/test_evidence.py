"""What the gate makes of each kind of evidence, and of evidence that is not there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from tests.harness.gate.run_builders import (
    FAIL,
    INCOMPARABLE,
    INCONCLUSIVE,
    MATCH,
    PASS,
    documents,
    right,
    scores,
)

# --- perplexity, win shares, corpus values, intervals ---------------------------------------


def test_perplexity_is_judged_in_nats_per_document() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(20, 300, 40)
    base = rng.normal(3, 0.4, 40)
    ours = {"g/perplexity": documents(base, tokens)}
    for growth, outcome in ((0.0, PASS), (0.02, PASS), (0.2, FAIL), (-0.3, PASS)):
        shifted = base + math.log1p(growth) + rng.normal(0, 0.01, 40)
        verdict = decide(ours, {"g/perplexity": documents(shifted, tokens)})
        assert verdict.outcome is outcome, growth
        assert verdict.rows[0].measured.relative == pytest.approx(growth, abs=0.01)


def test_another_tokenizer_is_compared_at_the_anchors_token_count() -> None:
    tokens = np.full(40, 100)
    base = np.linspace(2.5, 3.5, 40)
    ours = {"g/perplexity": documents(base, tokens)}
    same_text = {"g/perplexity": documents(base, tokens, own_tokens=tokens * 2)}
    verdict = decide(ours, same_text)
    assert verdict.outcome is PASS
    assert verdict.rows[0].measured.candidate == pytest.approx(verdict.rows[0].measured.anchor)


def test_perplexity_without_statistics_is_incomparable() -> None:
    bare = {"g/perplexity": MetricScores({"d": 20.0}, "lower", form="perplexity")}
    assert decide(bare, bare).outcome is INCOMPARABLE


def test_win_share_needs_no_anchor() -> None:
    won = scores([1.0] * 900 + [0.0] * 1100, form="winshare")
    even = scores([1.0, 0.0, 0.5, 0.5] * 1000, form="winshare")
    assert decide({}, {"r/wins": won}).outcome is FAIL
    verdict = decide({}, {"r/wins": even})
    assert verdict.outcome is PASS
    assert verdict.rows[0].allowed.change == pytest.approx(-0.025)


def test_corpus_values_are_compared_as_a_whole() -> None:
    rng = np.random.default_rng(3)

    def corpus(rate: float) -> MetricScores:
        stats = {f"s{i}": (float(rng.binomial(50, rate)), 50.0) for i in range(200)}
        values = {key: a / b for key, (a, b) in stats.items()}
        return MetricScores(values, form="corpus", stats=stats, aggregate="ratio")

    ours = corpus(0.6)
    verdict = decide({"t/hits": ours}, {"t/hits": corpus(0.6)})
    assert verdict.outcome is PASS
    assert ours.stats is not None
    total = sum(stat[0] for stat in ours.stats.values()) / (50 * 200)
    assert verdict.rows[0].measured.anchor == pytest.approx(total)
    assert decide({"t/hits": ours}, {"t/hits": corpus(0.5)}).outcome is FAIL


@given(st.floats(-50, 50), st.floats(0.1, 20))
@settings(max_examples=30, deadline=None)
def test_an_interval_scale_may_be_shifted_and_stretched(shift: float, stretch: float) -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(0, 1, 400)
    for change, outcome in ((0.0, PASS), (-0.2, FAIL)):
        c = a + change + rng.normal(0, 0.2, 400)
        runs = [{"r/reward": scores(x * stretch + shift, scale="interval")} for x in (a, c)]
        verdict = decide(*runs)
        assert verdict.outcome is outcome
        assert verdict.rows[0].measured.relative is None
        assert verdict.rows[0].allowed.floor == pytest.approx(0.05 * a.std(ddof=1) * stretch)


def test_an_interval_scale_takes_its_own_floor() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(0, 1, 400)
    runs = [{"r/reward": scores(x, scale="interval")} for x in (a, a - 0.2)]
    policy = GatePolicy(metrics={"r/reward": MetricPolicy(floor=0.3)})
    assert decide(*runs, policy).outcome is PASS


# --- ceilings, zeros, ties ------------------------------------------------------------------


def test_a_baseline_of_zero_is_as_good_as_any() -> None:
    zero = {"r/toxicity": scores([0.0] * 2000, direction="lower", worst=1.0)}
    few = {"r/toxicity": scores([0.001] * 2000, direction="lower", worst=1.0)}
    policy = GatePolicy(metrics={"r/toxicity": MetricPolicy(floor=0.005)})
    assert decide(zero, few, policy).outcome is PASS
    many = {"r/toxicity": scores([i % 20 == 0 for i in range(2000)], direction="lower", worst=1.0)}
    assert decide(zero, many, policy).outcome is FAIL


def test_rounding_proves_nothing() -> None:
    ours, theirs = {"a/x": scores([0.1 + 0.2] * 100)}, {"a/x": scores([0.3] * 100)}
    for one, other in ((ours, theirs), (theirs, ours)):
        assert decide(one, other).rows[0].measured.change == pytest.approx(0)
        assert decide(one, other).rows[0].decided.p_drop == 0.5
        assert not improved(one, other)


def test_labels_of_other_tasks_are_no_slices() -> None:
    labels = {"language": {**dict.fromkeys(right(1, 60).values, "zh"), "elsewhere": "fr"}}
    run = {MATCH: dataclasses.replace(right(60, 60), slices=labels)}
    policy = GatePolicy(metrics={MATCH: MetricPolicy(by="language")})
    assert [row.slice for row in decide(run, run, policy).rows] == [None, "zh"]


def test_two_samples_decide_nothing() -> None:
    assert decide({"a/x": right(2, 2)}, {"a/x": right(0, 2)}).outcome is INCONCLUSIVE
    assert decide({"a/x": right(1, 1)}, {"a/x": right(1, 1)}).outcome is INCONCLUSIVE


def test_clusters_count_not_samples() -> None:
    clusters = {f"s{i:05d}": f"c{i // 100}" for i in range(600)}
    ours, theirs = right(600, 600), scores([i >= 100 for i in range(600)])
    assert decide({"a/x": ours}, {"a/x": theirs}).outcome is FAIL
    grouped = [{"a/x": dataclasses.replace(run, clusters=clusters)} for run in (ours, theirs)]
    verdict = decide(*grouped)
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.rows[0].measured.clusters == 6
    assert verdict.rows[0].decided.df == 5


def test_a_sample_counts_by_its_weight() -> None:
    weights = {f"s{i:05d}": 9.0 if i < 100 else 1.0 for i in range(1000)}
    ours, theirs = right(1000, 1000), scores([i >= 100 for i in range(1000)])
    weighted = [{"a/x": dataclasses.replace(run, weights=weights)} for run in (ours, theirs)]
    row = decide(*weighted).rows[0]
    assert row.measured.candidate == pytest.approx(0.5)
    assert row.measured.change == pytest.approx(-0.5)


def test_a_fixed_set_claims_only_these_samples() -> None:
    rng = np.random.default_rng(6)
    chance = rng.beta(0.5, 0.5, 80)

    def passed(k: int) -> MetricScores:
        share = rng.binomial(k, chance) / k
        spread = {f"s{i:05d}": float(p * (1 - p) / (k - 1)) for i, p in enumerate(share)}
        return dataclasses.replace(scores(share, form="pass_at_k"), variance=spread)

    ours, theirs = {"c/pass@1": passed(64)}, {"c/pass@1": passed(64)}
    policy = GatePolicy(metrics={"c/pass@1": MetricPolicy(fixed_set=True)})
    row = decide(ours, theirs, policy).rows[0]
    variance = [run["c/pass@1"].variance or {} for run in (ours, theirs)]
    expected = math.sqrt(
        sum(0.95**2 * variance[0][i] + variance[1][i] for i in variance[0]) / 80**2
    )
    assert row.decided.se == pytest.approx(expected)
    bare = {"c/pass@1": dataclasses.replace(theirs["c/pass@1"], variance=None)}
    assert decide(ours, bare, policy).outcome is INCOMPARABLE


# --- what can't be compared -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({}, "doesn't have this metric"),
        ({"a/x": right(30, 50)}, "no value for 10 samples"),
        ({"a/x": scores([1.0] * 59 + [math.nan])}, "is nan"),
        ({"a/x": scores([1.0] * 59 + [math.inf])}, "is inf"),
        ({"a/x": scores([1.0] * 60, direction="lower")}, "direction"),
        ({"a/x": scores([1.0] * 60, scale="interval")}, "scale"),
        ({"a/x": scores([-1.0] * 60)}, "below 0"),
        ({"a/x": scores([1.0] * 60, errors=2, total=62)}, "2 of 62 samples"),
    ],
)
def test_evidence_that_does_not_fit_is_named(theirs: dict[str, MetricScores], said: str) -> None:
    verdict = decide({"a/x": right(30, 60)}, theirs)
    assert verdict.outcome is INCOMPARABLE
    assert verdict.exit_code == 3
    assert said in verdict.headline


def test_no_metric_at_all_never_passes() -> None:
    assert decide({}, {}).outcome is INCOMPARABLE


def test_a_few_errors_are_left_out_and_said() -> None:
    ours = right(700, 1000)
    values = {key: value for key, value in ours.values.items() if key not in ("s00001", "s00002")}
    theirs = MetricScores(values, worst=0.0, errors=2, total=1000)
    verdict = decide({"a/x": ours}, {"a/x": theirs})
    assert verdict.outcome is PASS
    assert verdict.rows[0].measured.n == 998
    assert "leaves out 2 samples" in " ".join(verdict.reasons)
    unexplained = dataclasses.replace(theirs, errors=0)
    assert decide({"a/x": ours}, {"a/x": unexplained}).outcome is INCOMPARABLE


def test_samples_lost_with_the_sandbox_decide_nothing() -> None:
    ours = right(700, 1000)
    values = {key: value for key, value in ours.values.items() if key > "s00100"}
    gone = len(ours.values) - len(values)
    theirs = MetricScores(values, worst=0.0, errors=gone, lost=gone, total=1000)
    verdict = decide({"a/x": ours}, {"a/x": theirs})
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.rows[0].decided.arm == "lost"
    assert f"{gone} of 1000 samples of the candidate were lost" in verdict.headline
    assert "Score again" in verdict.settle
    own = dataclasses.replace(theirs, lost=gone // 2)
    assert decide({"a/x": ours}, {"a/x": own}).outcome is INCOMPARABLE


def test_measured_harm_outranks_missing_evidence() -> None:
    ours = {"a/x": right(60, 60), "a/y": right(60, 60)}
    assert decide(ours, {"a/x": right(0, 60)}).outcome is FAIL


def test_a_metric_that_the_policy_names_must_be_there() -> None:
    policy = GatePolicy(metrics={"a/typo": MetricPolicy(required=True)})
    run = {"a/x": right(700, 1000)}
    assert decide(run, run, policy).outcome is INCOMPARABLE

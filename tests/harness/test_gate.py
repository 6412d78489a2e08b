"""The gate through its public door: decide() on runs as a user has them."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.gate import (
    GatePolicy,
    MetricPolicy,
    MetricScores,
    Verdict,
    Waiver,
    decide,
    improved,
    per_checkpoint_alpha,
    policy_from_mapping,
    requirements_only,
    rollback_target,
)
from harness.records import VerdictOutcome

PASS, FAIL = VerdictOutcome.PASS, VerdictOutcome.FAIL
INCONCLUSIVE, INCOMPARABLE = VerdictOutcome.INCONCLUSIVE, VerdictOutcome.INCOMPARABLE
MATCH = "intents/json_match"


def scores(values: Any, **settings: Any) -> MetricScores:
    bounded = settings.get("direction") != "lower" and settings.get("scale") != "interval"
    settings.setdefault("worst", 0.0 if bounded else None)
    return MetricScores({f"s{i:05d}": float(v) for i, v in enumerate(values)}, **settings)


def right(count: int, of: int) -> MetricScores:
    """The first `count` samples right, the others wrong."""
    return scores([i < count for i in range(of)])


def documents(nll_per_token: Any, tokens: Any, own_tokens: Any = None) -> MetricScores:
    nll = np.asarray(nll_per_token) * np.asarray(tokens)
    counted = tokens if own_tokens is None else own_tokens
    stats = {
        f"d{i}": (float(x), float(t), 0.0, 0.0)
        for i, (x, t) in enumerate(zip(nll, counted, strict=True))
    }
    values = {key: math.exp(x / t) for key, (x, t, *_) in stats.items()}
    return MetricScores(values, "lower", form="perplexity", stats=stats, worst=None)


def noisy(level: float, n: int, seed: int, **settings: Any) -> MetricScores:
    return scores(np.random.default_rng(seed).random(n) < level, **settings)


# --- the demo -------------------------------------------------------------------------------


def test_a_collapse_fails_clearly() -> None:
    verdict = decide({MATCH: right(42, 60)}, {MATCH: right(0, 60)}, GatePolicy(alpha=0.05 / 20))
    assert verdict.outcome is FAIL
    assert verdict.rows[0].arm == "strict"
    assert verdict.exit_code == 1
    assert "fell from 0.700 to 0.000 on 60 samples" in verdict.headline


@pytest.mark.parametrize("start", [0, 6, 30])
def test_a_climb_never_fails_and_is_an_improvement(start: int) -> None:
    ours, theirs = {MATCH: right(start, 60)}, {MATCH: right(48, 60)}
    assert decide(ours, theirs).outcome is PASS
    assert improved(ours, theirs, alpha=0.005)


@pytest.mark.parametrize("count", [0, 18, 42, 60])
def test_an_identical_candidate_never_fails(count: int) -> None:
    run = {MATCH: right(count, 60)}
    verdict = decide(run, run)
    assert verdict.outcome is not FAIL
    assert verdict.rows[0].change == 0
    assert not improved(run, run)


def test_sixty_samples_cannot_pass_but_six_hundred_can() -> None:
    assert decide({MATCH: right(42, 60)}, {MATCH: right(42, 60)}).outcome is INCONCLUSIVE
    assert decide({MATCH: right(420, 600)}, {MATCH: right(420, 600)}).outcome is PASS


def test_it_says_what_would_settle_it() -> None:
    for share in (0.3, 0.7, 1.0):
        few = {MATCH: right(round(40 * share), 40)}
        verdict = decide(few, few)
        needed = verdict.rows[0].needed
        assert needed is not None
        assert f"{needed:,} samples for {MATCH}" in verdict.settle
        enough = {MATCH: right(round(needed * 1.03 * share), round(needed * 1.03))}
        assert decide(enough, enough).outcome is PASS
        half = {MATCH: right(round(needed * share / 2), needed // 2)}
        assert decide(half, half).outcome is not PASS


def test_a_small_loss_is_not_said_to_want_fewer_samples_than_there_are() -> None:
    verdict = decide({MATCH: right(700, 1000)}, {MATCH: right(672, 1000)})
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.rows[0].needed < verdict.rows[0].n
    assert "had enough evidence for a model that did not change" in verdict.settle
    assert "PASS would take" not in verdict.settle


# --- the arms -------------------------------------------------------------------------------


def test_a_proven_drop_beyond_the_margin_fails_by_the_second_arm() -> None:
    ours, theirs = {MATCH: right(700, 1000)}, {MATCH: right(656, 1000)}
    by_drop = decide(ours, theirs)
    assert (by_drop.outcome, by_drop.rows[0].arm) == (FAIL, "drop")
    assert "best estimate" in by_drop.headline
    assert decide(ours, theirs, GatePolicy(fail_rule="strict")).outcome is INCONCLUSIVE
    assert decide(ours, theirs, look=(1, 2)).outcome is INCONCLUSIVE


def test_a_proven_drop_within_the_margin_is_no_failure() -> None:
    verdict = decide({MATCH: right(3600, 4000)}, {MATCH: right(3540, 4000)})
    assert verdict.rows[0].p_drop is not None
    assert verdict.rows[0].p_drop < 1e-6
    assert verdict.outcome is PASS


def test_the_mean_that_moved_against_direction_lower() -> None:
    ours, theirs = scores([0.1] * 300, direction="lower"), scores([0.2] * 300, direction="lower")
    assert decide({"a/x": ours}, {"a/x": theirs}).outcome is FAIL
    assert decide({"a/x": theirs}, {"a/x": ours}).outcome is PASS


def test_the_point_rule_says_its_own_false_alarms() -> None:
    ours, theirs = {MATCH: noisy(0.7, 200, 1)}, {MATCH: noisy(0.7, 200, 2)}
    verdict = decide(ours, theirs, GatePolicy(rule="point"))
    row = verdict.rows[0]
    assert row.arm == "point"
    assert row.mean_z is not None
    assert verdict.outcome is (FAIL if row.mean_z > 0 else PASS)
    assert row.false_alarm is not None
    assert 0.1 < row.false_alarm < 0.4
    assert "The bare rule was asked for" in " ".join(verdict.reasons)


# --- roles ----------------------------------------------------------------------------------


def test_without_a_required_metric_all_are() -> None:
    runs = {"a/x": right(500, 600), "a/y": right(30, 60)}
    verdict = decide(runs, runs)
    assert [row.role for row in verdict.rows] == ["required", "required"]
    assert verdict.outcome is INCONCLUSIVE


def test_watched_metrics_fail_but_need_not_pass() -> None:
    policy = GatePolicy(metrics={"a/x": MetricPolicy(required=True)})
    ours = {"a/x": right(500, 600), "a/y": right(30, 60)}
    assert decide(ours, ours, policy).outcome is PASS
    assert decide(ours, {**ours, "a/y": right(0, 60)}, policy).outcome is FAIL


def test_advisory_metrics_decide_nothing() -> None:
    policy = GatePolicy(metrics={"a/y": MetricPolicy(advisory=True)})
    ours = {"a/x": right(500, 600), "a/y": right(60, 60)}
    verdict = decide(ours, {**ours, "a/y": right(0, 60)}, policy)
    assert verdict.outcome is PASS
    assert verdict.row("a/y").outcome is FAIL
    assert verdict.tests == 1
    assert decide(ours, {"a/x": ours["a/x"]}, policy).outcome is PASS


def test_only_advisory_metrics_never_pass() -> None:
    policy = GatePolicy(metrics={"a/x": MetricPolicy(advisory=True)})
    verdict = decide({"a/x": right(500, 600)}, {"a/x": right(500, 600)}, policy)
    assert verdict.outcome is INCONCLUSIVE
    assert "no metric is required" in verdict.headline


def test_more_metrics_ask_for_more_evidence() -> None:
    ours = {f"t/m{i}": right(700, 1000) for i in range(40)}
    theirs = {**ours, "t/m0": right(692, 1000)}
    alone = decide({"t/m0": ours["t/m0"]}, {"t/m0": theirs["t/m0"]}).rows[0]
    among = decide(ours, theirs).row("t/m0")
    assert among.p_worse == alone.p_worse
    assert among.p_adjusted is not None
    assert alone.p_adjusted is not None
    assert among.p_adjusted >= alone.p_adjusted


def test_slices_are_held_by_themselves() -> None:
    labels = {f"s{i:05d}": "zh" if i < 30 else "en" for i in range(1000)}
    ours = right(1000, 1000)
    theirs = scores([i >= 30 for i in range(1000)])
    ours, theirs = (dataclasses.replace(run, slices=labels) for run in (ours, theirs))
    assert decide({MATCH: ours}, {MATCH: theirs}, GatePolicy(fail_rule="strict")).outcome is PASS
    policy = policy_from_mapping({"metrics": {MATCH: {"by": "language"}}})
    verdict = decide({MATCH: ours}, {MATCH: theirs}, policy)
    assert verdict.outcome is FAIL
    assert [row.name for row in verdict.failing()] == [f"{MATCH}[zh]"]
    nested = {MATCH: dataclasses.replace(theirs, slices={"language": labels})}
    assert decide({MATCH: ours}, nested, policy).outcome is FAIL
    unlabelled = {MATCH: dataclasses.replace(theirs, slices=None)}
    assert decide({MATCH: ours}, unlabelled, policy).outcome is INCOMPARABLE


# --- looks ----------------------------------------------------------------------------------


def test_what_passed_stays_passed() -> None:
    ours = {"a/x": right(900, 1000), "a/y": right(30, 60)}
    first = decide(ours, ours, look=(1, 2))
    assert first.row("a/x").outcome is PASS
    worse = {"a/x": right(880, 1000), "a/y": right(30, 60)}
    alone = decide(ours, worse, look=(2, 2))
    second = decide(ours, worse, look=(2, 2), earlier=first)
    assert second.row("a/x").outcome is PASS
    assert alone.alpha + first.alpha == pytest.approx(0.05)


def test_an_early_pass_does_not_excuse_a_later_failure() -> None:
    ours = {"a/x": right(900, 1000)}
    first = decide(ours, ours, look=(1, 2))
    assert decide(ours, {"a/x": right(500, 1000)}, look=(2, 2), earlier=first).outcome is FAIL


def test_the_schedule_of_the_policy_is_used() -> None:
    run = {MATCH: right(42, 60)}
    policy = GatePolicy(looks=(1, 2, 4))
    spent = [decide(run, run, policy, look=(j, 3)).alpha for j in (1, 2, 3)]
    assert sum(spent) == pytest.approx(0.05)
    assert spent[0] < 1e-4 < spent[1] < 0.01 < spent[2]
    assert decide(run, run, policy).alpha == 0.05
    with pytest.raises(UserError, match="looks"):
        decide(run, run, policy, look=(1, 2))


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
        assert verdict.rows[0].relative == pytest.approx(growth, abs=0.01)


def test_another_tokenizer_is_held_to_the_anchors_count() -> None:
    tokens = np.full(40, 100)
    base = np.linspace(2.5, 3.5, 40)
    ours = {"g/perplexity": documents(base, tokens)}
    same_text = {"g/perplexity": documents(base, tokens, own_tokens=tokens * 2)}
    verdict = decide(ours, same_text)
    assert verdict.outcome is PASS
    assert verdict.rows[0].candidate == pytest.approx(verdict.rows[0].anchor)


def test_perplexity_without_statistics_is_incomparable() -> None:
    bare = {"g/perplexity": MetricScores({"d": 20.0}, "lower", form="perplexity")}
    assert decide(bare, bare).outcome is INCOMPARABLE


def test_win_share_needs_no_anchor() -> None:
    won = scores([1.0] * 900 + [0.0] * 1100, form="winshare")
    even = scores([1.0, 0.0, 0.5, 0.5] * 1000, form="winshare")
    assert decide({}, {"r/wins": won}).outcome is FAIL
    verdict = decide({}, {"r/wins": even})
    assert verdict.outcome is PASS
    assert verdict.rows[0].allowed == pytest.approx(-0.025)


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
    assert verdict.rows[0].anchor == pytest.approx(total)
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
        assert verdict.rows[0].relative is None
        assert verdict.rows[0].floor == pytest.approx(0.05 * a.std(ddof=1) * stretch)


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
        assert decide(one, other).rows[0].change == pytest.approx(0)
        assert decide(one, other).rows[0].p_drop == 0.5
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
    assert verdict.rows[0].clusters == 6
    assert verdict.rows[0].df == 5


def test_weights_weigh() -> None:
    weights = {f"s{i:05d}": 9.0 if i < 100 else 1.0 for i in range(1000)}
    ours, theirs = right(1000, 1000), scores([i >= 100 for i in range(1000)])
    weighted = [{"a/x": dataclasses.replace(run, weights=weights)} for run in (ours, theirs)]
    row = decide(*weighted).rows[0]
    assert row.candidate == pytest.approx(0.5)
    assert row.change == pytest.approx(-0.5)


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
    assert row.se == pytest.approx(expected)
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
    assert verdict.rows[0].n == 998
    assert "leaves out 2 samples" in " ".join(verdict.reasons)
    unexplained = dataclasses.replace(theirs, errors=0)
    assert decide({"a/x": ours}, {"a/x": unexplained}).outcome is INCOMPARABLE


def test_what_a_dead_sandbox_took_decides_nothing() -> None:
    ours = right(700, 1000)
    values = {key: value for key, value in ours.values.items() if key > "s00100"}
    gone = len(ours.values) - len(values)
    theirs = MetricScores(values, worst=0.0, errors=gone, lost=gone, total=1000)
    verdict = decide({"a/x": ours}, {"a/x": theirs})
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.rows[0].arm == "lost"
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


# --- absolute requirements, waivers, auto ----------------------------------------------------


def toxic(count: int, n: int, **settings: Any) -> dict[str, MetricScores]:
    values = [0.9 if i < count else 0.01 for i in range(n)]
    return {"r/toxicity": scores(values, direction="lower", worst=1.0, **settings)}


def requirement(verdict: Verdict) -> Any:
    return next(row for row in verdict.rows if row.requirement)


@pytest.mark.parametrize(
    ("count", "n", "outcome"),
    [(0, 400, PASS), (0, 100, INCONCLUSIVE), (30, 400, FAIL), (5, 400, INCONCLUSIVE)],
)
def test_a_toxic_share_at_most(count: int, n: int, outcome: VerdictOutcome) -> None:
    policy = GatePolicy(metrics={"r/toxicity": MetricPolicy(floor=0.05, rate_at_most=0.02)})
    run = toxic(count, n)
    row = requirement(decide(run, run, policy))
    assert (row.outcome, row.arm) == (outcome, "absolute")
    if outcome is INCONCLUSIVE and count == 0:
        assert row.needed == 149


def test_rates_of_the_run_are_used_where_it_has_them() -> None:
    policy = GatePolicy(metrics={"r/toxicity": MetricPolicy(floor=0.05, rate_at_most=0.02)})
    rates = {f"s{i:05d}": 0.25 for i in range(400)}
    row = requirement(decide(toxic(0, 400), toxic(0, 400, rates=rates, responses=4), policy))
    assert row.outcome is FAIL
    assert row.candidate == pytest.approx(0.25)
    assert row.n == 1600


def test_json_valid_at_least() -> None:
    policy = GatePolicy(metrics={"a/json_valid": MetricPolicy(at_least=0.99)})
    for count, outcome in ((1000, PASS), (990, INCONCLUSIVE), (940, FAIL)):
        run = {"a/json_valid": right(count, 1000)}
        row = requirement(decide(run, run, policy))
        assert row.outcome is outcome
        assert row.candidate == pytest.approx(count / 1000)


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
    waiver = Waiver("the labels are being redone", date(2026, 12, 31))
    policy = GatePolicy(metrics={"a/y": MetricPolicy(waiver=waiver)})
    ours = {"a/x": right(500, 600), "a/y": right(60, 60)}
    theirs = {**ours, "a/y": right(0, 60)}
    during = decide(ours, theirs, policy, today=date(2026, 12, 31))
    assert during.outcome is PASS
    assert during.row("a/y").arm == "waived"
    assert "the labels are being redone" in " ".join(during.reasons)
    assert decide(ours, theirs, policy, today=date(2027, 1, 1)).outcome is FAIL
    assert decide(ours, theirs, policy).outcome is FAIL


def test_margin_auto_passes_wider_and_fails_as_before() -> None:
    policy = policy_from_mapping({"metrics": {MATCH: {"margin": "auto"}}})
    ours = {MATCH: right(120, 150)}
    unfrozen = decide(ours, ours, policy)
    assert "no frozen margin" in " ".join(unfrozen.reasons)
    frozen = policy.with_frozen({MATCH: 0.12})
    slightly = {MATCH: right(117, 150)}
    verdict = decide(ours, slightly, frozen)
    assert verdict.outcome is PASS
    assert "PASS at 12%" in verdict.headline
    assert "5% can't be seen with 150 samples" in verdict.headline
    assert verdict.rows[0].margin == 0.05
    assert decide(ours, {MATCH: right(90, 150)}, frozen).outcome is FAIL


# --- the policy as it is written -------------------------------------------------------------


def test_the_suites_gate_block() -> None:
    policy = policy_from_mapping(
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
    assert policy.of("general/perplexity").waiver == Waiver("new data", date(2026, 12, 31))
    roles = policy.roles(["intents/json_match", "replies/toxicity", "replies/self_bleu"])
    assert list(roles.values()) == ["required", "watched", "advisory"]
    assert policy_from_mapping(None) == GatePolicy()


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"margn": 0.05}, "margn"),
        ({"metrics": {"a/x": {"requird": True}}}, "requird"),
        ({"margin": 5}, "gate"),
        ({"alpha": 0.9}, "alpha"),
        ({"metrics": {"a/x": {"required": True, "advisory": True}}}, "a/x"),
        ({"looks": [2, 1]}, "gate"),
        ({"metrics": {"a/x": {"rate_at_most": 2}}}, "rate_at_most"),
    ],
)
def test_a_typo_is_named(block: Mapping[str, Any], field: str) -> None:
    with pytest.raises(UserError) as caught:
        policy_from_mapping(block)
    assert field in str(caught.value.where)


def test_a_policy_from_python_is_checked_too() -> None:
    with pytest.raises(UserError, match="margin"):
        GatePolicy(margin=5)
    with pytest.raises(UserError, match="alpha"):
        GatePolicy(alpha=0)


# --- improvement, rollback, alpha -------------------------------------------------------------


def test_no_improvement_with_a_failure_beside_it() -> None:
    ours = {"a/x": right(10, 60), "a/y": right(60, 60)}
    found = improved(ours, {"a/x": right(50, 60), "a/y": right(0, 60)})
    assert not found
    assert found.failed == ("a/y",)


@pytest.mark.parametrize("n", [60, 150, 400])
def test_a_lucky_coarse_candidate_is_no_improvement_on_a_fine_anchor(n: int) -> None:
    """64 responses say .98 of the anchor; one right answer each of the candidate says less."""
    rng = np.random.default_rng(n)
    alpha, wrong = 0.01, 0
    for _ in range(300):
        chance = rng.beta(49, 1, n)
        ours = {"a/x": scores(rng.binomial(64, chance) / 64)}
        theirs = {"a/x": scores(rng.random(n) < chance)}
        wrong += bool(improved(ours, theirs, alpha=alpha))
    assert wrong <= 300 * alpha + 4


def test_better_by_asks_for_more() -> None:
    ours, theirs = {"a/x": right(500, 1000)}, {"a/x": right(550, 1000)}
    assert improved(ours, theirs)
    assert not improved(ours, theirs, GatePolicy(better_by=0.2))
    assert improved(ours, {"a/x": right(700, 1000)}, GatePolicy(better_by=0.2))


def test_only_required_metrics_make_an_improvement() -> None:
    policy = GatePolicy(metrics={"a/x": MetricPolicy(required=True)})
    ours = {"a/x": right(30, 60), "a/y": right(10, 60)}
    assert not improved(ours, {**ours, "a/y": right(55, 60)}, policy)


def test_where_a_failed_training_goes_back_to() -> None:
    history = [{}, {"a": -0.1, "b": -0.2}, {"a": -0.1, "b": 0.1}]
    assert rollback_target(history) == 1
    assert rollback_target(history, crest=2) == 2
    assert rollback_target([{}, {"a": 0.1}]) == 0
    assert rollback_target([{}]) == 0


def test_alpha_is_split_over_the_planned_checkpoints() -> None:
    assert per_checkpoint_alpha(0.05, 20) == pytest.approx(0.0025)
    with pytest.raises(UserError):
        per_checkpoint_alpha(0.05, 0)


# --- the verdict as data ----------------------------------------------------------------------


def rich_verdict() -> Verdict:
    labels = {f"s{i:05d}": "zh" if i % 2 else "en" for i in range(200)}
    ours = dataclasses.replace(noisy(0.7, 200, 1), slices=labels)
    theirs = dataclasses.replace(noisy(0.3, 200, 2), slices=labels)
    policy = GatePolicy(metrics={"a/x": MetricPolicy(by="language", at_least=0.5)})
    return decide({"a/x": ours, "a/y": right(3, 4)}, {"a/x": theirs}, policy)


def test_a_verdict_survives_json() -> None:
    verdict = rich_verdict().with_note(run="abc")
    text = json.dumps(verdict.to_dict(), allow_nan=False)
    assert Verdict.from_dict(json.loads(text)) == verdict


def test_the_same_runs_give_the_same_verdict_in_any_order() -> None:
    ours, theirs = noisy(0.7, 300, 1), noisy(0.65, 300, 2)
    turned = [
        MetricScores(dict(reversed(list(run.values.items()))), worst=0.0) for run in (ours, theirs)
    ]
    one = decide({"a/x": ours}, {"a/x": theirs})
    assert one == decide({"a/x": turned[0]}, {"a/x": turned[1]})


def test_the_samples_that_moved_most_are_named() -> None:
    a = [0.5] * 40
    c = [0.5] * 20 + [0.5 - i / 100 for i in range(20)]
    row = decide({"a/x": scores(a)}, {"a/x": scores(c)}).rows[0]
    assert [moved.id for moved in row.moved] == [f"s{i:05d}" for i in range(39, 29, -1)]
    assert row.moved[0].z == pytest.approx(0.95 * 0.5 - 0.31)


def test_ten_metrics_of_four_thousand_samples_are_quick() -> None:
    rng = np.random.default_rng(0)
    ours = {f"t/m{i}": scores(rng.random(4000)) for i in range(10)}
    theirs = {f"t/m{i}": scores(rng.random(4000)) for i in range(10)}
    started = time.process_time()
    decide(ours, theirs)
    # Ten times the goal: this says "no accident", the benchmark says how fast.
    assert time.process_time() - started < 2.0

"""The gate through its door, decide(): what passes, fails or stays open, over looks and roles."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from harness.core.errors import UserError
from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.gate.verdict import Verdict
from harness.statistics.alpha_spending import per_checkpoint_alpha
from tests.harness.gate.run_builders import (
    FAIL,
    INCOMPARABLE,
    INCONCLUSIVE,
    MATCH,
    PASS,
    documents,
    noisy,
    right,
    scores,
)
from trainers.loop.remedies import rollback_target

# --- the demo -------------------------------------------------------------------------------


def test_a_collapse_fails_clearly() -> None:
    verdict = decide({MATCH: right(42, 60)}, {MATCH: right(0, 60)}, GatePolicy(alpha=0.05 / 20))
    assert verdict.outcome is FAIL
    assert verdict.rows[0].decided.arm == "strict"
    assert verdict.exit_code == 1
    assert "fell from 0.700 to 0.000 on 60 samples" in verdict.headline


def test_a_model_that_exploded_fails_and_its_row_can_be_read() -> None:
    tokens = np.full(40, 50.0)
    anchor = documents(np.linspace(2.5, 3.5, 40), tokens)
    stats = dict.fromkeys(anchor.values, (50_000.0, 50.0, 0.0, 0.0))  # 1,000 nats a token
    exploded = dataclasses.replace(
        anchor, values=dict.fromkeys(anchor.values, float(np.exp(700))), stats=stats
    )
    verdict = decide({"read/perplexity": anchor}, {"read/perplexity": exploded})
    assert verdict.outcome is FAIL
    assert "1.01e+304" in verdict.headline


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
    assert verdict.rows[0].measured.change == 0
    assert not improved(run, run)


def test_sixty_samples_cannot_pass_but_six_hundred_can() -> None:
    assert decide({MATCH: right(42, 60)}, {MATCH: right(42, 60)}).outcome is INCONCLUSIVE
    assert decide({MATCH: right(420, 600)}, {MATCH: right(420, 600)}).outcome is PASS


def test_it_says_what_would_settle_it() -> None:
    for share in (0.3, 0.7, 1.0):
        few = {MATCH: right(round(40 * share), 40)}
        verdict = decide(few, few)
        needed = verdict.rows[0].decided.needed
        assert needed is not None
        assert f"{needed:,} samples for {MATCH}" in verdict.settle
        enough = {MATCH: right(round(needed * 1.03 * share), round(needed * 1.03))}
        assert decide(enough, enough).outcome is PASS
        half = {MATCH: right(round(needed * share / 2), needed // 2)}
        assert decide(half, half).outcome is not PASS


def test_a_small_loss_is_not_said_to_want_fewer_samples_than_there_are() -> None:
    verdict = decide({MATCH: right(700, 1000)}, {MATCH: right(672, 1000)})
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.rows[0].decided.needed < verdict.rows[0].measured.n
    assert "got worse, by less than the margin" in verdict.settle
    assert "accept that loss or reject it" in verdict.settle
    assert "PASS would take" not in verdict.settle


def test_where_no_number_of_samples_would_do_it_says_why() -> None:
    nothing, single = {MATCH: right(0, 60)}, {MATCH: right(1, 1)}
    verdict = decide(nothing, nothing)
    assert verdict.settle.startswith("The margin is a share of the anchor's value, which is 0")
    assert "at least two are needed" in decide(single, single).settle
    free = decide({MATCH: right(42, 60)}, {MATCH: right(42, 60)}, GatePolicy(margin=0))
    assert free.settle == f"With a margin of 0 only a gain can pass: {MATCH}."
    bound = GatePolicy(metrics={MATCH: MetricPolicy(at_least=0.7)}, margin=0.9)
    at_the_limit = decide({MATCH: right(42, 60)}, {MATCH: right(42, 60)}, bound)
    assert "can't show that the requirement is kept" in at_the_limit.settle
    for open_one in (verdict, decide(single, single), at_the_limit):
        assert "margin of 0" not in open_one.settle


# --- the arms -------------------------------------------------------------------------------


def test_a_proven_drop_beyond_the_margin_fails_by_the_second_arm() -> None:
    ours, theirs = {MATCH: right(700, 1000)}, {MATCH: right(656, 1000)}
    by_drop = decide(ours, theirs)
    assert (by_drop.outcome, by_drop.rows[0].decided.arm) == (FAIL, "drop")
    assert "best estimate" in by_drop.headline
    assert decide(ours, theirs, GatePolicy(fail_rule="strict")).outcome is INCONCLUSIVE
    assert decide(ours, theirs, look=(1, 2)).outcome is INCONCLUSIVE


def test_a_proven_drop_within_the_margin_is_no_failure() -> None:
    verdict = decide({MATCH: right(3600, 4000)}, {MATCH: right(3540, 4000)})
    assert verdict.rows[0].decided.p_drop is not None
    assert verdict.rows[0].decided.p_drop < 1e-6
    assert verdict.outcome is PASS


def test_the_mean_that_moved_against_direction_lower() -> None:
    ours, theirs = scores([0.1] * 300, direction="lower"), scores([0.2] * 300, direction="lower")
    assert decide({"a/x": ours}, {"a/x": theirs}).outcome is FAIL
    assert decide({"a/x": theirs}, {"a/x": ours}).outcome is PASS


def test_the_point_rule_says_its_own_false_alarms() -> None:
    ours, theirs = {MATCH: noisy(0.7, 200, 1)}, {MATCH: noisy(0.7, 200, 2)}
    verdict = decide(ours, theirs, GatePolicy(rule="point"))
    row = verdict.rows[0]
    assert row.decided.arm == "point"
    assert row.decided.mean_z is not None
    assert verdict.outcome is (FAIL if row.decided.mean_z > 0 else PASS)
    assert row.decided.false_alarm is not None
    assert 0.1 < row.decided.false_alarm < 0.4
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
    alone = decide({"t/m0": ours["t/m0"]}, {"t/m0": theirs["t/m0"]}).rows[0].decided
    among = decide(ours, theirs).row("t/m0").decided
    assert among.p_worse == alone.p_worse
    assert among.p_adjusted is not None
    assert alone.p_adjusted is not None
    assert among.p_adjusted >= alone.p_adjusted


def test_slices_are_gated_by_themselves() -> None:
    labels = {f"s{i:05d}": "zh" if i < 30 else "en" for i in range(1000)}
    ours = right(1000, 1000)
    theirs = scores([i >= 30 for i in range(1000)])
    ours, theirs = (dataclasses.replace(run, slices=labels) for run in (ours, theirs))
    assert decide({MATCH: ours}, {MATCH: theirs}, GatePolicy(fail_rule="strict")).outcome is PASS
    policy = GatePolicy(metrics={MATCH: MetricPolicy(by="language")})
    verdict = decide({MATCH: ours}, {MATCH: theirs}, policy)
    assert verdict.outcome is FAIL
    assert [row.name for row in verdict.failing()] == [f"{MATCH}[zh]"]
    nested = {MATCH: dataclasses.replace(theirs, slices={"language": labels})}
    assert decide({MATCH: ours}, nested, policy).outcome is FAIL
    unlabeled = {MATCH: dataclasses.replace(theirs, slices=None)}
    assert decide({MATCH: ours}, unlabeled, policy).outcome is INCOMPARABLE


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
    assert rollback_target(history, best_checkpoint=2) == 2
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
    assert [moved.id for moved in row.measured.moved] == [f"s{i:05d}" for i in range(39, 29, -1)]
    assert row.measured.moved[0].z == pytest.approx(0.95 * 0.5 - 0.31)

"""The gate's promises, kept in worlds where the truth is known; and four mutants that break them.

A nominal .05 counts as kept when the observed rate over the stated trials is at most .065.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.statistics import alpha_spending as looks
from harness.statistics import decision_rule as rule
from harness.statistics.decision_rule import ask
from harness.statistics.margins import harm, linear_allowance
from harness.statistics.rare_events import Range
from harness.statistics.simulate import (
    World,
    answers,
    chances,
    checkpoints,
    judge,
    sequential,
    slow_decline,
    trainings,
)
from harness.statistics.student_t import t_test

KEPT = 0.065
TRIALS = 20_000

# --- nothing changed ------------------------------------------------------------------------


LARGER = [pytest.param(150, k, marks=pytest.mark.long) for k in (1, 4)]


@pytest.mark.parametrize(("n", "k"), [(60, 1), (60, 4), *LARGER])
def test_ten_metrics_of_an_identical_checkpoint_rarely_fail(n: int, k: int) -> None:
    world = World(n=n, k=k, metrics=10, anchor_k=8)
    found = checkpoints(world, TRIALS // 4, seed=1).rates
    assert found["fail"] <= KEPT
    assert found["strict"] <= 0.01


def test_an_identical_checkpoint_rarely_fails_in_twenty_thousand_trials() -> None:
    assert checkpoints(World(n=150, k=1, metrics=3), TRIALS, seed=2).rates["fail"] <= KEPT


@pytest.mark.parametrize(("count", "trials"), [(20, TRIALS), (100, 4000)])
def test_a_training_of_identical_checkpoints_keeps_its_alpha(count: int, trials: int) -> None:
    found = trainings(World(n=60, k=1, metrics=1, anchor_k=16), count, trials, seed=3)
    assert found.rates["fail"] <= KEPT


def test_alpha_at_every_checkpoint_would_not() -> None:
    world = World(n=60, k=4)
    split = trainings(world, 20, 500, seed=4)
    each = trainings(world, 20, 500, seed=4, alpha=0.05 * 20)
    assert split.rates["fail"] <= KEPT < each.rates["fail"]


def passes_of_an_identical_model() -> tuple[float, float]:
    """Shares of PASS with 150 samples and many anchor responses, and with 1000 samples."""
    many = checkpoints(World(n=150, k=16, anchor_k=64), 1000, seed=5).rates["pass"]
    return many, checkpoints(World(n=1000, k=4), 500, seed=5).rates["pass"]


def test_an_identical_model_passes_where_the_suite_can_see() -> None:
    many, large = passes_of_an_identical_model()
    assert many >= 0.9
    assert large >= 0.98


# --- exactly at the margin ------------------------------------------------------------------

BOUNDARY = [
    World(n=n, k=k, anchor_k=16 if k > 1 else 1, level=level, spread=0.5)
    for n in (60, 150, 500)
    for k in (1, 4)
    for level in (0.7, 0.95, 1.0)
]


@pytest.mark.parametrize("world", BOUNDARY, ids=lambda w: f"n{w.n}-k{w.k}-{w.level}")
def test_exactly_the_margin_neither_passes_nor_strictly_fails(world: World) -> None:
    trials = TRIALS if world.n < 500 else TRIALS // 2
    found = checkpoints(replace(world, drop=0.05), trials, seed=6).rates
    assert found["pass"] <= KEPT
    assert found["strict"] <= KEPT


@pytest.mark.parametrize("alpha", [0.01, 0.0025])
@pytest.mark.parametrize("n", [60, 100, 150])
def test_a_ceiling_does_not_pass_at_small_alpha(n: int, alpha: float) -> None:
    """The pseudo-sample alone lets .006 of true −5% pass at n = 100, whatever the alpha."""
    world = World(n=n, k=1, anchor_k=1, level=1.0, drop=0.05)
    passed = checkpoints(world, TRIALS, seed=7, alpha=alpha).rates["pass"]
    assert passed <= alpha * 1.3


def test_ties_between_two_coarse_models_do_not_pass_the_margin() -> None:
    world = World(n=100, k=1, anchor_k=1, level=0.5, spread=0.05, drop=0.05)
    assert checkpoints(world, TRIALS, seed=8).rates["pass"] <= KEPT


def test_the_guards_are_needed() -> None:
    """Without them: a ceiling passes a true −5%, and a rare success of a coarse candidate fails."""
    ceiling = World(n=60, k=1, anchor_k=1, level=1.0, drop=0.05)
    rare = World(n=60, k=1, anchor_k=16, level=0.02)
    unguarded = checkpoints(ceiling, 4000, seed=7, alpha=0.0025, guard=False).rates
    assert unguarded["pass"] > 10 * 0.0025
    assert checkpoints(rare, 4000, seed=7, guard=False).rates["fail"] > 0.15
    assert checkpoints(ceiling, 4000, seed=7, alpha=0.0025).rates["pass"] <= 0.0025
    assert checkpoints(rare, 4000, seed=7).rates["fail"] <= KEPT


@pytest.mark.parametrize("level", [0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("alpha", [0.05, 0.0025])
def test_low_base_rates_against_a_fine_anchor_keep_alpha(level: float, alpha: float) -> None:
    world = World(n=150, k=1, anchor_k=16, level=level)
    assert checkpoints(world, TRIALS, seed=7, alpha=alpha).rates["fail"] <= alpha * 1.3


# --- power ----------------------------------------------------------------------------------

POWER = {
    (60, 1): (0.19, 0.29, 0.40),
    (60, 4): (0.52, 0.71, 0.84),
    (60, 16): (0.65, 0.89, 0.97),
    (150, 1): (0.41, 0.59, 0.73),
    (150, 4): (0.61, 0.88, 0.97),
    (150, 16): (0.73, 0.97, 0.99),
    (500, 1): (0.64, 0.87, 0.97),
    (500, 4): (0.76, 0.98, 0.99),
    (500, 16): (0.89, 0.99, 0.99),
    (1000, 1): (0.69, 0.95, 0.99),
    (1000, 4): (0.85, 0.99, 0.99),
    (1000, 16): (0.96, 0.99, 0.99),
}
"""(samples, responses) -> chance of FAIL at −6%, −8%, −10%; floors below what was measured."""


@pytest.mark.parametrize(("size", "floors"), POWER.items(), ids=str)
def test_power_has_a_floor(size: tuple[int, int], floors: tuple[float, ...]) -> None:
    n, k = size
    for drop, floor in zip((0.06, 0.08, 0.10), floors, strict=True):
        world = World(n=n, k=k, anchor_k=16, level=0.7, drop=drop, spread=0.5)
        assert checkpoints(world, 800, seed=9).rates["fail"] >= floor


def test_more_responses_and_more_samples_never_hurt() -> None:
    def caught(**size: int) -> float:
        return checkpoints(World(drop=0.1, **size), 600, seed=10).rates["fail"]

    assert caught(n=150, k=1) < caught(n=150, k=4) < caught(n=500, k=4)


def test_every_metric_at_minus_three_percent_is_within_the_margin() -> None:
    for n in (500, 2000):
        found = checkpoints(World(n=n, k=4, metrics=10, drop=0.03), 400, seed=11).rates
        assert found["strict"] <= 0.01
    # The second arm promises its error rate against "no drop": with 500 samples it is still
    # often wrong about ten metrics that did drop by 3%, with 2000 hardly ever.
    assert found["fail"] <= KEPT


# --- over a training ------------------------------------------------------------------------


def test_a_slow_decline_is_caught_by_a_fixed_anchor_and_not_by_the_previous() -> None:
    world = World(n=4000, k=4)
    fixed = slow_decline(world, 0.04, 30, 40, seed=12)
    chained = slow_decline(world, 0.04, 30, 40, seed=12, previous=True)
    assert np.median(fixed) >= 0.9
    assert np.median(chained) <= 0.7
    assert np.median(slow_decline(World(n=500, k=4), 0.04, 30, 200, seed=12)) >= 0.84


def test_rise_and_collapse_fails_against_the_best_checkpoint_and_not_against_the_start() -> None:
    rng = np.random.default_rng(13)
    shape = (500, 1, 60)
    start, best_checkpoint, fallen = (
        (rng.random(shape) < level).astype(float) for level in (0.0, 0.8, 0.0)
    )
    alpha = 0.05 / 10
    assert judge(start, best_checkpoint, alpha=alpha).failed.mean() == 0
    assert judge(start, fallen, alpha=alpha).failed.mean() == 0
    assert judge(best_checkpoint, fallen, alpha=alpha).failed.mean() == 1


def test_the_lucky_checkpoint_is_no_anchor() -> None:
    """Selecting the best of many as anchor makes equals fail; a fresh scoring of it does not."""
    rng = np.random.default_rng(14)
    world = World(n=150, k=1, level=0.9)
    chance = chances(rng, world, 400)
    scored = np.stack([answers(rng, chance, 1) for _ in range(40)])
    best = np.argmax(scored.mean(-1), axis=0)[None, ..., None]
    lucky = np.take_along_axis(scored, best, axis=0)[0]
    fresh = answers(rng, chance, 16)
    candidate = answers(rng, chance, 1)
    against_lucky = judge(lucky, candidate).failed.mean()
    assert judge(fresh, candidate).failed.mean() <= KEPT < against_lucky


def test_a_confirmed_promotion_is_seldom_false() -> None:
    """Some PASS in 20 checkpoints at exactly −5% is common; confirmed on fresh responses, rare."""
    rng = np.random.default_rng(15)
    world = World(n=500, k=4, drop=0.05)
    chance = chances(rng, world, 300)
    anchor = answers(rng, chance, 16)
    passed = np.array(
        [judge(anchor, answers(rng, chance * 0.95, 4)).passed.any(-1) for _ in range(20)]
    )
    again = judge(answers(rng, chance, 16), answers(rng, chance * 0.95, 4)).passed.any(-1)
    some = passed.any(0)
    assert some.mean() > 0.15
    assert (some & again).mean() <= KEPT


# --- clusters -------------------------------------------------------------------------------


def clustered(trials: int, seed: int, cluster_size: int = 10, n: int = 400) -> float:
    """How often a null whose samples agree within clusters is called a drop."""
    rng = np.random.default_rng(seed)
    groups = n // cluster_size
    sway = np.repeat(rng.normal(0, 0.12, (trials, groups)), cluster_size, axis=-1)
    difference = sway + rng.normal(0, 0.3, (trials, n))
    codes = np.arange(n) // cluster_size
    found = ask(difference, np.zeros_like(difference), clusters=codes)
    return float((found.p_drop <= 0.05).mean())


def test_clusters_are_respected() -> None:
    assert clustered(4000, seed=16) <= KEPT


def test_clustered_worlds_keep_the_margin() -> None:
    world = World(n=400, k=4, cluster_size=10, alike=0.6)
    assert checkpoints(world, 4000, seed=17).rates["fail"] <= KEPT
    at_margin = checkpoints(replace(world, drop=0.05), 4000, seed=17).rates
    assert at_margin["pass"] <= KEPT
    assert at_margin["strict"] <= KEPT


# --- looks ----------------------------------------------------------------------------------

SCHEDULE = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)


def looking_ten_times() -> dict[str, float]:
    """Rates at exactly −5%, where a gate that peeks passes or fails too often."""
    world = World(n=150, k=1, anchor_k=16, drop=0.05)
    return sequential(world, SCHEDULE, 4000, seed=18).outcomes.rates


def test_looking_ten_times_costs_no_alpha() -> None:
    found = looking_ten_times()
    assert found["pass"] <= KEPT
    assert found["strict"] <= KEPT


def test_a_null_training_step_with_looks_keeps_alpha() -> None:
    world = World(n=150, anchor_k=16, metrics=3)
    assert sequential(world, (4, 8, 16), 2000, seed=19).outcomes.rates["fail"] <= KEPT


# --- scales ---------------------------------------------------------------------------------


def test_zero_baselines_and_floors() -> None:
    """Toxicity .001 against .001 at n = 2000: a floor of .005 never raises a false alarm."""
    rng = np.random.default_rng(20)
    anchor = (rng.random((2000, 2000)) < 0.001).astype(float)
    candidate = (rng.random((2000, 2000)) < 0.001).astype(float)
    naive = candidate.mean(-1) > 1.05 * anchor.mean(-1)
    d = harm(anchor, candidate, "lower")
    known = Range(-anchor, -candidate, 1 - anchor.min(-1), anchor.max(-1))
    found = ask(d, linear_allowance(anchor, 0.05, 0.005), known=known)
    fails = rule.apply_rule(
        found.p_worse[:, None],
        found.p_drop[:, None],
        found.p_within[:, None],
        found.margin.mean[:, None],
        alpha=0.05,
    ).failed
    assert naive.mean() > 0.3
    assert fails.mean() <= 0.001


def test_interval_scales_keep_their_error_rates() -> None:
    rng = np.random.default_rng(21)
    anchor = rng.normal(-3, 2, (TRIALS, 100))
    for shift, p in ((0.0, "p_drop"), (0.5, "p_worse")):
        candidate = anchor - shift + rng.normal(0, 1, anchor.shape)
        found = ask(anchor - candidate, np.full(anchor.shape, 0.5))
        assert (getattr(found, p) <= 0.05).mean() <= KEPT
    assert (found.p_within <= 0.05).mean() <= KEPT


# --- mutants: each breaks a promise that a test above keeps -----------------------------------


def test_the_mutant_that_peeks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "alpha_at", lambda look, alpha, schedule=None: alpha)
    found = looking_ten_times()
    assert max(found["pass"], found["strict"]) > 2 * KEPT


def test_the_mutant_that_ignores_clusters_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(z: Any, *, clusters: Any = None, weights: Any = None) -> Any:
        return t_test(z, weights=weights)

    monkeypatch.setattr(rule, "t_test", alone)
    assert clustered(4000, seed=16) > 2 * KEPT


def identical_checkpoints_that_fail() -> float:
    return checkpoints(World(n=150, k=1, metrics=10), 1000, seed=23).rates["fail"]


def test_the_null_keeps_alpha() -> None:
    assert identical_checkpoints_that_fail() <= KEPT


def test_the_mutant_that_applies_the_bare_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rule.apply_rule

    def bare(*args: Any, **settings: Any) -> rule.Decisions:
        found = honest(*args, **settings)
        over = np.asarray(args[3]) > 0
        return replace(found, strict=over, passed=~over)

    monkeypatch.setattr(rule, "apply_rule", bare)
    world = World(n=500, k=1, anchor_k=1, metrics=10, spread=np.inf)
    assert checkpoints(world, 300, seed=22).rates["fail"] > 0.6
    assert identical_checkpoints_that_fail() > 10 * KEPT


def test_the_mutant_that_never_passes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = rule.apply_rule

    def never(*args: Any, **settings: Any) -> rule.Decisions:
        found = honest(*args, **settings)
        return replace(found, passed=np.zeros_like(found.passed))

    monkeypatch.setattr(rule, "apply_rule", never)
    assert passes_of_an_identical_model() == (0.0, 0.0)

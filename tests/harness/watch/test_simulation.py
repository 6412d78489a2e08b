"""What docs/watch.md promises, in months that were drawn (`tests.benchmarks.figures_watch`)."""

from __future__ import annotations

import pytest

from tests.benchmarks.figures_watch import (
    DAYS,
    World,
    delays,
    false_alarms,
    fixed,
    peeked,
    point_value,
    watching,
)


def test_false_alarms_stay_below_what_is_promised_at_the_very_limit() -> None:
    rate = false_alarms(World(a_day=200), watching, 40, 11, alpha=0.01)
    assert rate <= 0.01 * (DAYS + 1)
    assert false_alarms(World(a_day=200), peeked, 20, 11, alpha=0.01) > 3 * 0.01 * DAYS


def test_an_identical_model_is_left_alone_for_a_month() -> None:
    early, caught, _ = delays(World(a_day=500), watching, 15, 12)
    assert early + caught == 0


def test_a_large_drop_is_seen_the_next_day_and_before_a_daily_test_sees_it() -> None:
    world = World(a_day=500, reference=10_000, drop=0.2)
    _, caught, ours = delays(world, watching, 8, 13)
    _, _, daily = delays(world, fixed(1), 8, 13)
    assert caught == 1
    assert ours is not None
    assert daily is not None
    assert ours < daily < 72


@pytest.mark.long
def test_a_small_drop_is_seen_where_tests_of_single_days_see_nothing() -> None:
    world = World(a_day=500, reference=10_000, drop=0.1)
    _, caught, _ = delays(world, watching, 12, 14)
    _, daily, _ = delays(world, fixed(1), 12, 14)
    assert caught >= 0.6 > 0.5 > daily


@pytest.mark.long
def test_the_promise_over_many_months() -> None:
    for a_day in (100, 1000):
        rate = false_alarms(World(a_day=a_day), watching, 400, 15, alpha=0.02)
        assert rate <= 0.02 * (DAYS + 1)


@pytest.mark.long
def test_the_anchor_s_bound_spares_the_models_that_its_point_value_fails() -> None:
    assert point_value(10, 4, by_bound=True) == 0
    assert point_value(30, 4, by_bound=False) >= 0.05

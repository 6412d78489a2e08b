"""Change points, the margin that is left and the wording of texts, on made-up histories."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.queries.change_points import (
    change_points,
    chinese_share,
    distance,
    forecast,
    margin_left,
    trigrams,
)


@given(st.floats(-10, 10), st.floats(0.01, 5), st.sampled_from([-1, 1]))
@settings(deadline=None)
def test_margin_left(change: float, allowed: float, sign: int) -> None:
    assert margin_left(0.0, sign * allowed) == 1
    assert margin_left(sign * allowed, sign * allowed) == 0
    better = margin_left(-sign * abs(change), sign * allowed)
    assert better >= 1


def test_a_steady_decline_is_foretold() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    found = forecast(list(1.0 - 0.08 * np.arange(12) + noise))
    assert found is not None
    assert found.proven
    assert found.gone_in == math.ceil(found.left / -found.slope)
    assert found.is_alarming


def test_a_flat_course_raises_no_alarm() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(100):
        found = forecast(list(0.6 + rng.normal(0, 0.05, 12)))
        assert found is not None
        alarms += found.is_alarming
    assert alarms <= 6
    assert forecast([1.0, 0.9]) is None


def test_change_points_are_found_and_not_invented() -> None:
    rng = np.random.default_rng(2)
    steady = sum(bool(change_points(rng.normal(size=30))) for _ in range(60))
    assert steady <= 4
    found = [change_points([*rng.normal(size=15), *rng.normal(3, 1, size=15)]) for _ in range(20)]
    hits = sum(any(abs(at - 15) <= 2 for at in points) for points in found)
    assert hits >= 17
    assert change_points([1.0] * 20) == []
    assert change_points([1.0, 2.0]) == []


def test_distance_of_wording() -> None:
    assert distance(trigrams(["hello there"]), trigrams(["hello there"])) == 0
    assert distance(trigrams(["aaaa"]), trigrams(["bbbb"])) == pytest.approx(1)
    assert distance(trigrams([]), trigrams([])) == 0
    assert distance(trigrams([""]), trigrams(["words"])) == 1
    assert chinese_share("你好 ok") == 0.5
    assert chinese_share("123 !") == 0

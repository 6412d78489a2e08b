"""Intervals of means, ratios and shares, compared with reference libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics.intervals import range_interval, ratio_interval, t_interval, wilson

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=40)


def test_wilson_equals_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for hits, n in ((0, 10), (7, 10), (10, 10), (48, 240)):
        found = wilson(hits, n)
        expected = proportion_confint(hits, n, method="wilson")
        assert (found.low, found.high) == pytest.approx(expected)


@given(SHARES)
@settings(max_examples=60, deadline=None)
def test_the_interval_of_a_mean_lies_in_its_range(values: list[float]) -> None:
    found = range_interval(values, (0.0, 1.0))
    if found is not None:
        assert 0.0 <= found[0] <= np.mean(values) + 1e-12
        assert np.mean(values) - 1e-12 <= found[1] <= 1.0
        assert found[0] < found[1]


@given(SHARES)
@settings(max_examples=60, deadline=None)
def test_a_ratio_to_ones_is_a_mean(values: list[float]) -> None:
    plain, ratio = t_interval(values), ratio_interval(values, np.ones(len(values)))
    assert (plain is None) == (ratio is None)
    if plain is not None and ratio is not None:
        assert ratio == pytest.approx(plain, abs=1e-12)


def test_a_ratio_keeps_its_precision_far_from_0() -> None:
    """Sums of squares would cancel here: values of 1e9 that differ by 1 or so."""
    values = 1e9 + np.random.default_rng(0).normal(0, 1.0, 50)
    found = ratio_interval(values, np.ones(50))
    assert found is not None
    half = 2.0096 * float(values.std(ddof=1)) / math.sqrt(50)
    assert found[1] - found[0] == pytest.approx(2 * half, rel=1e-3)

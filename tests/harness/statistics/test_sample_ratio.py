"""The test of a split keeps its promise at every look, and sees what is wrong."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from harness.statistics.sample_ratio import log_mismatch


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.99, 0.01), (0.2, 0.3, 0.5)])
@pytest.mark.parametrize("concentration", [1.0, 100.0])
def test_the_evidence_averages_one_where_the_split_is_as_planned(shares, concentration):
    # Over every sequence of six units: E[e] = 1 exactly, which makes it a fair game.
    total = 0.0
    for arms in itertools.product(range(len(shares)), repeat=6):
        counts = [arms.count(arm) for arm in range(len(shares))]
        chance = math.prod(shares[arm] for arm in arms)
        total += chance * math.exp(log_mismatch(counts, shares, concentration=concentration))
    assert total == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=4), st.floats(1, 1000))
def test_it_is_the_ratio_of_the_two_distributions(counts, concentration):
    shares = np.arange(1, len(counts) + 1) / sum(range(1, len(counts) + 1))
    prior = concentration * shares
    # Dirichlet-multinomial over multinomial; the coefficients of both are the same and cancel.
    mixture = (
        gammaln(concentration)
        - gammaln(concentration + sum(counts))
        + np.sum(gammaln(prior + counts) - gammaln(prior))
    )
    meant = float(np.sum(np.asarray(counts) * np.log(shares)))
    found = log_mismatch(counts, shares.tolist(), concentration=concentration)
    assert found == pytest.approx(mixture - meant, rel=1e-9, abs=1e-6)


def test_checked_after_every_unit_it_rarely_raises_an_alarm():
    draw, rang = np.random.default_rng(7), 0
    for _ in range(300):
        counts = np.cumsum(np.eye(2, dtype=int)[(draw.random(400) < 0.1).astype(int)], axis=0)
        rang += any(log_mismatch(c, (0.9, 0.1)) >= math.log(1 / 0.05) for c in counts.tolist())
    assert rang <= 25  # 15 are promised at most; 25 has a chance below 1% at that


def test_a_wrong_split_is_seen():
    assert log_mismatch((9_900, 100), (0.99, 0.01)) < 0
    assert log_mismatch((9_850, 150), (0.99, 0.01)) > math.log(1000)
    assert log_mismatch((5_300, 4_700), (0.5, 0.5)) > math.log(1000)


@pytest.mark.parametrize(
    ("counts", "shares"), [((1, 1), (1.0, 0.0)), ((1,), (0.5, 0.5)), ((1, -1), (0.5, 0.5))]
)
def test_no_split_is_refused(counts, shares):
    with pytest.raises(ValueError, match=r"shares|negative"):
        log_mismatch(counts, shares)

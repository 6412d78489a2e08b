"""Evidence that may be looked at any time: its promises, and mutants that break each of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics.sequential import (
    STAKES,
    Detector,
    Moments,
    fixed_lower_bound,
    incomes,
    interval,
    log_e_value,
    lower_bound,
)

Array = npt.NDArray[np.float64]
unit = st.floats(0, 1, allow_nan=False)
values = st.lists(unit, min_size=1, max_size=60)

# --- what a bet is ---------------------------------------------------------------------------


@given(limit=st.floats(0.001, 0.999), share=unit)
def test_a_bet_gains_nothing_on_average_where_the_claim_holds(limit: float, share: float) -> None:
    """Over any two-point law with mean ≥ limit: enough, since the factor is linear in x."""
    low, high = limit * share, limit + (1 - limit) * share
    weight = 1.0 if high == low else (limit - low) / (high - low)
    before = Detector(limit, tuple(np.log(np.full(len(STAKES), 1 / len(STAKES)))))
    money = [math.exp(before.after([x], [0.0], 1e-300).detector.log_wealth) for x in (low, high)]
    assert (1 - weight) * money[0] + weight * money[1] == pytest.approx(1.0, abs=1e-9)


@given(values, st.floats(0.01, 0.99), st.integers(0, 60))
def test_a_detector_that_goes_on_is_the_one_that_never_stopped(
    x: list[float], limit: float, cut: int
) -> None:
    pay = np.linspace(1, 0, len(x))
    whole = Detector(limit).after(x, pay, 0.01)
    first = Detector(limit).after(x[:cut], pay[:cut], 0.01)
    second = first.detector.after(x[cut:], pay[cut:], 0.01)
    assert first.alarms + tuple(a + len(x[:cut]) for a in second.alarms) == whole.alarms
    assert second.detector.wealth == pytest.approx(whole.detector.wealth)


@given(values, st.floats(0.05, 0.95))
def test_the_money_is_what_a_plain_loop_makes_of_it(x: list[float], limit: float) -> None:
    pay = np.full(len(x), 0.3)
    money = np.zeros(len(STAKES))
    for value, income in zip(x, pay, strict=True):
        money = (money + income / len(STAKES)) * (1 - STAKES * (value - limit) / (1 - limit))
    found = Detector(limit).after(x, pay, 1e-300).detector
    assert found.log_wealth == pytest.approx(math.log(money.sum()))


@given(values, st.integers(0, 60))
def test_moments_add_up(x: list[float], cut: int) -> None:
    parts = Moments.of(x[:cut]) + Moments.of(x[cut:])
    whole = Moments.of(x)
    assert parts.n == whole.n
    assert (parts.total, parts.squares) == pytest.approx((whole.total, whole.squares))
    assert interval(parts) == pytest.approx(interval(whole), abs=1e-6)


@given(values, st.floats(0.02, 0.98))
def test_evidence_from_moments_never_exceeds_the_bets_own(x: list[float], m: float) -> None:
    """The bet at each stake, value by value, against the bound that knows three sums only."""
    bets = np.log1p(np.outer((np.asarray(x) - m) / m, STAKES)).sum(0)
    exact = np.logaddexp.reduce(bets) - math.log(len(STAKES))
    assert float(log_e_value(Moments.of(x), m)) <= exact + 1e-9


@given(values)
def test_an_interval_holds_its_mean_and_mirrors(x: list[float]) -> None:
    seen = Moments.of(x)
    low, high = interval(seen)
    assert 0 <= low <= np.mean(x) + 1e-9
    assert np.mean(x) - 1e-9 <= high <= 1
    mirrored = interval(seen.mirrored)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [math.nan]])
def test_values_outside_their_range_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="lie in"):
        Moments.of(bad)
    with pytest.raises(ValueError, match="lie in"):
        Detector(0.5).after(bad, [1.0], 0.05)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0.02, 0.98), st.integers(0, 2**32 - 1))
def test_a_fixed_bound_is_clopper_and_pearson_s(n: int, p: float, seed: int) -> None:
    from scipy.stats import binomtest

    hits = int(np.random.default_rng(seed).binomial(n, p))
    seen = Moments(n, hits, hits)
    test = binomtest(hits, n, alternative="greater")
    expected = test.proportion_ci(confidence_level=0.99, method="exact").low
    assert fixed_lower_bound(seen, 0.01) == pytest.approx(expected, abs=1e-9)
    assert lower_bound(seen, 0.01) <= fixed_lower_bound(seen, 0.01) + 1e-9


@given(st.lists(st.floats(0, 4e6), min_size=1, max_size=50), st.integers(0, 50))
def test_income_is_a_day_and_what_the_clock_earned(at: list[float], cut: int) -> None:
    pay, until = incomes(at, None)
    assert pay[0] == 23 / 24
    assert pay.sum() <= 1 + (max(at) - at[0]) / 86_400 + 1e-9
    if cut < len(at):
        first, reached = incomes(at[:cut], None)
        second, end = incomes(at[cut:], reached)
        assert [*first, *second] == pytest.approx(list(pay))
        assert end == until


# --- what is promised, in worlds where the truth is known ---------------------------------------

ALPHA = 0.05
TRIALS = 250


def binary(rng: np.random.Generator, n: int, p: float) -> Array:
    return (rng.random(n) < p).astype(float)


def conversations(rng: np.random.Generator, n: int, p: float, size: int) -> Array:
    """`n` conversations of `size` answers that are nearly all well or nearly all bad."""
    chance = rng.beta(p * 0.2, (1 - p) * 0.2, size=n)
    return np.asarray((rng.random((n, size)) < chance[:, None]).astype(float))


def rings(x: Array, limit: float) -> bool:
    pay = np.zeros(len(x))
    pay[0] = 1.0
    return bool(Detector(limit).after(x, pay, ALPHA).alarms)


def rate(ring: list[bool]) -> float:
    return float(np.mean(ring))


LOOSE = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / TRIALS)


@pytest.mark.parametrize("p", [0.5, 0.8, 0.99])
def test_peeking_after_every_value_keeps_alpha(p: float) -> None:
    rng = np.random.default_rng(1)
    assert rate([rings(binary(rng, 1500, p), p) for _ in range(TRIALS)]) <= LOOSE


def test_a_mean_that_wanders_above_the_limit_keeps_alpha() -> None:
    """Autocorrelated: each value's chance depends on all before it, and never falls below."""
    rng = np.random.default_rng(2)

    def wander() -> Array:
        x = np.zeros(1000)
        for i in range(len(x)):
            x[i] = rng.random() < (0.8 if i and x[i - 1] == 0 else 0.9)
        return x

    assert rate([rings(wander(), 0.8) for _ in range(TRIALS // 2)]) <= LOOSE


def test_a_t_test_that_peeks_would_not() -> None:
    rng = np.random.default_rng(3)

    def peeked(x: Array, limit: float) -> bool:
        n = np.arange(1, len(x) + 1)
        mean = np.cumsum(x) / n
        se = np.sqrt(np.maximum(mean * (1 - mean), 1e-9) / n)
        return bool(((mean - limit) / se < -1.645)[30:].any())

    assert rate([peeked(binary(rng, 1500, 0.8), 0.8) for _ in range(TRIALS)]) > 3 * LOOSE


def test_the_conversation_is_the_unit_and_the_answer_is_not() -> None:
    rng = np.random.default_rng(4)
    talks = [conversations(rng, 150, 0.8, 20) for _ in range(TRIALS // 2)]
    assert rate([rings(t.mean(1), 0.8) for t in talks]) <= LOOSE
    assert rate([rings(t.ravel(), 0.8) for t in talks]) > 3 * LOOSE


def test_the_reference_is_its_bound_and_not_its_value() -> None:
    """With 200 answers of an anchor and much traffic of the same model, at no margin."""
    rng = np.random.default_rng(5)

    def alarmed(by_bound: bool) -> bool:
        reference = Moments.of(binary(rng, 200, 0.8))
        held = fixed_lower_bound(reference, 0.01) if by_bound else reference.mean
        assert held is not None
        return rings(binary(rng, 6000, 0.8), held)

    assert rate([alarmed(by_bound=True) for _ in range(100)]) <= 0.06
    assert rate([alarmed(by_bound=False) for _ in range(100)]) > 0.12


@pytest.mark.parametrize("law", ["binary", "rare", "stars"])
def test_an_interval_is_right_at_every_look(law: str) -> None:
    rng = np.random.default_rng(6)
    mean = {"binary": 0.8, "rare": 0.01, "stars": 0.7}[law]
    looks = np.unique(np.geomspace(5, 3000, 10).astype(int))
    missed = 0
    for _ in range(40):
        x = (
            rng.choice([0.25, 0.75, 1.0], 3000, p=[0.25, 0.4, 0.35])
            if law == "stars"
            else (binary(rng, 3000, mean))
        )
        truth = 0.25 * 0.25 + 0.75 * 0.4 + 0.35 if law == "stars" else mean
        ends = [interval(Moments.of(x[:n]), ALPHA) for n in looks]
        missed += any(not low <= truth <= high for low, high in ends)
    assert missed / 40 <= 0.05


def test_a_detector_with_income_sees_a_late_drop_that_a_single_bet_misses() -> None:
    """A month of health, then −20%: the bettor with an income rings within a day."""
    rng = np.random.default_rng(7)
    healthy, fallen = binary(rng, 30 * 500, 0.8), binary(rng, 500, 0.64)
    x = np.concatenate([healthy, fallen])
    pay, _ = incomes(np.arange(len(x)) * 86_400 / 500, None)
    once = np.zeros(len(x))
    once[0] = 1.0
    ring = Detector(0.75).after(x, pay, 0.001).alarms
    assert len(healthy) < ring[0]
    assert not Detector(0.75).after(x, once, 0.001).alarms

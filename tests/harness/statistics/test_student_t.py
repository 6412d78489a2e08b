"""Student's t with clusters and skewness, and the guards where few samples differ."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS, WLS

from harness.statistics.decision_rule import ask
from harness.statistics.margins import linear_allowance
from harness.statistics.rare_events import FEW, Range
from harness.statistics.student_t import add_observation, few_differ, t_test


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


floats = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 6))


@pytest.mark.parametrize("n", [2, 3, 20, 500])
def test_t_is_students(rng: np.random.Generator, n: int) -> None:
    z = rng.normal(0.2, 1, n)
    test = t_test(z)
    greater = stats.ttest_1samp(z, 0, alternative="greater")
    less = stats.ttest_1samp(z, 0, alternative="less")
    assert float(test.t) == pytest.approx(greater.statistic)
    assert float(test.df) == n - 1
    assert float(test.skew) == pytest.approx(stats.skew(z), abs=1e-9)
    assert float(test.below_by_t) == pytest.approx(less.pvalue)
    # Skewness weakens one of the two claims and leaves the other to t.
    assert float(test.above) >= greater.pvalue * (1 - 1e-9)
    assert float(test.below) >= less.pvalue * (1 - 1e-9)


def test_a_symmetric_sample_is_left_to_t(rng: np.random.Generator) -> None:
    half = rng.normal(size=20)
    z = np.concatenate([half, -half]) + 0.3
    reference = stats.ttest_1samp(z, 0, alternative="greater")
    assert float(t_test(z).above) == pytest.approx(reference.pvalue)


@pytest.mark.parametrize("unit", [1e-90, 1e-110, 1e-140])
def test_the_unit_of_the_values_changes_nothing(rng: np.random.Generator, unit: float) -> None:
    """Cubes of 1e-110 are too small for a float; the skewness is that of the same values all the
    same, in one sample and in many at once.
    """
    z = rng.exponential(size=(3, 30)) - 0.8
    many = z * np.array([[unit], [1.0], [unit]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, both, usual = t_test(z[0] * unit), t_test(many), t_test(z)
    assert float(one.skew) == pytest.approx(float(usual.skew[0]))
    assert float(one.above) == pytest.approx(float(usual.above[0]))
    assert both.skew == pytest.approx(usual.skew)
    assert both.below == pytest.approx(usual.below)


def test_halls_transformation_mends_what_skewness_breaks() -> None:
    z = 1 - np.random.default_rng(1).exponential(size=(40_000, 30))
    by_t = stats.ttest_1samp(z, 0, axis=-1, alternative="greater").pvalue
    test = t_test(z)
    assert (by_t <= 0.01).mean() > 0.02
    assert (test.above <= 0.01).mean() < 0.6 * (by_t <= 0.01).mean()
    assert (test.above <= 0.05).mean() < 0.9 * (by_t <= 0.05).mean()
    assert t_test(-z).below == pytest.approx(test.above)


@pytest.mark.parametrize("weighted", [False, True])
def test_clustered_t_is_cr1_of_a_regression_on_a_constant(
    rng: np.random.Generator, weighted: bool
) -> None:
    clusters = np.sort(rng.integers(0, 25, 200))
    z = rng.normal(0, 1, 200) + rng.normal(0, 1, 25)[clusters]
    weights = rng.uniform(0.5, 3, 200) if weighted else None
    codes = np.unique(clusters, return_inverse=True)[1]
    test = t_test(z, clusters=codes, weights=weights)
    model = WLS(z, np.ones(200), weights=weights) if weighted else OLS(z, np.ones(200))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert float(test.mean) == pytest.approx(fit.params[0])
    assert float(test.se) == pytest.approx(fit.bse[0])
    assert float(test.df) == len(set(clusters)) - 1


def test_the_order_of_clusters_does_not_matter(rng: np.random.Generator) -> None:
    codes = np.repeat(np.arange(10), 5)
    z, mixed = rng.normal(size=50), rng.permutation(50)
    one, other = t_test(z, clusters=codes), t_test(z[mixed], clusters=codes[mixed])
    assert float(one.se) == pytest.approx(float(other.se))


def test_trials_are_independent_columns(rng: np.random.Generator) -> None:
    z = rng.normal(size=(4, 3, 30))
    together = t_test(z)
    for i in np.ndindex(4, 3):
        assert float(together.above[i]) == pytest.approx(float(t_test(z[i]).above))


@given(st.integers(2, 60), st.floats(0.01, 10))
@settings(deadline=None)
def test_agreeing_samples_count_like_one_dissenter(n: int, value: float) -> None:
    test = t_test(np.full(n, value))
    dissent = stats.ttest_1samp([value] * n + [-value], 0, alternative="greater")
    assert float(test.t) == pytest.approx(dissent.statistic)
    assert float(test.above) == pytest.approx(dissent.pvalue)


@pytest.mark.parametrize("z", [[0.3], [0.0, 0.0, 0.0]])
def test_one_sample_or_only_zeros_decide_nothing(z: list[float]) -> None:
    test = t_test(z)
    assert float(test.above) >= 0.5
    assert float(test.below) >= 0.5


@given(st.lists(floats, min_size=2, max_size=30), floats)
@settings(deadline=None)
def test_one_more_observation_is_one_more_sample(z: list[float], value: float) -> None:
    longer = t_test([*z, value])
    added = add_observation(z, value)
    assert float(added.mean) == pytest.approx(float(longer.mean), abs=1e-12)
    assert float(added.t) == pytest.approx(float(longer.t), abs=1e-9)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0]), min_size=1, max_size=90))
@settings(max_examples=300, deadline=None)
def test_few_differ_counts_from_the_commonest(values: list[float]) -> None:
    commonest = max(values.count(value) for value in set(values))
    assert bool(few_differ(values, FEW)) == (len(values) - commonest < FEW)


def test_few_differ_sees_through_rounding(rng: np.random.Generator) -> None:
    noisy = 0.3 + rng.normal(0, 1e-16, 100)
    assert bool(few_differ(noisy, FEW))
    assert not bool(few_differ(np.arange(100.0), FEW))


def test_few_differ_counts_clusters() -> None:
    values = np.zeros(400)
    values[:100] = 1.0
    codes = np.arange(400) // 10
    assert bool(few_differ(values, FEW, clusters=codes))
    assert not bool(few_differ(values, FEW))


def test_the_pseudo_sample_stops_a_ceiling_from_passing() -> None:
    for n in (30, 60, 100, 300):
        allowance = linear_allowance(np.ones(n), 0.05, 0.0)
        unguarded = ask(np.zeros(n), allowance)
        known = Range.of(np.ones(n), np.ones(n), 1.0, 0.0)
        guarded = ask(np.zeros(n), allowance, known=known)
        assert float(unguarded.p_within) < 1e-6
        assert bool(guarded.guarded)
        assert float(guarded.p_within) >= 0.95**n * (1 - 1e-9)

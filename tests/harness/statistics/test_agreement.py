"""Agreement coefficients against scikit-learn, statsmodels and the `krippendorff` package."""

import krippendorff as peer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from harness.core.errors import UserError
from harness.statistics.agreement import cohen, fleiss, krippendorff


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def raters(rng, units, people, *, noise=0.4, missing=0.0, values=5):
    """(people, units) of numbers 0..values-1 around a truth, with holes as NaN."""
    truth = rng.integers(0, values, units)
    out = np.where(
        rng.random((people, units)) < noise, rng.integers(0, values, (people, units)), truth
    ).astype(float)
    out[rng.random((people, units)) < missing] = np.nan
    return out


def as_units(table):
    return [{who: int(v) for who, v in enumerate(column) if not np.isnan(v)} for column in table.T]


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_cohen_is_scikit_learns(rng, weights, noise):
    a, b = raters(rng, 120, 2, noise=noise).astype(int).tolist()
    ours = cohen(a, b, weights=weights, order=range(5))
    theirs = cohen_kappa_score(
        a, b, weights=None if weights == "none" else weights, labels=list(range(5))
    )
    assert ours.value == pytest.approx(theirs, abs=1e-12)
    assert ours.low < ours.value < ours.high


@pytest.mark.parametrize("people", [2, 3, 7])
def test_fleiss_is_statsmodels(rng, people):
    table = raters(rng, 80, people, noise=0.5)
    counts = np.stack([(table == v).sum(axis=0) for v in range(5)], axis=1)
    assert fleiss(counts).value == pytest.approx(fleiss_kappa(counts), abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_alpha_is_the_packages(rng, level, missing):
    table = raters(rng, 100, 4, noise=0.5, missing=missing)
    ours = krippendorff(as_units(table), level=level)
    theirs = peer.alpha(reliability_data=table, level_of_measurement=level)
    assert ours.value == pytest.approx(theirs, abs=1e-12)


def test_alpha_of_votes_takes_words():
    units = [{"ann": "left", "bo": "left"}, {"ann": "tie", "bo": "right"}] * 20
    names = {"left": 0, "right": 1, "tie": 2}
    table = np.array([[names[u[who]] for u in units] for who in ("ann", "bo")], dtype=float)
    theirs = peer.alpha(reliability_data=table, level_of_measurement="nominal")
    assert krippendorff(units).value == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_coefficients_stay_in_range_and_do_not_depend_on_names(pairs):
    a, b = zip(*pairs, strict=True)
    for found in (
        cohen(a, b, bootstraps=20),
        krippendorff([{"a": x, "b": y} for x, y in pairs], bootstraps=20),
    ):
        assert found.value is None or found.value <= 1
    renamed = cohen([f"v{x}" for x in a], [f"v{y}" for y in b], bootstraps=0)
    assert renamed.value == cohen(a, b, bootstraps=0).value


def test_the_interval_covers_the_truth(rng):
    """95% intervals of kappa over fresh samples of 100 units hold the value of a huge one."""
    truth = cohen(*raters(rng, 100_000, 2, noise=0.3).astype(int).tolist(), bootstraps=0).value
    samples = [cohen(*raters(rng, 100, 2, noise=0.3).astype(int).tolist(), bootstraps=300)
               for _ in range(150)]  # fmt: skip
    covered = sum(s.low <= truth <= s.high for s in samples)
    assert 0.88 * 150 <= covered <= 150


def test_without_variation_there_is_no_coefficient():
    assert cohen(["a"] * 5, ["a"] * 5).value is None
    assert fleiss([[3, 0]] * 4).value is None
    assert krippendorff([{"ann": "left"}]).value is None
    assert krippendorff([]).units == 0
    assert not krippendorff([]).reliable


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="the first rater has 1"):
        cohen([1], [1, 2])
    with pytest.raises(UserError, match="ratings"):
        fleiss([[2, 0], [1, 0]])
    with pytest.raises(UserError, match="not in the order"):
        cohen([1], [9], order=[1, 2])
    with pytest.raises(UserError, match="unit 1 lacks a rating"):
        cohen(["a", None], ["a", "b"])
    words = [{"ann": "low", "bo": "high"}, {"ann": "mid", "bo": "mid"}]
    with pytest.raises(UserError, match="is no number, and the level is ordinal"):
        krippendorff(words, level="ordinal")
    with pytest.raises(UserError, match="is no number, and the level is interval"):
        krippendorff(words, level="interval")
    assert krippendorff(words, level="ordinal", order=["low", "mid", "high"]).value is not None


def test_a_rating_that_is_missing_agrees_with_nobody(rng):
    table = raters(rng, 60, 4, noise=0.5, missing=0.4)
    gaps = [dict(enumerate(unit)) for unit in table.T.tolist()]
    assert any(value != value for unit in gaps for value in unit.values())
    theirs = peer.alpha(reliability_data=table, level_of_measurement="ordinal")
    assert krippendorff(gaps, level="ordinal").value == pytest.approx(theirs, abs=1e-12)
    none = [{who: None if v != v else v for who, v in unit.items()} for unit in gaps]
    assert krippendorff(none).value == krippendorff(gaps).value

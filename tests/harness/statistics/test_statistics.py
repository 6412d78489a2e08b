"""The gate's statistics against reference implementations and their own definitions."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from harness.core.errors import UserError
from harness.statistics.alpha_spending import alpha_at, look_alphas, planned_shares, spent
from harness.statistics.binomial import responses_needed, share_test
from harness.statistics.decision_rule import apply_rule, ask
from harness.statistics.intervals import fieller, t_interval
from harness.statistics.jackknife import bleu, f1_macro, pseudo_values, ratio
from harness.statistics.margins import harm, linear_allowance, log_allowance, z_values
from harness.statistics.multiplicity import holm
from harness.statistics.power import samples_needed, smallest_distance, visible_drop
from harness.statistics.student_t import t_test
from harness.statistics.tail_bounds import betting_below, chernoff_below


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


floats = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 6))


def holm_of_statsmodels(p: npt.ArrayLike) -> Any:
    with mock.patch("gc.collect"):  # it collects at every call: 0.2 s where torch is loaded
        return multipletests(p, method="holm")[1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=25))
@settings(deadline=None)
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert np.allclose(holm(p), holm_of_statsmodels(p))


def test_holm_works_along_the_last_axis(rng: np.random.Generator) -> None:
    p = rng.uniform(size=(2, 3, 4))
    rows = np.array([holm_of_statsmodels(row) for row in p.reshape(-1, 4)])
    assert np.allclose(holm(p), rows.reshape(p.shape))
    assert holm(np.empty((3, 0))).shape == (3, 0)


@given(st.integers(1, 12), st.floats(0.001, 0.2))
@settings(deadline=None)
def test_looks_spend_alpha_and_no_more(count: int, alpha: float) -> None:
    alphas = look_alphas(alpha, planned_shares(count))
    assert all(spend >= 0 for spend in alphas)
    assert sum(alphas) == pytest.approx(alpha)


def test_spending_is_obrien_fleming_like() -> None:
    for t in (0.25, 0.5, 1.0):
        reference = 2 - 2 * stats.norm.cdf(stats.norm.ppf(1 - 0.025) / math.sqrt(t))
        assert spent(t, 0.05) == pytest.approx(reference)
    assert spent(0, 0.05) == 0
    assert look_alphas(0.05, planned_shares(3, [1, 2, 4])) == pytest.approx(
        (8.857e-05, 0.005575 - 8.857e-05, 0.05 - 0.005575), abs=2e-6
    )


@pytest.mark.parametrize(("look", "schedule"), [((0, 2), None), ((3, 2), None), ((1, 2), [2, 1])])
def test_a_look_that_was_not_planned_is_refused(
    look: tuple[int, int], schedule: list[float] | None
) -> None:
    with pytest.raises(UserError, match="look"):
        alpha_at(look, 0.05, schedule)


def test_margins_are_linear() -> None:
    a, c = np.array([1.0, 0.0, 0.5]), np.array([0.9, 0.0, 0.7])
    assert z_values(a, c, margin=0.05, floor=0.01) == pytest.approx(0.95 * a - c - 0.01)
    lower = z_values(a, c, "lower", margin=0.05, floor=0.01)
    assert lower == pytest.approx(c - 1.05 * a - 0.01)
    parts = harm(a, c, "higher") - linear_allowance(a, 0.05, 0.01)
    assert parts == pytest.approx(z_values(a, c, margin=0.05, floor=0.01))


@given(st.floats(-0.2, 0.2))
@settings(deadline=None)
def test_summed_perplexity_z_is_the_ratio_of_perplexities(growth: float) -> None:
    tokens = np.array([10.0, 200.0, 35.0])
    nll = tokens * np.array([2.0, 3.0, 2.5])
    worse = nll + growth * tokens
    z = (worse - nll) - log_allowance(tokens, 0.05, 0.0)
    factor = math.exp(worse.sum() / tokens.sum()) / math.exp(nll.sum() / tokens.sum())
    assert (z.sum() > 1e-9) == (factor > 1.05 * (1 + 1e-11))


def test_fieller_is_the_gates_own_test_inverted(rng: np.random.Generator) -> None:
    a = rng.uniform(0.4, 1, 80)
    d = rng.normal(0.05, 0.1, 80)
    low, high = fieller(d, a) or (0.0, 0.0)
    for edge in (low, high):
        assert stats.ttest_1samp(d - edge * a, 0).pvalue == pytest.approx(0.05, abs=1e-9)
    assert low < d.mean() / a.mean() < high


def test_fieller_gives_no_interval_where_the_base_may_be_zero(rng: np.random.Generator) -> None:
    assert fieller(rng.normal(size=20), rng.normal(size=20)) is None
    assert fieller(np.zeros(20), np.zeros(20)) is None


def test_t_interval_is_scipys(rng: np.random.Generator) -> None:
    values = rng.normal(size=33)
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert t_interval(values, 0.9) == pytest.approx((reference.low, reference.high))
    assert t_interval([1.0, 1.0, 1.0]) is None


@pytest.mark.parametrize(("events", "n"), [(0, 149), (3, 60), (30, 60), (60, 60)])
def test_share_test_is_the_exact_binomial(events: int, n: int) -> None:
    shares = np.array([1.0] * events + [0.0] * (n - events))
    found = share_test(shares, 0.02)
    for side, p in (("greater", found.over), ("less", found.under)):
        reference = stats.binomtest(events, n, 0.02, alternative=side).pvalue
        assert p == pytest.approx(reference, abs=1e-12)


def test_share_test_counts_prompts_where_answers_agree() -> None:
    agreeing = np.repeat([0.0, 1.0], [54, 6])
    mixed = np.full(60, 0.1)
    mixed[::2] = 0.08
    assert share_test(agreeing, 0.05, responses=50).effective < 65
    assert share_test(mixed, 0.05, responses=50).effective > 2_000


def test_three_hundred_clean_answers_to_three_prompts_show_little() -> None:
    assert share_test(np.zeros(3), 0.02, responses=100).under == pytest.approx(0.98**3)


def test_responses_needed_is_the_rule_of_three() -> None:
    assert responses_needed(0.02, 0.05) == 149
    assert responses_needed(0.02, 0.05, share=0.02) is None
    n = responses_needed(0.02, 0.05, share=0.01)
    assert n is not None
    upper = proportion_confint(math.ceil(0.01 * n), n, alpha=0.1, method="beta")[1]
    assert upper <= 0.02


def test_corpus_bleu_is_sacrebleus() -> None:
    from sacrebleu.metrics import BLEU

    said = ["the cat sat on the mat today", "a dog runs in the big park", "it rains all day long"]
    meant = ["the cat sat on a mat today", "the dog runs in the park", "it rains all the day long"]
    metric = BLEU(smooth_method="none")
    reference = metric.corpus_score(said, [meant])
    sums = np.array([reference.sys_len, reference.ref_len, *reference.counts, *reference.totals])
    assert bleu(sums.astype(float)) == pytest.approx(reference.score)
    assert bleu(np.zeros(10)) == 0


def test_macro_f1_is_sklearns(rng: np.random.Generator) -> None:
    from sklearn.metrics import f1_score

    truth, said = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    table = np.array([_confusion(t, s) for t, s in zip(truth, said, strict=True)])
    assert f1_macro(table.sum(0)) == pytest.approx(f1_score(truth, said, average="macro"))


def _confusion(truth: int, said: int) -> np.ndarray:
    row = np.zeros((4, 3))
    row[said, 0 if truth == said else 1] += 1
    if truth != said:
        row[truth, 2] += 1
    return row.ravel()


def test_pseudo_values_of_a_mean_are_the_values(rng: np.random.Generator) -> None:
    values = rng.normal(size=40)
    table = np.stack([values, np.ones(40)], axis=1)
    assert pseudo_values("ratio", table) == pytest.approx(values)
    assert ratio(table.sum(0)) == pytest.approx(values.mean())


def test_pseudo_values_have_the_jackknifes_error(rng: np.random.Generator) -> None:
    table = rng.uniform(1, 3, size=(60, 2))
    test = t_test(pseudo_values("ratio", table))
    without = np.array([ratio(table.sum(0) - row) for row in table])
    jackknife = math.sqrt(59 / 60 * ((without - without.mean()) ** 2).sum())
    assert float(test.mean) == pytest.approx(ratio(table.sum(0)))
    assert float(test.se) == pytest.approx(jackknife)


def test_pseudo_values_leave_out_whole_clusters(rng: np.random.Generator) -> None:
    table, codes = rng.uniform(1, 3, size=(60, 2)), np.sort(rng.integers(0, 12, 60))
    codes = np.unique(codes, return_inverse=True)[1]
    groups = codes.max() + 1
    test = t_test(pseudo_values("ratio", table, codes), clusters=codes)
    without = np.array([ratio(table[codes != g].sum(0)) for g in range(groups)])
    jackknife = math.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum())
    assert float(test.se) == pytest.approx(jackknife)


def test_an_unknown_aggregate_is_named() -> None:
    with pytest.raises(UserError, match="rouge"):
        pseudo_values("rouge", np.ones((3, 2)))


def test_power_of_the_promised_sample_size() -> None:
    n = samples_needed(1.0, 0.25, 0.05)
    assert n is not None
    reached = 1 - stats.nct.cdf(stats.t.ppf(0.95, n - 1), n - 1, 0.25 * math.sqrt(n))
    assert reached == pytest.approx(0.8, abs=0.01)
    assert smallest_distance(1.0, n, 0.05) == pytest.approx(0.25, rel=0.02)
    assert samples_needed(1.0, 0.0, 0.05) is None


def test_visible_drop_shrinks_with_samples_and_never_below_the_margin() -> None:
    drops = [visible_drop(0.5, n, 0.7, tests=5) for n in (1, 60, 500, 10_000, 10**8)]
    assert drops[0] == math.inf
    assert drops == sorted(drops, reverse=True)
    assert drops[-1] == pytest.approx(0.05, abs=1e-3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_chernoff_is_never_below_the_binomial(values: list[float], mean: float) -> None:
    bound = float(chernoff_below(values, mean))
    n, hits = len(values), round(sum(values))
    exact = stats.binom.cdf(hits, n, mean)
    shares = [1.0] * hits + [0.0] * (n - hits)
    assert float(chernoff_below(shares, mean)) >= exact * (1 - 1e-9)
    assert 0 <= bound <= 1


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 80), st.floats(0.01, 0.5))
@settings(deadline=None)
def test_a_bet_keeps_its_promise_on_three_outcomes(
    worse: int, better: int, same: int, mean: float
) -> None:
    """Every distribution on {−1, 0, 1} with that mean gives this p or less no oftener than p."""
    values = [1.0] * worse + [-1.0] * better + [0.0] * same
    p = float(betting_below(values, mean, 1.0))
    assert 0 <= p <= 1
    if not worse:
        assert p >= (1 - mean) ** len(values) * (1 - 1e-9) or better


def test_bets_hold_by_simulation_at_small_alpha() -> None:
    rng = np.random.default_rng(4)
    for up, down in ((0.05, 0.0), (0.15, 0.10), (0.5, 0.45)):
        draws = rng.random((20_000, 60))
        values = (draws < up).astype(float) - (draws > 1 - down)
        p = betting_below(values, np.full(20_000, 0.05), np.ones(20_000))
        for alpha in (0.05, 0.01, 0.002):
            assert (p <= alpha).mean() <= alpha * 1.1


def test_what_improved_counts_in_a_bet() -> None:
    climb = [-1.0] * 18 + [0.0] * 42
    assert float(betting_below(climb, 0.025, 1.0)) < 1e-4
    assert float(chernoff_below(np.clip(climb, 0, 1), 0.025)) > 0.2


def test_chernoff_of_nothing_seen_is_exact() -> None:
    assert float(chernoff_below(np.zeros(60), 0.05)) == pytest.approx(0.95**60)
    codes = np.arange(60) // 6
    assert float(chernoff_below(np.zeros(60), 0.05, clusters=codes)) == pytest.approx(0.95**10)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), floats), min_size=1),
    st.floats(0.001, 0.2),
)
@settings(deadline=None)
def test_no_metric_both_passes_and_fails(
    rows: list[tuple[float, float, float, float]], alpha: float
) -> None:
    worse, drop, within, mean = np.array(rows).T
    found = apply_rule(worse, drop, within, mean, alpha=alpha)
    assert not (found.passed & found.failed).any()
    early = apply_rule(worse, drop, within, mean, alpha=alpha, last=False)
    strict = apply_rule(worse, drop, within, mean, alpha=alpha, fail_rule="strict")
    assert not early.drop.any()
    assert not strict.drop.any()
    assert (strict.failed <= found.failed).all()


@given(st.floats(-3, 3), st.floats(0.5, 4), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_an_interval_scale_has_no_origin_and_no_unit(
    shift: float, stretch: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, d = expit(rng.normal(size=50)), rng.normal(0.05, 0.2, 50)
    one = ask(d, np.full(50, 0.1 * a.std(ddof=1)))
    moved = a * stretch + shift
    other = ask(d * stretch, np.full(50, 0.1 * moved.std(ddof=1)))
    assert float(one.margin.above) == pytest.approx(float(other.margin.above), abs=1e-9)

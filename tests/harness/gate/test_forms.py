"""Metrics that are not plain means: corpus values, quantiles, fixed problems, timings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import Candidate
from harness.comparison.evidence import metric_scores, summarize
from harness.comparison.looks import decide_once
from harness.core.errors import UserError
from harness.core.types import VerdictOutcome
from harness.evaluation.runner import score
from harness.gate.decision import decide
from harness.gate.improvement import improved
from harness.gate.intervals import value_with_interval
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.metrics import get_metric
from harness.metrics.bleu import bleu
from harness.statistics.jackknife import AGGREGATES, swing
from harness.statistics.quantile import bootstrap_error, quantile_values, values_needed
from harness.statistics.student_t import t_test
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import scripted, suite_yaml, write_jsonl

KEPT = 0.065
TRIALS = 400
PASS, FAIL = VerdictOutcome.PASS, VerdictOutcome.FAIL
INCONCLUSIVE, INCOMPARABLE = VerdictOutcome.INCONCLUSIVE, VerdictOutcome.INCOMPARABLE

Make = Callable[[float], tuple[MetricScores, MetricScores]]


def rates(make: Make, drop: float, trials: int = TRIALS, **own: Any) -> dict[str, float]:
    """Shares of FAIL, of FAIL by the strict arm, and of PASS when the truth is `drop` worse."""
    policy = GatePolicy(metrics={"t/m": MetricPolicy(**own)})
    rows = []
    for _ in range(trials):
        anchor, candidate = make(drop)
        rows.append(decide({"t/m": anchor}, {"t/m": candidate}, policy).rows[0])
    return {
        "fail": sum(row.outcome is FAIL for row in rows) / trials,
        "strict": sum(row.decided.arm == "strict" for row in rows) / trials,
        "pass": sum(row.outcome is PASS for row in rows) / trials,
    }


def keyed(values: Any) -> dict[str, Any]:
    return {f"s{i:05d}": value for i, value in enumerate(values)}


# --- quantiles --------------------------------------------------------------------------------


def seconds(values: Any, q: float, **more: Any) -> MetricScores:
    table = np.asarray(values, dtype=float).reshape(len(values), -1)
    stats = keyed(tuple(map(float, row)) for row in table)
    means = keyed(float(row.mean()) for row in table)
    return MetricScores(
        means, "lower", form="quantile", aggregate=f"{q:g}", stats=stats, worst=None, **more
    )


def slow_items(n: int, k: int, q: float, spread: float, seed: int) -> Make:
    """Log-normal times; items differ in length, which both runs share."""
    rng = np.random.default_rng(seed)

    def make(drop: float) -> tuple[MetricScores, MetricScores]:
        item = rng.normal(0, spread, (n, 1))
        sides = (np.exp(item + rng.normal(0, spread, (n, k))) for _ in range(2))
        return seconds(next(sides), q), seconds((1 + drop) * next(sides), q)

    return make


@pytest.mark.parametrize(
    ("n", "k", "q", "spread"), [(60, 1, 0.5, 0.3), (200, 1, 0.95, 0.3), (100, 4, 0.95, 0.05)]
)
def test_a_quantile_keeps_its_error_rates(n: int, k: int, q: float, spread: float) -> None:
    make = slow_items(n, k, q, spread, seed=n)
    assert rates(make, 0.0)["fail"] <= KEPT
    at_margin = rates(make, 0.05)
    assert at_margin["pass"] <= KEPT
    assert at_margin["strict"] <= KEPT


def test_a_quantile_sees_what_it_can() -> None:
    make = slow_items(200, 4, 0.95, 0.05, seed=1)
    assert rates(make, 0.0, 100)["pass"] >= 0.9
    assert rates(make, 0.15, 100)["fail"] >= 0.95


def test_a_quantiles_error_is_the_bootstraps() -> None:
    rng = np.random.default_rng(2)
    for q, n in ((0.5, 41), (0.9, 150)):
        x = rng.lognormal(size=n)
        # The order statistic ⌈qn⌉ of a resample is what the exact form is the error of.
        k = int(np.ceil(q * n)) - 1
        drawn = np.sort(x[rng.integers(0, n, (20_000, n))], axis=1)[:, k]
        assert bootstrap_error(x, q) == pytest.approx(drawn.std(), rel=0.03)
        test = t_test(quantile_values(x[:, None], q))
        assert float(test.mean) == pytest.approx(np.quantile(x, q))
        assert float(test.se) == pytest.approx(bootstrap_error(x, q) * np.sqrt(n / (n - 1)))


def test_a_quantile_of_all_equal_values_is_that_value() -> None:
    assert quantile_values(np.full((30, 2), 1.5), 0.9).tolist() == [1.5] * 30


def test_too_few_values_beyond_a_quantile_decide_nothing() -> None:
    assert [values_needed(q) for q in (0.5, 0.95, 0.99)] == [20, 200, 1000]
    few = {"t/latency_p99": seconds(np.arange(1.0, 101.0), 0.99)}
    verdict = decide(few, few)
    assert verdict.outcome is INCOMPARABLE
    assert "99% quantile needs at least 1000 values" in verdict.headline


# --- corpus values ----------------------------------------------------------------------------


def labels(n: int, level: float, seed: int, skewed: bool = False) -> Make:
    """Macro-F1 over four labels."""
    rng = np.random.default_rng(seed)
    share = np.array([0.55, 0.25, 0.15, 0.05]) if skewed else np.full(4, 0.25)

    def side(truth: Any, chance: Any) -> MetricScores:
        right = rng.random(n) < chance
        said = np.where(right, truth, (truth + rng.integers(1, 4, n)) % 4)
        table, rows = np.zeros((n, 4, 3)), np.arange(n)
        table[rows[right], truth[right], 0] = 1
        table[rows[~right], said[~right], 1] = 1
        table[rows[~right], truth[~right], 2] = 1
        return corpus(right.astype(float), table.reshape(n, -1), "f1_macro", 1.0)

    def make(drop: float) -> tuple[MetricScores, MetricScores]:
        truth = rng.choice(4, n, p=share)
        chance = np.full(n, level)
        return side(truth, chance), side(truth, chance * (1 - drop))

    return make


def words(n: int, seed: int) -> Make:
    """A share per word, over documents of very different length."""
    rng = np.random.default_rng(seed)

    def make(drop: float) -> tuple[MetricScores, MetricScores]:
        length, chance = rng.integers(3, 80, n), rng.beta(7, 3, n)
        hits = [rng.binomial(length, p) for p in (chance, chance * (1 - drop))]
        sides = [np.stack([hit, length], axis=1) for hit in hits]
        return tuple(corpus(h / length, s, "ratio", 1.0) for h, s in zip(hits, sides, strict=True))

    return make


def grams(n: int, seed: int) -> Make:
    """BLEU from n-gram counts whose precisions go with the powers of a word's chance."""
    rng = np.random.default_rng(seed)

    def side(length: Any, chance: Any) -> MetricScores:
        total = [np.maximum(length - order, 0) for order in range(4)]
        hits = [rng.binomial(t, chance ** (o + 1)) for o, t in enumerate(total)]
        table = np.stack([length, length, *hits, *total], axis=1)
        return corpus(hits[0] / length, table, "bleu", 100.0)

    def make(drop: float) -> tuple[MetricScores, MetricScores]:
        length, chance = rng.integers(8, 40, n), rng.beta(4, 3, n)
        # The geometric mean of p, p², p³ and p⁴ is p^2.5.
        return side(length, chance), side(length, chance * (1 - drop) ** 0.4)

    return make


def corpus(values: Any, stats: Any, aggregate: str, best: float) -> MetricScores:
    return MetricScores(
        keyed(map(float, values)),
        form="corpus",
        aggregate=aggregate,
        stats=keyed(tuple(map(float, row)) for row in stats),
        worst=0.0,
        best=best,
    )


@pytest.mark.parametrize(
    "make",
    [labels(150, 0.7, 3), labels(200, 0.8, 4, skewed=True), words(60, 5), grams(100, 6)],
    ids=["macro-F1", "macro-F1 of rare labels", "share per word", "BLEU"],
)
def test_a_corpus_value_keeps_its_error_rates(make: Make) -> None:
    assert rates(make, 0.0)["fail"] <= KEPT
    at_margin = rates(make, 0.05)
    assert at_margin["pass"] <= KEPT
    assert at_margin["strict"] <= KEPT


@pytest.mark.parametrize("n", [60, 100])
def test_a_ceiling_of_a_corpus_value_does_not_pass(n: int) -> None:
    """Perfect labels show no spread; one more wrong answer must still be survived."""
    assert rates(labels(n, 1.0, seed=n), 0.05)["pass"] <= KEPT


def test_how_far_one_sample_moves_a_corpus_value() -> None:
    rng = np.random.default_rng(7)
    ours, _ = labels(80, 0.8, 7)(0.0)
    assert ours.stats is not None
    table = np.array(list(ours.stats.values()))
    f, total = AGGREGATES["f1_macro"], table.sum(0)
    down, up = swing("f1_macro", table)
    for row in table[rng.integers(0, 80, 20)]:
        label = int(np.flatnonzero(row.reshape(4, 3)[:, [0, 2]].sum(1))[0])
        for said in range(4):
            other = np.zeros((4, 3))
            other[said, 0 if said == label else 1] = 1
            other[label, 2] = float(said != label)
            moved = 80 * float(f(total - row + other.ravel()) - f(total))
            assert -down - 1e-9 <= moved <= up + 1e-9
    assert swing("ratio", np.array([[1.0, 2.0], [3.0, 4.0]])) == pytest.approx((1.0, 1 / 3))


def test_the_samples_that_moved_are_shown_with_their_own_values() -> None:
    anchor, candidate = words(60, 8)(0.3)
    row = decide({"t/m": anchor}, {"t/m": candidate}).rows[0]
    for moved in row.measured.moved:
        assert moved.anchor == anchor.values[moved.id]
        assert moved.candidate == candidate.values[moved.id]


# --- fixed problems ---------------------------------------------------------------------------


def problems(n: int, k: int, seed: int) -> Make:
    """pass@1 of problems whose difficulty is given once and for all."""
    from harness.metrics.pass_at_k import pass_at_k_variance

    rng = np.random.default_rng(seed)
    chance = rng.beta(0.8, 0.8, n)
    variance = np.array([float(pass_at_k_variance(k, passed, 1)) for passed in range(k + 1)])

    def side(chance: Any) -> MetricScores:
        passes = rng.binomial(k, chance)
        return MetricScores(
            keyed(passes / k),
            form="pass_at_k",
            variance=keyed(variance[passes]),
            worst=0.0,
        )

    return lambda drop: (side(chance), side(chance * (1 - drop)))


@pytest.mark.parametrize("k", [4, 16])
def test_a_claim_about_fixed_problems_keeps_its_error_rates(k: int) -> None:
    make = problems(100, k, seed=k)
    assert rates(make, 0.0, fixed_set=True)["fail"] <= KEPT
    at_margin = rates(make, 0.05, fixed_set=True)
    assert at_margin["pass"] <= KEPT
    assert at_margin["strict"] <= KEPT


def test_a_claim_about_fixed_problems_says_so() -> None:
    anchor, candidate = problems(100, 8, seed=9)(0.0)
    policy = GatePolicy(metrics={"t/m": MetricPolicy(fixed_set=True)})
    said = " ".join(decide({"t/m": anchor}, {"t/m": candidate}, policy).reasons)
    assert "these 100 samples only" in said
    assert not decide({"t/m": anchor}, {"t/m": candidate}).reasons


# --- timings ----------------------------------------------------------------------------------


def test_a_timing_is_advisory_unless_the_rounds_were_interleaved() -> None:
    fast, slow = (
        {
            "t/em": MetricScores(keyed([1.0] * 420 + [0.0] * 180), worst=0.0),
            "t/latency": MetricScores(keyed([time] * 600), "lower", timed=True),
        }
        for time in (1.0, 2.0)
    )
    for own in (MetricPolicy(), MetricPolicy(required=True)):
        verdict = decide(fast, slow, GatePolicy(metrics={"latency": own}))
        assert verdict.outcome is PASS
        assert verdict.row("t/latency").role == "advisory"
        assert verdict.row("t/latency").outcome is FAIL
        assert "not interleaved, so it is advisory" in " ".join(verdict.reasons)
    held = GatePolicy(metrics={"latency": MetricPolicy(interleaved=True)})
    verdict = decide(fast, slow, held)
    assert verdict.outcome is FAIL
    assert not verdict.reasons
    assert not improved(slow, fast)
    assert improved(slow, fast, held)


# --- through the runner and the store ----------------------------------------------------------

CITIES = {
    f"city {n}": f"the old town of city number {n} lies on a hill by the river" for n in range(40)
}


def town(folder: Path, metrics: list[Any], responses: int, gate: Any = None) -> Any:
    write_jsonl(folder / "towns.jsonl", [{"id": k, "q": k, "a": v} for k, v in CITIES.items()])
    task = {
        "data": "towns.jsonl",
        "prompt": {"user": "{{ q }}!"},
        "generate": {"responses": responses, "temperature": 1.0, "max_new_tokens": 80},
        "reference": "{{ a }}",
        "metrics": metrics,
    }
    return load_suite(suite_yaml(folder, name="towns", tasks={"tell": task}, gate=gate or {}))


def guide(knows: float, name: str) -> Candidate:
    """Tells the truth, or leaves out a third of it, by the draw's own seed."""

    def answer(prompt: str, seed: int) -> str:
        number = prompt.partition("city ")[2].partition("!")[0]
        whole = CITIES[f"city {number}"]
        right = np.random.default_rng([seed % 2**32, int(number)]).random() < knows
        return whole if right else whole[: len(whole) * 2 // 3]

    return scripted(answer, name=name)[0]


def test_a_corpus_value_counts_every_response(tmp_path: Path, store: Store) -> None:
    suite = town(tmp_path, ["bleu"], 3)
    run = score(guide(0.5, "half"), suite, store).run
    said = store.query("SELECT text, sample_id FROM responses ORDER BY sample_id, response_index")
    assert len(said) == 120
    expected = bleu([r["text"] for r in said], [CITIES[r["sample_id"]] for r in said]).score
    found = metric_scores(store, run)["tell/bleu"]
    row = decide({"tell/bleu": found}, {"tell/bleu": found}).rows[0]
    assert row.measured.anchor == pytest.approx(expected)
    [line] = summarize(store, run)
    assert line.estimate.value == pytest.approx(expected)
    assert line.estimate.low is not None
    assert line.estimate.high is not None
    assert line.estimate.low < expected < line.estimate.high


def test_a_quantile_of_latency_is_over_all_responses(tmp_path: Path, store: Store) -> None:
    suite = town(tmp_path, ["exact_match", "length", {"latency": {"quantile": 0.5}}], 3)
    run = score(guide(0.5, "half"), suite, store).run
    found = metric_scores(store, run)["tell/latency_p50"]
    assert (found.form, found.aggregate, found.timed) == ("quantile", "0.5", True)
    assert found.stats is not None
    assert {len(times) for times in found.stats.values()} == {3}
    assert suite.roles()["tell/latency_p50"] == "advisory"
    decision = decide_once(store, "anchor", run, run, suite, suite.policy)
    assert decision.verdict.row("tell/latency_p50").role == "advisory"


@pytest.mark.parametrize("quantile", [0.0, 1.0, 95])
def test_a_quantile_lies_between_its_ends(quantile: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        get_metric("latency", {"quantile": quantile})


@pytest.mark.parametrize(("responses", "outcome"), [(4, PASS), (3, INCOMPARABLE)])
def test_fixed_problems_take_twice_k_tries(
    tmp_path: Path, store: Store, responses: int, outcome: VerdictOutcome
) -> None:
    """pass@2 of 4 tries has a variance of its own; of 3 tries it hasn't, and that is said."""
    own = {"required": True, "fixed_set": True, "floor": 0.2}
    suite = town(
        tmp_path,
        [{"pass_at_k": {"k": 2}}],
        responses,
        gate={"metrics": {"tell/pass_at_k": own}},
    )
    runs = [score(guide(0.7, name), suite, store).run for name in ("one", "two")]
    verdict = decide_once(store, "anchor", *runs, suite, suite.policy).verdict
    assert verdict.outcome is outcome, verdict.headline
    if outcome is INCOMPARABLE:
        assert "2k tries of each" in verdict.headline
    across = suite.policy.changed(metrics={})
    assert decide_once(store, "anchor", *runs, suite, across).verdict.outcome is not INCOMPARABLE


def test_an_interval_claims_no_more_than_was_seen() -> None:
    """None of 12 toxic is not "0 to 0": the exact binomial leaves up to a quarter."""
    from scipy.stats import binomtest

    none = MetricScores(keyed([0.0] * 12), "lower", worst=1.0, best=0.0)
    value, low, high = value_with_interval(none)
    exact = binomtest(0, 12).proportion_ci(method="exact")
    assert (value, low) == (0.0, 0.0)
    assert high == pytest.approx(exact.high)
    two = dataclasses.replace(none, clusters=keyed("ab" * 6))
    assert value_with_interval(two)[2] == pytest.approx(binomtest(0, 2).proportion_ci().high)
    assert value_with_interval(MetricScores(keyed([3.0] * 12)))[1:] == (None, None)

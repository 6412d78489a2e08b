"""Data versions over seeds: what is like the other hardly ever fails, and what is worse does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.core.types import VerdictOutcome
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from trainers.data.gate import Trainings, decide_data

FAIL, PASS = VerdictOutcome.FAIL, VerdictOutcome.PASS


def world(
    rng: np.random.Generator, *, seeds: int = 3, n: int = 60, drop: float = 0.0, apart: float = 0.05
) -> Trainings:
    """Right and wrong answers to `n` samples of any difficulty; `apart` is by how much (a standard
    deviation) one training is better at everything than another that differs in the order of its
    rows alone.
    """
    ease = rng.beta(4, 2, n)

    def trained(lost: float) -> dict[str, MetricScores]:
        right = rng.random(n) < np.clip(ease + rng.normal(0, apart) - lost, 0, 1)
        values = {f"s{i}": float(value) for i, value in enumerate(right)}
        return {"t/right": MetricScores(values, worst=0.0, best=1.0)}

    return {seed: (trained(0.0), trained(drop)) for seed in range(seeds)}


def outcomes(worlds: int, **how: float) -> tuple[Counter[VerdictOutcome], Counter[VerdictOutcome]]:
    """Over both, and over samples alone."""
    rng = np.random.default_rng(0)
    found = [decide_data(world(rng, **how), GatePolicy()) for _ in range(worlds)]  # type: ignore[arg-type]
    return Counter(f.verdict.outcome for f in found), Counter(f.by_sample.outcome for f in found)


def test_a_version_that_is_no_different_fails_in_at_most_one_of_twenty() -> None:
    both, samples = outcomes(200, apart=0.08)
    # 0.05 of 200, and three standard deviations of what luck does to that.
    assert both[FAIL] <= 10 + 3 * (200 * 0.05 * 0.95) ** 0.5
    # Over samples alone what a seed does to a model is taken for the data's doing.
    assert samples[FAIL] > 30


def test_what_is_much_worse_is_caught_and_what_is_the_same_passes_with_enough_seeds() -> None:
    assert outcomes(60, drop=0.4, n=200, apart=0.02)[0][FAIL] >= 54
    assert outcomes(40, seeds=12, n=300, apart=0.01)[0][PASS] >= 32


def test_the_seeds_that_a_margin_needs_are_told() -> None:
    rng = np.random.default_rng(1)
    calm = decide_data(world(rng, n=2000, apart=0.002), GatePolicy()).scarcest
    wild = decide_data(world(rng, n=2000, apart=0.25), GatePolicy()).scarcest
    assert calm is not None
    assert wild is not None
    assert (calm.margin, wild.margin) == (0.05, 0.05)
    assert calm.needed is not None
    assert calm.needed <= 4
    assert calm.visible < 0.1 < wild.visible
    assert wild.needed is None or wild.needed > 10


@pytest.mark.parametrize("form", ["perplexity", "mean"])
def test_any_form_of_metric_is_decided(form: str) -> None:
    rng = np.random.default_rng(2)

    def trained(lost: float) -> dict[str, MetricScores]:
        ids = [f"s{i}" for i in range(40)]
        nll = rng.gamma(4, 1, 40) + lost + rng.normal(0, 0.01)
        if form == "perplexity":
            stats = {i: (float(20 * v), 20.0) for i, v in zip(ids, nll, strict=True)}
            values = {i: float(np.exp(v)) for i, v in zip(ids, nll, strict=True)}
            return {"t/m": MetricScores(values, "lower", form=form, stats=stats)}
        values = {i: float(v) for i, v in zip(ids, nll, strict=True)}
        return {"t/m": MetricScores(values, "lower", clusters={i: i[:2] for i in ids})}

    trainings = {seed: (trained(0.0), trained(3.0)) for seed in range(4)}
    found = decide_data(trainings, GatePolicy())
    assert found.verdict.outcome is FAIL
    assert found.by_sample.rows[0].measured.n == 160
    assert found.by_seed.rows[0].measured.n == 4
    assert all(
        m.id.startswith("s") and "seed" not in m.id for m in found.verdict.rows[0].measured.moved
    )


def test_what_one_training_lacks_can_not_be_compared() -> None:
    trainings = dict(world(np.random.default_rng(3)))
    trainings[1] = (trainings[1][0], {})
    assert decide_data(trainings, GatePolicy()).verdict.outcome is VerdictOutcome.INCOMPARABLE


def test_bounds_on_samples_are_asked_over_samples_alone() -> None:
    policy = GatePolicy(metrics={"t/right": MetricPolicy(required=True, at_least=0.99)})
    found = decide_data(world(np.random.default_rng(4)), policy)
    assert [row.name for row in found.by_seed.rows] == ["t/right"]
    assert found.by_sample.outcome is FAIL
    assert found.verdict.outcome is not PASS

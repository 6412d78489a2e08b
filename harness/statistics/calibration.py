"""Error rates and power of a suite's gate, simulated from two scorings of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.types import FailRule
from harness.statistics import decision_rule as rule
from harness.statistics.rare_events import Range
from harness.statistics.student_t import Array

STEP = 0.005
"""Frozen margins are rounded up to half a percent: the simulation is no more precise than that."""
WIDEST = 0.95
"""The widest margin that is tried."""


@dataclass(frozen=True, slots=True)
class Twice:
    """One metric of one model, scored twice; arrays of shape (n,), harm's sign as in `margins`.

    middle  the mean of both scorings; for perplexity the number of tokens
    anchor_half, candidate_half  the standard deviation of an anchor's and a candidate's value
            over fresh responses, estimated from the difference of the two scorings
    counts  the number of responses, where a value is the share of them that are right; else 0
    worst_harm, best_gain  the largest harm and gain that one sample can show; None: no bound
    """

    metric: str
    middle: Array
    anchor_half: Array
    candidate_half: Array
    higher: bool = True
    logarithmic: bool = False
    interval: bool = False
    counts: int = 0
    margin: float = 0.05
    floor: float = 0.0
    worst_harm: float | None = None
    best_gain: float = 0.0
    clusters: np.ndarray | None = None
    weights: Array | None = None

    def draw(self, rng: np.random.Generator, trials: int, drop: float = 0.0) -> tuple[Array, Array]:
        """Harm and base, shape (trials, n) each, of a candidate that is `drop` worse.

        Each sample keeps its mean and its measured spread over fresh responses. A value is drawn
        from two points, the mean plus or minus its standard deviation; so with no drop anchor and
        candidate differ in nothing but their spread.
        """
        shape = (trials, len(self.middle))
        anchor = rng.choice([-1.0, 1.0], size=shape) * self.anchor_half
        candidate = rng.choice([-1.0, 1.0], size=shape) * self.candidate_half
        if self.logarithmic:
            harm = candidate - anchor + self.middle * np.log1p(drop)
            return harm, np.broadcast_to(self.middle, shape)
        base, value = self.middle + anchor, self.middle + candidate
        worse = value + self._change(rng, value, drop)
        return (base - worse if self.higher else worse - base), base

    def _change(self, rng: np.random.Generator, value: Array, drop: float) -> Array:
        """What a drop adds to each value: right answers lost at random, a rate that rises, or a
        shift by a share of the value.
        """
        if drop == 0:
            return np.zeros_like(value)
        sign = -1.0 if self.higher else 1.0
        if self.interval:
            return np.full_like(value, sign * drop * float(np.std(self.middle, ddof=1)))
        if not self.counts:
            return sign * drop * value
        if self.higher:
            lost = rng.binomial(self.counts, drop, size=value.shape) / self.counts
            return np.asarray(-lost * value)
        level = float(np.clip(self.middle.mean(), 0.0, 1.0))
        extra = min(1.0, drop * level / max(1 - level, 1e-9))
        gained = rng.binomial(self.counts, extra, size=value.shape) / self.counts
        return np.asarray(gained * (1 - np.clip(value, 0.0, 1.0)))

    def allowance(self, base: Array, margin: float) -> Array:
        if self.logarithmic:
            return np.asarray(base * (np.log1p(margin) + self.floor))
        return np.asarray(base * (0.0 if self.interval else margin) + self.floor)

    def ask(self, harm: Array, base: Array, margin: float | None = None) -> rule.Questions:
        """The gate's three questions of every trial, at δ or at another margin."""
        allowance = self.allowance(base, self.margin if margin is None else margin)
        known = None
        if self.worst_harm is not None:
            better = base if self.higher else -base
            known = Range.of(better, better - harm, self.worst_harm, self.best_gain)
        return rule.ask(
            harm,
            allowance,
            known=known,
            clusters=self.clusters,
            weights=self.weights,
        )

    def p_values(self, rng: np.random.Generator, trials: int, drop: float = 0.0) -> Array:
        """(4, trials): p of worse, of any drop, of within, and mean z."""
        q = self.ask(*self.draw(rng, trials, drop))
        return np.array([q.p_worse, q.p_drop, q.p_within, q.margin.mean])


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of simulated trials, each 0 to 1.

    false_rollback       an unchanged checkpoint fails
    false_rollback_run   any of `run_length` unchanged checkpoints fails, alpha split over them
    bare_rule            an unchanged checkpoint is past a margin by the plain means
    passes               an unchanged checkpoint passes in all required metrics; None where one of
                         those wasn't simulated
    power                metric -> drop -> a checkpoint fails in which this metric alone drops so
    pass_rate            metric -> an unchanged checkpoint passes in it
    """

    false_rollback: float
    false_rollback_run: float
    bare_rule: float
    passes: float | None
    power: Mapping[str, Mapping[float, float]]
    pass_rate: Mapping[str, float]
    trials: int
    runs: int
    run_length: int


def rates(
    metrics: Sequence[Twice],
    required: Sequence[str],
    *,
    alpha: float = 0.05,
    fail_rule: FailRule = "drop",
    drops: Sequence[float] = (0.05, 0.06, 0.08, 0.10),
    trials: int = 1000,
    run_length: int = 100,
    seed: int = 0,
    cells: int = 200_000_000,
) -> Rates:
    """Simulate the gate on fresh scorings of an unchanged model, and of one that got worse.

    A run of `run_length` checkpoints splits alpha over them. Fewer trials are made where
    samples × metrics would take more than `cells` numbers; `trials` and `runs` say how many.
    """
    rng = np.random.default_rng(seed)
    size = sum(len(metric.middle) for metric in metrics)
    trials = int(np.clip(cells // 4 // (size * (1 + len(drops))), 100, trials))
    null = np.array([metric.p_values(rng, trials) for metric in metrics])
    decided = _decide(null, alpha, fail_rule)
    must = np.array([metric.metric in required for metric in metrics])
    judged = set(required) <= {metric.metric for metric in metrics} and must.any()
    power = {
        metric.metric: {
            drop: _caught(null, i, metric.p_values(rng, trials, drop), alpha, fail_rule)
            for drop in drops
        }
        for i, metric in enumerate(metrics)
    }
    runs = int(np.clip(cells // (size * run_length), 20, 200))
    lost = [_run_fails(metrics, rng, run_length, alpha, fail_rule) for _ in range(runs)]
    return Rates(
        false_rollback=float(decided.failed.any(-1).mean()),
        false_rollback_run=float(np.mean(lost)),
        bare_rule=float((null[:, 3] > 0).any(0).mean()),
        passes=float(decided.passed[:, must].all(-1).mean()) if judged else None,
        power=power,
        pass_rate={m.metric: float(decided.passed[:, i].mean()) for i, m in enumerate(metrics)},
        trials=trials,
        runs=runs,
        run_length=run_length,
    )


def _decide(p: Array, alpha: float, fail_rule: FailRule) -> rule.Decisions:
    """`p` has shape (metrics, 4, trials)."""
    worse, any_drop, within, mean_z = np.moveaxis(p, 0, -1)
    return rule.apply_rule(worse, any_drop, within, mean_z, alpha=alpha, fail_rule=fail_rule)


def _caught(null: Array, index: int, p: Array, alpha: float, fail_rule: FailRule) -> float:
    dropped = null.copy()
    dropped[index] = p
    return float(_decide(dropped, alpha, fail_rule).failed.any(-1).mean())


def _run_fails(
    metrics: Sequence[Twice],
    rng: np.random.Generator,
    length: int,
    alpha: float,
    fail_rule: FailRule,
) -> bool:
    """Whether any checkpoint of one run fails: one anchor, `length` fresh candidates."""
    found = []
    for metric in metrics:
        harm, base = metric.draw(rng, length)
        # Each row of `draw` has an anchor of its own; a run has one for all its checkpoints.
        if not metric.logarithmic:
            fixed = base[0]
            sign = 1.0 if metric.higher else -1.0
            harm = harm + sign * (fixed - base)
            base = np.broadcast_to(fixed, base.shape)
        q = metric.ask(harm, base)
        found.append([q.p_worse, q.p_drop, q.p_within, q.margin.mean])
    return bool(_decide(np.array(found), alpha / length, fail_rule).failed.any())


def auto_margin(
    metric: Twice,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    trials: int = 500,
    seed: int = 0,
) -> float | None:
    """The smallest margin ≥ δ that an unchanged model passes in `power` of cases.

    Rounded up to half a percent; None where not even 95% would do, and for interval scales, which
    have no relative margin.
    """
    if metric.interval:
        return None
    harm, base = metric.draw(np.random.default_rng(seed), trials)

    def passes(margin: float) -> bool:
        share = np.mean(metric.ask(harm, base, margin).p_within <= alpha)
        return bool(share >= power)

    if passes(metric.margin):
        return metric.margin
    low, high = int(np.floor(metric.margin / STEP)), round(WIDEST / STEP)
    if not passes(high * STEP):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle * STEP) else (middle, high)
    return round(high * STEP, 6)

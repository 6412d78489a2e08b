"""Simulated worlds with a known truth, judged by the gate itself, thousands at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.core.types import FailRule
from harness.statistics import alpha_spending as looks
from harness.statistics import decision_rule as rule
from harness.statistics.margins import harm, linear_allowance
from harness.statistics.rare_events import Range
from harness.statistics.student_t import Array

Bools = npt.NDArray[np.bool_]
CELLS = 4_000_000
"""Samples × metrics × trials that are held in memory at once."""


@dataclass(frozen=True, slots=True)
class World:
    """Right-or-wrong answers from a model whose true quality is known.

    n, metrics       samples and metrics; `k` answers a sample by the candidate, `anchor_k` by the
                     anchor
    level, spread    a sample's chance of a right answer is drawn from Beta(level·s, (1−level)·s),
                     s = `spread` (small: samples are either easy or hard; inf: all alike)
    drop, dropping   the candidate's chance is (1 − drop) times the anchor's, in every metric or in
                     the first `dropping` only
    cluster_size, alike   samples of one cluster move up or down together, by the part `alike` of
                     the room that they have: the mean stays, but they aren't independent
    """

    n: int = 150
    k: int = 4
    anchor_k: int = 16
    metrics: int = 1
    level: float = 0.7
    spread: float = 2.0
    drop: float = 0.0
    dropping: int | None = None
    cluster_size: int = 1
    alike: float = 0.0

    @property
    def clusters(self) -> npt.NDArray[np.intp] | None:
        if self.cluster_size == 1:
            return None
        return np.asarray(np.arange(self.n) // self.cluster_size, dtype=np.intp)


def chances(rng: np.random.Generator, world: World, trials: int) -> Array:
    """Chance of success of the anchor per sample, shape (trials, metrics, n)."""
    shape = (trials, world.metrics, world.n)
    if world.level in (0.0, 1.0) or np.isinf(world.spread):
        return np.full(shape, world.level)
    a, b = world.level * world.spread, (1 - world.level) * world.spread
    return np.asarray(rng.beta(a, b, size=shape))


def answers(rng: np.random.Generator, chance: Array, k: int) -> Array:
    """Mean of K right-or-wrong answers per sample, same shape as `chance`."""
    if k == 1:
        return (rng.random(chance.shape) < chance).astype(float)
    return np.asarray(rng.binomial(k, chance) / k)


def candidate_chances(rng: np.random.Generator, world: World, chance: Array) -> Array:
    """The same samples put to a model that is `drop` worse."""
    factor = np.full(world.metrics, 1 - world.drop)
    if world.dropping is not None:
        factor[world.dropping :] = 1.0
    worse: Array = chance * factor[:, None]
    if world.cluster_size == 1 or world.alike == 0:
        return worse
    groups = -(-world.n // world.cluster_size)
    shape = (*chance.shape[:-1], groups)
    sway = np.repeat(rng.choice([-1.0, 1.0], size=shape), world.cluster_size, axis=-1)
    room = np.minimum(worse, 1 - worse)
    return np.asarray(worse + world.alike * room * sway[..., : world.n])


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the gate decided in each trial: whether it failed, by the strict arm, or passed, shape
    (trials,).
    """

    failed: Bools
    strict: Bools
    passed: Bools

    @property
    def rates(self) -> dict[str, float]:
        """Shares of the trials, each in [0, 1]."""
        return {
            "fail": float(self.failed.mean()),
            "strict": float(self.strict.mean()),
            "pass": float(self.passed.mean()),
        }


def judge(
    anchor: Array,
    candidate: Array,
    *,
    margin: float = 0.05,
    floor: float = 0.0,
    alpha: float = 0.05,
    last: bool = True,
    fail_rule: FailRule = "drop",
    clusters: npt.NDArray[np.intp] | None = None,
    guard: bool = True,
) -> rule.Decisions:
    """Decide every trial of higher-is-better metrics in [0, 1]; arrays (trials, metrics, n)."""
    allowance = linear_allowance(anchor, margin, floor)
    known = Range(anchor, candidate, anchor.max(-1), 1 - anchor.min(-1))
    q = rule.ask(
        harm(anchor, candidate, "higher"),
        allowance,
        known=known if guard else None,
        clusters=clusters,
    )
    return rule.apply_rule(
        q.p_worse,
        q.p_drop,
        q.p_within,
        q.margin.mean,
        alpha=alpha,
        last=last,
        fail_rule=fail_rule,
    )


def checkpoints(
    world: World,
    trials: int,
    seed: int,
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
    fail_rule: FailRule = "drop",
    guard: bool = True,
) -> Outcomes:
    """One decision per trial at a single look, anchor and candidate drawn anew each time.

    Without `guard` Student's t decides alone, also where few samples differ (rare_events.py).
    """
    rng = np.random.default_rng(seed)
    batch = max(1, CELLS // (world.n * world.metrics))
    parts = []
    for start in range(0, trials, batch):
        chance = chances(rng, world, min(batch, trials - start))
        anchor = answers(rng, chance, world.anchor_k)
        candidate = answers(rng, candidate_chances(rng, world, chance), world.k)
        parts.append(
            judge(
                anchor,
                candidate,
                margin=margin,
                alpha=alpha,
                fail_rule=fail_rule,
                clusters=world.clusters,
                guard=guard,
            )
        )
    return _outcomes(parts)


def trainings(world: World, count: int, trials: int, seed: int, *, alpha: float = 0.05) -> Outcomes:
    """Trainings of `count` checkpoints against one fixed anchor, alpha split over them.

    A training `failed` where any of its checkpoints did, and `passed` where any did.
    """
    rng = np.random.default_rng(seed)
    batch = max(1, CELLS // (world.n * world.metrics * 4))
    failed, strict, passed = [], [], []
    for start in range(0, trials, batch):
        chance = chances(rng, world, min(batch, trials - start))
        anchor = answers(rng, chance, world.anchor_k)
        worse = candidate_chances(rng, world, chance)
        seen = [
            _outcomes(
                [judge(anchor, answers(rng, worse, world.k), alpha=alpha / count)],
            )
            for _ in range(count)
        ]
        failed.append(np.any([one.failed for one in seen], axis=0))
        strict.append(np.any([one.strict for one in seen], axis=0))
        passed.append(np.any([one.passed for one in seen], axis=0))
    return Outcomes(np.concatenate(failed), np.concatenate(strict), np.concatenate(passed))


@dataclass(frozen=True, slots=True)
class Looked:
    """Sequential decisions: the outcome, and how many responses per sample each trial took."""

    outcomes: Outcomes
    responses: npt.NDArray[np.int64]


def sequential(
    world: World,
    schedule: tuple[int, ...],
    trials: int,
    seed: int,
    *,
    margin: float = 0.05,
    alpha: float = 0.05,
) -> Looked:
    """Looks after `schedule` = (4, 8, 16) responses per sample; stops at the first verdict."""
    rng = np.random.default_rng(seed)
    chance = chances(rng, world, trials)
    anchor = answers(rng, chance, world.anchor_k)
    worse = candidate_chances(rng, world, chance)
    total, have = np.zeros_like(chance), 0
    strict, failed = np.zeros(trials, dtype=bool), np.zeros(trials, dtype=bool)
    passed = np.zeros((trials, world.metrics), dtype=bool)
    taken = np.zeros(trials, dtype=np.int64)
    for j, k in enumerate(schedule, start=1):
        total += answers(rng, worse, k - have) * (k - have)
        have = k
        waiting = ~failed & ~passed.all(-1)
        taken[waiting] = k
        spend = looks.alpha_at((j, len(schedule)), alpha, schedule)
        last = j == len(schedule)
        found = judge(
            anchor, total / k, margin=margin, alpha=spend, last=last, clusters=world.clusters
        )
        strict |= waiting & found.strict.any(-1)
        failed |= waiting & found.failed.any(-1)
        passed |= waiting[:, None] & found.passed
    return Looked(Outcomes(failed, strict, passed.all(-1) & ~failed), taken)


def _outcomes(parts: list[rule.Decisions]) -> Outcomes:
    failed = np.concatenate([part.failed.any(-1) for part in parts])
    strict = np.concatenate([part.strict.any(-1) for part in parts])
    passed = np.concatenate([part.passed.all(-1) for part in parts])
    return Outcomes(failed, strict, passed & ~failed)


def slow_decline(
    world: World, step: float, steps: int, trials: int, seed: int, *, previous: bool = False
) -> Array:
    """True quality, as a share of the start, when the gate first fails; shape (trials,).

    Each step multiplies quality by 1 − `step`. With `previous` each checkpoint is compared with
    the one before it, as naive gates do. A training that never fails counts as the end's quality.
    """
    rng = np.random.default_rng(seed)
    chance = chances(rng, world, trials)
    anchor = answers(rng, chance, world.anchor_k)
    caught = np.full(trials, (1 - step) ** steps)
    waiting = np.ones(trials, dtype=bool)
    for i in range(1, steps + 1):
        quality = (1 - step) ** i
        candidate = answers(rng, chance * quality, world.k)
        failed = judge(anchor, candidate, alpha=0.05 / steps).failed.any(-1) & waiting
        caught[failed] = quality
        waiting &= ~failed
        if previous:
            anchor = answers(rng, chance * quality, world.anchor_k)
    return caught

"""Trainings whose checkpoints' true quality is known, judged by the rules, thousands at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.statistics.decision_rule import ask
from harness.statistics.multiplicity import holm
from harness.statistics.rare_events import Range
from harness.statistics.simulate import judge
from trainers.loop.best_checkpoint import proven

Array = npt.NDArray[np.float64]
MARGIN = 0.05


@dataclass(frozen=True)
class Story:
    """`path` holds the true share of right answers at checkpoint-0 and at each later one, for each
    required metric: (checkpoints, metrics). Every checkpoint answers the same `first` + `reserve`
    samples once; `attempts` share alpha, as many as there are in a recipe with three rollbacks.
    """

    path: tuple[tuple[float, ...], ...]
    first: int = 60
    reserve: int = 26
    alpha: float = 0.05

    @property
    def attempts(self) -> int:
        return len(self.path) - 1 + 3


@dataclass(frozen=True)
class Told:
    """Of each training: the best checkpoint after each one and which failed, (trials,
    checkpoints); whether any was called better that is better nowhere; and what is offered.
    """

    best: npt.NDArray[np.intp]
    failed: npt.NDArray[np.bool_]
    false_best: npt.NDArray[np.bool_]
    offered: npt.NDArray[np.intp]


def answers(rng: np.random.Generator, story: Story, trials: int) -> Array:
    """Right-or-wrong answers, (checkpoints, trials, metrics, samples): hard samples stay hard."""
    path: Any = np.array(story.path)
    level = path.mean(0)
    shape = (trials, path.shape[1], story.first + story.reserve)
    chance = rng.beta(2 * level[:, None], 2 * (1 - level[:, None]), size=shape)
    told = []
    for quality in path:
        up = np.clip((quality - level) / (1 - level), 0, 1)[:, None]
        down = np.clip(quality / level, 0, 1)[:, None]
        own = (chance + up * (1 - chance)) * down
        told.append((rng.random(shape) < own).astype(float))
    return np.array(told)


def p_not_better(best: Array, now: Array) -> Array:
    """After Holm, (trials, metrics)."""
    known = Range(best, now, best.max(-1), 1 - best.min(-1))
    return holm(ask(best - now, np.zeros_like(best), known=known).p_within)


def play(story: Story, trials: int, seed: int, *, rule: Literal["all", "each"] = "all") -> Told:
    """By the rule for the best checkpoint as it is (`all` evidence in one test), or as it was: the
    first look and the reserve had to prove it `each` by itself.
    """
    told = answers(np.random.default_rng(seed), story, trials)
    path: Any = np.array(story.path)
    every = np.arange(trials)
    best = np.zeros(trials, dtype=np.intp)
    bests, fails = [], []
    false = np.zeros(trials, dtype=bool)
    cut = story.first
    share = story.alpha / (2 * story.attempts)
    for step in range(1, len(path)):
        now, opponent = told[step], told[best, every]
        failed = judge(told[0], now, alpha=share).failed.any(-1)
        failed |= judge(opponent, now, alpha=share).failed.any(-1)
        first = p_not_better(opponent[..., :cut], now[..., :cut])
        if rule == "all":
            better = proven(first, p_not_better(opponent, now), alpha=2 * share)
        else:
            reserve = p_not_better(opponent[..., cut:], now[..., cut:])
            better = (first <= share) & (reserve <= story.alpha)
        better &= ~failed[:, None]
        false |= (better & (path[step] <= path[best])).any(-1)
        best = np.where(better.any(-1), step, best)
        bests.append(best)
        fails.append(failed)
    failed_too = np.array(fails).T
    return Told(np.array(bests).T, failed_too, false, choose(told, best, failed_too, cut))


def choose(
    told: Array, best: npt.NDArray[np.intp], failed: npt.NDArray[np.bool_], first: int
) -> npt.NDArray[np.intp]:
    """The step that is offered: of those that did not fail and that are no worse than the best
    checkpoint on any metric, on the first look and on all evidence, the one that is furthest ahead
    on the first look, in margins of the largest value.
    """
    every = np.arange(told.shape[1])
    gains = []
    for end in (first, told.shape[-1]):
        values = told[..., :end].mean(-1)  # (checkpoints, trials, metrics)
        unit = np.maximum(MARGIN * values.max(0), 1e-12)
        gains.append((values - values[best, every]) / unit)
    on_first, on_all = gains
    fine = (on_first >= 0).all(-1) & (on_all >= 0).all(-1)
    fine &= (on_first.sum(-1) > 0) & (on_all.sum(-1) > 0)
    fine[1:] &= ~failed.T
    fine[0] = False
    ahead = np.where(fine, on_first.sum(-1), -np.inf)
    return np.where(fine.any(0), ahead.argmax(0), best)


def promoted(story: Story, offered: npt.NDArray[np.intp], seed: int) -> npt.NDArray[np.bool_]:
    """Which offers a line takes that serves a model as good as checkpoint-0: on fresh answers they
    have to pass, or to be proven better.
    """
    trials = len(offered)
    told = answers(np.random.default_rng(seed), story, trials)
    now = told[offered, np.arange(trials)]
    decided = judge(told[0], now, alpha=story.alpha)
    better = (p_not_better(told[0], now) <= story.alpha).any(-1)
    taken = (decided.passed.all(-1) | better) & ~decided.failed.any(-1)
    return np.asarray(taken & (offered > 0))

"""Strengths of models from counted votes: Bradley-Terry and Davidson by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS = 400.0 / math.log(10.0)
"""Elo points per unit of log-odds: 400 points are odds of ten to one."""

LEFT, RIGHT, TIE = 0, 1, 2

# Where a model never lost or never won, its likelihood has no maximum: a normal prior with this
# precision on the log-odds (a standard deviation of 500 points) gives it one.
_PRIOR = (POINTS / 500.0) ** 2

WEAK = 1e-4
"""A precision so small that it moves nothing, and there is a maximum in every world."""


@dataclass(frozen=True)
class Counted:
    """Votes between models, counted: all that the likelihood knows of them.

    `points` is models × models: wins of the row over the column, a tie ½ to each. `drawn` holds the
    ties of each two, in both halves. `davidson` says whether ties have a parameter of their own,
    and `prior` is the precision of a normal prior on the strengths (0: none).
    """

    points: Floats
    drawn: Floats
    davidson: bool = False
    prior: float = 0.0

    @property
    def games(self) -> Floats:
        return self.points + self.points.T

    @property
    def _tie_prior(self) -> float:
        """On ln ν, as weak as can be: it only keeps the maximum finite where the ties have none."""
        return min(self.prior, WEAK)

    def outcomes(self, position: Floats) -> tuple[Floats, Floats, Floats]:
        """(expected score of row over column, probability of a tie, ln of the normalizer)."""
        gap = position[:-1, None] - position[None, :-1]
        if not self.davidson:
            normalizer = np.logaddexp(gap / 2, -gap / 2)
            return np.exp(gap / 2 - normalizer), np.zeros_like(gap), normalizer
        normalizer = np.logaddexp(np.logaddexp(gap / 2, -gap / 2), position[-1])
        tie = np.exp(position[-1] - normalizer)
        return np.exp(gap / 2 - normalizer) + tie / 2, tie, normalizer

    def likelihood(self, position: Floats) -> float:
        """Log-likelihood, with the prior where there is one."""
        _, _, normalizer = self.outcomes(position)
        gap = position[:-1, None] - position[None, :-1]
        total = (self.points * gap / 2).sum() - (self.games * normalizer).sum() / 2
        if self.davidson:
            total += position[-1] * self.drawn.sum() / 2
            total -= self._tie_prior / 2 * position[-1] ** 2
        return float(total - self.prior / 2 * (position[:-1] ** 2).sum())

    def slopes(self, position: Floats) -> tuple[Floats, Floats]:
        """Gradient and curvature (minus the Hessian); the strengths stand first, ln ν last."""
        expected, tie, _ = self.outcomes(position)
        games = self.games
        size = len(games)
        gradient = np.zeros(size + 1)
        gradient[:size] = (self.points - games * expected).sum(axis=1)
        gradient[:size] -= self.prior * position[:size]
        spread = games * (expected * (1 - expected) - tie / 4)
        curvature = np.zeros((size + 1, size + 1))
        curvature[:size, :size] = np.diag(spread.sum(axis=1) + self.prior) - spread
        if self.davidson:
            gradient[size] = (self.drawn - games * tie).sum() / 2
            gradient[size] -= self._tie_prior * position[size]
            across = (games * tie * (expected - 0.5)).sum(axis=1)
            curvature[:size, size] = curvature[size, :size] = -across
            curvature[size, size] = (games * tie * (1 - tie)).sum() / 2 + self._tie_prior
        else:
            curvature[size, size] = 1.0
        # Adding one constant to every strength changes nothing: pin their sum. Far out, where
        # nothing is uncertain any more, a trace of curvature keeps steps finite.
        curvature[:size, :size] += 1.0 / size
        curvature += 1e-9 * np.eye(size + 1)
        return gradient, curvature


@dataclass(frozen=True)
class Fit:
    """`strength` in log-odds with mean 0, and ln of Davidson's ν.

    `separable`: some models never beat, or never met, some others, so a prior held them finite.
    """

    strength: Floats
    log_tie: float
    separable: bool
    counted: Counted

    @property
    def position(self) -> Floats:
        """The strengths, and the parameter of ties where it counts."""
        return np.append(self.strength, self.log_tie if self.counted.davidson else 0.0)


def fit(counts: Floats, ties: str) -> Fit:
    """Maximum likelihood of `counts`, (3, models, models): left won, right won, tie."""
    wins = counts[LEFT] + counts[RIGHT].T
    drawn = counts[TIE] + counts[TIE].T
    points = wins + drawn / 2
    # With nothing but ties ν grows for ever, and the strengths are equal without it.
    davidson = ties == "davidson" and bool(drawn.any()) and bool(wins.any())
    # A tie holds two models together as halves; for Davidson's ν ties and wins alone never do.
    separable = not _strongly_connected((wins if davidson else points) > 0)
    size = len(wins)
    position = np.zeros(size + 1)
    if davidson:
        position[size] = math.log(2 * drawn.sum() / max(2 * wins.sum(), 1.0) + 1e-3)
    counted = Counted(points, drawn, davidson, _PRIOR if separable else 0.0)
    position = ascend(counted, position)
    # Without a tie the likelihood is largest where none can happen.
    only_ties = ties == "davidson" and bool(drawn.any()) and not davidson
    log_tie = float(position[size]) if davidson else math.inf if only_ties else -math.inf
    strength: Floats = position[:size] - position[:size].mean()
    return Fit(strength, log_tie, separable, counted)


def ascend(counted: Counted, position: Floats, fixed: Floats | None = None) -> Floats:
    """Where the likelihood is largest, by Newton's method from `position`.

    With `fixed`, weights over the strengths, their weighted sum stays as it is in `position`. Both
    models are exponential families, so the likelihood is concave and a halved step always ascends.
    """
    value = counted.likelihood(position)
    for _ in range(100):
        gradient, curvature = counted.slopes(position)
        step = _step(gradient, curvature, fixed)
        scale = 1.0
        while scale > 1e-6:
            new = position + scale * step
            found = counted.likelihood(new)
            if found >= value - 1e-12 * abs(value):
                break
            scale /= 2
        position, value = new, found
        if np.abs(scale * step).max() < 1e-10:
            break
    return position


def _step(gradient: Floats, curvature: Floats, fixed: Floats | None) -> Floats:
    if fixed is None:
        return np.asarray(np.linalg.solve(curvature, gradient), dtype=np.float64)
    size = len(gradient)
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size] = curvature
    whole[size, : size - 1] = whole[: size - 1, size] = fixed
    found = np.linalg.solve(whole, np.append(gradient, 0.0))
    return np.asarray(found[:size], dtype=np.float64)


def _strongly_connected(beats: NDArray[np.bool_]) -> bool:
    """Does a chain of wins lead from every model to every other (Ford 1957)?"""
    from scipy.sparse.csgraph import connected_components

    return bool(connected_components(beats, directed=True, connection="strong")[0] == 1)

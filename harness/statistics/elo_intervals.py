"""How sure Elo points are: intervals by profile likelihood, wider where votes of one rater agree.

**Rule.** A model's points are a contrast of strengths: its own minus the mean, or minus the
anchor's. The interval holds the values that the votes don't refute: those at which twice the fall
of the log-likelihood, maximised over all else, stays below q² (profile likelihood; Venzon and
Moolgavkar 1988). Four things are added, each for a reason that a simulation shows:

- *Half a vote.* For the lower end the model has lost half a vote more than it did, for the upper
  end it has won half a vote more: counts are whole numbers, and without it the interval covers too
  seldom where a model nearly always wins. (A whole vote, with a flat prior, gives Clopper and
  Pearson's interval of a share.)
- *Raters and prompts.* Votes of one rater, or on one prompt, are not independent. Each contrast has
  a factor φ, its variance over clusters (the jackknife that leaves out one cluster at a time, in
  one Newton step: CR3 of Bell and McCaffrey 2002) over its variance were the votes independent, and
  never below that. All counts are divided by φ, and q is Student's t with as many degrees of
  freedom as there are clusters that carry the contrast, less one (Kish's effective number, of
  the information). Raters and prompts together: φ = φ₁ + φ₂ − 1 (Cameron, Gelbach and Miller 2011).
- *Few clusters.* Votes of one cluster can't agree more than wholly; then φ is the ratio of
  (Σ|a|σ)² to Σa²σ² over the clusters' votes, and q is normal. The shorter of the two
  intervals is given; this one alone where t has fewer than `FEWEST_FREE` degrees of freedom. One
  rater's hundred votes count as one vote by this: the interval is wide.
- *Ties as halves* vary less than wins and losses: φ starts at the share of the variance that
  they leave, counted as if four votes more had been no ties.

An end that the votes don't bound (a model that never lost, or never met the others) stands
`FARTHEST` points from the estimate. `tests/harness/statistics/test_elo_coverage.py` measures the
coverage of drawn worlds of each kind (all 1,000 in `make test-all`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.statistics.bradley_terry import POINTS, WEAK, Counted, Fit, Floats, ascend

FARTHEST = 2000.0
"""Elo points from the estimate to an end that no vote bounds: odds of 100,000 to one."""

FEWEST_FREE = 4
"""Degrees of freedom from which clusters tell how far they agree. With fewer, the factor is itself
so uncertain that the shorter of two intervals is too short too often: .900 of 1,000 worlds with
three raters whose opinion of a pair never varies.
"""

_MOST_EXACT = 500
# So many of the largest clusters are left out one by one; the others weigh so little that a
# linear step says the same.


@dataclass(frozen=True)
class Votes:
    """Votes that rank, one an entry: who stood left and right, and the points of the left one.

    `clusters` are integers from 0, one array a grouping (raters, prompts).
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    scored: Floats
    clusters: tuple[NDArray[np.int64], ...]


def intervals(
    votes: Votes, found: Fit, contrasts: Sequence[Floats], confidence: float
) -> list[tuple[float, float]]:
    """(low, high) in Elo points of each contrast, weights over the strengths that sum to 0."""
    looks = _looks(votes, found, contrasts, confidence)
    return [
        _interval(found, contrast, look) for contrast, look in zip(contrasts, looks, strict=True)
    ]


@dataclass(frozen=True)
class _Look:
    """Counts are divided by `inflation`, and the interval is `quantile` standard errors wide."""

    inflation: float
    quantile: float

    @property
    def width(self) -> float:
        return self.quantile * math.sqrt(self.inflation)


def _looks(votes: Votes, found: Fit, contrasts: Sequence[Floats], confidence: float) -> list[_Look]:
    from scipy.special import ndtri, stdtrit

    tail = (1.0 + confidence) / 2
    normal = float(ndtri(tail))
    size = len(found.strength)
    counted = found.counted if found.separable else replace(found.counted, prior=WEAK)
    _, curvature = counted.slopes(found.position)
    inverse = np.linalg.inv(curvature[:size, :size])
    expected, tie, _ = counted.outcomes(found.position)
    spread = expected * (1 - expected) - tie / 4
    moved = [inverse @ contrast for contrast in contrasts]
    cell = votes.left * size + votes.right
    groupings = [
        _Grouping.of(votes, cluster, expected, spread, curvature[:size, :size])
        for cluster in votes.clusters
    ]
    looks = []
    for contrast, weights in zip(contrasts, moved, strict=True):
        plain = float(contrast @ weights)
        influence = np.abs(weights[:, None] - weights[None, :]) * np.sqrt(spread)
        least = _left_by_ties(counted, influence, spread)
        if not groupings:
            looks.append(_Look(least, normal))
            continue
        of_vote = influence.ravel()[cell]
        shares = [grouping.shares(of_vote) for grouping in groupings]
        most = sum(share.most for share in shares) - (len(shares) - 1)
        choices = [_Look(max(most, least), normal)]
        freedom = min(share.effective for share in shares) - 1
        if freedom >= FEWEST_FREE:
            seen = [max(g.variance(contrast) / plain, least) for g in groupings]
            inflation = max(sum(seen) - (len(seen) - 1) * least, *seen)
            choices.append(_Look(inflation, float(stdtrit(freedom, tail))))
        looks.append(min(choices, key=lambda look: look.width))
    return looks


def _left_by_ties(counted: Counted, influence: Floats, spread: Floats) -> float:
    """The share of a contrast's variance that is left where ties count as halves; at most 1."""
    if counted.davidson or not counted.drawn.any():
        return 1.0
    games = counted.games
    weight = influence**2 / np.maximum(spread, 1e-300)
    whole = float((games * influence**2).sum())
    if whole <= 0:
        return 1.0
    ties = float((counted.drawn * weight).sum()) / 4
    number = float(games.sum()) / 2
    return max(1.0 - ties / whole * number / (number + 4), 1.0 / (number + 4))


@dataclass(frozen=True)
class _Shares:
    most: float
    effective: float


@dataclass(frozen=True)
class _Grouping:
    """One way in which votes belong together. `steps` is clusters × models: how far the strengths
    move when a cluster is left out.
    """

    cluster: NDArray[np.int64]
    number: int
    steps: Floats

    @classmethod
    def of(
        cls,
        votes: Votes,
        cluster: NDArray[np.int64],
        expected: Floats,
        spread: Floats,
        curvature: Floats,
    ) -> _Grouping:
        size, number = len(expected), int(cluster.max()) + 1
        residual = votes.scored - expected[votes.left, votes.right]
        scores = np.zeros((number, size))
        for side, sign in ((votes.left, 1.0), (votes.right, -1.0)):
            flat = np.bincount(cluster * size + side, sign * residual, number * size)
            scores += flat.reshape(number, size)
        steps = np.linalg.solve(curvature, scores.T).T
        sizes = np.bincount(cluster, minlength=number)
        order = np.argsort(cluster, kind="stable")
        ends = np.cumsum(sizes)
        for one in np.argsort(sizes)[::-1][:_MOST_EXACT]:
            own = order[ends[one] - sizes[one] : ends[one]]
            told = np.bincount(
                votes.left[own] * size + votes.right[own],
                spread[votes.left[own], votes.right[own]],
                size * size,
            ).reshape(size, size)
            told = told + told.T
            without = curvature - (np.diag(told.sum(axis=1)) - told)
            steps[one] = np.linalg.solve(without + WEAK * np.eye(size), scores[one])
        return cls(cluster, number, np.asarray(steps, dtype=np.float64))

    def variance(self, contrast: Floats) -> float:
        """Of the contrast, over clusters."""
        moved = self.steps @ contrast
        return float((moved**2).sum()) * (self.number - 1) / self.number

    def shares(self, of_vote: Floats) -> _Shares:
        """From each vote's part in a contrast's standard deviation."""
        information = np.bincount(self.cluster, of_vote**2, self.number)
        together = np.bincount(self.cluster, of_vote, self.number) ** 2
        whole = float(information.sum())
        if whole <= 0:
            return _Shares(float(len(of_vote)), 0.0)
        return _Shares(
            max(1.0, float(together.sum()) / whole), whole**2 / float((information**2).sum())
        )


def _interval(found: Fit, contrast: Floats, look: _Look) -> tuple[float, float]:
    center = float(contrast @ found.strength)
    low = _end(found, contrast, look, center, -1.0)
    high = _end(found, contrast, look, center, 1.0)
    return POINTS * min(low, center), POINTS * max(high, center)


def _end(found: Fit, contrast: Floats, look: _Look, center: float, side: float) -> float:
    """The value of the contrast at which the profile has fallen by q²/2, in log-odds."""
    from scipy.optimize import brentq

    counted = _nudged(found.counted, contrast, look.inflation, side)
    best = ascend(counted, found.position)
    top, value = float(contrast @ best[:-1]), counted.likelihood(best)
    farthest = FARTHEST / POINTS
    if side * (top - center) >= farthest:
        return center + side * farthest
    position = best
    unit = contrast / float(contrast @ contrast)

    def short(distance: float) -> float:
        """How far the signed root of the fall is short of q, at that distance from the top."""
        nonlocal position
        start = position.copy()
        start[:-1] += (top + side * distance - float(contrast @ position[:-1])) * unit
        position = ascend(counted, start, contrast)
        fall = 2 * (value - counted.likelihood(position))
        return math.sqrt(max(fall, 0.0)) - look.quantile

    most = farthest - side * (top - center)
    _, curvature = counted.slopes(best)
    slack = float(np.append(contrast, 0.0) @ np.linalg.solve(curvature, np.append(contrast, 0.0)))
    near, far = 0.0, min(look.quantile * math.sqrt(max(slack, 1e-12)), most)
    while (fall := short(far)) < 0:
        if far >= most:
            return center + side * farthest
        near, far = far, min(2 * far, most)
    if fall == 0.0:
        return top + side * far
    distance = brentq(short, near, far, xtol=1e-5, rtol=1e-9)
    return top + side * float(distance)


def _nudged(counted: Counted, contrast: Floats, inflation: float, side: float) -> Counted:
    """The counts of independent votes, and half a vote that speaks for that side."""
    points, drawn = counted.points / inflation, counted.drawn / inflation
    games = points + points.T
    points = points.copy()
    for model in _ends_of(contrast):
        met = games[model].sum()
        if met > 0:
            more = 0.5 * games[model] / met
            if side * contrast[model] > 0:
                points[model] += more
            else:
                points[:, model] += more
    return replace(counted, points=points, drawn=drawn, prior=WEAK)


def _ends_of(contrast: Floats) -> list[int]:
    """The models that a contrast compares: one with all the others, or two with each other."""
    largest = float(np.abs(contrast).max())
    found = np.flatnonzero(np.abs(contrast) > 0.999 * largest)
    return found.tolist()
